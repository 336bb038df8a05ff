"""Answers about the daemon itself: what is wrong now, and how its parts are."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from connectors.alert_store_rows import IncidentQuery
from connectors.errors import ConnectorError
from pipeline.console.incident_answers import IncidentAnswers
from pipeline.console.series_answers import finite
from pipeline.console.shapes import IncidentLine, Overview, Partition, StreamLine, System
from pipeline.console.sources import ShownStream, Sources
from pipeline.console.troubles import Trouble
from pipeline.incident import Kind, Tier, rfc3339

_LAG = "vedette_consumer_lag_records"
_FIGURES = (
    "vedette_assigned_partitions", "vedette_source_reachable", "vedette_ready", "vedette_loop_tick_timestamp_seconds",
    "vedette_checkpoint_timestamp_seconds", "vedette_checkpoint_duration_seconds", "vedette_checkpoint_size_bytes",
    "vedette_checkpoint_errors_total", "vedette_rebalances_total", "vedette_history_flushed_timestamp_seconds",
    "vedette_history_errors_total", "vedette_database_waiting", "vedette_database_errors_total",
    "vedette_scheduler_tick_timestamp_seconds", "vedette_entity_series", "vedette_entity_series_left_out",
    "vedette_database_dropped_total", "vedette_outbox_dropped_total", "vedette_outbox_errors_total",
)  # fmt: skip
_MOST_SILENT = 50


class SystemAnswers:
    """Asks the newest steps, the metrics and the alert database; what does not answer is told, and left out."""

    def __init__(self, sources: Sources, incidents: IncidentAnswers) -> None:
        self._sources = sources
        self._incidents = incidents

    def overview(self, most: int = 50) -> Overview:
        """Return what is wrong now, with at most ``most`` open incidents."""
        troubles: list[str] = []
        opened, total = self._open(IncidentQuery(open_only=True, urgent_first=True, limit=most), troubles)
        silent: list[IncidentLine] = []
        if not troubles:
            query = IncidentQuery(open_only=True, kind=str(Kind.SILENCE), limit=_MOST_SILENT)
            silent, _ = self._open(query, troubles)
        status = self._sources.status
        return {
            "time": rfc3339(self._sources.now_us()),
            "version": self._sources.version,
            "alive": status.alive(),
            "ready": not status.reasons(),
            "reasons": [str(reason) for reason in status.reasons()],
            "notes": list(self._sources.notes()),
            "streams": self.streams(),
            "open": opened,
            "open_total": total,
            "silent": silent,
            "undelivered": self._undelivered(troubles),
            "troubles": troubles,
        }

    def streams(self) -> list[StreamLine]:
        """Return how each stream is."""
        return [self._stream(stream) for stream in self._sources.streams.values()]

    def system(self) -> System:
        """Return how the daemon itself is."""
        status = self._sources.status
        partitions: list[Partition] = [
            {"topic": labels.get("topic", ""), "partition": labels.get("partition", ""), "lag": value}
            for name, labels, value in self._samples([_LAG])
            if name == _LAG
        ]
        figures = {name: value for name, labels, value in self._samples(_FIGURES) if not labels and name in _FIGURES}
        figures["process_resident_memory_bytes"] = _resident_bytes()
        figures["process_start_time_seconds"] = _started_s()
        return {
            "time": rfc3339(self._sources.now_us()),
            "version": self._sources.version,
            "alive": status.alive(),
            "ready": not status.reasons(),
            "reasons": [str(reason) for reason in status.reasons()],
            "notes": list(self._sources.notes()),
            "tick_age_s": round(status.tick_age_s(), 3),
            "partitions": sorted(partitions, key=lambda p: (p["topic"], p["partition"].zfill(9))),
            "figures": figures,
            "streams": self.streams(),
            "undelivered": self._undelivered([]),
            "config": self._sources.config_text,
        }

    # ---- inner ----

    def _open(self, query: IncidentQuery, troubles: list[str]) -> tuple[list[IncidentLine], int]:
        try:
            page = self._incidents.page(query)
        except Trouble as error:
            troubles.append(f"incidents cannot be shown: {error}")
            return [], 0
        return page["incidents"], page["total"]

    def _stream(self, stream: ShownStream) -> StreamLine:
        step = self._sources.live.newest(stream.name)
        if step is None:
            return {
                "stream": stream.name, "time": None, "step_us": stream.step_us, "entities": 0, "warming": 0,
                "watches": 0, "alerts": 0, "score_max": None, "event_lag_s": None, "model_version": None,
            }  # fmt: skip
        highest = np.max(np.nan_to_num(step.score), initial=0.0)
        return {
            "stream": stream.name,
            "time": rfc3339(step.time_us),
            "step_us": stream.step_us,
            "entities": step.n,
            "warming": int(step.warming.sum()),
            "watches": int((step.level == Tier.WATCH).sum()),
            "alerts": int((step.level == Tier.ALERT).sum()),
            "score_max": finite(np.array([highest]))[0],
            "event_lag_s": round((self._sources.now_us() - step.time_us) / 1e6, 3),
            "model_version": self._model(stream.name),
        }

    def _model(self, stream: str) -> str | None:
        """Return the version in charge as the metrics have it: no disk is asked."""
        for name, labels, value in self._samples(["vedette_model_info"]):
            if name == "vedette_model_info" and labels.get("stream") == stream and value == 1:
                return labels.get("version")
        return None

    def _samples(self, names: Iterable[str]) -> list[tuple[str, dict[str, str], float | None]]:
        """Return the samples of these metrics only: collecting all of them may take a second."""
        chosen: Any = self._sources.figures.restricted_registry(list(names))
        return [
            (sample.name, dict(sample.labels), sample.value if math.isfinite(sample.value) else None)
            for metric in chosen.collect()
            for sample in metric.samples
        ]

    def _undelivered(self, troubles: list[str]) -> int | None:
        if self._sources.undelivered is None:
            return None
        try:
            return self._sources.undelivered()
        except (ConnectorError, OSError) as error:
            troubles.append(f"undelivered messages cannot be counted: {error}")
            return None


def _resident_bytes() -> float | None:
    """Return the memory that this process has; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def _started_s() -> float | None:
    """Return when this process began, in seconds since 1970; None where the system does not tell. See proc(5)."""
    try:
        own = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(own.rpartition(")")[2].split()[19])  # the name before it may hold anything
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        boot_s = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return boot_s + ticks / os.sysconf("SC_CLK_TCK")
