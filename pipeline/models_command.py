"""`vedette models`: which models there are, who is in charge and why, and changing that by hand."""

from __future__ import annotations

import argparse
import getpass
import sys
from datetime import UTC, datetime
from typing import Any

from models.registry import LINEAR, Action, DamagedModelError, Decision, Registry, RegistryError
from pipeline.alert_words import clean
from pipeline.config import Config, load
from pipeline.config_errors import ConfigError
from pipeline.config_streams import StreamConfig
from pipeline.durations import format_duration
from pipeline.exit_codes import CONFIG, DATA, OK, UNAVAILABLE, USAGE
from pipeline.judging_fitness import mismatch
from pipeline.model_desk import Desk, RefusedError
from pipeline.model_json import entry_json, shelf_json, show_json
from pipeline.model_shelf import Shelf, UnknownVersionError
from pipeline.model_words import compare_table, differences, list_table, show_text, standing

OPERATOR = "operator"


def main(args: argparse.Namespace) -> int:
    """Run the command; return 0, 64 for what cannot be done, 65 for damaged files, 69 where something is away, 78."""
    try:
        config = load(args.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return CONFIG
    actions = {
        "list": _list, "show": _show, "compare": _compare, "promote": _promote, "rollback": _rollback,
        "prune": _prune, "compress": _compress,
    }  # fmt: skip
    try:
        desk = Desk(args, config, _stream(args, config), Registry(config.models.directory), lambda: datetime.now(UTC))
        return actions[args.action](desk) or OK
    except (RefusedError, UnknownVersionError) as error:
        return _fail(args, str(error), USAGE)
    except DamagedModelError as error:
        return _fail(args, str(error), DATA)
    except RegistryError as error:
        away = isinstance(error.__cause__, OSError)
        where = f"; see models.directory in {args.config}" if away else ""
        return _fail(args, f"{error}{where}", UNAVAILABLE if away else USAGE)


def _fail(args: argparse.Namespace, text: str, code: int) -> int:
    sys.stderr.write(clean(f"vedette models {args.action}: {text}") + "\n")
    return code


def _stream(args: argparse.Namespace, config: Config) -> StreamConfig:
    known = ", ".join(stream.name for stream in config.streams)
    if args.stream is None:
        if len(config.streams) != 1:
            raise RefusedError(f"which stream? {args.config} has {known}; say --stream NAME")
        return config.streams[0]
    try:
        return config.stream(args.stream)
    except KeyError:
        raise RefusedError(f"no stream '{args.stream}' in {args.config}; it has {known}") from None


def _list(desk: Desk) -> None:
    shelf, now = desk.shelf(), desk.now()
    if desk.args.json:
        desk.tell(shelf_json(shelf, now))
        return
    if shelf.entries:
        desk.say(list_table(shelf, now), "")
    else:
        desk.say(f"stream '{desk.name}': {shelf.known()}")
    desk.say(*standing(shelf, now))


def _show(desk: Desk) -> None:
    shelf = desk.shelf()
    entry = shelf.entry(desk.args.version)
    if desk.args.json:
        desk.tell(show_json(shelf, entry, desk.now()))
    else:
        desk.say(*show_text(shelf, entry, desk.now()))


def _compare(desk: Desk) -> None:
    shelf, now = desk.shelf(), desk.now()
    first, second = shelf.entry(desk.args.version), shelf.entry(desk.args.other)
    if desk.args.json:
        differ = {name: list(pair) for name, pair in differences(shelf, first, second, now).items()}
        versions = [entry_json(entry, now) | {"judgement": dict(entry.judged)} for entry in (first, second)]
        desk.tell({"stream": desk.name, "versions": versions, "differences": differ})
    else:
        desk.say(*compare_table(shelf, first, second, now))


def _promote(desk: Desk) -> None:
    shelf = desk.shelf()
    version = shelf.resolve(desk.args.version)
    if version == shelf.champion:
        desk.tell({"stream": desk.name, "champion": version, "changed": False}, f"{version} is in charge already")
        return
    if version != LINEAR and (trouble := mismatch(desk.stream, desk.registry.load(desk.name, version))):
        raise RefusedError(f"{version} does not fit stream '{desk.name}' any more: {trouble}; train a new one")
    reason = desk.args.reason or "put in charge by hand"
    decision = Decision(desk.now(), Action.PROMOTED, version, shelf.champion, (reason,), _who(), OPERATOR)
    desk.registry.promote(desk.name, version, decision)
    lifted = [f"its bar is lifted ({shelf.barred[version]})"] if version in shelf.barred else []
    desk.tell(_change(desk, shelf, version), f"{version} is in charge of '{desk.name}'", *lifted, _next(desk))


def _rollback(desk: Desk) -> None:
    shelf = desk.shelf()
    to = None if desk.args.to is None else shelf.resolve(desk.args.to)
    if shelf.champion is None or (shelf.champion == LINEAR and to is None):
        raise RefusedError(f"no version is in charge of '{desk.name}', so there is nothing to give up; {shelf.known()}")
    reason = desk.args.reason or "rolled back by hand"
    now_in_charge = desk.registry.rollback(desk.name, to=to, reason=reason, by=OPERATOR, only_if=shelf.champion)
    desk.tell(
        _change(desk, shelf, now_in_charge),
        f"{now_in_charge} is in charge of '{desk.name}' again, {shelf.champion} was given up",
        f"{shelf.champion} is barred: no training job puts it in charge again; vedette models promote does",
        _next(desk),
    )


def _change(desk: Desk, before: Shelf, version: str) -> dict[str, Any]:
    return {
        "stream": desk.name,
        "champion": version,
        "before": before.champion,
        "changed": True,
        "barred": desk.registry.barred(desk.name),
        "watch_s": desk.config.models.watch.total_seconds(),
    }


def _next(desk: Desk) -> str:
    watch = format_duration(desk.config.models.watch)
    return f"a running daemon takes it over within {watch}, at the end of a step; one that is started later begins so"


def _who() -> dict[str, str]:
    """Return who sits at the terminal, for the record."""
    try:
        return {"user": getpass.getuser()}
    except (OSError, KeyError):  # no such user in the system's list, as in some containers
        return {}


def _prune(desk: Desk) -> None:
    keep = desk.config.models.keep if desk.args.keep is None else desk.args.keep
    gone = desk.registry.prune(desk.name, keep, dry_run=desk.args.dry_run)
    stay = [version for version in desk.registry.versions(desk.name) if version not in gone]
    verb = "would go" if desk.args.dry_run else "removed"
    lines = [f"{verb}: {version}" for version in gone] or ["nothing to remove"]
    document = {"stream": desk.name, "removed": gone, "left": stay, "dry_run": desk.args.dry_run}
    desk.tell(document, *lines, f"{len(stay)} versions stay")


def _compress(desk: Desk) -> int:
    from pipeline import model_compression  # torch, where a student is asked for, and the history

    return model_compression.run(desk)
