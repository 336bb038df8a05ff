"""Sensor.Community's source keeps what every source promises."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from connectors.http_service import HttpService
from connectors.sensor_community import SensorCommunitySource
from connectors.source import ReadingSource
from connectors.timestamps import to_text
from pipeline.ingest.source_contract import CHECKS, Check, Identity
from tests.replay_server import ReplayServer
from tests.sensor_community_service import SENSOR, SensorCommunity, row


class SensorCommunityPeer:
    """A document in which one sensor has measured once a second, and none is forgotten meanwhile."""

    keeps = True

    def __init__(self, server: ReplayServer) -> None:
        self.service = SensorCommunity(server)
        self._time_us = (time.time_ns() // 1_000_000_000 - 300) * 1_000_000

    def source(self) -> ReadingSource:
        http = HttpService(base_url=self.service.server.url, contact="ops@town.example", tries=1, timeout_s=20.0)
        return SensorCommunitySource(http, every_s=0.05, limits=())

    def give(self, count: int) -> Sequence[Identity]:
        times_us = [self._step_us() for _ in range(count)]
        self.service.rows += [row(_written(one), ("P2", "12.5")) for one in times_us]
        return [(f"sc-{SENSOR}", "pm25", one) for one in times_us]

    def give_bad(self) -> None:
        self.service.rows.append(row(_written(self._step_us()), ("P2", "a lot")))

    def go_away(self) -> None:
        self.service.server.stop()

    def come_back(self) -> None:
        self.service.server.start()

    def _step_us(self) -> int:
        self._time_us += 1_000_000
        return self._time_us


def _written(time_us: int) -> str:
    return to_text(time_us).replace("T", " ").rstrip("Z")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract(check: Check, replay: ReplayServer, tmp_path: Path) -> None:
    """Protects what the ingest process builds on."""
    check(SensorCommunityPeer(replay), tmp_path)
