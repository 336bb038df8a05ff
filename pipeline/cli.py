"""The command line. Everything heavy is imported within its command: ``--help`` answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

from pipeline.durations import BUDGET_ALLOWED, DURATION_ALLOWED, parse_budget, parse_duration
from pipeline.exit_codes import CONFIG, OK, SOFTWARE, USAGE

_EXIT_CODES = "exit codes: 0 ok, 64 wrong usage, 69 something outside is away, 70 a defect of ours, 78 wrong config"


class _Parser(argparse.ArgumentParser):
    """Exits with 64 on wrong usage, and says which command has help."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}\nTry: {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code. ``arguments``: those of the process if None."""
    args = parser().parse_args(arguments)
    _choose_products()
    command: Callable[[argparse.Namespace], int] = args.command
    try:
        return command(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left; Python would complain while it exits
        return OK


def _choose_products() -> None:
    """Have OpenBLAS use AVX-512 where the processor has it; must come before numpy is imported.

    It takes newer AMD processors for older ones; its AVX-512 products are 1.7 to 2 times as fast on them. A user's own
    OPENBLAS_CORETYPE stands. The loop is one thread, and its products are small: more threads only wait for each other.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    needed = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
            flags = next((line.split() for line in info if line.startswith("flags")), [])
    except OSError:
        return
    if needed <= set(flags):
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")


def parser() -> argparse.ArgumentParser:
    """Return the whole command line's parser."""
    whole = _Parser(
        prog="vedette",
        description="Watches sensor streams on Kafka and speaks up, with reasons, when something is wrong, or will be.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action=_Version, help="show the version and exit")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_run, _add_check, _add_demo, _add_train, _add_backtest, _add_bench, _add_schema):
        add(commands)
    return whole


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002  # argparse's name
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        sys.stdout.write(f"vedette {importlib.metadata.version('vedette')}\n")
        parser.exit(OK)


Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def _command(commands: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str) -> _Parser:
    command = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    command.set_defaults(command=run)
    return command


def _add_run(commands: Commands) -> None:
    command = _command(commands, "run", _run, "run the daemon until it is told to stop")
    command.add_argument("--config", required=True, metavar="FILE", help="the YAML file that says everything")


def _add_check(commands: Commands) -> None:
    command = _command(commands, "check", _check, "check the config and reach for everything that it names")
    command.add_argument("--config", required=True, metavar="FILE", help="the YAML file to check")
    command.add_argument("--offline", action="store_true", help="leave the brokers out")
    command.add_argument("--effective", action="store_true", help="print the config with all defaults, secrets masked")


def _add_demo(commands: Commands) -> None:
    command = _command(commands, "demo", _demo, "show the whole of it, with a broker of its own, in minutes")
    command.add_argument("--out", default="out/demo", metavar="DIR", help="where its files go (default: %(default)s)")
    command.add_argument("--seed", type=_whole, default=0, help="of everything random (default: %(default)s)")
    command.add_argument("--days", type=_positive, default=45, help="simulated days (default: %(default)s)")


def _add_train(commands: Commands) -> None:
    command = _command(commands, "train", _train, "train a stream's attention-LSTM and put it into the registry")
    command.add_argument("--config", required=True, metavar="FILE", help="the YAML file that says everything")
    command.add_argument("--stream", required=True, metavar="NAME", help="which of its streams")
    command.add_argument("--data", required=True, metavar="FILE", help="history: CSV, CSV.gz or Parquet")
    command.add_argument("--seed", type=_whole, default=0, help="of everything random (default: %(default)s)")


def _add_backtest(commands: Commands) -> None:
    command = _command(commands, "backtest", _backtest, "show what would have been said about recorded data, causally")
    command.add_argument("--data", required=True, metavar="FILE", help="CSV or CSV.gz; unknown columns are ignored")
    command.add_argument("--time", required=True, metavar="COLUMN", help="the column with the time")
    command.add_argument("--entity", metavar="COLUMN", help="the column with the entity; none: all is one series")
    command.add_argument("--channels", required=True, metavar="A,B,C", help="the columns with the values")
    command.add_argument("--step", required=True, type=_duration, metavar="10m", help="the time grid")
    training = command.add_mutually_exclusive_group()
    share_help = "learn from this share first (default: %(default)s)"
    training.add_argument("--train-fraction", type=_fraction, default=0.15, metavar="SHARE", help=share_help)
    training.add_argument("--train-until", type=_time, metavar="TIME", help="learn from all before this ISO 8601 time")
    command.add_argument("--retrain-every", type=_duration, metavar="7d", help="train anew so often, on the past")
    command.add_argument("--budget", type=_budget, metavar='"1 per 30d"', help="false alarms per entity")
    command.add_argument("--config", metavar="FILE", help="take the first stream's settings from here")
    command.add_argument("--seed", type=_whole, default=0, help="of everything random (default: %(default)s)")
    command.add_argument("--out", required=True, metavar="FILE", help="the scores, as CSV")
    command.add_argument("--report", metavar="FILE", help="a page to look at, as HTML")


def _add_bench(commands: Commands) -> None:
    command = _command(commands, "bench", _bench, "measure this machine; each figure comes with its reference")
    command.add_argument("name", choices=("step", "pipeline", "restore", "kafka", "detection"), help="what to measure")
    command.add_argument("--json", action="store_true", help="one JSON object on one line")
    command.add_argument("--entities", type=_positive, help="how many (default: as the benchmark says)")
    command.add_argument("--hidden", type=_positive, default=32, help="size of the network (default: %(default)s)")
    command.add_argument("--window", type=_positive, default=64, help="past states it sees (default: %(default)s)")
    command.add_argument("--rounds", type=_positive, default=5, help="repetitions of step (default: %(default)s)")
    command.add_argument("--steps", type=_positive, default=30, help="steps of pipeline (default: %(default)s)")
    command.add_argument("--data", metavar="DIR", help="of detection: the folder with nab/ and gecco2018/")
    command.add_argument("--seconds", type=_positive, default=20, help="length of kafka's runs (default: %(default)s)")


def _add_schema(commands: Commands) -> None:
    _command(commands, "config-schema", _schema, "print the JSON schema of the config, for editors")


# ---- the commands ----


def _run(args: argparse.Namespace) -> int:
    from pipeline.config import load
    from pipeline.config_errors import ConfigError
    from pipeline.logs import configure

    try:
        config = load(args.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return CONFIG
    configure(config.log.level, config.log.format)
    import structlog

    try:
        from pipeline import daemon

        return daemon.run(config)
    except Exception:
        structlog.get_logger("vedette.cli").exception("stopped by a defect of ours; please report it")
        return SOFTWARE


def _check(args: argparse.Namespace) -> int:
    from pipeline import preflight

    return preflight.main(args)


def _demo(args: argparse.Namespace) -> int:
    from pipeline import demo

    return demo.main(args)


def _train(args: argparse.Namespace) -> int:
    from pipeline import training_job

    return training_job.main(args)


def _backtest(args: argparse.Namespace) -> int:
    from pipeline import backtest

    return backtest.main(args)


def _bench(args: argparse.Namespace) -> int:
    from pipeline import bench

    return bench.main(args)


def _schema(args: argparse.Namespace) -> int:
    import json

    from pipeline.config import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    return OK


# ---- the values of options; argparse says which option was wrong ----


def _words(text: str, parse: Callable[[str], object], allowed: str) -> str:
    try:
        parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}; allowed: {allowed}') from None
    return text


def _duration(text: str) -> str:
    def positive(words: str) -> None:
        if not parse_duration(words):
            raise ValueError("must be longer than zero")

    return _words(text, positive, DURATION_ALLOWED)


def _budget(text: str) -> str:
    return _words(text, parse_budget, BUDGET_ALLOWED)


def _time(text: str) -> str:
    from datetime import datetime

    def parse(words: str) -> None:
        try:
            datetime.fromisoformat(words)
        except ValueError:
            raise ValueError("is not a time") from None

    return _words(text, parse, "ISO 8601, such as 2026-03-01T00:00:00Z")


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a share; allowed: 0 or more and below 1')
    return value


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number; allowed: 0 or more')
    return int(text)


def _positive(text: str) -> int:
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is too small; allowed: 1 or more')
    return value


if __name__ == "__main__":
    sys.exit(main())
