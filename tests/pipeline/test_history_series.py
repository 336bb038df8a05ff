"""One entity's series out of the history: what was forecast comes back, and nobody else's rows are in the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.frames import Frames
from pipeline.history import HistoryPart, HistoryStore
from pipeline.history_files import DAY_US
from pipeline.history_rows import KeptStream
from pipeline.history_series import series
from pipeline.history_upkeep import compact
from pipeline.history_writing import HistoryWriter
from pipeline.metrics import Metrics
from tests.pipeline.histories import HOUR_US, Row, part_of, part_of_rows

CHANNELS = ("pm25", "time")
"""The second one is called like a column of the history itself."""
FOREVER_US = 1 << 60


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    """An empty history on the disk."""
    return HistoryStore(str(tmp_path))


def forecast(part: HistoryPart, seed: int = 0) -> HistoryPart:
    """Return the part with forecasts of all its rows, some unknown."""
    random = np.random.default_rng(seed)
    spread = random.uniform(0.5, 2.0, part.values.shape).astype(np.float32)
    expected = (part.values + spread).astype(np.float32)
    expected[::5], spread[::5] = np.nan, np.nan
    return replace(part, expected=expected, spread=spread)


def air(steps: int = 30, entities: int = 4) -> HistoryPart:
    """Return ``steps`` hours of ``entities``, forecasts included."""
    values = np.arange(entities * steps * 2, dtype=np.float64).reshape(entities, steps, 2)
    return forecast(part_of(values, [f"e{i}" for i in range(entities)], CHANNELS))


def check(store: HistoryStore, part: HistoryPart, entity: str) -> None:
    """Check an entity's series against the rows of ``part``."""
    rows = np.flatnonzero(part.codes == part.names.index(entity))
    rows = rows[np.argsort(part.step[rows])]
    found = series(store, "air", entity, CHANNELS, HOUR_US, 0, FOREVER_US)
    assert part.expected is not None
    assert part.spread is not None
    np.testing.assert_array_equal(found.times_us, part.step[rows] * HOUR_US)
    np.testing.assert_array_equal(found.values, part.values[rows])
    # Forecasts are kept to a 64th of their spread, spreads to 8 bits.
    np.testing.assert_allclose(found.spread, part.spread[rows], rtol=1 / 256)
    unknown = np.isnan(part.expected[rows])
    np.testing.assert_array_equal(np.isnan(found.expected), unknown)
    error = np.abs(found.expected - part.expected[rows]) / part.spread[rows]
    assert np.nanmax(error) <= 1 / 64


def test_forecasts_come_back_before_and_after_a_merge(store: HistoryStore) -> None:
    """Protects the band that an incident's page shows, also of days that were merged since."""
    part = air()
    for t in range(0, 30, 3):
        store.write("air", part.take(np.flatnonzero((part.step >= t) & (part.step < t + 3))))
    check(store, part, "e1")
    assert compact(store, "air", 2 * DAY_US) > 0
    check(store, part, "e1")
    check(store, part, "e3")


def test_only_the_time_asked_for_is_returned(store: HistoryStore) -> None:
    """Protects any time range: its first step is in it, its end is not."""
    store.write("air", air())
    found = series(store, "air", "e0", CHANNELS, HOUR_US, 5 * HOUR_US, 8 * HOUR_US)
    np.testing.assert_array_equal(found.times_us, np.array([5, 6, 7]) * HOUR_US)


def test_older_parts_without_forecasts_are_shown_without_a_band(store: HistoryStore) -> None:
    """Protects histories from before: NaN where nothing was kept, beside parts that have it."""
    old = part_of(np.ones((1, 3, 2)), ["e0"], CHANNELS)
    store.write("air", old)
    store.write("air", forecast(part_of(np.ones((1, 3, 2)), ["e0"], CHANNELS, step0=3)))
    for _ in range(2):
        found = series(store, "air", "e0", CHANNELS, HOUR_US, 0, FOREVER_US)
        assert np.isnan(found.expected[:3]).all()
        np.testing.assert_array_equal(np.isnan(found.expected[3:]).all(axis=1), [True, False, False])
        compact(store, "air", 2 * DAY_US)


def test_a_revision_changes_values_and_leaves_the_verdict_and_the_forecast(store: HistoryStore) -> None:
    """Protects what was said at the time: late data changes what was measured, not what had been expected."""
    said = forecast(part_of_rows([Row("e0", t, (1.0, 2.0), (True, True), 2, 1) for t in range(2)], CHANNELS))
    store.write("air", replace(said, expected=said.values.astype(np.float32), spread=np.ones((2, 2), np.float32)))
    store.write("air", part_of_rows([Row("e0", 1, (7.0, np.nan), (True, False), -1, 2)], CHANNELS))
    found = series(store, "air", "e0", CHANNELS, HOUR_US, 0, FOREVER_US)
    np.testing.assert_array_equal(found.values, [[1.0, 2.0], [7.0, np.nan]])
    np.testing.assert_array_equal(found.expected, [[1.0, 2.0], [1.0, 2.0]])
    assert found.level.tolist() == [2, 2]
    store.write("air", part_of_rows([Row("e0", 0, (np.nan, np.nan), (False, False), -1, 3)], CHANNELS))
    assert series(store, "air", "e0", CHANNELS, HOUR_US, 0, FOREVER_US).times_us.tolist() == [HOUR_US]


def test_nothing_kept_is_no_error(store: HistoryStore) -> None:
    """Protects pages of entities that are new, or not known at all."""
    assert len(series(store, "air", "e0", CHANNELS, HOUR_US, 0, FOREVER_US)) == 0
    store.write("air", air())
    assert len(series(store, "air", "nobody", CHANNELS, HOUR_US, 0, FOREVER_US)) == 0
    assert len(series(store, "air", "e0", CHANNELS, 60_000_000, 0, FOREVER_US)) == 0


def test_when_there_is_no_time_the_newest_comes_first_and_the_gap_is_told(store: HistoryStore) -> None:
    """Protects a page from a history of years: it is shown late rather than never, and says so."""
    part = air(steps=72)
    store.write("air", part)
    clock = iter([0.0, 1.0, 99.0])
    found = series(store, "air", "e0", CHANNELS, HOUR_US, 0, FOREVER_US, patience_s=5.0, monotonic=lambda: next(clock))
    assert found.times_us[-1] == 71 * HOUR_US
    assert 0 < found.complete_from_us <= int(found.times_us[0])


def test_hostile_names_and_numbers_are_kept(store: HistoryStore) -> None:
    """Protects from names that no column can hold, and from forecasts that are no numbers."""
    name = "\ud800'; DROP TABLE\x00"
    part = part_of(np.ones((1, 4, 2)), [name], CHANNELS)
    odd = np.array([[np.inf, 1e38], [1e-38, -np.inf], [0.0, -0.0], [np.nan, 5.0]], np.float32)
    store.write("air", replace(part, expected=odd, spread=np.abs(odd[::-1])))
    found = series(store, "air", name, CHANNELS, HOUR_US, 0, FOREVER_US)
    assert len(found) == 4
    known = ~np.isnan(found.expected)
    assert np.isfinite(found.expected[known]).all()
    assert (found.spread[known] > 0).all()


def test_the_writer_hands_forecasts_on(store: HistoryStore) -> None:
    """Protects the way from the loop to the page: what was expected of exactly those rows that had a value."""
    values = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])
    frames = Frames(5, 5 * HOUR_US, values, ~np.isnan(values), (~np.isnan(values)).astype(np.int32))
    expected, spread = values + 1.0, np.ones((3, 2), np.float32)
    expected[1] = 50.0
    writer = HistoryWriter(store, {"air": KeptStream(CHANNELS, HOUR_US)}, Metrics().models)
    level, score = np.zeros(3, np.int8), np.zeros(3, np.float32)
    writer.add("air", ["e0", "e1", "e2"], frames, level, score, expected=expected, spread=spread)
    expected[:] = -1.0  # its arrays may be changed afterwards
    assert writer.close()
    assert series(store, "air", "e2", CHANNELS, HOUR_US, 0, FOREVER_US).expected.tolist() == [[4.0, 5.0]]
    assert len(series(store, "air", "e1", CHANNELS, HOUR_US, 0, FOREVER_US)) == 0
