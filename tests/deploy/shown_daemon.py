"""A daemon that trains itself, and shows all of its metrics: its own, those of single entities, and its receivers'."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CONTENT_TYPE_LATEST

from pipeline.build_receivers import build_receivers
from pipeline.live import Live, live_step
from pipeline.metrics_entities import EntityMetrics, exposition
from pipeline.metrics_receivers import ReceiverMetrics
from tests.end_to_end import retraining_parts
from tests.end_to_end.retraining_parts import Monitor

SCHEDULED = ("every: null", "every: 300d")
"""So that there is a next job, and none comes of it."""
RECEIVER = ("outputs: {{", "outputs: {{receivers: [{{name: desk, kind: file, path: {folder}/desk.jsonl}}], ")


@contextmanager
def shown_daemon(folder: Path) -> Iterator[tuple[Monitor, int]]:
    """Run it; yield it and the port at which Prometheus finds all of its metrics."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        config = retraining_parts.CONFIG.replace(*SCHEDULED).replace(*RECEIVER)
        patch.setattr(retraining_parts, "CONFIG", config)
        monitor = stack.enter_context(Monitor(folder))
        metrics, live = monitor.metrics, Live()
        for stream in monitor.config.streams:
            budget = stream.budget
            metrics.models.configured(
                stream.name, stream.step.total_seconds(), budget.events / budget.period_s * 86_400.0
            )
        entities = EntityMetrics(live, metrics.registry)
        counted = ReceiverMetrics(metrics._counter, metrics._gauge, metrics._histogram)
        receivers = build_receivers(monitor.config, counted, "http://localhost")
        assert receivers is not None
        receivers.start()
        stack.callback(receivers.close)
        housekeeping = monitor._daemon.housekeeping
        stepped, said = housekeeping.stepped, housekeeping.said

        def step(stream: Any, *of_step: Any) -> None:
            stepped(stream, *of_step)
            live.stepped(live_step(stream, *of_step))

        def say(messages: Any) -> None:
            said(messages)
            receivers.add(messages)

        patch.setattr(housekeeping, "stepped", step)
        patch.setattr(housekeeping, "said", say)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exposition(metrics.registry, entities)
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE_LATEST)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        yield monitor, server.server_port
