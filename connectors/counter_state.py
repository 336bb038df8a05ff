"""What was heard of counters last, kept on the disk over restarts. One SQLite file a source.

    series    entity and channel, the newest total that is durable, and those that were on their way

What ``write`` returned from outlasts kill -9. The disk is not waited for (synchronous = NORMAL), since this is written
ahead of every parcel: after a power cut the newest seconds may be missing, and what was added to counters in them is
told once more with the next reading.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from connectors.counter_series import Kept, Total
from connectors.errors import Misconfigured, SpoolUnavailable

_VERSION = 1
_LOCK_S = 1.0
_SCHEMA = """
CREATE TABLE series (
  number INTEGER PRIMARY KEY, entity BLOB NOT NULL, channel BLOB NOT NULL, totals BLOB NOT NULL
) STRICT;
"""
_PUT = (
    "INSERT INTO series VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET entity = excluded.entity, channel = excluded.channel, totals = excluded.totals"
)


class _Totals(msgspec.Struct, array_like=True):
    certain: Total | None
    doubtful: tuple[Total, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Totals).decode


class CounterState:
    """The file of one source's counters; made at the first ``write``. For one thread at a time, in one process.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None

    def read(self) -> list[Kept]:
        """Return all that is kept.

        Raises:
            Misconfigured: if the file is none of ours, damaged, or of a later version.
            SpoolUnavailable: if it cannot be read now.
        """
        if not self.path.exists():
            return []
        try:
            rows = self._open().execute("SELECT * FROM series").fetchall()
            found = []
            for number, entity, channel, totals in rows:
                kept = _decode(totals)
                found.append(Kept(number, (_text(entity), _text(channel)), kept.certain, kept.doubtful))
        except (sqlite3.DatabaseError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self.close()
            if isinstance(error, sqlite3.OperationalError) and not _broken(error):
                raise SpoolUnavailable(f"the counters' state {self.path} cannot be read: {error}") from error
            raise Misconfigured(
                f"the counters' state {self.path} is damaged ({error}): move it away, and all counters start anew"
            ) from error
        return found

    def write(self, kept: Iterable[Kept], forgotten: Sequence[int] = ()) -> None:
        """Keep these, and forget others by their numbers; all or nothing.

        Raises:
            SpoolUnavailable: if it cannot be written.
        """
        rows = [
            (one.number, _bytes(one.key[0]), _bytes(one.key[1]), _encode(_Totals(one.certain, one.doubtful)))
            for one in kept
        ]
        try:
            db = self._open()
            with db:  # commits, or rolls back
                db.executemany(_PUT, rows)
                if forgotten:
                    db.executemany("DELETE FROM series WHERE number = ?", [(number,) for number in forgotten])
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise SpoolUnavailable(f"the counters' state {self.path} cannot be written: {error}") from error

    def close(self) -> None:
        """Leave; ``read`` and ``write`` open it again."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _open(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=_LOCK_S, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise Misconfigured(f"{self.path} was written by a later version of vedette")
            if version == 0:
                db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;")
        except BaseException:
            db.close()
            raise
        self._db = db
        return db


def _broken(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def _bytes(text: str) -> bytes:
    """Names may hold half a surrogate pair, which JSON can spell and SQLite's texts cannot."""
    return text.encode("utf-8", "surrogatepass")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")
