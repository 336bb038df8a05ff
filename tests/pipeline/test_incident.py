"""Incidents' ids and the JSON of their messages."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.incident import (
    AlertMessage,
    Incident,
    Kind,
    Phase,
    Severity,
    Tier,
    decode,
    encode,
    finite_json,
    incident_id,
    rfc3339,
)

TIMES = st.integers(-(2**62), 2**62)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
SUBJECTS = st.tuples(NAMES, NAMES, st.sampled_from(Kind), TIMES, NAMES)
MESSAGES = st.builds(
    AlertMessage,
    incident_id=st.text("0123456789abcdef", min_size=32, max_size=32),
    phase=st.sampled_from(Phase),
    sequence=st.integers(0, 1000),
    stream=NAMES,
    entity=NAMES,
    kind=st.sampled_from(Kind),
    name=NAMES,
    site=NAMES,
    tier=st.sampled_from(Tier),
    severity=st.sampled_from(Severity),
    time_us=TIMES,
    first_step=TIMES,
    started_us=TIMES,
    opened_us=TIMES,
    resolved_us=st.none() | TIMES,
    score=st.none() | FINITE,
    alpha=st.none() | FINITE,
    reason=NAMES,
    explanation=st.dictionaries(NAMES, PLAIN, max_size=3),
    model_version=NAMES,
    flapping=st.booleans(),
    note=NAMES,
    told_us=TIMES,
)


def message(**changes: Any) -> AlertMessage:
    """Return a message about PM2.5 of a station."""
    values: dict[str, Any] = {
        "incident_id": "ab" * 16, "phase": Phase.OPENED, "sequence": 3, "stream": "air quality", "entity": "north/a",
        "kind": Kind.ANOMALY, "name": "", "site": "north", "tier": Tier.ALERT, "severity": Severity.CRITICAL,
        "time_us": 1_772_510_400_000_000, "first_step": 7, "started_us": 1_772_510_400_000_000,
        "opened_us": 1_772_510_400_000_000, "resolved_us": None, "score": 1.5, "alpha": 1e-4, "reason": "odd",
        "explanation": {}, "model_version": "m", "flapping": False, "note": "", "told_us": 1_772_510_401_000_000,
    }  # fmt: skip
    return AlertMessage(**(values | changes))


def test_an_id_is_the_same_in_another_process() -> None:
    """Protects the idempotence of sinks across restarts: no seed, clock or hash randomisation enters an id."""
    arguments = ("air", "north/a", Kind.LIMIT, 2_954_016, "pm25/legal")
    code = (
        "from pipeline.incident import incident_id, Kind;"
        "import sys; sys.stdout.write(incident_id('air', 'north/a', Kind.LIMIT, 2_954_016, 'pm25/legal'))"
    )
    environment = {"PYTHONHASHSEED": "4711"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert other.stdout == incident_id(*arguments)
    assert len(other.stdout) == 32


@given(SUBJECTS, SUBJECTS)
def test_ids_differ_where_anything_differs(
    one: tuple[str, str, Kind, int, str], other: tuple[str, str, Kind, int, str]
) -> None:
    """Protects two incidents from sharing an id, whatever separators their names contain."""
    assert (incident_id(*one) == incident_id(*other)) == (one == other)


@given(MESSAGES)
def test_messages_survive_their_json(original: AlertMessage) -> None:
    """Protects readers of the alerts topic: what was said is what they read, for any names, numbers and times.

    In ASCII, so that no reader's idea of an encoding matters.
    """
    assert decode(encode(original)) == original
    assert encode(original).isascii()


@pytest.mark.parametrize("name", ["grün ²", "\U0001f4a7 well", "half a \ud800 character", 'say "hi"\n\u2028'])
def test_names_that_ascii_cannot_hold_are_escaped(name: str) -> None:
    """Protects names of any script: another JSON parser reads what was meant."""
    assert json.loads(encode(message(entity=name)))["data"]["entity"] == name


def test_the_envelope_is_a_cloud_event() -> None:
    """Protects the contract with CloudEvents consumers: the attributes of version 1.0, derived by hand."""
    event = json.loads(encode(message()))
    assert event["specversion"] == "1.0"
    assert event["id"] == "ab" * 16 + ":3"
    assert event["type"] == "vedette.alert.opened"
    assert event["source"] == "vedette/air%20quality"
    assert event["subject"] == "north/a"
    assert event["time"] == "2026-03-03T04:00:00Z"
    assert event["data"]["tier"] == "alert"
    assert event["data"]["told"] == "2026-03-03T04:00:01Z"
    assert event["data"]["resolved"] is None


def test_no_number_in_the_json_is_nan_or_infinite() -> None:
    """Protects strict JSON parsers: NaN and infinities become null wherever they stand."""
    odd = message(score=math.nan, explanation={"band": [math.inf, -math.inf, 1.0], "deep": {"x": math.nan}})
    data = json.loads(encode(odd), parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))["data"]
    assert data["score"] is None
    assert data["explanation"] == {"band": [None, None, 1.0], "deep": {"x": None}}


def test_numpy_numbers_become_plain_ones() -> None:
    """Protects explanations built from arrays: numpy turns into JSON, other objects are refused."""
    mixed = {"a": np.float32(0.5), "b": np.arange(2), "c": np.array([np.nan]), "d": np.bool_(True)}
    assert finite_json(mixed) == {"a": 0.5, "b": [0, 1], "c": [None], "d": True}
    with pytest.raises(TypeError, match="object cannot be put into an alert's explanation"):
        finite_json({"x": object()})


@pytest.mark.parametrize(("key", "text"), [(True, "True"), (None, "None"), ((1, 2), "(1, 2)"), (7, "7")])
def test_keys_that_are_no_text_become_text(key: object, text: str) -> None:
    """Protects an alert from a detail of its explanation: whatever it is keyed by, the message is written."""
    odd = message(explanation=cast(Any, {"deep": {key: 1}}))
    assert json.loads(encode(odd))["data"]["explanation"] == {"deep": {text: 1}}


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"data":{},"type":"vedette.alert.opened"}', b"null"])
def test_what_is_no_alert_is_refused_as_a_value_error(raw: bytes) -> None:
    """Protects consumers from stray records: one kind of error, with a text that says what was expected."""
    with pytest.raises(ValueError, match="not a vedette alert event"):
        decode(raw)


def test_an_event_whose_id_does_not_fit_its_data_is_refused() -> None:
    """Protects against tampered or truncated envelopes."""
    event = json.loads(encode(message()))
    event["id"] = "other:3"
    with pytest.raises(ValueError, match="specversion or id do not fit"):
        decode(json.dumps(event).encode())


def test_times_outside_the_calendar_are_clamped() -> None:
    """Protects the writer from absurd clocks: RFC 3339 has years 1 to 9999 only."""
    assert rfc3339(2**62) == "9999-12-31T23:59:59.999999Z"
    assert rfc3339(-(2**62)) == "0001-01-01T00:00:00Z"
    assert rfc3339(1) == "1970-01-01T00:00:00.000001Z"


def test_an_incident_survives_its_checkpoint() -> None:
    """Protects open incidents across a restart: JSON and back gives an equal one."""
    incident = Incident("id", "air", "a", Kind.STUCK, "no2", "a", Tier.ALERT, Severity.WARNING, 5, 1, 2, 1.5, "why",
                        {"x": [1, None]}, 2, True, True)  # fmt: skip
    assert Incident.from_json(json.loads(json.dumps(incident.to_json()))) == incident
