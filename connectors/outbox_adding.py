"""How messages come into the outbox: a whole batch by three statements.

Python lets go of its lock (GIL) for every step of SQLite, and now and then the loop, which computes, is quicker to
take it than the thread that wrote: the more steps, the more often.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from connectors.outbox_rows import Entry

_ROWS = 200
"""Of one statement: its parameters stay below every bound of SQLite's, and its text is prepared in a millisecond."""

_Key = tuple[str, str]
"""Queue and incident."""
_State = tuple[int, bool]
"""The newest message's number, and whether the incident is over."""


def add_news(db: sqlite3.Connection, entries: Sequence[Entry], now_us: int) -> set[str]:
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
