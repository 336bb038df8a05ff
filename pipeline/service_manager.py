"""Tells systemd that the daemon is up, that its loop still turns, and that it stops: sd_notify(3) without its library.

Where nobody asks for it, which is everywhere but in a unit of ``Type=notify``, nothing is done.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from types import TracebackType

import structlog

from pipeline.status import Status

log = structlog.get_logger("vedette.service_manager")

_SHARE = 0.25
"""Of the watchdog's time passes between two signs of life; sd_watchdog_enabled(3) advises half of it at most."""


_PATIENCE_S = 5.0
"""For a manager that does not take what it is told: its socket has room for a few words only."""


class ServiceManager:
    """A context: up when entered, stopping when left. Signs of life come from a thread, and only while the loop turns.

    A manager that cannot be reached is logged once, and is no reason to stop.
    """

    def __init__(self, status: Status, environment: Mapping[str, str] | None = None) -> None:
        """Take where and how often to tell from ``environment``; none: that of the process."""
        given = os.environ if environment is None else environment
        self._status = status
        self._address = given.get("NOTIFY_SOCKET", "")
        self._every_s = _watchdog_s(given) * _SHARE
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._live, name="vedette-watchdog", daemon=True)
        self._failed = False

    def __enter__(self) -> ServiceManager:
        self._tell("READY=1")
        if self._address and self._every_s > 0:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        if self._thread.is_alive():
            self._thread.join()
        self._tell("STOPPING=1")

    def _live(self) -> None:
        while not self._left.wait(self._every_s):
            if self._status.alive():
                self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        # An @ stands for the zero byte with which the names of abstract sockets begin.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_PATIENCE_S)
                sender.sendto(state.encode(), address)
        except OSError as error:
            if not self._failed:
                log.warning("cannot notify the service manager", socket=self._address, error=str(error))
            self._failed = True


def _watchdog_s(given: Mapping[str, str]) -> float:
    """Return the time after which silence is taken for death; 0 where nobody watches this process."""
    if given.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    told = given.get("WATCHDOG_USEC", "0")
    return int(told) / 1e6 if told.isdigit() else 0.0
