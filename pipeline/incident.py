"""Incidents, the alert messages that tell of them, and their JSON (a CloudEvents 1.0 envelope).

An incident's id is a function of what it is about (stream, entity, kind, first step, and the channel or limit where a
kind has several), so whoever says it twice says the same thing, and every sink is idempotent.
"""

from __future__ import annotations

import codecs
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"

WHOLE_STREAM = "*"
"""Stands for the entity where an incident is about a stream as a whole."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_US = -62_135_596_800_000_000
_LAST_US = 253_402_300_799_999_999
"""Years 1 to 9999: what RFC 3339 can write."""
# Any fixed name space serves; this one is uuid5 of the URL name space and "vedette".
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "vedette")
_TYPE_PREFIX = "vedette.alert."


class Kind(StrEnum):
    """What sort of thing went wrong."""

    ANOMALY = "anomaly"
    LIMIT = "limit"
    FORECAST_LIMIT = "forecast_limit"
    SILENCE = "silence"
    STUCK = "stuck"
    DATA_QUALITY = "data_quality"


class Tier(IntEnum):
    """Who is to hear of it: a watch deserves a look, an alert may wake someone."""

    NONE = 0
    WATCH = 1
    ALERT = 2


class Phase(StrEnum):
    """Where in its life an incident was when a message was sent. PENDING is a state only: nothing is said of it."""

    PENDING = "pending"
    OPENED = "opened"
    UPDATED = "updated"
    RESOLVED = "resolved"
    CORRECTED = "corrected"
    """Late data took away the evidence: it was no incident. Ends it, as RESOLVED does."""


class Severity(StrEnum):
    """How urgent, in Alertmanager's usual words."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


def incident_id(stream: str, entity: str, kind: Kind, first_step: int, name: str = "") -> str:
    """Return 32 hex digits, the same for the same arguments in every process and version.

    >>> incident_id("air", "a", Kind.ANOMALY, 7) == incident_id("air", "a", Kind.ANOMALY, 7)
    True
    """
    # A JSON list keeps the parts apart whatever characters the names hold.
    text = json.dumps([stream, entity, str(kind), first_step, name])
    return uuid.uuid5(_NAMESPACE, text).hex


@dataclass(slots=True)
class Incident:
    """One thing that went wrong, from its first evidence to its end."""

    id: str
    stream: str
    entity: str
    kind: Kind
    name: str
    """The channel or limit it is about, where a kind can have several per entity; else empty."""
    site: str
    """What incidents are grouped by."""
    tier: Tier
    severity: Severity
    first_step: int
    started_us: int
    """End of the first step with evidence."""
    opened_us: int
    """End of the step at which there was enough of it."""
    score: float | None = None
    """The largest so far; None for kinds without a score."""
    reason: str = ""
    explanation: Mapping[str, Json] = field(default_factory=dict)
    sequence: int = 0
    """Number of the next message."""
    flapping: bool = False
    announced: bool = False
    """Whether anybody was told: incidents within a maintenance window are tracked in silence."""
    context: list[float] = field(default_factory=list)
    """What it looked like when it opened and when it was largest, see ``pipeline.lookalikes``; empty: not recorded."""
    silenced_by: str = ""
    """Id of the operator's label that keeps it silent; empty: none does."""

    def to_json(self) -> dict[str, Json]:
        """Return what JSON can hold; ``from_json`` gives an equal incident back."""
        data: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}  # asdict copies it all
        shown = {"kind": str(self.kind), "tier": int(self.tier), "severity": str(self.severity)}
        return data | shown | {"context": list(self.context)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Incident:
        """Return the incident that ``to_json`` described."""
        kinds = {"kind": Kind(data["kind"]), "tier": Tier(data["tier"]), "severity": Severity(data["severity"])}
        return cls(**{**data, **kinds})


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """What is said about an incident at one moment. Times are event time, microseconds since 1970 UTC."""

    incident_id: str
    phase: Phase
    sequence: int
    stream: str
    entity: str
    kind: Kind
    name: str
    site: str
    tier: Tier
    severity: Severity
    time_us: int
    """End of the step that this message is about."""
    first_step: int
    started_us: int
    opened_us: int
    resolved_us: int | None
    score: float | None
    alpha: float | None
    """Chance per step of a score of 1.0 where nothing is wrong; None for kinds without a score."""
    reason: str
    """One plain sentence or two."""
    explanation: Mapping[str, Json]
    model_version: str
    flapping: bool
    note: str
    """Why it ended, where that is not obvious ("new normal"); else empty."""
    told_us: int
    """The wall clock when this was said first; not part of the message's identity."""

    @property
    def id(self) -> str:
        """The CloudEvent's id: unique per message and the same when it is said again."""
        return f"{self.incident_id}:{self.sequence}"


@lru_cache(4096)
def rfc3339(time_us: int) -> str:
    """Return the time as RFC 3339 in UTC with microseconds where there are any; out of range becomes the nearest."""
    moment = _EPOCH + timedelta(microseconds=min(max(time_us, _FIRST_US), _LAST_US))
    return moment.isoformat().replace("+00:00", "Z")


_FIELDS = tuple(field.name for field in fields(AlertMessage))


def finite_json(value: Any) -> Json:
    """Return ``value`` as plain JSON: numpy scalars and arrays unwrapped, NaN and infinities as None, keys as text."""
    if isinstance(value, Mapping):
        return {str(key): finite_json(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return finite_json(value.tolist())
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Sequence):
        return [finite_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    raise TypeError(f"{type(value).__name__} cannot be put into an alert's explanation")


def _plain(value: Any) -> Json:
    """Return as plain JSON what msgspec does not know. What is plain already is a key: no text, and left to others."""
    found = finite_json(value)
    if type(found) is type(value):
        raise TypeError(f"{type(value).__name__} is no key")
    return found


_quick_read = msgspec.json.Decoder().decode
_quick_json = msgspec.json.Encoder(enc_hook=_plain).encode
"""NaN and infinities become null, as in ``finite_json``."""


def encode(message: AlertMessage) -> bytes:
    """Return the message as a structured CloudEvents 1.0 JSON object in ASCII; every number in it is finite."""
    data: dict[str, Any] = {name: getattr(message, name) for name in _FIELDS}
    data["tier"] = message.tier.name.lower()
    for name in ("time", "started", "opened", "resolved", "told"):
        value = data[f"{name}_us"]
        data[name] = None if value is None else rfc3339(value)
    event = {
        "specversion": "1.0",
        "id": message.id,
        "type": f"{_TYPE_PREFIX}{message.phase}",
        "source": f"vedette/{quote(message.stream, safe='', errors='replace')}",
        "subject": message.entity,
        "time": rfc3339(message.time_us),
        "datacontenttype": "application/json",
        "data": data,
    }
    # Messages are written here several times on their way; this costs a tenth of walking through them in Python.
    try:
        quick = _quick_json(event)
    except (TypeError, ValueError):  # an unpaired surrogate, a key that is no text
        return json.dumps(finite_json(event), allow_nan=False, separators=(",", ":")).encode("ascii")
    return quick if quick.isascii() else quick.decode().encode("ascii", "vedette.json")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Return JSON's escapes of what ASCII cannot hold: outside of strings JSON has nothing of that."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)), error.end


codecs.register_error("vedette.json", _escaped)


def decode(raw: bytes) -> AlertMessage:
    """Return the message that ``encode`` wrote.

    Raises:
        ValueError: if the bytes are not such an event; the text says what is wrong.
    """
    try:
        event = _quick_read(raw)
        data = dict(event["data"])
        phase = Phase(str(event["type"]).removeprefix(_TYPE_PREFIX))
        for name in ("time", "started", "opened", "resolved", "told"):
            data.pop(name, None)
        data |= {
            "phase": phase,
            "kind": Kind(data["kind"]),
            "tier": Tier[str(data["tier"]).upper()],
            "severity": Severity(data["severity"]),
        }
        message = AlertMessage(**data)
    except (KeyError, TypeError, AttributeError, ValueError, msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not a vedette alert event: {type(error).__name__}: {error}") from error
    if event.get("specversion") != "1.0" or event.get("id") != message.id:
        raise ValueError("not a vedette alert event: specversion or id do not fit its data")
    return message
