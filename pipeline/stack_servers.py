"""The stack's parts: other people's servers and ours, each a process that is ended by its id, and told well or not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from connectors.kafka_connecting import listening
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_local import LocalKafka

_ASK_S = 5.0
_TAIL_LINES = 15
_STOP_S = 40.0
"""Vedette's own deadline for draining is 30 s."""


class Part(Protocol):
    """One of the things that make up the stack."""

    name: str
    address: str

    @property
    def pid(self) -> int | None:
        """Its process; None if it has none of its own, or does not run."""

    def ended(self) -> str | None:
        """Return how it ended by itself, with the end of its log; None while it runs."""

    def ailing(self) -> str | None:
        """Return why it is not well, in a few words; None when it is."""

    def close(self) -> None:
        """End it."""


class Server:
    """A process of its own, with a log of its own. It is in a session of its own, so that Ctrl-C does not reach it."""

    def __init__(
        self, name: str, address: str, command: Sequence[str], log: Path, ailing: Callable[[], str | None]
    ) -> None:
        self.name, self.address, self.log = name, address, log
        self._ailing = ailing
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )

    @property
    def pid(self) -> int | None:
        """Its process; None when it has ended."""
        return self._process.pid if self._process.poll() is None else None

    def ended(self) -> str | None:
        """Return how it ended by itself, with the end of its log; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{how}; {tail(self.log)}"

    def ailing(self) -> str | None:
        """Return why it is not well, in a few words; None when it is."""
        return "not running" if self.pid is None else self._ailing()

    def close(self) -> None:
        """Ask it to end, and kill it if it does not."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it at once."""
        if self._process.poll() is None:
            self._process.kill()


class VedetteServer(Server):
    """Vedette, and the trainings that it starts: those outlive a daemon, but not the stack."""

    def __init__(
        self, address: str, command: Sequence[str], log: Path, ailing: Callable[[], str | None], trainings: Path
    ) -> None:
        super().__init__("Vedette", address, command, log, ailing)
        self._trainings = trainings

    def close(self) -> None:
        """Ask it to end, kill it if it does not, and kill the trainings that it leaves behind."""
        super().close()
        self._kill_trainings()

    def kill(self) -> None:
        """End it and its trainings at once."""
        super().kill()
        self._kill_trainings()

    def _kill_trainings(self) -> None:
        """Kill those whose command line names a job's folder of this stack; their records know them too late."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = path.read_bytes().decode("utf-8", "replace").split("\0")
                if "--job" in arguments and Path(arguments[arguments.index("--job") + 1]).is_relative_to(
                    self._trainings
                ):
                    os.kill(int(path.parent.name), signal.SIGKILL)
            except OSError:
                continue  # it ended meanwhile


class KafkaServer:
    """A real Kafka of this stack's own."""

    name = "Kafka"

    def __init__(self, home: str, folder: Path, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._kafka = LocalKafka(home, folder=folder, port=port)
        self.address = self._kafka.bootstrap_servers
        self.settings: dict[str, Any] = {}

    def start(self) -> None:
        """Start it; raises ConnectorError if it does not come."""
        self._kafka.start()

    @property
    def pid(self) -> int | None:
        """Its process; None when it has ended."""
        return self._kafka.pid

    def ended(self) -> str | None:
        """Return how it ended by itself, with the end of its log; None while it runs."""
        return None if self._kafka.running else f"ended; {tail(self._kafka.log)}"

    def ailing(self) -> str | None:
        """Return why it is not well; None when it accepts connections."""
        return None if listening(self.address, _ASK_S) else "accepts no connections"

    def close(self) -> None:
        """End it; its log stays."""
        self._kafka.stop()

    def kill(self) -> None:
        """End it at once."""
        if self._kafka.pid is not None:
            os.kill(self._kafka.pid, signal.SIGKILL)


class EmbeddedKafka:
    """librdkafka's mock cluster, within this process."""

    name = "Kafka"
    pid = None

    def __init__(self) -> None:
        self._broker = EmbeddedBroker()
        self.address = self._broker.bootstrap_servers
        self.settings: dict[str, Any] = {**EmbeddedBroker.settings}

    def start(self) -> None:
        """Do nothing: it runs since it is there."""

    def ended(self) -> str | None:
        """Return None: it lives as long as this process."""
        return None

    def ailing(self) -> str | None:
        """Return why it is not well; None when it accepts connections."""
        return None if listening(self.address, _ASK_S) else "accepts no connections"

    def close(self) -> None:
        """End it."""
        self._broker.close()


@dataclass(slots=True)
class LeftOut:
    """A part that cannot be had here."""

    name: str
    address: str
    """Why not."""
    pid: int | None = None

    def ended(self) -> str | None:
        """Return None: it never began."""
        return None

    def ailing(self) -> str | None:
        """Return None: nobody waits for it."""
        return None

    def close(self) -> None:
        """Do nothing."""


# ---- what the servers say of themselves ----


def vedette_ailing(address: str, streams: Sequence[str], now_s: Callable[[], float], late_s: float) -> str | None:
    """Return None when the daemon is ready, its console answers, and every stream's steps are closed up to now."""
    ready = _json(f"{address}/readyz")
    if ready is None:
        return "starting"
    if not ready["ready"]:
        return "; ".join(reason["text"] for reason in ready["reasons"])
    if _answer(f"{address}/") is None:
        return "its console does not answer"
    closed = _gauges(_answer(f"{address}/metrics") or "", "vedette_watermark_timestamp_seconds")
    behind = [name for name in streams if closed.get(name, 0.0) < now_s() - late_s]
    return f"catches up with the history of {', '.join(behind)}" if behind else None


def prometheus_ailing(address: str, with_alertmanager: bool) -> str | None:
    """Return None when it is ready, scrapes Vedette, has our rules and knows the Alertmanager."""
    if _answer(f"{address}/-/ready") is None:
        return "starting"
    targets = (_json(f"{address}/api/v1/targets") or {"data": {"activeTargets": []}})["data"]["activeTargets"]
    health = {target["labels"]["job"]: (target["health"], target["lastError"]) for target in targets}
    state, error = health.get("vedette", ("unknown", ""))
    if state != "up":
        return f"cannot scrape Vedette: {error}" if state == "down" else "has not scraped Vedette yet"
    groups = (_json(f"{address}/api/v1/rules") or {"data": {"groups": []}})["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    wrong = [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] == "err"]
    if wrong:
        return f"a rule fails: {wrong[0]}"
    if not rules or any(rule["health"] != "ok" for rule in rules):
        return "has not evaluated its rules yet"
    told = (_json(f"{address}/api/v1/alertmanagers") or {"data": {}})["data"].get("activeAlertmanagers")
    return "knows no Alertmanager yet" if with_alertmanager and not told else None


def alertmanager_ailing(address: str) -> str | None:
    """Return None when it is ready."""
    return None if _answer(f"{address}/-/ready") is not None else "starting"


def taken(port: int) -> bool:
    """Return whether somebody listens on a port of loopback already."""
    with socket.socket() as probe:
        # As servers do: connections of a server that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def tail(log: Path) -> str:
    """Return the last lines of a log, and where it lies."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    except OSError:
        lines = []
    return "\n".join([f"the end of {log}:", *(f"    {line}" for line in lines)]) if lines else f"{log} is empty"


def _answer(url: str) -> str | None:
    """Return what is answered, a refusal's text too; None where nobody answers or something goes wrong there."""
    try:
        with urllib.request.urlopen(url, timeout=_ASK_S) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except (OSError, urllib.error.URLError):
        return None


def _json(url: str) -> Any:
    """Return the JSON that is answered, with whatever status; None where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=_ASK_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        try:
            return json.load(refusal)
        except ValueError:
            return None
    except (OSError, ValueError):
        return None


def _gauges(exposition: str, name: str) -> dict[str, float]:
    """Return a gauge's values by stream."""
    found = {}
    for line in exposition.splitlines():
        if line.startswith(f'{name}{{stream="'):
            labels, _, value = line.rpartition(" ")
            found[labels.split('"')[1]] = float(value)
    return found
