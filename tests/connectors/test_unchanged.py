"""Protects Kafka from refreshes that say nothing, and corrections from being taken for them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.reading import Quality, Reading
from connectors.unchanged import Unchanged

QUALITY = st.sampled_from(list(Quality))
SAID = st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.sampled_from([None, 1.0, 2.0]), QUALITY)


def reading(said: tuple[str, int, float | None, Quality], result_time_us: int) -> Reading:
    """Return a reading that was made at ``result_time_us``."""
    entity, time_us, number, quality = said
    return Reading(entity, "stage", time_us, number, "m", quality, result_time_us)


@given(st.lists(st.lists(SAID, max_size=8), max_size=5))
def test_what_goes_on_tells_the_same_in_the_end(polls: list[list[tuple[str, int, float | None, Quality]]]) -> None:
    """Protects the newest value of everything: only what repeats it is left out, back and forth included."""
    known = Unchanged()
    truth: dict[tuple[str, int], tuple[float | None, Quality]] = {}
    passed: dict[tuple[str, int], tuple[float | None, Quality]] = {}
    for n, poll in enumerate(polls):
        found, marks = known.without([reading(said, n) for said in poll])
        known.remember(marks)
        for one in found:
            key, now = (one.entity, one.time_us), (one.value, one.quality)
            assert passed.get(key) != now
            passed[key] = now
        truth |= {(entity, time_us): (number, quality) for entity, time_us, number, quality in poll}
        assert passed == truth


def test_what_was_not_durable_is_not_remembered() -> None:
    """Protects readings whose delivery failed."""
    known = Unchanged()
    said = reading(("a", 1, 1.0, Quality.GOOD), 1)
    assert known.without([said])[0] == [said]
    assert known.without([said])[0] == [said]


def test_the_memory_is_bounded() -> None:
    """Protects the process from years of readings."""
    known = Unchanged(100)
    for time_us in range(1000):
        known.remember(known.without([reading(("a", time_us, 1.0, Quality.GOOD), 1)])[1])
    assert len(known._young) + len(known._old) <= 102
