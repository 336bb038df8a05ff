"""The outbox's file: its tables, how it is opened, and what becomes of one that is damaged."""

from __future__ import annotations

import fcntl
import sqlite3
from pathlib import Path
from typing import IO

import structlog

from connectors.errors import Misconfigured, OutboxUnavailable

log = structlog.get_logger("vedette.outbox")

_VERSION = 1
_LOCK_S = 10.0
_SCHEMA = """
CREATE TABLE message (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL, incident TEXT NOT NULL, sequence INTEGER NOT NULL, ends INTEGER NOT NULL,
  body BLOB NOT NULL, added_us INTEGER NOT NULL, due_us INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX message_in_order ON message (queue, tries, id);
CREATE INDEX message_of_incident ON message (queue, incident, id, sequence, ends, due_us);
CREATE INDEX message_in_time ON message (queue, id);
CREATE TABLE incident (
  queue TEXT NOT NULL, incident TEXT NOT NULL, sequence INTEGER NOT NULL, ended INTEGER NOT NULL,
  told BLOB, told_open INTEGER NOT NULL DEFAULT 0, told_since_us INTEGER NOT NULL DEFAULT 0,
  held INTEGER NOT NULL DEFAULT 1, changed_us INTEGER NOT NULL,
  PRIMARY KEY (queue, incident)
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_told_open ON incident (queue) WHERE told_open;
CREATE INDEX incident_ended ON incident (changed_us) WHERE ended;
CREATE TABLE refused (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL, incident TEXT NOT NULL, sequence INTEGER NOT NULL,
  body BLOB NOT NULL, at_us INTEGER NOT NULL, error TEXT NOT NULL
) STRICT;
CREATE INDEX refused_in_order ON refused (queue, id);
"""


def open_outbox(path: Path) -> sqlite3.Connection:
    """Return a connection to the file, which is made where it is missing; for any thread, in autocommit.

    A damaged file is set aside beside it, and a new one begun: alerts to come are worth more than those that waited.

    Raises:
        Misconfigured: if it is another kind of file, or of a later version.
        OutboxUnavailable: if it cannot be opened now.
    """
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_NOTADB:
            raise Misconfigured(f"{path} is no outbox: name another file, or move it away") from error
        if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CORRUPT_INDEX):
            raise OutboxUnavailable(f"the outbox {path} cannot be opened: {error}") from error
        aside = path.with_name(f"{path.name}.damaged")
        log.error("the outbox is damaged; it was set aside, and what waited in it is not sent", aside=str(aside))
        path.replace(aside)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_LOCK_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise Misconfigured(f"{path} was written by a later version of vedette")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;")
        if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            error = sqlite3.DatabaseError(found)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
    except BaseException:
        db.close()
        raise
    return db


def hold_outbox(path: Path) -> IO[bytes]:
    """Return the lock file beside the outbox, ours until it is closed or the process ends.

    Raises:
        Misconfigured: while another process holds it.
    """
    file = path.with_name(f"{path.name}.lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Misconfigured(
            f"the outbox {path} is used by another process: give each replica a state directory of its own"
        ) from None
    return file
