"""A real mosquitto for tests: its own folder and port, on loopback; it can be killed and started again."""

from __future__ import annotations

import getpass
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest

from connectors.free_ports import free_port
from tests.end_to_end.kafka_parts import wait_until


def mosquitto() -> str:
    """Return the path of the broker; skips the test where it is not installed."""
    path = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if path is None:
        pytest.skip("needs mosquitto, which Debian has in the package mosquitto")
    return path


class MosquittoServer:
    """Runs from construction to ``close``; a context manager.

    Args:
        folder: its own; what it persists is there.
        lines: of its configuration, beside those here; with ``allow_anonymous`` it takes anyone.
        listener: lines for the listener, such as those for TLS.
    """

    def __init__(self, folder: Path, lines: str = "allow_anonymous true", listener: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n{listener}\n{lines}\npersistence true\n"
            f"persistence_location {folder}/\nautosave_interval 1800\n"
            f"log_dest file {folder / 'mosquitto.log'}\nlog_type error\nlog_type warning\nlog_type notice\n"
            f"max_queued_messages 0\nuser {_me()}\n",
            encoding="utf-8",
        )
        self.log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it; return when it listens."""
        self._process = subprocess.Popen(
            [mosquitto(), "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(self._listens, f"mosquitto listens (see {self.log})")
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Let it leave in order: it writes down what it keeps."""
        self._end(signal.SIGTERM)

    def save(self) -> None:
        """Let it write down sessions and messages, as it does by itself once in a while."""
        assert self._process is not None
        before = self._saved()
        self._process.send_signal(signal.SIGUSR1)
        wait_until(lambda: self._saved() > before or self._idle(), "mosquitto has written its database")

    def kill(self) -> None:
        """Take it away, as a power cut would: it knows what it last wrote down."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop it for good."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self._end(signal.SIGTERM)

    def __enter__(self) -> MosquittoServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _idle(self) -> bool:
        """Wait a moment; return False."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0.02)
        return False

    def _saved(self) -> int:
        database = self._config.parent / "mosquitto.db"
        return database.stat().st_mtime_ns if database.exists() else 0

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(encoding="utf-8") if self.log.exists() else "it ended"
        with socket.socket() as probe:
            probe.settimeout(10)
            if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                return True
        return self._idle()


def _me() -> str:
    """Return the user that the tests run as: mosquitto would change to another one when started by root."""
    return getpass.getuser()
