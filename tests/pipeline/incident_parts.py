"""Small frames, verdicts and facts for the tests of incidents: ten-minute steps of a stream called ``air``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.casebook import StreamFacts
from pipeline.frames import Frames, FrameStatus
from pipeline.maintenance import Maintenance

STEP_US = 600_000_000
START = 2_954_016
"""The step that ends 2026-03-02T00:00:00Z, a Monday."""


def entity(slot: int) -> str:
    """Return the name of a slot: two sites, ``north`` and ``south``, by turns."""
    return f"{('north', 'south')[slot % 2]}/station-{slot}"


def facts(maintenance: Maintenance | None = None) -> StreamFacts:
    """Return the facts of the stream."""
    return StreamFacts(
        "air", STEP_US, entity, maintenance=maintenance or Maintenance(), model_version=lambda: "lstm-7"
    )  # fmt: skip


def frames(step: int, values: Sequence[Sequence[float | None]], rows: Sequence[int] | None = None) -> Frames:
    """Return frames of ``values`` [n][C], None where nothing came; ``step`` counts from START."""
    array = np.array([[np.nan if v is None else v for v in row] for row in values], np.float64)
    array = array.reshape(len(values), -1 if len(values) else 1)
    present = ~np.isnan(array)
    chosen = None if rows is None else np.array(rows, np.intp)
    at = START + step
    return Frames(at, at * STEP_US, array, present, present.astype(np.int32), FrameStatus.NEW, chosen)


@dataclass(slots=True)
class FixedVerdict:
    """A detection with given scores; the first channel bears all the evidence, above its expectation."""

    score: NDArray[np.float32]
    emitted: NDArray[np.float32]
    alert: NDArray[np.float32]
    log_p: NDArray[np.float64]
    witness: NDArray[np.float32]
    share: NDArray[np.float32]
    sign: NDArray[np.int8]


def verdict(
    scores: Sequence[float],
    emitted: Sequence[float] | None = None,
    alert: Sequence[float] | None = None,
    channels: int = 1,
) -> FixedVerdict:
    """Return a detection; the watch tier speaks with the raw score unless said otherwise, the alert tier is silent."""
    n = len(scores)
    share, sign = np.zeros((n, channels), np.float32), np.zeros((n, channels), np.int8)
    share[:, 0], sign[:, 0] = 1, 1
    score = np.array(scores, np.float32)
    return FixedVerdict(
        score=score,
        emitted=score.copy() if emitted is None else np.array(emitted, np.float32),
        alert=np.zeros(n, np.float32) if alert is None else np.array(alert, np.float32),
        log_p=-score.astype(np.float64),
        witness=np.column_stack([score, np.zeros(n)]).astype(np.float32),
        share=share,
        sign=sign,
    )
