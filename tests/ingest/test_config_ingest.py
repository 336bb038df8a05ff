"""The section ``ingest`` of the config: kinds are told apart, and mistakes are named with their lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config import effective, json_schema, loads
from pipeline.config_errors import ConfigError
from pipeline.exit_codes import CONFIG, OK
from pipeline.ingest.catalogue import source_kinds

HEAD = """
streams:
  - {name: air, topics: [air], step: 10m, channels: [{name: pm25}]}
  - {name: water, topics: [water], step: 15m, channels: [{name: stage}]}
ingest:
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(HEAD + text, {})
    return str(caught.value).splitlines()


def test_every_kind_can_be_written_in_the_config() -> None:
    """Protects users' files: each kind is known by its name, and its example is a valid section."""
    schema = str(json_schema())
    for name, kind in source_kinds().items():
        assert kind.text
        assert f"'const': '{name}'" in schema or f"'enum': ['{name}']" in schema, name


def test_an_unknown_kind_is_named_with_the_nearest() -> None:
    """Protects from guessing: what is not known, what is, and what was probably meant."""
    said = "\n".join(mistakes("  sources:\n    - {name: a, kind: usgss, topic: water}\n"))
    assert "ingest.sources[0].kind" in said
    assert '"usgss" is no known kind' in said
    assert 'did you mean "usgs"?' in said


def test_names_topics_and_sizes_are_checked() -> None:
    """Protects cursors, which are kept by name, and readings, which somebody has to read."""
    said = "\n".join(
        mistakes(
            "  max_spool: much\n"
            "  sources:\n"
            "    - {name: a, kind: usgs, topic: wind, sites: [USGS-1]}\n"
            "    - {name: a, kind: usgs, sites: [USGS-1]}\n"
        )
    )
    assert "ingest.max_spool" in said
    assert "1GiB" in said
    assert "'wind' is read by no stream" in said or "is read by no stream" in said
    assert "is the name of another source too" in said
    assert "the streams read several topics" in said


def test_a_source_that_would_read_what_it_writes_is_refused() -> None:
    """Protects from readings that go round in a circle, longer by a prefix each time; another cluster is no circle."""
    said = "\n".join(
        mistakes("  sources:\n    - {name: a, kind: kafka, topic: air, topics: [plant, air], prefix: x-}\n")
    )
    assert "ingest.sources[0].topics" in said
    assert "is where its readings go" in said
    other = "cluster: {bootstrap_servers: [other:9092]}"
    loads(f"{HEAD}  sources:\n    - {{name: a, kind: kafka, topic: air, topics: [air], {other}}}\n", {})
    loads(f"{HEAD}  sources:\n    - {{name: a, kind: kafka, topic: air, topics: [water]}}\n", {})


def test_counters_that_cannot_be_meant_are_refused() -> None:
    """Protects from the rate of an increase, which is none, and from a name that means no channel."""
    head = HEAD.replace("{name: pm25}", "{name: pm25}, {name: cars, aggregate: rate}, {name: bikes, aggregate: sum}")
    source = "  sources:\n    - {name: a, kind: http, topic: air, "

    def said(text: str) -> str:
        with pytest.raises(ConfigError) as caught:
            loads(f"{head}{source}{text}}}\n", {})
        return str(caught.value)

    wrong = said("counters: [bikes, ca*]")
    assert "ingest.sources[0].counters[1]" in wrong
    assert "means cars, of which stream air takes the rate: that wants the totals" in wrong
    assert "aggregate: sum there, or no counter here" in wrong
    assert "is none of the channels that `only` lets through" in said("only: [pm25], counters: [bike]")
    assert "counters[0]" in said("counters: ['']")
    assert "must be longer than zero" in said("counters: [bikes], counter_gap: 0s")
    loads(f"{head}{source}only: [bikes], counters: [b*, '*'], counter_gap: 2d}}\n", {})
    loads(f"{head}{source.replace('topic: air', 'topic: water')}counters: [cars]}}\n", {})


def test_the_effective_config_shows_a_sources_own_options_and_masks_secrets() -> None:
    """Protects `vedette check --effective`: what a kind adds is shown, keys are not."""
    text = HEAD + "  sources:\n    - {name: a, kind: usgs, topic: water, sites: [USGS-1], key: very-secret}\n"
    shown = effective(loads(text, {}))
    assert "USGS-1" in shown
    assert "very-secret" not in shown
    assert "max_spool: 1GiB" in shown


def test_check_names_the_sources_and_what_is_wrong_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects from an ingest process that is only found out at its start."""
    mappings = "mappings: [{topic: 'a/{entity}', channel: stage}]"
    source = f"  sources:\n    - {{name: plant, kind: mqtt, topic: water, host: broker, {mappings}}}\n"
    path = tmp_path / "vedette.yaml"
    path.write_text(f"state: {tmp_path}/state\n{HEAD}{source}")
    assert main(["check", "--offline", "--config", str(path)]) == OK
    assert "sources      ok      plant (mqtt)" in capsys.readouterr().out
    source = "  sources:\n    - {name: gauges, kind: usgs, topic: water, sites: [USGS-1], ca_file: /nowhere/ca.pem}\n"
    path.write_text(f"state: {tmp_path}/state\n{HEAD}{source}")
    assert main(["check", "--offline", "--config", str(path)]) == CONFIG
    assert "gauges (usgs): ca_file: /nowhere/ca.pem is no file that can be read" in capsys.readouterr().out
    source = "  sources:\n    - {name: kept, kind: files, topic: water, path: 'nosuch://x/*.csv'}\n"
    path.write_text(f"state: {tmp_path}/state\n{HEAD}{source}")
    assert main(["check", "--offline", "--config", str(path)]) == CONFIG
    assert "kept (files): nosuch://x/*.csv" in capsys.readouterr().out
