"""Windows: frames equal what a plain recomputation from all readings gives, whatever way the readings came."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from connectors.reading import NO_TIME
from pipeline.closing import Added
from pipeline.frames import Aggregator, Frames, FrameStatus
from pipeline.windowing import Windows

STEP = 1_000_000
EACH = tuple(Aggregator)
C = len(EACH)
RATE = EACH.index(Aggregator.RATE)
NAN = math.nan
LONG_AGO = -(2**60)
SLOWLY = settings(deadline=None, max_examples=100)


@dataclass(frozen=True)
class R:
    """A reading: entity slot, channel index, time in µs, value, and so on."""

    slot: int
    channel: int
    time: int
    value: float
    learnable: bool = True
    result: int = int(NO_TIME)


def add(windows: Windows, readings: Sequence[R]) -> Added:
    def column(values: list[Any], dtype: type) -> NDArray[Any]:
        return np.array(values, dtype)

    return windows.add(
        column([r.slot for r in readings], np.int32),
        column([r.channel for r in readings], np.int32),
        column([r.time for r in readings], np.int64),
        column([r.value for r in readings], np.float64),
        column([r.learnable for r in readings], np.bool_),
        column([r.result for r in readings], np.int64),
    )


def close(windows: Windows, watermark_us: int) -> list[Frames]:
    closed: list[Frames] = []
    while frames := windows.close(watermark_us):
        closed += frames
    return closed


def one(aggregator: Aggregator, grace_us: int = 0, revise_us: int = 0) -> Windows:
    return Windows([aggregator], STEP, grace_us, revise_us, capacity=1)


def values_of(frames: Sequence[Frames]) -> list[float]:
    """Return the values of the first entity's first channel."""
    return [float(f.values[0, 0]) for f in frames]


# ---- the reference ----


def naive_rate(before: list[R], inside: list[R]) -> float:
    """Return the increase per second, over readings in the order of time."""
    path = sorted(before, key=lambda r: r.time)[-1:] + sorted(inside, key=lambda r: r.time)
    increase = sum(b.value - a.value if b.value >= a.value else b.value for a, b in pairwise(path))
    return NAN if len(path) < 2 else increase / ((path[-1].time - path[0].time) / 1e6)


def naive_value(aggregator: Aggregator, before: list[R], inside: list[R]) -> float:
    """Return what ``inside`` makes; ``before`` are the channel's readings of earlier steps."""
    if not inside:
        return NAN
    values = [r.value for r in inside]
    match aggregator:
        case Aggregator.MEAN:
            return sum(values) / len(values)
        case Aggregator.SUM:
            return sum(values)
        case Aggregator.MAX:
            return max(values)
        case Aggregator.MIN:
            return min(values)
        case Aggregator.LAST:
            return max(inside, key=lambda r: r.time).value
        case Aggregator.COUNT:
            return float(len(values))
        case Aggregator.RATE:
            return naive_rate(before, inside)


def naive_step(step: int, n: int, readings: Sequence[R]) -> Frames:
    """Return the frames of ``step`` for ``n`` entities, recomputed from all readings, times being distinct per cell."""
    cells: dict[tuple[int, int], list[R]] = defaultdict(list)
    for r in readings:
        cells[r.slot, r.channel].append(r)
    values, learn = np.full((n, C), NAN), np.zeros((n, C), np.bool_)
    count = np.zeros((n, C), np.int32)
    for (slot, c), all_of in cells.items():
        came = [r for r in all_of if math.ceil(r.time / STEP) == step]
        inside = [r for r in came if not math.isnan(r.value)]
        before = [r for r in all_of if math.ceil(r.time / STEP) < step and not math.isnan(r.value)]
        values[slot, c] = naive_value(EACH[c], before, inside)
        learn[slot, c] = not math.isnan(values[slot, c]) and all(r.learnable for r in inside)
        count[slot, c] = len(came)
    return Frames(step, step * STEP, values, learn, count)


def naive(readings: Sequence[R], watermark_us: int, grace_us: int) -> list[Frames]:
    if not readings:
        return []
    n = max(r.slot for r in readings) + 1
    first = min(math.ceil(r.time / STEP) for r in readings)
    due = (watermark_us - grace_us) // STEP
    return [naive_step(step, n, readings) for step in range(first, due + 1)]


def assert_same(got: Sequence[Frames], expected: Sequence[Frames]) -> None:
    """Compare frames; an entity that came later is missing from earlier frames here, and all-missing there."""
    assert [(f.step, f.time_us) for f in got] == [(f.step, f.time_us) for f in expected]
    for g, e in zip(got, expected, strict=True):
        n = len(g.values)
        np.testing.assert_allclose(g.values, e.values[:n], rtol=1e-12)
        np.testing.assert_array_equal(g.learn, e.learn[:n])
        np.testing.assert_array_equal(g.count, e.count[:n])
        assert not e.count[n:].any()


# ---- properties ----


@dataclass(frozen=True)
class Story:
    """Readings in the order in which they come, in batches; each comes within the grace after the watermark before."""

    batches: list[list[R]]
    grace_us: int

    def readings(self) -> list[R]:
        return [r for batch in self.batches for r in batch]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Draw distinct times per cell, some disorder within the grace, and cuts into batches."""
    grace_us = draw(st.sampled_from([0, STEP // 2, STEP, 3 * STEP]))
    start = draw(st.integers(-3, 3)) * 7 * STEP
    # Few cells and few times make many readings of one step likely, and so its end, which belongs to it.
    channels = draw(st.lists(st.integers(0, C - 1), min_size=1, max_size=3))
    cell = st.tuples(st.integers(0, 1), st.sampled_from(channels))
    moment = st.tuples(cell, st.integers(1, 60).map(lambda t: t * STEP // 6))
    moments = draw(st.lists(moment, unique=True, min_size=draw(st.sampled_from([0, 15, 30, 60])), max_size=80))
    value = st.one_of(st.integers(0, 20).map(float), st.floats(-1e6, 1e6), st.just(NAN))
    counted = st.one_of(st.integers(0, 20).map(float), st.just(NAN))
    readings = []
    for (slot, channel), time in moments:
        learnable = draw(st.integers(0, 5)) > 0
        readings.append(R(slot, channel, start + time, draw(counted if channel == RATE else value), learnable))
    delays = [draw(st.integers(0, grace_us)) for _ in readings]
    order = sorted(range(len(readings)), key=lambda i: (readings[i].time + delays[i], i))
    arrived = [readings[i] for i in order]
    batches: list[list[R]] = [[]]
    for reading in arrived:
        batches[-1].append(reading)
        if draw(st.integers(0, 3)) == 0:
            batches.append([])
    return Story(batches, grace_us)


def play(windows: Windows, story: Story, shuffle: np.random.Generator | None = None) -> list[Frames]:
    """Feed the story; after each batch close by the newest time so far, before which nothing is still to come."""
    frames: list[Frames] = []
    seen = LONG_AGO
    for batch in story.batches:
        order = np.arange(len(batch)) if shuffle is None else shuffle.permutation(len(batch))
        assert add(windows, [batch[i] for i in order]).late == 0
        seen = max([seen, *(r.time - 1 for r in batch)])
        frames += close(windows, seen)
    return frames


def make(story: Story, capacity: int = 8, max_open: int | None = None, revise_us: int = 0) -> Windows:
    return Windows(EACH, STEP, story.grace_us, revise_us, capacity, max_open)


@SLOWLY
@given(stories(), st.integers(0, 99))
def test_frames_equal_a_recomputation_in_any_order_within_grace(story: Story, seed: int) -> None:
    """Protects every aggregator from the order in which readings come, and from how they are batched."""
    windows = make(story)
    frames = play(windows, story, np.random.default_rng(seed))
    readings = story.readings()
    if readings:
        end = windows.last_time_us()
        frames += close(windows, end)
        assert_same(frames, naive(readings, end, story.grace_us))
    else:
        assert frames == []


@SLOWLY
@given(stories())
def test_readings_ahead_of_the_open_steps_wait_for_them(story: Story) -> None:
    """Protects a catch-up, where one block may span far more steps than can be open at once."""
    readings = story.readings()
    windows = make(story, max_open=1)
    assert add(windows, readings).late == 0
    assert_same(close(windows, windows.last_time_us()), naive(readings, windows.last_time_us(), story.grace_us))


@SLOWLY
@given(stories(), st.integers(0, 30))
def test_rows_taken_up_elsewhere_go_on_identically(story: Story, after: int) -> None:
    """Protects checkpoints: rows, in any order, and a few scalars are the whole state."""
    windows, other = make(story, revise_us=2 * STEP), make(story, capacity=1, revise_us=2 * STEP)
    first, then = Story(story.batches[:after], story.grace_us), Story(story.batches[after:], story.grace_us)
    play(windows, first)
    n = windows.state.capacity
    slots = np.arange(n)[::-1].copy()
    other.grow(n)
    for name, array in windows.state.arrays.items():
        other.state[name][slots] = array[:n]
    other.restore_shared(windows.shared())
    other.restore_held(slots, windows.held(np.arange(n)))
    moved = Story([[R(int(slots[r.slot]), *_rest(r)) for r in batch] for batch in then.batches], story.grace_us)
    seen = max((r.time - 1 for r in first.readings()), default=LONG_AGO)
    mine, theirs = _go_on(windows, then, seen), _go_on(other, moved, seen)
    assert [f.step for f in mine] == [f.step for f in theirs]
    for a, b in zip(mine, theirs, strict=True):
        for x, y in ((a.values, b.values), (a.learn, b.learn), (a.count, b.count)):
            wide = np.full((n, C), NAN if x.dtype == np.float64 else 0, x.dtype)
            wide[: len(y)] = y
            np.testing.assert_array_equal(wide[slots[: len(x)]], x)


def _rest(r: R) -> tuple[int, int, float, bool, int]:
    return r.channel, r.time, r.value, r.learnable, r.result


def _go_on(windows: Windows, story: Story, seen: int) -> list[Frames]:
    frames: list[Frames] = []
    for batch in story.batches:
        add(windows, batch)
        seen = max([seen, *(r.time - 1 for r in batch)])
        frames += close(windows, seen)
    return frames + close(windows, windows.last_time_us())


@SLOWLY
@given(stories())
def test_growing_changes_nothing(story: Story) -> None:
    """Protects what is known from the arrival of new entities."""
    assert_same(play(make(story, capacity=1), story), play(make(story, capacity=8), story))


@SLOWLY
@given(stories(), st.integers(0, 99))
def test_revisions_bring_closed_steps_to_the_truth(story: Story, seed: int) -> None:
    """Protects late data: after any late readings the newest word on each step equals the recomputation."""
    readings = story.readings()
    if not readings:
        return
    rng = np.random.default_rng(seed)
    n = max(r.slot for r in readings) + 1
    windows = Windows(EACH, STEP, 0, revise_us=40 * STEP, capacity=n)
    first = min(readings, key=lambda r: r.time)
    add(windows, [first])
    said: dict[int, Frames] = {}
    rest = [r for r in readings if r is not first]
    for i in [*rng.permutation(len(rest))]:
        for frames in close(windows, windows.last_time_us()):
            said[frames.step] = _widened(frames, n)
        assert add(windows, [rest[i]]).late == 0
        _correct(said, windows.take_revisions())
    for frames in close(windows, windows.last_time_us()):
        said[frames.step] = _widened(frames, n)
    assert_same([said[step] for step in sorted(said)], naive(readings, windows.last_time_us(), 0))


def _widened(frames: Frames, n: int) -> Frames:
    values, learn, count = np.full((n, C), NAN), np.zeros((n, C), np.bool_), np.zeros((n, C), np.int32)
    wide = Frames(frames.step, frames.time_us, values, learn, count)
    k = len(frames.values)
    wide.values[:k], wide.learn[:k], wide.count[:k] = frames.values, frames.learn, frames.count
    return wide


def _correct(said: dict[int, Frames], revisions: list[Frames]) -> None:
    """Apply revisions; each must take back exactly what was said."""
    for old, new in zip(revisions[::2], revisions[1::2], strict=True):
        assert (old.status, new.status) == (FrameStatus.OUTDATED, FrameStatus.NEW)
        assert old.step == new.step
        assert old.rows is not None
        assert new.rows is not None
        np.testing.assert_array_equal(old.rows, new.rows)
        known = said[old.step]
        np.testing.assert_array_equal(known.values[old.rows], old.values)
        np.testing.assert_array_equal(known.learn[old.rows], old.learn)
        np.testing.assert_array_equal(known.count[old.rows], old.count)
        known.values[new.rows], known.learn[new.rows], known.count[new.rows] = new.values, new.learn, new.count


# ---- closing ----


def test_a_step_owns_its_end_and_not_its_beginning() -> None:
    """Protects the time grid: a reading's time is the end of its interval."""
    windows = one(Aggregator.SUM)
    add(windows, [R(0, 0, STEP, 1.0), R(0, 0, STEP + 1, 2.0), R(0, 0, 2 * STEP, 4.0), R(0, 0, 0, 8.0)])
    frames = close(windows, 2 * STEP)
    assert [f.step for f in frames] == [0, 1, 2]
    assert values_of(frames) == [8.0, 1.0, 6.0]


def test_a_step_closes_when_the_watermark_passes_its_grace() -> None:
    """Protects late readings' chance, to the microsecond."""
    windows = one(Aggregator.SUM, grace_us=10)
    add(windows, [R(0, 0, STEP, 1.0)])
    assert windows.close(STEP + 9) == []
    assert windows.next_step == 1
    assert values_of(windows.close(STEP + 10)) == [1.0]
    assert windows.next_step == 2
    assert windows.close(STEP + 10) == []
    assert windows.close(0) == []


def test_gaps_are_frames_of_missing_values() -> None:
    """Protects silence detection and recurrent models, which need every step."""
    windows = Windows(EACH, STEP, 0, 0)
    add(windows, [R(0, c, STEP, 1.0) for c in range(C)] + [R(0, 0, 4 * STEP, 2.0)])
    frames = close(windows, 4 * STEP)
    assert [f.step for f in frames] == [1, 2, 3, 4]
    for gap in frames[1:3]:
        assert np.isnan(gap.values).all()
        assert not gap.learn.any()
        assert not gap.count.any()


def test_windows_close_by_the_clock_without_readings() -> None:
    """Protects the frames of a stream that went silent: one by one they are made, however long it lasts."""
    windows = one(Aggregator.MEAN)
    add(windows, [R(0, 0, STEP, 1.0)])
    assert [len(windows.close(step * STEP)) for step in range(1, 30)] == [1] * 29
    assert windows.skipped_steps == 0


def test_a_gap_beyond_reason_is_skipped_but_for_its_end() -> None:
    """Protects from a year of empty frames after one old reading, and the reading beyond the gap from being lost."""
    for max_open in (1, 100_000):
        windows = Windows([Aggregator.SUM], STEP, 0, 0, capacity=1, max_open=max_open)
        add(windows, [R(0, 0, STEP, 1.0)])
        close(windows, STEP)
        add(windows, [R(0, 0, 50_000 * STEP, 2.0)])
        frames = close(windows, 50_000 * STEP)
        assert [f.step for f in frames] == list(range(40_000, 50_001))
        assert values_of(frames)[-1] == 2.0
        assert windows.skipped_steps == 40_000 - 2


def test_one_call_returns_a_bounded_number_of_frames() -> None:
    """Protects the memory in a long catch-up; the next call goes on."""
    windows = one(Aggregator.SUM)
    add(windows, [R(0, 0, t * STEP, float(t)) for t in range(1, 1001)])
    sizes = []
    frames: list[Frames] = []
    while part := windows.close(1000 * STEP):
        sizes.append(len(part))
        frames += part
    assert max(sizes) <= 256
    assert values_of(frames) == [float(t) for t in range(1, 1001)]


def test_entities_may_come_between_steps() -> None:
    """Protects frames from the number of entities at the start."""
    windows = one(Aggregator.SUM)
    add(windows, [R(0, 0, STEP, 1.0)])
    assert close(windows, STEP)[0].values.tolist() == [[1.0]]
    add(windows, [R(2, 0, 2 * STEP, 5.0)])
    (frames,) = close(windows, 2 * STEP)
    np.testing.assert_array_equal(frames.values, [[NAN], [NAN], [5.0]])


def test_nothing_in_nothing_out() -> None:
    """Protects the start of a stream: no readings, no frames, no error."""
    windows = one(Aggregator.MEAN, revise_us=STEP)
    assert windows.close(10 * STEP) == []
    assert add(windows, []) == Added(0)
    assert windows.take_revisions() == []
    assert windows.next_step is None
    assert windows.close(windows.last_time_us()) == []


# ---- late ----


def test_later_than_revise_is_counted_and_dropped() -> None:
    """Protects what was said long ago from changing, and the lateness from going unseen."""
    windows = one(Aggregator.SUM, revise_us=2 * STEP)
    add(windows, [R(0, 0, STEP, 1.0)])
    close(windows, 5 * STEP)
    added = add(windows, [R(0, 0, 3 * STEP, 1.0), R(0, 0, 4 * STEP, 1.0), R(0, 0, 6 * STEP, 1.0)])
    assert added == Added(late=1, revised_steps=(4,))
    outdated, new = windows.take_revisions()
    assert (outdated.step, new.step) == (4, 4)
    assert outdated.time_us == new.time_us == 4 * STEP
    np.testing.assert_array_equal(outdated.values, [[NAN]])
    assert new.values.tolist() == [[1.0]]
    assert windows.take_revisions() == []


def test_revisions_survive_that_time_goes_on() -> None:
    """Protects a late reading that comes in the same turn as the one that closes many steps."""
    windows = one(Aggregator.SUM, revise_us=STEP)
    add(windows, [R(0, 0, STEP, 1.0)])
    close(windows, STEP)
    add(windows, [R(0, 0, STEP - 1, 2.0)] + [R(0, 0, t * STEP, 7.0) for t in range(2, 40)])
    close(windows, 39 * STEP)
    outdated, new = windows.take_revisions()
    assert (values_of([outdated]), values_of([new])) == ([1.0], [3.0])


def test_a_late_repetition_is_no_revision() -> None:
    """Protects alerts from corrections that correct nothing."""
    windows = one(Aggregator.SUM, revise_us=STEP)
    add(windows, [R(0, 0, STEP, 1.0)])
    close(windows, STEP)
    assert add(windows, [R(0, 0, STEP, 1.0)]) == Added(0)
    assert windows.take_revisions() == []


def test_nothing_before_the_first_frame_is_revised() -> None:
    """Protects from correcting frames that were never made."""
    windows = one(Aggregator.SUM, revise_us=10 * STEP)
    add(windows, [R(0, 0, 5 * STEP, 1.0)])
    close(windows, 5 * STEP)
    assert add(windows, [R(0, 0, 4 * STEP, 1.0)]) == Added(late=1)


# ---- repetitions and corrections ----


@pytest.mark.parametrize("aggregator", EACH)
def test_a_repetition_of_the_newest_reading_changes_nothing(aggregator: Aggregator) -> None:
    """Protects from records that a producer sends twice."""
    once, twice = one(aggregator), one(aggregator)
    readings = [R(0, 0, 10, 3.0), R(0, 0, 20, 5.0)]
    add(once, readings)
    add(twice, [readings[0], readings[0], readings[1], readings[1]])
    (a,), (b,) = close(once, STEP), close(twice, STEP)
    np.testing.assert_array_equal(a.values, b.values)
    np.testing.assert_array_equal(a.count, b.count)


@pytest.mark.parametrize("aggregator", EACH)
def test_a_correction_replaces_the_newest_reading_exactly(aggregator: Aggregator) -> None:
    """Protects sums and extremes from the value that was wrong, however huge; its outdated twin stays outdated."""
    wrong, right = R(0, 0, 20, 1e15, learnable=False, result=1), R(0, 0, 20, 0.5, result=2)
    corrected, plain = one(aggregator), one(aggregator)
    add(corrected, [R(0, 0, 10, 0.25), wrong, right, wrong])
    add(plain, [R(0, 0, 10, 0.25), right])
    (a,), (b,) = close(corrected, STEP), close(plain, STEP)
    np.testing.assert_array_equal(a.values, b.values)
    np.testing.assert_array_equal(a.learn, b.learn)
    assert a.learn.all()


@pytest.mark.parametrize("aggregator", [a for a in EACH if a is not Aggregator.LAST])
def test_a_newest_reading_may_be_withdrawn(aggregator: Aggregator) -> None:
    """Protects from a value that its sender has taken back; it may come again."""
    withdrawn, plain, again = one(aggregator), one(aggregator), one(aggregator)
    early = [R(0, 0, 5, 0.125), R(0, 0, 10, 0.25)]
    late = [R(0, 0, 20, 9.0, result=1), R(0, 0, 20, NAN, result=2)]
    add(withdrawn, early + late)
    add(plain, early)
    add(again, [*early, *late, R(0, 0, 20, 9.0, result=3)])
    np.testing.assert_array_equal(close(withdrawn, STEP)[0].values, close(plain, STEP)[0].values)
    add(plain, [R(0, 0, 20, 9.0)])
    whole = one(aggregator)
    add(whole, [*early, R(0, 0, 20, 9.0)])
    np.testing.assert_array_equal(close(again, STEP)[0].values, close(whole, STEP)[0].values)


def test_the_last_reading_that_was_withdrawn_leaves_a_missing_value() -> None:
    """Protects ``last`` from repeating a value that is known to be wrong."""
    windows = one(Aggregator.LAST)
    add(windows, [R(0, 0, 20, 9.0, result=1), R(0, 0, 20, NAN, result=2)])
    (frames,) = close(windows, STEP)
    assert np.isnan(frames.values).all()
    assert not frames.learn.any()
    assert frames.count.tolist() == [[1]]


def test_known_gaps_are_counted_but_are_no_values() -> None:
    """Protects means from a sensor that says that it has nothing to say."""
    windows = one(Aggregator.MEAN)
    add(windows, [R(0, 0, 10, NAN), R(0, 0, 20, 4.0), R(0, 0, 30, NAN), R(0, 0, STEP + 1, NAN)])
    first, second = close(windows, 2 * STEP)
    assert (first.values.tolist(), first.count.tolist(), first.learn.tolist()) == ([[4.0]], [[3]], [[True]])
    assert np.isnan(second.values).all()
    assert second.count.tolist() == [[1]]


@pytest.mark.parametrize("aggregator", [a for a in Aggregator if a is not Aggregator.RATE])
def test_a_step_of_too_few_values_is_missing(aggregator: Aggregator) -> None:
    """Protects from a fall that is none: a sum of the one minute of three that is known. What comes late counts."""
    windows = Windows([aggregator], STEP, 0, 5 * STEP, capacity=1, least=[2])
    add(windows, [R(0, 0, 100, 5.0), R(0, 0, 200, NAN)])
    assert close(windows, 0) == []
    (first,) = close(windows, STEP)
    assert math.isnan(first.values[0, 0])
    assert (first.learn[0, 0], first.count[0, 0]) == (False, 2), "it was heard of"
    add(windows, [R(0, 0, 300, 5.0)])
    outdated, new = windows.take_revisions()
    assert (outdated.status, new.status) == (FrameStatus.OUTDATED, FrameStatus.NEW)
    assert math.isnan(outdated.values[0, 0])
    assert new.values[0, 0] == naive_value(aggregator, [], [R(0, 0, 100, 5.0), R(0, 0, 300, 5.0)])
    assert new.learn[0, 0]


def test_a_sum_that_overflows_is_missing() -> None:
    """Protects the models from infinities that finite readings make."""
    windows = one(Aggregator.SUM)
    add(windows, [R(0, 0, 10, 1.5e308), R(0, 0, 20, 1.5e308)])
    (frames,) = close(windows, STEP)
    assert np.isnan(frames.values).all()
    assert not frames.learn.any()


def test_last_goes_by_event_time_then_result_time_then_arrival() -> None:
    """Protects ``last`` from whoever merely arrives last."""
    windows = one(Aggregator.LAST)
    add(windows, [R(0, 0, 20, 2.0), R(0, 0, 10, 1.0)])
    add(windows, [R(0, 0, STEP + 1, 5.0, result=7), R(0, 0, STEP + 1, 4.0, result=6)])
    add(windows, [R(0, 0, 2 * STEP + 1, 8.0, result=6), R(0, 0, 2 * STEP + 1, 9.0, result=6)])
    assert values_of(close(windows, 3 * STEP)) == [2.0, 5.0, 9.0]


# ---- counters ----


def test_a_counter_that_restarts_counts_from_zero() -> None:
    """Protects rates from going negative when a meter is replaced."""
    windows = one(Aggregator.RATE)
    add(windows, [R(0, 0, STEP, 100.0), R(0, 0, STEP * 3 // 2, 130.0), R(0, 0, 2 * STEP, 5.0)])
    assert values_of(close(windows, 2 * STEP))[1] == pytest.approx(30.0 + 5.0)


def test_the_first_reading_of_a_counter_makes_no_rate() -> None:
    """Protects from taking a meter's whole past for one step's increase."""
    windows = one(Aggregator.RATE)
    add(windows, [R(0, 0, STEP, 1e9)])
    (frames,) = close(windows, STEP)
    assert np.isnan(frames.values).all()
    assert frames.count.tolist() == [[1]]
    assert not frames.learn.any()


def test_a_counter_is_carried_over_a_gap_longer_than_the_ring() -> None:
    """Protects the increase over an outage, which is spread evenly over the time without readings."""
    windows = one(Aggregator.RATE)
    add(windows, [R(0, 0, STEP, 10.0)])
    close(windows, 500 * STEP)
    add(windows, [R(0, 0, 501 * STEP, 1010.0)])
    (frames,) = close(windows, 501 * STEP)
    assert frames.values.tolist() == [[pytest.approx(2.0)]]


@given(st.lists(st.integers(0, 50), min_size=2, max_size=70), st.integers(0, 12))
@SLOWLY
def test_counters_with_many_readings_a_step_are_exact_when_nearly_in_order(counts: list[int], swap: int) -> None:
    """Protects counters that are read more often than readings can be kept by time."""
    readings = [R(0, RATE, (i + 1) * 10, float(v)) for i, v in enumerate(counts)]
    moved = [r for i in range(0, len(readings), swap + 1) for r in readings[i : i + swap + 1][::-1]]
    windows = Windows(EACH, STEP, 0, 0)
    add(windows, moved)
    assert_same(close(windows, STEP), naive(readings, STEP, 0))


def test_a_counter_reading_from_before_those_kept_by_time_is_no_restart() -> None:
    """Protects the increase from an old reading that is sent again after many others of its step."""
    windows = one(Aggregator.RATE)
    readings = [R(0, 0, (i + 1) * STEP // 50, 100.0 + i) for i in range(40)]
    add(windows, [*readings, readings[0], readings[3]])
    assert values_of(close(windows, STEP)) == [pytest.approx(50.0)]


def test_a_late_counter_reading_revises_the_steps_after_it() -> None:
    """Protects the increase of a later step, which was counted from a reading that is no longer the one before it."""
    windows = one(Aggregator.RATE, revise_us=10 * STEP)
    add(windows, [R(0, 0, STEP, 0.0), R(0, 0, 3 * STEP, 20.0)])
    assert values_of(close(windows, 3 * STEP))[2] == pytest.approx(10.0)
    add(windows, [R(0, 0, 2 * STEP, 15.0)])
    revised = {f.step: values_of([f])[0] for f in windows.take_revisions() if f.status is FrameStatus.NEW}
    assert revised == {2: pytest.approx(15.0), 3: pytest.approx(5.0)}


# ---- state ----


def test_rows_from_an_older_checkpoint_do_not_leak_into_new_steps() -> None:
    """Protects open steps from a partition that was saved many rounds of the ring ago."""
    old, new = one(Aggregator.SUM, revise_us=STEP), one(Aggregator.SUM, revise_us=STEP)
    add(old, [R(0, 0, t * STEP, 1.0) for t in range(1, 8)])
    close(old, 4 * STEP)
    add(new, [R(0, 0, 100 * STEP, 1.0)])
    close(new, 100 * STEP)
    new.grow(2)
    for name, array in old.state.arrays.items():
        new.state[name][1] = array[0]
    new.restore_shared(old.shared())
    assert new.next_step == 101
    add(new, [R(1, 0, t * STEP, 3.0) for t in range(101, 104)])
    frames = close(new, 120 * STEP)
    assert [f.step for f in frames] == list(range(101, 121))
    got = [float(f.values[1, 0]) for f in frames]
    np.testing.assert_array_equal(got, [3.0] * 3 + [NAN] * 17)


def test_reset_rows_are_no_longer_in_use() -> None:
    """Protects frames from rows of entities that another process has now."""
    windows = one(Aggregator.SUM)
    add(windows, [R(0, 0, STEP, 1.0), R(3, 0, STEP, 1.0)])
    assert len(close(windows, STEP)[0].values) == 4
    windows.state.reset(np.arange(1, windows.state.capacity))
    assert len(close(windows, 2 * STEP)[0].values) == 1


def test_held_readings_travel_with_their_rows() -> None:
    """Protects readings that wait outside the ring when a checkpoint is written, from others' rows too."""
    windows, other = one(Aggregator.SUM), one(Aggregator.SUM)
    add(windows, [R(0, 0, STEP, 1.0), R(1, 0, 90 * STEP, 2.0), R(2, 0, 90 * STEP, 4.0)])
    close(windows, STEP)
    columns = windows.held(np.array([2, 0]))
    assert columns["slot"].tolist() == [0]
    other.restore_shared(windows.shared())
    other.grow(8)
    other.restore_held(np.array([5, 6]), columns)
    frames = close(other, 90 * STEP)
    np.testing.assert_array_equal(frames[-1].values[:, 0], [NAN] * 5 + [4.0])
    windows.clear_held()
    assert windows.held(np.arange(3)) == {}


# ---- refusals ----


def test_indexes_out_of_range_are_refused() -> None:
    """Protects the memory: the compiled loop does not check."""
    windows = one(Aggregator.SUM)
    for slot, channel in ((-1, 0), (0, -1), (0, 1)):
        with pytest.raises(IndexError, match=r"slots must be >= 0 and channels in 0\.\.0"):
            add(windows, [R(slot, channel, STEP, 1.0)])


@pytest.mark.parametrize(("step", "grace", "revise"), [(0, 0, 0), (1, -1, 0), (1, 0, -1)])
def test_impossible_durations_are_refused(step: int, grace: int, revise: int) -> None:
    """Protects from a grid that no time lies on."""
    with pytest.raises(ValueError, match="step_us must be > 0, the others >= 0"):
        Windows([Aggregator.SUM], step, grace, revise)
