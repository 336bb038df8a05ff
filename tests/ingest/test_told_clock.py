"""The clock that is told: what one process sets another reads, and a file that is none is refused in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from connectors.errors import Misconfigured
from pipeline.ingest.told_clock import ToldClock

_ASK = "import sys; from pathlib import Path; from pipeline.ingest.told_clock import ToldClock; "
_ASK += "clock = ToldClock(Path(sys.argv[1]))\nfor _ in sys.stdin: print(clock.now_us(), flush=True)"


def test_another_process_reads_what_is_set(tmp_path: Path) -> None:
    """Protects replays: the clock goes on in the process that reads it, without being opened anew."""
    path = tmp_path / "clock"
    with ToldClock(path, 1_000_000) as clock:
        asking = subprocess.Popen(
            [sys.executable, "-c", _ASK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert asking.stdin is not None
        assert asking.stdout is not None
        with asking:
            for time_us in (1_000_000, 1_764_000_000_123_456):
                clock.set(time_us)
                asking.stdin.write("?\n")
                asking.stdin.flush()
                assert int(asking.stdout.readline()) == time_us
        assert clock.now_s() == pytest.approx(1_764_000_000.123456)


def test_a_file_that_is_no_clock_is_refused(tmp_path: Path) -> None:
    """Protects whoever gives the wrong file: it is told which, and what one is."""
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"2026-11-21T12:00:00Z")
    with pytest.raises(Misconfigured, match="20 bytes; allowed: 8"):
        ToldClock(wrong)
    with pytest.raises(Misconfigured, match="missing"):
        ToldClock(tmp_path / "missing")
