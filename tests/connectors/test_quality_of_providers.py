"""What providers say of their values means the same everywhere: the one place where all tables lie beside each other.

======================  ===========  ==============================================================
provider                word         quality
======================  ===========  ==============================================================
USGS                    approval     Approved good, Provisional provisional
USGS                    qualifier    e estimated; Ice, Bkw, Rat suspect; Eqp, Dis, ``***`` missing
Hub'Eau                 code         20 good, 16 provisional, 12 suspect
OpenAQ                  hasFlags     suspect, else unknown: nobody has said that it is good
Sparkplug B             Quality      192 good, 0 bad, 500 (stale) missing
all                     no value     missing
======================  ===========  ==============================================================
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.hubeau_pages import observations_page
from connectors.openaq_parameters import quantity_of
from connectors.openaq_rows import Sensor, measurements_page
from connectors.reading import Quality, Reading
from connectors.refusal import Refusal
from connectors.sparkplug_payload import DOUBLE, INT32, MESSAGES, decode
from connectors.usgs_codes import value_of

GRAVITY = (
    Quality.GOOD, Quality.UNKNOWN, Quality.PROVISIONAL, Quality.ESTIMATED, Quality.SUSPECT, Quality.BAD,
    Quality.MISSING,
)  # fmt: skip


def hubeau(code: object, value: object = 850.0) -> Reading:
    """Return an observation with a qualification, as it is read from a page."""
    row = {"code_station": "K447001001", "grandeur_hydro": "H", "date_obs": "2026-11-20T12:00:00Z"}
    page = observations_page(
        json.dumps({"data": [{**row, "resultat_obs": value, "code_qualification_obs": code}]}).encode()
    )
    assert page.rejected == []
    return page.ranked[0].reading


def openaq(flag: object, value: object = 11.4) -> Reading:
    """Return a measurement with flags, as it is read from a page."""
    period = {"datetimeTo": {"utc": "2026-11-20T12:00:00Z"}}
    row = {"value": value, "flagInfo": flag, "period": period, "parameter": {"name": "pm25", "units": "µg/m³"}}
    quantity = quantity_of("pm25", "µg/m³")
    page = measurements_page(json.dumps({"results": [row]}).encode(), Sensor(7, "openaq-1", quantity, quantity.channel))
    assert page.rejected == []
    return page.readings[0]


def sparkplug(code: int) -> Quality:
    """Return the quality of a metric, as it is read from a payload."""
    payload = MESSAGES["Payload"]()
    metric = payload.metrics.add(name="level", datatype=DOUBLE, double_value=1.5)
    metric.properties.keys.append("Quality")
    metric.properties.values.add(type=INT32, int_value=code)
    read = decode(bytes(payload.SerializeToString()))
    assert not isinstance(read, Refusal)
    return read.metrics[0].quality


@pytest.mark.parametrize(
    ("remarks", "quality"),
    [
        (["Approved"], Quality.GOOD), (["A"], Quality.GOOD), (["Provisional"], Quality.PROVISIONAL),
        (["P"], Quality.PROVISIONAL), (["P", "e"], Quality.ESTIMATED), (["A", "e"], Quality.ESTIMATED),
        (["P", "Ice"], Quality.SUSPECT), (["Provisional", "ICE"], Quality.SUSPECT), (["Bkw"], Quality.SUSPECT),
        (["Rat"], Quality.SUSPECT), (["P", "Eqp"], Quality.MISSING), (["Dis"], Quality.MISSING),
        (["***"], Quality.MISSING), ([], Quality.UNKNOWN), (["a word that is new"], Quality.UNKNOWN),
    ],
)  # fmt: skip
def test_usgs(remarks: list[str], quality: Quality) -> None:
    """Protects approval and qualifiers of both services; the gravest word wins, new ones are not guessed at."""
    read = value_of("1.59", remarks)
    assert not isinstance(read, Refusal)
    assert read == (None if quality is Quality.MISSING else 1.59, quality)


def test_usgs_sentinels() -> None:
    """Protects gauges from a stage of minus a million feet."""
    for sentinel in ("-999999", "-999999.0", -999999.0):
        assert value_of(sentinel, ["Approved"]) == (None, Quality.MISSING)


@given(st.lists(st.sampled_from(["Approved", "Provisional", "e", "Ice", "Eqp", "odd"]), max_size=5))
def test_another_usgs_remark_never_makes_a_value_better(remarks: list[str]) -> None:
    """Protects from an approval that hides ice: whatever else is said, quality only falls."""
    if "Approved" in remarks and "Provisional" in remarks:
        return  # a value is one or the other
    all_said = value_of(1.0, remarks)
    assert not isinstance(all_said, Refusal)
    for remark in remarks:
        alone = value_of(1.0, [remark])
        assert not isinstance(alone, Refusal)
        if alone[1] is not Quality.UNKNOWN:
            assert GRAVITY.index(all_said[1]) >= GRAVITY.index(alone[1])


@pytest.mark.parametrize(
    ("code", "quality"),
    [
        (20, Quality.GOOD),
        (16, Quality.PROVISIONAL),
        (12, Quality.SUSPECT),
        (99, Quality.UNKNOWN),
        (None, Quality.UNKNOWN),
    ],
)
def test_hubeau(code: int | None, quality: Quality) -> None:
    """Protects the three known qualifications."""
    assert hubeau(code).quality is quality
    assert (hubeau(code, None).value, hubeau(code, None).quality) == (None, Quality.MISSING)


@pytest.mark.parametrize(
    ("flag", "quality"),
    [({"hasFlags": True}, Quality.SUSPECT), ({"hasFlags": False}, Quality.UNKNOWN), (None, Quality.UNKNOWN)],
)
def test_openaq(flag: object, quality: Quality) -> None:
    """Protects from learning of flagged values, and from calling good what nobody has checked."""
    assert openaq(flag).quality is quality
    assert (openaq(flag, None).value, openaq(flag, None).quality) == (None, Quality.MISSING)


@pytest.mark.parametrize(
    ("code", "quality"),
    [(192, Quality.GOOD), (0, Quality.BAD), (500, Quality.MISSING), (64, Quality.UNKNOWN)],
)
def test_sparkplug(code: int, quality: Quality) -> None:
    """Protects the three codes that the specification fixes."""
    assert sparkplug(code) is quality
