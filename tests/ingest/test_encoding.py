"""A reading is encoded in one way, whatever it travels with."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from connectors.reading import Reading, Reason, Rejected
from connectors.spool import Parcel, Spool
from connectors.timestamps import LATEST_US
from pipeline.ingest.encoding import dead_letters_of, messages_of

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


def test_half_a_surrogate_pair_cannot_stop_the_spool(tmp_path: Path) -> None:
    """Protects all sources, while Kafka is away, from one name out of somebody's JSON: the spool takes every parcel."""
    odd = "\ud800ß"
    messages = messages_of([Reading(odd, odd, 0, 1.0, odd)], "air", "city")
    messages += dead_letters_of([Rejected(Reason.WRONG_TYPE, odd, b"{}", odd)], "dead", "city")
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    spool.put(Parcel("city", messages).parts())
    assert [message for part in spool.oldest(1 << 20) for message in part.messages] == messages
    assert messages[0].key == msgspec.json.decode(messages[0].value)["entity"] == "?ß"
    spool.close()
