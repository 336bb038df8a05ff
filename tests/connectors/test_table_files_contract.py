"""Protects the promises of every source, for files that are followed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from connectors.source import ReadingSource
from pipeline.ingest.kind import SourcePlace
from pipeline.ingest.kinds.files import KIND, FilesOptions
from pipeline.ingest.source_contract import CHECKS, Check, Identity
from tests.connectors.test_table_files import HEADER, WIDE

START_MINUTE = 29_753_280  # 2026-07-28; minutes since 1970


class Folder:
    """A folder of CSV files; each giving appends to the last file or begins a new one."""

    keeps = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.away = path.with_name("away")
        self.minute = START_MINUTE
        self.given = 0
        path.mkdir()

    def source(self) -> ReadingSource:
        options = {
            "name": "files", "kind": "files", "path": f"{self.path}/*.csv", "mapping": WIDE,
            "follow": True, "every": "20ms",
        }  # fmt: skip
        return KIND.build(FilesOptions.model_validate(options), SourcePlace(self.path, {}))

    def give(self, count: int) -> Sequence[Identity]:
        first, self.minute = self.minute, self.minute + count
        times_s = [minute * 60 for minute in range(first, self.minute)]
        self._append("".join(f"{time_s},S7,1.5\n" for time_s in times_s))
        return [("S7", "pm25", time_s * 1_000_000) for time_s in times_s]

    def give_bad(self) -> None:
        self._append("yesterday,S7,1.5\n")

    def _append(self, text: str) -> None:
        path = self.path / f"{self.given // 2}.csv"
        self.given += 1
        new = not path.exists()
        with path.open("a") as file:
            file.write((HEADER if new else "") + text)

    def go_away(self) -> None:
        shutil.move(self.path, self.away)

    def come_back(self) -> None:
        shutil.move(self.away, self.path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_followed_files_keep_the_contract(check: Check, tmp_path: Path) -> None:
    """Protects from what a source may not do."""
    check(Folder(tmp_path / "data"), tmp_path)
