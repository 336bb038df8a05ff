"""Answers about incidents: lists, and one with everything that tells why, and why not earlier."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from connectors.alert_store_rows import IncidentQuery, IncidentRow, LabelRow, MessageRow
from pipeline.alert_words import effect, end_us, incident_json, label_json
from pipeline.console.series_answers import SeriesAnswers
from pipeline.console.shapes import (
    Attention,
    Earlier,
    IncidentDetail,
    IncidentLine,
    IncidentPage,
    Label,
    Lookalike,
    Message,
    Moment,
    Series,
)
from pipeline.console.site_answers import SiteAnswers
from pipeline.console.sources import ShownStream, Sources
from pipeline.console.troubles import BadQuestion, NotThere
from pipeline.incident import finite_json, rfc3339

MOST_LINES = 200
"""Of a page."""
_STEPS_BEFORE, _STEPS_AFTER = 144, 36
_COMPARED = 300
"""Past incidents of the same entity and kind, or else of the stream, that are looked through for similar ones."""
_SIMILAR = 5
_LEAST_LIKENESS = 0.5


class IncidentAnswers:
    """Asks the alert database, and the series around an incident. Raises ``Trouble``."""

    def __init__(self, sources: Sources, series: SeriesAnswers, sites: SiteAnswers) -> None:
        self._sources = sources
        self._series = series
        self._sites = sites

    def page(self, query: IncidentQuery) -> IncidentPage:
        """Return the incidents that fit, and how many there are; ``limit`` and ``offset`` say which of them."""
        limit = min(MOST_LINES if query.limit is None else query.limit, MOST_LINES)
        with self._sources.asking_store() as store:
            rows, total = store.incidents(query), store.count(query)
            labels = store.labels_of([row.id for row in rows])
        return {"incidents": self.lines(rows, labels), "total": total, "offset": query.offset, "limit": limit}

    def lines(self, rows: Sequence[IncidentRow], labels: Sequence[LabelRow]) -> list[IncidentLine]:
        """Return incidents as lines of a list."""
        acting = {label.incident_id: label for label in labels if label.withdrawn_us is None}
        return [self._line(row, acting.get(row.id)) for row in rows]

    def row(self, prefix: str) -> IncidentRow:
        """Return the only incident whose id begins so; raises NotThere or BadQuestion."""
        prefix = prefix.strip().lower()
        if not prefix or len(prefix) > 32 or not set(prefix) <= set("0123456789abcdef"):
            raise BadQuestion(f"{prefix[:40]!r} is no incident's id: ids are 32 digits of 0 to 9 and a to f")
        with self._sources.asking_store() as store:
            found = store.find(prefix, 2)
        if not found:
            raise NotThere(f"there is no incident {prefix}")
        if len(found) > 1:
            raise BadQuestion(f"{prefix} is the beginning of several incidents' ids; say more of it")
        return found[0]

    def detail(self, prefix: str) -> IncidentDetail:
        """Return everything known of an incident."""
        row = self.row(prefix)
        with self._sources.asking_store() as store:
            messages, labels = store.messages(row.id), store.labels_of([row.id])
            past = self._past(row)
            past_labels = store.labels_of([each.id for each, _ in past])
        stream = self._sources.streams.get(row.stream)
        series = self._around(row, stream)
        said = [(message, _data(message)) for message in messages]
        explanation = dict(row.explanation)
        lines = self.lines([each for each, _ in past], past_labels)
        similar: list[Lookalike] = [
            {"incident": line, "likeness": likeness} for line, (_, likeness) in zip(lines, past, strict=True)
        ]
        return {
            "incident": self.lines([row], labels)[0],
            "channels": [dict(c) for c in _listed(explanation.get("channels")) if isinstance(c, Mapping)],
            "witnesses": _mapping(explanation.get("witnesses")),
            "explanation": explanation,
            "attention": [found for message, data in said if (found := _attention(message, data)) is not None],
            "nearest": explanation["nearest"] if isinstance(explanation.get("nearest"), dict) else None,
            "messages": [_message(message, data) for message, data in said],
            "labels": [self._label(label) for label in labels],
            "similar": similar,
            "earlier": _earlier(row, stream, series),
            "limits": [] if stream is None else self._series.limits(stream),
            "series": series,
            "site": self._sites.find(row.entity),
        }

    # ---- inner ----

    def _line(self, row: IncidentRow, label: LabelRow | None) -> IncidentLine:
        shown: Any = incident_json(row, None)
        shown["label"] = None if label is None else self._label(label)
        for name in ("sequence", "first_step", "told", "alpha"):
            shown.pop(name, None)
        line: IncidentLine = shown
        return line

    def _label(self, label: LabelRow) -> Label:
        until = end_us(label, self._sources.lookalikes_us)
        words: Any = {"effect": effect(label, self._sources.lookalikes_us), "ends": rfc3339(until)}
        if label.withdrawn_us is not None:
            words = {"effect": None, "ends": None}
        shown: Label = label_json(label) | words
        return shown

    def _around(self, row: IncidentRow, stream: ShownStream | None) -> Series:
        if stream is None:
            return self._series.unknown(row.stream, row.entity, "this daemon has no such stream any more")
        end = row.time_us if row.resolved_us is None else row.resolved_us
        from_us = row.started_us - _STEPS_BEFORE * stream.step_us
        to_us = max(row.opened_us, end) + _STEPS_AFTER * stream.step_us
        return self._series.series(stream, row.entity, from_us, to_us)

    def _past(self, row: IncidentRow) -> list[tuple[IncidentRow, float]]:
        """Return the incidents most alike, the most alike first: by what they looked like, the entity's own first."""
        if not row.context:
            return []
        store = self._sources.store
        own = store.incidents(IncidentQuery(row.stream, row.entity, kind=row.kind, limit=_COMPARED))
        others = store.incidents(IncidentQuery(row.stream, kind=row.kind, limit=_COMPARED))
        found: dict[str, tuple[IncidentRow, float]] = {}
        for each in (*own, *others):
            like = likeness(row.context, each.context)
            if each.id != row.id and each.opened_us <= row.opened_us and like >= _LEAST_LIKENESS:
                found[each.id] = each, round(like, 3)
        ranked = sorted(found.values(), key=lambda pair: (-pair[1], pair[0].entity != row.entity, -pair[0].opened_us))
        return ranked[:_SIMILAR]


def likeness(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return how alike two contexts are: the cosine of their signed logarithms, 0 where they cannot be compared.

    >>> likeness([1.0, 2.0], [1.0, 2.0])
    1.0
    """
    if not ours or len(ours) != len(theirs):
        return 0.0
    # One channel may be off by hundreds of spreads, and would be all that a plain cosine sees.
    x, y = (np.sign(v) * np.log1p(np.abs(v)) for v in (np.asarray(ours, np.float64), np.asarray(theirs, np.float64)))
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return max(0.0, round(float(x @ y) / size, 6)) if size > 0.0 else 0.0


def _earlier(row: IncidentRow, stream: ShownStream | None, series: Series) -> Earlier | None:
    """Return why an incident with a score was not told of before it was."""
    if stream is None or row.score is None:
        return None
    steps = max(0, (row.opened_us - row.started_us) // stream.step_us)
    before = [
        score
        for at_us, score in zip(series["times_us"], series["score"], strict=True)
        if at_us < row.started_us and score is not None
    ]
    highest = max(before, default=None)
    if highest is None:
        text = "Nothing is kept of the time before it."
    elif highest < 1.0:
        text = f"Before it the score was at most {highest:.2f} of the 1 that it takes."
    else:
        text = f"Before it the score had been as high as {highest:.2f}, but not often enough, or not anew."
    if steps:
        text += (
            f" The first sign came {steps} {'step' if steps == 1 else 'steps'} before it opened:"
            f" it takes {stream.needed} of {stream.window} steps."
        )
    else:
        text += " It opened at the first step that was odd enough."
    return {"text": text, "score_before": highest, "steps_to_open": int(steps)}


def _data(message: MessageRow) -> Mapping[str, Any]:
    """Return what a message says; nothing where it is not one of ours."""
    try:
        data = json.loads(message.body)["data"]
    except (ValueError, KeyError, TypeError):
        return {}
    return data if isinstance(data, Mapping) else {}


def _message(message: MessageRow, data: Mapping[str, Any]) -> Message:
    return {
        "sequence": message.sequence,
        "phase": message.phase,
        "time": rfc3339(message.time_us),
        "reason": str(data.get("reason", "")),
    }


def _attention(message: MessageRow, data: Mapping[str, Any]) -> Attention | None:
    """Return where the model looked; None for farewells, which repeat what was said, and where there was no model."""
    explanation = data.get("explanation")
    listed = _listed(explanation.get("attention")) if isinstance(explanation, Mapping) else ()
    moments = [_moment(m) for m in listed if isinstance(m, Mapping)]
    if not moments or message.phase in ("resolved", "corrected"):
        return None
    weights = [m["weight"] or 0.0 for m in moments]
    lags = sum(w for m, w in zip(moments, weights, strict=True) if m["what"] == "lag")
    total = sum(weights)
    share = round(lags / total, 6) if total > 0 else None
    return {"time": rfc3339(message.time_us), "moments": moments, "program_share": share}


def _moment(raw: Mapping[str, Any]) -> Moment:
    weight, at = raw.get("weight"), raw.get("time")
    return {
        "what": str(raw.get("what", "")),
        "text": str(raw.get("text", "")),
        "weight": float(weight) if isinstance(weight, int | float) else None,
        "time": at if isinstance(at, str) else None,
    }


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _mapping(value: object) -> dict[str, Any]:
    found: Any = finite_json(value) if isinstance(value, Mapping) else {}
    return dict(found)
