"""Incidents and labels as tables, text and JSON for whoever reads a terminal.

Names and reasons come out of other people's sensors: nothing of them reaches the terminal that it could obey.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from connectors.alert_store_rows import IncidentRow, LabelRow, MessageRow
from models.wording import channel_text, number_text, unit_text
from pipeline.incident import Tier, rfc3339
from pipeline.labels import LabelKind

SHORT_ID = 12
"""Digits of an id that a list shows: enough for millions of incidents."""
_WORDS = {LabelKind.TRUE: "true", LabelKind.FALSE_ALARM: "false alarm", LabelKind.EXPECTED: "expected"}
_LONGEST = 100
"""Characters of a reason in a list."""


def clean(text: str) -> str:
    """Return a text on one line, every control, format and surrogate character written as its escape.

    >>> clean("a" + chr(27) + "[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def _harmless(character: str) -> bool:
    return character == " " or unicodedata.category(character)[0] not in "CZ"


def shown_time(time_us: int | None) -> str:
    """Return a time in UTC as ISO 8601; a dash for none."""
    return "–" if time_us is None else rfc3339(time_us)


def list_table(rows: Sequence[IncidentRow], labels: Mapping[str, LabelRow]) -> Table:
    """Return incidents as a table; ``labels`` by incident."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "opened", "stream", "entity", "kind", "tier", "score", "state", "label"):
        table.add_column(heading, no_wrap=True)
    table.add_column("reason")
    for row in rows:
        label = labels.get(row.id)
        cells = [row.id[:SHORT_ID], shown_time(row.opened_us), row.stream, row.entity, row.kind, _tier(row.tier)]
        cells += ["" if row.score is None else number_text(row.score), "open" if row.resolved_us is None else row.phase]
        cells += ["" if label is None else _label_word(label.kind), _shortened(row.reason)]
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table


def show_text(
    row: IncidentRow, messages: Sequence[MessageRow], labels: Sequence[LabelRow], now_us: int, lookalikes_us: int
) -> Iterator[Table | Text]:
    """Yield everything known of an incident, part by part; ``lookalikes_us`` is how long a label without end acts."""
    yield Text(f"incident {row.id}", "bold")
    yield _facts(row)
    if row.reason:
        yield Text(f"\n{clean(row.reason)}")
    channels = [c for c in _listed(row.explanation, "channels") if isinstance(c, Mapping)]
    if channels:
        yield _heading("channels")
        yield _channels(channels)
    attention = [a for a in _listed(row.explanation, "attention") if isinstance(a, Mapping)]
    if attention:
        yield _heading("what the model looked at")
        yield _columns([[_share(a.get("weight")), str(a.get("text", "")), str(a.get("time") or "")] for a in attention])
    yield _heading("messages")
    yield _columns([[m.phase, shown_time(m.time_us), _shortened(_reason(m.body), 300)] for m in messages])
    yield _heading("labels")
    if not labels:
        yield Text(
            f"none; say one with: vedette alerts label --config FILE {row.id[:SHORT_ID]} true|false-alarm|expected"
        )
    for label in labels:
        yield Text(f"{_label_line(label, now_us, lookalikes_us)}")


def effect(label: LabelRow, lookalikes_us: int) -> str:
    """Return what a label does, and until when, to the second."""
    end = shown_time(end_us(label, lookalikes_us) // 1_000_000 * 1_000_000)
    if label.kind == LabelKind.FALSE_ALARM:
        return f"incidents like it at {label.entity} stay silent until {end}, and its bar is a little higher"
    if label.kind == LabelKind.EXPECTED:
        return f"whatever speaks there in the same channels stays silent until {end}; training leaves its time out"
    return f"confirmed; the bar at {label.entity} is a little lower until {end}; training leaves its time out"


def end_us(label: LabelRow, lookalikes_us: int) -> int:
    """Return when a label ends: its own time, or so long after it was given."""
    return label.until_us if label.until_us is not None else label.created_us + lookalikes_us


def incident_json(row: IncidentRow, label: LabelRow | None, lookalikes_us: int | None = None) -> dict[str, Any]:
    """Return an incident as JSON can hold it, without its explanation; the label's effect where it is asked for."""
    names = ("id", "stream", "entity", "kind", "name", "site", "severity", "phase", "sequence", "first_step", "score")
    shown = {name: getattr(row, name) for name in names} | {"tier": _tier(row.tier)}
    for name in ("started", "opened", "time", "resolved", "told"):
        time_us = getattr(row, f"{name}_us")
        shown[name] = None if time_us is None else rfc3339(time_us)
    shown |= {name: getattr(row, name) for name in ("alpha", "reason", "model_version", "flapping", "note")}
    shown["label"] = None if label is None else label_json(label)
    if label is not None and lookalikes_us is not None:
        shown["label"] |= {"effect": effect(label, lookalikes_us), "ends": rfc3339(end_us(label, lookalikes_us))}
    return shown


def label_json(label: LabelRow) -> dict[str, Any]:
    """Return a label as JSON can hold it."""
    times = {name: getattr(label, f"{name}_us") for name in ("until", "created", "withdrawn")}
    shown: dict[str, Any] = {name: None if at is None else rfc3339(at) for name, at in times.items()}
    return shown | {name: getattr(label, name) for name in ("id", "kind", "reason", "author", "silenced")}


# ---- inner ----


def _tier(tier: int) -> str:
    return Tier(tier).name.lower() if tier in Tier.__members__.values() else str(tier)


def _label_word(kind: str) -> str:
    return _WORDS[LabelKind(kind)] if kind in _WORDS else kind


def _label_line(label: LabelRow, now_us: int, lookalikes_us: int) -> str:
    words = f"{_label_word(label.kind)} by {label.author} at {shown_time(label.created_us)}"
    words += f" ({label.reason})" if label.reason else ""
    if label.withdrawn_us is not None:
        words += f"; taken back or replaced at {shown_time(label.withdrawn_us)}"
    elif now_us >= end_us(label, lookalikes_us):
        words += f"; its effect ended at {shown_time(end_us(label, lookalikes_us))}"
    else:
        words += f": {effect(label, lookalikes_us)}"
    return clean(f"{words}; incidents it kept silent: {label.silenced}" if label.silenced else words)


def _facts(row: IncidentRow) -> Table:
    pairs = [
        ("stream", row.stream),
        ("entity", row.entity),
        ("site", row.site),
        ("kind", f"{row.kind} {row.name}"),
        ("tier", f"{_tier(row.tier)}, {row.severity}"),
        ("score", "" if row.score is None else number_text(row.score)),
        ("started", shown_time(row.started_us)),
        ("opened", shown_time(row.opened_us)),
        ("ended", "it is open" if row.resolved_us is None else f"{shown_time(row.resolved_us)} {row.phase} {row.note}"),
        ("model", row.model_version),
        ("flapping", "yes" if row.flapping else ""),
    ]
    return _columns([[name, value] for name, value in pairs if value.strip()])


def _channels(channels: Sequence[Mapping[str, Any]]) -> Table:
    headings = ["channel", "observed", "expected", "band", "share"]
    table = _columns([], headings)
    for channel in channels:
        unit = unit_text(str(channel.get("unit", "")))
        band = f"{_number(channel.get('lower'))} to {_number(channel.get('upper'))}{unit}"
        cells = [channel_text(str(channel.get("channel", ""))), f"{_number(channel.get('observed'))}{unit}"]
        cells += [f"{_number(channel.get('expected'))}{unit}", band, _share(channel.get("share"))]
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table


def _columns(rows: Sequence[Sequence[str]], headings: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, show_header=bool(headings), header_style="bold")
    for heading in headings:
        table.add_column(heading)
    for cells in rows:
        table.add_row(*(Text(clean(cell)) for cell in cells))
    return table


def _heading(words: str) -> Text:
    return Text(f"\n{words}", "bold")


def _listed(explanation: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = explanation.get(name)
    return value if isinstance(value, list) else ()


def _number(value: object) -> str:
    return number_text(float(value)) if isinstance(value, int | float) else "–"


def _share(value: object) -> str:
    return f"{100 * float(value):.0f} %" if isinstance(value, int | float) else "–"


def _reason(body: str) -> str:
    """Return a message's reason; empty where it is not one of ours."""
    try:
        return str(json.loads(body)["data"]["reason"])
    except (ValueError, KeyError, TypeError):
        return ""


def _shortened(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
