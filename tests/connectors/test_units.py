"""Units convert where they measure the same thing, and only there."""

from __future__ import annotations

import pytest

from connectors.units import ALIASES, UNITS, canonical, conversion, nearest


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "expected"),
    [
        (0.0, "Cel", "K", 273.15),
        (212.0, "[degF]", "Cel", 100.0),
        (-40.0, "°C", "°F", -40.0),
        (1013.25, "hPa", "Pa", 101325.0),
        (1013.25, "mbar", "hPa", 1013.25),
        (1.0, "mg/m3", "µg/m³", 1000.0),
        (3.0, "mg/L", "ug/L", 3000.0),
        (1000.0, "L/s", "m3/s", 1.0),
        (1.0, "[ft_i]3/s", "L/s", 28.316846592),  # the international foot is 0.3048 m
        (36.0, "km/h", "m/s", 10.0),
        (12.0, "[in_i]", "[ft_i]", 1.0),
        (1.0, "mS/cm", "uS/cm", 1000.0),
        (50.0, "[ppb]", "[ppm]", 0.05),
        (90.0, "min", "h", 1.5),
    ],
)
def test_known_conversions(value: float, from_unit: str, to_unit: str, expected: float) -> None:
    """Protects factors and offsets, against values that are true by definition."""
    found = conversion(from_unit, to_unit)
    assert found is not None
    factor, offset = found
    assert value * factor + offset == pytest.approx(expected, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(
    ("from_unit", "to_unit"),
    [("[ppb]", "ug/m3"), ("1", "%"), ("m", "s"), ("furlong", "m"), ("m", "furlong"), ("%", "[ppm]"), ("dB", "dB[SPL]")],
)
def test_no_conversion_between_different_things(from_unit: str, to_unit: str) -> None:
    """Protects against a number that looks right: mass and mixing ratio need temperature and pressure."""
    assert conversion(from_unit, to_unit) is None


def test_every_conversion_has_its_inverse() -> None:
    """Protects the table: there and back is where one was, for all pairs."""
    for source in UNITS:
        for target in UNITS:
            there, back = conversion(source, target), conversion(target, source)
            assert (there is None) == (back is None)
            if there is not None and back is not None:
                assert (7.0 * there[0] + there[1]) * back[0] + back[1] == pytest.approx(7.0, rel=1e-9, abs=1e-9)


def test_decimal_factors_are_exact() -> None:
    """Protects values from noise in the sixteenth digit where the factor is a power of ten."""
    assert conversion("mg/L", "ug/m3") == (1e6, 0.0)
    assert conversion("hPa", "kPa") == (0.1, 0.0)


def test_no_unit_is_the_unit_asked_for() -> None:
    """Protects readings without a unit, and units that only their owner knows."""
    assert conversion("", "hPa") == (1.0, 0.0)
    assert conversion("furlong", "furlong") == (1.0, 0.0)


@pytest.mark.parametrize("written", ["µg/m³", "μg/m3", "ug/m^3", "ug/m3", "ug / m3", "µg/m^3"])
def test_spellings_of_micrograms(written: str) -> None:
    """Protects the two Unicode micros, superscripts and carets."""
    assert canonical(written) == "ug/m3"


def test_aliases_lead_to_the_table() -> None:
    """Protects the alias table from codes that are not in the unit table, and from hiding a real code."""
    assert {alias: canonical(alias) for alias in ALIASES if canonical(alias) not in UNITS} == {}
    assert not ALIASES.keys() & UNITS.keys()


def test_the_nearest_known_unit_is_named() -> None:
    """Protects the hint in messages about unknown units."""
    assert nearest("ug/m33") == "ug/m3"
    assert nearest("completely else") is None
