"""The examples load as they are, and show what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import effective, load, loads
from pipeline.receiver_checks import problems

EXAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "examples").glob("*.yaml"))


def test_there_is_one_for_each_use() -> None:
    """Protects the three uses that Vedette is made for."""
    assert [path.stem for path in EXAMPLES] == ["air", "cameras", "water"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_loads_cleanly_and_survives_being_made_explicit(path: Path) -> None:
    """Protects whoever starts by copying one, with nothing set in the environment."""
    config = load(path, {})
    assert config.kafka.bootstrap_servers == ("localhost:9092",)
    assert loads(effective(config), {}) == config


def test_each_limit_can_clear() -> None:
    """Protects from examples that teach limits without a clear level."""
    for path in EXAMPLES:
        for stream in load(path, {}).streams:
            for channel in stream.channels:
                assert all(limit.clear is not None for limit in channel.limits), f"{path.name}: {channel.name}"


def test_comments_hold_nothing_secret() -> None:
    """Protects from passwords in examples: they come from the environment or a file."""
    for path in EXAMPLES:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "password:" in line:
                assert "file:" in line or "${" in line, f"{path.name}: {line.strip()}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_receivers_have_what_their_kind_needs(path: Path) -> None:
    """Protects whoever copies one: somebody is told of alerts, and no receiver would be refused at the start."""
    receivers = load(path, {}).outputs.receivers
    assert receivers
    assert [told for receiver in receivers for told in problems(receiver)] == []
