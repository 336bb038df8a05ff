"""Protects files as a source: what is read once, what is followed, what a restart knows, and what is broken."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import fsspec
import pyarrow.parquet
import pytest
from rich.console import Console

from connectors.errors import ConnectorError, Misconfigured, SourceUnavailable
from connectors.progress_bar import ProgressBar
from connectors.source import ReadingSource
from connectors.spool import Message
from pipeline.ingest.kind import SourcePlace
from pipeline.ingest.kinds.files import KIND, FilesOptions
from pipeline.ingest.trial import Trial

WIDE = {
    "time": {"field": "time", "zone": "UTC"},
    "entity": "station",
    "channels": {"pm25": {"field": "pm", "unit": "µg/m³"}},
}
HEADER = "time,station,pm\n"


def line(minute: int, value: float = 1.0) -> str:
    return f"2026-11-20 {minute // 60:02}:{minute % 60:02},S7,{value}\n"


def source(path: Path | str, tmp_path: Path, **options: object) -> ReadingSource:
    given = {"name": "files", "kind": "files", "path": str(path), "mapping": WIDE, **options}
    return KIND.build(FilesOptions.model_validate(given), SourcePlace(tmp_path, {}))


def minutes(trial: Trial) -> list[int]:
    return [reading.time_us // 60_000_000 % 1440 for reading in trial.readings()]


def read_once(tmp_path: Path, make: Callable[[], ReadingSource]) -> Trial:
    """Return a trial after one life of a source that ends by itself."""
    with Trial(tmp_path) as trial:
        trial.run(make())
        trial.until(lambda: trial.ended)
        if trial.error is not None:
            raise trial.error
        return trial


def test_files_are_read_by_name_and_it_ends(tmp_path: Path) -> None:
    """Protects ``vedette ingest`` over a history: all of it, in order, then the end; a second run brings nothing."""
    (tmp_path / "b.csv").write_text(HEADER + line(2))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((HEADER + line(0) + line(1)).encode()))
    (tmp_path / "c.jsonl").write_text('{"time": "2026-11-20T00:03:00Z", "station": "S7", "pm": 5}\n')
    trial = read_once(tmp_path, lambda: source(tmp_path / "[abc].*", tmp_path))
    assert minutes(trial) == [0, 1, 2, 3]
    assert {reading.unit for reading in trial.readings()} == {"ug/m3"}
    assert read_once(tmp_path, lambda: source(tmp_path / "[abc].*", tmp_path)).readings() == []


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    """Protects all files of a folder from one with an odd name: it is read, once, and stops nothing."""
    odd = os.fsdecode(bytes(tmp_path) + b"/a\xff\xfc.csv")
    try:
        Path(odd).write_text(HEADER + line(0))
    except OSError:
        pytest.skip("needs a file system that takes any name")
    (tmp_path / "b.csv").write_text(HEADER + line(1) + "no row\n")
    mapping = WIDE | {"entity": "@stem"}
    trial = read_once(tmp_path, lambda: source(tmp_path / "*.csv", tmp_path, mapping=mapping))
    assert [(r.entity, r.time_us // 60_000_000 % 1440) for r in trial.readings()] == [("a??", 0), ("b", 1)]
    assert read_once(tmp_path, lambda: source(tmp_path / "*.csv", tmp_path, mapping=mapping)).readings() == []


def test_canonical_lines_need_no_mapping(tmp_path: Path) -> None:
    """Protects JSON lines that say themselves what they are."""
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"entity": "S7", "channel": "o3", "time": "2026-11-20T00:01:00Z", "value": 5, "unit": "ppb"}\n'
        '{"channel": "o3", "time": "2026-11-20T00:02:00Z", "value": 5}\n{"channel": "o3"}\n'
    )
    trial = read_once(tmp_path, lambda: source(path, tmp_path, mapping=None, fixed_entity="S9"))
    assert [(r.entity, r.unit) for r in trial.readings()] == [("S7", "[ppb]"), ("S9", "")]
    ((raw, headers),) = trial.dead_letters()
    assert raw == b'{"channel": "o3"}'
    assert headers["vedette-reason"] == "missing_key"


def test_appended_lines_and_new_files_are_followed(tmp_path: Path) -> None:
    """Protects loggers' files: each line once, a half line not before its end, a rotated file under its new name."""
    log = tmp_path / "log.csv"
    log.write_text(HEADER + line(0))
    with Trial(tmp_path) as trial:
        trial.run(source(f"{tmp_path}/log*", tmp_path, follow=True, every="20ms", format="csv"))
        trial.until(lambda: minutes(trial) == [0])
        with log.open("a") as file:
            file.write(line(1) + line(2)[:-4])
        trial.until(lambda: minutes(trial) == [0, 1])
        with log.open("a") as file:
            file.write(line(2)[-4:])
        trial.until(lambda: minutes(trial) == [0, 1, 2])
        log.rename(tmp_path / "log.csv.1")
        log.write_text(HEADER + line(3))
        trial.until(lambda: minutes(trial) == [0, 1, 2, 3])
        with (tmp_path / "log.csv.1").open("a") as file:
            file.write(line(4))
        trial.until(lambda: minutes(trial) == [0, 1, 2, 3, 4])
        assert trial.count("repeats") == 0
        assert not trial.dead_letters()


def test_a_file_that_was_cut_is_read_anew(tmp_path: Path) -> None:
    """Protects what a logger writes after it emptied its file."""
    log = tmp_path / "log.csv"
    log.write_text(HEADER + line(0) + line(1))
    with Trial(tmp_path) as trial:
        trial.run(source(log, tmp_path, follow=True, every="20ms"))
        trial.until(lambda: minutes(trial) == [0, 1])
        log.write_text(HEADER + line(5))
        trial.until(lambda: minutes(trial) == [0, 1, 5])


def test_a_last_line_without_an_end_is_taken_when_the_file_is_left_alone(tmp_path: Path) -> None:
    """Protects the last reading of files that were written without a final line end."""
    log = tmp_path / "log.csv"
    log.write_text(HEADER + line(0) + line(1).rstrip())
    with Trial(tmp_path) as trial:
        trial.run(source(log, tmp_path, follow=True, every="20ms", settle="1h"))
        trial.until(lambda: minutes(trial) == [0])
        os.utime(log, (1e9, 1e9))
        trial.until(lambda: minutes(trial) == [0, 1])


def test_a_file_that_is_still_written_is_no_bad_file(tmp_path: Path) -> None:
    """Protects from dead letters for half a Parquet file, and from never reading the whole; one left alone is bad."""
    table = pyarrow.table({"time": ["2026-11-20 00:07"], "station": ["S7"], "pm": [1.5]})
    whole = io.BytesIO()
    pyarrow.parquet.write_table(table, whole)
    path = tmp_path / "a.parquet"
    path.write_bytes(whole.getvalue()[:100])
    with Trial(tmp_path) as trial:
        trial.run(source(path, tmp_path, follow=True, every="20ms", settle="1h"))
        trial.until(lambda: trial.count("events", event="unfinished") >= 2)
        assert not trial.dead_letters()
        path.write_bytes(whole.getvalue())
        trial.until(lambda: minutes(trial) == [7])
        path.write_bytes(whole.getvalue()[:200])
        os.utime(path, (1e9, 1e9))
        trial.until(lambda: len(trial.dead_letters()) == 1)


def test_a_restart_goes_on_within_a_file(tmp_path: Path) -> None:
    """Protects from reading a large file anew after a crash; the place is durable with the readings."""
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "".join(line(0, i).replace("S7", f"S{i}") for i in range(25_000)))
    with Trial(tmp_path, max_spool=1) as trial:
        delivered = trial.kafka.deliver

        def deliver_twice(messages: Sequence[Message]) -> dict[str, ConnectorError]:
            trial.kafka.up = len(trial.kafka.messages) < 15_000
            return delivered(messages)

        trial.kafka.deliver = deliver_twice  # type: ignore[method-assign]
        trial.run(source(path, tmp_path))
        trial.until(lambda: not trial.kafka.up)
        first = {reading.entity for reading in trial.readings()}
        assert 0 < len(first) < 25_000
    with Trial(tmp_path) as trial:
        trial.run(source(path, tmp_path))
        trial.until(lambda: trial.ended)
        second = {reading.entity for reading in trial.readings()}
        assert len(first | second) == 25_000
        assert not first & second


def test_what_cannot_be_read_is_told_and_stops_nothing(tmp_path: Path) -> None:
    """Protects the other files from a broken one, and says which it is."""
    (tmp_path / "a.csv").write_text("when,station\n1,2\n")
    (tmp_path / "b.csv.gz").write_bytes(
        gzip.compress((HEADER + line(0) * 50 + line(1) + os.urandom(9).hex()).encode())[:-12]
    )
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and so on PAR1")
    (tmp_path / "d.csv").write_text(HEADER + line(2) + "2026-11-20 00:03,,1\n")
    trial = read_once(tmp_path, lambda: source(tmp_path / "*.*[tvz]", tmp_path))
    assert 2 in minutes(trial)
    told = [headers["vedette-detail"] for _, headers in trial.dead_letters()]
    assert [Path(text.partition(": ")[0]).name for text in told] == ["a.csv", "b.csv.gz", "c.parquet", "d.csv"]
    assert "no column 'time'" in told[0]


@pytest.mark.parametrize(
    ("path", "told"),
    [("none/*.csv", "no such folder"), ("*.csv", "no file"), ("a.csv", "No such file"), ("", "is a folder")],
)
def test_nothing_to_read_is_told(path: str, told: str, tmp_path: Path) -> None:
    """Protects from a run that ends well and has read nothing, because of a typing error."""
    with pytest.raises(Misconfigured, match=told):
        read_once(tmp_path, lambda: source(tmp_path / path, tmp_path))


def test_a_file_that_nobody_may_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from losing a file to rights, or a disk, that are mended later; the others are read meanwhile."""
    (tmp_path / "a.csv").write_text(HEADER + line(0))
    (tmp_path / "b.csv").write_text(HEADER + line(1))
    opened = io.open

    def denied(path: object, *arguments: object, **settings: object) -> object:
        if str(path).endswith("a.csv"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **settings)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(SourceUnavailable, match=r"a\.csv: Permission denied"):
        read_once(tmp_path, lambda: source(tmp_path / "*.csv", tmp_path))
    monkeypatch.undo()
    assert minutes(read_once(tmp_path, lambda: source(tmp_path / "*.csv", tmp_path))) == [0]


def test_an_object_store_is_read_and_followed(tmp_path: Path) -> None:
    """Protects URLs: fsspec's memory store stands for others; an object that changed is read on where it was left."""
    store = fsspec.filesystem("memory")
    folder = f"/{uuid4().hex}"
    store.pipe(f"{folder}/a.csv", (HEADER + line(0)).encode())
    try:
        with Trial(tmp_path) as trial:
            trial.run(source(f"memory:/{folder}/*.csv", tmp_path, follow=True, every="20ms"))
            trial.until(lambda: minutes(trial) == [0])
            store.pipe(f"{folder}/a.csv", (HEADER + line(0) + line(1)).encode())
            store.pipe(f"{folder}/b.csv", (HEADER + line(2)).encode())
            trial.until(lambda: minutes(trial) == [0, 1, 2])
            assert trial.count("repeats") == 0
    finally:
        store.rm(folder, recursive=True)


def test_an_unknown_store_is_told_without_its_secrets(tmp_path: Path) -> None:
    """Protects keys, and whoever mistypes a protocol."""
    with pytest.raises(Misconfigured, match="Protocol not known") as told:
        source("s4://bucket/a.csv", tmp_path, storage={"secret": "hush-hush"})
    assert "hush" not in str(told.value)


def test_a_bar_is_drawn_where_somebody_looks() -> None:
    """Protects the bar: bytes of all files, on the terminal that was asked for; and none where nobody looks."""
    screen = io.StringIO()
    with ProgressBar("data/*.csv", shown=True, console=Console(file=screen, force_terminal=True, width=100)) as bar:
        bar.show(500, 1000, "a")
    assert "data/*.csv a" in screen.getvalue()
    assert "0.5/1.0 kB" in screen.getvalue() or "500/1,000 bytes" in screen.getvalue()
    with ProgressBar("data", shown=False) as bar:
        bar.show(1, 2, "a")
