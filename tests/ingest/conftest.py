"""Servers, shared by the tests of the ingest process."""

from __future__ import annotations

from tests.kafka_broker import embedded, real_kafka
from tests.replay_server import replay

__all__ = ["embedded", "real_kafka", "replay"]
