"""What the configuration says reaches the parts that it is about."""

from __future__ import annotations

from typing import Any

import pytest

from connectors import kafka_source
from pipeline.build import build_daemon
from pipeline.config import loads

CONFIG = """
kafka:
  bootstrap_servers: nowhere:1
  group: night-watch
  instance: vedette-0
models: {directory: MODELS}
checkpoints: {directory: CHECKPOINTS}
streams:
  - name: air
    topics: [readings]
    channels: [{name: pm25, unit: ug/m3}]
    step: 1m
"""


def test_an_instance_keeps_its_name_in_the_group(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects static membership: without the name every restart of a replica moves the partitions of all."""
    made: list[dict[str, Any]] = []

    class Noted(kafka_source.KafkaSource):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append({"group": arguments[2]} | named)

    monkeypatch.setattr(kafka_source, "KafkaSource", Noted)
    text = CONFIG.replace("MODELS", str(tmp_path / "models")).replace("CHECKPOINTS", str(tmp_path / "checkpoints"))
    build_daemon(loads(text))
    assert [(source["group"], source["instance"]) for source in made] == [("night-watch", "vedette-0")]
