"""The spool keeps order and cursors through crashes, is bounded, and says what is wrong with its file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.errors import Misconfigured, SpoolFull
from connectors.spool import Message, Parcel, Spool


def parcel(number: int, source: str = "city", cursor: bool = True) -> Parcel:
    message = Message("air", f"station-{number}", b"%d" % number, (("h", b"1"),))
    return Parcel(source, [message], str(number) if cursor else None, 1)


def test_parcels_come_out_as_they_went_in(tmp_path: Path) -> None:
    """Protects order and content over two lives, and that the cursor a source goes on from is behind its newest."""
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    spool.put([parcel(1), parcel(2, "river")])
    spool.put([parcel(3), parcel(4, cursor=False)])
    assert (spool.cursor("city"), spool.cursor("river"), spool.cursor("sea")) == ("3", "2", None)
    spool.close()
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    assert (len(spool), spool.readings) == (4, 4)
    found = spool.oldest(1 << 20)
    assert [one._replace(id=0) for one in found] == [
        parcel(1), parcel(2, "river"), parcel(3), parcel(4, cursor=False)
    ]  # fmt: skip
    assert len(spool.oldest(1)) == 1, "at least one, however large"
    spool.remove(found[:2])
    assert spool.cursor("city") == "3"
    spool.remove(spool.oldest(1 << 20))
    assert (len(spool), spool.bytes, spool.readings) == (0, 0, 0)
    assert (spool.cursor("city"), spool.cursor("river")) == ("3", "2")
    spool.close()


def test_cursors_of_what_went_straight_to_kafka_are_kept(tmp_path: Path) -> None:
    """Protects the usual way: nothing lies in the spool, and still the next life goes on behind it."""
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    spool.move([parcel(1), parcel(2), parcel(3, cursor=False)])
    spool.close()
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    assert spool.cursor("city") == "2"
    spool.close()


def test_it_is_bounded_and_takes_all_or_nothing(tmp_path: Path) -> None:
    """Protects the disk, and the order: the second half of what was offered never lies there without the first."""
    spool = Spool(tmp_path / "spool.db", 500)
    spool.put([parcel(1)])
    with pytest.raises(SpoolFull, match=r"spool\.db is full: \d+ of 500 bytes"):
        spool.put([parcel(number) for number in range(2, 9)])
    assert [one.cursor for one in spool.oldest(1 << 20)] == ["1"]
    spool.close()


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
from pathlib import Path
from connectors.spool import Message, Parcel, Spool
spool = Spool(Path(sys.argv[1]), 1 << 30)
number = 0
while True:
    number += 1
    spool.put([Parcel("city", [Message("air", "a", b"%d" % number)], str(number), 1)])
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
    kept = [int(one.messages[0].value) for one in spool.oldest(1 << 30)]
    assert kept[:printed] == list(range(1, printed + 1))
    assert spool.cursor("city") == str(kept[-1])
    spool.close()
