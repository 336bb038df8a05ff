"""Lines reach the file whole, once, and for good."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from connectors.errors import Misconfigured, SinkUnavailable
from connectors.json_lines import JsonLinesSink


def sent(path: Path, *values: bytes) -> None:
    sink = JsonLinesSink(path)
    for value in values:
        sink.send("key", value)
    sink.close()


def test_lines_are_appended(tmp_path: Path) -> None:
    """Protects what earlier processes wrote, and one line a message whatever its layout."""
    path = tmp_path / "alerts.jsonl"
    sent(path, b'{"a":1}', b'{\n "a": 2\r\n}')
    sent(path, b'{"a":3}')
    assert path.read_bytes() == b'{"a":1}\n{  "a": 2 }\n{"a":3}\n'


def test_flush_makes_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects commit after effects: when flush returns, the file was synced with all lines in it."""
    path = tmp_path / "alerts.jsonl"
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes()))
    sink = JsonLinesSink(path)
    sink.send("1", b"{}")
    assert synced == []
    sink.flush(1.0)
    assert synced == [b"{}\n"]
    sink.close()


def test_a_message_sent_twice_is_written_once(tmp_path: Path) -> None:
    """Protects replays after a crash: in one process, and from one to the next."""
    path = tmp_path / "alerts.jsonl"
    sent(path, b'{"id":1}', b'{"id":2}', b'{"id":1}')
    sent(path, b'{"id":2}', b'{"id":3}')
    assert path.read_bytes() == b'{"id":1}\n{"id":2}\n{"id":3}\n'


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b'{"id":1}\n{"id":2', b'{"id":1}\n'),
        (b'{"id":1}\n{"id":2}', b'{"id":1}\n{"id":2}\n'),
        (b'{"id"', b""),
        (b'{"id":1}\n{"id":"\xff"}', b'{"id":1}\n'),
        (b"", b""),
    ],
)
def test_a_line_cut_short_is_mended(tmp_path: Path, left: bytes, kept: bytes) -> None:
    """Protects readers from half a line glued to the next one; whole lines are never removed."""
    path = tmp_path / "alerts.jsonl"
    path.write_bytes(left)
    sent(path, b'{"id":3}')
    assert path.read_bytes() == kept + b'{"id":3}\n'


def test_a_failed_flush_drops_and_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a full disk: the error is retriable, and the next flush writes each line once."""
    path = tmp_path / "alerts.jsonl"
    sink = JsonLinesSink(path)
    sink.send("1", b'{"id":1}')

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SinkUnavailable, match="No space left") as caught:
            sink.flush(1.0)
    assert caught.value.retriable
    assert path.read_bytes() == b""
    sink.send("2", b'{"id":2}')
    sink.flush(1.0)
    sink.close()
    assert path.read_bytes() == b'{"id":1}\n{"id":2}\n'


def test_a_closed_sink_says_so(tmp_path: Path) -> None:
    """Protects against losing what is sent after the end."""
    sink = JsonLinesSink(tmp_path / "alerts.jsonl")
    sink.close()
    sink.send("1", b"{}")
    with pytest.raises(SinkUnavailable):
        sink.flush(1.0)


def test_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects `-`: lines go to stdout, which stays open."""
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", out)
    sink = JsonLinesSink("-")
    sink.send("1", b"{}")
    sink.flush(1.0)
    sink.close()
    assert isinstance(out.buffer, io.BytesIO)
    assert out.buffer.getvalue() == b"{}\n"


def test_what_is_no_file(tmp_path: Path) -> None:
    """Protects devices, which cannot be synced, and the message for a folder that is not there."""
    sent(Path("/dev/null"), b"{}")
    with pytest.raises(Misconfigured, match=r"missing/alerts.jsonl: cannot be opened"):
        JsonLinesSink(tmp_path / "missing" / "alerts.jsonl")
