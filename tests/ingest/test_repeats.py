"""Repeats are told from corrections by what was really measured, many at a time as one by one."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from connectors.reading import Quality, Reading
from pipeline.ingest.repeats import Known, Marks, Repeats

READINGS = st.builds(
    Reading, st.sampled_from(["a", "b"]), st.just("c"), st.integers(0, 2),
    st.sampled_from([None, 0.0, -0.0, 1, 1.0, -1.0, -2.0, 0.1, 5e-324]), st.just(""),
    st.sampled_from([Quality.UNKNOWN, Quality.GOOD, Quality.MISSING]), st.sampled_from([None, 0, 1, 2]),
)  # fmt: skip


def plainly(readings: list[Reading]) -> list[Known]:
    """Return what each reading is, worked out slowly."""
    seen: dict[tuple[str, str, int], Reading] = {}
    found = []
    for one in readings:
        key = (one.entity, one.channel, one.time_us)
        before = seen.get(key)
        what = Known.NEW if before is None else _against(one, before)
        if what in (Known.NEW, Known.CORRECTION):
            seen[key] = one
        found.append(what)
    return found


def _against(one: Reading, before: Reading) -> Known:
    if (one.result_time_us is None) != (before.result_time_us is None):
        return Known.CORRECTION
    if one.result_time_us is not None and before.result_time_us is not None:
        if one.result_time_us == before.result_time_us:
            return Known.REPEAT
        return Known.OUTDATED if one.result_time_us < before.result_time_us else Known.CORRECTION
    return Known.REPEAT if (one.value, one.quality) == (before.value, before.quality) else Known.CORRECTION


@given(st.lists(READINGS, max_size=12), st.integers(1, 4))
def test_many_at_a_time_is_as_one_by_one(readings: list[Reading], size: int) -> None:
    """Protects corrections: whatever parcels readings come in, each is told as a slow and plain rule tells it."""
    repeats, found = Repeats(1000), []
    for start in range(0, len(readings), size):
        pending: Marks = {}
        found += repeats.tell_many(readings[start : start + size], pending)
        repeats.remember(pending)
    assert found == plainly(readings)


def test_values_that_hash_alike_are_told_apart() -> None:
    """Protects a correction from -1 to -2, for which Python has one hash, and zeros, which count as nothing."""
    values = [-1.0, -2.0, 0.0, None, 0.0, 2.0**61 - 1, 0.0]
    repeats = Repeats(10)
    for value, following in itertools.pairwise(values):
        pending: Marks = {}
        first = repeats.tell(Reading("a", "c", 1, value), pending)
        repeats.remember(pending)
        assert first is not Known.REPEAT
        assert repeats.tell(Reading("a", "c", 1, value), {}) is Known.REPEAT
        assert repeats.tell(Reading("a", "c", 1, following), {}) is Known.CORRECTION
