"""Servers, shared by the tests of the connectors."""

from __future__ import annotations

from tests.kafka_broker import embedded, real_kafka
from tests.postgres_server import postgres
from tests.replay_server import replay

__all__ = ["embedded", "postgres", "real_kafka", "replay"]
