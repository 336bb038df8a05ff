"""The spool keeps order and cursors through crashes, is bounded, and says what is wrong with its file."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from connectors.errors import Misconfigured, SpoolFull, SpoolUnavailable
from connectors.spool import Lane, Message, Part, Spool


def part(number: int, topic: str = "air", source: str = "city") -> Part:
    message = Message(topic, f"station-{number}", b"%d" % number, (("h", b"1"),))
    return Part(source, topic, [message], 1)


def numbers(parts: list[Part]) -> list[int]:
    return [int(message.value) for one in parts for message in one.messages]


def test_parts_come_out_as_they_went_in(tmp_path: Path) -> None:
    """Protects order and content over two lives, and the cursors that were moved with them."""
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    spool.put([part(1), part(2, source="river")], {"city": "1", "river": "2"})
    spool.put([part(3), part(4)], {"city": "3"})
    spool.close()
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    assert [spool.cursor(name) for name in ("city", "river", "sea")] == ["3", "2", None]
    assert (len(spool), spool.readings) == (4, 4)
    found = spool.oldest(1 << 20)
    assert [one._replace(id=0, bytes=0) for one in found] == [part(1), part(2, source="river"), part(3), part(4)]
    assert sum(one.bytes for one in found) == spool.bytes
    assert len(spool.oldest(1)) == 1, "at least one, however large"
    spool.remove(found[:2])
    spool.remove(spool.oldest(1 << 20))
    assert (len(spool), spool.bytes, spool.readings) == (0, 0, 0)
    assert (spool.cursor("city"), spool.cursor("river")) == ("3", "2")
    spool.close()


def test_lanes_are_looked_at_one_without_the_other(tmp_path: Path) -> None:
    """Protects a topic's readings from waiting for another topic's, and the order of each; what waits is known."""
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    chance = random.Random(1)
    given = [part(number, chance.choice(("air", "water", "dead"))) for number in range(60)]
    for one in given:
        spool.put([one])
    of = {topic: numbers([one for one in given if one.topic == topic]) for topic in ("air", "water", "dead")}
    assert sorted(numbers(spool.oldest(1 << 20))) == list(range(60))
    assert numbers(spool.oldest(1 << 20, ["water"])) == of["water"]
    assert numbers(spool.oldest(1 << 20, ["dead", "air", "none"])) == of["dead"] + of["air"]
    some = spool.oldest(1_200, ["dead", "air"])
    assert [one.topic for one in some] == ["dead"] * 4 + ["air"] * 4, "each has its share"
    assert len(spool.oldest(1, ["dead", "air"])) == 1, "at least one, however large"
    assert spool.oldest(1 << 20, []) == []
    assert {topic: lane.parts for topic, lane in spool.lanes.items()} == {name: len(each) for name, each in of.items()}
    water = spool.oldest(1 << 20, ["water"])
    spool.remove(water[1:3])  # not the first ones, and others lie between
    assert numbers(spool.oldest(1 << 20, ["water"])) == [of["water"][0], *of["water"][3:]]
    spool.remove([water[0], *water[3:]])
    assert spool.lanes.keys() == {"air", "dead"}
    kept = spool.lanes
    spool.close()
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    assert spool.lanes == kept
    assert sorted(numbers(spool.oldest(1 << 20))) == sorted(of["air"] + of["dead"])
    spool.close()


def test_cursors_of_what_went_straight_to_kafka_are_kept(tmp_path: Path) -> None:
    """Protects the usual way: nothing lies in the spool, and still the next life goes on behind it."""
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    spool.move({"city": "1"})
    spool.move({"city": "2", "river": "1"})
    spool.close()
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    assert (spool.cursor("city"), spool.cursor("river")) == ("2", "1")
    spool._db.execute("PRAGMA query_only = 1")
    spool.move({"city": "2"})  # stands there: nothing is written, thousands of times a second
    with pytest.raises(SpoolUnavailable):
        spool.move({"city": "3"})
    assert spool.cursor("city") == "2"
    spool.close()


def test_it_is_bounded_and_takes_all_or_nothing(tmp_path: Path) -> None:
    """Protects the disk, and the order: the second half of what was offered never lies there without the first."""
    spool = Spool(tmp_path / "spool.db", 500)
    spool.put([part(1)], {"city": "1"})
    with pytest.raises(SpoolFull, match=r"spool\.db is full: \d+ of 500 bytes"):
        spool.put([part(number) for number in range(2, 9)], {"city": "8"})
    assert numbers(spool.oldest(1 << 20)) == [1]
    assert spool.cursor("city") == "1"
    spool.close()


def test_bounded_lanes_leave_half_of_it_to_the_others(tmp_path: Path) -> None:
    """Protects the day that Kafka is away from a topic that has been refused for weeks."""
    spool = Spool(tmp_path / "spool.db", 2_000)
    refused = ["dead", "water"]
    number = 0
    while spool.has_share(refused, 150):
        spool.put([part(number, refused[number % 2])], bounded=refused)
        number += 1
    assert 700 < spool.bytes <= 1_000
    with pytest.raises(SpoolFull, match=r"half of the spool .* topics that are refused may take no more"):
        spool.put([part(1), part(2, "dead"), part(3, "water")], bounded=refused)
    spool.put([part(1)], bounded=refused)
    spool.put([part(2, "dead")])  # they are refused no more
    assert numbers(spool.oldest(1 << 20, ["air"])) == [1]
    spool.close()


_VERSION_1 = """
CREATE TABLE parcel (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  source TEXT NOT NULL, cursor TEXT, readings INTEGER NOT NULL, bytes INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX parcel_of_source ON parcel (source, id);
CREATE TABLE cursor (source TEXT PRIMARY KEY, cursor TEXT NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def write_version_1(path: Path, count: int) -> None:
    """Leave what the first version left: parcels for two topics, with cursors, and cursors of what was delivered."""
    db = sqlite3.connect(path)
    db.executescript(_VERSION_1)
    for number in range(count):
        body = [*part(number).messages, *(part(number, "dead").messages if number % 3 == 0 else ())]
        cursor = None if number % 7 == 0 else str(number)
        row = (f"s{number % 2}", cursor, 1, 200, msgspec.msgpack.encode(body))
        db.execute("INSERT INTO parcel (source, cursor, readings, bytes, body) VALUES (?, ?, ?, ?, ?)", row)
    db.executemany("INSERT INTO cursor VALUES (?, ?)", [("s0", "before"), ("idle", "77")])
    db.commit()
    db.close()


_OPENS_AND_DIES = """
import os, signal, sys
from pathlib import Path
from connectors import spool, spool_file
take, taken = spool._encode, []
def encode(messages):
    taken.append(messages)
    if len(taken) == 100:
        os.kill(os.getpid(), signal.SIGKILL)
    return take(messages)
spool_file._AT_ONCE, spool._encode = 7, encode
spool.Spool(Path(sys.argv[1]), 1 << 20)
"""


@pytest.mark.parametrize("killed", [False, True])
def test_what_an_earlier_version_left_is_taken_over(tmp_path: Path, killed: bool) -> None:
    """Protects what waits while vedette is upgraded, also from a kill in the middle of it; nothing is there twice."""
    write_version_1(tmp_path / "spool.db", 450)
    if killed:
        command = [sys.executable, "-c", _OPENS_AND_DIES, str(tmp_path / "spool.db")]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        with closing(sqlite3.connect(tmp_path / "spool.db")) as db:
            assert 350 < db.execute("SELECT count(*) FROM parcel").fetchone()[0] < 450
    for _ in range(2):
        spool = Spool(tmp_path / "spool.db", 1 << 20)
        assert numbers(spool.oldest(1 << 20, ["air"])) == list(range(450))
        assert numbers(spool.oldest(1 << 20, ["dead"])) == list(range(0, 450, 3))
        assert spool.lanes["air"][:2] == (450, 450)
        assert isinstance(spool.lanes["dead"], Lane)
        assert spool.lanes["dead"][:2] == (150, 0), "readings are counted once"
        assert [spool.cursor(name) for name in ("s0", "s1", "idle")] == ["446", "449", "77"]
        spool.close()


def test_taking_over_large_parcels_takes_little_memory(tmp_path: Path) -> None:
    """Protects the upgrade of a long outage's spool from the memory that a container has."""
    write_version_1(tmp_path / "spool.db", 0)
    body = msgspec.msgpack.encode([Message("air", "a", b"x" * (1 << 20))])
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db:
        row = ("city", None, 1, len(body), body)
        db.executemany("INSERT INTO parcel (source, cursor, readings, bytes, body) VALUES (?, ?, ?, ?, ?)", [row] * 50)
        db.commit()
    tracemalloc.start()
    try:
        with closing(Spool(tmp_path / "spool.db", 1 << 30)) as spool:
            assert spool.lanes["air"].parts == 50
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_two_processes_do_not_share_one(tmp_path: Path) -> None:
    """Protects order and cursors from a second process that was started by mistake."""
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    with pytest.raises(Misconfigured, match="used by another process"):
        Spool(tmp_path / "spool.db", 1 << 20)
    spool.close()


@pytest.mark.parametrize(
    "content", [b"hello, world, this is no database at all", b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_another_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """Protects whatever a wrong path names."""
    path = tmp_path / "spool.db"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match="no spool, or damaged: move it away"):
        Spool(path, 1 << 20)
    assert path.read_bytes() == content


_WRITES_FOR_EVER = """
import sys
from contextlib import closing
from pathlib import Path
from connectors.spool import Message, Part, Spool
spool = Spool(Path(sys.argv[1]), 1 << 30)
number = 0
while True:
    number += 1
    spool.put([Part("city", "air", [Message("air", "a", b"%d" % number)], 1)], {"city": str(number)})
    print(number, flush=True)
"""


def test_what_was_put_outlasts_a_kill(tmp_path: Path) -> None:
    """Protects "durable": every number that was printed after its put is there, in order, without a gap."""
    command = [sys.executable, "-c", _WRITES_FOR_EVER, str(tmp_path / "spool.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        printed = 0
        for line in writer.stdout:
            printed = int(line) if line.endswith("\n") else printed
            if printed == 50:
                os.kill(writer.pid, signal.SIGKILL)  # what it printed until then is read to the end
    spool = Spool(tmp_path / "spool.db", 1 << 30)
    kept = numbers(spool.oldest(1 << 30))
    assert kept[:printed] == list(range(1, printed + 1))
    assert spool.cursor("city") == str(kept[-1])
    spool.close()
