"""Whether there is anything to judge: a challenger that fits the stream, and a long holdout that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from models.bootstrap import FEWEST_BLOCKS
from models.manifest import StoredModel
from pipeline.config_streams import StreamConfig
from pipeline.durations import format_duration

if TYPE_CHECKING:
    from pipeline.history import FrameArrays

FEWEST_STEPS = 64
"""Held-out steps; with fewer a moment's luck decides."""
FEWEST_TARGETS = 300


def unfit(
    config: StreamConfig, frames: FrameArrays, holdout: int, challenger: StoredModel, champion: StoredModel | None
) -> str | None:
    """Return why there is nothing to judge, in words."""
    trouble = mismatch(config, challenger)
    if trouble is not None:
        return f"it does not fit the stream: {trouble}"
    if champion is not None and champion.version == challenger.version:
        return f"{challenger.version} is in charge already"
    T = frames.values.shape[1]
    fewest = fewest_steps(config)
    if holdout < fewest or T - holdout < fewest:
        return f"{holdout} held-out steps of {T} are too few to judge on; {fewest} are needed, and as many before them"
    targets = int(frames.learn[:, T - holdout :].sum())
    if targets < FEWEST_TARGETS:
        return f"{targets} held-out values are too few to judge on; {FEWEST_TARGETS} are needed"
    begins_us = holdout_begins_us(config, frames, holdout)
    if challenger.manifest.data_to_us > begins_us:
        seen = format_duration(timedelta(microseconds=challenger.manifest.data_to_us - begins_us))
        return f"it was trained on the first {seen} of what it would be judged on"
    return None


def fewest_steps(config: StreamConfig) -> int:
    """Return how many held-out steps judging needs, and as many before them: fewer make too few blocks to compare."""
    return max(FEWEST_STEPS, FEWEST_BLOCKS * 2 * max(config.horizons))


def mismatch(config: StreamConfig, model: StoredModel) -> str | None:
    """Return in what the model is not made for the stream, in words; None where it fits."""
    told = model.manifest
    channels = tuple(c.name for c in config.channels)
    if told.channels != channels:
        return f"its channels are {', '.join(told.channels)}, the stream's {', '.join(channels)}"
    if told.step_us != config.step_us:
        step = timedelta(microseconds=told.step_us)
        return f"its step is {format_duration(step)}, the stream's {format_duration(config.step)}"
    if told.horizons != config.horizons:
        return f"its horizons are {_listed(told.horizons)} steps, the stream's {_listed(config.horizons)}"
    return None


def _listed(horizons: Sequence[int]) -> str:
    return ", ".join(map(str, horizons))


def holdout_begins_us(config: StreamConfig, frames: FrameArrays, holdout: int) -> int:
    """Return the end of the first held-out step; a model may have learned from steps up to there, but not beyond."""
    return (frames.step0 + frames.values.shape[1] - holdout) * config.step_us
