"""What the stack is started with: files that the servers take, and ports that nobody else has."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from connectors.free_ports import free_port
from connectors.kafka_embedded import EmbeddedBroker
from pipeline.config import loads
from pipeline.stack import require_free
from pipeline.stack_configs import DEPLOY, Ports, prometheus_config, vedette_config
from pipeline.stack_servers import VedetteServer
from pipeline.stack_starting import StackError
from pipeline.stack_stations import tapes

PORTS = Ports(kafka=19092, vedette=19464, prometheus=19090, alertmanager=19093)


def test_vedette_takes_its_file(tmp_path: Path) -> None:
    """Protects the start: the written file has no mistake, and says what the stations send."""
    settings = {"api_version": "2.3"} | {
        "allow_auto_create_topics": EmbeddedBroker.settings["allow_auto_create_topics"]
    }
    config = loads(vedette_config(PORTS, tmp_path / "state", "127.0.0.1:19092", settings, tapes(2.0), told=True))
    assert [stream.name for stream in config.streams] == ["water", "air", "events"]
    assert config.http.port == 19464
    assert config.outputs.receivers[0].urls == ("http://127.0.0.1:19093",)
    assert [channel.limits[0].above for channel in config.stream("air").channels if channel.limits] == [50.0]
    alone = loads(vedette_config(PORTS, tmp_path / "state", "127.0.0.1:19092", {}, tapes(2.0), told=False))
    assert alone.outputs.receivers == ()


def test_prometheus_takes_our_config_with_other_ports(tmp_path: Path) -> None:
    """Protects the deployment's own file: only ports, pace and the rules' place are other in the stack's."""
    ours = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    text = prometheus_config(PORTS)
    document = yaml.safe_load(text)
    assert [job["job_name"] for job in document["scrape_configs"]] == [
        job["job_name"] for job in ours["scrape_configs"] if job["job_name"] != "vedette-ingest"  # the stack has none
    ]
    assert "127.0.0.1:19464" in text
    assert not any(f"127.0.0.1:{usual}" in text for usual in (9464, 9090, 9093))
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    (tmp_path / "prometheus.yml").write_text(text, encoding="utf-8")
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "rules found" in checked.stdout


def test_a_port_that_is_taken_is_named() -> None:
    """Protects whoever has a Prometheus of their own: it is not taken for ours, and the way out is told."""
    with socket.socket() as theirs:
        theirs.bind(("127.0.0.1", 0))
        theirs.listen()
        port = theirs.getsockname()[1]
        ports = Ports(kafka=port, vedette=free_port(), prometheus=port, alertmanager=free_port())
        with pytest.raises(StackError, match=rf"port {port} \(Prometheus\): end it.*\n.*--free-ports"):
            require_free(ports, kafka=False)
        with pytest.raises(StackError, match=rf"{port} \(Kafka\)"):
            require_free(ports, kafka=True)
    require_free(ports, kafka=True)


def test_trainings_end_with_the_stack_and_nobody_elses_do(tmp_path: Path) -> None:
    """Protects both: a training outlives a daemon by design, so the stack has to end its own, and no other one."""
    wait = [sys.executable, "-c", "import signal; signal.pause()"]
    ours = subprocess.Popen([*wait, "--job", str(tmp_path / "stack" / "training" / "air" / "1")])
    others = subprocess.Popen([*wait, "--job", str(tmp_path / "other" / "training" / "air" / "1")])
    vedette = VedetteServer("", wait, tmp_path / "log", lambda: None, tmp_path / "stack" / "training")
    try:
        assert vedette.ended() is None
        vedette.close()
        assert vedette.pid is None
        assert ours.wait(60.0) == -9
        assert others.poll() is None
    finally:
        for process in (ours, others):
            process.kill()
            process.wait()
