"""Protects what airRohr stations push: names with and without prefixes, two sensors of one kind, ages, odd values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.airrohr import AirRohr
from connectors.airrohr_channels import measured
from connectors.pushed import Pushed
from connectors.reading import Quality, Reason

NOW_US = 1_795_190_400_123_456
SECOND_US = 1_795_190_400_000_000
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def body(*values: tuple[str, object], **more: object) -> bytes:
    """Return what a station sends."""
    listed = [{"value_type": name, "value": value} for name, value in values]
    known = {"esp8266id": "4620979", "software_version": "NRZ-2020-133", "sensordatavalues": listed}
    return json.dumps({**known, **more}).encode()


def read(raw: bytes, airrohr: AirRohr | None = None, **headers: str) -> Pushed:
    """Return the one piece that comes of a body."""
    (pushed,) = (airrohr or AirRohr()).read(raw, NOW_US, **headers)
    return pushed


def channels(pushed: Pushed) -> dict[str, tuple[float | None, str]]:
    """Return value and unit by channel."""
    return {one.channel: (one.value, one.unit) for one in pushed.readings}


def test_a_station_as_most_are() -> None:
    """Protects the everyday case: dust, weather, noise; and the station's own figures are not measurements."""
    pushed = read(
        body(
            ("SDS_P1", "19.53"), ("SDS_P2", "7.50"), ("BME280_temperature", "-0.30"), ("BME280_pressure", "98642.75"),
            ("BME280_humidity", "81.20"), ("DNMS_noise_LAeq", "48.10"), ("DNMS_noise_LA_min", "41.00"),
            ("DNMS_noise_LA_max", "71.30"), ("samples", "5019217"), ("min_micro", "28"), ("max_micro", "20082"),
            ("interval", "145000"), ("signal", "-71"),
        )
    )  # fmt: skip
    assert channels(pushed) == {
        "pm10": (19.53, "ug/m3"), "pm25": (7.5, "ug/m3"), "temperature": (-0.3, "Cel"), "pressure": (98642.75, "Pa"),
        "humidity": (81.2, "%"), "noise": (48.1, "dB"), "noise_min": (41.0, "dB"), "noise_max": (71.3, "dB"),
    }  # fmt: skip
    assert {(one.entity, one.time_us) for one in pushed.readings} == {("esp8266-4620979", SECOND_US)}
    assert pushed.ignored == 5
    assert not pushed.rejected


@pytest.mark.parametrize(
    ("name", "channel", "unit"),
    [
        ("PMS_P0", "pm1", "ug/m3"), ("PMS_P1", "pm10", "ug/m3"), ("PMS_P2", "pm25", "ug/m3"),
        ("HPM_P1", "pm10", "ug/m3"), ("NPM_P2", "pm25", "ug/m3"), ("SPS30_P4", "pm4", "ug/m3"),
        ("IPS_P01", "pm0_1", "ug/m3"), ("SPS30_N05", "n05", ""), ("P1", "count_1um", "1"), ("P2", "count_2_5um", "1"),
        ("temperature", "temperature", "Cel"), ("humidity", "humidity", "%"), ("BMP_pressure", "pressure", "Pa"),
        ("BMP280_temperature", "temperature", "Cel"), ("HTU21D_humidity", "humidity", "%"),
        ("SHT3X_temperature", "temperature", "Cel"), ("DS18B20_temperature", "temperature", "Cel"),
        ("SCD30_co2_ppm", "co2", "[ppm]"), ("HECA_temperature", "heca_temperature", ""),
        ("counts_per_minute", "counts_per_minute", ""),
    ],
)  # fmt: skip
def test_names(name: str, channel: str, unit: str) -> None:
    """Protects channels from one another: a count is no mass, a heated chamber is not outside."""
    assert channels(read(body((name, "1.5")))) == {channel: (1.5, unit)}


@pytest.mark.parametrize("name", ["durP1", "ratioP2", "GPS_lat", "GPS_timestamp", "signal"])
def test_what_is_not_measured_outside(name: str) -> None:
    """Protects the channels of a station from figures about itself."""
    pushed = read(body((name, "1.5"), ("SDS_P1", "1")))
    assert list(channels(pushed)) == ["pm10"]
    assert pushed.ignored == 1


def test_two_sensors_of_one_channel_keep_apart() -> None:
    """Protects from a channel that jumps between two sensors, also when the better one fails for a while."""
    airrohr = AirRohr()
    both = body(("DS18B20_temperature", "8.0"), ("temperature", "9.0"), ("BME280_temperature", "10.0"))
    wanted = {"temperature": (10.0, "Cel"), "temperature.dht22": (9.0, "Cel"), "temperature.ds18b20": (8.0, "Cel")}
    assert channels(read(both, airrohr)) == wanted
    assert channels(read(body(("DS18B20_temperature", "8.1")), airrohr)) == {"temperature.ds18b20": (8.1, "Cel")}
    assert channels(read(both, airrohr)) == wanted
    assert channels(read(body(("DS18B20_temperature", "8.1"), esp8266id="7"), airrohr)) == {"temperature": (8.1, "Cel")}


def test_names_without_prefixes_mean_what_the_pin_says() -> None:
    """Protects PM10 of stations that push as they do to Sensor.Community."""
    raw = json.dumps({"software_version": "NRZ-2020-133", "sensordatavalues": [{"value_type": "P1", "value": "12"}]})
    pushed = read(raw.encode(), station="esp8266-4620979", pin="1")
    assert [(one.entity, one.channel) for one in pushed.readings] == [("esp8266-4620979", "pm10")]
    assert list(channels(read(raw.encode(), station="esp8266-4620979", pin="5"))) == ["count_1um"]


@pytest.mark.parametrize("first", ["7", "11"])
def test_sensors_with_bodies_of_their_own_keep_their_channels(first: str) -> None:
    """Protects channels from the order in which bodies come after a start."""
    sensors = {"7": "22.5", "11": "21.5"}
    airrohr = AirRohr()
    found: dict[str, tuple[float | None, str]] = {}
    for pin in sorted(sensors, key=lambda pin: pin != first):
        values = [{"value_type": "temperature", "value": sensors[pin]}]
        raw = json.dumps({"sensordatavalues": values}).encode()
        found |= channels(read(raw, airrohr, station="esp8266-7", pin=pin))
    assert found == {"temperature": (21.5, "Cel"), "temperature.dht22": (22.5, "Cel")}


@pytest.mark.parametrize(
    ("named", "entity"), [("4620979", "esp8266-4620979"), (4620979, "esp8266-4620979"), ("esp32-a1b2", "esp32-a1b2")]
)
def test_stations(named: object, entity: str) -> None:
    """Protects the identity of a station, however its number is written."""
    assert read(body(("SDS_P1", "1"), esp8266id=named)).readings[0].entity == entity


@pytest.mark.parametrize("age", ["57", 57, "57.0"])
def test_age(age: object) -> None:
    """Protects the time of what is asked of a station's own page."""
    assert read(body(("SDS_P1", "1"), age=age)).readings[0].time_us == SECOND_US - 57_000_000


@pytest.mark.parametrize("value", ["unknown", "nan", "", None, "NaN"])
def test_no_value(value: object) -> None:
    """Protects models from texts that stand for nothing."""
    (reading,) = read(body(("SDS_P1", value))).readings
    assert (reading.value, reading.quality) == (None, Quality.MISSING)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"{", Reason.INVALID_JSON),
        (b"[]", Reason.WRONG_TYPE),
        (b"{}", Reason.MISSING_KEY),
        (body(("SDS_P1", "1"), esp8266id=""), Reason.MISSING_KEY),
        (body(("SDS_P1", "1"), esp8266id={"a": 1}), Reason.MISSING_KEY),
        (body(("SDS_P1", "1"), age="-3"), Reason.BAD_TIME),
        (body(("SDS_P1", "1"), age="soon"), Reason.BAD_TIME),
        (body(sensordatavalues="none"), Reason.MISSING_KEY),
        (body(sensordatavalues=[{}] * 501), Reason.TOO_LARGE),
    ],
)
def test_bodies_that_are_none(raw: bytes, reason: Reason) -> None:
    """Protects a station's owner from guessing: each refusal says what is wrong."""
    pushed = read(raw)
    assert [one.reason for one in pushed.rejected] == [reason]
    assert not pushed.readings


def test_a_bad_value_costs_itself_only() -> None:
    """Protects the values beside it, and says which was bad."""
    pushed = read(body(("SDS_P1", "a lot"), ("SDS_P2", "7.5"), ("", "1"), ("BME280_humidity", "1e999")))
    assert channels(pushed) == {"pm25": (7.5, "ug/m3")}
    assert [(one.reason, one.offset) for one in pushed.rejected] == [
        (Reason.WRONG_TYPE, 1), (Reason.MISSING_KEY, 3), (Reason.NOT_FINITE, 4),
    ]  # fmt: skip
    assert pushed.rejected[0].detail.startswith("esp8266-4620979, value 1: SDS_P1: ")


@settings(max_examples=60)
@given(st.binary() | ANY.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_raise_nothing(raw: bytes) -> None:
    """Protects the server from whatever is pushed: it is refused, and says so."""
    pushed = read(raw)
    assert pushed.rejected or pushed.readings or pushed.ignored


VALUE = st.fixed_dictionaries({"value_type": st.sampled_from(["SDS_P1", "P1", "signal", ""]) | ANY, "value": ANY}) | ANY


@settings(max_examples=80)
@given(st.lists(VALUE, max_size=5), ANY, ANY)
def test_any_values_are_counted(values: list[Any], station: object, age: object) -> None:
    """Protects from values lost without a word, and from numbers that are none."""
    pushed = read(body(sensordatavalues=values, esp8266id=station, age=age), station="esp8266-1")
    assert len(pushed.readings) + len(pushed.rejected) + pushed.ignored >= min(len(values), 1)
    for reading in pushed.readings:
        assert reading.value is None or abs(reading.value) < float("inf")
        assert 0 < len(reading.entity) <= 256
        assert 0 < len(reading.channel) <= 256


@given(st.text(max_size=80), st.text(min_size=1, max_size=80))
def test_any_sensor_and_name_has_its_place(sensor: str, name: str) -> None:
    """Protects from names too long for a channel."""
    found = measured(sensor, name)
    assert found is None or 0 < len(found.channel) <= 60


@settings(max_examples=30)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_values_come_back_exactly(value: float) -> None:
    """Protects the precision of what was sent as text."""
    assert read(body(("SDS_P1", repr(value)))).readings[0].value == value
