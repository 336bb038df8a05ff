"""What an anomaly's messages say: the reasons in words, and the numbers behind them.

Legend: n entities in use, C channels, V witnesses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.explanation import BAND_COVERAGE, BAND_SPREADS, AttentionSummary, ChannelEvidence, explain
from models.wording import channel_text, duration_text
from pipeline.frames import Frames
from pipeline.incident import Incident, Json, rfc3339
from pipeline.lookalikes import context_block

Explain: TypeAlias = Callable[[int], AttentionSummary | None]
"""Slot to what the model looked at."""


class Verdict(Protocol):
    """What alerting reads of a ``models.detection.Detection``."""

    @property
    def score(self) -> NDArray[np.float32]:
        """[n] raw, >= 0, finite; 1.0 is the boundary."""

    @property
    def log_p(self) -> NDArray[np.float64]:
        """[n] of all witnesses together."""

    @property
    def emitted(self) -> NDArray[np.float32]:
        """[n] the watch tier: >= 1 exactly where a watch opens."""

    @property
    def alert(self) -> NDArray[np.float32]:
        """[n] the alert tier: >= 1 where an alert opens."""

    @property
    def witness(self) -> NDArray[np.float32]:
        """[n, V] each witness's score."""

    @property
    def share(self) -> NDArray[np.float32]:
        """[n, C] each channel's share of the evidence."""

    @property
    def sign(self) -> NDArray[np.int8]:
        """[n, C] +1 above what was expected, -1 below, 0 unknown."""


@dataclass(slots=True)
class Seen:
    """Everything that is known about one step."""

    frames: Frames
    verdict: Verdict
    expected: NDArray[np.float64]
    """[n, C], NaN where nothing was known."""
    spread: NDArray[np.float32]
    """[n, C]."""
    explain: Explain


class AnomalyWords:
    """Finds words and numbers for the anomalies of a stream."""

    def __init__(
        self,
        channels: Sequence[str],
        units: Sequence[str],
        witnesses: Sequence[str],
        model_version: Callable[[], str],
    ) -> None:
        self._channels = tuple(channels)
        self._units = tuple(units)
        self._witnesses = tuple(witnesses)
        self._model_version = model_version

    def reasons(self, seen: Seen, row: int) -> tuple[str, dict[str, Json]]:
        """Return why an entity is odd at this step: in words, and as numbers."""
        summary = seen.explain(row)
        channels = self._evidence(seen, row)
        return explain(channels, summary, seen.frames.time_us, self._loudest(seen, row)), {
            "channels": [_channel(channel) for channel in channels],
            "band_coverage": BAND_COVERAGE,
            "log_p": float(seen.verdict.log_p[row]),
            "witnesses": dict(zip(self._witnesses, seen.verdict.witness[row].tolist(), strict=True)),
            "attention": [] if summary is None else _attention(summary),
            "attention_shares": {} if summary is None else _attention_shares(summary),
            "nearest": None if summary is None else _nearest(summary),
            "model_version": self._model_version(),
        }

    def context(self, seen: Seen, row: int) -> list[float]:
        """Return what the entity looks like at this step, to be compared with what operators have labelled."""
        verdict = seen.verdict
        error = (seen.frames.values[row] - seen.expected[row]) / seen.spread[row]
        return context_block(
            float(verdict.score[row]), verdict.witness[row], verdict.share[row], verdict.sign[row], error
        )

    def farewell(self, seen: Seen, incident: Incident, note: str) -> str:
        """Return what to say when an incident ends; ``note`` is empty where calm returned."""
        lasted = duration_text((seen.frames.time_us - incident.started_us) / 1e6)
        if note:
            return f"It has lasted {lasted}; what was unusual is taken for the new normal from now on."
        name = self._channels[leading_channel(incident, len(self._channels))]
        return f"{channel_text(name)} and all else have been unremarkable again; it lasted {lasted}."

    def _evidence(self, seen: Seen, row: int) -> list[ChannelEvidence]:
        half = BAND_SPREADS * seen.spread[row].astype(np.float64)
        expected = seen.expected[row]
        columns = (seen.frames.values[row], expected, expected - half, expected + half, seen.verdict.share[row])
        numbers = [column.tolist() for column in columns]
        signs = seen.verdict.sign[row].tolist()
        return [ChannelEvidence(*rest) for rest in zip(self._channels, self._units, *numbers, signs, strict=True)]

    def _loudest(self, seen: Seen, row: int) -> str:
        scores = seen.verdict.witness[row]
        return self._witnesses[int(np.argmax(scores))] if np.max(scores, initial=0.0) > 0 else ""


def leading_channel(incident: Incident, channels: int) -> int:
    """Return the channel with the largest share of an incident's evidence; 0 where none is known."""
    listed = incident.explanation.get("channels")
    if not isinstance(listed, Sequence) or len(listed) != channels:
        return 0
    shares = [c.get("share") if isinstance(c, Mapping) else None for c in listed]
    return int(np.argmax([share if isinstance(share, float) else 0.0 for share in shares]))


def _channel(channel: ChannelEvidence) -> dict[str, Json]:
    return {
        "channel": channel.name,
        "unit": channel.unit,
        "observed": channel.observed,
        "expected": channel.expected,
        "lower": channel.lower,
        "upper": channel.upper,
        "share": channel.share,
        "sign": channel.sign,
    }


def _attention(summary: AttentionSummary) -> list[Json]:
    return [
        {"what": m.kind, "text": m.text, "weight": m.weight, "time": None if m.time_us is None else rfc3339(m.time_us)}
        for m in summary.strongest()
    ]


def _attention_shares(summary: AttentionSummary) -> dict[str, Json]:
    """Return how much of all attention each kind of moment got, those that are not listed included."""
    shares: dict[str, float] = {}
    for m in summary.moments:
        if math.isfinite(m.weight):
            shares[m.kind] = shares.get(m.kind, 0.0) + m.weight
    return {kind: round(share, 4) for kind, share in shares.items()}


def _nearest(summary: AttentionSummary) -> dict[str, Json] | None:
    near = summary.nearest
    if near is None:
        return None
    return {"time": rfc3339(near.time_us), "channel": near.channel, "distance": near.distance}
