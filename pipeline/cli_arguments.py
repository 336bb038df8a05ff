"""The command line's commands and options. Nothing heavy is imported here: ``--help`` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

from pipeline.cli_values import budget, duration, fraction, positive, time, whole
from pipeline.exit_codes import OK, USAGE

_EXIT_CODES = (
    "exit codes: 0 ok, 64 wrong usage, 65 unusable or too little data, 69 something outside is away, 70 a defect of\n"
    "ours, 71 too little memory, 75 interrupted: run it again, 78 wrong config"
)


class _Parser(argparse.ArgumentParser):
    """Exits with 64 on wrong usage, and says which command has help."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}\nTry: {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Return the whole command line's parser; ``command`` is the name of the command."""
    top = _Parser(
        prog="vedette",
        description="Watches sensor streams on Kafka and speaks up, with reasons, when something is wrong, or will be.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=_Version, help="show the version and exit")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    for add in (
        _add_run, _add_ingest, _add_check, _add_demo, _add_train, _add_models, _add_alerts, _add_history, _add_backtest,
        _add_bench, _add_schema,
    ):  # fmt: skip
        add(commands)
    return top


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002  # argparse's name
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        sys.stdout.write(f"vedette {importlib.metadata.version('vedette')}\n")
        parser.exit(OK)


class _Kinds(_Version):
    """Lists the kinds of source only when it is asked to."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from pipeline.ingest.kinds_listed import kinds_in_words

        sys.stdout.write(kinds_in_words())
        parser.exit(OK)


Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def _command(commands: Commands, name: str, text: str) -> _Parser:
    return commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")


def _group(commands: Commands, name: str, text: str) -> Commands:
    """Return the place for a command's own commands, which are told apart by ``args.action``."""
    return _command(commands, name, text).add_subparsers(
        title="commands", metavar="COMMAND", required=True, dest="action"
    )


def _add_run(commands: Commands) -> None:
    command = _command(commands, "run", "run the daemon until it is told to stop")
    command.add_argument("--config", required=True, metavar="FILE", help="the YAML file that says everything")


def _add_ingest(commands: Commands) -> None:
    command = _command(commands, "ingest", "bring readings from outside onto Kafka until told to stop")
    command.add_argument("--config", required=True, metavar="FILE", help="the YAML file that says everything")
    command.add_argument("--clock", metavar="FILE", help="of a replay: what it says is the time, not the wall clock")
    command.add_argument("--kinds", action=_Kinds, help="list the kinds of source, and exit")
    command.epilog = "Kinds of source: vedette ingest --kinds. Their options: vedette config-schema."


def _add_check(commands: Commands) -> None:
    command = _command(commands, "check", "check the config and reach for everything that it names")
    command.add_argument("--config", required=True, metavar="FILE", help="the YAML file to check")
    command.add_argument("--offline", action="store_true", help="leave the brokers out")
    command.add_argument("--effective", action="store_true", help="print the config with all defaults, secrets masked")


def _add_demo(commands: Commands) -> None:
    command = _command(commands, "demo", "show the whole of it, with a broker of its own, in minutes")
    command.add_argument("--out", default="out/demo", metavar="DIR", help="where its files go (default: %(default)s)")
    command.add_argument("--seed", type=whole, default=0, help="of everything random (default: %(default)s)")
    command.add_argument("--days", type=positive, default=None, help="simulated days (default: 45; of a city 15)")
    command.add_argument("--site", choices=("city",), help="stations that speak their own protocols, by way of ingest")


def _add_train(commands: Commands) -> None:
    command = _command(commands, "train", "train a stream's network, judge it, and let it take over if better")
    command.add_argument("--config", required=True, metavar="FILE", help="the YAML file that says everything")
    command.add_argument("--stream", metavar="NAME", help="which of its streams; may be left out where there is one")
    command.add_argument("--data", metavar="FILE", help="a wide table instead of the history: CSV, CSV.gz or Parquet")
    command.add_argument("--now", action="store_true", help="ask the running daemon to do it, and return at once")
    command.add_argument("--judge", metavar="VERSION", help="train nothing; judge this version against the champion")
    command.add_argument("--no-promote", action="store_true", help="leave the champion in charge whatever comes of it")
    command.add_argument("--job", metavar="DIR", help="the job's folder; how the daemon starts and resumes jobs")
    command.add_argument("--seed", type=whole, default=None, help="of everything random (default: the config's)")
    command.add_argument("--json", action="store_true", help="print what came of it as JSON")


def _add_models(commands: Commands) -> None:
    group = _group(commands, "models", "list, show, compare, promote, roll back, prune and compress models")

    def add(action: str, text: str, *versions: str) -> _Parser:
        command = group.add_parser(action, help=text, description=f"{text[:1].upper()}{text[1:]}.")
        command.add_argument("--config", required=True, metavar="FILE", help="the YAML file that says everything")
        command.add_argument(
            "--stream", metavar="NAME", help="which of its streams; may be left out where there is one"
        )
        command.add_argument("--json", action="store_true", help="print JSON instead of a table")
        for name in versions:
            command.add_argument(name, metavar=name.upper(), help="a version, or champion, challenger, previous")
        return command

    add("list", "show all versions, newest first, and who is in charge")
    add("show", "show what a version is, where it comes from and how it did", "version")
    add("compare", "set two versions side by side", "version", "other")
    promote = add("promote", "put a version in charge", "version")
    promote.add_argument("--reason", default="", metavar="TEXT", help="kept with the decision")
    rollback = add("rollback", "put the champion's predecessor back in charge")
    rollback.add_argument("--to", metavar="VERSION", help="another version than the predecessor; or linear")
    rollback.add_argument("--reason", default="", metavar="TEXT", help="kept with the decision")
    prune = add("prune", "remove old versions; never the champion, its predecessor or the challenger")
    prune.add_argument("--keep", type=positive, metavar="N", help="how many stay (default: the config's models.keep)")
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    compress = add(
        "compress", "make smaller versions of one, and show size, speed and the loss in forecasts", "version"
    )
    compress.add_argument("--to", default="bf16,int8", metavar="KINDS", help="of bf16, int8, hN (default: %(default)s)")
    compress.add_argument("--keep", action="store_true", help="put those that hold quality into the registry")


def _add_alerts(commands: Commands) -> None:
    group = _group(commands, "alerts", "list and show incidents, and say what they were")

    def add(action: str, text: str) -> _Parser:
        command = group.add_parser(action, help=text, description=f"{text[:1].upper()}{text[1:]}.")
        command.add_argument("--config", required=True, metavar="FILE", help="the YAML file that says everything")
        command.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
        return command

    listing = add("list", "show incidents, newest first")
    listing.add_argument("--stream", metavar="NAME", help="only of this stream")
    listing.add_argument("--entity", metavar="NAME", help="only of this entity")
    listing.add_argument("--open", action="store_true", help="only those that are open")
    listing.add_argument("--since", metavar="24h", type=duration, help="only those that began within this time")
    listing.add_argument("--limit", type=positive, default=50, metavar="N", help="how many (default: %(default)s)")
    show = add("show", "show everything known of an incident")
    show.add_argument("incident", metavar="ID", help="its id, or as many of its first digits as are enough")
    test = add("test", "send a test message to each receiver, and show what came back")
    test.add_argument("--receiver", metavar="NAME", help="only to this one")
    label = add("label", "say what an incident was; the daemon acts on it within seconds")
    label.add_argument("incident", metavar="ID", help="its id, or as many of its first digits as are enough")
    label.add_argument(
        "label", metavar="LABEL", choices=("true", "false-alarm", "expected", "none"),
        help="true, false-alarm, expected; none takes the last one back",
    )  # fmt: skip
    label.add_argument("--reason", default="", metavar="TEXT", help="why; needed for expected")
    label.add_argument("--until", metavar="TIME", help="when it ends: ISO 8601, or a duration such as 3d")
    label.add_argument("--author", metavar="NAME", help="who says so (default: the user's login name)")


def _add_history(commands: Commands) -> None:
    group = _group(commands, "history", "look at the closed frames that are kept")

    def add(action: str, text: str) -> _Parser:
        command = group.add_parser(action, help=text, description=f"{text[:1].upper()}{text[1:]}.")
        command.add_argument("--config", required=True, metavar="FILE", help="the YAML file that says everything")
        return command

    listing = add("list", "show what is kept of each stream (its days with --json)")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add("compact", "merge the parts of days that are over, and remove days beyond the retention")


def _add_backtest(commands: Commands) -> None:
    command = _command(commands, "backtest", "show what would have been said about recorded data, causally")
    command.add_argument("--data", required=True, metavar="FILE", help="CSV or CSV.gz; unknown columns are ignored")
    command.add_argument("--time", required=True, metavar="COLUMN", help="the column with the time")
    command.add_argument("--entity", metavar="COLUMN", help="the column with the entity; none: all is one series")
    command.add_argument("--channels", required=True, metavar="A,B,C", help="the columns with the values")
    command.add_argument("--step", required=True, type=duration, metavar="10m", help="the time grid")
    training = command.add_mutually_exclusive_group()
    share_help = "learn from this share first (default: %(default)s)"
    training.add_argument("--train-fraction", type=fraction, default=0.15, metavar="SHARE", help=share_help)
    training.add_argument("--train-until", type=time, metavar="TIME", help="learn from all before this ISO 8601 time")
    command.add_argument("--retrain-every", type=duration, metavar="7d", help="train anew so often, on the past")
    command.add_argument("--budget", type=budget, metavar='"1 per 30d"', help="false alarms per entity")
    command.add_argument("--config", metavar="FILE", help="take the first stream's settings from here")
    command.add_argument("--seed", type=whole, default=0, help="of everything random (default: %(default)s)")
    command.add_argument("--out", required=True, metavar="FILE", help="the scores, as CSV")
    command.add_argument("--report", metavar="FILE", help="a page to look at, as HTML")


def _add_bench(commands: Commands) -> None:
    command = _command(commands, "bench", "measure this machine; each figure comes with its reference")
    command.add_argument(
        "name", help="what to measure",
        choices=("step", "pipeline", "restore", "kafka", "detection", "train", "faces", "ingest"),
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="one JSON object on one line")
    command.add_argument("--entities", type=positive, help="how many (default: as the benchmark says)")
    command.add_argument("--hidden", type=positive, default=32, help="size of the network (default: %(default)s)")
    command.add_argument("--window", type=positive, default=64, help="past states it sees (default: %(default)s)")
    command.add_argument("--rounds", type=positive, default=5, help="of step, train, faces, ingest (%(default)s)")
    command.add_argument("--steps", type=positive, default=30, help="of pipeline, kafka, faces (default: %(default)s)")
    command.add_argument("--data", metavar="DIR", help="of detection: the folder with nab/ and gecco2018/")
    command.add_argument("--seconds", type=positive, default=20, help="length of kafka's runs (default: %(default)s)")


def _add_schema(commands: Commands) -> None:
    _command(commands, "config-schema", "print the JSON schema of the config, for editors")
