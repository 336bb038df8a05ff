"""The spool: messages on the disk while Kafka is away, and the sources' cursors. One SQLite file.

    parcel    messages of one source in the order they came, with the cursor that holds once they are delivered
    cursor    of each source, where to go on: what it said last that Kafka has acknowledged

What ``put`` and ``move`` returned from outlasts kill -9 and a power cut (WAL, synced at every commit). A parcel leaves
in the transaction that moves its source's cursor, so a cursor never stands for messages that nobody has.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from connectors.errors import Misconfigured, SpoolFull, SpoolUnavailable

_VERSION = 1
_LOCK_S = 10.0
_ROW_BYTES = 100
"""What a row costs besides its content, roughly."""
_SCHEMA = """
CREATE TABLE parcel (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  source TEXT NOT NULL, cursor TEXT, readings INTEGER NOT NULL, bytes INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX parcel_of_source ON parcel (source, id);
CREATE TABLE cursor (source TEXT PRIMARY KEY, cursor TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_SUMS = "SELECT coalesce(sum(bytes), 0), coalesce(sum(readings), 0), count(*) FROM parcel"


class Message(NamedTuple):
    """One record for Kafka."""

    topic: str
    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Parcel(NamedTuple):
    """What one source handed over at once."""

    source: str
    messages: Sequence[Message]
    cursor: str | None = None
    """Where the source goes on once the messages are delivered; None: where it stood before."""
    readings: int = 0
    id: int = 0
    """Of a parcel that lies in the spool."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Message]).decode


class Spool:
    """Parcels in order, bounded by bytes; and cursors. For one thread at a time, in one process at a time.

    Every method may raise ``SpoolUnavailable``: then nothing of what was asked for was done.

    Args:
        path: of the file, made where it is missing, folders too. Beside it lies PATH.lock, held by the process that
            uses it as long as it lives.
        max_bytes: what the parcels may take together.

    Raises:
        Misconfigured: if the file is no spool, damaged, of a later version, or used by another process.
        SpoolUnavailable: if it cannot be opened now.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._held = _hold(path)
        except OSError as error:
            raise SpoolUnavailable(f"the spool {path} cannot be opened: {error.strerror}") from error
        try:
            self._db = _open(path)
            with self._translated():
                self.bytes, self.readings, self.parcels = self._db.execute(_SUMS).fetchone()
        except BaseException:
            self._held.close()
            raise

    def __len__(self) -> int:
        """Return how many parcels wait."""
        return int(self.parcels)

    def put(self, parcels: Sequence[Parcel]) -> None:
        """Keep parcels behind all that wait already, all or none.

        Raises:
            SpoolFull: if they do not fit.
        """
        rows = []
        for parcel in parcels:
            body = _encode(parcel.messages)
            rows.append((parcel.source, parcel.cursor, parcel.readings, len(body) + _ROW_BYTES, body))
        size = sum(row[3] for row in rows)
        if self.bytes + size > self.max_bytes:
            raise SpoolFull(f"the spool {self.path} is full: {self.bytes} of {self.max_bytes} bytes")
        with self._writing() as db:
            db.executemany(
                "INSERT INTO parcel (source, cursor, readings, bytes, body) VALUES (?, ?, ?, ?, ?)", rows
            )
        self.bytes += size
        self.readings += sum(row[2] for row in rows)
        self.parcels += len(rows)

    def oldest(self, most_bytes: int) -> list[Parcel]:
        """Return the parcels that wait longest, in order, up to so many bytes, at least one; [] when none waits."""
        found: list[Parcel] = []
        size = 0
        with self._translated():
            rows = self._db.execute("SELECT id, source, cursor, readings, bytes, body FROM parcel ORDER BY id")
            for number, source, cursor, readings, length, body in rows:
                size += length
                if found and size > most_bytes:
                    break
                found.append(Parcel(source, _decode(body), cursor, readings, number))
            rows.close()
        return found

    def remove(self, parcels: Sequence[Parcel]) -> None:
        """Forget delivered parcels, and move their sources' cursors on."""
        if not parcels:
            return
        with self._writing() as db:
            _move(db, parcels)
            between = (parcels[0].id, parcels[-1].id)
            size, readings, rows = db.execute(f"{_SUMS} WHERE id BETWEEN ? AND ?", between).fetchone()
            db.execute("DELETE FROM parcel WHERE id BETWEEN ? AND ?", between)
        self.bytes -= size
        self.readings -= readings
        self.parcels -= rows

    def move(self, parcels: Sequence[Parcel]) -> None:
        """Move the cursors of sources whose parcels were delivered without lying here."""
        if any(parcel.cursor is not None for parcel in parcels):
            with self._writing() as db:
                _move(db, parcels)

    def cursor(self, source: str) -> str | None:
        """Return where ``source`` goes on: behind its newest parcel here, else where it was moved to last."""
        with self._translated():
            found = self._db.execute(
                "SELECT cursor FROM parcel WHERE source = ? AND cursor IS NOT NULL ORDER BY id DESC LIMIT 1", (source,)
            ).fetchone() or self._db.execute("SELECT cursor FROM cursor WHERE source = ?", (source,)).fetchone()
        return str(found[0]) if found else None

    def close(self) -> None:
        """Leave what waits to the next start."""
        with suppress(sqlite3.Error):
            self._db.close()
        self._held.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled it back already
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SpoolUnavailable(f"the spool {self.path}: {error}") from error


def _move(db: sqlite3.Connection, parcels: Sequence[Parcel]) -> None:
    newest = {parcel.source: parcel.cursor for parcel in parcels if parcel.cursor is not None}
    db.executemany(
        "INSERT INTO cursor VALUES (?, ?) ON CONFLICT DO UPDATE SET cursor = excluded.cursor", list(newest.items())
    )


def _open(path: Path) -> sqlite3.Connection:
    db = None
    try:
        db = sqlite3.connect(path, timeout=_LOCK_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise Misconfigured(f"{path} was written by a later version of vedette")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;")
        if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise Misconfigured(f"the spool {path} is damaged ({found}): move it away, and the sources begin again")
    except sqlite3.DatabaseError as error:
        if db is not None:
            db.close()
        broken = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
        if getattr(error, "sqlite_errorcode", None) in broken:
            raise Misconfigured(f"{path} is no spool, or damaged: move it away, and the sources begin again") from error
        raise SpoolUnavailable(f"the spool {path} cannot be opened: {error}") from error
    except BaseException:
        if db is not None:
            db.close()
        raise
    return db


def _hold(path: Path) -> IO[bytes]:
    """Return the lock file beside the spool, ours until it is closed or the process ends."""
    file = path.with_name(f"{path.name}.lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Misconfigured(
            f"the spool {path} is used by another process: give each `vedette ingest` a spool of its own"
        ) from None
    return file
