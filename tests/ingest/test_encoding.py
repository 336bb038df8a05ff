"""A reading is encoded in one way, whatever it travels with."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from connectors.reading import Reading
from connectors.timestamps import LATEST_US
from pipeline.ingest.encoding import messages_of

TIMES = st.integers(0, LATEST_US - 1) | st.integers(0, LATEST_US // 10**6 - 1).map(lambda s: s * 10**6)


def encoded(readings: list[Reading]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for message in messages_of(readings, "air", "city"):
        document = msgspec.json.decode(message.value)
        found += document if isinstance(document, list) else [document]
    return found


@given(st.lists(TIMES, min_size=1, max_size=4), st.sampled_from([1, 60]))
def test_an_id_does_not_depend_on_company(times_us: list[int], copies: int) -> None:
    """Protects whoever tells repeats by their ids: the same reading has one, alone and among times of any precision."""
    readings = [Reading("a", "pm25", time_us, 1.5) for time_us in times_us] * copies
    assert encoded(readings) == [encoded([reading])[0] for reading in readings]
