"""Alert messages as rows of the alert store, which knows nothing of the pipeline."""

from __future__ import annotations

import math

from connectors.alert_store_rows import IncidentRow
from pipeline.incident import AlertMessage, encode


def incident_row(message: AlertMessage, body: bytes | None = None) -> IncidentRow:
    """Return the message as the store takes it; ``body`` is what ``encode`` gave for it, where that is at hand."""
    context = message.explanation.get("context")
    numbers = context if isinstance(context, list | tuple) else ()
    return IncidentRow(
        id=message.incident_id,
        stream=message.stream,
        entity=message.entity,
        kind=str(message.kind),
        name=message.name,
        site=message.site,
        tier=int(message.tier),
        severity=str(message.severity),
        phase=str(message.phase),
        sequence=message.sequence,
        first_step=message.first_step,
        started_us=message.started_us,
        opened_us=message.opened_us,
        time_us=message.time_us,
        told_us=message.told_us,
        resolved_us=message.resolved_us,
        score=_finite(message.score),
        alpha=_finite(message.alpha),
        reason=message.reason,
        explanation=message.explanation,
        context=tuple(float(n) for n in numbers if isinstance(n, int | float)),
        model_version=message.model_version,
        flapping=message.flapping,
        note=message.note,
        body=(encode(message) if body is None else body).decode("ascii"),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
