"""Screen: lets readings through that belong to a stream, in the stream's own codes and units, and says why not others.

Lookup tables by vocabulary code do the work, so a good reading costs array operations and no Python.

Legend: n readings, C channels, U known units.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from connectors.base import RecordBlock
from connectors.reading import NO_TIME, Quality, ReadingBatch, Reason, Rejected, Vocabulary
from models.state import RowState

_T = TypeVar("_T", np.int32, np.float64)

Conversion = Callable[[str, str], tuple[float, float] | None]
"""(from_unit, to_unit) to (factor, offset) with ``to = factor · from + offset``; None when they do not convert."""

# By quality: is the value worth scoring, and may it be learned from?
_SCORED = np.array([q not in (Quality.BAD, Quality.MISSING) for q in Quality])
_LEARNED = np.array([q not in (Quality.SUSPECT, Quality.BAD, Quality.MISSING) for q in Quality])

# The order in which a reading is judged; one that fails twice is refused for the first.
_REASONS = (
    Reason.UNKNOWN_CHANNEL,
    Reason.UNIT_MISMATCH,
    Reason.NOT_FINITE,
    Reason.TOO_FAR_AHEAD,
    Reason.TOO_MANY_ENTITIES,
)
_GOOD = len(_REASONS)

# Detail texts quote names from outside; longer ones are cut.
_LONGEST_NAME = 80
_KEPT_HINTS = 1_000


@dataclass(slots=True)
class Screened:
    """n readings that passed, in order of arrival, and what was refused."""

    slot: NDArray[np.int32]
    channel: NDArray[np.int32]
    time_us: NDArray[np.int64]
    value: NDArray[np.float64]
    """In the channel's unit, finite; NaN where missing, and where the quality says that it is worth nothing."""
    learnable: NDArray[np.bool_]
    """False for suspect readings, and for those without a value."""
    result_time_us: NDArray[np.int64]
    """NO_TIME where unknown."""
    rejected: list[Rejected] = field(default_factory=list)
    max_time_us: int = int(NO_TIME)
    """The newest time that passed; NO_TIME when nothing did."""


class Screen:
    """Maps a decoder's codes to one stream's entity slots and channels, and converts units.

    An entity gets its slot with its first good reading and keeps it. ``state`` has, per slot, the partition that it was
    last read from (-1: none yet) and its newest event time (NO_TIME: none yet).
    """

    def __init__(
        self,
        channels: Sequence[str],
        units: Sequence[str],
        entity_names: Vocabulary,
        channel_names: Vocabulary,
        unit_names: Vocabulary,
        conversion: Conversion,
        max_ahead_us: int,
        max_entities: int,
        strict_units: bool = True,
        capacity: int = 64,
    ) -> None:
        """Start without entities.

        Args:
            channels: names of the C channels.
            units: their C units; "" takes readings of any unit as they are.
            entity_names: the decoder's vocabulary of entities; likewise the next two. They may grow at any time.
            channel_names: of channels.
            unit_names: of units; "" (no unit given) is taken as the channel's.
            conversion: how units convert.
            max_ahead_us: how far a reading's time may lie after ``now``.
            max_entities: how many entities the stream may have.
            strict_units: refuse readings whose unit does not convert; if not, they are taken as they are.
            capacity: entity slots to make room for at first.
        """
        if len(channels) != len(units):
            raise ValueError(f"{len(channels)} channels, but {len(units)} units; each channel needs one")
        self.channels = tuple(channels)
        self.units = tuple(units)
        self.vocabularies = (entity_names, channel_names, unit_names)
        self.max_ahead_us = max_ahead_us
        self.max_entities = max_entities
        self.strict_units = strict_units
        self.entities: list[str] = []
        """Names by slot."""
        self.state = RowState(max(1, min(capacity, max_entities)))
        self.state.add("partition", (), np.int32, -1)
        self.state.add("last_time_us", (), np.int64, NO_TIME)
        self._conversion = conversion
        self._index = {name: c for c, name in enumerate(channels)}
        self._nearest: dict[str, str] = {}
        # Each table ends with one entry for code -1, which a full vocabulary gives: indexing finds it there.
        self._slots = np.full(1, -1, np.int32)
        self._channels = np.full(1, -1, np.int32)
        self._factors = np.full((len(channels) + 1, 1), np.nan)  # [C + 1, ≥ U + 1], NaN: does not convert
        self._offsets = np.zeros((len(channels) + 1, 1))
        self._known_channels = self._known_units = 0
        self._plain = True
        """True while every known unit is its channel's own, so that no value needs arithmetic."""
        if not strict_units:
            self._factors[:-1] = 1.0

    # ---- screening ----

    def screen(self, batch: ReadingBatch, block: RecordBlock | None, now_us: int) -> Screened:
        """Return the readings of ``batch`` that belong here, and the others as refusals, one a record and reason.

        Args:
            batch: readings in the codes of the vocabularies.
            block: the records it came from, for the refusals' raw bytes; None: they carry none.
            now_us: the wall clock.
        """
        self._follow_vocabularies()
        channel = self._channels[batch.channel]  # [n]
        value = self._convert_values(batch, channel)
        verdict = self._judge(batch, channel, value, now_us)
        slot = self._slots_for(batch, verdict)
        good = verdict == _GOOD
        rejected = [] if good.all() else self._refuse(batch, block, verdict, now_us)
        learnable = _LEARNED[batch.quality] & (value == value)
        columns = (slot, channel, batch.time_us, value, learnable, batch.result_time_us)
        screened = Screened(*columns) if not rejected else Screened(*(column[good] for column in columns))
        screened.rejected = rejected
        self._note(screened, batch.partition)
        return screened

    def rows_of(self, partition: int) -> NDArray[np.intp]:
        """Return the slots of the entities that were last read from ``partition``."""
        return np.flatnonzero(self.state["partition"][: len(self.entities)] == partition)

    # ---- state ----

    def restore_entities(self, names: Sequence[str], partitions: Sequence[int]) -> NDArray[np.intp]:
        """Give entities of a checkpoint their slots here, new ones or those they have, and return these.

        ``max_entities`` does not apply: what was once let in stays in.
        """
        self._follow_vocabularies()
        codes = np.array([self.vocabularies[0].code(name) for name in names], np.int32)
        self._follow_vocabularies()
        slots = np.empty(len(names), np.intp)
        for i, (name, code) in enumerate(zip(names, codes, strict=True)):
            slots[i] = self._slots[code] if code >= 0 and self._slots[code] >= 0 else self._enter(name, int(code))
        self.state["partition"][slots] = partitions
        return slots

    def clear(self) -> None:
        """Forget all entities and their state; slots are given anew from 0."""
        self.entities = []
        self._slots.fill(-1)
        self.state.reset(np.arange(self.state.capacity))

    # ---- inner ----

    def _convert_values(self, batch: ReadingBatch, channel: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return [n] values in the channels' units; NaN where there is none or it is worth nothing."""
        value = np.where(_SCORED[batch.quality], batch.value, np.nan)
        if self._plain:
            return value
        with np.errstate(over="ignore"):  # what overflows is refused
            return value * self._factors[channel, batch.unit] + self._offsets[channel, batch.unit]

    def _judge(
        self, batch: ReadingBatch, channel: NDArray[np.int32], value: NDArray[np.float64], now_us: int
    ) -> NDArray[np.int8]:
        """Return [n] the index into the reasons for which each reading is refused; _GOOD where it is not."""
        verdict = np.full(len(batch), _GOOD, np.int8)
        factor = self._factors[channel, batch.unit]
        for reason, refused in (  # the first reason for a reading comes last and overwrites
            (Reason.TOO_FAR_AHEAD, batch.time_us > now_us + self.max_ahead_us),
            (Reason.NOT_FINITE, np.isinf(value)),
            (Reason.UNIT_MISMATCH, factor != factor),
            (Reason.UNKNOWN_CHANNEL, channel < 0),
        ):
            verdict[refused] = _REASONS.index(reason)
        return verdict

    def _slots_for(self, batch: ReadingBatch, verdict: NDArray[np.int8]) -> NDArray[np.int32]:
        """Return [n] slots; entities seen for the first time in a good reading get theirs, in order of appearance."""
        slot = self._slots[batch.entity]
        new = np.flatnonzero((slot < 0) & (verdict == _GOOD))
        if len(new) == 0:
            return slot
        codes, first = np.unique(batch.entity[new], return_index=True)
        names = self.vocabularies[0].names
        for code in codes[np.argsort(first)].tolist():
            if code >= 0 and len(self.entities) < self.max_entities:
                self._enter(names[code], code)
        slot = self._slots[batch.entity]
        verdict[(slot < 0) & (verdict == _GOOD)] = _REASONS.index(Reason.TOO_MANY_ENTITIES)
        return slot

    def _enter(self, name: str, code: int) -> int:
        slot = len(self.entities)
        self.entities.append(name)
        if code >= 0:
            self._slots[code] = slot
        if slot >= self.state.capacity:
            self.state.grow(2 * self.state.capacity)
        return slot

    def _note(self, screened: Screened, partition: int) -> None:
        if len(screened.slot) == 0:
            return
        screened.max_time_us = int(screened.time_us.max())
        self.state["partition"][screened.slot] = partition
        np.maximum.at(self.state["last_time_us"], screened.slot, screened.time_us)

    # ---- tables ----

    def _follow_vocabularies(self) -> None:
        """Bring the tables up to the vocabularies; what was known keeps its entries. Names may trickle in, so room is
        made by doubling, and entries without a name are as the last one."""
        entities, channels, units = self.vocabularies
        self._slots = _roomy(self._slots, len(entities))
        if len(channels) > self._known_channels:
            self._channels = _roomy(self._channels, len(channels))
            for code in range(self._known_channels, len(channels)):
                self._channels[code] = self._index.get(channels.names[code], -1)
            self._known_channels = len(channels)
        if len(units) > self._known_units:
            self._factors, self._offsets = _roomy(self._factors, len(units)), _roomy(self._offsets, len(units))
            for code in range(self._known_units, len(units)):
                self._convert(code, units.names[code])
            self._known_units = len(units)

    def _convert(self, code: int, from_unit: str) -> None:
        for c, to_unit in enumerate(self.units):
            found = self._factor_offset(from_unit, to_unit)
            if found is None:
                self._factors[c, code] = np.nan
            else:
                self._factors[c, code], self._offsets[c, code] = found
                self._plain = self._plain and found == (1.0, 0.0)

    def _factor_offset(self, from_unit: str, to_unit: str) -> tuple[float, float] | None:
        if from_unit in ("", to_unit) or not to_unit:
            return 1.0, 0.0
        return self._conversion(from_unit, to_unit) or (None if self.strict_units else (1.0, 0.0))

    # ---- refusals ----

    def _refuse(
        self, batch: ReadingBatch, block: RecordBlock | None, verdict: NDArray[np.int8], now_us: int
    ) -> list[Rejected]:
        """Return one refusal a record and reason: a list of a thousand bad readings is one dead letter."""
        bad = np.flatnonzero(verdict != _GOOD)
        pairs = batch.record[bad].astype(np.int64) * (_GOOD + 1) + verdict[bad]
        _, first, count = np.unique(pairs, return_index=True, return_counts=True)
        return [
            self._refusal(batch, block, int(i), _REASONS[verdict[i]], int(k), now_us)
            for i, k in zip(bad[first], count, strict=True)
        ]

    def _refusal(
        self, batch: ReadingBatch, block: RecordBlock | None, i: int, reason: Reason, count: int, now_us: int
    ) -> Rejected:
        detail = self._detail(batch, i, reason, now_us)
        if count > 1:
            detail += f" (and {count - 1} more in this record)"
        if block is None:
            return Rejected(reason, detail, b"", batch.topic, batch.partition)
        record = int(batch.record[i])
        key = None if block.keys is None else block.keys[record]
        raw = block.values[record] or b""
        return Rejected(reason, detail, raw, block.topic, block.partition, int(block.offsets[record]), key)

    def _detail(self, batch: ReadingBatch, i: int, reason: Reason, now_us: int) -> str:
        codes = (int(batch.entity[i]), int(batch.channel[i]), int(batch.unit[i]))
        entity, channel, unit = map(_name, self.vocabularies, codes)
        if reason is Reason.UNKNOWN_CHANNEL:
            return f"channel {channel} of entity {entity} is not configured{self._did_you_mean(channel)}"
        if reason is Reason.UNIT_MISMATCH:
            wanted = self.units[self._channels[batch.channel[i]]]
            return f"unit {unit} of entity {entity}, channel {channel}, does not convert to {wanted!r}"
        if reason is Reason.NOT_FINITE:
            wanted = self.units[self._channels[batch.channel[i]]]
            return f"{batch.value[i]:g} {unit} of entity {entity}, channel {channel}, is no finite number in {wanted!r}"
        if reason is Reason.TOO_FAR_AHEAD:
            ahead_s, most_s = (int(batch.time_us[i]) - now_us) / 1e6, self.max_ahead_us / 1e6
            return f"time of entity {entity}, channel {channel}, is {ahead_s:.0f} s ahead of now; allowed: {most_s:g} s"
        return f"entity {entity} would be one more than the {self.max_entities} that max_entities allows"

    def _did_you_mean(self, channel: str) -> str:
        # Looking names up is slow and a flood repeats few of them; when it does not, nothing is gained by keeping all.
        if channel not in self._nearest:
            if len(self._nearest) >= _KEPT_HINTS:
                self._nearest.clear()
            near = difflib.get_close_matches(channel.strip("'\""), self.channels, 1)
            known = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(self.channels[:10])}"
            self._nearest[channel] = known
        return self._nearest[channel]


def _name(vocabulary: Vocabulary, code: int) -> str:
    if code < 0:
        return "(not kept: too many names)"
    name = vocabulary.names[code]
    return repr(name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…")


def _roomy(table: NDArray[_T], names: int) -> NDArray[_T]:
    """Return ``table``, or a longer one when its last axis lacks room for ``names`` entries and the last one, which
    stays last."""
    room = table.shape[-1]
    if room > names:
        return table
    grown = np.empty((*table.shape[:-1], max(names + 1, 2 * room)), table.dtype)
    grown[..., :room] = table
    grown[..., room:] = table[..., -1:]
    return grown
