"""The contract of the backtest, which others script against."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import cli
from pipeline.exit_codes import OK, USAGE

ROWS = 900
TRAIN = 450
JUMP = 700
"""The row at which both channels jump, for 30 rows."""
STEP_S = 600
CONFIG = """
streams:
  - name: quick
    topics: [quick]
    step: 10m
    horizons: [1, 3]
    channels: [{name: a}, {name: b}]
    model: {hidden: 8, window: 8, attention: {examples: 4}, train: {epochs: 2}}
"""


def table(seed: int = 0, rows: int = ROWS, start: str = "2026-01-01T00:00:00Z") -> pd.DataFrame:
    """Return a regular grid of two wandering channels with a daily cycle and one jump."""
    rng = np.random.default_rng(seed)
    noise = np.zeros((rows, 2))
    for t in range(1, rows):
        noise[t] = 0.8 * noise[t - 1] + rng.normal(0.0, 1.0, 2)
    day = np.sin(2 * np.pi * np.arange(rows) / 144)
    values = 50.0 + 5.0 * day[:, None] + noise
    values[JUMP : JUMP + 30] += 60.0  # a slice: shorter tables have no jump
    times = pd.date_range(start, periods=rows, freq=f"{STEP_S}s")
    return pd.DataFrame({"when": times.strftime("%Y-%m-%dT%H:%M:%SZ"), "a": values[:, 0], "b": values[:, 1]})


def backtest(folder: Path, data: pd.DataFrame | Path, *more: str, name: str = "scores.csv") -> pd.DataFrame:
    """Run the command on ``data``; return its scores."""
    if isinstance(data, pd.DataFrame):
        path = folder / "data.csv"
        data.to_csv(path, index=False)
    else:
        path = data
    config = folder / "quick.yaml"
    config.write_text(CONFIG)
    arguments = ["--data", str(path), "--time", "when", "--channels", "a,b", "--step", "10m", "--config", str(config)]
    out = ["--out", str(folder / name)]
    assert cli.main(["backtest", *arguments, "--train-fraction", str(TRAIN / ROWS), *out, *more]) == OK
    return pd.read_csv(folder / name)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The scores of the plain table."""
    return backtest(tmp_path_factory.mktemp("plain"), table())


def test_columns_and_order(plain: pd.DataFrame) -> None:
    """Protects the scripts of others: these columns, in this order, rows in time order."""
    bands = [f"{c}_{what}" for c in "ab" for what in ("observed", "expected", "lower", "upper")]
    assert list(plain.columns) == ["entity", "time", "score", "p_value", "emitted", "incident", *bands]
    assert list(plain["time"]) == list(table()["when"])


def test_every_row_shows_its_own_values_and_band(plain: pd.DataFrame) -> None:
    """Protects from shifted rows: what was observed at a time is what the file says of it."""
    data = table()
    for channel in "ab":
        np.testing.assert_allclose(plain[f"{channel}_observed"], data[channel], rtol=1e-8)
        later = plain.iloc[10:]
        assert (later[f"{channel}_lower"] < later[f"{channel}_expected"]).all()
        assert (later[f"{channel}_expected"] < later[f"{channel}_upper"]).all()


def test_numbers_are_in_their_range(plain: pd.DataFrame) -> None:
    """Protects whoever ranks by score: finite, not negative, and probabilities that are ones."""
    assert np.isfinite(plain[["score", "p_value", "emitted"]]).all(axis=None)
    assert (plain["score"] >= 0).all()
    assert plain["p_value"].between(0, 1).all()
    assert set(plain["incident"]) <= {0, 1, 2}


def test_nothing_is_said_while_warming(plain: pd.DataFrame) -> None:
    """Protects from scores that nothing stands behind."""
    early = plain.iloc[:TRAIN]
    assert not early[["score", "emitted", "incident"]].any(axis=None)
    assert (plain["score"].iloc[TRAIN + 1 :] > 0).any()


def test_the_jump_is_found(plain: pd.DataFrame) -> None:
    """Protects the point of it all: an incident opens where the values jump."""
    assert plain["incident"].iloc[JUMP : JUMP + 3].max() > 0
    assert plain["score"].iloc[JUMP : JUMP + 3].max() > 1
    assert plain["score"].idxmax() in range(JUMP, JUMP + 33)


def test_emitted_reaches_one_exactly_where_a_watch_opens(plain: pd.DataFrame) -> None:
    """Protects the meaning of ``emitted``: what opens as a watch was let through, and what was let through is open."""
    before = plain["incident"].shift(fill_value=0)
    opens_as_watch = (before == 0) & (plain["incident"] == 1)
    assert (plain["emitted"][opens_as_watch] >= 1).all()
    assert (plain["incident"][plain["emitted"] >= 1] >= 1).all()
    assert (plain["emitted"] >= 1).any()


def test_two_runs_give_identical_files(tmp_path: Path) -> None:
    """Protects comparisons between versions: the same seed gives the same bytes."""
    for name in ("one.csv", "two.csv"):
        backtest(tmp_path, table(), "--seed", "3", name=name)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_the_future_does_not_change_the_past(tmp_path: Path, plain: pd.DataFrame) -> None:
    """Protects causality: rows before a change in the file stay as they are, training included."""
    data = table()
    cut = 640
    data.loc[cut:, ["a", "b"]] = np.random.default_rng(9).normal(500.0, 200.0, (ROWS - cut, 2))
    changed = backtest(tmp_path, data)
    pd.testing.assert_frame_equal(changed.iloc[:cut], plain.iloc[:cut])
    assert not changed.iloc[cut:].equals(plain.iloc[cut:])


def test_a_grid_beside_the_step_keeps_its_times(tmp_path: Path) -> None:
    """Protects whoever joins by time: a grid at 3 minutes 20 past the step has its own rows and values."""
    data = table(start="2026-01-01T00:03:20Z")
    scores = backtest(tmp_path, data)
    assert list(scores["time"]) == list(data["when"])
    np.testing.assert_allclose(scores["a_observed"], data["a"], rtol=1e-8)


def test_times_between_seconds_stay_whole(tmp_path: Path) -> None:
    """Protects fast grids: a time that is no whole second is not cut."""
    times = pd.date_range("2026-01-01T00:00:00.25Z", periods=40, freq="500ms")
    path = tmp_path / "fast.csv"
    pd.DataFrame({"when": times, "a": np.arange(40.0)}).to_csv(path, index=False)
    arguments = ["--data", str(path), "--time", "when", "--channels", "a", "--step", "500ms"]
    assert cli.main(["backtest", *arguments, "--out", str(tmp_path / "s.csv")]) == OK
    assert list(pd.to_datetime(pd.read_csv(tmp_path / "s.csv")["time"])) == list(times)


def test_training_ends_before_the_time_given(tmp_path: Path) -> None:
    """Protects ``--train-until``: what lies before it is learned from in silence, the row at that time is scored."""
    path = tmp_path / "data.csv"
    table().to_csv(path, index=False)
    arguments = ["--data", str(path), "--time", "when", "--channels", "a,b", "--step", "10m"]
    until = ["--train-until", table()["when"][600]]
    assert cli.main(["backtest", *arguments, *until, "--out", str(tmp_path / "s.csv")]) == OK
    scores = pd.read_csv(tmp_path / "s.csv")
    assert not scores["score"].iloc[:600].any()
    assert scores["p_value"].iloc[600] < 1 or scores["score"].iloc[600:603].any()


def test_gaps_are_rows_without_values(tmp_path: Path) -> None:
    """Protects the grid: steps that the file leaves out, or has empty at either end, have rows too."""
    data = table()
    data.loc[:4, ["a", "b"]] = np.nan
    data.loc[ROWS - 3 :, ["a", "b"]] = np.nan
    data.loc[600, "a"] = np.nan
    scores = backtest(tmp_path, data.drop(index=range(500, 520)))
    assert list(scores["time"]) == list(data["when"])
    gap = scores.iloc[500:520]
    assert gap[["a_observed", "b_observed"]].isna().all(axis=None)
    assert not gap["score"].any()
    assert np.isnan(scores["a_observed"].iloc[600])
    assert not np.isnan(scores["b_observed"].iloc[600])


def test_unknown_columns_and_compression_change_nothing(tmp_path: Path, plain: pd.DataFrame) -> None:
    """Protects users of other people's files: labels and texts in them are not read, ``.csv.gz`` is."""
    data = table()
    data["label"] = "anomaly"
    data["0"] = range(ROWS)
    path = tmp_path / "data.csv.gz"
    with gzip.open(path, "wt") as file:
        data.to_csv(file, index=False)
    pd.testing.assert_frame_equal(backtest(tmp_path, path), plain)


def test_several_entities_have_rows_of_their_own(tmp_path: Path) -> None:
    """Protects files of many stations: a row per entity and step, in time order, whatever the order in the file."""
    data = pd.concat([table(1).assign(site="north"), table(2).assign(site="süd").iloc[5:]])
    scores = backtest(tmp_path, data, "--entity", "site")
    assert scores["time"].is_monotonic_increasing
    for site, seed in (("north", 1), ("süd", 2)):
        mine = scores[scores["entity"] == site].set_index("time")
        theirs = data[data["site"] == site].set_index("when")
        np.testing.assert_allclose(mine.loc[theirs.index, "b_observed"], theirs["b"], rtol=1e-8, err_msg=str(seed))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("when", None, "no column 'when'; did you mean 'wen'?"),
        ("a", None, "no column 'a'"),
        ("when", "yesterday", "row 4: 'yesterday' is no time; write 2026-11-21T04:00:00Z"),
    ],
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str, value: str | None, message: str
) -> None:
    """Protects the user from a stack trace: the message names file, column and row; the exit code says usage."""
    data = table(rows=20) if value is None else table(rows=20).astype({"when": object})
    if value is None:
        data = data.rename(columns={column: "wen" if column == "when" else "temperature"})
    else:
        data.loc[2, column] = value
    path = tmp_path / "data.csv"
    data.to_csv(path, index=False)
    arguments = ["--data", str(path), "--time", "when", "--channels", "a,b", "--step", "10m"]
    assert cli.main(["backtest", *arguments, "--out", str(tmp_path / "s.csv")]) == USAGE
    error = capsys.readouterr().err.replace("\n", "")
    assert message in error
    assert "data.csv" in error
