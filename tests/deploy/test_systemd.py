"""The systemd unit is one that systemd takes, says what it must, and leaves the service little to do harm with."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.exit_codes import CONFIG, USAGE
from tests.deploy.prometheus_server import binary

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
UNIT = FOLDER / "vedette.service"
EACH = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
WORST_EXPOSURE = 20
"""Of 100, as `systemd-analyze security` counts; an ordinary service has 96."""


def unit(path: Path = UNIT) -> configparser.ConfigParser:
    """Return the unit; a setting that comes twice has its last value."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path, encoding="utf-8")
    return parser


@EACH
def test_systemd_takes_it(path: Path, tmp_path: Path) -> None:
    """Protects from settings that systemd does not know or understands otherwise."""
    there = tmp_path / path.name
    # Verify looks for the program, which is not installed here.
    there.write_text(path.read_text(encoding="utf-8").replace("/opt/vedette/bin/vedette", shutil.which("true") or ""))
    command = [binary("systemd-analyze"), "verify", "--man=no", str(there)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")


@EACH
def test_it_is_exposed_little(path: Path) -> None:
    """Protects the host from a daemon that reads what others send: systemd's own count of what it may do."""
    command = [binary("systemd-analyze"), "security", "--offline=true", f"--threshold={WORST_EXPOSURE}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if "nrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze looks at no files")
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_training_jobs_end_after_the_daemon() -> None:
    """Protects the drain: SIGTERM is for the daemon alone."""
    assert unit()["Service"]["KillMode"] == "mixed"


@EACH
def test_stopping_and_starting_fit_the_process(path: Path) -> None:
    """Protects the drain, and from starting again what will fail again."""
    service = unit(path)["Service"]
    drain = Config.model_fields["shutdown_timeout"].default.total_seconds()
    assert int(service["TimeoutStopSec"]) > drain
    assert service["Restart"] == "on-failure"
    assert set(map(int, service["RestartPreventExitStatus"].split())) == {USAGE, CONFIG}


@EACH
def test_it_waits_for_no_notice_that_the_process_does_not_give(path: Path) -> None:
    """Protects from a service that systemd kills for its silence: a watchdog needs a daemon that notifies."""
    sources = (path.parents[2] / "pipeline").rglob("*.py")
    notifies = any("NOTIFY_SOCKET" in path.read_text(encoding="utf-8") for path in sources)
    service = unit(path)["Service"]
    assert ("WatchdogSec" in service) == notifies
    assert (service["Type"] == "notify") == notifies


def test_what_it_writes_is_where_it_may() -> None:
    """Protects the start: the working directory and the compiled loops lie in directories that systemd makes."""
    service = unit()["Service"]
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert f"NUMBA_CACHE_DIR=/var/cache/{service['CacheDirectory']}" in service["Environment"]
    assert "MemoryDenyWriteExecute" not in service, "numba compiles the loops at the first start"
