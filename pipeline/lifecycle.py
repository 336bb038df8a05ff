"""The life of incidents as arrays: when each of E × L possible incidents opens and when it ends.

A lane is one thing that can go wrong with an entity (a limit, a channel that may be stuck, or just "an anomaly").

    calm ──evidence──► pending (n of m) ──enough──► open ──calm for long enough──► calm (cooldown)
                                                     └───too long: the new normal──► calm (disarmed until it was calm)

Legend: n entities in use, E capacity, L lanes, k openings that make a flapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.state import RowState

Bools = NDArray[np.bool_]
Places = tuple[NDArray[np.intp], ...]
"""Rows and lanes, as ``np.nonzero`` gives them: by row, then lane."""

_NEVER = np.iinfo(np.int64).min // 4
_MOST_STEPS = 64


@dataclass(frozen=True, slots=True)
class LifePolicy:
    """When incidents of a kind open and end. All durations are in steps."""

    needed: int = 1
    window: int = 1
    """Opens when ``needed`` of the last ``window`` steps had evidence."""
    clear_after: int = 1
    """Ends after so many measured steps below the clear level; a gap in the data is not calm."""
    max_steps: int = 0
    """Ends as the new normal after so many; 0 never."""
    cooldown: int = 0
    """Nothing opens again for so many after an end."""
    flap_openings: int = 0
    """So many openings within ``flap_within`` are flapping; 0 never."""
    flap_within: int = 0
    flap_calm: int = 0
    """A flapping incident ends only after so many calm steps."""

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= self.window <= _MOST_STEPS:
            raise ValueError(f"n of m needs 1 <= n <= m <= {_MOST_STEPS}, not {self.needed} of {self.window}")
        if self.clear_after < 1 or min(self.max_steps, self.cooldown, self.flap_within, self.flap_calm) < 0:
            raise ValueError("clear_after must be 1 or more steps, the other durations 0 or more")
        if self.flap_openings < 0 or self.flap_openings == 1:
            raise ValueError(f"flap_openings must be 0 (never) or 2 and more, not {self.flap_openings}")


@dataclass(slots=True)
class Transitions:
    """What changed at a step."""

    opened: Places
    ended: Places
    expired: Bools
    """[number of ended] True where it was open for too long, False where calm returned."""
    first_step: NDArray[np.int64]
    """[number of opened] the first step with evidence."""
    deferred: int
    """Openings held back because of a cooldown, counted each step."""


class Lifecycle:
    """Decides openings and ends for all entities at once; pure of names and texts."""

    def __init__(self, state: RowState, lanes: int, policy: LifePolicy) -> None:
        """Add the arrays that it needs to ``state``; the names start with ``life_``."""
        self.state = state
        self.policy = policy
        state.add("life_open", (lanes,), np.bool_)
        state.add("life_opened_step", (lanes,), np.int64, _NEVER)
        state.add("life_quiet", (lanes,), np.int32)
        state.add("life_cool_until", (lanes,), np.int64, _NEVER)
        state.add("life_disarmed", (lanes,), np.bool_)
        state.add("life_flapping", (lanes,), np.bool_)
        if policy.window > 1:
            state.add("life_history", (lanes,), np.uint64)
            state.add("life_trigger_step", (lanes,), np.int64, _NEVER)
            state.add("life_step", (), np.int64, _NEVER)
        if policy.flap_openings:
            state.add("life_openings", (lanes, policy.flap_openings - 1), np.int64, _NEVER)

    def open(self, n: int) -> Bools:
        """Return [n, L] where an incident is open; a view, not to be written to."""
        return self.state["life_open"][:n]

    def pending(self, n: int) -> Bools:
        """Return [n, L] where there is evidence, but not enough of it yet."""
        if self.policy.window == 1:
            return np.zeros_like(self.open(n))
        return (self.state["life_history"][:n] != 0) & ~self.open(n)

    def advance(
        self, step: int, evidence: Bools, trigger: Bools, held: Bools, observed: Bools, fresh: Bools | None = None
    ) -> Transitions:
        """Take one step; steps must ascend, gaps are allowed.

        Args:
            step: index of the step.
            evidence: [n, L] what counts towards opening.
            trigger: [n, L] what must have come within the last ``window`` steps for an opening; part of the evidence.
            held: [n, L] what keeps an open incident open.
            observed: [n, L] where there was a measurement that could have shown calm.
            fresh: [n, L] evidence that speaks although an incident has just ended as the new normal.
        """
        n = len(evidence)
        a = {name: array[:n] for name, array in self.state.arrays.items() if name.startswith("life_")}
        evidence = evidence | trigger
        was_open = a["life_open"].copy()
        ended, expired = self._end(a, step, was_open, held, observed)
        enough = self._enough(a, step, evidence, trigger) & ~was_open
        a["life_disarmed"] &= ~(observed & ~held & ~evidence)
        if fresh is not None:
            a["life_disarmed"] &= ~fresh
        ready = enough & ~a["life_disarmed"]
        cooling = ready & (step < a["life_cool_until"])
        opened = np.nonzero(ready & ~cooling)
        first = self._first_steps(a, step, opened)
        self._open(a, step, opened)
        return Transitions(opened, ended, expired, first, int(np.count_nonzero(cooling)))

    def end(self, row: int, lane: int) -> None:
        """End an open incident now, by another's decision; it may open again at once."""
        self.state["life_open"][row, lane] = False

    def _end(
        self, a: dict[str, NDArray[Any]], step: int, was_open: Bools, held: Bools, observed: Bools
    ) -> tuple[Places, Bools]:
        if not was_open.any():
            nothing = np.zeros(0, np.intp)
            return (nothing, nothing), np.zeros(0, np.bool_)
        policy = self.policy
        quiet = a["life_quiet"]
        quiet[...] = np.where(held | ~was_open, 0, quiet + (observed & ~held))
        calm = quiet >= np.where(a["life_flapping"], max(policy.flap_calm, policy.clear_after), policy.clear_after)
        # An end needs a calm step now: one can fall into a gap only by growing too old.
        calm &= was_open & ~held
        old = was_open & ~calm & (step - a["life_opened_step"] >= policy.max_steps) & (policy.max_steps > 0)
        places = np.nonzero(calm | old)
        a["life_open"][places] = False
        a["life_cool_until"][places] = step + policy.cooldown
        a["life_disarmed"] |= old
        return places, old[places]

    def _enough(self, a: dict[str, NDArray[Any]], step: int, evidence: Bools, trigger: Bools) -> Bools:
        """Return where n of m is reached by evidence of this very step."""
        window = self.policy.window
        if window == 1:
            return trigger
        shift = np.clip(step - a["life_step"], 1, _MOST_STEPS).astype(np.uint64)[:, None]
        history = a["life_history"]
        # A shift by the whole width is undefined in C, so it is taken in two.
        half = shift // np.uint64(2)
        mask = np.uint64((1 << window) - 1)
        history[...] = ((history << half << (shift - half)) | evidence.astype(np.uint64)) & mask
        # While open nothing is gathered for the next one: otherwise two incidents could share a first step.
        history[a["life_open"]] = 0
        a["life_step"][...] = step
        a["life_trigger_step"][trigger] = step
        candidate = evidence & (step - a["life_trigger_step"] < window)
        places = np.nonzero(candidate)
        candidate[places] = _bit_count(history[places]) >= self.policy.needed
        return candidate

    def _first_steps(self, a: dict[str, NDArray[Any]], step: int, opened: Places) -> NDArray[np.int64]:
        if self.policy.window == 1:
            return np.full(len(opened[0]), step, np.int64)
        ages = [int(bits).bit_length() - 1 for bits in a["life_history"][opened].tolist()]
        return step - np.array(ages, np.int64)

    def _open(self, a: dict[str, NDArray[Any]], step: int, opened: Places) -> None:
        if len(opened[0]) == 0:
            return
        a["life_open"][opened] = True
        a["life_opened_step"][opened] = step
        a["life_quiet"][opened] = 0
        if self.policy.window > 1:
            a["life_history"][opened] = 0
            a["life_trigger_step"][opened] = _NEVER
        if self.policy.flap_openings:
            earlier = a["life_openings"][opened]  # [number of opened, k − 1], oldest first
            a["life_flapping"][opened] = earlier[:, 0] > step - self.policy.flap_within
            a["life_openings"][opened] = np.column_stack([earlier[:, 1:], np.full(len(earlier), step)])


def _bit_count(bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of set bits of each uint64."""
    octets = np.ascontiguousarray(bits).view(np.uint8).reshape(len(bits), 8)
    return np.unpackbits(octets, axis=1).sum(axis=1, dtype=np.int64)
