"""Protects what fields mean: which are which, what is missing, and that one bad value costs only itself."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.field_mapping import FieldMapping, Fields
from connectors.field_paths import FieldPath
from connectors.reading import Quality, Reason
from connectors.record_times import RecordTimes
from tests.connectors.file_reading import LONG, WIDE, mapped

NOON = "2026-11-20T12:00:00Z"
NOON_US = 1_795_176_000_000_000


def test_a_field_for_each_channel() -> None:
    """Protects the wide layout: one record, several readings; absent is nothing, empty is missing."""
    readings, refused = mapped().read({"time": NOON, "station": "S7", "PM2.5": "12.5"}, {})
    assert [(r.entity, r.channel, r.time_us, r.value, r.unit) for r in readings] == [
        ("S7", "pm25", NOON_US, 12.5, "µg/m³")
    ]
    assert not refused
    readings, refused = mapped().read({"time": NOON, "station": 7, "PM2.5": "", "NO2": None}, {})
    assert [(r.entity, r.channel, r.value, r.quality) for r in readings] == [
        ("7", "pm25", None, Quality.MISSING), ("7", "no2", None, Quality.MISSING),
    ]  # fmt: skip
    assert not refused


def test_one_bad_value_leaves_the_others() -> None:
    """Protects a row's good cells from its bad one."""
    readings, refused = mapped().read({"time": NOON, "station": "S7", "PM2.5": "broken", "NO2": "31"}, {})
    assert [(r.channel, r.value) for r in readings] == [("no2", 31.0)]
    assert [(r.reason, "PM2.5" in r.detail) for r in refused] == [(Reason.WRONG_TYPE, True)]


def test_a_reading_a_record() -> None:
    """Protects the long layout, with units and qualities of its own."""
    record = {"time": NOON, "station": "S7", "parameter": "o3", "value": 61, "unit": "ppb", "flag": "Suspect"}
    (reading,), refused = mapped(LONG).read(record, {})
    assert (reading.channel, reading.value, reading.unit, reading.quality) == ("o3", 61.0, "ppb", Quality.SUSPECT)
    assert not refused
    _, (refusal,) = mapped(LONG).read({**record, "flag": "Z"}, {})
    assert refusal.reason is Reason.BAD_QUALITY


def test_sentinels_are_exact_and_of_their_channel() -> None:
    """Protects real values: -999 in one channel is no value, in another it may be one."""
    fields = Fields(
        time="time", fixed_entity="S", values={"t": "t", "level": "level"},
        missing={"t": frozenset({-999.0}), "*": frozenset({-9999.0})},
    )  # fmt: skip
    mapping = mapped(fields)
    values = {
        record: [r.value for r in mapping.read({"time": NOON, "t": record, "level": record}, {})[0]]
        for record in (-999, "-9999.0", -998.9)
    }
    assert values == {-999: [None, -999.0], "-9999.0": [None, None], -998.9: [-998.9, -998.9]}


def test_names_are_made_of_fields() -> None:
    """Protects entities that one field alone does not tell apart."""
    fields = Fields(time="@time", entity="USGS-{site.no}/{series}", channel="{@stem}", value="v")
    record = {"site": {"no": "06904500"}, "series": 3, "v": Decimal("1.59")}
    (reading,), _ = FieldMapping(fields, RecordTimes()).read(record, {"@time": NOON_US, "@stem": "stage"})
    assert (reading.entity, reading.channel, reading.value) == ("USGS-06904500/3", "stage", 1.59)
    _, (refusal,) = FieldMapping(fields, RecordTimes()).read({"v": 1}, {"@time": NOON_US, "@stem": "stage"})
    assert "'site.no'" in refusal.detail


def test_each_element_of_a_list_is_a_record() -> None:
    """Protects documents with many values; what an element does not have stands beside the list."""
    fields = Fields(time="t", entity="station", channel="name", value="v", each="data.values")
    record = {"station": "S7", "data": {"values": [{"t": NOON, "name": "a", "v": 1}, {"t": NOON, "name": "b"}]}}
    readings, refused = mapped(fields).read(record, {})
    assert [(r.entity, r.channel) for r in readings] == [("S7", "a")]
    assert [r.detail.partition(":")[0] for r in refused] == ["data.values[1]"]


def test_numbers_with_commas() -> None:
    """Protects files of half of Europe."""
    fields = Fields(time="time", fixed_entity="S", values={"t": "t"}, decimal_comma=True)
    values = [
        mapped(fields).read({"time": NOON, "t": text}, {})[0][0].value for text in ("12,5", "1.012,5", "7", "7.5")
    ]
    assert values == [12.5, 1012.5, 7.0, 7.5]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (Fields(values={"a": "a"}), "no entity"),
        (Fields(entity="e"), "either a field for each channel"),
        (Fields(entity="e", values={"a": "a"}, channel="c", value="v"), "either a field for each channel"),
        (Fields(entity="e", channel="c"), "belong together"),
        (Fields(entity="$.a[*]", channel="c", value="v"), "many places"),
    ],
)
def test_fields_that_do_not_fit_are_told(fields: Fields, told: str) -> None:
    """Protects whoever configures."""
    with pytest.raises(ValueError, match=told):
        FieldMapping(fields, RecordTimes())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "t", "e"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from([None, "a", "a.b"]))
def test_no_record_raises(record: object, each: str | None) -> None:
    """Protects the source from every document there is."""
    for fields in (
        Fields(time="t", entity="{e}-{a.b}", values={"x": "a", "y": "$.a.b"}, quality="b", result_time="a", each=each),
        Fields(time="t", date="a", entity="e", channel="b", value="a", unit="b", each=each, decimal_comma=True),
    ):
        readings, refused = mapped(fields).read(record, {})
        assert isinstance(readings, list)
        assert isinstance(refused, list)


def test_a_name_with_dots_is_first_a_name() -> None:
    """Protects columns such as PM2.5."""
    assert FieldPath("PM2.5").find({"PM2.5": 1, "PM2": {"5": 2}}, {}) == 1
    assert "PM2.5" in mapped(WIDE).fields()
