"""The names that a decoder knows, as a hash table over their bytes: compiled code finds a name's code without Python.

Open addressing with linear probing; the hash is FNV-1a of 64 bits (draft-eastlake-fnv), which is made while a name is
read. Names of several vocabularies share the table, told apart by their kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from connectors.reading import Vocabulary

FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)
MOST_PROBES = 64
"""Entries looked at for one name: whoever chooses names so that they collide gains nothing by it."""
_FEWEST_SLOTS = 1024


class KnownNames:
    """Follows vocabularies, which only grow. A name that is not in it may be known all the same: some are left out.

    Left out are names that a reading cannot have: empty ones, unless allowed, too long ones, and what is no UTF-8.

    Args:
        vocabularies: by kind: 0, 1, 2, …; each with the most characters of a name, and whether it may be empty.
    """

    def __init__(self, *vocabularies: tuple[Vocabulary, int, bool]) -> None:
        self._vocabularies = vocabularies
        self._followed = [0] * len(vocabularies)
        self._names = 0
        self._bytes = 0
        self.slots = np.zeros(_FEWEST_SLOTS, np.int32)
        """[2^k] index into the entries + 1; 0 where there is none. At most half of them are taken."""
        self.entries = np.zeros((_FEWEST_SLOTS // 2, 4), np.int64)
        """[n, 4] kind, code, first byte, length."""
        self.pool = np.zeros(16 * _FEWEST_SLOTS, np.uint8)
        """The names' bytes."""

    def follow(self) -> None:
        """Take up what the vocabularies have got since the last call."""
        for kind, (vocabulary, longest, may_be_empty) in enumerate(self._vocabularies):
            first, last = self._followed[kind], len(vocabulary.names)
            if first < last:
                self._add(kind, first, vocabulary.names[first:last], longest, may_be_empty)
                self._followed[kind] = last

    def _add(self, kind: int, first: int, names: list[str], longest: int, may_be_empty: bool) -> None:
        found: list[tuple[int, bytes]] = []
        for code, name in enumerate(names, first):
            try:
                if len(name) <= longest and (name or may_be_empty):
                    found.append((code, name.encode()))
            except UnicodeEncodeError:  # half a surrogate pair
                continue
        if found:
            self._enter(kind, [code for code, _ in found], [name for _, name in found])

    def _enter(self, kind: int, codes: list[int], names: list[bytes]) -> None:
        raw, lengths = b"".join(names), np.fromiter(map(len, names), np.int64, len(names))
        first, first_byte = self._names, self._bytes
        self._names, self._bytes = first + len(names), first_byte + len(raw)
        self.pool = _with_room(self.pool, self._bytes)
        self.entries = _with_room(self.entries, self._names)
        self.pool[first_byte : self._bytes] = np.frombuffer(raw, np.uint8)
        self.entries[first : self._names, 0] = kind
        self.entries[first : self._names, 1] = codes
        self.entries[first : self._names, 2] = first_byte + np.cumsum(lengths) - lengths
        self.entries[first : self._names, 3] = lengths
        if 2 * self._names > len(self.slots):
            self.slots = np.zeros(4 * (1 << self._names.bit_length()), np.int32)
            first = 0
        _fill(self.slots, self.entries, self.pool, first, self._names)


def _with_room(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """Return the array, or a copy that is longer by more than is asked for: names may trickle in."""
    if rows <= len(array):
        return array
    longer = np.zeros((2 * rows, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(slots: NDArray[np.int32], entries: NDArray[np.int64], pool: NDArray[np.uint8], first: int, last: int) -> None:
    """Put entries from ``first`` to before ``last`` into their slots."""
    mask = np.uint64(len(slots) - 1)
    for i in range(first, last):
        state = FNV_OFFSET ^ np.uint64(entries[i, 0])
        for k in range(entries[i, 2], entries[i, 2] + entries[i, 3]):
            state = (state ^ np.uint64(pool[k])) * FNV_PRIME
        slot = state & mask
        while slots[np.int64(slot)] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[np.int64(slot)] = i + 1
