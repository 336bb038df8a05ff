"""The embedded broker, shared by the contracts of sources and sinks."""

from __future__ import annotations

from tests.kafka_broker import embedded

__all__ = ["embedded"]
