"""The alert spool keeps lines in their order through crashes, within its bounds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.alert_spool import AlertSpool

KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.alert_spool import AlertSpool
spool = AlertSpool(Path(sys.argv[1]))
spool.append([b"1", b"2"])
spool.oldest()
spool.append([b"3"])
print("written", flush=True)
signal.pause()
"""


def emptied(spool: AlertSpool) -> list[bytes]:
    """Return all lines, oldest first, and remove them."""
    lines: list[bytes] = []
    while (segment := spool.oldest()) is not None:
        lines += segment.read()
        spool.remove(segment)
    return lines


def test_lines_come_out_in_their_order(tmp_path: Path) -> None:
    """Protects the order of what is said about an incident, and the disk from what was delivered."""
    spool = AlertSpool(tmp_path / "new" / "folder")
    spool.append([b"1", b"2"])
    first = spool.oldest()
    assert first is not None
    spool.append([b"3"])
    assert first.read() == [b"1", b"2"]
    assert spool.waiting == 3
    assert emptied(spool) == [b"1", b"2", b"3"]
    assert spool.waiting == 0
    spool.close()
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    """Protects what was acknowledged from kill -9; while that process lives, its lines are its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        beside = AlertSpool(tmp_path)
        assert beside.waiting == 0
        process.send_signal(signal.SIGKILL)
    after = AlertSpool(tmp_path)
    assert after.waiting == 3
    after.append([b"4"])
    assert emptied(after) == [b"1", b"2", b"3", b"4"]
    after.close()
    beside.close()
    assert list(tmp_path.iterdir()) == []


def test_a_clean_end_leaves_what_waits(tmp_path: Path) -> None:
    """Protects messages from a shutdown during an outage, twice over."""
    for n in range(2):
        spool = AlertSpool(tmp_path)
        spool.append([b"%d" % n])
        spool.close()
    spool = AlertSpool(tmp_path)
    assert emptied(spool) == [b"0", b"1"]
    spool.close()


def test_beyond_its_bound_the_oldest_go(tmp_path: Path) -> None:
    """Protects the disk from an outage of weeks; what is lost is counted."""
    spool = AlertSpool(tmp_path, max_bytes=800)
    for n in range(100):
        spool.append([b"%019d" % n])  # 20 bytes with its end
    left = emptied(spool)
    assert spool.dropped + len(left) == 100
    assert left == [b"%019d" % n for n in range(100 - len(left), 100)]
    assert 30 <= len(left) <= 40
    spool.close()


def test_a_segment_that_was_dropped_meanwhile_is_empty(tmp_path: Path) -> None:
    """Protects the delivering thread from what the loop's thread drops."""
    spool = AlertSpool(tmp_path, max_bytes=80)
    spool.append([b"old"])
    oldest = spool.oldest()
    assert oldest is not None
    spool.append([b"x" * 60])
    spool.append([b"y" * 60])
    assert oldest.read() == []
    spool.remove(oldest)
    assert spool.dropped == 2
    assert emptied(spool) == [b"y" * 60]
    spool.close()


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from half a line, and from the same line twice when it is tried again."""
    spool = AlertSpool(tmp_path)
    spool.append([b"1"])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            spool.append([b"2"])
    assert spool.waiting == 1
    spool.append([b"2"])
    assert emptied(spool) == [b"1", b"2"]
    spool.close()


def test_a_torn_line_that_stays_takes_no_other_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects what was acknowledged, before and after it, from a disk that neither takes a line nor gives it up."""
    spool = AlertSpool(tmp_path)
    spool.append([b"1"])

    def torn(descriptor: int) -> None:
        os.truncate(descriptor, os.fstat(descriptor).st_size - 2)
        raise OSError(5, "Input/output error")

    def refused(descriptor: int, length: int) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", torn)
        patch.setattr(os, "ftruncate", refused)
        with pytest.raises(OSError, match="Input/output error"):
            spool.append([b"2", b"lost"])
    spool.append([b"3"])
    assert spool.waiting == 2
    (tmp_path / "beside").mkdir()  # what a killed process leaves is read without what it knew
    for path in tmp_path.glob("*.jsonl"):
        (tmp_path / "beside" / path.name).write_bytes(path.read_bytes())
    assert emptied(spool) == [b"1", b"3"]
    spool.close()
    after = AlertSpool(tmp_path / "beside")
    assert emptied(after) == [b"1", b"2", b"los", b"3"]
    after.close()


def test_a_segment_without_an_entry_in_its_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects what is acknowledged from a crash of the machine: a file must outlast it, not only its content."""
    spool = AlertSpool(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            spool.append([b"1"])
    left = set(tmp_path.glob("*.jsonl"))
    spool.append([b"2"])
    (used,) = set(tmp_path.glob("*.jsonl")) - left
    assert used.read_bytes() == b"2\n"
    assert emptied(spool) == [b"2"]
    spool.close()
