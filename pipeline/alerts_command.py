"""`vedette alerts list | show | label`: what was said, everything behind it, and what operators say about it."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from connectors.alert_store import AlertStore
from connectors.alert_store_rows import IncidentQuery, IncidentRow, LabelRow
from connectors.errors import ConnectorError, Misconfigured, StoreMissing
from pipeline.alert_words import clean, effect, incident_json, label_json, list_table, show_text, shown_time
from pipeline.config import Config, load
from pipeline.config_errors import ConfigError
from pipeline.durations import microseconds, parse_duration
from pipeline.exit_codes import CONFIG, OK, UNAVAILABLE, USAGE
from pipeline.label_request import label_request

_MOST_NAMED = 8
_LEAST_WIDTH = 140
_UNBROKEN = 10_000
"""Columns for what no terminal shows: one line an incident, for grep and awk."""


class _Refused(Exception):
    """What was asked for cannot be done; the text says why."""


def main(args: argparse.Namespace) -> int:
    """Run the command; return 0, 64 where there is no such incident or label, 69 where the database is away, 78."""
    try:
        config = load(args.config)
        store = AlertStore(config.database.url.get_secret_value(), create=False)
    except (ConfigError, Misconfigured) as error:
        sys.stderr.write(f"{error}\n")
        return CONFIG
    now_us = time.time_ns() // 1000
    try:
        {"list": _list, "show": _show, "label": _label}[args.action](args, config, store, now_us)
    except _Refused as error:
        return _fail(str(error), USAGE)
    except StoreMissing as error:
        return _fail(f"{error}: `vedette run --config {args.config}` makes it, and keeps alerts there", UNAVAILABLE)
    except Misconfigured as error:
        return _fail(str(error), CONFIG)
    except ConnectorError as error:
        return _fail(f"{error}; see database.url in {args.config}", UNAVAILABLE)
    finally:
        store.close()
    return OK


def _fail(text: str, code: int) -> int:
    sys.stderr.write("\n".join(clean(line) for line in text.split("\n")) + "\n")
    return code


def _list(args: argparse.Namespace, config: Config, store: AlertStore, now_us: int) -> None:
    since_us = None if args.since is None else now_us - microseconds(parse_duration(args.since))
    query = IncidentQuery(args.stream, args.entity, args.open, since_us, limit=args.limit)
    rows = store.incidents(query)
    labels = _acting(store.labels_of([row.id for row in rows]))
    if args.json:
        for row in rows:
            _print_json(incident_json(row, labels.get(row.id)))
        return
    _console().print(list_table(rows, labels) if rows else _nothing(args))


def _console() -> Console:
    """Return where tables go. Narrow terminals break our lines themselves: better than columns a letter wide."""
    width = max(Console().width, _LEAST_WIDTH) if sys.stdout.isatty() else _UNBROKEN
    return Console(width=width, highlight=False)


def _nothing(args: argparse.Namespace) -> str:
    narrowed = args.stream or args.entity or args.open or args.since
    return "No incident fits." if narrowed else "There are no incidents yet."


def _show(args: argparse.Namespace, config: Config, store: AlertStore, now_us: int) -> None:
    row = _one(store, args.incident)
    messages, labels = store.messages(row.id), store.labels_of([row.id])
    lookalikes_us = microseconds(config.feedback.lookalikes_for)
    if args.json:
        said = [json.loads(message.body) for message in messages]
        acting = _acting(labels).get(row.id)
        whole = incident_json(row, acting, lookalikes_us) | {"explanation": row.explanation, "messages": said}
        _print_json(whole | {"labels": [label_json(label) for label in labels]})
        return
    console = _console()
    for part in show_text(row, messages, labels, now_us, lookalikes_us):
        console.print(part)


def _label(args: argparse.Namespace, config: Config, store: AlertStore, now_us: int) -> None:
    row = _one(store, args.incident)
    try:
        request = label_request(row.id, args.label, args.reason, args.until, args.author or _login(), now_us)
    except ValueError as error:
        raise _Refused(str(error)) from None
    if not request.apply(store, now_us):
        raise _Refused(f"incident {row.id} was removed meanwhile")
    acting = _acting(store.labels_of([row.id])).get(row.id)
    lookalikes_us = microseconds(config.feedback.lookalikes_for)
    if args.json:
        _print_json(incident_json(row, acting, lookalikes_us))
        return
    said = "has no label any more" if acting is None else f"is labelled {args.label}: {effect(acting, lookalikes_us)}"
    sys.stdout.write(clean(f"{row.id[:12]} ({row.entity}) {said}") + "\n")


def _one(store: AlertStore, prefix: str) -> IncidentRow:
    """Return the only incident whose id begins so."""
    prefix = prefix.strip().lower()
    if not prefix or not set(prefix) <= set("0123456789abcdef"):
        raise _Refused(f"{prefix[:40]!r} is no incident's id: ids are made of the digits 0 to 9 and a to f")
    found = store.find(prefix, _MOST_NAMED + 1)
    if not found:
        raise _Refused(f"there is no incident {prefix}; see `vedette alerts list`")
    if len(found) > 1:
        raise _Refused(_ambiguous(prefix, found))
    return found[0]


def _ambiguous(prefix: str, found: Sequence[IncidentRow]) -> str:
    lines = [
        f"  {row.id}  {shown_time(row.opened_us)}  {clean(row.stream)}  {clean(row.entity)}"
        for row in found[:_MOST_NAMED]
    ]
    more = ["  …"] if len(found) > _MOST_NAMED else []
    return "\n".join([f"{prefix} is the beginning of several incidents' ids; say more of it:", *lines, *more])


def _acting(labels: Sequence[LabelRow]) -> dict[str, LabelRow]:
    return {label.incident_id: label for label in labels if label.withdrawn_us is None}


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "command line"


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
