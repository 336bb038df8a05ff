"""The life of incidents as arrays: when each of E × L possible incidents opens and when it ends.

A lane is one thing that can go wrong with an entity (a limit, a channel that may be stuck, or just "an anomaly").

    calm ──evidence──► pending (n of m) ──enough──► open ──calm for long enough──► calm (cooldown)
                                                     └───too long: the new normal──► calm (disarmed until it was calm)

Legend: n entities in use, E capacity, L lanes, k openings that make a flapping.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def check_n_of_m(needed: int, window: int) -> None:
    """Raise ``ValueError`` unless 1 <= needed <= window <= 64: the history is a word of 64 bits."""
    if not 1 <= needed <= window <= _MOST_STEPS:
        raise ValueError(f"n of m needs 1 <= n <= m <= {_MOST_STEPS}, not {needed} of {window}")


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
        check_n_of_m(self.needed, self.window)
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

    def __init__(
        self,
        state: RowState,
        lanes: int,
        policy: LifePolicy,
        n_of_m: Sequence[tuple[int, int]] | None = None,
        prefix: str = "life_",
    ) -> None:
        """Add the arrays that it needs to ``state``.

        Args:
            state: where they live.
            lanes: L.
            policy: when incidents open and end.
            n_of_m: (needed, window) of each lane, where they differ; all as the policy says otherwise.
            prefix: of the arrays' names, so that several lives can share a state.
        """
        self.state = state
        self.policy = policy
        self.prefix = prefix
        n_of_m = n_of_m if n_of_m is not None else [(policy.needed, policy.window)] * lanes
        self._needed = np.array([needed for needed, _ in n_of_m], np.int64)  # [L]
        self._window = np.array([window for _, window in n_of_m], np.int64)  # [L]
        self._mask = np.array([(1 << window) - 1 for _, window in n_of_m], np.uint64)  # [L]
        self._gathers = bool((self._window > 1).any())
        state.add(prefix + "open", (lanes,), np.bool_)
        state.add(prefix + "opened_step", (lanes,), np.int64, _NEVER)
        state.add(prefix + "quiet", (lanes,), np.int32)
        state.add(prefix + "cool_until", (lanes,), np.int64, _NEVER)
        state.add(prefix + "disarmed", (lanes,), np.bool_)
        state.add(prefix + "flapping", (lanes,), np.bool_)
        if self._gathers:
            state.add(prefix + "history", (lanes,), np.uint64)
            state.add(prefix + "trigger_step", (lanes,), np.int64, _NEVER)
            state.add(prefix + "step", (), np.int64, _NEVER)
        if policy.flap_openings:
            state.add(prefix + "openings", (lanes, policy.flap_openings - 1), np.int64, _NEVER)

    def open(self, n: int) -> Bools:
        """Return [n, L] where an incident is open; a view, not to be written to."""
        return self.state[self.prefix + "open"][:n]

    def pending(self, n: int) -> Bools:
        """Return [n, L] where there is evidence, but not enough of it yet."""
        if not self._gathers:
            return np.zeros_like(self.open(n))
        return (self.state[self.prefix + "history"][:n] != 0) & ~self.open(n)

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
        a = self._rows(n)
        evidence = evidence | trigger
        was_open = a["open"].copy()
        ended, expired = self._end(a, step, was_open, held, observed)
        enough = self._enough(a, step, evidence, trigger) & ~was_open
        a["disarmed"] &= ~(observed & ~held & ~evidence)
        if fresh is not None:
            a["disarmed"] &= ~fresh
        ready = enough & ~a["disarmed"]
        cooling = ready & (step < a["cool_until"])
        opened = np.nonzero(ready & ~cooling)
        first = self._first_steps(a, step, opened)
        self._open(a, step, opened)
        return Transitions(opened, ended, expired, first, int(np.count_nonzero(cooling)))

    def flapping(self, row: int, lane: int) -> bool:
        """Return whether the open incident there is one of many."""
        return bool(self.state[self.prefix + "flapping"][row, lane])

    def end(self, row: int, lane: int) -> None:
        """End an open incident now, by another's decision; it may open again at once."""
        self.state[self.prefix + "open"][row, lane] = False

    def _rows(self, n: int) -> dict[str, NDArray[Any]]:
        """Return the first ``n`` rows of its arrays by their names without the prefix."""
        prefix = self.prefix
        arrays = self.state.arrays.items()
        return {name.removeprefix(prefix): array[:n] for name, array in arrays if name.startswith(prefix)}

    def _end(
        self, a: dict[str, NDArray[Any]], step: int, was_open: Bools, held: Bools, observed: Bools
    ) -> tuple[Places, Bools]:
        if not was_open.any():
            nothing = np.zeros(0, np.intp)
            return (nothing, nothing), np.zeros(0, np.bool_)
        policy = self.policy
        quiet = a["quiet"]
        quiet[...] = np.where(held | ~was_open, 0, quiet + (observed & ~held))
        calm = quiet >= np.where(a["flapping"], max(policy.flap_calm, policy.clear_after), policy.clear_after)
        # An end needs a calm step now: one can fall into a gap only by growing too old.
        calm &= was_open & ~held
        old = was_open & ~calm & (step - a["opened_step"] >= policy.max_steps) & (policy.max_steps > 0)
        places = np.nonzero(calm | old)
        a["open"][places] = False
        a["cool_until"][places] = step + policy.cooldown
        a["disarmed"] |= old
        return places, old[places]

    def _enough(self, a: dict[str, NDArray[Any]], step: int, evidence: Bools, trigger: Bools) -> Bools:
        """Return where n of m is reached by evidence of this very step."""
        if not self._gathers:
            return trigger
        shift = np.clip(step - a["step"], 1, _MOST_STEPS).astype(np.uint64)[:, None]
        history = a["history"]
        # A shift by the whole width is undefined in C, so it is taken in two.
        half = shift // np.uint64(2)
        history[...] = ((history << half << (shift - half)) | evidence.astype(np.uint64)) & self._mask
        # While open nothing is gathered for the next one: otherwise two incidents could share a first step.
        history[a["open"]] = 0
        a["step"][...] = step
        a["trigger_step"][trigger] = step
        candidate = evidence & (step - a["trigger_step"] < self._window)
        places = np.nonzero(candidate)
        candidate[places] = _bit_count(history[places]) >= self._needed[places[1]]
        return candidate

    def _first_steps(self, a: dict[str, NDArray[Any]], step: int, opened: Places) -> NDArray[np.int64]:
        if not self._gathers:
            return np.full(len(opened[0]), step, np.int64)
        ages = [int(bits).bit_length() - 1 for bits in a["history"][opened].tolist()]
        return step - np.array(ages, np.int64)

    def _open(self, a: dict[str, NDArray[Any]], step: int, opened: Places) -> None:
        if len(opened[0]) == 0:
            return
        a["open"][opened] = True
        a["opened_step"][opened] = step
        a["quiet"][opened] = 0
        if self._gathers:
            a["history"][opened] = 0
            a["trigger_step"][opened] = _NEVER
        if self.policy.flap_openings:
            earlier = a["openings"][opened]  # [number of opened, k − 1], oldest first
            a["flapping"][opened] = earlier[:, 0] > step - self.policy.flap_within
            a["openings"][opened] = np.column_stack([earlier[:, 1:], np.full(len(earlier), step)])


def _bit_count(bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of set bits of each uint64."""
    octets = np.ascontiguousarray(bits).view(np.uint8).reshape(len(bits), 8)
    return np.unpackbits(octets, axis=1).sum(axis=1, dtype=np.int64)
