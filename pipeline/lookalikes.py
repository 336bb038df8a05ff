"""What operators' labels change: incidents that look like a false alarm stay silent, and an entity's bar moves.

An incident's *context* is what it looked like when it opened and when it was largest. Each of the two blocks holds
[score, V witness scores, C signed shares of the evidence, C errors in spreads]. A later incident of the same entity and
kind looks alike when the same channels speak in the same directions and it is neither much larger nor much longer.
Silence has an end, what it holds back is counted, and it ends at once when the incident grows into something else.

Legend: V witnesses, C channels, n entities in use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.incident import Incident
from pipeline.labels import Label, LabelKind

Block: TypeAlias = "list[float]"

# How alike is alike: cosines between what speaks. Opening is the stricter test, since nothing else vouches for it.
_SAME_OPENING = 0.8
_SAME_CHANNELS = 0.6
_EXPECTED_CHANNELS = 0.5
_SAME_WITNESSES = 0.3
# A witness that shouts (a value never seen) would drown the others in a cosine.
_LOUDEST_WITNESS = 2.0
# The side of a channel whose error is smaller than this many spreads is chance: a pattern's tail is well forecast.
_CLEAR_ERROR = 2.5
# Not much larger. The score of one and the same pattern varies by half from time to time, as the detector learns.
_LARGER_SCORE = 2.0
_LARGER_ERROR = 2.0
_ERROR_SLACK = 3.0
_MOST_ERROR = 1e6
# Nor does it last much longer: a street party ends, a leak of the same size does not.
_LONGER = 2.0
# An entity's bar on both tiers: each false alarm raises it, each confirmed alarm lowers it, within these bounds.
_BAR_STEP = 0.1
_BAR = (0.9, 1.5)
_VERDICT = {LabelKind.FALSE_ALARM: 1, LabelKind.TRUE: -1, LabelKind.EXPECTED: 0}
_ALWAYS, _NEVER = -(1 << 62), 1 << 62


def context_block(
    score: float,
    witness: NDArray[np.float32],
    share: NDArray[np.float32],
    sign: NDArray[np.int8],
    error: NDArray[np.float64],
) -> Block:
    """Return what an incident looks like at one step, as 1 + V + 2 C finite numbers.

    Args:
        score: raw.
        witness: [V] scores.
        share: [C] of the evidence.
        sign: [C] side that each channel lies on.
        error: [C] observed minus expected, in spreads; NaN where unknown.
    """
    finite = np.clip(np.nan_to_num(error, nan=0.0), -_MOST_ERROR, _MOST_ERROR)
    parts = ([score], witness, share * sign, finite)
    return [round(float(number), 4) for number in np.concatenate([np.asarray(p, np.float64) for p in parts])]


def grown(context: Sequence[float], block: Block) -> list[float]:
    """Return the context of an incident that looks like ``block`` now: how it opened, and its largest.

    >>> grown(grown([], [1.0, 5.0]), [2.0, 6.0])
    [1.0, 5.0, 2.0, 6.0]
    """
    if len(context) != 2 * len(block):
        return [*block, *block]
    half = len(block)
    peak = block if block[0] > context[half] else list(context[half:])
    return [*context[:half], *peak]


class Lookalikes:
    """The labels of one stream at work. Called from the loop's thread; labels are few, so each question is cheap."""

    def __init__(self, channels: int, silent_for_us: int) -> None:
        """Begin without labels.

        Args:
            channels: C.
            silent_for_us: how long a false alarm without an end of its own keeps look-alikes silent.
        """
        self._channels = channels
        self._silent_for_us = silent_for_us
        self._by_place: dict[tuple[str, str], list[Label]] = {}
        self._labels: tuple[Label, ...] = ()
        self._bar_of: dict[str, float] = {}
        self._bars_until_us = _NEVER
        self._bars = np.ones(0, np.float32)
        self._suppressed: Counter[str] = Counter()

    def take(self, labels: Sequence[Label]) -> None:
        """Replace all labels by ``labels``."""
        self._labels = tuple(labels)
        self._by_place.clear()
        for label in labels:
            if label.kind is not LabelKind.TRUE:
                self._by_place.setdefault((label.entity, label.incident_kind), []).append(label)
        self._set_bars(_ALWAYS)

    def forget_slots(self) -> None:
        """Ask for the entities' names anew: slots have got new meanings."""
        self._bars = np.ones(0, np.float32)

    def bars(self, n: int, entity: Callable[[int], str], time_us: int) -> NDArray[np.float32] | np.float32:
        """Return what the tiers' scores have to reach at a time: [n], or just 1 where no label says otherwise."""
        if time_us >= self._bars_until_us:
            self._set_bars(time_us)
        if not self._bar_of:
            return np.float32(1.0)
        known = len(self._bars)
        if n > known:
            new = [self._bar_of.get(entity(slot), 1.0) for slot in range(known, n)]
            self._bars = np.concatenate([self._bars, np.array(new, np.float32)])
        return self._bars[:n]

    def silenced_by(self, incident: Incident, time_us: int, now: Sequence[float] | None = None) -> str:
        """Return why nothing is to be said of an incident: "lookalike", "expected", or empty where it may speak.

        The label's id is noted in the incident, which is counted once. A labelled incident is like itself.

        Args:
            incident: with its context so far.
            time_us: event time.
            now: the block of this step; None: its largest.
        """
        for label in self._by_place.get((incident.entity, str(incident.kind)), ()):
            if self._fits(label, incident, time_us, now):
                self._suppressed[label.id] += incident.silenced_by != label.id and incident.id != label.incident_id
                incident.silenced_by = label.id
                return "expected" if label.kind is LabelKind.EXPECTED else "lookalike"
        incident.silenced_by = ""
        return ""

    def is_ordinary(self, incident: Incident) -> bool:
        """Return whether what keeps an incident silent is a false alarm's label: such frames may be learned from."""
        return any(
            label.id == incident.silenced_by and label.kind is LabelKind.FALSE_ALARM
            for label in self._by_place.get((incident.entity, str(incident.kind)), ())
        )

    def take_counts(self) -> dict[str, int]:
        """Return how many incidents each label has held back since the last call, by the label's id."""
        counts, self._suppressed = dict(self._suppressed), Counter()
        return counts

    def acting(self, time_us: int) -> Counter[str]:
        """Return how many labels keep something silent at ``time_us``, by kind."""
        acting = Counter({str(LabelKind.FALSE_ALARM): 0, str(LabelKind.EXPECTED): 0})
        for labels in self._by_place.values():
            for label in labels:
                acting[str(label.kind)] += time_us < self.end_us(label)
        return acting

    def end_us(self, label: Label) -> int:
        """Return when a label's silence ends, event time."""
        return label.until_us if label.until_us is not None else label.created_us + self._silent_for_us

    # ---- inner ----

    def _set_bars(self, time_us: int) -> None:
        """Derive each entity's bar from its labels that have not ended."""
        acting = [label for label in self._labels if time_us < self.end_us(label)]
        verdicts: Counter[str] = Counter()
        for label in acting:
            verdicts[label.entity] += _VERDICT[label.kind]
        low, high = _BAR
        self._bar_of = {e: min(max(1.0 + _BAR_STEP * count, low), high) for e, count in verdicts.items() if count}
        self._bars_until_us = min((self.end_us(label) for label in acting), default=_NEVER)
        self.forget_slots()

    def _fits(self, label: Label, incident: Incident, time_us: int, now: Sequence[float] | None) -> bool:
        if not time_us < self.end_us(label):
            return False
        size = len(incident.context) // 2
        if size == 0 or len(label.context) != 2 * size or size <= 2 * self._channels:
            # Kinds without a context: the same thing said of the same entity.
            return not label.context and not incident.context and label.name in ("", incident.name)
        blocks = (label.context[:size], label.context[size:])
        present = list(now) if now is not None and len(now) == size else incident.context[size:]
        if label.kind is LabelKind.EXPECTED:
            return any(self._same_channels(present, b) >= _EXPECTED_CHANNELS for b in blocks)
        if _outlasts(incident, label, time_us) or not self._no_larger(incident.context[size:], blocks):
            return False
        opening = incident.context[:size]
        opened_alike = any(self._alike(opening, block) for block in blocks)
        return opened_alike and any(self._same_channels(present, b) >= _SAME_CHANNELS for b in blocks)

    def _alike(self, ours: Sequence[float], theirs: Sequence[float]) -> bool:
        C = self._channels
        witnesses = [np.minimum(block[1 : -2 * C], _LOUDEST_WITNESS) for block in (ours, theirs)]
        errors = np.array([ours[-C:], theirs[-C:]])
        clear = (np.abs(errors) >= _CLEAR_ERROR).all(axis=0)
        opposed = bool((clear & (errors[0] * errors[1] < 0.0)).any())
        return (
            not opposed
            and self._same_channels(ours, theirs) >= _SAME_OPENING
            and _cosine(*witnesses) >= _SAME_WITNESSES
        )

    def _same_channels(self, ours: Sequence[float], theirs: Sequence[float]) -> float:
        """Return how far the same channels speak, 0 to 1: by their shares of the evidence, or by clear errors."""
        C = self._channels
        blocks = np.abs([ours, theirs])
        alike = _cosine(*blocks[:, -2 * C : -C])
        errors = blocks[:, -C:]
        if (errors.max(axis=1) >= _CLEAR_ERROR).all():
            alike = max(alike, _cosine(*errors))
        return alike

    def _no_larger(self, ours: Sequence[float], blocks: Sequence[Sequence[float]]) -> bool:
        """Return whether neither score nor any channel's error is much beyond what was labelled."""
        C = self._channels
        if ours[0] > _LARGER_SCORE * max(block[0] for block in blocks):
            return False
        seen = np.max([np.abs(block[-C:]) for block in blocks], axis=0)
        return bool((np.abs(ours[-C:]) <= _LARGER_ERROR * seen + _ERROR_SLACK).all())


def _outlasts(incident: Incident, label: Label, time_us: int) -> bool:
    """Return whether an incident has been open for much longer than the labelled one was; not known of an open one."""
    if label.ended_us is None:
        return False
    return time_us - incident.started_us > _LONGER * (label.ended_us - label.started_us)


def _cosine(a: Sequence[float] | NDArray[np.float64], b: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the cosine of the angle between two vectors; 1 where both are zero, 0 where one is."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    if size > 0.0:
        return float(x @ y) / size
    return float(not x.any() and not y.any())
