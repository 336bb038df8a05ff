"""The whole stack as `make stack` starts it: Kafka, stations, Vedette, Prometheus and Alertmanager, and their end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from pipeline.stack_starting import alertmanager_program, program
from tests.end_to_end.kafka_parts import wait_until

ROOT = Path(__file__).parents[2]
GREEN_S = 200.0
"""On an idle machine it takes a tenth of it; where numba has nothing compiled yet and others work too, much more."""
END_S = 120.0
"""A part has forty seconds to end."""
DAYS = "2"
"""Of 144 steps: as many as a station needs to be past its warm-up, and too few to train on."""

pytestmark = pytest.mark.skipif(
    program("prometheus") is None or alertmanager_program() is None,
    reason="needs Prometheus and Alertmanager: make tools installs them",
)


class Stack:
    """A stack that runs: what it printed, and who belongs to it."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self.process, self.out = process, out

    def text(self) -> str:
        """Return what it printed until now."""
        return (self.out / "printed").read_text(encoding="utf-8")

    def wait_for(self, file: str) -> None:
        """Wait until it has written a file, which it does when all is well."""

        def there() -> bool:
            assert self.process.poll() is None, self.text()
            pause()
            return (self.out / file).is_file()

        wait_until(there, f"{file} is there", GREEN_S)

    def parts(self) -> dict[str, dict[str, Any]]:
        """Return address and process of each part."""
        return {row["name"]: row for row in json.loads((self.out / "stack.json").read_text(encoding="utf-8"))}


def pause() -> None:
    """Let a moment pass between two looks at other processes."""
    Event().wait(0.1)


@contextmanager
def running(out: Path, *arguments: str, home: str | None) -> Iterator[Stack]:
    """Run a stack on free ports; it is told to end afterwards if it still runs."""
    command = [sys.executable, "-m", "pipeline.stack", "--free-ports", "--history", DAYS, "--out", str(out), *arguments]
    out.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "KAFKA_HOME"}
    if home is not None:
        environment["KAFKA_HOME"] = home
    with (out / "printed").open("wb") as printed:
        process = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=printed, env=environment)
    try:
        yield Stack(process, out)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(END_S)


def get(address: str) -> tuple[int, str]:
    """Return status and text of what is answered."""
    with urllib.request.urlopen(address, timeout=60.0) as answer:
        return answer.status, answer.read().decode()


def prometheus_says(address: str, path: str, **parameters: str) -> Any:
    """Return the data of Prometheus' answer."""
    return json.loads(get(f"{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")[1])["data"]


def readings(address: str) -> float:
    """Return how many readings Vedette has taken until now."""
    lines = get(f"{address}/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("vedette_readings_total{"))


def gone(pid: int) -> bool:
    """Return whether a process has ended; a child that nobody waited for would still be there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_everything_is_well_and_ends_at_an_interrupt(tmp_path: Path) -> None:
    """Protects whoever tries it out: what the table says is so, readings flow, and nothing is left behind."""
    with running(tmp_path / "stack", home=os.environ.get("KAFKA_HOME")) as stack:
        stack.wait_for("stack.json")
        parts = stack.parts()
        assert list(parts) == ["Kafka", "stations", "Vedette", "Prometheus", "Alertmanager"]
        vedette, prometheus = parts["Vedette"]["address"], parts["Prometheus"]["address"]

        def scraped() -> bool:
            pause()  # one scrape may take too long on a busy machine
            targets = prometheus_says(prometheus, "targets")["activeTargets"]
            return {target["labels"]["job"]: target["health"] for target in targets}["vedette"] == "up"

        wait_until(scraped, "Prometheus scrapes Vedette")
        rules = [rule for group in prometheus_says(prometheus, "rules")["groups"] for rule in group["rules"]]
        assert {rule["health"] for rule in rules} == {"ok"}
        assert "VedetteDown" in {rule["name"] for rule in rules}
        alertmanagers = prometheus_says(prometheus, "alertmanagers")["activeAlertmanagers"]
        assert [each["url"].startswith(parts["Alertmanager"]["address"]) for each in alertmanagers] == [True]
        assert get(f"{parts['Alertmanager']['address']}/-/ready")[0] == 200
        status, page = get(f"{vedette}/")
        assert status == 200
        assert "Vedette" in page

        before = readings(vedette)

        def more() -> bool:
            pause()
            return readings(vedette) > before

        wait_until(more, "the stations' next readings have come")

        def all_scored() -> bool:
            pause()
            return len(prometheus_says(prometheus, "query", query='vedette_score{stream="air"}')["result"]) == 6

        wait_until(all_scored, "every station has a score in Prometheus")

        pids = [part["pid"] for part in parts.values() if part["pid"] is not None]
        assert len(pids) == (4 if os.environ.get("KAFKA_HOME") else 3)
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait(END_S) == 0, stack.text()
        assert all(gone(pid) for pid in pids)
        assert stack.text().rstrip().endswith("all of it has ended")


def test_one_that_dies_ends_all_and_is_named(tmp_path: Path) -> None:
    """Protects whoever looks for the cause: the part that ended is named with the end of its log, the rest is ended."""
    with running(tmp_path / "stack", "--embedded", home=None) as stack:
        stack.wait_for("prometheus/log")

        def all_started() -> bool:  # a log is there before the process that writes to it
            pause()
            assert stack.process.poll() is None, stack.text()
            said = (stack.out / "prometheus" / "log").read_text(encoding="utf-8")
            return len(children(stack.process.pid, "")) == 3 and "Start listening for connections" in said

        wait_until(all_started, "all parts have started, and Prometheus listens", GREEN_S)
        (prometheus,) = children(stack.process.pid, "prometheus")
        others = children(stack.process.pid, "")
        os.kill(prometheus, signal.SIGKILL)
        assert stack.process.wait(END_S) == 69
        text = stack.text()
        assert "Prometheus was ended by SIGKILL; the end of" in text
        assert "Start listening for connections" in text
        assert len(others) == 3
        assert all(gone(pid) for pid in others)


def children(pid: int, named: str) -> list[int]:
    """Return the processes that ``pid`` started and whose program is called so; all if it is empty."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        program = Path(f"/proc/{child}/comm").read_text(encoding="utf-8").strip()
        if program == named or not named:
            found.append(int(child))
    return found
