"""The section of a source of kind ``frigate``: each option on its way, the token masked, mistakes named."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.frigate import FrigateSource
from connectors.frigate_manner import Manner
from pipeline.config import effective, loads
from pipeline.config_errors import ConfigError
from pipeline.ingest.catalogue import source_kinds
from pipeline.ingest.kind import SourcePlace
from pipeline.ingest.kinds.frigate import FrigateOptions

HEAD = "streams:\n  - {name: air, topics: [air], step: 1m, channels: [{name: person}]}\ningest:\n  sources:\n"
WHOLE = """\
    - name: street
      kind: frigate
      host: broker.example.org
      topic_prefix: nvr/frigate
      url: https://frigate.example.org:8971
      token: very-hidden
      timeout: 5s
      cameras: [dock, street]
      labels: [person, car]
      reviews: false
      grace: 20s
      every: 2m
      silent: 4m
      history: 3h
      reach: 2d
"""


def test_a_whole_section_becomes_a_source(tmp_path: Path) -> None:
    """Protects every option on its way, and the token from being shown."""
    config = loads(HEAD + WHOLE, {})
    assert "very-hidden" not in effective(config)
    (options,) = config.ingest.sources
    assert isinstance(options, FrigateOptions)
    source = source_kinds()["frigate"].build(options, SourcePlace(tmp_path, {}))
    assert isinstance(source, FrigateSource)
    assert source.manner == Manner(
        prefix="nvr/frigate",
        cameras=("dock", "street"),
        labels=("person", "car"),
        reviews=False,
        asks=True,
        grace_us=20_000_000,
        every_us=120_000_000,
        silent_us=240_000_000,
        history_us=3 * 3_600_000_000,
        reach_us=2 * 86_400_000_000,
    )
    assert source.service is not None
    assert (source.service.host, source.service.key_header, source.service.key) == (
        "frigate.example.org", "Authorization", "Bearer very-hidden",
    )  # fmt: skip
    assert "very-hidden" not in repr(source.service)


def test_little_is_enough(tmp_path: Path) -> None:
    """Protects the shortest section: a broker."""
    config = loads(HEAD + "    - {name: street, kind: frigate, host: localhost}\n", {})
    source = source_kinds()["frigate"].build(config.ingest.sources[0], SourcePlace(tmp_path, {}))
    assert isinstance(source, FrigateSource)
    assert source.service is None
    assert source.manner.labels == ()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("url: frigate:5000", "url"),
        ("cameras: [dock/gate]", "cameras"),
        ("grace: 0s", "must be longer than zero"),
        ("lables: [person]", "labels"),
    ],
)
def test_mistakes_are_named(line: str, says: str) -> None:
    """Protects whoever writes the section."""
    with pytest.raises(ConfigError, match=says):
        loads(f"{HEAD}    - name: street\n      kind: frigate\n      host: localhost\n      {line}\n", {})
