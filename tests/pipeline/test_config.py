"""A right config says everything once; a wrong one is told all its mistakes at once."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import MASK, Config, effective, json_schema, load, loads
from pipeline.config_errors import ConfigError, Mistake, describe, spell

SMALL = """
streams:
  - name: air
    topics: [sensors.air]
    step: 10m
    channels:
      - name: pm25
        unit: ug/m3
"""


def mistakes_of(text: str, environment: dict[str, str] | None = None) -> dict[str, str]:
    """Return each mistake of ``text`` by its path."""
    with pytest.raises(ConfigError) as caught:
        loads(text, environment or {})
    mistakes = caught.value.mistakes
    found = {spell(mistake.path): str(mistake).replace(f", {spell(mistake.path)}", "") for mistake in mistakes}
    assert len(found) == len(mistakes), "one sentence a path"
    return found


def in_stream(lines: str) -> str:
    """Return the small config with ``lines`` added to its stream."""
    return SMALL + "".join(f"    {line}\n" for line in lines.splitlines())


def test_the_smallest_config_has_sensible_defaults() -> None:
    """Protects the promise that only streams must be said."""
    config = loads(SMALL, {})
    stream = config.stream("air")
    assert stream.step == timedelta(minutes=10)
    assert stream.step_us == 600_000_000
    assert stream.silence == timedelta(minutes=50)
    assert stream.horizons[0] == 1
    assert stream.budget.period_s == 30 * 86_400
    assert config.http.host == "127.0.0.1"
    assert config.outputs.alerts_topic == "vedette.alerts"
    with pytest.raises(KeyError):
        config.stream("water")


def test_all_mistakes_come_at_once_with_line_value_and_what_is_allowed() -> None:
    """Protects the person who mends the file: once, and not once per mistake."""
    text = """streams:
  - name: air
    topics: [a]
    step: 10 minutess
    chanels: []
    channels:
      - name: NO
        aggregate: men
        limits:
          - {name: legal, above: 25, clear: 30}
      - {unit: ug/m3}
      - {name: NO, limits: [{name: none}]}
      - 5
  - name: air
    topics: [a, vedette.alerts]
    step: 10m
    horizons: [3, 1]
    channels: [{name: pm25, unit: 7}]
http: {port: 99999}
seed: true
log: 5
kafka:
  bootstrap_servers: nowhere
  settings: {group_id: x, fetch_max_bytes: [1]}
  security: {protocol: SASL_SSL}
"""
    found = mistakes_of(text)
    assert found.keys() == {
        "streams[0].step",
        "streams[0].chanels",
        "streams[0].channels[0].aggregate",
        "streams[0].channels[0].limits[0].clear",
        "streams[0].channels[1].name",
        "streams[0].channels[2].name",
        "streams[0].channels[2].limits[0]",
        "streams[0].channels[3]",
        "streams[1].name",
        "streams[1].topics[0]",
        "streams[1].horizons",
        "streams[1].channels[0].unit",
        "outputs.alerts_topic",
        "http.port",
        "seed",
        "log",
        "kafka.bootstrap_servers",
        "kafka.settings.group_id",
        "kafka.settings.fetch_max_bytes",
        "kafka.security.mechanism",
        "kafka.security.username",
        "kafka.security.password",
    }
    assert found["streams[0].step"].startswith('line 4: "10 minutess" is not a duration (allowed: a number with a unit')
    assert found["streams[0].chanels"].startswith('line 5: is not a known key; did you mean "channels"?')
    assert '"men" is not one of the choices; did you mean "mean"?' in found["streams[0].channels[0].aggregate"]
    assert "25 or less" in found["streams[0].channels[0].limits[0].clear"]
    assert found["streams[0].channels[1].name"] == "line 11: is missing"
    assert found["http.port"] == "line 19: 99999 is too large (allowed: 65535 or less)"


@pytest.mark.parametrize(
    ("line", "path", "problem"),
    [
        ("grace: 5", "grace", "5 has no unit"),
        ("grace: -5s", "grace", '"-5s" is not a duration'),
        ("max_ahead: 0s", "max_ahead", "must be longer than zero"),
        ("revise: 300d", "revise", "more than 1024 steps open"),
        ("silence_after: 1m", "silence_after", "is shorter than the step"),
        ("max_entities: 0", "max_entities", "0 is too small (allowed: 1 or more)"),
        ("max_entities: 1.5", "max_entities", "1.5 is not a whole number"),
        ("budget: rarely", "budget", "is not a false-alarm budget"),
        ("horizons: [2, 3]", "horizons[0]", "cannot come first"),
        ("horizons: []", "horizons", "too few"),
        (
            "model: {hidden: 30, attention: {kind: multi_head, heads: 4}}",
            "model.attention.heads",
            "4 does not divide hidden, which is 30",
        ),
        ("model: {attention: {kind: loud}}", "model.attention.kind", "is not one of the choices"),
        ("model: {attention: {seasonal_lags: [1m]}}", "model.attention.seasonal_lags[0]", "shorter than the step"),
        ("model: {neighbours: {map: {a: [a]}}}", "model.neighbours.map.a", "is its own neighbour"),
        ("model: {neighbours: {k: 1, map: {a: [b, c]}}}", "model.neighbours.map.a", "more neighbours than k"),
        ("alerts: {n_of_m: 3 of 2}", "alerts.n_of_m", "must have 1 <= n <= m <= 64"),
        ("alerts: {flap: {times: 1}}", "alerts.flap.times", "1 is too small (allowed: 2 or more)"),
        ("maintenance: [{start: 2026-01-01, end: 2026-01-02T00:00:00Z}]", "maintenance[0].start", "timezone"),
        (
            "maintenance: [{start: 2026-01-02T00:00:00Z, end: 2026-01-01T00:00:00Z}]",
            "maintenance[0].end",
            "is not after start",
        ),
        (
            "maintenance: [{start: 2026-01-01T00:00:00Z, end: 2026-01-03T00:00:00Z, repeat: 1d}]",
            "maintenance[0].repeat",
            "shorter than the maintenance itself",
        ),
        ("site_of: {'a b': x}", "site_of.a b", "white space"),
    ],
)
def test_each_rule_says_what_it_wants(line: str, path: str, problem: str) -> None:
    """Protects every validator's failing path and its text."""
    found = mistakes_of(in_stream(line))
    assert list(found) == [f"streams[0].{path}"]
    assert problem in found[f"streams[0].{path}"]


def test_a_step_too_fine_or_too_coarse_is_refused() -> None:
    """Protects the windows from a grid that cannot be kept."""
    for step, problem in (("10us", "too short"), ("30d", "too long")):
        assert problem in mistakes_of(SMALL.replace("10m", step))["streams[0].step"]


def test_words_of_yaml_1_1_stay_words() -> None:
    """Protects the channel NO (nitric oxide) from becoming false, and 12:30 from becoming 750."""
    config = loads(SMALL.replace("pm25", "NO") + "kafka: {settings: {client_rack: 12:30, note: on}}\n", {})
    assert config.streams[0].channels[0].name == "NO"
    assert config.kafka.settings == {"client_rack": "12:30", "note": "on"}


def test_environment_fills_in_and_keeps_types() -> None:
    """Protects ${ENV}: numbers stay numbers, quotes stay text, defaults hold, $${ is plain."""
    http = "http:\n  port: ${PORT}\n  host: ${HOST:-0.0.0.0}\n"
    text = f"{SMALL}{http}kafka: {{group: '$${{x}}', settings: {{a: \"${{PORT}}\"}}}}\n"
    config = loads(text, {"PORT": "8080"})
    assert (config.http.port, config.http.host) == (8080, "0.0.0.0")
    assert (config.kafka.group, config.kafka.settings["a"]) == ("${x}", "8080")


def test_a_missing_variable_is_told_with_the_nearest_one() -> None:
    """Protects from an empty value where a variable has a slip."""
    found = mistakes_of(SMALL + "http:\n  host: ${VEDETTE_HSOT}\n", {"VEDETTE_HOST": "x"})
    assert '"${VEDETTE_HSOT}" is not set in the environment; did you mean "VEDETTE_HOST"?' in found["http.host"]
    assert "is not a variable" in mistakes_of(SMALL + "http:\n  host: ${1x}\n")["http.host"]


def test_secrets_come_from_files_and_are_masked(tmp_path: Path) -> None:
    """Protects passwords: read without the newline, passed to Kafka, and shown nowhere."""
    (tmp_path / "password").write_text("hunter2\n")
    security = f"{{protocol: SASL_SSL, mechanism: PLAIN, username: me, password: 'file:{tmp_path}/password'}}"
    config = loads(SMALL + f"kafka:\n  security: {security}\n  settings: {{ssl_password_x: hunter3, acks: all}}\n", {})
    passed = config.kafka.client_settings()
    assert (passed["sasl_plain_password"], passed["ssl_password_x"], passed["acks"]) == ("hunter2", "hunter3", "all")
    assert "hunter2" not in repr(config)
    assert "hunter" not in effective(config)
    assert MASK in effective(config)


@pytest.mark.parametrize("url", ["postgresql+psycopg://me:hunter2@db/x", "postgresql://db/x?user=me&password=hunter2"])
def test_the_password_of_the_database_is_not_shown(url: str) -> None:
    """Protects it from logs and from whoever looks at the effective config, which still says which database it is."""
    shown = effective(loads(SMALL + f"database: {{url: '{url}'}}\n", {}))
    assert "hunter2" not in shown
    assert "db/x" in shown


def test_a_secret_that_cannot_be_read_is_told_but_never_shown() -> None:
    """Protects a password that was written in the wrong shape from the log."""
    found = mistakes_of(SMALL + "kafka:\n  security: {password: [hunter2], key_password: 'file:/no/such/file'}\n")
    assert "hunter2" not in "".join(found.values())
    assert "/no/such/file: No such file or directory" in found["kafka.security.key_password"]


def test_a_key_said_twice_is_a_mistake() -> None:
    """Protects from YAML's silent last-one-wins."""
    found = mistakes_of(SMALL + "seed: 1\nseed: 2\n")
    assert found["seed"] == "line 10: is said twice (first on line 9) (allowed: each key once)"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("# nothing", "is empty"),
        ("[1]", "is not a mapping"),
        ("streams: {", "is not YAML"),
        ("streams: []", "too few elements"),
        ("http: {port: ${PORT}}", 'quotes around "${NAME}"'),
        ("a: &a [*a]", "aliases without end"),
        ("? [a]\n: b", "a key must be a word"),
        ("a: !!python/object:os.system {}", "is not a known key"),
        ("\x00", "is not YAML"),
    ],
)
def test_what_is_no_config_at_all_is_told(text: str, problem: str) -> None:
    """Protects from stack traces for files that are something else."""
    with pytest.raises(ConfigError, match=re.escape(problem)):
        loads(text, {})


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    """Protects from the "billion laughs"."""
    levels = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="aliases without end"):
        loads("\n".join(levels), {})


@given(st.text(max_size=200) | st.from_regex(r"(streams|kafka|http): [\[\]{}a-z0-9:, \n&*!-]{0,80}", fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_a_config_or_its_mistakes(text: str) -> None:
    """Protects `vedette check` from ever raising anything else."""
    with suppress(ConfigError):
        loads(text, {})


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """Protects the exit code: a missing file is a mistake in the config, not a defect."""
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"seed: \xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "latin.yaml")


def test_the_effective_config_loads_to_the_same() -> None:
    """Protects `check --effective` as documentation of every default."""
    config = loads(in_stream("budget: 2 per week\nsilence_after: 1h\nsite_of: {'n-*': north}"), {})
    assert loads(effective(config), {}) == config


def test_the_fingerprint_follows_what_shapes_the_state() -> None:
    """Protects checkpoints: changing a limit keeps the state, changing the step does not."""
    same = in_stream("budget: 9 per week\nalerts: {cooldown: 3h}").replace("ug/m3", "ug/m3\n        stuck: false")
    assert loads(same, {}).streams[0].fingerprint() == loads(SMALL, {}).streams[0].fingerprint()
    for other in (SMALL.replace("10m", "5m"), SMALL.replace("pm25", "pm10"), in_stream("model: {hidden: 64}")):
        assert loads(other, {}).streams[0].fingerprint() != loads(SMALL, {}).streams[0].fingerprint()


@pytest.mark.parametrize(
    ("said", "least"),
    [
        ("aggregate: sum", 1),
        ("aggregate: sum, every: 1m", 5),
        ("aggregate: count, every: 3m", 2),
        ("aggregate: mean, every: 1m", 1),
        ("aggregate: mean, every: 1m, least_coverage: 0.75", 8),
        ("aggregate: sum, every: 1m, least_coverage: 0", 1),
        ("aggregate: sum, every: 1m, least_coverage: 1", 10),
        ("aggregate: sum, every: 1h", 1),
    ],
)
def test_how_many_readings_a_step_needs(said: str, least: int) -> None:
    """Protects sums from falling with what is missing, and everybody who says nothing from a change."""
    channel = f"channels: [{{name: pm25, {said}}}]"
    stream = loads(f"streams:\n  - {{name: air, topics: [air], step: 10m, {channel}}}\n", {}).streams[0]
    assert stream.channels[0].least_readings(stream.step) == least
    plain = loads("streams:\n  - {name: air, topics: [air], step: 10m, channels: [{name: pm25}]}\n", {}).streams[0]
    assert (stream.fingerprint() == plain.fingerprint()) == ("mean" in said), "the state is the same"


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        ("least_coverage: 0.5", "least_coverage is a share of nothing"),
        ("aggregate: rate, every: 1m", "every is of no use to a rate"),
        ("every: 1m, least_coverage: 1.5", "least_coverage"),
        ("every: 0s", "must be longer than zero"),
    ],
)
def test_a_coverage_that_cannot_be_meant(channel: str, said: str) -> None:
    """Protects from a bar that nobody applies."""
    with pytest.raises(ConfigError, match=said):
        loads(f"streams:\n  - {{name: a, topics: [a], step: 10m, channels: [{{name: b, {channel}}}]}}\n", {})


def test_the_schema_knows_every_section_and_is_json() -> None:
    """Protects completion in editors."""
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["required"] == ["streams"]


def test_a_config_cannot_be_changed() -> None:
    """Protects from settings that drift while the daemon runs."""
    with pytest.raises(ValueError, match="frozen"):
        loads(SMALL, {}).seed = 3


def test_mistakes_read_well() -> None:
    """Protects the sentence: one mistake is not "1 mistakes"."""
    mistake = Mistake(("a", 0, "b"), 3, "x", "is odd", "y", "z")
    assert describe([mistake]).splitlines() == [
        "1 mistake in the config:",
        '  line 3, a[0].b: "x" is odd; did you mean "z"? (allowed: y)',
    ]


def test_every_section_forbids_unknown_keys_and_names_the_known_ones() -> None:
    """Protects from settings that do nothing because of a slip, at any depth."""
    data = yaml.safe_load(effective(loads(in_stream("maintenance: []"), {})))
    data["streams"][0]["model"]["train"]["epoch"] = 3
    data["checkpoints"]["evry"] = "1m"
    found = mistakes_of(yaml.safe_dump(data))
    assert 'did you mean "epochs"?' in found["streams[0].model.train.epoch"]
    assert 'did you mean "every"?' in found["checkpoints.evry"]
