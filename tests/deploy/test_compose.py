"""compose.yaml is whole: what it names exists, what it mounts is sound, nothing is open to others."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import Config, loads
from tests.deploy.prometheus_server import binary

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "deploy", "entrypoint", "environment", "healthcheck", "image",
    "ports", "profiles", "read_only", "restart", "secrets", "security_opt", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
"""Of the Compose specification, those that are in use; a new one is added here by whoever has read what it does."""
HEALTH_KEYS = {"test", "interval", "timeout", "start_period", "retries", "disable"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
DURATION = re.compile(r"(\d+(ms|s|m|h))+")
TOKEN = "of-this-test"


def mounts(service: str) -> list[tuple[str, str, str]]:
    """Return (source, target, mode) of a service's volumes."""
    found = []
    for text in SERVICES[service].get("volumes", ()):
        source, target, *mode = text.split(":")
        found.append((source, target, mode[0] if mode else "rw"))
    return found


def laid_out(service: str, folder: Path) -> Path:
    """Copy the files that a service mounts to ``folder`` as the container sees them; return the folder."""
    for source, target, _ in mounts(service):
        if source.startswith("."):
            inside = folder / target.lstrip("/")
            inside.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (DEPLOY / source).is_dir() else shutil.copy
            copy(DEPLOY / source, inside)
    return folder


def config_of(path: Path) -> Config:
    """Return a configuration, with secrets that are mounted only in the container put in."""
    text = re.sub(r'"file:/run/secrets/[\w/]+"', TOKEN, path.read_text(encoding="utf-8"))
    return loads(text, {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "POD_NAME": "vedette-0"})


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_the_shape_of_the_specification(name: str) -> None:
    """Protects from keys that Compose would refuse, and from values of another kind than it wants."""
    service = SERVICES[name]
    assert service.keys() <= SERVICE_KEYS
    assert "image" in service
    assert service.get("restart", "no") in ("no", "always", "on-failure", "unless-stopped")
    for key in ("stop_grace_period",):
        assert DURATION.fullmatch(service.get(key, "1s"))
    environment = service.get("environment", {})
    assert all(isinstance(value, str) for value in environment.values()), "only text is safe from YAML's own ideas"
    for on, how in service.get("depends_on", {}).items():
        assert on in SERVICES
        assert how["condition"] in CONDITIONS
    health = service.get("healthcheck", {})
    assert health.keys() <= HEALTH_KEYS
    assert all(DURATION.fullmatch(health[key]) for key in ("interval", "timeout", "start_period") if key in health)


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_exists(name: str) -> None:
    """Protects from a start that fails half-way: files to mount, volumes, secrets, the Dockerfile."""
    service = SERVICES[name]
    for source, target, mode in mounts(name):
        assert target.startswith("/")
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
            assert mode == "ro", f"{source} is ours, not the container's"
        else:
            assert source in COMPOSE["volumes"]
    assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
    build = service.get("build")
    if build is not None:
        assert (DEPLOY / build["context"] / build["dockerfile"]).exists()
        arguments = re.findall(r"^ARG (\w+)", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
        assert build.get("args", {}).keys() <= set(arguments)


def test_nothing_is_kept_that_nobody_uses() -> None:
    """Protects readers: every volume and secret is some service's."""
    used = {source for name in SERVICES for source, _, _ in mounts(name)}
    assert COMPOSE["volumes"].keys() <= used
    assert COMPOSE["secrets"].keys() == {s for service in SERVICES.values() for s in service.get("secrets", ())}


def test_every_port_is_open_on_loopback_only_and_once() -> None:
    """Protects the network: what has no password must not be reached from elsewhere."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_images_are_pinned_and_ours_is_hardened() -> None:
    """Protects from another version tomorrow, and the host from what runs in a container."""
    for name, service in SERVICES.items():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name
        if name not in ("kafka", "topics"):
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name


def test_the_daemon_finds_its_neighbours(tmp_path: Path) -> None:
    """Protects the wiring: addresses in the configuration are services of this file, and the topics are made."""
    config = config_of(laid_out("vedette", tmp_path) / "etc/vedette/vedette.yaml")
    assert config.kafka.bootstrap_servers == ("kafka:9092",)
    assert {"kafka", "alertmanager"} <= SERVICES.keys()
    assert [url for r in config.outputs.receivers for url in r.urls] == ["http://alertmanager:9093"]
    assert config.state == Path("/var/lib/vedette")
    made = set(re.findall(r"--topic (\S+)", SERVICES["topics"]["command"][0]))
    named = {
        config.outputs.alerts_topic,
        config.outputs.dead_letter_topic,
        *(t for s in config.streams for t in s.topics),
    }
    assert made == named
    assert config.http.tokens, "it listens beyond loopback"
    published = [port.rsplit(":", 1)[1] for port in SERVICES["vedette"]["ports"]]
    assert published == [str(config.http.port)]


def test_all_of_ours_know_one_database(tmp_path: Path) -> None:
    """Protects the console's map: places that ingest's sources tell of are where the daemon looks for them.

    The folder is there in the image, with its owner: a volume that is mounted where there is none would be root's.
    """
    ours = [name for name, service in SERVICES.items() if service["image"].partition(":")[0] == "vedette"]
    assert len(ours) == 3
    config = config_of(laid_out("vedette", tmp_path) / "etc/vedette/vedette.yaml")
    folder = Path(config.database.url.get_secret_value().removeprefix("sqlite:///")).parent
    for name in ours:
        assert ("database", str(folder), "rw") in mounts(name), name
    (made,) = re.findall(r"install -d -o 10001 .*", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    assert str(folder) in made.split()


def test_prometheus_takes_its_configuration_and_finds_its_targets(tmp_path: Path) -> None:
    """Protects from a Prometheus that does not start, or scrapes what is not there: checked as mounted, by promtool."""
    folder = laid_out("prometheus", tmp_path) / "etc/prometheus"
    done = subprocess.run(
        [binary("promtool"), "check", "config", str(folder / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
    config = yaml.safe_load((folder / "prometheus.yml").read_text(encoding="utf-8"))
    targets = [t for job in config["scrape_configs"] for s in job["static_configs"] for t in s["targets"]]
    targets += [t for a in config["alerting"]["alertmanagers"] for s in a["static_configs"] for t in s["targets"]]
    assert {target.partition(":")[0] for target in targets} <= SERVICES.keys() | {"localhost"}


def test_alertmanager_takes_its_configuration(tmp_path: Path) -> None:
    """Protects from an Alertmanager that does not start: checked as mounted, by amtool."""
    path = laid_out("alertmanager", tmp_path) / "etc/alertmanager/alertmanager.yml"
    done = subprocess.run([binary("amtool"), "check-config", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_is_provisioned_with_what_is_mounted(tmp_path: Path) -> None:
    """Protects from an empty Grafana: its providers' folder and its home dashboard are mounted, its sources named."""
    folder = laid_out("grafana", tmp_path)
    environment = SERVICES["grafana"]["environment"]
    assert (folder / environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].lstrip("/")).exists()
    providers = yaml.safe_load(
        (folder / "etc/grafana/provisioning/dashboards/vedette.yaml").read_text(encoding="utf-8")
    )
    assert list((folder / providers["providers"][0]["options"]["path"].lstrip("/")).glob("*.json"))
    sources = (folder / "etc/grafana/provisioning/datasources/prometheus.yaml").read_text(encoding="utf-8")
    wanted = set(re.findall(r"\$\{(\w+)\}", sources))
    assert wanted <= environment.keys()
    for name in wanted:
        assert re.fullmatch(r"http://(\w+):\d+", environment[name])[1] in SERVICES  # type: ignore[index]
