"""A real Alertmanager for tests, where one is installed: its own folder and port on loopback, nobody else's."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.free_ports import free_port
from tests.http_receiver import HttpReceiver

_CONFIG = """
route:
  receiver: people
  group_by: [site]
  group_wait: 200ms
  group_interval: 200ms
  repeat_interval: 1h
receivers:
  - name: people
    webhook_configs:
      - url: {url}
        send_resolved: true
"""


class AlertmanagerServer:
    """Runs from ``start`` until ``stop``; what it forgets in between is what a real one forgets. Whom it notifies is
    ``people``."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._folder = Path(tempfile.mkdtemp(prefix="vedette-am-"))
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.people = HttpReceiver()
        self.people.start()
        self._config = self._folder / "alertmanager.yml"
        self._config.write_text(_CONFIG.format(url=self.people.url))

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and return when it is ready."""
        log = (self._folder / "log").open("ab")
        command = [self._binary, f"--config.file={self._config}", f"--storage.path={self._folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{self._port}", "--cluster.listen-address="]
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        deadline_s = time.monotonic() + 60.0
        while not self._ready():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline_s, (self._folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30.0)
            self._process = None

    def alerts(self) -> list[dict[str, Any]]:
        """Return what fires, as its API says."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=60.0) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def notified(self) -> list[tuple[str, str]]:
        """Return (status, entity) of what people were notified of, in its order, without what they knew already."""
        said: list[tuple[str, str]] = []
        for request in list(self.people.requests):
            for alert in json.loads(request.body)["alerts"]:
                news = (alert["status"], alert["labels"]["entity"])
                if news not in said:
                    said.append(news)
        return said

    def close(self) -> None:
        """Stop it and remove all it had."""
        self.stop()
        self.people.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=10.0):
                return True
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture
def alertmanager() -> Iterator[AlertmanagerServer]:
    """An Alertmanager that runs."""
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        pytest.skip("needs Alertmanager: no prometheus-alertmanager on PATH")
    server = AlertmanagerServer(binary)
    server.start()
    yield server
    server.close()
