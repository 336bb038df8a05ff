"""A real Prometheus for tests, where one is installed: its own folder and port, on loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from connectors.free_ports import free_port
from tests.end_to_end.kafka_parts import wait_until


def tool(name: str) -> str:
    """Return the path of one of Prometheus' programs; skips the test where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}, which Debian has in the package prometheus")
    return path


class PrometheusServer:
    """Runs from construction to ``close``; a context manager."""

    def __init__(self, folder: Path, config: str) -> None:
        """Start it with ``config`` (YAML), whose relative paths are those of ``folder``; return when it is ready."""
        (folder / "prometheus.yml").write_text(config, encoding="utf-8")
        self.port = free_port()
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                tool("prometheus"), f"--config.file={folder / 'prometheus.yml'}", "--log.level=warn",
                f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            wait_until(self._ready, f"Prometheus is ready (see {self._log.name})")
        except BaseException:
            self.close()
            raise

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the instant vector of a PromQL expression now."""
        result: list[dict[str, Any]] = self._get("/api/v1/query", query=expression)["result"]
        return result

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self.alerts() if alert["state"] == "firing"}

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or fire now."""
        result: list[dict[str, Any]] = self._get("/api/v1/alerts")["alerts"]
        return result

    def targets(self) -> list[dict[str, Any]]:
        """Return whom it scrapes, with the error of the last scrape."""
        result: list[dict[str, Any]] = self._get("/api/v1/targets")["activeTargets"]
        return result

    def close(self) -> None:
        """Stop it; what it stored stays in the folder."""
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> PrometheusServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, path: str, **query: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}{path}?{urlencode(query)}", timeout=60) as response:
            return json.load(response)["data"]

    def _ready(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text(encoding="utf-8")
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10):
                return True
        except (URLError, ConnectionError):
            # Nobody listens yet, or it says 503 while it starts.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.1)
            return False
