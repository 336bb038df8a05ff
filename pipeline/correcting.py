"""Correcting: what one network adds to the linear forecast, for whom it is believed, and how that belief begins.

A network is stepped at every frame for every entity. Where it has lately been the better forecaster of an entity's
channel its correction counts; elsewhere the linear forecast stands, so that an untrained, stale or misled network
cannot make the forecast worse for long.

Legend: n entities in use, C channels, N horizons, K neighbours, I network inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.features import block, build_inputs
from models.state import RowState
from models.streaming import StreamingAttentionLSTM
from models.weights import Weights

NeighboursOf = Callable[[Sequence[str]], NDArray[np.int32]]
"""From all names by slot to [n, K] slots of each one's neighbours, -1 for none."""

# Memory of the two error means that decide whom to trust: long enough that a network must be better for days, short
# enough that one that has gone stale is dropped within days.
_TRUST_GAIN = 1.0 / 200.0
# Errors beyond this many spreads count as this many: an anomaly says nothing about which forecaster is better.
ERROR_CLIP = 6.0
# A network of which nothing is known counts as this much worse than the linear forecast: it must be seen to be better.
HEAD_START = 1.02
# A trusted network narrows the spread by as much as it is better, but never below this share.
_NARROWEST = 0.5
# Steps of an entity after which its state is that of a network that has always run, near enough to be judged by.
_SETTLED = 8
# Comparisons that "this much worse" counts for where all entities of a channel are taken together, and comparisons that
# all entities together count for where one of them is judged.
_POOL_PRIOR, _OWN_PRIOR = 100.0, 50.0
# Entities err together (weather, traffic): a step tells no more of a channel than so many independent comparisons.
_MOST_PER_STEP = 8.0


@dataclass(frozen=True, slots=True)
class RecentFrame:
    """A frame as networks need it, whichever they are. Its arrays are never written to once it is made."""

    step: int
    time_us: int
    """The end of the step."""
    inputs: NDArray[np.float32]
    """[n, I] with nobody's neighbours."""
    miss: NDArray[np.float32]
    """[n, C] how far the linear forecast for this frame was off, in its spreads; NaN where nothing is to be learned."""
    admit: NDArray[np.int32]
    """[n] place among the examples that this step's state goes to; -1 for none."""


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest frames, oldest first, and whom their rows are about: all that is needed to let another network in.

    A new one replaces it at each step boundary and nothing in it ever changes, so any thread may look at it.
    """

    epoch: int
    """Counts how often slots have got new meanings; what was made of frames of another epoch is void."""
    capacity: int
    names: tuple[str, ...]
    frames: tuple[RecentFrame, ...]


class BrokenNetworkError(Exception):
    """A network gave corrections that are no numbers."""


class Correction:
    """One network at work: its states, whose neighbours it looks at, and where it is believed."""

    def __init__(
        self,
        weights: Weights,
        version: str,
        capacity: int,
        *,
        embedding_ids: Mapping[str, int] | None = None,
        neighbours_of: NeighboursOf | None = None,
        ring: Literal["f32", "bf16"] = "f32",
    ) -> None:
        """Make a cold one, believed nowhere.

        Args:
            weights: of the network.
            version: what it is called.
            capacity: entity slots.
            embedding_ids: entity to row of the embedding; others are unknown to it.
            neighbours_of: whose states each entity looks at; None: nobody's.
            ring: how past states are held.
        """
        self.version = version
        self.network = StreamingAttentionLSTM(weights, capacity, ring_dtype=ring)
        self.channels = weights.sizes.channels
        self.neighbours = np.full((capacity, weights.sizes.neighbours), -1, np.int32)
        self._embedding = np.zeros(capacity, np.int32)
        self._embedding_ids = dict(embedding_ids or {})
        self._neighbours_of = neighbours_of
        self.trust = RowState(capacity)
        self.trust.add("next", (self.channels,), np.float32, np.nan)
        self.trust.add("linear", (self.channels,), np.float32, 1.0)
        self.trust.add("error", (self.channels,), np.float32, HEAD_START)

    @property
    def capacity(self) -> int:
        """Entity slots."""
        return len(self._embedding)

    def grow(self, capacity: int) -> None:
        """Make room for more entities."""
        self.network.grow(capacity)
        self.trust.grow(capacity)
        missing = capacity - self.capacity
        if missing > 0:
            self.neighbours = np.pad(self.neighbours, ((0, missing), (0, 0)), constant_values=-1)
            self._embedding = np.pad(self._embedding, (0, missing))

    def name_entities(self, first_slot: int, names: Sequence[str]) -> None:
        """Tell the names of all entities, of which those from ``first_slot`` on are new: so each gets its embedding,
        and all the neighbours that the network was trained with, as far as they are here."""
        self._embedding[first_slot : len(names)] = [self._embedding_ids.get(n, 0) for n in names[first_slot:]]
        if self._neighbours_of is not None and self.neighbours.shape[1] > 0:
            self.neighbours[: len(names)] = self._neighbours_of(names)

    def start_anew(self, rows: NDArray[np.intp], linear_error: NDArray[np.float32]) -> None:
        """Let the network earn its trust anew for ``rows``, whose linear forecasts are off by [k, C] on average."""
        self.trust["next"][rows] = np.nan
        self.trust["linear"][rows] = linear_error
        self.trust["error"][rows] = linear_error * np.float32(HEAD_START)

    def compare(self, miss: NDArray[np.float32]) -> None:
        """Move the error means by a frame that came; ``miss`` [n, C] is how far the linear forecast was off."""
        trust, n = self.trust.arrays, len(miss)
        own = np.abs(miss - trust["next"][:n])
        known = ~np.isnan(own)
        for name, error in (("error", own), ("linear", np.abs(miss))):
            mean = trust[name][:n]
            mean += np.float32(_TRUST_GAIN) * np.where(known, np.minimum(error, ERROR_CLIP) - mean, np.float32(0.0))

    def step(self, frame: RecentFrame) -> NDArray[np.float32]:
        """Take a frame; return [n, C, N] corrections of the linear forecast in units of its spread.

        Raises:
            BrokenNetworkError: if one of them is no number, or absurdly large.
        """
        n = len(frame.inputs)
        out = self.network.step(
            self._inputs(frame), frame.step, self.neighbours[:n], frame.admit, self._embedding[:n]
        )
        with np.errstate(over="ignore", invalid="ignore"):
            total = out.sum()  # one number tells of any NaN or infinity in it
        if not np.isfinite(total):
            bad = int((~np.isfinite(out)).any(axis=(1, 2)).sum())
            raise BrokenNetworkError(f"corrections of {bad} of {n} entities are no numbers at step {frame.step}")
        self.trust["next"][:n] = out[:, :, 0]
        return out

    def say_nothing(self, n: int) -> None:
        """Let the coming frame not be compared with what was said before a step that could not be taken.

        The network itself lets steps that are left out stand still.
        """
        self.trust["next"][:n] = np.nan

    def ratio(self, n: int) -> NDArray[np.float32]:
        """Return [n, C] the network's error over that of the linear forecast; it is believed where this is below 1."""
        return self.trust["error"][:n] / np.maximum(self.trust["linear"][:n], np.float32(1e-30))

    def trusted(self, n: int) -> NDArray[np.bool_]:
        """Return [n, C] where the network is believed now."""
        return self.trust["error"][:n] < self.trust["linear"][:n]

    def applied(
        self, correction: NDArray[np.float32], linear: NDArray[np.float64], spread: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return the forecast and its spread, corrected where the network is believed; all [n, C, N]."""
        n = len(linear)
        trusted = self.trusted(n)
        narrowed = np.where(trusted, np.maximum(self.ratio(n), np.float32(_NARROWEST)), np.float32(1.0))
        forecast = np.where(trusted[:, :, None], linear + correction * spread, linear)
        return forecast, spread * narrowed[:, :, None]

    def _inputs(self, frame: RecentFrame) -> NDArray[np.float32]:
        if self.neighbours.shape[1] == 0:
            return frame.inputs
        own, C = frame.inputs, self.channels
        level, change, mask = (own[:, block(C, i)] for i in range(3))
        return build_inputs(
            level, change, mask > 0, frame.time_us, self.neighbours[: len(own)], np.empty_like(own)
        )


class Rebuilding:
    """Brings a cold network to the present by the recent frames, and judges it on them meanwhile.

    Belongs to one thread at a time. What was seen of the network here is all that its trust begins with: the trust
    that another network has earned is not handed on, for it says nothing about this one. Where too little was seen
    the linear forecast stands until the network has shown more, a few dozen steps at most.
    """

    def __init__(self, correction: Correction, recent: Recent) -> None:
        """Begin with a cold ``correction`` that has room for ``recent``'s capacity."""
        self.correction = correction
        self.epoch = recent.epoch
        self.named = len(recent.names)
        self._last: RecentFrame | None = None
        shape = (correction.capacity, correction.channels)
        self._own, self._linear = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._steps = 0
        correction.name_entities(0, recent.names)

    def missing(self, recent: Recent) -> tuple[RecentFrame, ...] | None:
        """Return the frames that are still to be taken; None where they cannot be had any more: begin again."""
        if recent.epoch != self.epoch:
            return None
        if self._last is None:
            return recent.frames
        for i, frame in enumerate(recent.frames):
            if frame is self._last:
                return recent.frames[i + 1 :]
        return None

    def take(self, frames: Sequence[RecentFrame]) -> None:
        """Step the network through ``frames``.

        Raises:
            BrokenNetworkError: if its corrections are no numbers.
        """
        for frame in frames:
            self._make_room(len(frame.inputs))
            self._judge(frame.miss)
            self.correction.step(frame)
            self._last = frame

    def seed(self, linear_error: NDArray[np.float32]) -> None:
        """Let the network's trust begin with what was seen of it.

        Its error relative to the linear forecast's is estimated per channel over all entities, which share its weights,
        drawn to ``HEAD_START`` by as much as there are too few comparisons; and from there per entity, drawn to the
        channel's by as much as there are too few of its own.

        Args:
            linear_error: [n, C] what the linear forecast is off by on average, in spreads.
        """
        n = len(linear_error)
        self._make_room(n)
        own, linear = self._own[:n], self._linear[:n]
        usual = linear_error.mean(axis=0, dtype=np.float64) if n else np.ones(self.correction.channels)
        total = linear.sum(axis=0, dtype=np.float64)
        worth = np.minimum(1.0, _MOST_PER_STEP * self._steps * usual / np.maximum(total, 1e-9))
        prior = _POOL_PRIOR * usual
        pooled = (worth * own.sum(axis=0, dtype=np.float64) + HEAD_START * prior) / (worth * total + prior)
        priors = _OWN_PRIOR * np.maximum(linear_error, np.float32(1e-6))
        trust = self.correction.trust
        trust["linear"][:n] = linear_error
        trust["error"][:n] = linear_error * (own + pooled.astype(np.float32) * priors) / (linear + priors)

    def _judge(self, miss: NDArray[np.float32]) -> None:
        """Compare the two forecasts for a frame where the network's state had settled."""
        n = len(miss)
        own = np.abs(miss - self.correction.trust["next"][:n])
        known = ~np.isnan(own) & (self.correction.network.state["age"][:n, None] >= _SETTLED)
        self._own[:n] += np.where(known, np.minimum(own, ERROR_CLIP), np.float32(0.0))
        self._linear[:n] += np.where(known, np.minimum(np.abs(miss), ERROR_CLIP), np.float32(0.0))
        self._steps += bool(known.any())

    def _make_room(self, n: int) -> None:
        """Take in entities that joined since: the rows of newer frames are more."""
        if n > self.correction.capacity:
            self.correction.grow(max(n, 2 * self.correction.capacity))
        missing = self.correction.capacity - len(self._own)
        if missing > 0:
            self._own = np.pad(self._own, ((0, missing), (0, 0)))
            self._linear = np.pad(self._linear, ((0, missing), (0, 0)))
