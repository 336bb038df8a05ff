"""Operators' labels as evidence: does a contender's score reach the boundary where they say that it should, or not?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config_streams import StreamConfig
from pipeline.incident import Kind
from pipeline.judging_replay import Material, Replay
from pipeline.labels import Label, LabelKind


@dataclass(frozen=True, slots=True)
class LabelSpan:
    """Where a label applies in what is replayed."""

    copy: int
    """Row of the replay's scores."""
    begin: int
    end: int
    """One past the last step, of all that are replayed."""
    alarm: bool
    """Whether an alarm is right there."""


def usable(labels: Sequence[Label], config: StreamConfig) -> list[Label]:
    """Return the labels that say whether a score should have reached the boundary, the newest first."""
    kinds = (LabelKind.TRUE, LabelKind.FALSE_ALARM)
    mine = [x for x in labels if x.stream == config.name and x.kind in kinds and x.incident_kind == Kind.ANOMALY]
    return sorted(mine, key=lambda label: (-label.created_us, label.id))


def spans(labels: Sequence[Label], material: Material, step_us: int) -> list[LabelSpan]:
    """Return where those of ``labels`` apply that fall into what is replayed.

    The oldest quarter before the holdout does not count: there the detector still learns what is ordinary.
    """
    found = []
    for label in labels:
        copy = material.labelled.get(label.entity)
        begin = -(-label.started_us // step_us) - material.step0
        last = len(material.values) if label.ended_us is None else -(-label.ended_us // step_us) - material.step0 + 1
        end = min(last, len(material.values))
        if copy is not None and material.first // 4 <= begin < end:
            found.append(LabelSpan(copy, begin, end, label.kind is LabelKind.TRUE))
    return found


def agreement(said: Replay, labels: Sequence[LabelSpan]) -> NDArray[np.bool_]:
    """Return for each label whether the contender agrees: some score reaches the boundary, or none does."""
    loudest = np.maximum(np.maximum(said.score, said.emitted), said.alert)  # [D, T]
    return np.array([(loudest[x.copy, x.begin : x.end].max() >= 1.0) == x.alarm for x in labels], np.bool_)
