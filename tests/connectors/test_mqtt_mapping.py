"""Topics and payloads to readings: templates, paths, times and values, and that no payload raises anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.json_path import ABSENT, compiled
from connectors.mqtt_mapping import MappingRule, TopicMapping, ValueRule
from connectors.mqtt_messages import MqttMessage
from connectors.mqtt_topics import covers, template, widest
from connectors.payload_times import PayloadTimes
from connectors.reading import Quality, Reading, Reason
from connectors.refusal import Refusal

NOW_US = 1_795_190_400_000_000  # 2026-11-20T16:00:00Z


def read(rule: MappingRule, topic: str, payload: bytes | object) -> tuple[list[Reading], list[Refusal]]:
    mapping = TopicMapping(rule)
    bound = mapping.bind(topic)
    assert bound is not None
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return mapping.read(MqttMessage(topic, raw, received_us=NOW_US), bound)


def rows(rule: MappingRule, topic: str, payload: bytes | object) -> list[tuple[str, str, float | None, str, int]]:
    readings, refused = read(rule, topic, payload)
    assert not refused
    return [(r.entity, r.channel, r.value, r.unit, (r.time_us - NOW_US) // 1_000_000) for r in readings]


def refusal(rule: MappingRule, topic: str, payload: bytes | object) -> Refusal:
    readings, refused = read(rule, topic, payload)
    assert not readings
    (one,) = refused
    return one


def rule(topic: str, *values: ValueRule, **more: Any) -> MappingRule:
    return MappingRule(topic=topic, values=values or (ValueRule(),), **more)


# ---- topics ----


@pytest.mark.parametrize(
    ("text", "filter_", "topic", "names"),
    [
        ("sensors/{entity}/{channel}", "sensors/+/+", "sensors/dock-3/stage", {"entity": "dock-3", "channel": "stage"}),
        ("a/+/{entity}", "a/+/+", "a/any/x", {"entity": "x"}),
        ("a/{entity}/#", "a/+/#", "a/x/b/c", {"entity": "x"}),
        ("a/{entity}/#", "a/+/#", "a/x", {"entity": "x"}),
        ("#", "#", "a/b", {}),
        ("dev-{entity}_{channel}/up", "+/up", "dev-7_ph/up", {"entity": "7", "channel": "ph"}),
        ("a/{entity}", "a/+", "a/x/b", None),
        ("a/{entity}", "a/+", "a/", None),
        ("dev-{entity}/up", "+/up", "box-7/up", None),
        ("+/x", "+/x", "$SYS/x", None),
        ("#", "#", "$SYS/broker", None),
        ("{entity}/x", "+/x", "$SYS/x", None),
        ("$SYS/broker/{channel}", "$SYS/broker/+", "$SYS/broker/load", {"channel": "load"}),
        ("a.b/{entity}", "a.b/+", "axb/x", None),
    ],
)
def test_templates(text: str, filter_: str, topic: str, names: dict[str, str] | None) -> None:
    """Protects what a topic means, and that literal characters are literal."""
    compiled_ = template(text)
    assert compiled_.filter == filter_
    assert compiled_.match(topic) == names


@pytest.mark.parametrize("text", ["", "a/#/b", "a+/b", "{a}/{a}", "{Entity}", "a/{x", "x" * 1001, "a\0"])
def test_what_is_no_template(text: str) -> None:
    """Protects the config: each fault is told when it is read."""
    with pytest.raises(ValueError, match=r"allowed|stands twice|no level"):
        template(text)


LEVELS = st.sampled_from(["a", "b", "", "+"])
TOPICS = st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=4).map("/".join)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(LEVELS, min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
)


@given(FILTERS.filter(bool), FILTERS.filter(bool), TOPICS)
@example("a/#", "a", "a")
def test_a_filter_that_covers_another_takes_all_its_topics(wide: str, narrow: str, topic: str) -> None:
    """Protects from subscriptions left out though they are needed."""
    if covers(wide, narrow) and template(narrow).match(topic) is not None:
        assert template(wide).match(topic) is not None


def test_covered_filters_are_left_out() -> None:
    """Protects from messages that come once for each of our filters."""
    assert widest(["a/+", "a/b", "a/+", "b/#", "b/+/c", "$SYS/#"]) == ["a/+", "b/#", "$SYS/#"]


# ---- paths ----

DOCUMENT = {"a": {"b": [1, {"c": None}]}, "odd name": 2, "rows": [{"v": 1, "t": 10}, {"t": 11}, {"v": 3, "t": 12}]}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [((), DOCUMENT)]), ("$.a.b[0]", [((), 1)]), ("$.a.b[-1].c", [((), None)]), ("$['odd name']", [((), 2)]),
        ("$.rows[*].v", [((0,), 1), ((2,), 3)]), ("$.a.*[0]", [(("b",), 1)]), ("$.a.b[7]", []), ("$.a[0]", []),
        ("$.rows.v", []), ("$.nothing.at.all", []),
    ],
)  # fmt: skip
def test_paths(path: str, found: list[Any]) -> None:
    """Protects what a path finds, and that a star says what it stood for."""
    assert list(compiled(path).find(DOCUMENT)) == found
    for keys, value in found:
        assert compiled(path).follow(DOCUMENT, keys) == value


@pytest.mark.parametrize("text", ["", "a", "$a", "$.", "$[", "$[x]", "$..a", "$[?(@.a)]", "$.a[1:2]", "$" + ".a" * 21])
def test_what_is_no_path(text: str) -> None:
    """Protects the config: nothing is half understood."""
    with pytest.raises(ValueError, match="allowed"):
        compiled(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abv"), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.lists(st.sampled_from([".a", ".b", "[0]", "[-1]", "[*]", ".*"]), max_size=4).map(lambda s: "$" + "".join(s))


@given(JSON, PATHS)
def test_find_and_follow_agree(document: object, path: str) -> None:
    """Protects the alignment of time and unit with their value: keys lead to the match they came from."""
    for keys, value in compiled(path).find(document):
        followed = compiled(path).follow(document, keys)
        assert followed is value or followed == value or value != value
    assert compiled(path).follow(document, ()) is ABSENT or "*" not in path


# ---- times ----


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-11-20T16:00:01Z", 1), ("2026-11-20 17:00:02+01:00", 2), (1_795_190_403, 3), (1_795_190_404_000, 4),
        (1_795_190_405_000_000, 5), (1_795_190_406_000_000_000, 6), ("1795190407", 7), (1_795_190_408.5, 8),
        ("1795190409.25", 9),
    ],
)  # fmt: skip
def test_times(value: object, seconds: int) -> None:
    """Protects every way in which devices write times."""
    time_us = PayloadTimes().read(value)
    assert isinstance(time_us, int)
    assert (time_us - NOW_US) // 1_000_000 == seconds


def test_local_times_know_when_clocks_change() -> None:
    """Protects from an hour's error twice a year: what is ambiguous or skipped is refused; no zone, no guess."""
    berlin = PayloadTimes(zone="Europe/Berlin")
    assert berlin.read("2026-11-20 17:00:00") == NOW_US
    assert PayloadTimes(zone="Asia/Kolkata").read("2026-11-20T21:30:00") == NOW_US
    for text in ("2026-10-25T02:30:00", "2026-03-29T02:30:00"):
        refused = berlin.read(text)
        assert isinstance(refused, Refusal)
        assert refused.reason is Reason.BAD_TIME
    naive = PayloadTimes().read("2026-11-20 17:00:00")
    assert isinstance(naive, Refusal)
    assert naive.reason is Reason.NAIVE_TIME


@pytest.mark.parametrize("value", [None, True, [], {}, "soon", "", -1, 1e300, float("nan"), 10**400, "9" * 500, "nan"])
def test_what_is_no_time(value: object) -> None:
    """Protects from a reading at a wrong time."""
    outcome = PayloadTimes().read(value)
    assert isinstance(outcome, Refusal)


@given(st.text(max_size=40) | st.integers() | st.floats(), st.sampled_from(["auto", "s", "ms", "us", "ns"]))
def test_no_time_raises(value: object, epoch: Any) -> None:
    """Protects the source."""
    assert isinstance(PayloadTimes(epoch, "Europe/Berlin").read(value), int | Refusal)


def test_an_unknown_zone_is_named() -> None:
    """Protects the config."""
    with pytest.raises(ValueError, match="Mars/Base"):
        PayloadTimes(zone="Mars/Base")


# ---- payloads ----


def test_a_value_at_a_path() -> None:
    """Protects the usual case: one object, its value, time and unit."""
    one = rule("sensors/{entity}/{channel}", ValueRule(value="$.v", time="$.t", unit="$.u"))
    payload = {"v": 21.5, "t": "2026-11-20T16:00:05Z", "u": "°C"}
    assert rows(one, "sensors/dock/temperature", payload) == [("dock", "temperature", 21.5, "°C", 5)]


def test_several_values_of_one_payload() -> None:
    """Protects devices that tell everything at once, and that what one leaves out costs nothing."""
    several = rule(
        "zigbee2mqtt/{entity}",
        ValueRule(value="$.temperature", channel="temperature", unit="Cel"),
        ValueRule(value="$.humidity", channel="humidity", unit="%"),
    )
    assert rows(several, "zigbee2mqtt/cellar", {"temperature": 9.5, "humidity": 80, "linkquality": 7}) == [
        ("cellar", "temperature", 9.5, "Cel", 0),
        ("cellar", "humidity", 80.0, "%", 0),
    ]
    assert len(rows(several, "zigbee2mqtt/cellar", {"humidity": 81})) == 1
    assert refusal(several, "zigbee2mqtt/cellar", {"battery": 3}).reason is Reason.MISSING_KEY


def test_lists_keep_value_and_time_together() -> None:
    """Protects rows of a list from each other's times; a bad row costs itself only."""
    batch = rule("b/{entity}", ValueRule(value="$.rows[*].v", time="$.rows[*].t", channel="$.rows[*].c", unit="$.unit"))
    payload = {
        "unit": "m",
        "rows": [
            {"c": "stage", "v": 1, "t": 1_795_190_401}, {"c": "flow", "v": "x", "t": 1_795_190_402},
            {"c": "flow", "v": "2.5", "t": 1_795_190_403}, {"c": "flow", "v": 1},
        ],
    }  # fmt: skip
    readings, refused = read(batch, "b/dock", payload)
    assert [(r.channel, r.value, r.unit, r.time_us - NOW_US) for r in readings] == [
        ("stage", 1.0, "m", 1_000_000),
        ("flow", 2.5, "m", 3_000_000),
    ]
    assert [one.reason for one in refused] == [Reason.WRONG_TYPE, Reason.MISSING_KEY]


def test_members_of_an_object_are_channels() -> None:
    """Protects flat objects: {key} is the member's name; and a fixed entity."""
    flat = rule("tele/{site}/state", ValueRule(value="$.env.*", entity="{site}-1", channel="env_{key}"))
    assert rows(flat, "tele/hut/state", {"env": {"t": 1, "h": 2}}) == [
        ("hut-1", "env_t", 1.0, "", 0),
        ("hut-1", "env_h", 2.0, "", 0),
    ]


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"21.5", 21.5), (b" -3 \n", -3.0), (b"ON", 1.0), (b"off", 0.0), (b"true", 1.0), (b"Ajar", 0.5), (b"nan", None),
        (b"unavailable", None), (b"-999", None), (b"1e3", 1000.0),
    ],
)  # fmt: skip
def test_plain_payloads(payload: bytes, value: float | None) -> None:
    """Protects numbers and states without any JSON, and what stands for no value."""
    plain = rule("s/{entity}/{channel}", missing=(-999.0,), states={"AJAR": 0.5})
    (reading,), refused = read(plain, "s/dock/door", payload)
    assert not refused
    assert reading.value == value
    assert reading.quality is (Quality.MISSING if value is None else Quality.UNKNOWN)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"warm", Reason.WRONG_TYPE), (b"\xff\xfe", Reason.WRONG_TYPE), (b" ", Reason.EMPTY),
        (b"{", Reason.INVALID_JSON), (b"inf", Reason.NOT_FINITE), (b"1_000", Reason.WRONG_TYPE),
        (b'{"x":1}', Reason.MISSING_KEY),
        (b'{"channel":"a","time":"2026-11-20T16:00:00","value":1}', Reason.NAIVE_TIME),
        (b'[{"n":"a/b","vs":"text"}]', Reason.UNSUPPORTED), (b"[]", Reason.EMPTY),
        (b'{"value":"x"}', Reason.WRONG_TYPE),
    ],
)  # fmt: skip
def test_bad_payloads(payload: bytes, reason: Reason) -> None:
    """Protects the reasons."""
    assert refusal(rule("s/{entity}/{channel}"), "s/dock/stage", payload).reason is reason


def test_an_object_with_a_value() -> None:
    """Protects the most common home-made payload; the topic says the rest."""
    plain = rule("s/{entity}/{channel}")
    assert rows(plain, "s/dock/stage", {"value": 1.5}) == [("dock", "stage", 1.5, "", 0)]
    full = {"value": "1.5", "timestamp": 1_795_190_402, "unit": "m"}
    assert rows(plain, "s/dock/stage", full) == [("dock", "stage", 1.5, "m", 2)]


def test_what_describes_itself() -> None:
    """Protects canonical JSON, SenML and CloudEvents: what the payload names wins, the topic fills in the entity."""
    plain = rule("s/{entity}/{channel}")
    canonical = [{"channel": "ph", "time": "2026-11-20T16:00:01Z", "value": 7.4, "quality": "good"}]
    (reading,), _ = read(plain, "s/dock/x", canonical)
    assert (reading.entity, reading.channel, reading.quality) == ("dock", "ph", Quality.GOOD)
    senml = [{"bt": 1795190400, "n": "flow", "u": "l/s", "v": 2}, {"n": "well/stage", "u": "m", "v": 1, "t": 3}]
    assert rows(plain, "s/dock/x", senml) == [("dock", "flow", 2.0, "L/s", 0), ("well", "stage", 1.0, "m", 3)]
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "pier", "data": canonical[0]}
    assert rows(plain, "s/dock/x", event) == [("pier", "ph", 7.4, "", 1)]
    nobody = rule("s/+")
    assert refusal(nobody, "s/x", canonical).reason is Reason.MISSING_KEY


@pytest.mark.parametrize(
    ("topic", "values", "said"),
    [
        ("a/{entity}", [ValueRule(value="$.v")], "no channel"),
        ("a/{channel}", [ValueRule(value="$.v")], "no entity"),
        ("a/{entity}", [ValueRule(value="$.v", channel="{nobody}")], "nobody"),
        ("a/{entity}", [ValueRule(value="$.v", channel="{key}")], "key"),
        ("a/{entity}", [ValueRule(value="$.a[*].v", channel="$.b[*].c")], r"\* elsewhere"),
        ("a/{entity}", [ValueRule(value="$.a.v", channel="c", time="$.b[*].t")], r"\* elsewhere"),
        ("a/{entity}", [ValueRule(channel="$.c")], "path to the value"),
        ("a/{entity}", [ValueRule(value="$.v", channel="c", time="t")], "no path"),
        ("a/{entity}", [ValueRule(value="$.v", channel="c"), ValueRule(channel="d")], "needs a path"),
        ("a/{entity}", [], "maps no value"),
    ],
)
def test_rules_that_cannot_work(topic: str, values: list[ValueRule], said: str) -> None:
    """Protects a person: what does not fit together is told when the config is read, not message by message."""
    with pytest.raises(ValueError, match=said):
        MappingRule(topic=topic, values=tuple(values))


ANY_RULE = st.sampled_from(
    [
        rule("s/{entity}/{channel}"),
        rule("s/+/+"),
        rule("s/{entity}/{channel}", ValueRule(value="$.a", time="$.b")),
        rule("s/{entity}/+", ValueRule(value="$.*", channel="$.*", unit="$.a"), time_zone="Europe/Berlin"),
        rule("s/{entity}/+", ValueRule(value="$[*].v", channel="{key}", entity="$[*].a", time="$[*].b")),
    ]
)


@given(ANY_RULE, st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
@example(rule("s/{entity}/{channel}"), b"[" * 5000)
@example(rule("s/{entity}/{channel}"), b'{"value":' + b"9" * 400 + b"}")
@example(rule("s/{entity}/{channel}"), b'"\\ud800"')
@example(rule("s/{entity}/+", ValueRule(value="$.*", channel="{key}")), b'{"\\ud800":1}')
def test_any_payload_is_read_or_refused(one: MappingRule, payload: bytes) -> None:
    """Protects the source: no payload raises, and no reading comes without a name or with an infinite value."""
    readings, refused = read(one, "s/dock/stage", payload)
    assert readings or refused
    for reading in readings:
        assert 0 < len(reading.entity) <= 256
        assert 0 < len(reading.channel) <= 256
        assert reading.value is None or abs(reading.value) < float("inf")


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 10**9))
def test_values_and_times_come_back_as_they_were_written(value: float, seconds: int) -> None:
    """Protects precision: what a device writes in full is what is read."""
    one = rule("s/{entity}/{channel}", ValueRule(value="$.v", time="$.t"))
    (reading,), _ = read(one, "s/dock/stage", {"v": value, "t": 10**9 + seconds})
    assert (reading.value, reading.time_us) == (value, (10**9 + seconds) * 1_000_000)
