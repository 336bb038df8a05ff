"""Detection on public labelled sets: one configuration for all, causal, floors beside every figure.

The data lie in a directory of the user's (`nab/`, `gecco2018/`, as their publishers lay them out); none ships with us.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation import (
    NAB_PROFILES,
    NabFile,
    auc_pr,
    floor_difference,
    floor_ew_z,
    floor_random,
    nab_score,
    nab_sweep,
    segments,
    vus_pr,
)
from pipeline.backtest import Result, read_table, run
from pipeline.config import loads
from pipeline.config_streams import StreamConfig

_TRAIN_FRACTION = 0.15
_NAB_PROBATION = 750
"""NAB does not score the first 15 % of a file, at most so many rows; what is learned from is just that part."""
_GECCO_WINDOW = 57
"""Half the median event, in rows: no longer, or random scores look good."""


def detection(folder: Path, sets: Sequence[str], seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return set → metric → value for those of ``sets`` that lie in ``folder``."""
    known: dict[str, Callable[[Path, int, Callable[[str], None]], dict[str, Any]]] = {"nab": nab, "gecco2018": gecco}
    return {name: known[name](folder / name, seed, say) for name in sets if (folder / name).is_dir()}


def nab(folder: Path, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return NAB's scores of the watch tier, at its own boundary and at the customary corpus threshold."""
    windows = json.loads((folder / "labels" / "combined_windows.json").read_text(encoding="utf-8"))
    watched: list[NabFile] = []
    paged: list[NabFile] = []
    floors: list[NabFile] = []
    for i, (name, spans) in enumerate(sorted(windows.items())):
        table = read_table(folder / "data" / name, "timestamp", None, ["value"])
        times = table.time_us
        step_us = max(1_000_000, int(np.median(np.diff(times))))
        probation = min(int(_TRAIN_FRACTION * len(times)), _NAB_PROBATION)
        result = run(_stream(["value"], step_us), table, probation, seed=seed)
        rows = _rows_of(times, result, step_us)
        spans_us = [[_us(t) for t in span] for span in spans]
        bounds = [(int(np.searchsorted(times, a)), int(np.searchsorted(times, b, "right")) - 1) for a, b in spans_us]

        opened = (result["incident"] == 2) & (result["incident"].shift(fill_value=0) != 2)
        watched.append(NabFile(result["emitted"].to_numpy(np.float64)[rows], bounds))
        paged.append(NabFile(np.asarray(opened, np.float64)[rows], bounds))
        floors.append(NabFile(np.asarray(floor_difference(table.values), np.float64), bounds))
        say(f"nab: {i + 1} of {len(windows)}: {name}")
    figures: dict[str, Any] = {}
    for name, profile in NAB_PROFILES.items():
        best, threshold = nab_sweep(watched, profile)
        figures[name] = {
            "watch_own_boundary": round(nab_score(watched, profile, 1.0), 2),
            "watch_best_threshold": round(best, 2),
            "best_threshold": round(threshold, 4),
            "alert_own_boundary": round(nab_score(paged, profile, 1.0), 2),
            "floor_difference_best_threshold": round(nab_sweep(floors, profile)[0], 2),
        }
    return figures


def gecco(folder: Path, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return AUC-PR and VUS-PR of the raw score over all rows, with floors, and the watch and alert tiers' events."""
    channels = ["Tp", "Cl", "pH", "Redox", "Leit", "Trueb", "Cl_2", "Fm", "Fm_2"]
    path = folder / "gecco2018_train.csv.gz"
    table = read_table(path, "Time", None, channels)
    labels = (read_table(path, "Time", None, ["EVENT"]).values[:, 0] > 0).astype(np.bool_)
    step_us = 60_000_000
    say(f"gecco2018: {len(labels)} rows")
    train = int(_TRAIN_FRACTION * len(labels))
    result = run(_stream(channels, step_us), table, train, seed=seed)
    rows = _rows_of(table.time_us, result, step_us)
    ranked = {
        "vedette": result["score"].to_numpy(np.float64)[rows],
        "floor_random": floor_random(table.values, seed),
        "floor_difference": floor_difference(table.values),
        "floor_ew_z_24h": floor_ew_z(table.values, 1440.0),
    }
    figures: dict[str, Any] = {}
    for name, scores in ranked.items():
        figures[name] = {
            "auc_pr": round(auc_pr(labels, scores), 4),
            "auc_pr_after_training": round(auc_pr(labels[train:], scores[train:]), 4),
            "vus_pr": round(vus_pr(labels, scores, _GECCO_WINDOW), 4),
        }
    emitted = result["emitted"].to_numpy(np.float64)[rows] >= 1
    incident = result["incident"].to_numpy()[rows]
    events = [(a, b) for a, b in segments(labels) if a >= train]
    for tier, marks in (("watch", emitted), ("alert", incident == 2)):
        figures[f"{tier}_events_found"] = sum(bool(marks[a : b + 1].any()) for a, b in events)
    figures["events_after_training"] = len(events)
    return figures


def _stream(channels: Sequence[str], step_us: int) -> StreamConfig:
    listed = ", ".join(f"{{name: {c}}}" for c in channels)
    text = f"streams: [{{name: bench, topics: [bench], step: {step_us // 1_000_000}s, channels: [{listed}]}}]"
    return loads(text).streams[0]


def _rows_of(times: NDArray[np.int64], result: Result, step_us: int) -> NDArray[np.intp]:
    """Return for each input row the result row of its step."""
    shift = int(times[0] % step_us)
    stamps = [time.removesuffix("Z") for time in result["time"]]
    ends = np.array(stamps, "datetime64[us]").astype(np.int64)
    steps = -(-(times - shift) // step_us) * step_us + shift
    return np.minimum(np.searchsorted(ends, steps), len(ends) - 1)


def _us(text: str) -> int:
    return int(np.datetime64(text, "us").astype(np.int64))
