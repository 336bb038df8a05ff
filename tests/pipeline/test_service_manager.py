"""systemd is told what it has to know, and a loop that stands is not called alive."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from structlog.testing import capture_logs

from pipeline import service_manager
from pipeline.service_manager import ServiceManager
from pipeline.status import Status
from tests.pipeline.receiver_parts import wait_until

STALL_S = 120.0


class Manager:
    """The other end of the socket; unless it is ``deaf`` it listens all the while: few words have room in a socket."""

    def __init__(self, address: str, deaf: bool = False) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._told: SimpleQueue[str] = SimpleQueue()
        self._thread = threading.Thread(target=self._listen)
        if not deaf:
            self._thread.start()

    def hears(self) -> str:
        """Return the next thing that it is told."""
        return self._told.get(timeout=60.0)

    def close(self) -> None:
        """Listen no more."""
        if self._thread.ident is not None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", self._address)
            self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while told := self._socket.recv(100):
            self._told.put(told.decode())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A manager that listens in ``tmp_path``."""
    listening = Manager(str(tmp_path / "notify"))
    yield listening
    listening.close()


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return what systemd would put into the environment."""
    return {"NOTIFY_SOCKET": str(tmp_path / "notify"), **more}


def test_it_says_ready_alive_and_stopping(tmp_path: Path, manager: Manager) -> None:
    """Protects the service: systemd waits for the first, kills without the second, and does not wonder at the end."""
    given = environment(tmp_path, WATCHDOG_USEC="40000", WATCHDOG_PID=str(os.getpid()))
    with ServiceManager(Status(STALL_S), given):
        assert manager.hears() == "READY=1"
        assert [manager.hears(), manager.hears()] == ["WATCHDOG=1", "WATCHDOG=1"]
    while (told := manager.hears()) == "WATCHDOG=1":
        pass
    assert told == "STOPPING=1"


def test_a_loop_that_stands_is_not_called_alive(tmp_path: Path, manager: Manager) -> None:
    """Protects from a watchdog that is fed by a thread while the loop hangs."""
    clock = [0.0]
    asked = []

    def monotonic() -> float:
        asked.append(clock[0])
        return clock[0]

    status = Status(STALL_S, monotonic)
    clock[0] = STALL_S + 1.0
    with ServiceManager(status, environment(tmp_path, WATCHDOG_USEC="4000")):
        assert manager.hears() == "READY=1"
        before = len(asked)
        while len(asked) < before + 3:
            pass
    assert manager.hears() == "STOPPING=1"


def test_a_manager_that_hears_nothing_holds_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the shutdown from a manager that hangs: words that it does not take are given up, and that is logged."""
    monkeypatch.setattr(service_manager, "_PATIENCE_S", 0.01)
    deaf = Manager(str(tmp_path / "notify"), deaf=True)
    with capture_logs() as log, ServiceManager(Status(STALL_S), environment(tmp_path, WATCHDOG_USEC="400")):
        wait_until(lambda: bool(log))
    assert [entry["event"] for entry in log] == ["cannot notify the service manager"]
    deaf.close()


def test_the_watchdog_of_another_process_is_not_fed(tmp_path: Path, manager: Manager) -> None:
    """Protects from children that inherit the environment and speak for their parent."""
    given = environment(tmp_path, WATCHDOG_USEC="1000", WATCHDOG_PID="1")
    with ServiceManager(Status(STALL_S), given) as told:
        assert not told._thread.is_alive()
        assert manager.hears() == "READY=1"


def test_abstract_addresses_are_understood() -> None:
    """Protects containers, in which systemd's socket may have a name without a file."""
    name = f"vedette-test-{os.getpid()}"
    listening = Manager(f"\0{name}")
    with ServiceManager(Status(STALL_S), {"NOTIFY_SOCKET": f"@{name}"}):
        assert listening.hears() == "READY=1"
    listening.close()


def test_without_a_manager_nothing_is_said_and_one_that_is_away_stops_nothing(tmp_path: Path) -> None:
    """Protects every other way to start it; and a socket that nobody listens at is logged once."""
    with capture_logs() as log:
        with ServiceManager(Status(STALL_S), {}):
            pass
        assert log == []
        with ServiceManager(Status(STALL_S), environment(tmp_path)):
            pass
        assert [entry["event"] for entry in log] == ["cannot notify the service manager"]
