"""Servers, shared by the tests of the connectors."""

from __future__ import annotations

from tests.postgres_server import postgres
from tests.replay_server import replay

__all__ = ["postgres", "replay"]
