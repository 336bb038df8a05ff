"""The HTTP side as a configuration describes it: with the console or without, with tokens and TLS, and what misfits."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.errors import Misconfigured
from pipeline.build_console import Faces, build_faces
from pipeline.config import Config, HttpConfig, loads
from pipeline.housekeeping import Housekeeping
from pipeline.incident import AlertMessage
from pipeline.live import Live
from pipeline.metrics import Metrics
from pipeline.training_now import ask_daemon
from tests.pipeline.console.test_events import message

STREAM = "streams: [{name: air, topics: [air], step: 10m, channels: [{name: pm25, unit: ug/m3}]}]\n"


class Busy(Housekeeping):
    """Housekeeping that takes any training."""

    def train(self, stream: str | None) -> Mapping[str, Any]:
        """Accept."""
        return {"accepted": True, "job": f"job-{stream}", "reason": "", "jobs": []}


def config(tmp_path: Path, http: str) -> Config:
    """Return a config with its state below ``tmp_path``."""
    return loads(f"{STREAM}state: {tmp_path}/state\nhttp: {http}\n", {})


@contextmanager
def faces(tmp_path: Path, http: str) -> Iterator[tuple[Faces, HttpConfig]]:
    """Give the HTTP side, and the config by which it is found."""
    described = config(tmp_path, http)
    with build_faces(described, Metrics(), Busy(), Live(), undelivered=lambda: 3) as built:
        yield built, described.http.model_copy(update={"port": built.port})


def test_the_console_answers_beside_the_probes(tmp_path: Path) -> None:
    """Protects the whole: probes, API, pages and files at one address, from nothing but a config."""
    with faces(tmp_path, "{port: 0}") as (built, http):
        with httpx.Client(base_url=f"http://127.0.0.1:{built.port}", timeout=60.0) as client:
            assert client.get("/livez").json()["alive"] is True
            assert client.get("/api/overview").json()["undelivered"] == 3
            system = client.get("/api/system").json()
            assert "bootstrap_servers" in system["config"]
            began_s = Metrics().registry.get_sample_value("process_start_time_seconds")
            assert system["figures"]["process_start_time_seconds"] == pytest.approx(began_s, abs=1.0)
            assert client.get("/").headers["content-type"].startswith("text/html")
            assert client.head("/api/overview").content == b""
        built.said([message()])
        assert ask_daemon(http, "air", as_json=True) == 0


def test_without_the_console_only_the_probes_answer(tmp_path: Path) -> None:
    """Protects whoever wants none: `console: false` leaves the small server, and what is said goes nowhere."""
    said: list[AlertMessage] = [message()]
    with faces(tmp_path, "{port: 0, console: false}") as (built, _):
        address = f"http://127.0.0.1:{built.port}"
        assert httpx.get(f"{address}/livez", timeout=60.0).status_code == 200
        assert httpx.get(f"{address}/api/overview", timeout=60.0).status_code == 404
        built.said(said)


def test_tokens_and_tls_hold_for_our_own_command_too(tmp_path: Path) -> None:
    """Protects `vedette train --now` where tokens and TLS are configured: it brings both."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", cert, "-days", "1", "-subj", "/CN=vedette.example"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    secrets = "tokens: [{name: a, token: rrrrrrrr}, {name: b, token: ssssssss, role: act}]"
    with faces(tmp_path, f"{{port: 0, cert_file: {cert}, key_file: {key}, {secrets}}}") as (_, http):
        assert ask_daemon(http, "air", as_json=True) == 0
        assert ask_daemon(http.model_copy(update={"tokens": http.tokens[:1]}), "air", as_json=True) == 69
    cert.write_text("no certificate")
    with pytest.raises(Misconfigured, match="cert_file"), faces(tmp_path, f"{{port: 0, cert_file: {cert}}}"):
        pass


def test_starting_does_not_touch_the_database(tmp_path: Path) -> None:
    """Protects the start from a database that is away: it is asked when somebody asks."""
    with faces(tmp_path, "{port: 0}"):
        assert not (tmp_path / "state" / "vedette.db").exists()
