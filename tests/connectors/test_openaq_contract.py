"""OpenAQ's source keeps what every source promises."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from connectors.http_service import HttpService
from connectors.openaq import OpenAQSource
from connectors.source import ReadingSource
from connectors.timestamps import to_text
from pipeline.ingest.source_contract import CHECKS, Check, Identity
from tests.openaq_service import LOCATION, PM25, OpenAQService, row
from tests.replay_server import ReplayServer

STEP_US = 60_000_000


class OpenAQPeer:
    """A location with one sensor, which measures once a minute."""

    keeps = True

    def __init__(self, server: ReplayServer) -> None:
        self.service = OpenAQService(server, most_rows=8)
        self._time_us = (time.time_ns() // 1000 // STEP_US - 300) * STEP_US

    def source(self) -> ReadingSource:
        http = HttpService(base_url=self.service.url, key="a-key", tries=1, timeout_s=20.0)
        return OpenAQSource(http, locations=[LOCATION], every_s=0.05, limits=())

    def give(self, count: int) -> Sequence[Identity]:
        times_us = [self._step_us() for _ in range(count)]
        self.service.rows[PM25] += [row(to_text(one), 12.5) for one in times_us]
        return [(f"openaq-{LOCATION}", "pm25", one) for one in times_us]

    def give_bad(self) -> None:
        self.service.rows[PM25].append(row(to_text(self._step_us()), "a lot"))

    def go_away(self) -> None:
        self.service.server.stop()

    def come_back(self) -> None:
        self.service.server.start()

    def _step_us(self) -> int:
        self._time_us += STEP_US
        return self._time_us


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract(check: Check, replay: ReplayServer, tmp_path: Path) -> None:
    """Protects what the ingest process builds on."""
    check(OpenAQPeer(replay), tmp_path)
