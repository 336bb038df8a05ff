"""The file of a spool: who holds it, how it is laid out, and how what an earlier version left is taken over."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from connectors.errors import Misconfigured, SpoolUnavailable

_VERSION = 2
_LOCK_S = 10.0
_PART = """
CREATE TABLE part (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  topic TEXT NOT NULL, source TEXT NOT NULL, readings INTEGER NOT NULL, bytes INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX part_of_topic ON part (topic, id);
"""
_CURSOR = "CREATE TABLE cursor (source TEXT PRIMARY KEY, cursor TEXT NOT NULL) STRICT, WITHOUT ROWID;"
_FROM_1 = f"""
{_PART}
INSERT INTO cursor SELECT source, cursor FROM parcel WHERE id IN
  (SELECT max(id) FROM parcel WHERE cursor IS NOT NULL GROUP BY source)
  ON CONFLICT DO UPDATE SET cursor = excluded.cursor;
"""
"""Version 1 kept whole parcels, with cursors that held once they were delivered."""
INSERT = "INSERT INTO part (topic, source, readings, bytes, body) VALUES (?, ?, ?, ?, ?)"
Row = tuple[str, str, int, int, bytes]
"""Of a part: topic, source, readings, bytes, body."""
_AT_ONCE, _AT_ONCE_BYTES = 200, 4 * 1_048_576
"""Parcels of version 1 that are taken over in one transaction: neither memory nor the disk need hold all twice."""


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Keep all that is done within, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk has rolled it back already
            db.execute("ROLLBACK")
        raise


def opened(path: Path, rows_of: Callable[[str, int, bytes], list[Row]]) -> sqlite3.Connection:
    """Return the database in a file, made or brought to this version.

    Args:
        path: of the file.
        rows_of: makes rows of a parcel of version 1, given its source, readings and body.

    Raises:
        Misconfigured: if the file is no spool, damaged, or of a later version.
        SpoolUnavailable: if it cannot be opened now.
    """
    db = None
    try:
        db = sqlite3.connect(path, timeout=_LOCK_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise Misconfigured(f"{path} was written by a later version of vedette")
        if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise Misconfigured(f"the spool {path} is damaged ({found}): move it away, and the sources begin again")
        if version < _VERSION:
            schema = _FROM_1 if version == 1 else _PART + _CURSOR
            db.executescript(f"BEGIN IMMEDIATE;{schema}PRAGMA user_version = {_VERSION};COMMIT;")
        _take_over(db, rows_of)
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


def _take_over(db: sqlite3.Connection, rows_of: Callable[[str, int, bytes], list[Row]]) -> None:
    """Make parts of the parcels that version 1 left; a kill on the way leaves the rest to the next start."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'parcel'").fetchone():
        return
    while rows := _first_parcels(db):
        with transaction(db):
            for _, source, readings, body in rows:
                db.executemany(INSERT, rows_of(source, readings, body))
            db.executemany("DELETE FROM parcel WHERE id = ?", [row[:1] for row in rows])
    db.execute("DROP TABLE parcel")


def _first_parcels(db: sqlite3.Connection) -> list[tuple[int, str, int, bytes]]:
    """Return id, source, readings and body of parcels of version 1, as many as are taken over at once."""
    rows: list[tuple[int, str, int, bytes]] = []
    size = 0
    with closing(db.execute("SELECT id, source, readings, body FROM parcel ORDER BY id LIMIT ?", (_AT_ONCE,))) as found:
        for row in found:
            rows.append(row)
            size += len(row[3])
            if size >= _AT_ONCE_BYTES:
                break
    return rows


def held(path: Path) -> IO[bytes]:
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
