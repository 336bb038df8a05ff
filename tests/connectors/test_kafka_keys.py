"""Keys that are cut out on demand read like the list of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka_keys import Keys, Spans


def spans(keys: list[bytes | None]) -> Spans:
    """Return ``keys`` as they lie in a batch: one behind the other with something between."""
    data, start, end = b"", [], []
    for key in keys:
        data += b"\xff\xff"
        start.append(len(data))
        data += key or b""
        end.append(-1 if key is None else len(data))
    return Spans(data, np.array(start, np.int64), np.array(end, np.int64))


@given(st.lists(st.lists(st.none() | st.binary(max_size=5), max_size=5), max_size=4))
def test_keys_read_like_a_list(parts: list[list[bytes | None]]) -> None:
    """Protects whoever asks for one key, all, some, or one from the end: null and empty keys stay apart."""
    expected = [key for part in parts for key in part]
    keys = Keys([spans(part) for part in parts])
    assert list(keys) == expected
    assert len(keys) == len(expected)
    assert [keys[i] for i in range(len(expected))] == expected
    assert [keys[i - len(expected)] for i in range(len(expected))] == expected
    assert keys[1:-1] == expected[1:-1]
    for outside in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError):
            keys[outside]
