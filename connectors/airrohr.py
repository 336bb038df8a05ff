"""What airRohr stations push, to their "own API" or as they push to Sensor.Community, to readings. Never raises.

A station tells no time: its readings are as old as they say (``age``), or of the moment in which they come. It sends
``{"esp8266id": "4620979", "software_version": "NRZ-2020-133", "sensordatavalues": [{"value_type": "SDS_P1", "value":
"19.53"}, ...]}``. A channel without samples is left out by the station. Source: airrohr-firmware.ino.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from connectors.airrohr_channels import Measured, measured, rank
from connectors.json_documents import number_of, parsed, written
from connectors.pushed import Pushed
from connectors.reading import Quality, Reading, Reason
from connectors.refusal import Refusal, shortened

_PREFIXES = {
    "SDS": "SDS011", "PMS": "PMS", "HPM": "HPM", "NPM": "NPM", "SPS30": "SPS30", "IPS": "IPS", "PPD": "PPD42NS",
    "SEN5X": "SEN5X", "BME280": "BME280", "BME680": "BME680", "BMP280": "BMP280", "BMP": "BMP180", "HTU21D": "HTU21D",
    "SHT3X": "SHT3X", "SCD30": "SCD30", "DS18B20": "DS18B20", "DNMS": "DNMS", "GPS": "GPS", "HECA": "HECA",
}  # fmt: skip
"""Before the first underscore of a value's name, to the kind of sensor."""
_PINS = {
    "1": "SDS011", "3": "BMP180", "5": "PPD42NS", "7": "DHT22", "9": "GPS", "11": "BME280", "13": "DS18B20",
    "15": "DNMS", "17": "SCD30",
}  # fmt: skip
"""As the firmware numbers the kinds in X-Pin, where it sends names without prefixes."""
_WEATHER = ("temperature", "humidity", "pressure")
"""What several sensors of a station measure."""
_ID_KEYS = ("esp8266id", "esp32id", "raspiid")
_LONGEST_ID = 60
_OLDEST_S = 86_400.0
_MOST_STATIONS = 20_000
_MOST_VALUES = 500


class _Sent(NamedTuple):
    """What a body says as a whole."""

    entity: str
    time_us: int
    values: list[Any]


class _Found(NamedTuple):
    """One value of a body, and where it belongs."""

    sensor: str
    measured: Measured
    value: float | None


class AirRohr:
    """Reads bodies. The entity is the station (``esp8266-4620979``), as in its X-Sensor header.

    Where a station has several sensors for one channel, the best of those in its first body has the channel's name,
    and the others are told by their kind: ``temperature.ds18b20``. That stays so, whatever is left out later, as long
    as this object lives. Where each sensor has a body of its own, which comes first is chance: then the weather has
    plain names from a BME280 only. For several threads.
    """

    def __init__(self) -> None:
        self._holders: dict[tuple[str, str], str] = {}
        self._turn = threading.Lock()

    def read(self, body: bytes, now_us: int, station: str = "", pin: str = "") -> Iterator[Pushed]:
        """Yield what ``body`` holds, in one piece; values are counted from 1.

        Args:
            body: JSON.
            now_us: when it came.
            station: the X-Sensor header, for a body that names no station.
            pin: the X-Pin header, which tells the sensor where names have no prefix.
        """
        pushed = Pushed()
        sent = _sent(body, now_us, station)
        if isinstance(sent, Refusal):
            pushed.refuse(sent, body)
        else:
            self._take(sent, _PINS.get(pin.strip(), ""), pushed)
        yield pushed

    def take(self, station: str, time_us: int, values: Mapping[str, float], pushed: Pushed) -> None:
        """Add to ``pushed`` what a station measured, by the names it gives: as it writes to an InfluxDB."""
        listed = [{"value_type": name, "value": value} for name, value in values.items()]
        self._take(_Sent(station, time_us, listed), "", pushed)

    def _take(self, sent: _Sent, by_pin: str, pushed: Pushed) -> None:
        found = []
        for number, value in enumerate(sent.values, 1):
            one = _found(value, by_pin)
            if isinstance(one, Refusal):
                pushed.refuse(one, written(value), number, f"{sent.entity}, value {number}")
            elif one is None:
                pushed.ignored += 1
            else:
                found.append(one)
        for one in sorted(found, key=lambda one: rank(one.sensor)):
            channel = _alone(one) if by_pin else self._channel(sent.entity, one)
            quality = Quality.MISSING if one.value is None else Quality.UNKNOWN
            pushed.readings.append(Reading(sent.entity, channel, sent.time_us, one.value, one.measured.unit, quality))

    def _channel(self, entity: str, one: _Found) -> str:
        channel = one.measured.channel
        with self._turn:
            holder = self._holders.setdefault((entity, channel), one.sensor)
            if len(self._holders) > _MOST_STATIONS * 8:
                del self._holders[next(iter(self._holders))]
        return channel if holder == one.sensor else _told_by_kind(one)


def _alone(one: _Found) -> str:
    """Return the channel of a sensor that has a body of its own; the same in every life."""
    plain = one.sensor == "BME280" or one.measured.channel not in _WEATHER
    return one.measured.channel if plain else _told_by_kind(one)


def _told_by_kind(one: _Found) -> str:
    return f"{one.measured.channel}.{one.sensor.lower() or 'other'}"


def _sent(body: bytes, now_us: int, station: str) -> _Sent | Refusal:
    document = parsed(body)
    if isinstance(document, Refusal):
        return document
    if not isinstance(document, dict):
        return Refusal(Reason.WRONG_TYPE, f"{shortened(document)} is no object")
    entity, time_us = _station(document, station), _time_us(document.get("age"), now_us)
    values = _values(document.get("sensordatavalues"))
    if isinstance(entity, Refusal) or isinstance(time_us, Refusal) or isinstance(values, Refusal):
        return next(one for one in (entity, time_us, values) if isinstance(one, Refusal))
    return _Sent(entity, time_us, values)


def _station(document: Mapping[str, Any], station: str) -> str | Refusal:
    named = next((document[key] for key in _ID_KEYS if document.get(key)), station)
    text = str(named).strip() if isinstance(named, str | int) and not isinstance(named, bool) else ""
    if not text or len(text) > _LONGEST_ID or not text.isprintable():
        return Refusal(Reason.MISSING_KEY, f"no station: `esp8266id` is {shortened(named)}, and no header names it")
    return f"esp8266-{text}" if text.isdigit() else text


def _values(values: object) -> list[Any] | Refusal:
    if not isinstance(values, list):
        return Refusal(Reason.MISSING_KEY, "no list `sensordatavalues`; is this an airRohr station?")
    if len(values) > _MOST_VALUES:
        return Refusal(Reason.TOO_LARGE, f"{len(values)} values; allowed: {_MOST_VALUES}")
    return values


def _time_us(age: object, now_us: int) -> int | Refusal:
    """Return when it was measured, to the second: no station knows more."""
    seconds = 0.0 if age is None else number_of(age)
    if not isinstance(seconds, float) or not 0.0 <= seconds <= _OLDEST_S:
        return Refusal(Reason.BAD_TIME, f"age {shortened(age)}; allowed: 0 to {_OLDEST_S:g} seconds")
    return (now_us - round(seconds * 1e6)) // 1_000_000 * 1_000_000


def _found(value: object, by_pin: str) -> _Found | Refusal | None:
    """Return what one element of ``sensordatavalues`` says; None for what is not measured outside."""
    if not isinstance(value, dict):
        return Refusal(Reason.WRONG_TYPE, f"{shortened(value)} is no object")
    named = value.get("value_type")
    if not isinstance(named, str) or not named.strip() or len(named) > _LONGEST_ID:
        return Refusal(Reason.MISSING_KEY, f"value_type {shortened(named)} is no name")
    sensor, name = _sensor(named.strip(), by_pin)
    where = measured(sensor, name)
    if where is None:
        return None
    number = number_of(value.get("value"))
    return number.within(named) if isinstance(number, Refusal) else _Found(sensor, where, number)


def _sensor(named: str, by_pin: str) -> tuple[str, str]:
    """Return the kind of sensor, and the value's name without it.

    The firmware gives no prefix to what a PPD42NS and a DHT22 measure.
    """
    prefix, underscore, rest = named.partition("_")
    if underscore and prefix in _PREFIXES:
        return _PREFIXES[prefix], rest
    if by_pin:
        return by_pin, named
    if named in ("P1", "P2"):
        return "PPD42NS", named
    return ("DHT22" if named in ("temperature", "humidity") else ""), named
