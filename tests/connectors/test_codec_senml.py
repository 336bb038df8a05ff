"""SenML packs resolve as RFC 8428 says: the examples of its section 5, with what they mean worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.codec_json import WireReading
from connectors.codec_senml import looks_like_senml, resolve_pack
from connectors.reading import Reason
from connectors.refusal import Refusal

NOW_US = 1_795_190_400_000_000  # 2026-11-20T16:00:00Z
DEVICE = "urn:dev:ow:10e2073a01080063"


def resolved(*pack: dict[str, Any], separators: str = ":/") -> list[WireReading]:
    outcome = resolve_pack(list(pack), NOW_US, separators)
    assert isinstance(outcome, list), outcome
    return outcome


def refused(*pack: Any) -> Refusal:
    outcome = resolve_pack(list(pack), NOW_US)
    assert isinstance(outcome, Refusal)
    return outcome


def test_single_datapoint() -> None:
    """Protects RFC 8428 section 5.1.1: a name without base fields, taken now."""
    (reading,) = resolved({"n": DEVICE, "u": "Cel", "v": 23.1})
    expected = WireReading("10e2073a01080063", "2026-11-20T16:00:00Z", 23.1, "urn:dev:ow", "Cel")
    assert reading == expected


def test_multiple_datapoints_now() -> None:
    """Protects RFC 8428 section 5.1.2, first example: the base name leads each name."""
    voltage, current = resolved(
        {"bn": f"{DEVICE}:", "n": "voltage", "u": "V", "v": 120.1}, {"n": "current", "u": "A", "v": 1.2}
    )
    assert voltage == WireReading("voltage", "2026-11-20T16:00:00Z", 120.1, DEVICE, "V")
    assert current == WireReading("current", "2026-11-20T16:00:00Z", 1.2, DEVICE, "A")


def test_base_time_and_base_unit() -> None:
    """Protects RFC 8428 section 5.1.2, second example: current each second before 2010-06-08T18:01:16.001Z."""
    base = {"bn": f"{DEVICE}:", "bt": 1.276020076001e9, "bu": "A", "bver": 5, "n": "voltage", "u": "V", "v": 120.1}
    readings = resolved(
        base,
        {"n": "current", "t": -5, "v": 1.2},
        {"n": "current", "t": -4, "v": 1.3},
        {"n": "current", "v": 1.7},
    )
    assert readings == [
        WireReading("voltage", "2010-06-08T18:01:16.001000Z", 120.1, DEVICE, "V"),
        WireReading("current", "2010-06-08T18:01:11.001000Z", 1.2, DEVICE, "A"),
        WireReading("current", "2010-06-08T18:01:12.001000Z", 1.3, DEVICE, "A"),
        WireReading("current", "2010-06-08T18:01:16.001000Z", 1.7, DEVICE, "A"),
    ]


def test_multiple_measurements() -> None:
    """Protects RFC 8428 section 5.1.3: a mobile device from 2011-10-31T16:24:24Z; %RH is UCUM's %."""
    readings = resolved(
        {"bn": f"{DEVICE}", "bt": 1.320078264e9, "bu": "%RH", "n": ":humidity", "v": 20},
        {"n": ":longitude", "u": "lon", "v": 24.30621},
        {"n": ":humidity", "t": 60, "v": 20.3},
        {"n": ":battery", "u": "%EL", "t": 150, "v": 98},
    )
    assert readings == [
        WireReading("humidity", "2011-10-31T16:24:24Z", 20.0, DEVICE, "%"),
        WireReading("longitude", "2011-10-31T16:24:24Z", 24.30621, DEVICE, "deg"),
        WireReading("humidity", "2011-10-31T16:25:24Z", 20.3, DEVICE, "%"),
        WireReading("battery", "2011-10-31T16:26:54Z", 98.0, DEVICE, "%"),
    ]


def test_collection_of_resources() -> None:
    """Protects RFC 8428 section 5.1.6: a later base name replaces the first, the base time stays."""
    readings = resolved(
        {"bn": "2001:db8::2/", "bt": 1.320078429e9, "n": "temperature", "u": "Cel", "v": 25.2},
        {"n": "humidity", "u": "%RH", "v": 30},
        {"bn": "2001:db8::1/", "n": "temperature", "u": "Cel", "v": 12.3},
        {"n": "humidity", "u": "%RH", "v": 67},
    )
    assert [(reading.entity, reading.channel, reading.value) for reading in readings] == [
        ("2001:db8::2", "temperature", 25.2),
        ("2001:db8::2", "humidity", 30.0),
        ("2001:db8::1", "temperature", 12.3),
        ("2001:db8::1", "humidity", 67.0),
    ]
    assert {reading.time for reading in readings} == {"2011-10-31T16:27:09Z"}


def test_base_value_and_base_sum_are_added() -> None:
    """Protects bv and bs; a record with only a sum is a channel of its own."""
    readings = resolved(
        {"bn": "meter/", "bv": 20, "bs": 1000, "n": "power", "u": "W", "v": 1.5},
        {"n": "power", "v": 2},
        {"n": "energy", "s": 5},
    )
    assert [(reading.channel, reading.value) for reading in readings] == [
        ("power", 21.5),
        ("power", 22.0),
        ("energy.sum", 1005.0),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "2026-11-20T16:00:00Z"),
        (-900, "2026-11-20T15:45:00Z"),
        (0.02, "2026-11-20T16:00:00.020000Z"),
        (2**28 - 1, "2035-05-24T13:24:15Z"),  # now + 3106 days 21:24:15
        (2**28, "1978-07-04T21:24:16Z"),  # 1970 + 3106 days 21:24:16
    ],
)
def test_small_times_count_from_now(seconds: float, text: str) -> None:
    """Protects the border between relative and absolute time, 2**28 seconds."""
    (reading,) = resolved({"n": "a/b", "v": 1, "t": seconds})
    assert reading.time == text


def test_how_names_are_divided() -> None:
    """Protects the last separator as the border, other separators, and names without one."""
    assert resolved({"n": "site/7:pm25", "v": 1})[0].entity == "site/7"
    (dotted,) = resolved({"n": "site-7.pm25", "v": 1}, separators=".")
    assert (dotted.entity, dotted.channel) == ("site-7", "pm25")
    (bare,) = resolved({"n": "pm25", "v": 1})
    assert (bare.entity, bare.channel) == (None, "pm25")


def test_booleans_are_numbers_and_a_base_record_alone_is_none() -> None:
    """Protects pumps and doors as 0 and 1, and packs that begin with a record of base fields only."""
    (pump,) = resolved({"bn": "plant:", "bt": 1795190400}, {"n": "pump", "vb": True})
    assert (pump.entity, pump.channel, pump.value) == ("plant", "pump", 1.0)


@pytest.mark.parametrize(
    ("record", "reason", "said"),
    [
        ({"n": "a/b", "vs": "open"}, Reason.UNSUPPORTED, "only vs"),
        ({"n": "a/b", "vd": "aGk"}, Reason.UNSUPPORTED, "only vd"),
        ({"n": "a/b", "v": 1, "bver": 11}, Reason.UNSUPPORTED, "at most 10"),
        ({"n": "a/b", "v": 1, "future_": 1}, Reason.UNSUPPORTED, "'future_'"),
        ({"n": "a/b"}, Reason.MISSING_KEY, "no value"),
        ({"v": 1}, Reason.MISSING_KEY, "name ''"),
        ({"n": "a/", "v": 1}, Reason.MISSING_KEY, "ends in a separator"),
        ({"n": "-a/b", "v": 1}, Reason.WRONG_TYPE, "first a letter or digit"),
        ({"n": "a b", "v": 1}, Reason.WRONG_TYPE, "A-Z a-z"),
        ({"n": "a/b", "v": "1"}, Reason.WRONG_TYPE, "$.v"),
        ({"n": "a/b", "v": True}, Reason.WRONG_TYPE, "$.v"),
        (17, Reason.WRONG_TYPE, "int"),
        ({"n": "a/b", "v": 1e308, "bv": 1e308}, Reason.NOT_FINITE, "no finite number"),
        ({"n": "a/b", "v": 1, "t": 1e300}, Reason.BAD_TIME, "1e+300"),
        ({"n": "a/b", "v": 1, "t": -1e300}, Reason.BAD_TIME, "-1e+300"),
        ({"n": "a/b", "v": 1, "t": 9e9}, Reason.BAD_TIME, "out of range"),
        ({"bn": "a/"}, Reason.EMPTY, "base fields only"),
    ],
)
def test_each_fault_has_its_reason(record: Any, reason: Reason, said: str) -> None:
    """Protects the reasons, and that the detail says what was wrong."""
    outcome = refused(record)
    assert outcome.reason == reason
    assert said in outcome.detail


def test_one_bad_record_refuses_the_pack_and_is_named() -> None:
    """Protects the rule that a Kafka record is read or refused as a whole."""
    assert "SenML record 1" in refused({"n": "a/b", "v": 1}, {"n": "a/c", "vs": "text"}).detail


def test_what_looks_like_senml() -> None:
    """Protects canonical lists from being taken for packs, and packs from being taken for bad lists."""
    assert looks_like_senml([{"n": "a/b", "v": 1}])
    assert looks_like_senml([{"bn": "a/"}])
    assert not looks_like_senml([{"channel": "a", "time": "x", "v": 1}])
    assert not looks_like_senml({"n": "a/b", "v": 1})
    assert not looks_like_senml([])
    assert not looks_like_senml([1])


FIELDS = st.sampled_from(["bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "ut", "x_"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)


@given(st.lists(st.dictionaries(FIELDS, SCALARS, max_size=6) | SCALARS, max_size=4))
def test_any_pack_is_resolved_or_refused(pack: list[Any]) -> None:
    """Protects the daemon: no pack may raise, whatever is in it."""
    assert isinstance(resolve_pack(json.loads(json.dumps(pack)), NOW_US), list | Refusal)
