"""The receivers of alerts as the metrics tell of them: how many messages wait, since when, what became of others."""

from __future__ import annotations

import math
from typing import Any

from pipeline.console.sources import Figures

_COLUMNS = {
    "vedette_receiver_up": "up",
    "vedette_receiver_waiting": "waiting",
    "vedette_receiver_oldest_timestamp_seconds": "oldest_s",
    "vedette_receiver_delivered_total": "delivered",
    "vedette_receiver_failures_total": "failures",
    "vedette_receiver_refused_total": "refused",
    "vedette_receiver_dropped_total": "dropped",
}


def receiver_lines(figures: Figures) -> list[dict[str, Any]]:
    """Return a line per receiver and address, by name; ``up`` is None until something was sent.

    Failures are summed over their causes. ``oldest_us`` is None where nothing waits.
    """
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for metric in figures.restricted_registry(list(_COLUMNS)).collect():
        for sample in metric.samples:
            column = _COLUMNS.get(sample.name)
            if column is None or not math.isfinite(sample.value):
                continue
            place = sample.labels.get("receiver", ""), sample.labels.get("address", "")
            line = lines.setdefault(place, dict.fromkeys(_COLUMNS.values()) | {"name": place[0], "address": place[1]})
            line[column] = (line[column] or 0.0) + sample.value
    for line in lines.values():
        oldest_s = line.pop("oldest_s")
        line["oldest_us"] = None if oldest_s is None else round(oldest_s * 1e6)
    return [lines[place] for place in sorted(lines)]
