"""SenML packs (RFC 8428, JSON form) to canonical readings.

A pack is a list of records; base fields (``bn bt bu bv bs bver``) hold from their record on. Resolved: name = bn + n,
time = bt + t, value = bv + v, sum = bs + s, unit = u or bu. The name's last separator divides entity and channel; a
name without one is a channel of the entity that the Kafka record's key names. ``vb`` is 0 or 1; a record with only a
sum becomes the channel ``<channel>.sum``, without a unit. Text and binary values (``vs``, ``vd``) are no measurements.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from connectors.codec_json import LONGEST_NAME, WireReading
from connectors.reading import Reason
from connectors.refusal import LONGEST_DETAIL, Refusal, shortened
from connectors.timestamps import ALLOWED, in_range, to_text

VERSION = 10  # RFC 8428, section 4.4
RELATIVE_BELOW_S = 2.0**28
"""RFC 8428, section 4.5.3: smaller times count from now, larger ones from 1970."""
SEPARATORS = ":/"
LABELS = frozenset(("bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "ut"))

UCUM: dict[str, str] = {
    "%RH": "%", "%EL": "%", "/": "1", "/100": "%", "count": "1", "pH": "[pH]", "l": "L", "l/s": "L/s",
    "lat": "deg", "lon": "deg", "beat/min": "/min", "ppm": "[ppm]", "ppb": "[ppb]", "ppt": "[pptr]",
    "kWh": "kW.h", "Wh": "W.h", "Ah": "A.h", "VA": "V.A", "kVA": "kV.A", "dBm": "dB[mW]", "B": "By", "B/s": "By/s",
}  # fmt: skip
"""IANA's SenML units (RFC 8428 section 12.1, RFC 8798) that UCUM writes otherwise; all others are the same text."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")


class SenmlRecord(msgspec.Struct, gc=False):
    """One record of a pack as it is on the wire; other labels are ignored, as the RFC asks."""

    bn: str | None = None
    bt: float | None = None
    bu: str | None = None
    bv: float | None = None
    bs: float | None = None
    bver: int | None = None
    n: str = ""
    u: str | None = None
    v: float | None = None
    vs: str | None = None
    vb: bool | None = None
    vd: str | None = None
    s: float | None = None
    t: float = 0.0


def looks_like_senml(document: object) -> bool:
    """Return whether a JSON document is meant as a pack: its first element has a SenML label and no ``channel``."""
    if not isinstance(document, list) or not document or not isinstance(document[0], dict):
        return False
    return "channel" not in document[0] and not LABELS.isdisjoint(document[0])


def resolve_pack(document: list[Any], now_us: int, separators: str = SEPARATORS) -> list[WireReading] | Refusal:
    """Return the readings of a parsed pack, or why it is refused; one bad record refuses the pack.

    Args:
        document: the pack as parsed JSON.
        now_us: what relative times count from: the time at which the pack was sent.
        separators: characters of which the last one in a name divides entity from channel.
    """
    base = SenmlRecord()
    readings: list[WireReading] = []
    for index, fields in enumerate(document):
        record = _typed(fields)
        if isinstance(record, Refusal):
            return record.within(f"SenML record {index}")
        base = _rebase(base, record)
        reading = _resolve(base, record, now_us, separators)
        if isinstance(reading, Refusal):
            return reading.within(f"SenML record {index}")
        if reading is not None:
            readings.append(reading)
    return readings or Refusal(Reason.EMPTY, "the SenML pack holds base fields only")


def _typed(fields: object) -> SenmlRecord | Refusal:
    if isinstance(fields, dict):
        must = next((label for label in fields if label.endswith("_")), None)
        if must is not None:  # RFC 8428, section 4.4: such a label must be understood
            return Refusal(Reason.UNSUPPORTED, f"label {shortened(must)} must be understood, and is not known")
    try:
        return msgspec.convert(fields, SenmlRecord)
    except (msgspec.ValidationError, OverflowError) as error:
        reason = Reason.NOT_FINITE if "out of range" in str(error) else Reason.WRONG_TYPE
        return Refusal(reason, str(error)[:LONGEST_DETAIL])


def _rebase(base: SenmlRecord, record: SenmlRecord) -> SenmlRecord:
    """Return the base fields that hold for ``record``: its own where it has them, else those before."""
    return SenmlRecord(
        bn=base.bn if record.bn is None else record.bn,
        bt=base.bt if record.bt is None else record.bt,
        bu=base.bu if record.bu is None else record.bu,
        bv=base.bv if record.bv is None else record.bv,
        bs=base.bs if record.bs is None else record.bs,
        bver=base.bver if record.bver is None else record.bver,
    )


def _resolve(base: SenmlRecord, record: SenmlRecord, now_us: int, separators: str) -> WireReading | Refusal | None:
    """Return the reading of one record; None for a record of base fields only."""
    if base.bver is not None and base.bver > VERSION:
        return Refusal(Reason.UNSUPPORTED, f"bver {base.bver}; allowed: at most {VERSION}")
    value = _value(base, record)
    if value is None or isinstance(value, Refusal):
        return value
    name = _divide((base.bn or "") + record.n, separators)
    if isinstance(name, Refusal):
        return name
    time = _time(base, record, now_us)
    if isinstance(time, Refusal):
        return time
    entity, channel = name
    if _sum_only(record):
        return WireReading(f"{channel}.sum", time, value, entity)
    unit = record.u if record.u is not None else base.bu or ""
    return WireReading(channel, time, value, entity, UCUM.get(unit, unit)[:64])


def _sum_only(record: SenmlRecord) -> bool:
    return record.v is None and record.vb is None


def _value(base: SenmlRecord, record: SenmlRecord) -> float | Refusal | None:
    if record.vb is not None:
        return float(record.vb)
    if record.v is not None:
        value = (base.bv or 0.0) + record.v
    elif record.s is not None:
        value = (base.bs or 0.0) + record.s
    elif record.vs is not None or record.vd is not None:
        label = "vd" if record.vs is None else "vs"
        return Refusal(Reason.UNSUPPORTED, f"has only {label}, which is no measurement; allowed: v, vb or s")
    elif record.n:
        return Refusal(Reason.MISSING_KEY, f"{shortened(record.n)} has no value; allowed: v, vb or s")
    else:
        return None
    return value if math.isfinite(value) else Refusal(Reason.NOT_FINITE, "base and value add up to no finite number")


def _divide(name: str, separators: str) -> tuple[str | None, str] | Refusal:
    """Return (entity, channel); the entity is None when ``name`` has no separator."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        rule = f"A-Z a-z 0-9 - : . / _, first a letter or digit, at most {LONGEST_NAME}"
        return Refusal(Reason.WRONG_TYPE if name else Reason.MISSING_KEY, f"name {shortened(name)}; allowed: {rule}")
    at = max(name.rfind(separator) for separator in separators) if separators else -1
    if at == len(name) - 1:
        detail = f"name {shortened(name)} ends in a separator; allowed: entity, separator, channel"
        return Refusal(Reason.MISSING_KEY, detail)
    return name[:at] if at > 0 else None, name[at + 1 :]


def _time(base: SenmlRecord, record: SenmlRecord, now_us: int) -> str | Refusal:
    seconds = (base.bt or 0.0) + record.t
    if abs(seconds) > 1e11:  # the year 5138: beyond it datetime overflows
        return Refusal(Reason.BAD_TIME, f"time {seconds:g} s; {ALLOWED}")
    time_us = round(seconds * 1e6) + (now_us if seconds < RELATIVE_BELOW_S else 0)
    if not in_range(time_us):
        return Refusal(Reason.BAD_TIME, f"time {seconds:g} s counted from {now_us} us is out of range; {ALLOWED}")
    return to_text(time_us)
