"""OTLP metrics are read from protobuf and JSON alike, and nothing in them raises."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from connectors.codec_otlp import Otlp, status, success
from connectors.label_mapping import LabelMapping
from connectors.otlp_messages import MESSAGES
from connectors.pushed import Pushed
from connectors.reading import CounterReading, Quality, Reading, Reason

NOW_US = 1_795_190_400_000_000
NOW = str(NOW_US * 1000)
"""As JSON writes 64-bit numbers."""


def request(*metrics: dict[str, Any], **resource: str) -> dict[str, Any]:
    """Return an export request of one resource, as JSON."""
    attributes = attributed(**(resource or {"service.name": "station-7"}))
    return {"resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": list(metrics)}]}]}


def attributed(**pairs: str) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": text}} for key, text in pairs.items()]


def gauge(name: str, *points: dict[str, Any], unit: str = "") -> dict[str, Any]:
    return {"name": name, "unit": unit, "gauge": {"dataPoints": list(points)}}


def read(document: dict[str, Any], labels: LabelMapping | None = None) -> Pushed:
    """Read a request as JSON and as protobuf; both must give the same."""
    codec = Otlp(labels) if labels else Otlp()
    text = json.dumps(document).encode()
    message = json_format.Parse(text, MESSAGES["ExportMetricsServiceRequest"](), ignore_unknown_fields=True)
    pieces = list(codec.read(text, json=True))
    assert pieces == list(codec.read(message.SerializeToString(), json=False))
    assert len(pieces) <= 1
    return pieces[0] if pieces else Pushed()


def test_a_gauge_with_a_unit() -> None:
    """Protects the usual point, in both number types."""
    found = read(request(gauge("pm25", {"asDouble": 3.5, "timeUnixNano": NOW}, {"asInt": "4", "timeUnixNano": NOW},
                               unit="ug/m3")))  # fmt: skip
    assert found.readings == [Reading("station-7", "pm25", NOW_US, value, "ug/m3") for value in (3.5, 4.0)]


START_US = NOW_US - 100_000_000
_PLAIN = Reading("station-7", "cars", NOW_US, 7.0)
_COUNTER = CounterReading("station-7", "cars", NOW_US, 7.0, since_us=START_US)


@pytest.mark.parametrize(
    ("told", "becomes"),
    [
        ({"aggregationTemporality": 2, "isMonotonic": True}, _COUNTER),
        ({"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "isMonotonic": True}, _COUNTER),
        ({"aggregationTemporality": 2}, _PLAIN),
        ({"aggregationTemporality": 1, "isMonotonic": True}, _PLAIN),
        ({"aggregationTemporality": 7, "isMonotonic": True}, _PLAIN),
        ({"isMonotonic": True}, _PLAIN),
    ],
)
def test_a_sum_says_whether_it_is_a_counter(told: dict[str, Any], becomes: Reading) -> None:
    """Protects increases from being made of what is no counter, and counters from passing for gauges."""
    points = [{"asInt": "7", "timeUnixNano": NOW, "startTimeUnixNano": str(START_US * 1000)}]
    assert read(request({"name": "cars", "sum": {"dataPoints": points, **told}})).readings == [becomes]


def test_a_counter_without_a_start_or_a_value() -> None:
    """Protects from a start in 1970, and a counter without a recorded value from a total of 0."""
    points = [{"asInt": "7", "timeUnixNano": NOW}, {"flags": 1, "timeUnixNano": NOW}]
    metric = {"name": "cars", "sum": {"dataPoints": points, "aggregationTemporality": 2, "isMonotonic": True}}
    assert read(request(metric)).readings == [
        CounterReading("station-7", "cars", NOW_US, 7.0),
        Reading("station-7", "cars", NOW_US, None, quality=Quality.MISSING),
    ]


@pytest.mark.parametrize("kind", ["histogram", "exponentialHistogram"])
def test_a_cumulative_histogram_is_two_counters(kind: str) -> None:
    """Protects both numbers of a histogram that counts since it began; a delta's stay as they are."""
    for temporality, of in ((2, CounterReading), (1, Reading)):
        points = [{"count": "4", "sum": 3.5, "timeUnixNano": NOW}]
        found = read(request({"name": "wait", kind: {"dataPoints": points, "aggregationTemporality": temporality}}))
        assert [(type(r), r.channel) for r in found.readings] == [(of, "wait.count"), (of, "wait.sum")]


@pytest.mark.parametrize("kind", ["histogram", "exponentialHistogram", "summary"])
def test_distributions_become_count_and_sum(kind: str) -> None:
    """Protects the two numbers that every distribution has."""
    found = read(request({"name": "wait", kind: {"dataPoints": [{"count": "4", "sum": 3.5, "timeUnixNano": NOW}]}}))
    assert [(r.channel, r.value) for r in found.readings] == [("wait.count", 4.0), ("wait.sum", 3.5)]


def test_a_histogram_without_a_sum() -> None:
    """Protects from an invented zero: a sum may be left out."""
    found = read(request({"name": "wait", "histogram": {"dataPoints": [{"count": "4", "timeUnixNano": NOW}]}}))
    assert [r.channel for r in found.readings] == ["wait.count"]


def test_no_recorded_value_is_missing() -> None:
    """Protects from a zero where the sender says that it has none."""
    found = read(request(gauge("pm25", {"flags": 1, "timeUnixNano": NOW})))
    assert found.readings == [Reading("station-7", "pm25", NOW_US, None, quality=Quality.MISSING)]


def test_attributes_of_points_tell_series_apart() -> None:
    """Protects from two series becoming one; truths and whole numbers are labels too."""
    point = {"asDouble": 1.0, "timeUnixNano": NOW, "attributes": [
        {"key": "lane", "value": {"intValue": "2"}}, {"key": "wet", "value": {"boolValue": True}},
        {"key": "zone", "value": {"stringValue": "north"}}]}  # fmt: skip
    assert read(request(gauge("speed", point))).readings[0].channel == 'speed{lane="2",wet="true",zone="north"}'
    ours = read(request(gauge("speed", point)), LabelMapping(("zone", "service.name"), ("lane", "wet")))
    assert (ours.readings[0].entity, ours.readings[0].channel) == ("north/station-7", "speed")


@pytest.mark.parametrize(
    ("metric", "reason", "words"),
    [
        (gauge("x", {"timeUnixNano": NOW}), Reason.MISSING_KEY, "neither asDouble nor asInt"),
        (gauge("x", {"asDouble": 1.0}), Reason.BAD_TIME, "timeUnixNano 0"),
        (gauge("x", {"asDouble": 1.0, "timeUnixNano": "18446744073709551615"}), Reason.BAD_TIME, "2200"),
        (gauge("x", {"asDouble": "Infinity", "timeUnixNano": NOW}), Reason.NOT_FINITE, "infinite"),
        (gauge("", {"asDouble": 1.0, "timeUnixNano": NOW}), Reason.MISSING_KEY, "no name"),
        (gauge("x" * 257, {"asDouble": 1.0, "timeUnixNano": NOW}), Reason.WRONG_TYPE, "257 characters"),
        (gauge("x", {"asDouble": 1.0, "timeUnixNano": NOW,
                     "attributes": [{"key": "a", "value": {"arrayValue": {}}}]}), Reason.UNSUPPORTED, "'a' is a list"),
    ],
)  # fmt: skip
def test_a_bad_point_is_refused_by_itself(metric: dict[str, Any], reason: Reason, words: str) -> None:
    """Protects the good points around a bad one."""
    good = gauge("good", {"asDouble": 1.0, "timeUnixNano": NOW})
    found = read(request(good, metric, good))
    assert [r.channel for r in found.readings] == ["good", "good"]
    (rejected,) = found.rejected
    assert (rejected.reason, rejected.offset) == (reason, 2)
    assert words in rejected.detail


def test_a_resource_without_a_name_is_told() -> None:
    """Protects from readings of nobody."""
    found = read(request(gauge("x", {"asDouble": 1.0, "timeUnixNano": NOW}), colour="red"))
    assert "no host.name or service.name" in found.rejected[0].detail


@pytest.mark.parametrize(
    "body",
    [b"[]", b"null", b"3", b"", b"\xff", b"[" * 50_000, b'{"resourceMetrics":3}', b'{"resourceMetrics":[null]}',
     b'{"resourceMetrics":[{"resource":{"attributes":[{"key":3}]}}]}'],
)  # fmt: skip
def test_what_is_no_request_is_refused_as_a_whole(body: bytes) -> None:
    """Protects the server, and a sender that speaks of something else."""
    for as_json in (True, False):
        pieces = list(Otlp().read(body, json=as_json))
        assert all(not p.readings for p in pieces)
        if as_json:
            assert pieces[0].rejected[0].offset == -1


def test_replies() -> None:
    """Protects senders' books: how many points were refused, in the words of the specification."""
    reply = MESSAGES["ExportMetricsServiceResponse"].FromString(success(2, "why", json=False))
    assert (reply.partial_success.rejected_data_points, reply.partial_success.error_message) == (2, "why")
    assert json.loads(success(2, "why", json=True)) == {
        "partialSuccess": {"rejectedDataPoints": "2", "errorMessage": "why"}
    }
    assert (success(0, "", json=False), success(0, "", json=True)) == (b"", b"{}")
    assert json.loads(status("no", json=True)) == {"message": "no"}


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=20),
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(1, 2**42).map(lambda ms: ms * 1000),
        ),
        max_size=5,
    )
)
def test_round_trip(points: list[tuple[str, float, int]]) -> None:
    """Protects every float and time."""
    found = read(request(*(gauge(n, {"asDouble": v, "timeUnixNano": str(t * 1000)}) for n, v, t in points)))
    assert [(r.channel, r.value, r.time_us) for r in found.readings] == points


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["resourceMetrics", "resource", "scopeMetrics", "metrics", "gauge", "dataPoints", "asDouble",
                         "timeUnixNano", "attributes", "key", "value", "name"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.binary(max_size=100) | DOCUMENTS.map(lambda document: json.dumps(document).encode()))
def test_arbitrary_bytes_never_raise(body: bytes) -> None:
    """Protects the server from whatever somebody sends."""
    for as_json in (True, False):
        for piece in Otlp().read(body, json=as_json):
            assert all(r.value is None or math.isfinite(r.value) or math.isnan(r.value) for r in piece.readings)
