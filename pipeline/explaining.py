"""Explaining: what the model looked at and what its memory holds, for the entities that have something to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from models.detection import Detector
from models.explanation import AttentionSummary, MemoryNames, NearestMoment, summarise_attention
from pipeline.frames import Frames
from pipeline.predicting import Predictor


class Explaining:
    """Asks the predictor and the detector about single entities, only when an alert wants to know."""

    def __init__(
        self,
        channels: Sequence[str],
        step_us: int,
        predictor: Predictor,
        detector: Detector,
        entities: Callable[[], Sequence[str]],
    ) -> None:
        """Explain for ``channels``; ``entities`` gives the names by slot."""
        self._channels = tuple(channels)
        self._step_us = step_us
        self._predictor = predictor
        self._detector = detector
        self._entities = entities

    def of(self, frames: Frames) -> Callable[[int], AttentionSummary | None]:
        """Return a function from slot to what was attended to when this frame was forecast."""

        def explain(row: int) -> AttentionSummary | None:
            return self._summary(row, frames)

        return explain

    def _summary(self, row: int, frames: Frames) -> AttentionSummary | None:
        nearest = self._nearest(row)
        weights = self._predictor.attention(np.array([row], np.intp))
        if weights is None:
            return AttentionSummary((), nearest) if nearest is not None else None
        entities = self._entities()
        neighbours = [entities[i] for i in self._predictor.neighbours[row].tolist() if 0 <= i < len(entities)]
        # The forecast of this frame was made at the frame before: its lags count from there.
        made_us = frames.time_us - self._step_us
        positions = self._predictor.positions()
        names = MemoryNames(neighbours)
        return summarise_attention(weights[0], positions, made_us, self._step_us / 1e6, names, nearest)

    def _nearest(self, row: int) -> NearestMoment | None:
        step, distance, channel = self._detector.nearest(np.array([row], np.intp))
        if step[0] < 0 or not np.isfinite(distance[0]):
            return None
        name = self._channels[int(channel[0])] if channel[0] >= 0 else ""
        return NearestMoment(int(step[0]) * self._step_us, float(distance[0]), name)
