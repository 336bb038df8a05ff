"""The spool: what cannot go to Kafka now, in a lane for each topic, and the sources' cursors. One SQLite file.

    part      messages of one source to one topic, in the order they came
    cursor    of each source, where to go on: behind all that Kafka has acknowledged or that lies here

What ``put`` and ``move`` returned from outlasts kill -9 and a power cut (WAL, synced at every commit). ``put`` moves
cursors in the transaction that keeps the messages, so a cursor never stands for messages that nobody has.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from connectors.errors import SpoolFull, SpoolUnavailable
from connectors.spool_file import INSERT, Row, held, opened, transaction

_ROW_BYTES = 100
"""What a row costs besides its content, roughly."""
_REFUSED_SHARE = 0.5
"""Of the spool, for lanes that are bounded, all together: the rest is for the day that Kafka is away."""
_SUMS = "SELECT topic, count(*), sum(readings), sum(bytes) FROM part GROUP BY topic"


class Message(NamedTuple):
    """One record for Kafka."""

    topic: str
    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Part(NamedTuple):
    """What a parcel has for one topic."""

    source: str
    topic: str
    messages: Sequence[Message]
    readings: int = 0
    id: int = 0
    """Of a part that lies in the spool."""
    bytes: int = 0
    """What it takes there."""


class Parcel(NamedTuple):
    """What one source handed over at once."""

    source: str
    messages: Sequence[Message]
    cursor: str | None = None
    """Where the source goes on once the messages are durable; None: where it stood before."""
    readings: int = 0

    def parts(self) -> list[Part]:
        """Return a part for each topic, messages in their order; the readings are those of the first topic.

        >>> air, dead = Message("air", "a", b"1"), Message("dead", "", b"x")
        >>> parts = Parcel("city", [air, dead, air], readings=2).parts()
        >>> [(part.topic, len(part.messages), part.readings) for part in parts]
        [('air', 2, 2), ('dead', 1, 0)]
        """
        by_topic: dict[str, list[Message]] = {}
        for message in self.messages:
            by_topic.setdefault(message.topic, []).append(message)
        readings = [self.readings] + [0] * len(by_topic)
        return [Part(self.source, *each, count) for each, count in zip(by_topic.items(), readings, strict=False)]


class Lane(NamedTuple):
    """How much waits for one topic."""

    parts: int = 0
    readings: int = 0
    bytes: int = 0

    def plus(self, parts: int, readings: int, size: int) -> Lane:
        """Return the lane with so much more."""
        return Lane(self.parts + parts, self.readings + readings, self.bytes + size)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Message]).decode


class Spool:
    """Parts in order, bounded by bytes; and cursors. For one thread at a time, in one process at a time.

    ``lanes``, ``bytes`` and ``readings`` may be looked at from any thread. Every method may raise ``SpoolUnavailable``:
    then nothing of what was asked for was done.

    Args:
        path: of the file, made where it is missing, folders too. Beside it lies PATH.lock, held by the process that
            uses it as long as it lives.
        max_bytes: what the parts may take together.

    Raises:
        Misconfigured: if the file is no spool, damaged, of a later version, or used by another process.
        SpoolUnavailable: if it cannot be opened now.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._held = held(path)
        except OSError as error:
            raise SpoolUnavailable(f"the spool {path} cannot be opened: {error.strerror}") from error
        try:
            self._db = opened(path, _rows_of)
            with self._translated():
                self._sum_up({row[0]: Lane(*row[1:]) for row in self._db.execute(_SUMS)})
                self._cursors: dict[str, str] = dict(self._db.execute("SELECT source, cursor FROM cursor").fetchall())
        except BaseException:
            self._held.close()
            raise

    def _sum_up(self, lanes: Mapping[str, Lane]) -> None:
        """Know what waits; never changed in place, for other threads look at it."""
        self.lanes = {topic: lane for topic, lane in lanes.items() if lane.parts}
        """Topics for which something waits, and how much."""
        self.bytes = sum(lane.bytes for lane in self.lanes.values())
        self.readings = sum(lane.readings for lane in self.lanes.values())

    def __len__(self) -> int:
        """Return how many parts wait."""
        return sum(lane.parts for lane in self.lanes.values())

    def put(
        self, parts: Sequence[Part], cursors: Mapping[str, str] | None = None, *, bounded: Collection[str] = ()
    ) -> None:
        """Keep parts, each at the end of its topic's lane, and move cursors with them; all or none.

        Args:
            parts: in order.
            cursors: source to where it goes on from now on.
            bounded: topics whose lanes may take half of the spool, all together.

        Raises:
            SpoolFull: if they do not fit.
        """
        rows = [_row(part) for part in parts]
        more: Counter[str] = Counter()
        for topic, _, _, size, _ in rows:
            more[topic] += size
        if self.bytes + more.total() > self.max_bytes:
            raise SpoolFull(f"the spool {self.path} is full: {self.bytes} of {self.max_bytes} bytes")
        if any(topic in more for topic in bounded) and not self.has_share(bounded, sum(more[t] for t in bounded)):
            raise SpoolFull(f"half of the spool {self.path} is full: topics that are refused may take no more")
        with self._writing() as db:
            db.executemany(INSERT, rows)
            _move(db, cursors or {})
        self._cursors |= cursors or {}
        lanes = dict(self.lanes)
        for topic, _, readings, size, _ in rows:
            lanes[topic] = lanes.get(topic, Lane()).plus(1, readings, size)
        self._sum_up(lanes)

    def has_share(self, topics: Iterable[str], size: int) -> bool:
        """Return whether so many bytes more of these topics are still within the share that bounded lanes have."""
        lanes = self.lanes
        return sum(lanes[topic].bytes for topic in topics if topic in lanes) + size <= _REFUSED_SHARE * self.max_bytes

    def oldest(self, most_bytes: int, topics: Collection[str] | None = None) -> list[Part]:
        """Return the parts that wait longest, of each lane in order; at least one, and [] when none waits.

        Each lane has its share of ``most_bytes``, so that a long one does not hold up the others; those of the last
        topics may go without when parts are larger than that.

        Args:
            most_bytes: together.
            topics: the lanes to look at; None: all. The others are not read, however long they are.
        """
        topics = list(self.lanes) if topics is None else topics
        found: list[Part] = []
        for topic in topics:
            if found and sum(part.bytes for part in found) >= most_bytes:
                break
            found += self._oldest(topic, most_bytes // len(topics))
        return found

    def _oldest(self, topic: str, most_bytes: int) -> list[Part]:
        found: list[Part] = []
        select = "SELECT id, source, readings, bytes, body FROM part WHERE topic = ? ORDER BY id"
        with self._translated(), closing(self._db.execute(select, (topic,))) as rows:
            for number, source, readings, size, body in rows:
                most_bytes -= size
                if found and most_bytes < 0:
                    break
                found.append(Part(source, topic, _decode(body), readings, number, size))
        return found

    def remove(self, parts: Sequence[Part]) -> None:
        """Forget parts that came from here and are delivered."""
        if not parts:
            return
        with self._writing() as db:
            db.executemany("DELETE FROM part WHERE id = ?", [(part.id,) for part in parts])
        lanes = dict(self.lanes)
        for part in parts:
            lanes[part.topic] = lanes[part.topic].plus(-1, -part.readings, -part.bytes)
        self._sum_up(lanes)

    def move(self, cursors: Mapping[str, str]) -> None:
        """Move cursors of sources; those that stand there already cost nothing."""
        news = {source: cursor for source, cursor in cursors.items() if self._cursors.get(source) != cursor}
        if news:
            with self._writing() as db:
                _move(db, news)
            self._cursors |= news

    def cursor(self, source: str) -> str | None:
        """Return where ``source`` goes on; None: at its beginning."""
        return self._cursors.get(source)

    def close(self) -> None:
        """Leave what waits to the next start."""
        with suppress(sqlite3.Error):
            self._db.close()
        self._held.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._translated(), transaction(self._db):
            yield self._db

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SpoolUnavailable(f"the spool {self.path}: {error}") from error


def _row(part: Part) -> Row:
    body = _encode(part.messages)
    return part.topic, part.source, part.readings, len(body) + _ROW_BYTES, body


def _rows_of(source: str, readings: int, body: bytes) -> list[Row]:
    """Return as rows what version 1 kept as one."""
    return [_row(part) for part in Parcel(source, _decode(body), readings=readings).parts()]


def _move(db: sqlite3.Connection, cursors: Mapping[str, str]) -> None:
    db.executemany(
        "INSERT INTO cursor VALUES (?, ?) ON CONFLICT DO UPDATE SET cursor = excluded.cursor", list(cursors.items())
    )
