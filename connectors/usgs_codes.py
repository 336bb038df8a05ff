"""The USGS's codes: what is measured, in what unit, and what its remarks say about a value.

Parameter codes: help.waterdata.usgs.gov/codes-and-parameters. Remarks: the NWIS code list for instantaneous values;
the vocabulary of the newer service's ``qualifier`` is not published, so its words are recognised by their beginning.
"""

from __future__ import annotations

from collections.abc import Iterable

from connectors.json_documents import number_of
from connectors.reading import Quality
from connectors.refusal import Refusal

CHANNELS: dict[str, tuple[str, str]] = {
    "00060": ("discharge", "[ft_i]3/s"),
    "00065": ("stage", "[ft_i]"),
    "00010": ("water_temperature", "Cel"),
    "00011": ("water_temperature_f", "[degF]"),
    "00020": ("temperature", "Cel"),
    "00021": ("temperature_f", "[degF]"),
    "00025": ("pressure", "mm[Hg]"),
    "00035": ("wind_speed", "[mi_i]/h"),
    "00036": ("wind_direction", "deg"),
    "00045": ("rain", "[in_i]"),
    "00052": ("humidity", "%"),
    "00095": ("conductance", "uS/cm"),
    "00300": ("dissolved_oxygen", "mg/L"),
    "00301": ("dissolved_oxygen_saturation", "%"),
    "00400": ("ph", "[pH]"),
    "00480": ("salinity", "[ppth]"),
    "62614": ("lake_level_ngvd29", "[ft_i]"),
    "62615": ("lake_level_navd88", "[ft_i]"),
    "63160": ("stage_navd88", "[ft_i]"),
    "63680": ("turbidity", "FNU"),
    "72019": ("depth_to_water", "[ft_i]"),
    "72255": ("velocity", "[ft_i]/s"),
    "99133": ("nitrate", "mg/L"),
}
"""Parameter code to the channel's name and its unit; other codes are channels ``p`` and the code."""

UNITS: dict[str, str] = {
    "deg C": "Cel",
    "deg F": "[degF]",
    "std units": "[pH]",
    "uS/cm @25C": "uS/cm",
    "uS/cm @ 25C": "uS/cm",
    "uS/cm 25C": "uS/cm",
    "mg/l as N": "mg/L",
    "mg/l": "mg/L",
    "_FNU": "FNU",
    "ft/sec": "[ft_i]/s",
    "% saturatn": "%",
    "in": "[in_i]",
    "PSU": "[ppth]",
    "ppt": "[ppth]",
}
"""As the USGS writes units and nobody else does."""

SENTINELS = frozenset((-999999.0, -9999999.0))

_ESTIMATED = ("e", "estimated", "edited")
_SUSPECT = ("ice", "bkw", "backwater", "rat", "fld", "flood", "unrated", "anomaly")
_NO_VALUE = ("eqp", "equip", "dis", "mnt", "maint", "ssn", "nd", "***", "--", "unavail", "discontinued")
_APPROVAL = {"a": Quality.GOOD, "approved": Quality.GOOD, "p": Quality.PROVISIONAL, "provisional": Quality.PROVISIONAL}


def channel_of(code: str) -> str:
    """Return the channel of a parameter code.

    >>> channel_of("00065"), channel_of("80154")
    ('stage', 'p80154')
    """
    return CHANNELS[code][0] if code in CHANNELS else f"p{code}"


def unit_of(code: str, written: object) -> str:
    """Return the unit as it is written, in words that others know too; the code's own where none is written.

    >>> unit_of("00060", "ft^3/s"), unit_of("00400", "std units"), unit_of("00065", None)
    ('ft^3/s', '[pH]', '[ft_i]')
    """
    if not isinstance(written, str) or not written.strip():
        return CHANNELS[code][1] if code in CHANNELS else ""
    return UNITS.get(written.strip(), written.strip())


def value_of(written: object, remarks: Iterable[str]) -> tuple[float | None, Quality] | Refusal:
    """Return a value and how far it may be trusted, by all that is said about it; the gravest remark wins.

    Args:
        written: a number, mostly as text; a sentinel, or a code such as ``Ice`` in the place of one.
        remarks: approval and qualifiers.

    >>> value_of("1.59", ["Provisional"])
    (1.59, <Quality.PROVISIONAL: 1>)
    >>> value_of("-999999", ["P", "Eqp"])
    (None, <Quality.MISSING: 5>)
    """
    said = [remark.strip().lower() for remark in remarks]
    number = number_of(written)
    if isinstance(number, Refusal):
        if not isinstance(written, str) or not _is_remark(written.strip().lower()):
            return number
        number = None
    if number is None or number in SENTINELS or any(_begins(one, _NO_VALUE) for one in said):
        return None, Quality.MISSING
    if any(_begins(one, _SUSPECT) for one in said):
        return number, Quality.SUSPECT
    if any(one == "e" or _begins(one, _ESTIMATED[1:]) for one in said):
        return number, Quality.ESTIMATED
    return number, next((_APPROVAL[one] for one in said if one in _APPROVAL), Quality.UNKNOWN)


def _begins(said: str, words: tuple[str, ...]) -> bool:
    """Short codes have to be a whole word: ``dis`` is discontinued, ``discharge`` is not."""
    first = said.partition(" ")[0]
    return any(first == word or (len(word) > 3 and first.startswith(word)) for word in words)


def _is_remark(text: str) -> bool:
    return text in ("dry", "pr", "e") or _begins(text, _SUSPECT) or _begins(text, _NO_VALUE)
