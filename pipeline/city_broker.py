"""The city's MQTT broker: a mosquitto of its own, on loopback, for as long as the demo runs."""

from __future__ import annotations

import getpass
import socket
import time
from pathlib import Path

from connectors.free_ports import free_port
from pipeline.stack_servers import Server, tail
from pipeline.stack_starting import program

_START_S = 20.0
_LOOK_S = 0.05


class NoBroker(Exception):
    """There is no mosquitto, or it does not start; the text says what to do."""


class CityBroker:
    """A mosquitto that runs from construction to ``close``; a context manager.

    Args:
        folder: of its own, for its configuration and log.

    Raises:
        NoBroker: if it cannot be started.
    """

    def __init__(self, folder: Path) -> None:
        binary = program("mosquitto") or program("/usr/sbin/mosquitto")
        if binary is None:
            raise NoBroker(
                "mosquitto, the MQTT broker that the cameras publish to, is not installed; `make demo SITE=city` gets "
                "it where apt can, else install Debian's package mosquitto"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = folder / "mosquitto.conf"
        # Named, for mosquitto changes to a user of its own when root starts it, who may not write here.
        config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser {getpass.getuser()}\n",
            encoding="utf-8",
        )
        log = folder / "log"
        log.unlink(missing_ok=True)
        self._server = Server("mosquitto", f"127.0.0.1:{self.port}", [binary, "-c", str(config)], log, lambda: None)
        deadline_s = time.monotonic() + _START_S
        while not listens(self.port):
            if self._server.ended() is not None or time.monotonic() > deadline_s:
                self._server.close()
                raise NoBroker(f"mosquitto does not start: {tail(log)}")
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """End it."""
        self._server.close()

    def __enter__(self) -> CityBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def listens(port: int) -> bool:
    """Return whether anybody listens at a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
