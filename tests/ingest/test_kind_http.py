"""The section of a source of kind ``http`` is checked, its secrets are masked, and its source is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.http_push import HttpPush
from pipeline.config import effective, loads
from pipeline.config_errors import ConfigError
from pipeline.ingest.kind import SourcePlace
from pipeline.ingest.kinds.http import KIND, HttpOptions

HEAD = "streams:\n  - {name: air, topics: [air], step: 10m, channels: [{name: pm25}]}\ningest:\n  sources:\n"
WHOLE = (
    "    - {name: pushed, kind: http, host: 0.0.0.0, port: 0, max_body: 2MiB, quiet_after: 10m,\n"
    "       senders: [{name: roof, token: very-hidden, prefix: roof-}],\n"
    "       line_protocol: {entity: [host], ignore: [rack], channel: measurement_field, text: ignore}}\n"
)


def test_a_whole_section_becomes_a_source() -> None:
    """Protects every option on its way, and the token from being shown."""
    config = loads(HEAD + WHOLE, {})
    shown = effective(config)
    assert "very-hidden" not in shown
    assert "max_body: 2MiB" in shown
    (options,) = config.ingest.sources
    assert isinstance(options, HttpOptions)
    source = KIND.build(options, SourcePlace(Path("x"), {}))
    assert isinstance(source, HttpPush)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("    - {name: a, kind: http, host: 0.0.0.0}\n", "0.0.0.0 is reached from other machines"),
        ("    - {name: a, kind: http, senders: [{name: x, token: s}, {name: y, token: s}]}\n", "one name or one token"),
        ("    - {name: a, kind: http, host: 0.0.0.0, senders: [{name: x, token: ''}]}\n", "token of sender x is empty"),
        ("    - {name: a, kind: http, senders: [{name: x}]}\n", "sources[0].senders[0].token: is missing"),
        ("    - {name: a, kind: http, line_protocol: {channel: tag}}\n", "measurement_field"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    """Protects a port that is open to the network from being open to all by oversight."""
    with pytest.raises(ConfigError) as caught:
        loads(HEAD + text, {})
    assert said in str(caught.value)


def test_the_default_listens_on_this_machine_only() -> None:
    """Protects a first try, for which nothing has to be said."""
    (options,) = loads(HEAD + "    - {name: a, kind: http}\n", {}).ingest.sources
    assert options.model_dump()["host"] == "127.0.0.1"
