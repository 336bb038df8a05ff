"""A daemon that trains itself, with its console: what Prometheus finds there is what ``vedette run`` shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from pipeline.build_console import build_faces
from pipeline.build_housekeeping import build_housekeeping
from pipeline.live import Live
from tests.end_to_end import retraining_parts
from tests.end_to_end.retraining_parts import Monitor

SCHEDULED = ("every: null", "every: 300d")
"""So that there is a next job, and none comes of it."""
RECEIVER = ("outputs: {{", "outputs: {{receivers: [{{name: desk, kind: file, path: {folder}/desk.jsonl}}], ")


@contextmanager
def shown_daemon(folder: Path) -> Iterator[tuple[Monitor, int]]:
    """Run it; yield it and the port of its console, where Prometheus finds all of its metrics."""
    live = Live()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retraining_parts, "CONFIG", retraining_parts.CONFIG.replace(*SCHEDULED).replace(*RECEIVER))
        patch.setattr(retraining_parts, "build_housekeeping", partial(build_housekeeping, live=live))
        with Monitor(folder) as monitor:
            beside = monitor._daemon.housekeeping
            with build_faces(monitor.config, monitor.metrics, beside, live, undelivered=beside.undelivered) as faces:
                beside.listener = faces.said
                yield monitor, faces.port
