"""How a full queue of the outbox is relieved: what is worth least goes first.

Updates that a later message of the same incident has overtaken, then all that waits about the incidents that ended
longest ago, then the oldest messages.
"""

from __future__ import annotations

import sqlite3

import structlog

log = structlog.get_logger("vedette.outbox")

_SLACK = 100
"""A full queue is relieved of a hundredth at once: to look for what can go takes as long for one as for many."""
_ROOM = (
    # Overtaken updates: whoever reads the later message misses nothing of the state.
    "DELETE FROM message WHERE id IN (SELECT id FROM message m INDEXED BY message_of_incident WHERE queue = :queue"
    " AND sequence > 0 AND NOT ends"
    " AND EXISTS (SELECT 1 FROM message l WHERE l.queue = :queue AND l.incident = m.incident AND l.id > m.id)"
    " ORDER BY id LIMIT :most)",
    # Whole incidents that are over: half of one would be a riddle, so it may be a few more than are needed.
    "DELETE FROM message WHERE queue = :queue AND incident IN (SELECT incident FROM message"
    " INDEXED BY message_of_incident WHERE queue = :queue AND ends ORDER BY id LIMIT :most)",
    "DELETE FROM message WHERE id IN (SELECT id FROM message WHERE queue = :queue ORDER BY id LIMIT :most)",
)


def make_room(db: sqlite3.Connection, queue: str, max_waiting: int) -> int:
    """Bring a queue down to its bound if it is above it; return how many messages were dropped."""
    waiting = db.execute("SELECT count(*) FROM message WHERE queue = ?", (queue,)).fetchone()[0]
    if waiting <= max_waiting:
        return 0
    before, most = waiting, max_waiting - max_waiting // _SLACK
    for statement in _ROOM:
        if waiting > most:
            waiting -= db.execute(statement, {"queue": queue, "most": waiting - most}).rowcount
    # Whoever is not told of an end any more must not be told that it goes on.
    db.execute(
        "UPDATE incident SET told_open = 0 WHERE queue = ? AND told_open AND ended AND NOT EXISTS (SELECT 1"
        " FROM message m WHERE m.queue = incident.queue AND m.incident = incident.incident)",
        (queue,),
    )
    log.error("a receiver's queue is full; messages were dropped", queue=queue, messages=before - waiting)
    return before - waiting
