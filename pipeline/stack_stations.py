"""Stations that never end: the demo's streams, played faster than their own clocks, with a fault now and then.

A simulated day takes twelve minutes, but every reading bears the time at which it is sent: to whoever reads them, they
are stations that report every five seconds. At the end of a tape it goes on, without a jump, where its history ended.

Legend: E entities, T steps, C channels.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.kafka_sink import KafkaSink
from pipeline import demo_data, simulation
from pipeline.incident import rfc3339
from pipeline.planted import AIR_PLAN, EVENT_PLAN, PM25_LIMIT, Fault, Recipe, plant
from pipeline.simulation import Series

STEP_S = 5
STEPS_A_DAY = 144
"""Of the simulated day: ten minutes each, so that the day takes twelve."""
_LOOP_DAYS = 14
"""Whole weeks, so that a loop ends at the hour and on the weekday on which it began."""
_AIR_EVERY, _EVENTS_EVERY = 36, 48
"""Steps from one fault to the next: every three and every four minutes."""
_LONGEST_H = 60.0
_FIRST_FAULT_AFTER = {"air": 8, "events": 24}
"""Steps after the stations go live: whoever starts the stack wants to see something soon."""
_FLUSH_RECORDS = 500
_FLUSH_S = 10.0


@dataclass(frozen=True, slots=True)
class Tape:
    """What one stream's stations send, without end: history up to ``live``, and then a loop."""

    series: Series
    truths: Sequence[Fault]
    first: int
    """The step that follows the last one of the series."""
    live: int
    """The first step that is sent when its time has come; all before it is history."""
    limits: Mapping[str, float]

    def at(self, step: int) -> int:
        """Return where the ``step``-th step from the beginning lies on the tape."""
        length = self.series.values.shape[1]
        return step if step < length else self.first + (step - length) % (length - self.first)

    def beginning(self, step: int) -> list[Fault]:
        """Return the faults that begin at a place on the tape."""
        start_us = int(self.series.times_us[step])
        return [fault for fault in self.truths if fault.start_us == start_us]


def tapes(history_days: float, seed: int = 0) -> list[Tape]:
    """Return water (real), air and events (simulated) with ``history_days`` of 144 steps or more as history."""
    first = round(history_days * STEPS_A_DAY)
    water = demo_data.water()
    air = _endless(simulation.air(history_days + _LOOP_DAYS, seed), AIR_PLAN, first, _AIR_EVERY, seed)
    events = _endless(simulation.events(history_days + _LOOP_DAYS, seed), EVENT_PLAN, first, _EVENTS_EVERY, seed)
    live = min(first, water.series.values.shape[1] // 2)
    return [
        Tape(water.series, water.truths, 0, live, {}),
        replace(air, limits={"pm25": PM25_LIMIT}),
        events,
    ]


def _endless(clean: Series, plan: Sequence[Recipe], first: int, every: int, seed: int) -> Tape:
    """Return a tape whose end leads back to ``first`` without a jump, with faults of ``plan`` from there on."""
    values = clean.values.copy()  # [E, T, C]
    share = np.linspace(0.0, 1.0, STEPS_A_DAY)[:, None]  # [n, 1]
    before = values[:, first - STEPS_A_DAY : first]
    values[:, -STEPS_A_DAY:] = (1.0 - share) * values[:, -STEPS_A_DAY:] + share * before
    decimals = np.array([0 if unit == "1" else 1 for unit in clean.units])
    for c, places in enumerate(decimals.tolist()):
        values[..., c] = np.round(values[..., c], places)
    series, truths = _one_after_the_other(clean.with_values(values), plan, first, every, seed)
    soonest = round((min(fault.start_us for fault in truths) - int(series.times_us[0])) / (series.step_s * 1e6))
    return Tape(series, truths, first, max(first, soonest - _FIRST_FAULT_AFTER[series.stream]), {})


def _one_after_the_other(
    clean: Series, plan: Sequence[Recipe], first: int, every: int, seed: int
) -> tuple[Series, list[Fault]]:
    """Plant a fault every ``every`` steps (or up to a day later, at its own hour), never two on an entity at once."""
    rng = np.random.default_rng([seed, 4])
    single = [replace(recipe, count=1) for recipe in plan for _ in range(recipe.count)]
    recipes = cycle([single[0], *(single[i] for i in rng.permutation(np.arange(1, len(single))))])
    values, faults = clean.values.copy(), list[Fault]()
    busy_until = np.full(len(clean.entities), first)
    lead = _FIRST_FAULT_AFTER[clean.stream]
    room = STEPS_A_DAY + round(_LONGEST_H * 3600.0 / clean.step_s)
    for turn, start in enumerate(range(first + lead, values.shape[1] - STEPS_A_DAY - room, every)):
        recipe, free = next(recipes), np.flatnonzero(busy_until <= start)
        if not len(free):
            continue
        e, end = int(rng.choice(free)), start + STEPS_A_DAY + round(recipe.hours[1] * 3600.0 / clean.step_s)
        changed, planted = plant(_part(clean, e, end), (recipe,), start, seed + turn, apart_h=0.0)
        values[e, start:end] = changed.values[0, start:]
        faults += planted
        busy_until[e] = end + STEPS_A_DAY // 2
    return clean.with_values(values), sorted(faults, key=lambda fault: fault.start_us)


def _part(series: Series, e: int, end: int) -> Series:
    """Return one entity's series up to a step; a fault that is planted in it has no other place to go."""
    return replace(
        series, entities=(series.entities[e],), values=series.values[e : e + 1, :end], times_us=series.times_us[:end]
    )


class Stations(threading.Thread):
    """Sends the history at once, and then each step at its time, until ``close``."""

    def __init__(self, bootstrap_servers: str, played: Sequence[Tape], settings: Mapping[str, Any]) -> None:
        super().__init__(name="stations", daemon=True)
        self._tapes = played
        self._sinks = [KafkaSink(bootstrap_servers, tape.series.stream, settings=settings) for tape in played]
        self._left = threading.Event()
        self.begun: queue.SimpleQueue[tuple[Tape, Fault]] = queue.SimpleQueue()
        """The faults that began since the stations went live."""
        self.live = threading.Event()
        """Set when all history is sent."""
        self.error: Exception | None = None

    def run(self) -> None:
        """Send until told to leave; an error is kept for whoever looks after the stations."""
        try:
            start_us = (time.time_ns() // 1000 // (STEP_S * 1_000_000) + 1) * STEP_S * 1_000_000
            self._send_history(start_us)
            self.live.set()
            self._send_live(start_us)
        except Exception as error:  # a thread cannot raise to its starter
            self.error = error
        finally:
            for sink in self._sinks:
                sink.close()

    def close(self) -> None:
        """Stop sending."""
        self._left.set()
        if self.ident is not None:
            self.join()

    def _send_history(self, start_us: int) -> None:
        sent = 0
        for back in range(max(tape.live for tape in self._tapes), 0, -1):
            for tape, sink in zip(self._tapes, self._sinks, strict=True):
                if back > tape.live:
                    continue
                sent += _send(sink, tape.series, tape.live - back, start_us - back * STEP_S * 1_000_000)
            if sent >= _FLUSH_RECORDS:
                sent = 0
                self._flush()
            if self._left.is_set():
                return
        self._flush()

    def _send_live(self, start_us: int) -> None:
        for n in count():
            time_us = start_us + n * STEP_S * 1_000_000
            if self._left.wait(max(0.0, time_us / 1e6 - time.time())):
                return
            for tape, sink in zip(self._tapes, self._sinks, strict=True):
                at = tape.at(tape.live + n)
                _send(sink, tape.series, at, time_us)
                for fault in tape.beginning(at):
                    self.begun.put((tape, fault))
            self._flush()

    def _flush(self) -> None:
        for sink in self._sinks:
            sink.flush(_FLUSH_S)


def _send(sink: KafkaSink, series: Series, step: int, time_us: int) -> int:
    """Send a step of all stations that measured anything, a record each; return how many."""
    values: NDArray[np.float64] = series.values[:, step]  # [E, C]
    measured = np.flatnonzero(~np.isnan(values).all(axis=1)).tolist()
    when = rfc3339(time_us)
    for e in measured:
        readings = [
            {"entity": series.entities[e], "channel": channel, "time": when, "value": value, "unit": unit}
            for channel, unit, value in zip(series.channels, series.units, values[e].tolist(), strict=True)
            if value == value  # NaN: nothing was measured, so nothing is sent
        ]
        sink.send(series.entities[e], msgspec.json.encode(readings))
    return len(measured)
