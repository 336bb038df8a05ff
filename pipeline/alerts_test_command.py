"""`vedette alerts test`: sends a test message to each receiver, and shows what came back.

It goes past the outbox, so it may be run beside the daemon; nothing is retried.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectors.alertmanager import Alert
from connectors.errors import ConnectorError, Misconfigured
from connectors.json_lines import JsonLinesSink
from pipeline.alert_words import clean
from pipeline.build_receivers import console_url, instances, open_alertmanager, open_webhook
from pipeline.config import Config, ReceiverConfig, load
from pipeline.config_errors import ConfigError
from pipeline.delivering import Instance
from pipeline.exit_codes import CONFIG, OK, UNAVAILABLE, USAGE
from pipeline.incident import rfc3339

_FIRES_FOR_US = 300_000_000
"""Long enough for any group_wait; then it is resolved by itself."""
_SUMMARY = "This is a test message of Vedette: nothing is wrong."
_LEAST_WIDTH = 140


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back from one instance of a receiver."""

    receiver: str
    kind: str
    instance: str
    delivered: bool
    said: str
    took_s: float


def main(args: argparse.Namespace) -> int:
    """Run the command; return 0 where all receivers took it, 69 where one did not, 64 and 78 as everywhere."""
    try:
        config = load(args.config)
        wanted = _wanted(config, getattr(args, "receiver", None))
        if not wanted:
            sys.stderr.write(f"{_nobody(config, getattr(args, 'receiver', None), args.config)}\n")
            return USAGE
        found = [(receiver, instances(receiver)) for receiver in wanted]
        outcomes = [
            send(config, receiver, place, instance, time.time_ns() // 1000)
            for receiver, each in found
            for place, instance in enumerate(each)
        ]
    except (ConfigError, Misconfigured) as error:
        sys.stderr.write(f"{clean(str(error)) if isinstance(error, Misconfigured) else error}\n")
        return CONFIG
    if getattr(args, "json", False):
        for outcome in outcomes:
            sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    else:
        Console(width=max(Console().width, _LEAST_WIDTH), highlight=False).print(_table(outcomes))
    return OK if all(outcome.delivered for outcome in outcomes) else UNAVAILABLE


def send(config: Config, receiver: ReceiverConfig, place: int, instance: Instance, now_us: int) -> Outcome:
    """Send one test message and return what came of it; ``place`` is the instance's among the receiver's."""
    key = uuid.uuid4().hex
    started_s = time.monotonic()
    try:
        said, delivered = _SENDERS[receiver.kind](config, receiver, place, key, now_us), True
    except ConnectorError as error:
        said, delivered = str(error), False
    took_s = time.monotonic() - started_s
    return Outcome(receiver.name, receiver.kind, instance.name, delivered, said, round(took_s, 3))


def _to_alertmanager(config: Config, receiver: ReceiverConfig, place: int, key: str, now_us: int) -> str:
    labels = {"alertname": "VedetteTest", "severity": "info", "receiver": receiver.name, "incident": key}
    console = console_url(config)
    annotations = {"summary": _SUMMARY, "description": "Sent by `vedette alerts test`.", "link": console}
    client = open_alertmanager(receiver, place)
    try:
        answer = client.post([Alert(labels, annotations, rfc3339(now_us), rfc3339(now_us + _FIRES_FOR_US), console)])
    finally:
        client.close()
    return f"{answer.status} {answer.text}".strip()


def _to_webhook(config: Config, receiver: ReceiverConfig, place: int, key: str, now_us: int) -> str:
    client = open_webhook(receiver)
    try:
        answer = client.post(_event(receiver, key, now_us), f"{key}:0", now_us / 1e6)
    finally:
        client.close()
    return f"{answer.status} {answer.text}".strip()


def _to_file(config: Config, receiver: ReceiverConfig, place: int, key: str, now_us: int) -> str:
    assert receiver.path is not None  # ``instances`` has looked
    sink = JsonLinesSink(receiver.path)
    try:
        sink.send(key, _event(receiver, key, now_us))
    finally:
        sink.close()
    return f"a line was appended to {receiver.path}"


_SENDERS: dict[str, Callable[[Config, ReceiverConfig, int, str, int], str]] = {
    "alertmanager": _to_alertmanager,
    "webhook": _to_webhook,
    "file": _to_file,
}


def _event(receiver: ReceiverConfig, key: str, now_us: int) -> bytes:
    """Return a CloudEvent of a type of its own, so that nobody takes it for an alert."""
    event = {
        "specversion": "1.0",
        "id": f"{key}:0",
        "type": "vedette.test",
        "source": "vedette",
        "time": rfc3339(now_us),
        "datacontenttype": "application/json",
        "data": {"receiver": receiver.name, "reason": _SUMMARY},
    }
    return json.dumps(event, separators=(",", ":")).encode()


def _wanted(config: Config, name: str | None) -> list[ReceiverConfig]:
    return [receiver for receiver in config.outputs.receivers if name is None or receiver.name == name]


def _nobody(config: Config, name: str | None, path: str) -> str:
    names = ", ".join(receiver.name for receiver in config.outputs.receivers)
    if not names:
        return f"{path} names no receiver: see outputs.receivers"
    return clean(f"{path} names no receiver {name!r}; it names {names}")


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("receiver", "kind", "instance", "result", "took", "what came back"):
        table.add_column(heading)
    for outcome in outcomes:
        result = "delivered" if outcome.delivered else "FAILED"
        cells = [outcome.receiver, outcome.kind, outcome.instance, result, f"{outcome.took_s:.2f} s", outcome.said]
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table
