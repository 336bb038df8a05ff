"""`vedette history` shows what is kept and tidies it, and says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.history import HistoryStore
from tests.pipeline.histories import part_of

STREAM = "streams:\n  - name: air\n    topics: [air]\n    step: 1h\n    channels: [{name: pm25}]\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return the path of a config with a history of two days in four parts, long ago."""
    path = tmp_path / "vedette.yaml"
    path.write_text(f"{STREAM}history: {{directory: {tmp_path}/history, retention: 3000d}}\n")
    store = HistoryStore(str(tmp_path / "history"))
    for begin in range(0, 48, 12):
        step0 = 493_080 + begin  # 2026-04-02
        store.write("air", part_of(np.ones((2, 12, 1)), ["a", "b"], ["pm25"], step0=step0))
    return str(path)


def test_list_shows_each_stream(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the operator's view: days, rows and files, in a table and as JSON, and files that are not ours."""
    assert main(["history", "list", "--config", config]) == 0
    out = capsys.readouterr().out
    assert "2026-04-02" in out
    assert "2026-04-03" in out
    stranger = Path(config).parent / "history" / "stream=air" / "notes.txt"
    stranger.write_text("mine")
    assert main(["history", "list", "--config", config, "--json"]) == 0
    (air,) = json.loads(capsys.readouterr().out)["streams"]
    assert (air["stream"], air["rows"], air["files"]) == ("air", 96, 4)
    assert [day["rows"] for day in air["days"]] == [48, 48]
    assert air["foreign_files"] == ["stream=air/notes.txt"]
    assert main(["history", "list", "--config", config]) == 0
    assert "1 files are not ours" in capsys.readouterr().out


def test_compact_merges(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects upkeep by hand."""
    assert main(["history", "compact", "--config", config]) == 0
    assert "4 parts merged" in capsys.readouterr().out
    assert len(list(Path(config).parent.rglob("*.parquet"))) == 2


def test_what_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the operator from an empty answer without a reason."""
    path = tmp_path / "vedette.yaml"
    path.write_text(f"{STREAM}history: {{directory: {tmp_path}/history}}\n")
    assert main(["history", "list", "--config", str(path)]) == 0
    assert "nothing is kept yet" in " ".join(capsys.readouterr().out.split())
    path.write_text(f"{STREAM}history: {{directory: null}}\n")
    assert main(["history", "list", "--config", str(path)]) == 78
    assert "history.directory is null" in capsys.readouterr().err
    path.write_text(f"{STREAM}history: {{directory: 'nowhere://x'}}\n")
    assert main(["history", "list", "--config", str(path)]) == 78
    assert "a package installed" in capsys.readouterr().err
    (tmp_path / "file").write_text("in the way")
    path.write_text(f"{STREAM}history: {{directory: {tmp_path}/file}}\n")
    assert main(["history", "list", "--config", str(path)]) == 69
    assert main(["history", "list", "--config", str(tmp_path / "none.yaml")]) == 78
