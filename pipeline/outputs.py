"""Where messages go: alerts, scores and dead letters, each to any number of sinks."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.base import Sink
from connectors.dead_letters import origin_headers
from connectors.reading import Rejected
from models.detection import Detection
from pipeline.data_quality import DeadLetterBreaker
from pipeline.frames import Frames
from pipeline.incident import AlertMessage, encode
from pipeline.stream import Stream
from pipeline.stream_state import Expected

_FLUSH_S = 30.0
_encoder = msgspec.json.Encoder()


class Outputs:
    """Hands messages to sinks and makes them durable together, before offsets are committed.

    After a failed ``flush`` every sink still holds what was not acknowledged; the next ``flush`` tries again.
    """

    def __init__(
        self,
        alerts: Sequence[Sink] = (),
        scores: Sequence[Sink] = (),
        dead_letters: Sequence[Sink] = (),
        breaker: DeadLetterBreaker | None = None,
    ) -> None:
        """Send to these sinks; ``breaker`` holds back floods of dead letters, None lets all through."""
        self._alerts = tuple(alerts)
        self._scores = tuple(scores)
        self._dead_letters = tuple(dead_letters)
        self._breaker = breaker

    def alerts(self, messages: Sequence[AlertMessage]) -> None:
        """Send alert messages, keyed by incident."""
        for message in messages if self._alerts else ():
            body = encode(message)
            for sink in self._alerts:
                sink.send(message.incident_id, body)

    def scores(self, stream: Stream, frames: Frames, expected: Expected, detection: Detection) -> None:
        """Send one score record per entity that was measured in this frame."""
        if not self._scores:
            return
        rows = np.flatnonzero(frames.count.sum(axis=1) > 0)
        for row in rows.tolist():
            record = _score_record(stream, row, frames, expected, detection)
            for sink in self._scores:
                sink.send(stream.entities[row], _encoder.encode(record))

    def dead_letters(self, refused: Sequence[Rejected], now_us: int) -> None:
        """Send refused records: the raw bytes as value, reason and origin as headers; a flood is held back, counted."""
        if not refused:
            return
        allowed = len(refused) if self._breaker is None else self._breaker.allow(len(refused), now_us)
        for rejected in refused[:allowed]:
            headers = origin_headers(rejected)
            key = rejected.key.decode("utf-8", "replace") if rejected.key else ""
            for sink in self._dead_letters:
                sink.send(key, rejected.raw, headers)

    def holding_back(self) -> bool:
        """Return True while a flood of dead letters is being held back."""
        return self._breaker is not None and self._breaker.open

    def flush(self) -> None:
        """Return when everything sent is durable; raise ``SinkUnavailable`` otherwise, with nothing dropped."""
        for sink in (*self._dead_letters, *self._scores, *self._alerts):
            sink.flush(_FLUSH_S)

    def close(self) -> None:
        """Close all sinks."""
        for sink in dict.fromkeys((*self._dead_letters, *self._scores, *self._alerts)):
            sink.close()


def _score_record(
    stream: Stream, row: int, frames: Frames, expected: Expected, detection: Detection
) -> dict[str, object]:
    shadow = stream.shadow
    return {
        "stream": stream.name,
        "entity": stream.entities[row],
        "step": frames.step,
        "time_us": frames.time_us,
        "status": str(frames.status),
        "score": stream.shown_score(detection, row),
        "warming": bool(detection.warming[row]),
        "incident": int(stream.level(len(stream.entities))[row]),
        "observed": _finite(stream.channels, frames.values[row]),
        "expected": _finite(stream.channels, expected.values[row]),
        "spread": _finite(stream.channels, expected.spread[row]),
        "model": stream.predictor.forecast_version,
        "shadow_score": None if shadow is None or row >= len(shadow.score) else float(shadow.score[row]),
    }


def _finite(channels: Sequence[str], values: NDArray[np.floating]) -> dict[str, float | None]:
    """Return values by channel, None where not a number: JSON has no NaN."""
    return {c: float(v) if np.isfinite(v) else None for c, v in zip(channels, values, strict=True)}
