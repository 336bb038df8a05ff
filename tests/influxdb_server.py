"""A real InfluxDB 1 for tests, where one is installed: its own folder and ports, on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest

from connectors.free_ports import free_port
from tests.end_to_end.kafka_parts import wait_until

_DATABASE = "trial"


class InfluxServer:
    """Runs from construction to ``close``; a context manager. Has one empty database."""

    def __init__(self, folder: Path) -> None:
        """Start it, or skip the test where it is not installed."""
        path = shutil.which("influxd")
        if path is None:
            pytest.skip("needs influxd, which Debian has in the package influxdb")
        ports = free_port(), free_port()
        settings = {
            "REPORTING_DISABLED": "true", "BIND_ADDRESS": f"127.0.0.1:{ports[0]}", "META_DIR": f"{folder}/meta",
            "DATA_DIR": f"{folder}/data", "DATA_WAL_DIR": f"{folder}/wal",
            "HTTP_BIND_ADDRESS": f"127.0.0.1:{ports[1]}", "MONITOR_STORE_ENABLED": "false",
        }  # fmt: skip
        environment = os.environ | {f"INFLUXDB_{name}": value for name, value in settings.items()}
        self._log = (folder / "influxd.log").open("wb")
        self._process = subprocess.Popen(
            [path, "-config", os.devnull], env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{ports[1]}", timeout=60.0, trust_env=False)
        try:
            wait_until(self._ready, f"InfluxDB is ready (see {self._log.name})")
            self.query(f"CREATE DATABASE {_DATABASE}")
        except BaseException:
            self.close()
            raise

    def write(self, body: bytes, precision: str = "ns") -> httpx.Response:
        """Write lines, as any client does."""
        return self._client.post("/write", params={"db": _DATABASE, "precision": precision}, content=body)

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the series that a query gives; times in ns."""
        answer = self._client.post("/query", params={"db": _DATABASE, "epoch": "ns"}, data={"q": text})
        answer.raise_for_status()
        (result,) = answer.json()["results"]
        assert "error" not in result, result
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def close(self) -> None:
        """Stop it."""
        self._client.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> InfluxServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text(encoding="utf-8")
        try:
            return self._client.get("/ping").status_code == 204
        except httpx.TransportError:
            return False
