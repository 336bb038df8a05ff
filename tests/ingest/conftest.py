"""Servers, shared by the tests of the ingest process."""

from __future__ import annotations

from tests.replay_server import replay

__all__ = ["replay"]
