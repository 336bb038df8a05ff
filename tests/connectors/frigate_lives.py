"""Lives of a Frigate source that end by ``kill -9``: each is forked from a process that has imported all it needs.

``python -m tests.connectors.frigate_lives PORT URL FOLDER BEGAN BASE SPEED`` begins a life for each line on its stdin,
and says its pid. What becomes durable lies in FOLDER/topic. Time runs from BASE (epoch seconds) SPEED times as fast.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from connectors.errors import ConnectorError
from connectors.frigate import FrigateSource
from connectors.http_service import HttpService
from connectors.mqtt_messages import Broker
from connectors.spool import Message
from connectors.timestamps import parse
from pipeline.ingest.source_contract import Identity
from pipeline.ingest.trial import READINGS, Trial

ROOT = Path(__file__).parents[2]


class FastClock:
    """Runs faster than it should; the same in every process.

    Args:
        began: by the real clock, epoch seconds.
        base: what it showed then.
        speed: seconds in a second.
    """

    def __init__(self, began: float, base: float, speed: float) -> None:
        self.began, self.base, self.speed = began, base, speed

    def now(self) -> float:
        """Return epoch seconds."""
        return self.base + (time.time() - self.began) * self.speed

    def us(self) -> int:
        """Return microseconds."""
        return round(self.now() * 1e6)


class Lives:
    """One life after the other; a context manager."""

    def __init__(self, port: int, url: str, folder: Path, clock: FastClock) -> None:
        self._topic = folder / "topic"
        self._topic.touch()
        arguments = [str(one) for one in (port, url, folder, clock.began, clock.base, clock.speed)]
        self._mother = subprocess.Popen(
            [sys.executable, "-m", "tests.connectors.frigate_lives", *arguments],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._pid = 0

    def begin(self) -> None:
        """Begin a life."""
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.write("live\n")
        self._pid = int(self._mother.stdout.readline())

    def kill(self) -> None:
        """End it."""
        pid, self._pid = self._pid, 0
        if pid:
            os.kill(pid, signal.SIGKILL)
            assert self._mother.stdout is not None
            assert int(self._mother.stdout.readline()) == -signal.SIGKILL, "it had ended by itself"

    def size(self) -> int:
        """Return how many bytes lie on the topic."""
        time.sleep(0.005)
        return self._topic.stat().st_size

    def told(self) -> list[tuple[Identity, int, float | None]]:
        """Return what lies on the topic, in order: identity, result time and value."""
        found: list[tuple[Identity, int, float | None]] = []
        for line in self._topic.read_bytes().split(b"\n"):
            for one in msgspec.json.decode(b"[" + line + b"]"):
                time_us, result_us = parse(one["time"]), parse(one["result_time"])
                assert isinstance(time_us, int)
                assert isinstance(result_us, int)
                found.append(((one["entity"], one["channel"], time_us), result_us, one["value"]))
        return found

    def __enter__(self) -> Lives:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.close()
        self._mother.wait(60.0)
        self._mother.stdout.close()


def live(port: int, url: str, folder: Path, clock: FastClock) -> None:
    """Be one life."""
    topic = os.open(folder / "topic", os.O_WRONLY | os.O_APPEND)

    def deliver(messages: Sequence[Message]) -> dict[str, ConnectorError]:
        os.write(topic, b"\n" + b",".join(one.value.strip(b"[]") for one in messages if one.topic == READINGS))
        return {}

    source = FrigateSource(
        Broker("127.0.0.1", "vedette-lives", port, keepalive_s=5),
        HttpService(base_url=url, timeout_s=5.0, tries=1),
        every_s=60.0,
        now_us=clock.us,
        look_s=0.02,
    )
    with Trial(folder) as trial:
        trial.kafka.deliver = deliver  # type: ignore[method-assign]
        trial.run(source)
        trial.until(lambda: False, 600.0)


def main() -> None:
    """Be the mother of all lives, until stdin ends."""
    port, url, folder, began, base, speed = sys.argv[1:]
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            live(int(port), url, Path(folder), FastClock(float(began), float(base), float(speed)))
        for number in (pid, None):
            code = number if number is not None else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            sys.stdout.write(f"{code}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
