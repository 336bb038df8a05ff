"""Units as the providers write them reach the table, and all conversions of the table are one consistent whole.

Spellings are those of the providers' own documentation and sources: OpenAQ's measurands, USGS parameter codes, the
Environment Agency's measures, Hub'Eau's notes, PurpleAir's and AirNow's fields, Sensor.Community's values.
"""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import airrohr_channels, hubeau_pages, openaq_parameters, uk_flood_pages, usgs_codes
from connectors.units import ALIASES, UNITS, canonical, conversion

codes = st.sampled_from(sorted(UNITS))
WITHOUT_SCALE = {"FNU"}
"""What is only ever itself: turbidities by different methods do not convert."""


@pytest.mark.parametrize(
    ("written", "code"),
    [
        # OpenAQ
        ("µg/m³", "ug/m3"), ("ppm", "[ppm]"), ("ppb", "[ppb]"), ("particles/cm³", "/cm3"), ("%", "%"),
        ("deg_c", "Cel"), ("hpa", "hPa"), ("mb", "mbar"), ("ng/m3", "ng/m3"), ("umol/mol", "[ppm]"),
        # USGS, the newer service and the older one
        ("ft^3/s", "[ft_i]3/s"), ("ft3/s", "[ft_i]3/s"), ("ft", "[ft_i]"), ("degC", "Cel"), ("uS/cm", "uS/cm"),
        ("uS/cm @25C", "uS/cm"), ("mg/l", "mg/L"), ("in", "[in_i]"), ("ft/sec", "[ft_i]/s"), ("mm/Hg", None),
        # Environment Agency, Hub'Eau
        ("m3/s", "m3/s"), ("m3_s", "m3/s"), ("mm", "mm"), ("Ml/d", "ML/d"), ("l/s", "L/s"), ("m", "m"),
        ("deg C", "Cel"),
        # PurpleAir, AirNow, Sensor.Community, home weather stations
        ("°F", "[degF]"), ("mbar", "mbar"), ("UG/M3", "ug/m3"), ("PPB", "[ppb]"), ("Pa", "Pa"), ("dB", "dB"),
        ("inHg", "[in_i'Hg]"), ("mph", "[mi_i]/h"), ("mm/h", "mm/h"), ("kWh", "kW.h"),
        # what means two things, or nothing
        ("C", None), ("ppt", None), ("dBA", None), ("mASD", None), ("", None),
    ],
)  # fmt: skip
def test_spellings_of_providers(written: str, code: str | None) -> None:
    """Protects readings from being refused, or taken for something else, because of how their unit is written."""
    assert canonical(written) == code


def emitted() -> set[str]:
    """Return all units that our connectors write by their own tables."""
    usgs = {unit for _, unit in usgs_codes.CHANNELS.values()} | set(usgs_codes.UNITS.values())
    hubeau = {unit for _, unit in hubeau_pages.CHANNELS.values()}
    sensor_community = {unit for _, unit in airrohr_channels._PLAIN.values()}
    return usgs | hubeau | sensor_community | {*openaq_parameters._UNITS.values(), *uk_flood_pages._UNITS.values()}


def test_what_connectors_write_is_in_the_table() -> None:
    """Protects from a connector whose unit no stream could be configured to convert."""
    assert {unit for unit in emitted() if canonical(unit) != unit} == WITHOUT_SCALE


def test_all_that_was_proposed_is_there() -> None:
    """Protects the canonical units that connectors were told to write."""
    proposed = {
        "ug/m3", "mg/L", "m3/s", "L/s", "m", "mm", "Cel", "[degF]", "hPa", "Pa", "uS/cm", "%", "[ppb]", "[ppm]",
        "km/h", "dB[SPL]", "1", "[ft_i]3/s",
    }  # fmt: skip
    assert [unit for unit in proposed if canonical(unit) != unit] == []


@given(codes, codes, codes, st.floats(-1e6, 1e6))
def test_two_steps_are_one(first: str, second: str, third: str, value: float) -> None:
    """Protects the factors against each other: by way of a third unit comes out what comes out directly."""
    one, two, direct = conversion(first, second), conversion(second, third), conversion(first, third)
    if one is None or two is None:
        assert (one is None and two is None) or direct is None
        return
    assert direct is not None
    stepwise = (value * one[0] + one[1]) * two[0] + two[1]
    assert stepwise == pytest.approx(value * direct[0] + direct[1], rel=1e-9, abs=1e-6 * max(abs(direct[0]), 1e-9))


def test_within_a_dimension_all_convert_and_more_stays_more() -> None:
    """Protects from a unit that was put beside the wrong ones, or with a sign or a factor of zero."""
    for first, second in combinations(sorted(UNITS), 2):
        found = conversion(first, second)
        assert (found is not None) == (UNITS[first].dimension == UNITS[second].dimension)
        assert found is None or found[0] > 0


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "expected"),
    [
        (29.92, "[in_i'Hg]", "hPa", 1013.2075),  # the inch of mercury at 0 °C is 25.4 mm of it
        (1.0, "[ft_i]/s", "m/s", 0.3048),
        (1.0, "ML/d", "L/s", 11.574074),
        (1.0, "ML/d", "m3/d", 1000.0),
        (1.0, "/cm3", "/L", 1000.0),
        (300.0, "/dL", "/L", 3000.0),  # PurpleAir counts particles in 100 mL
        (1.0, "[in_i]/h", "mm/h", 25.4),
        (10.0, "mS/m", "uS/cm", 100.0),
        (1.0, "kW.h", "W.h", 1000.0),
        (850.0, "mm", "m", 0.85),  # Hub'Eau
        (12_500.0, "L/s", "m3/s", 12.5),
        (5.2, "[ft_i]3/s", "m3/s", 0.14724760),
        (1.59, "[ft_i]", "m", 0.484632),
        (77.0, "[degF]", "Cel", 25.0),
    ],
)
def test_values_of_providers(value: float, from_unit: str, to_unit: str, expected: float) -> None:
    """Protects what the stream sees, against values worked out from the units' definitions."""
    found = conversion(from_unit, to_unit)
    assert found is not None
    assert value * found[0] + found[1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mass", ["ug/m3", "µg/m³", "UG/M3", "mg/m3", "ng/m3", "kg/m3"])
@pytest.mark.parametrize("ratio", ["[ppb]", "ppb", "PPB", "ppm", "umol/mol", "nmol/mol"])
def test_mass_and_mixing_ratio_never_convert(mass: str, ratio: str) -> None:
    """Protects NO2 in µg/m³ from ppb however both are written: that needs temperature and pressure."""
    assert canonical(mass) is not None
    assert canonical(ratio) is not None
    assert conversion(mass, ratio) is None
    assert conversion(ratio, mass) is None


def test_one_gas_by_mass_and_by_ratio_is_two_channels() -> None:
    """Protects a stream from a channel in which both are mixed."""
    by_mass, by_ratio = (openaq_parameters.quantity_of("no2", unit) for unit in ("µg/m³", "ppm"))
    assert by_mass.channel != by_ratio.channel
    assert conversion(by_mass.unit, by_ratio.unit) is None


@given(st.text(max_size=20) | st.sampled_from(sorted(ALIASES)) | codes)
def test_any_text_is_a_unit_or_none(text: str) -> None:
    """Protects decoding from units as hostile senders write them; what is known once is known for good."""
    code = canonical(text)
    assert code is None or (code in UNITS and canonical(code) == code)
    assert conversion(text, text) == (1.0, 0.0)
