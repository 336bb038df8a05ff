"""The alert store's tables, as the newest migration leaves them.

Texts come out of other people's sensors: whatever a JSON string can hold has to be stored, and PostgreSQL takes neither
NUL nor unpaired surrogates. So text is escaped on its way in and read back on its way out, and JSON is kept as ASCII
text: PostgreSQL's own JSON types refuse the same characters.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

VERSION_TABLE = "vedette_schema"
"""Where the revision of the schema is noted."""

_UNSAFE = re.compile("[\\\\\x00\ud800-\udfff]")
_quick_json = msgspec.json.Encoder().encode
_ESCAPED = re.compile(r"\\(\\|u[0-9a-f]{4})")


def escaped(plain: str) -> str:
    r"""Return ``plain`` with every NUL, unpaired surrogate and backslash written as an escape.

    >>> escaped("a\x00b")
    'a\\u0000b'
    """
    if plain.isprintable() and "\\" not in plain:  # nearly all: at a tenth of the cost
        return plain
    return _UNSAFE.sub(lambda found: "\\\\" if found[0] == "\\" else f"\\u{ord(found[0]):04x}", plain)


def unescaped(stored: str) -> str:
    """Return what ``escaped`` was given."""
    return _ESCAPED.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[1][1:], 16)), stored)


class AnyText(TypeDecorator[str]):
    """Text that may hold any character."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape on the way in, also of what is compared with."""
        return None if value is None else escaped(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Undo it on the way out."""
        return None if value is None else unescaped(value)


def json_text(value: Any) -> str:
    """Return plain JSON as ASCII text.

    Raises:
        ValueError: if a number is not finite. TypeError: if something is no JSON.

    >>> json_text({"share": [0.5, None]})
    '{"share":[0.5,null]}'
    """
    try:
        quick = _quick_json(value)
    except (TypeError, ValueError, OverflowError):  # an unpaired surrogate, a large integer
        quick = b"null"
    if b"null" not in quick and quick.isascii():  # it writes NaN as null
        return quick.decode()
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


class AsciiJson(TypeDecorator[Any]):
    """JSON as ASCII text; ``ValueError`` for numbers that are not finite."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """Write it."""
        return json_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read it."""
        return None if value is None else json.loads(value)


metadata = MetaData()

incidents = Table(
    "incidents",
    metadata,
    Column("id", AnyText, primary_key=True),
    Column("stream", AnyText, nullable=False),
    Column("entity", AnyText, nullable=False),
    Column("kind", AnyText, nullable=False),
    Column("name", AnyText, nullable=False),
    Column("site", AnyText, nullable=False),
    Column("tier", Integer, nullable=False),
    Column("severity", AnyText, nullable=False),
    Column("phase", AnyText, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("told_us", BigInteger, nullable=False),
    Column("resolved_us", BigInteger),
    Column("score", Double),
    Column("alpha", Double),
    Column("reason", AnyText, nullable=False),
    Column("explanation", AsciiJson, nullable=False),
    Column("model_version", AnyText, nullable=False),
    Column("flapping", Boolean, nullable=False),
    Column("note", AnyText, nullable=False),
    Column("context", AsciiJson, nullable=False, server_default=text("'[]'")),
    # Names of entities are as long as their senders like, and PostgreSQL does not index long texts: only times are.
    Index("incidents_opened", "opened_us"),
    Index("incidents_told", "told_us"),
)

messages = Table(
    "messages",
    metadata,
    Column("incident_id", AnyText, ForeignKey("incidents.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("phase", AnyText, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    Column("id", AnyText, primary_key=True),
    Column("incident_id", AnyText, ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False),
    Column("kind", AnyText, nullable=False),
    Column("reason", AnyText, nullable=False),
    Column("until_us", BigInteger),
    Column("author", AnyText, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("withdrawn_us", BigInteger),
    Column("withdrawn_by", AnyText),
    Column("silenced", BigInteger, nullable=False, server_default=text("0")),
    Column("revision", BigInteger, nullable=False),
    Index("labels_revision", "revision"),
    Index("labels_incident", "incident_id"),
    Index(
        "labels_one_acts",
        "incident_id",
        unique=True,
        sqlite_where=text("withdrawn_us IS NULL"),
        postgresql_where=text("withdrawn_us IS NULL"),
    ),
)

WITHDRAWAL = "none"
"""Kind of a row among the labels that is none: it only notes that somebody has taken a label back, so that this is not
done again when it is read again. It never acts and is never shown."""

label_revision = Table(
    "label_revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
)
"""One row: the newest revision. Whoever changes labels holds it until the commit, so that revisions become visible in
their order and nobody who asks for what is newer than n ever misses one."""

audit = Table(
    "audit",
    metadata,
    Column("id", AnyText, primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("who", AnyText, nullable=False),
    Column("role", AnyText, nullable=False),
    Column("action", AnyText, nullable=False),
    Column("subject", AnyText, nullable=False),
    Column("detail", AnyText, nullable=False),
    Column("outcome", AnyText, nullable=False),
    Index("audit_time", "time_us"),
)
"""What people did by the console and the API. Nothing refers to incidents: it stays when they are removed."""

sites = Table(
    "sites",
    metadata,
    Column("entity", AnyText, primary_key=True),
    Column("source", AnyText, nullable=False),
    Column("name", AnyText, nullable=False),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("channels", AsciiJson, nullable=False),
    Column("limits", AsciiJson, nullable=False),
    Column("attributes", AsciiJson, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("sites_revision", "revision"),
)
"""What sources tell of the places they measure at: the ingest process writes it, the console reads it."""

site_revision = Table(
    "site_revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
)
"""One row: the newest revision of any site; held until the commit, as ``label_revision`` is and for its reason."""
