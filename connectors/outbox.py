"""The outbox: messages on the disk from when they were said until each receiver has them. One SQLite file.

    message    what waits, one row for each receiver and instance ("queue") that is to get it
    incident   what a queue knows of an incident: the newest message added, the newest delivered, whether it is open
    refused    what a receiver will not take, the newest of each queue

What ``add`` returned from outlasts kill -9 and a power cut (WAL, synced at every commit). A message that is said again,
by a replay after a crash, is known by its incident and sequence, and waits only once.

Bounded: beyond ``max_waiting`` messages of a queue, first updates that a later message of the same incident has
overtaken are dropped, then all that waits about the incidents that ended longest ago, then the oldest messages; 0 drops
nothing, and the disk is the bound. Every drop is counted.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from connectors.errors import OutboxUnavailable
from connectors.outbox_adding import add_news
from connectors.outbox_file import hold_outbox, open_outbox
from connectors.outbox_room import make_room
from connectors.outbox_rows import Depth, Entry, Refusal, Told, Waiting

_AT_A_TIME = 200
"""Messages of one statement."""
_REFUSED_KEPT = 1_000
_TURN_S = 10.0
"""How long a write waits for the one before it."""


class Outbox:
    """A durable queue for each receiver and instance.

    All methods may be called from any thread; none waits for anything but the disk and its turn: milliseconds.

    Every method may raise ``OutboxUnavailable``: then nothing of what was asked for was done.

    Args:
        path: of the file, made where it is missing, folders too. Beside it lies PATH.lock, held by the process that
            uses it as long as it lives.
        max_waiting: messages of a queue; 0: any number.

    Raises:
        Misconfigured: if the file is another kind of file, of a later version, or used by another process.
        OutboxUnavailable: if it cannot be opened now.
    """

    def __init__(self, path: Path, max_waiting: int = 0) -> None:
        self._path = path
        self._max_waiting = max_waiting
        self._turn = threading.RLock()
        self._dropped: dict[str, int] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._held = hold_outbox(path)
        except OSError as error:
            raise OutboxUnavailable(f"the outbox {path} cannot be opened: {error.strerror}") from error
        try:
            self._db = open_outbox(path)
        except BaseException:
            self._held.close()
            raise

    # ---- what comes in ----

    def add(self, entries: Sequence[Entry], now_us: int, timeout_s: float = _TURN_S) -> set[str]:
        """Keep messages, all or none; they outlast a crash when this returns. Return the queues that got any.

        Left out is what a queue has had already: the same or a later message of the same incident, unless this one ends
        an incident that is still open there; and what goes on about an incident that is over.
        """
        if not entries:
            return set()
        with self._writing(timeout_s) as db:
            got = add_news(db, entries, now_us)
            dropped = {queue: make_room(db, queue, self._max_waiting) for queue in got if self._max_waiting}
        for queue, messages in dropped.items():
            self._dropped[queue] = self._dropped.get(queue, 0) + messages
        return got

    def hold(self, queues: Sequence[str], incidents: Sequence[str]) -> None:
        """Take note that of all open incidents only these are this process's own now: ``held_open`` gives no others.

        But those that have ended here, of which the receiver has not heard yet: they are held until it has. One that
        it has not heard of at all is told of once, and then left to whose it is now.
        """
        with self._writing() as db:
            for queue in queues:
                for open_or_waiting in ("told_open", "incident IN (SELECT incident FROM message WHERE queue = ?1)"):
                    db.execute(
                        f"UPDATE incident SET held = 0 WHERE queue = ?1 AND {open_or_waiting} AND NOT EXISTS"
                        " (SELECT 1 FROM message m WHERE m.queue = ?1 AND m.incident = incident.incident AND m.ends)",
                        (queue,),
                    )
                db.executemany(
                    "UPDATE incident SET held = 1 WHERE queue = ? AND incident = ?",
                    [(queue, incident) for incident in incidents],
                )

    def adopt(self, queue: str, sibling: str) -> int:
        """Let a queue that never had anything begin with what is open at its sibling; return how many incidents."""
        with self._writing() as db:
            if db.execute("SELECT 1 FROM incident WHERE queue = ? LIMIT 1", (queue,)).fetchone():
                return 0
            return db.execute(
                "INSERT INTO incident (queue, incident, sequence, ended, told, told_open, held, changed_us)"
                " SELECT ?, incident, sequence, ended, told, told_open, held, changed_us FROM incident"
                " WHERE queue = ? AND told_open AND NOT ended",
                (queue, sibling),
            ).rowcount

    # ---- what goes out ----

    def due(self, queue: str, now_us: int, most: int) -> list[Waiting]:
        """Return what may be sent now, oldest first: of each incident only its oldest message.

        What has been tried often comes after what has not, so that a message that fails for itself holds up no other.
        """
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, incident, sequence, ends, body, added_us, tries FROM message m"
                " WHERE queue = ? AND due_us <= ? AND NOT EXISTS (SELECT 1 FROM message o"
                "  WHERE o.queue = m.queue AND o.incident = m.incident AND o.id < m.id)"
                " ORDER BY tries, id LIMIT ?",
                (queue, now_us, most),
            )
            return [Waiting(row[0], row[1], row[2], bool(row[3]), row[4], row[5], row[6]) for row in rows]

    def next_due_us(self, queue: str) -> int | None:
        """Return when the next message of the queue may be sent; None where nothing waits."""
        with self._reading() as db:
            found = db.execute(
                "SELECT min(due_us) FROM message m INDEXED BY message_of_incident WHERE queue = ? AND NOT EXISTS"
                " (SELECT 1 FROM message o WHERE o.queue = m.queue AND o.incident = m.incident AND o.id < m.id)",
                (queue,),
            ).fetchone()
            return None if found[0] is None else int(found[0])

    def told(self, queue: str, incidents: Sequence[str]) -> dict[str, Told]:
        """Return what the receiver knows of these incidents; those that it was never told of are left out."""
        found = {}
        with self._reading() as db:
            for incident in incidents:
                row = db.execute(
                    "SELECT incident, told, told_open, told_since_us FROM incident"
                    " WHERE queue = ? AND incident = ? AND told IS NOT NULL",
                    (queue, incident),
                ).fetchone()
                if row is not None:
                    found[incident] = Told(row[0], row[1], bool(row[2]), row[3])
        return found

    def held_open(self, queue: str, after: str, most: int) -> list[Told]:
        """Return what is open as far as the receiver was told, by incident; those that come after ``after``."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT incident, told, told_since_us FROM incident INDEXED BY incident_told_open"
                " WHERE queue = ? AND told_open AND held AND incident > ? ORDER BY incident LIMIT ?",
                (queue, after, most),
            )
            return [Told(row[0], row[1], True, row[2]) for row in rows]

    def delivered(self, messages: Sequence[Waiting]) -> None:
        """Forget messages that the receiver has taken."""
        with self._writing() as db:
            _forget(db, messages)

    def told_of(self, queue: str, messages: Sequence[Waiting], now_us: int) -> None:
        """Forget messages that the receiver has taken, and note what it knows now."""
        with self._writing() as db:
            _forget(db, messages)
            db.executemany(
                "UPDATE incident SET told = ?1, changed_us = ?3, told_open = ?2,"
                " told_since_us = CASE WHEN NOT ?2 THEN 0 WHEN told_open THEN told_since_us ELSE ?3 END"
                " WHERE queue = ?4 AND incident = ?5",
                [(m.body, not m.ends, now_us, queue, m.incident) for m in messages],
            )

    def put_off(self, message: Waiting, due_us: int, failed: bool = True) -> None:
        """Let a message wait until then, and with it all later ones of its incident."""
        with self._writing() as db:
            db.execute("UPDATE message SET due_us = ?, tries = tries + ? WHERE id = ?", (due_us, failed, message.id))

    def refused(self, queue: str, message: Waiting, now_us: int, error: str) -> None:
        """Set a message aside that the receiver will never take."""
        with self._writing() as db:
            db.execute("DELETE FROM message WHERE id = ?", (message.id,))
            db.execute(
                "INSERT INTO refused (queue, incident, sequence, body, at_us, error) VALUES (?, ?, ?, ?, ?, ?)",
                (queue, message.incident, message.sequence, message.body, now_us, error),
            )
            db.execute(
                "DELETE FROM refused WHERE queue = ? AND id <= (SELECT max(id) FROM refused WHERE queue = ?) - ?",
                (queue, queue, _REFUSED_KEPT),
            )
            if message.ends:  # it stays open there for ever otherwise
                db.execute(
                    "UPDATE incident SET told_open = 0 WHERE queue = ? AND incident = ?", (queue, message.incident)
                )

    def end(self, queue: str, incident: str) -> None:
        """Take note that the receiver does not hold the incident for open any more, and need not be told again."""
        with self._writing() as db:
            db.execute("UPDATE incident SET told_open = 0 WHERE queue = ? AND incident = ?", (queue, incident))

    # ---- what people ask ----

    def depth(self, queue: str) -> Depth:
        """Return how much waits in the queue, and since when."""
        with self._reading() as db:
            found = db.execute(
                "SELECT (SELECT count(*) FROM message WHERE queue = ?1),"
                " (SELECT added_us FROM message WHERE queue = ?1 ORDER BY id LIMIT 1),"
                " (SELECT count(*) FROM refused WHERE queue = ?1)",
                (queue,),
            ).fetchone()
        return Depth(*found)

    def refusals(self, queue: str, most: int = 100) -> list[Refusal]:
        """Return what the receiver did not take, newest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT incident, sequence, body, at_us, error FROM refused WHERE queue = ? ORDER BY id DESC LIMIT ?",
                (queue, most),
            )
            return [Refusal(*row) for row in rows]

    def dropped(self, queue: str) -> int:
        """Return how many messages were given up for want of room, since the start."""
        return self._dropped.get(queue, 0)

    # ---- upkeep ----

    def retain(self, oldest_us: int) -> int:
        """Forget what ended, was refused, or was said to receivers long gone, before then; return how many rows."""
        with self._writing() as db:
            gone = db.execute(
                "DELETE FROM incident WHERE changed_us < ? AND (ended OR NOT held)"
                " AND NOT EXISTS (SELECT 1 FROM message m"
                "  WHERE m.queue = incident.queue AND m.incident = incident.incident)",
                (oldest_us,),
            ).rowcount
            return gone + db.execute("DELETE FROM refused WHERE at_us < ?", (oldest_us,)).rowcount

    def strangers(self, queues: Sequence[str]) -> dict[str, int]:
        """Return how many messages wait in queues that are not among these: of receivers no longer configured."""
        with self._reading() as db:
            counts = db.execute("SELECT queue, count(*) FROM message GROUP BY queue").fetchall()
        return {queue: count for queue, count in counts if queue not in queues}

    def forget(self, queue: str, oldest_us: int) -> int:
        """Remove what was added to a queue before then; return how many messages."""
        with self._writing() as db:
            return db.execute("DELETE FROM message WHERE queue = ? AND added_us < ?", (queue, oldest_us)).rowcount

    def close(self) -> None:
        """Leave what waits to the next start."""
        with self._turn:
            with suppress(sqlite3.Error):
                self._db.close()
            self._held.close()

    # ---- inner ----

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._turn, self._translated():
            yield self._db

    @contextmanager
    def _writing(self, timeout_s: float = _TURN_S) -> Iterator[sqlite3.Connection]:
        if not self._turn.acquire(timeout=timeout_s):
            raise OutboxUnavailable(f"the outbox {self._path} is busy: another write to the disk has not ended")
        try:
            with self._translated():
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):  # a full disk has rolled it back already
                        self._db.execute("ROLLBACK")
                    raise
        finally:
            self._turn.release()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OutboxUnavailable(f"the outbox {self._path}: {error}") from error


def _forget(db: sqlite3.Connection, messages: Sequence[Waiting]) -> None:
    """Remove messages by one statement: with several Python would let go of its lock, and wrest it back, for each."""
    for first in range(0, len(messages), _AT_A_TIME):
        ids = [message.id for message in messages[first : first + _AT_A_TIME]]
        db.execute(f"DELETE FROM message WHERE id IN ({', '.join('?' * len(ids))})", ids)
