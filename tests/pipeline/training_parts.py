"""A stream with something to learn, its history on the disk, and `vedette train` on it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from models.registry import Registry
from pipeline.cli_arguments import parser
from pipeline.config import Config, load
from pipeline.history import FrameArrays, HistoryPart, HistoryStore
from pipeline.job_record import JobFolder, JobRecord, job_folders
from pipeline.training_job import main

STEP_US = 600_000_000
STEPS = 800
STEP0 = 2_900_000
CONFIG = """
streams:
  - name: air
    topics: [air]
    step: 10m
    horizons: [1, 2]
    channels: [{name: pm25, unit: ug/m3}]
    model:
      hidden: 6
      window: 6
      attention: {seasonal_lags: [], examples: 2}
      neighbours: {k: 1}
      train: {epochs: 1, sequence: 64, batch: 4}
    retrain: {least_history: 300}
models: {directory: DIR/models}
history: {directory: DIR/history}
training: {directory: DIR/jobs, nice: 0}
database: {url: "sqlite:///DIR/alerts.db"}
http: {port: 0}
"""


def frames(steps: int = STEPS, seed: int = 0, names: tuple[str, ...] = ("a", "b", "c")) -> FrameArrays:
    """Return sensors that jump together and come back half way: a network learns that, a linear forecast in part."""
    rng = np.random.default_rng(seed)
    values = np.zeros((len(names), steps, 1))
    level = np.zeros(len(names))
    for t in range(steps):
        level = 0.6 * level + rng.standard_normal() * (rng.random() < 0.3) + 0.1 * rng.standard_normal(len(names))
        values[:, t, 0] = 20.0 + np.where(level > 0.0, 3.0 * level, 0.5 * level)
    E = len(names)
    learn = np.ones(values.shape, np.bool_)
    score, levels = np.zeros((E, steps), np.float32), np.zeros((E, steps), np.int8)
    return FrameArrays(list(names), STEP0, values, learn, score, levels)


class Site:
    """A folder with a config, a history and what jobs leave behind."""

    def __init__(self, folder: Path, arrays: FrameArrays | None, **replace: str) -> None:
        """Write everything; ``replace`` changes words of the config."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        text = CONFIG.replace("DIR", str(folder))
        for old, new in replace.items():
            assert old in text
            text = text.replace(old, new)
        self.file = folder / "vedette.yaml"
        self.file.write_text(text)
        if arrays is not None:
            self.add(arrays)

    @property
    def config(self) -> Config:
        """The config."""
        return load(self.file)

    @property
    def registry(self) -> Registry:
        """The registry."""
        return Registry(self.config.models.directory)

    def add(self, arrays: FrameArrays) -> None:
        """Put frames into the history."""
        assert self.config.history.directory is not None
        E, T, _ = arrays.values.shape
        rows, steps = (a.ravel() for a in np.indices((E, T)))
        part = HistoryPart(
            channels=("pm25",),
            step_us=STEP_US,
            names=arrays.names,
            codes=rows.astype(np.int32),
            step=arrays.step0 + steps.astype(np.int64),
            values=arrays.values.reshape(E * T, 1),
            learn=arrays.learn.reshape(E * T, 1),
            score=arrays.score.ravel(),
            level=arrays.level.ravel(),
            revision=np.ones(E * T, np.int64),
        )
        HistoryStore(self.config.history.directory).write("air", part)

    def words(self, *more: str) -> list[str]:
        """Return the command line behind `vedette`."""
        return ["train", "--config", str(self.file), *more]

    def train(self, *more: str) -> int:
        """Run `vedette train` in this process; return the exit code."""
        args: argparse.Namespace = parser().parse_args(self.words(*more))
        return main(args)

    def records(self) -> list[JobRecord]:
        """Return the records of all jobs, oldest first."""
        found = [folder.read() for folder in job_folders(self.config.training.directory, "air")]
        return [record for record in found if record is not None]

    def job(self, name: str = "20260101T000000-000000-schedule") -> JobFolder:
        """Return a job's folder."""
        return JobFolder(self.config.training.directory / "air" / name)


def last_json(out: str) -> dict[str, Any]:
    """Return the last line of stdout as JSON."""
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found
