"""Drifts that wait to be trained on, kept on the disk: a restart within the days of waiting forgets none.

    DIRECTORY/STREAM/.drift.json
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.training_status import Drift

_FILE = ".drift.json"


class PendingDrifts:
    """What is written down of the drifts of all streams; belongs to the scheduler's thread."""

    def __init__(self, directory: Path) -> None:
        """Keep below ``directory``, that of the training jobs; nothing is read or written yet."""
        self._directory = directory
        self._kept: dict[str, Drift] = {}

    def load(self, streams: Iterable[str]) -> dict[str, Drift]:
        """Return the drifts that wait; what cannot be understood is left out."""
        for stream in streams:
            try:
                told = json.loads((self._directory / stream / _FILE).read_text(encoding="utf-8"))
                event_us = None if told["event_us"] is None else int(told["event_us"])
                self._kept[stream] = Drift(int(told["time_us"]), frozenset(map(str, told["signals"])), event_us)
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return dict(self._kept)

    def keep(self, pending: Mapping[str, Drift]) -> None:
        """Write down what is new and remove what no longer waits; raises OSError if the disk refuses."""
        for stream in self._kept.keys() - pending.keys():
            (self._directory / stream / _FILE).unlink(missing_ok=True)
            del self._kept[stream]
        for stream, drift in pending.items():
            if self._kept.get(stream) != drift:
                self._write(stream, drift)
                self._kept[stream] = drift

    def _write(self, stream: str, drift: Drift) -> None:
        folder = self._directory / stream
        folder.mkdir(parents=True, exist_ok=True)
        told = {"time_us": drift.time_us, "signals": sorted(drift.signals), "event_us": drift.event_us}
        beside = folder / f"{_FILE}-{os.getpid()}"
        with beside.open("w", encoding="utf-8") as file:
            json.dump(told, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(folder / _FILE)
