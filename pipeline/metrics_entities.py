"""Gauges of single entities for /metrics: what was observed and expected, the band, the score, the incident.

They are written as text straight from the newest steps. A client library's objects take seconds for 50,000 of them, and
hold the interpreter all the while; here Arrow makes the numbers and the lines, without it.

Legend: n entities of a step, m of them shown, C channels.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from models.explanation import BAND_SPREADS
from pipeline.live import Live, LiveStep

_OF_CHANNELS = {
    "vedette_observed": "Newest value of the channel, in its unit.",
    "vedette_expected": "What was forecast for the newest step, in the channel's unit.",
    "vedette_expected_lower": "Lower edge of the expected band, which holds 95 of 100 ordinary values.",
    "vedette_expected_upper": "Upper edge of the expected band, which holds 95 of 100 ordinary values.",
}
_OF_ENTITIES = {
    "vedette_score": "Score of the newest step; 1 is the boundary.",
    "vedette_incident": "Open anomaly of the entity: 0 none, 1 a watch, 2 an alert.",
}
_SHOWN = ("vedette_entity_series", "Series of single entities that are shown.")
_LEFT_OUT = ("vedette_entity_series_left_out", "Series of single entities that metrics.max_series leaves out.")

FAMILIES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    *((name, ("stream", "entity", "channel"), text) for name, text in _OF_CHANNELS.items()),
    ("vedette_score", ("stream", "entity"), _OF_ENTITIES["vedette_score"]),
    ("vedette_incident", ("stream", "entity", "site"), _OF_ENTITIES["vedette_incident"]),
    (_SHOWN[0], (), _SHOWN[1]),
    (_LEFT_OUT[0], (), _LEFT_OUT[1]),
)
"""Name, labels and help of every gauge here."""

_MOST_LABEL = 200
"""Characters of an entity's name in a label; a longer one is cut, so that it cannot make a scrape of megabytes."""
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")
"""What a label cannot hold: the end of text to Prometheus, and halves of characters, which UTF-8 has no form of."""


class EntityMetrics:
    """Writes the gauges of as many entities as there may be series; the loop takes no part in it.

    Which entities are shown is stable: who is shown stays until it is idle, and whose turn comes next depends on its
    name only, so that replicas and restarts agree. Streams share the room: none gets less than its part of it because
    another one is larger. A value that is missing has no line, so that graphs have a gap there.
    """

    def __init__(
        self,
        live: Live,
        registry: CollectorRegistry,
        max_series: int = 50_000,
        idle_s: float = 21_600.0,
        site: Callable[[str, str], str] = lambda stream, entity: "",
    ) -> None:
        """Take what there is to show from ``live``.

        Args:
            registry: gets the gauges of how many series are shown and left out.
            max_series: series of single entities over all streams.
            idle_s: event time after which an entity without a value is no longer shown.
            site: of a stream's entity, which incidents are grouped by.
        """
        self._live = live
        self._site = site
        self._max_series = max_series
        self._idle_us = int(idle_s * 1e6)
        self._shown = Gauge(*_SHOWN, registry=registry)
        self._left_out = Gauge(*_LEFT_OUT, registry=registry)
        self._choices: dict[str, _Choice] = {}
        self._lock = threading.Lock()

    def text(self) -> bytes:
        """Return the lines of all entities shown, in the text format 0.0.4; from any thread."""
        with self._lock:
            steps = [step for name in self._live.streams() if (step := self._live.newest(name)) is not None and step.n]
            self._choose(steps)
            return b"".join(self._families(steps))

    def _choose(self, steps: Sequence[LiveStep]) -> None:
        wanted = {}
        for step in steps:
            choice = self._choices.setdefault(step.stream, _Choice(self._idle_us, self._site))
            choice.see(self._live.steps_after(step.stream, choice.seen_us), step)
            wanted[step.stream] = choice.active() * _series_each(step)
        room = _shares(wanted, self._max_series)
        shown = 0
        for step in steps:
            each = _series_each(step)
            shown += self._choices[step.stream].choose(room[step.stream] // each, step) * each
        self._shown.set(shown)
        self._left_out.set(sum(wanted.values()) - shown)

    def _families(self, steps: Sequence[LiveStep]) -> Iterator[bytes | memoryview]:
        for name, text in _OF_CHANNELS.items():
            yield _header(name, text)
            for step in steps:
                choice = self._choices[step.stream]
                yield _lines(name, choice.channel_labels, _by_channel(name, step, choice.rows))
        for name, text in _OF_ENTITIES.items():
            yield _header(name, text)
            for step in steps:
                choice = self._choices[step.stream]
                if name == "vedette_score":
                    yield _lines(name, choice.entity_labels, step.score[choice.rows])
                else:
                    yield _lines(name, choice.site_labels, step.level[choice.rows])


def exposition(registry: CollectorRegistry, entities: EntityMetrics | None = None) -> bytes:
    """Return what /metrics answers; its content type is ``prometheus_client.CONTENT_TYPE_LATEST``."""
    single = b"" if entities is None else entities.text()  # first: it sets gauges that the registry shows
    return generate_latest(registry) + single


class _Labels(NamedTuple):
    """For whom lines were written last, so that their labels are made once."""

    names: Sequence[str]
    rows: NDArray[np.intp]


class _Choice:
    """Who of a stream is shown."""

    def __init__(self, idle_us: int, site: Callable[[str, str], str]) -> None:
        self.seen_us = -(2**62)
        """End of the newest step that was looked at."""
        self.rows = np.empty(0, np.intp)
        """[m] those shown, ascending."""
        self.entity_labels = self.channel_labels = self.site_labels = pa.array([], pa.string())
        self._site = site
        self._idle_us = idle_us
        self._names: Sequence[str] = ()
        self._measured_us = np.empty(0, np.int64)  # [n] end of the newest step with a value
        self._turn = np.empty(0, np.uint32)  # [n] whose turn comes first, by name
        self._chosen = np.empty(0, np.bool_)  # [n]
        self._labels: _Labels | None = None

    def see(self, steps: Sequence[LiveStep], newest: LiveStep) -> None:
        """Note who was measured in ``steps``, and who is new."""
        if newest.names is not self._names:
            self._move(newest)
        new = range(len(self._turn), newest.n)
        if new:
            # Who came without our having looked is taken as measured now, and has all the time to become idle.
            self._measured_us = np.append(self._measured_us, np.full(len(new), newest.time_us))
            self._turn = np.append(self._turn, np.array([_turn(newest.names[row]) for row in new], np.uint32))
            self._chosen = np.append(self._chosen, np.zeros(len(new), np.bool_))
        for step in steps:
            if step.names is newest.names and step.n <= newest.n:  # one may have come since the newest was asked for
                self._measured_us[: step.n][~np.isnan(step.values).all(axis=1)] = step.time_us
        self.seen_us = newest.time_us

    def active(self) -> int:
        """Return how many entities are not idle."""
        return int(self._active().sum())

    def choose(self, most: int, step: LiveStep) -> int:
        """Show at most so many entities; return how many."""
        active = self._active()
        self._chosen &= active
        chosen = np.flatnonzero(self._chosen)
        if len(chosen) > most:
            last = chosen[np.lexsort((chosen, self._turn[chosen]))[most:]]
            self._chosen[last] = False
        elif len(chosen) < most:
            waiting = np.flatnonzero(active & ~self._chosen)
            first = waiting[np.lexsort((waiting, self._turn[waiting]))[: most - len(chosen)]]
            self._chosen[first] = True
        self._name(step, np.flatnonzero(self._chosen))
        return len(self.rows)

    def _active(self) -> NDArray[np.bool_]:
        return self._measured_us >= self.seen_us - self._idle_us

    def _move(self, newest: LiveStep) -> None:
        """The rows were given anew: take along what is known of those who are still there."""
        place = {name: row for row, name in enumerate(self._names[: len(self._turn)])}
        rows = np.array([place.get(name, -1) for name in newest.names[: newest.n]], np.intp)
        known = rows >= 0
        measured_us = np.full(newest.n, newest.time_us)
        chosen = np.zeros(newest.n, np.bool_)
        measured_us[known] = self._measured_us[rows[known]]
        chosen[known] = self._chosen[rows[known]]
        self._turn = np.array([_turn(name) for name in newest.names[: newest.n]], np.uint32)
        self._names, self._measured_us, self._chosen = newest.names, measured_us, chosen

    def _name(self, step: LiveStep, rows: NDArray[np.intp]) -> None:
        """Make the labels, if they are not those of the last time."""
        known = self._labels
        self.rows = rows
        if known is not None and known.names is step.names and np.array_equal(known.rows, rows):
            return
        stream = f'stream="{_escaped(step.stream)}"'
        entities = [f'{{{stream},entity="{_escaped(step.names[row])}"' for row in rows]
        channels = [f',channel="{_escaped(name)}"}} ' for name in step.channels]
        self.entity_labels = pa.array([entity + "} " for entity in entities], pa.string())
        sites = (self._site(step.stream, step.names[row]) for row in rows)
        self.site_labels = pa.array(
            [f'{entity},site="{_escaped(site)}"}} ' for entity, site in zip(entities, sites, strict=True)], pa.string()
        )
        self.channel_labels = pa.array([entity + channel for entity in entities for channel in channels], pa.string())
        self._labels = _Labels(step.names, rows)


def _turn(name: str) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))


def _series_each(step: LiveStep) -> int:
    """Return how many series an entity of that stream may have."""
    return len(_OF_CHANNELS) * len(step.channels) + len(_OF_ENTITIES)


def _shares(wanted: Mapping[str, int], room: int) -> dict[str, int]:
    """Return how much each gets: what it wants, or an equal part of what is left to those who want more than that."""
    shares: dict[str, int] = {}
    for i, name in enumerate(sorted(wanted, key=wanted.__getitem__)):
        shares[name] = min(wanted[name], room // (len(wanted) - i))
        room -= shares[name]
    return shares


def _by_channel(name: str, step: LiveStep, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return [m·C] the values of a family, entity by entity; NaN where there is none."""
    if name == "vedette_observed":
        return step.values[rows].ravel()
    expected = step.expected[rows]
    if name == "vedette_expected":
        return expected.ravel()
    reach = BAND_SPREADS * step.spread[rows].astype(np.float64)
    return (expected - reach if name == "vedette_expected_lower" else expected + reach).ravel()


def _header(name: str, text: str) -> bytes:
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n".encode()


def _lines(name: str, labels: pa.StringArray, values: NDArray[np.generic]) -> bytes | memoryview:
    """Return one line per value that is finite."""
    finite = np.isfinite(values)
    if not finite.all():
        labels, values = labels.filter(pa.array(finite)), values[finite]
    if len(values) == 0:
        return b""
    numbers = pc.cast(pa.array(values), pa.string())
    lines = pc.binary_join_element_wise(name, labels, numbers, "\n", "")
    # The strings of an array lie one after the other in one buffer, which is the text already.
    return memoryview(lines.buffers()[2])


def _escaped(name: str) -> str:
    """Return a label's value in the text format; what it cannot hold is replaced or cut, and then told apart by a sum.

    >>> _escaped('say "hi"')
    'say \\\\"hi\\\\"'
    """
    held = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", name[:_MOST_LABEL])
    if held != name:
        held += f"~{_turn(name):08x}"
    return held.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
