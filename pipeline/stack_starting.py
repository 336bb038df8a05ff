"""Starts what the stack is made of: programs of this machine with our files, and Vedette itself."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from connectors.errors import ConnectorError
from connectors.kafka_topics import ensure_topics
from pipeline import stack_configs, stack_servers
from pipeline.stack_configs import ALERTS_TOPIC, DEAD_LETTERS_TOPIC, DEPLOY, Ports
from pipeline.stack_servers import EmbeddedKafka, KafkaServer, LeftOut, Part, Server, VedetteServer
from pipeline.stack_stations import STEP_S, Stations, Tape

_LATE_S = 30.0
"""The newest closed step of a stream that keeps up is no older than this."""


class StackError(Exception):
    """The stack cannot run; the text says why and what to do."""


def start(out: Path, ports: Ports, home: str | None, played: Sequence[Tape], parts: list[Part]) -> Stations:
    """Start everything; return the stations.

    Args:
        out: the folder for what they write.
        ports: where they listen.
        home: of the Kafka that is started; None: the embedded broker.
        played: what the stations send.
        parts: grows with what runs, in the order in which it is shown, so that it can be ended if the next one fails.

    Raises:
        StackError: if one cannot be started.
    """
    observers = [_prometheus(out / "prometheus", ports), _alertmanager(out / "alertmanager", ports)]
    parts += observers
    names = [tape.series.stream for tape in played]
    try:
        broker = EmbeddedKafka() if home is None else KafkaServer(home, out / "kafka", ports.kafka)
        parts.insert(0, broker)
        broker.start()
        ensure_topics(
            broker.address, dict.fromkeys([*names, ALERTS_TOPIC, DEAD_LETTERS_TOPIC], 2), settings=broker.settings
        )
    except ConnectorError as error:
        raise StackError(f"Kafka: {error}") from error
    stations = Stations(broker.address, played, broker.settings)
    parts.insert(1, StationsPart(stations, played))
    stations.start()
    told = not isinstance(observers[1], LeftOut)
    folder = out / "vedette"
    folder.mkdir(parents=True)
    config = folder / "vedette.yaml"
    config.write_text(
        stack_configs.vedette_config(ports, folder / "state", broker.address, _plain(broker.settings), played, told),
        encoding="utf-8",
    )
    address = f"http://127.0.0.1:{ports.vedette}"
    command = [sys.executable, "-m", "pipeline.cli", "run", "--config", str(config)]
    ailing = partial(stack_servers.vedette_ailing, address, names, time.time, _LATE_S)
    parts.insert(2, VedetteServer(address, command, folder / "log", ailing, folder / "state" / "training"))
    return stations


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return kafka-python's settings as the config can say them."""
    return {name: ".".join(map(str, value)) if isinstance(value, tuple) else value for name, value in settings.items()}


def _prometheus(folder: Path, ports: Ports) -> Part:
    binary = program("prometheus")
    if binary is None:
        return LeftOut("Prometheus", "left out: not installed (make tools)")
    folder.mkdir(parents=True)
    config = folder / "prometheus.yml"
    config.write_text(stack_configs.prometheus_config(ports), encoding="utf-8")
    address = f"http://127.0.0.1:{ports.prometheus}"
    command = [
        binary, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{ports.prometheus}", f"--web.external-url={address}",
    ]  # fmt: skip
    notifies = alertmanager_program() is not None
    return Server(
        "Prometheus", address, command, folder / "log", lambda: stack_servers.prometheus_ailing(address, notifies)
    )


def _alertmanager(folder: Path, ports: Ports) -> Part:
    binary = alertmanager_program()
    if binary is None:
        return LeftOut("Alertmanager", "left out: not installed (make tools)")
    address = f"http://127.0.0.1:{ports.alertmanager}"
    command = [
        binary, f"--config.file={DEPLOY / 'alertmanager' / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{ports.alertmanager}",
        f"--web.external-url={address}", "--cluster.listen-address=",
    ]  # fmt: skip
    return Server("Alertmanager", address, command, folder / "log", lambda: stack_servers.alertmanager_ailing(address))


def alertmanager_program() -> str | None:
    return program("prometheus-alertmanager") or program("alertmanager")


def program(name: str) -> str | None:
    """Return where a program is: on PATH, or where `make tools` unpacks it for whoever is not root."""
    return shutil.which(name) or shutil.which(name, path=str(DEPLOY.parent / ".debian" / "bin"))


class StationsPart:
    """The stations as one of the stack's parts; they are a thread of this process."""

    name = "stations"
    pid = None

    def __init__(self, stations: Stations, played: Sequence[Tape]) -> None:
        self._stations = stations
        entities = sum(len(tape.series.entities) for tape in played)
        self.address = f"{entities} on {', '.join(tape.series.stream for tape in played)}; a reading every {STEP_S} s"

    def ended(self) -> str | None:
        """Return what ended them; None while they send."""
        return None if self._stations.is_alive() else f"ended: {self._stations.error}"

    def ailing(self) -> str | None:
        """Return None once they are live."""
        return None if self._stations.live.is_set() else "sending their history"

    def close(self) -> None:
        """Stop them."""
        self._stations.close()
