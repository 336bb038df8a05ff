"""The demo's three streams and what is known about them: one real series, two simulated ones with planted faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from models.datasets import water_flow
from pipeline import simulation
from pipeline.planted import AIR_PLAN, EVENT_PLAN, PM25_LIMIT, Fault, FaultKind, plant
from pipeline.simulation import Series

_HOUR_US = 3_600_000_000
_WATER_ENTITY = "branch"

_WATER_EVENTS = (
    # River's description of the data: "3 low value moments" (water losses or maintenance) and "a small peak in the
    # water inflow after the first 2 segments" (a pumping operation). It gives no times; these were read off the values,
    # which else stay between 99.0 and 106.1: from the first hour outside the usual range to the last.
    ("2022-03-24T08:00+01:00", "2022-03-25T01:00+01:00", "flow falls from 102 to 24 l/s for 13 hours"),
    ("2022-03-29T08:00+02:00", "2022-03-29T21:00+02:00", "flow falls from 107 to 24 l/s for 7 hours"),
    ("2022-04-03T05:00+02:00", "2022-04-03T06:00+02:00", "flow rises from 100 to 110 l/s for two hours"),
    ("2022-04-27T15:00+02:00", "2022-04-28T06:00+02:00", "flow falls from 103 to 24 l/s for 11 hours"),
)
_WATER_TOLERANCE_H = 2.0
"""The return to normal is seen an hour or two after the last low one."""
_SHORTEST_SILENCE_H = 3
"""Fewer missing hours than this (three single ones) are a hiccup that nobody calls a silence."""


@dataclass(frozen=True, slots=True)
class DemoStream:
    """A stream of the demo: what is sent, and what a perfect monitor would say."""

    series: Series
    truths: Sequence[Fault]
    first_scored_step: int
    """Where the part ends that a model may be trained on."""
    limits: dict[str, float] = field(default_factory=dict)


def demo_streams(days: float = 45.0, training_days: float = 14.0, seed: int = 0) -> list[DemoStream]:
    """Return water (real), air and events (simulated, ``days`` long, no fault within ``training_days``)."""
    return [water(), air(days, training_days, seed), events(days, training_days, seed)]


def air(days: float = 45.0, training_days: float = 14.0, seed: int = 0) -> DemoStream:
    """Return the simulated air stations with their planted faults and the limit on PM2.5."""
    clean = simulation.air(days, seed)
    first = round(training_days * 86_400 / clean.step_s)
    series, truths = plant(clean, AIR_PLAN, first, seed)
    return DemoStream(series, truths, first, {"pm25": PM25_LIMIT})


def events(days: float = 45.0, training_days: float = 14.0, seed: int = 0) -> DemoStream:
    """Return the simulated cameras with their planted faults."""
    clean = simulation.events(days, seed)
    first = round(training_days * 86_400 / clean.step_s)
    series, truths = plant(clean, EVENT_PLAN, first, seed)
    return DemoStream(series, truths, first)


def water() -> DemoStream:
    """Return river's water flow on its hourly grid (NaN in its gaps), its four documented events and its silences.

    The first documented event begins after 93 hours, so only the 72 hours before are called training.
    """
    row_times_us, row_flow = water_flow()
    row = (row_times_us - row_times_us[0]) // _HOUR_US
    times_us = row_times_us[0] + np.arange(row[-1] + 1) * _HOUR_US  # [T]
    values = np.full((1, len(times_us), 1), np.nan)
    values[0, row, 0] = row_flow
    series = Series(
        "water", (_WATER_ENTITY,), ("flow",), ("L/s",), 3600.0, times_us, values, np.zeros((1, 2)), simulated=False
    )
    return DemoStream(series, sorted([*_documented(), *silences(series)], key=lambda f: f.start_us), 72)


def silences(series: Series, shortest_h: float = _SHORTEST_SILENCE_H) -> list[Fault]:
    """Return the gaps of ``series`` in which an entity says nothing for ``shortest_h`` or more."""
    least = round(shortest_h * 3600 / series.step_s)
    found = []
    for e, entity in enumerate(series.entities):
        silent = np.concatenate([[False], np.isnan(series.values[e]).all(axis=1), [False]])
        edges = np.flatnonzero(np.diff(silent.astype(np.int8))).reshape(-1, 2)  # [gaps, (first, one past last)]
        found += [_gap(series, entity, int(a), int(b)) for a, b in edges if b - a >= least]
    return found


def _gap(series: Series, entity: str, first: int, end: int) -> Fault:
    start_us, end_us = int(series.times_us[first]), int(series.times_us[end - 1])
    note = f"nothing arrives for {(end - first) * series.step_s / 3600:.0f} hours"
    until_us = end_us + round(series.step_s * 1e6)
    kind, by = FaultKind.GAP, frozenset({"silence"})
    return Fault(series.stream, entity, kind, series.channels, start_us, end_us, until_us, by, note=note)


def _documented() -> list[Fault]:
    return [
        Fault(
            "water",
            _WATER_ENTITY,
            FaultKind.DOCUMENTED,
            ("flow",),
            _us(first),
            _us(last),
            _us(last) + round(_WATER_TOLERANCE_H * _HOUR_US),
            frozenset({"anomaly"}),
            note=note,
        )
        for first, last, note in _WATER_EVENTS
    ]


def _us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)
