"""A real `vedette ingest`: a config file, a process of its own, and what it leaves on a topic."""

from __future__ import annotations

import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import msgspec

from connectors.free_ports import free_port
from connectors.timestamps import parse
from tests.end_to_end.kafka_parts import read_all, wait_until
from tests.ingest.nursery import Nursery

_MAIN = "import sys; from pipeline.cli import main; sys.exit(main())"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_PATIENCE_S = 60.0
Identity = tuple[str, str, int]
"""Entity, channel and time."""


class IngestProcess:
    """`vedette ingest` on one config, in one life after the other. A context manager: the last life ends with it.

    Args:
        folder: for its config, its spool and its log.
        servers: Kafka's.
        sources: the section of that name, as YAML.
        settings: kafka-python's, as YAML within braces.
        more: other lines of the section ``ingest``.
        shutdown: the time-out.
        dead_letters: their topic; None: none.
        environment: variables beside those of the tests.
        spool: None: one of its own.
        port: of its HTTP server; None: a free one.
    """

    def __init__(
        self,
        folder: Path,
        servers: str,
        topic: str,
        sources: str,
        *,
        settings: str = "{}",
        more: str = "",
        shutdown: str = "10s",
        dead_letters: str | None = None,
        environment: Mapping[str, str] | None = None,
        spool: Path | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.log = folder / "ingest.log"
        self.spool = spool or folder / "spool.db"
        self._config = folder / "config.yaml"
        self._config.write_text(
            f"""
state: {folder / "state"}
kafka: {{bootstrap_servers: "{servers}", settings: {settings}}}
streams: [{{name: air, topics: [{topic}], step: 1m, channels: [{{name: pm25}}]}}]
outputs: {{dead_letter_topic: {dead_letters or "null"}}}
shutdown_timeout: {shutdown}
log: {{format: json}}
ingest:
  spool: {self.spool}
  http: {{port: {self.port}}}
{more}
  sources:
{sources}
""",
            encoding="utf-8",
        )
        self._environment = {**os.environ, **(environment or {})}
        self._life: _Life | None = None
        self._said_before = 0

    def start(self, nursery: Nursery | None = None) -> None:
        """Begin a life: a new process, or one that is forked from a nursery."""
        self._said_before = self.log.stat().st_size if self.log.exists() else 0
        if nursery is not None:
            self._life = _Forked(nursery, self._config, self.log)
        else:
            self._life = _Executed(self._config, self.log, self._environment)

    @property
    def pid(self) -> int:
        """Of the life that is."""
        return self._alive().pid

    def said(self) -> str:
        """Return what this life has logged."""
        return self.log.read_bytes()[self._said_before :].decode("utf-8", "replace")

    def wait_started(self) -> None:
        """Return when its sources run."""

        def started() -> bool:
            self._alive()
            time.sleep(0.01)
            return '"started"' in self.said()

        wait_until(started, "vedette ingest has started")

    def kill(self) -> None:
        """End this life as ``kill -9`` does."""
        life = self._alive()
        os.kill(life.pid, signal.SIGKILL)
        assert self.ended() == -signal.SIGKILL

    def stop(self, timeout_s: float = 60.0) -> int:
        """Tell it to leave, once it has started: before that nobody listens; return the exit code."""
        self.wait_started()
        os.kill(self._alive().pid, signal.SIGTERM)
        return self.ended(timeout_s)

    def ended(self, timeout_s: float = 60.0) -> int:
        """Wait for its end; return the exit code."""
        assert self._life is not None
        code = self._life.ended(timeout_s)
        assert code is not None, f"it does not end within {timeout_s:g} s: {self.said()[-2000:]}"
        self._life = None
        return code

    def _alive(self) -> _Life:
        assert self._life is not None, "no life has begun"
        if self._life.ended(0.0) is not None:
            self._life = None
            raise AssertionError(f"it has ended: {self.said()[-2000:]}")
        return self._life

    def asked(self, path: str) -> str:
        """Return what its HTTP server answers; "" while it does not."""
        self._alive()
        try:
            with _DIRECT.open(f"http://127.0.0.1:{self.port}{path}", timeout=30.0) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def metric(self, name: str, source: str | None = None, **more: str) -> float:
        """Return a metric, of one source or without labels; 0 while it does not answer."""
        said = sorted({**more, **({} if source is None else {"source": source})}.items())
        labels = ",".join(f'{label}="{value}"' for label, value in said)
        wanted = f"vedette_ingest_{name}" + (f"{{{labels}}}" if labels else "")
        for line in self.asked("/metrics").splitlines():
            key, _, number = line.rpartition(" ")
            if key == wanted:
                return float(number)
        return 0.0

    def memory_mb(self) -> float:
        """Return what it has in memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1_048_576

    def __enter__(self) -> IngestProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._life is not None and self._life.ended(0.0) is None:
            os.kill(self._life.pid, signal.SIGKILL)
            self._life.ended(60.0)


class _Life(Protocol):
    pid: int

    def ended(self, timeout_s: float) -> int | None:
        """Return the exit code, if it has ended by then."""


class _Executed:
    def __init__(self, config: Path, log: Path, environment: Mapping[str, str]) -> None:
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, "ingest", "--config", str(config)],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment,
            )  # fmt: skip
        self.pid = self._process.pid

    def ended(self, timeout_s: float) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None


class _Forked:
    def __init__(self, nursery: Nursery, config: Path, log: Path) -> None:
        self._nursery = nursery
        self._code: int | None = None
        self.pid = nursery.start(config, log)

    def ended(self, timeout_s: float) -> int | None:
        if self._code is None:
            self._code = self._nursery.ended(timeout_s)
        return self._code


class Found:
    """What a topic holds, in order, and what is left of it when repeats are dropped."""

    def __init__(self, servers: str, topic: str, settings: Mapping[str, Any]) -> None:
        self.raw = 0
        self.ids: dict[Identity, set[str]] = {}
        self.times: dict[tuple[str, str], list[int]] = {}
        """Of each entity and channel, as they lie there, the first of each id only."""
        seen: set[str] = set()
        for record in read_all(servers, topic, settings):
            document = msgspec.json.decode(record.value or b"")
            for one in document if isinstance(document, list) else [document]:
                self.raw += 1
                time_us = parse(one["time"])
                assert isinstance(time_us, int)
                identity = one["entity"], one["channel"], time_us
                self.ids.setdefault(identity, set()).add(one["id"])
                if one["id"] not in seen:
                    seen.add(one["id"])
                    self.times.setdefault(identity[:2], []).append(time_us)

    def by_entity(self) -> Counter[str]:
        """Return how many distinct readings there are of each entity."""
        return Counter(entity for entity, _, _ in self.ids)

    @classmethod
    def once_there(cls, truth: set[Identity], servers: str, topic: str, settings: Mapping[str, Any]) -> Found:
        """Return what a topic holds once all of ``truth`` is there, or once nothing more has come for a while."""
        found = cls(servers, topic, settings)
        changed_s = time.monotonic()
        while not truth <= set(found.ids) and time.monotonic() - changed_s < _PATIENCE_S:
            before = found.raw
            time.sleep(0.2)
            found = cls(servers, topic, settings)
            if found.raw > before:
                changed_s = time.monotonic()
        return found

    def out_of_order(self) -> list[tuple[str, str]]:
        """Return the entities and channels whose times do not ascend."""
        return [key for key, times in self.times.items() if times != sorted(times)]


class Door:
    """A port on loopback that leads to another one while it is open. A context manager."""

    def __init__(self, target: str) -> None:
        host, port = target.split(",")[0].rsplit(":", 1)
        self._target = host, int(port)
        self._port = free_port()
        self._server: socketserver.ThreadingTCPServer | None = None
        self._through = _Through()

    @property
    def address(self) -> str:
        """Where to knock."""
        return f"127.0.0.1:{self._port}"

    def open(self) -> None:
        """Let everybody through."""
        if self._server is not None:
            return
        target = self._target
        through = self._through = _Through()

        class Passage(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(target) as other, through.passing(self.request, other):
                    _pass_on(self.request, other)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", self._port), Passage)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def shut(self) -> None:
        """Let nobody through, and throw out who is within."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        self._through.throw_out()

    def __enter__(self) -> Door:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()


class _Through:
    """Who is within while a door is open; nobody any more once all are thrown out, not even who is just coming."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._over = False
        self._sockets: set[socket.socket] = set()

    @contextmanager
    def passing(self, *sockets: socket.socket) -> Iterator[None]:
        with self._turn:
            self._sockets.update(sockets)
            if self._over:
                self._end_all()
        try:
            yield
        finally:
            with self._turn:
                self._sockets.difference_update(sockets)

    def throw_out(self) -> None:
        with self._turn:
            self._over = True
            self._end_all()

    def _end_all(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    pairs = {one: other, other: one}
    try:
        while True:
            for ready in select.select(list(pairs), [], [], 5.0)[0]:
                data = ready.recv(65_536)
                if not data:
                    return
                pairs[ready].sendall(data)
    except OSError:  # thrown out
        return
