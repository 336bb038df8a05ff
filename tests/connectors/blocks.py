"""Record blocks for tests, made from values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from connectors.base import RecordBlock

SENT_MS = 1_795_190_400_000  # 2026-11-20T16:00:00Z


def block_of(
    *values: bytes | None,
    keys: Sequence[bytes | None] | None = None,
    headers: Mapping[int, Sequence[tuple[str, bytes]]] | None = None,
) -> RecordBlock:
    """Return a block of partition 3 of ``readings``, offsets from 100, all records sent at ``SENT_MS``."""
    n = len(values)
    offsets = np.arange(100, 100 + n, dtype=np.int64)
    return RecordBlock("readings", 3, values, offsets, np.full(n, SENT_MS, np.int64), 100 + n, keys, headers)
