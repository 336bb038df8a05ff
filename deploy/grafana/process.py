"""What a process takes of its machine, and when it started: panels for whoever exposes a client library's metrics."""

from __future__ import annotations

from deploy.grafana.board import Annotation
from deploy.grafana.drawing import BLUE, Panel, lines
from deploy.grafana.promql import RATE, Query, chosen

_ONE = chosen("instance")


def restarts(ours: str) -> Annotation:
    """Return marks where a process started.

    Args:
        ours: a metric that only the meant processes have, for every exporter has those of a process.
    """
    return Annotation(
        "Restarts",
        f"changes(process_start_time_seconds{_ONE}[$__interval]) > 0{_of(ours)}",
        BLUE,
        "{{instance}} started",
    )


def resources(ours: str, who: str, memory: str) -> list[Panel]:
    """Return the panels of memory, processor and open files; ``ours`` as for ``restarts``, the rest are words."""
    return [
        lines(
            "Memory",
            f"Resident memory of {memory}.",
            Query(f"process_resident_memory_bytes{_ONE}{_of(ours)}", "{{instance}}"),
            unit="bytes",
            width=8,
        ),
        lines(
            "Processor",
            f"Cores in use by {who}.",
            Query(f"rate(process_cpu_seconds_total{_ONE}{RATE}){_of(ours)}", "{{instance}}"),
            unit="none",
            width=8,
        ),
        lines(
            "Open files",
            "File descriptors, and how many it may have.",
            Query(f"process_open_fds{_ONE}{_of(ours)}", "{{instance}}"),
            Query(f"process_max_fds{_ONE}{_of(ours)}", "{{instance}}: most"),
            width=8,
        ),
    ]


def _of(ours: str) -> str:
    return f" and on (instance, job) {ours}{_ONE}"
