"""What a report shows, as JSON: series thinned to what a screen can show, and each incident with its evidence.

Legend: T steps, C channels, B buckets (a bucket becomes a pixel or two), V witnesses, M attention positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.explanation import BAND_COVERAGE, BAND_SPREADS
from models.wording import channel_text, unit_text
from pipeline.found import Verdict
from pipeline.recording import Description, Moment, Recorder, StreamRecord, Table

MAX_BUCKETS = 1_000
MAX_SERIES_NUMBERS = 700_000
"""All entities' thinned series together; about 4 MB of JSON. With more entities the buckets grow wider."""
MAX_ZOOM_NUMBERS = 350_000
"""All incidents' close-ups together."""
MAX_INCIDENTS = 300
"""With more incidents the least of them are counted, not shown."""
ZOOM_BEFORE = 108
ZOOM_AFTER = 54
"""Steps shown around the moment an incident opened; at 10 minutes 18 and 9 hours."""
_SEEN_STEPS = 8
_DIGITS = 4

Json = Any


@dataclass(slots=True)
class _Incident:
    """All messages of one incident, folded together."""

    first: Mapping[str, Any]
    last: Mapping[str, Any]
    said: Mapping[str, Any]
    """The message whose words are shown: the latest that explains something and does not merely end it."""
    tier: int
    score: float
    alerted_us: int | None

    @property
    def id(self) -> str:
        return str(self.first["incident_id"])


def report_data(recorder: Recorder, verdicts: Sequence[Verdict] = ()) -> dict[str, Json]:
    """Return the streams, their entities and the incidents of a recorder as plain JSON without NaN."""
    incidents = _folded(recorder.messages)
    shown = sorted(incidents, key=lambda i: (-i.tier, -i.score, i.first["opened_us"], i.id))[:MAX_INCIDENTS]
    shown.sort(key=lambda i: (i.first["opened_us"], i.id))
    streams, tables = [], {}
    series = sum(len(r.entities) * (_channel_count(r) * 5 + 2) for r in recorder.streams.values())
    buckets = max(60, min(MAX_BUCKETS, MAX_SERIES_NUMBERS // max(1, series)))
    for name, record in recorder.streams.items():
        if not record.steps:
            continue
        described = record.description or _undescribed(record)
        for entity in record.entities:
            tables[name, entity] = recorder.table(name, entity)
        streams.append(_stream(name, record, described, tables, buckets, verdicts))
    return {
        "streams": streams,
        "incidents": _incidents(recorder, shown, tables, verdicts),
        "hidden": len(incidents) - len(shown),
        "band": recorder.band_spreads,
        "coverage": BAND_COVERAGE if recorder.band_spreads == BAND_SPREADS else None,
    }


def _folded(messages: Iterable[Mapping[str, Any]]) -> list[_Incident]:
    folded: dict[str, _Incident] = {}
    for message in messages:
        incident = folded.get(message["incident_id"])
        score = message.get("score") or 0.0
        tier = int(message["tier"])
        if incident is None:
            alerted = message["time_us"] if tier >= 2 else None
            folded[message["incident_id"]] = _Incident(message, message, message, tier, score, alerted)
            continue
        if tier > incident.tier and tier >= 2 and incident.alerted_us is None:
            incident.alerted_us = message["time_us"]
        incident.last = message
        incident.tier = max(incident.tier, tier)
        incident.score = max(incident.score, score)
        # The end of an incident explains nothing; what is worth reading is why it became what it was.
        if message["resolved_us"] is None and message["phase"] in ("opened", "updated") and tier >= incident.tier:
            incident.said = message if message["explanation"] else incident.said
    return list(folded.values())


def _channel_count(record: StreamRecord) -> int:
    return (record.steps[-1].columns.shape[1] - 2) // 3 if record.steps else 0


def _undescribed(record: StreamRecord) -> Description:
    C = _channel_count(record)
    times = [step.time_us for step in record.steps]
    step_us = min((b - a for a, b in pairwise(times) if b > a), default=1_000_000)
    return Description(tuple(f"channel {c + 1}" for c in range(C)), ("",) * C, step_us)


def _stream(
    name: str,
    record: StreamRecord,
    described: Description,
    tables: Mapping[tuple[str, str], Table],
    buckets: int,
    verdicts: Sequence[Verdict],
) -> dict[str, Json]:
    named = zip(described.channels, described.units, strict=True)
    channels = [{"key": c, "name": channel_text(c), "unit": unit_text(u).strip()} for c, u in named]
    entities = [
        {"name": entity, **_thinned(tables[name, entity], buckets), "known": _known(name, entity, verdicts)}
        for entity in record.entities
    ]
    return {
        "name": name,
        "channels": channels,
        "witnesses": list(described.witnesses),
        "step": described.step_us / 1e6,
        "model": described.model,
        "simulated": described.simulated,
        "entities": entities,
    }


def _known(stream: str, entity: str, verdicts: Sequence[Verdict]) -> list[dict[str, Json]]:
    return [
        {
            "kind": str(v.fault.kind),
            "note": v.fault.note,
            "channels": list(v.fault.channels),
            "start": v.fault.start_us / 1e6,
            "end": v.fault.end_us / 1e6,
            "found": v.by.id if v.by is not None else None,
        }
        for v in verdicts
        if (v.fault.stream, v.fault.entity) == (stream, entity)
    ]


def _thinned(table: Table, buckets: int) -> dict[str, Json]:
    """Return the series as the least and greatest of each bucket, so that no spike is lost by thinning."""
    T = len(table.time_us)
    width = max(1, math.ceil(T / buckets))
    starts = np.arange(0, T, width)
    finite_any = np.isfinite(table.observed).any(axis=1)
    return {
        "t": [int(t) // 1_000_000 for t in table.time_us[starts]],
        "until": int(table.time_us[-1]) // 1_000_000,
        "width": width,
        "channels": [
            {
                "lo": _numbers(_reduced(np.fmin, table.observed[:, c], starts)),
                "hi": _numbers(_reduced(np.fmax, table.observed[:, c], starts)) if width > 1 else None,
                "e": _numbers(_middle(table.expected[:, c], starts)),
                "l": _numbers(_reduced(np.fmin, table.lower[:, c], starts)),
                "u": _numbers(_reduced(np.fmax, table.upper[:, c], starts)),
            }
            for c in range(table.observed.shape[1])
        ],
        "score": _numbers(np.maximum.reduceat(table.score, starts), 3),
        "steps": int(finite_any.sum()),
    }


def _reduced(function: np.ufunc, column: NDArray[np.float32], starts: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.asarray(function.reduceat(column, starts), np.float32)


def _middle(column: NDArray[np.float32], starts: NDArray[np.intp]) -> NDArray[np.float32]:
    known = np.isfinite(column)
    total = np.add.reduceat(np.where(known, column, 0.0), starts)
    count = np.add.reduceat(known, starts, dtype=np.int64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _numbers(values: NDArray[Any], digits: int = _DIGITS) -> list[float | int | None]:
    """Return JSON numbers of ``digits`` significant digits, None where not finite."""
    return [_number(v, digits) for v in values.tolist()]


def _number(value: float, digits: int = _DIGITS) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _incidents(
    recorder: Recorder,
    incidents: Sequence[_Incident],
    tables: Mapping[tuple[str, str], Table],
    verdicts: Sequence[Verdict],
) -> list[dict[str, Json]]:
    finds = {v.by.id: v.fault for v in verdicts if v.by is not None}
    budget = MAX_ZOOM_NUMBERS // max(1, len(incidents))
    shown = []
    for incident in incidents:
        first, said = incident.first, incident.said
        place = (str(first["stream"]), str(first["entity"]))
        record = recorder.streams.get(place[0])
        moment = record.moments.get(incident.id) if record is not None else None
        fault = finds.get(incident.id)
        shown.append(
            {
                "id": incident.id,
                "stream": place[0],
                "entity": place[1],
                "kind": str(first["kind"]),
                "name": str(first["name"]),
                "tier": incident.tier,
                "severity": str(incident.last["severity"]),
                "started": first["started_us"] / 1e6,
                "opened": first["opened_us"] / 1e6,
                "alerted": None if incident.alerted_us is None else incident.alerted_us / 1e6,
                "resolved": None if incident.last["resolved_us"] is None else incident.last["resolved_us"] / 1e6,
                "phase": str(incident.last["phase"]),
                "note": str(incident.last["note"]),
                "score": _number(incident.score) if first.get("score") is not None else None,
                "alpha": said.get("alpha"),
                "model": str(said["model_version"]),
                "reason": str(said["reason"]),
                "explanation": said["explanation"],
                "finds": None if fault is None else {"kind": str(fault.kind), "note": fault.note},
                "moment": None if moment is None else _moment(moment),
                "zoom": _zoom(tables[place], first["opened_us"], budget) if place in tables else None,
            }
        )
    return shown


def _moment(moment: Moment) -> dict[str, Json]:
    return {
        "t": moment.time_us / 1e6,
        "score": _number(moment.score),
        "witness": _numbers(moment.witness, 3),
        "share": _numbers(moment.share, 3),
        "sign": [int(s) for s in moment.sign],
        "attention": _attention(moment),
    }


def _attention(moment: Moment) -> dict[str, Json] | None:
    if not moment.attention:
        return None
    weights = np.stack(moment.attention)  # [rows, M]
    return {
        "rows": [t // 1_000_000 for t in moment.attention_us],
        "kinds": [str(p.kind) for p in moment.positions],
        "at": [p.lag_steps if str(p.kind) in ("recent", "lag") else p.index for p in moment.positions],
        "w": [_numbers(row, 3) for row in np.nan_to_num(weights)],
    }


def _zoom(table: Table, opened_us: int, budget: int) -> dict[str, Json]:
    """Return every step around the opening: the band, the values and the score, as the monitor had them."""
    C = table.observed.shape[1]
    fit = max(24, min(ZOOM_BEFORE + ZOOM_AFTER, budget // (4 * C + 2)))
    at = int(np.searchsorted(table.time_us, opened_us))
    first = max(0, at - fit * ZOOM_BEFORE // (ZOOM_BEFORE + ZOOM_AFTER))
    end = min(len(table.time_us), at + fit * ZOOM_AFTER // (ZOOM_BEFORE + ZOOM_AFTER) + 1)
    window = slice(first, end)
    return {
        "t": [int(t) // 1_000_000 for t in table.time_us[window]],
        "channels": [
            {
                "lo": _numbers(table.observed[window, c]),
                "hi": None,
                "e": _numbers(table.expected[window, c]),
                "l": _numbers(table.lower[window, c]),
                "u": _numbers(table.upper[window, c]),
            }
            for c in range(C)
        ],
        "score": _numbers(table.score[window], 3),
        "seen": _SEEN_STEPS,
    }
