"""The outbox's work on many messages at once, in as few steps of SQLite as it can be done in.

Python lets go of its lock (GIL) for every step of SQLite. The loop, which computes, takes it at once where a core is
idle, and lets go of it after 5 ms: message by message, a batch of 16 made some 95 such changes, and slowed the loop. So
whole batches go in by one statement, and answers come out in one row, though JSON costs a few microseconds a message.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from connectors.outbox_rows import Entry, Told, Waiting

_ROWS = 200
"""Of one statement: its parameters stay below every bound of SQLite's, and its text is prepared in a millisecond."""

_Key = tuple[str, str]
"""Queue and incident."""
_State = tuple[int, bool]
"""The newest message's number, and whether the incident is over."""


def add(db: sqlite3.Connection, entries: Sequence[Entry], now_us: int) -> set[str]:
    """Add what is news to its queue; return the queues that got any."""
    states = _known(db, list(dict.fromkeys((entry.queue, entry.incident) for entry in entries)))
    changed: dict[_Key, _State] = {}
    news: list[Entry] = []
    for entry in entries:
        key = (entry.queue, entry.incident)
        state = changed.get(key) or states.get(key)
        if state is not None and not _is_news(entry, *state):
            continue
        sequence, ended = state or (entry.sequence, False)
        changed[key] = (max(sequence, entry.sequence), ended or entry.ends)
        news.append(entry)
    _insert(
        db, "INSERT INTO incident (queue, incident, sequence, ended, changed_us) VALUES",
        [(*key, *state, now_us) for key, state in changed.items()],
        "ON CONFLICT DO UPDATE SET sequence = excluded.sequence, ended = excluded.ended, held = 1,"
        " changed_us = excluded.changed_us",
    )  # fmt: skip
    _insert(
        db, "INSERT INTO message (queue, incident, sequence, ends, body, added_us) VALUES",
        [(*entry, now_us) for entry in news],
    )  # fmt: skip
    return {entry.queue for entry in news}


def forget(db: sqlite3.Connection, messages: Sequence[Waiting]) -> None:
    """Remove messages."""
    ids = json.dumps([message.id for message in messages])
    db.execute("DELETE FROM message WHERE id IN (SELECT value FROM json_each(?))", (ids,))


def note_told(db: sqlite3.Connection, queue: str, messages: Sequence[Waiting], now_us: int) -> None:
    """Note that the queue's receiver has these; of each incident the last counts."""
    newest = {message.incident: message for message in messages}.values()
    for some in _portions([(message.incident, message.body, not message.ends) for message in newest]):
        db.execute(
            "UPDATE incident SET told = new.column2, changed_us = ?, told_open = new.column3,"
            " told_since_us = CASE WHEN NOT new.column3 THEN 0 WHEN told_open THEN told_since_us ELSE ? END"
            f" FROM (VALUES {_marks(some)}) new WHERE queue = ? AND incident = new.column1",
            (now_us, now_us, *_flat(some), queue),
        )


def due(db: sqlite3.Connection, queue: str, now_us: int, most: int) -> list[Waiting]:
    """Return what may be sent now: of each incident its oldest message, what was tried least and is oldest first."""
    (found,) = db.execute(
        "SELECT json_group_array(json_array(id, incident, sequence, ends, hex(body), added_us, tries)) FROM"
        " (SELECT * FROM message m WHERE queue = ? AND due_us <= ? AND NOT EXISTS (SELECT 1 FROM message o"
        "   WHERE o.queue = m.queue AND o.incident = m.incident AND o.id < m.id)"
        "  ORDER BY tries, id LIMIT ?)",
        (queue, now_us, most),
    ).fetchone()
    messages = [
        Waiting(number, incident, sequence, bool(ends), bytes.fromhex(body), added_us, tries)
        for number, incident, sequence, ends, body, added_us, tries in json.loads(found)
    ]
    return sorted(messages, key=lambda message: (message.tries, message.id))


def told(db: sqlite3.Connection, queue: str, incidents: Sequence[str]) -> dict[str, Told]:
    """Return what the queue's receiver knows of these incidents; those that it was never told of are left out."""
    known: dict[str, Told] = {}
    for some in _portions([(incident,) for incident in incidents]):
        (found,) = db.execute(
            "SELECT json_group_array(json_array(incident, hex(told), told_open, told_since_us)) FROM incident"
            f" WHERE queue = ? AND incident IN (VALUES {_marks(some)}) AND told IS NOT NULL",
            (queue, *_flat(some)),
        ).fetchone()
        for incident, body, is_open, since_us in json.loads(found):
            known[incident] = Told(incident, bytes.fromhex(body), bool(is_open), since_us)
    return known


def _known(db: sqlite3.Connection, keys: Sequence[_Key]) -> dict[_Key, _State]:
    """Return what is known of incidents."""
    states: dict[_Key, _State] = {}
    for some in _portions([(*key, place) for place, key in enumerate(keys)]):
        (found,) = db.execute(
            "SELECT json_group_array(json_array(asked.column3, sequence, ended))"
            f" FROM (VALUES {_marks(some)}) asked CROSS JOIN incident"
            " ON queue = asked.column1 AND incident = asked.column2",
            _flat(some),
        ).fetchone()
        states |= {keys[place]: (sequence, bool(ended)) for place, sequence, ended in json.loads(found)}
    return states


def _is_news(entry: Entry, sequence: int, ended: bool) -> bool:
    """Return whether a queue that knows an incident up to ``sequence`` has not had this."""
    if entry.ends:
        return not ended or entry.sequence > sequence
    return not ended and entry.sequence > sequence


def _insert(db: sqlite3.Connection, words: str, rows: Sequence[tuple[Any, ...]], otherwise: str = "") -> None:
    for some in _portions(rows):
        db.execute(f"{words} {_marks(some)} {otherwise}", _flat(some))


def _portions(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    return (rows[first : first + _ROWS] for first in range(0, len(rows), _ROWS))


def _marks(rows: Sequence[tuple[Any, ...]]) -> str:
    """Return the rows' places in a statement.

    >>> _marks([(1, 2), (3, 4)])
    '(?, ?), (?, ?)'
    """
    return ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))


def _flat(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [value for row in rows for value in row]
