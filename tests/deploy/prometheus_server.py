"""A real Prometheus of the machine's own, started by a test on loopback and asked through its HTTP API."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from connectors.free_ports import free_port
from tests.end_to_end.kafka_parts import wait_until

_STOP_S = 20.0


def binary(name: str) -> str:
    """Return the path of a program; skips the test where it is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


class PrometheusServer:
    """Runs from construction to ``close``; a context manager. Its data lie in the folder that it is given."""

    def __init__(self, folder: Path, config: Path) -> None:
        """Start it with ``config``; returns when it is ready."""
        self.address = f"http://127.0.0.1:{free_port()}"
        self._log = folder / "prometheus.log"
        command = [
            binary("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address={self.address.removeprefix('http://')}",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(self._ready, "Prometheus is ready")
        except BaseException:
            self.close()
            raise

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=10):
                return True
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the ``data`` that the API answers; raises AssertionError with Prometheus' own words if it refuses."""
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            told = json.load(error)
        assert told["status"] == "success", f"{parameters}: {told.get('error')}"
        return told["data"]

    def series(self, expr: str, at_s: float | None = None) -> list[Any]:
        """Return the series that ``expr`` had at ``at_s`` (Unix time; None: now), each with its newest value."""
        when = {} if at_s is None else {"time": f"{at_s:.3f}"}
        answer: list[Any] = self.ask("query", query=expr, **when)["result"]
        return answer

    def values_of(self, expr: str, label: str) -> list[str]:
        """Return the values that a label has in the series of ``expr``."""
        answer: list[str] = self.ask(f"label/{label}/values", **{"match[]": expr})
        return answer

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> PrometheusServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
