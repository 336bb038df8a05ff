"""A real Apache Kafka on this machine, for benchmarks and tests: one node, loopback only, gone when closed.

It is started from an unpacked Kafka (``KAFKA_HOME``) in a directory of its own and ended by its process id.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.free_ports import free_port
from connectors.kafka_connecting import listening

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={logs}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=8388608
"""


class LocalKafka:
    """Runs between ``start`` and ``close``; a context manager. ``stop`` and ``start`` again keep the data.

    ``data`` is the folder that holds a folder of log segments for each partition.
    """

    def __init__(
        self,
        home: str | Path | None = None,
        *,
        folder: str | Path | None = None,
        port: int | None = None,
        properties: str = "",
    ) -> None:
        """Prepare a broker.

        Args:
            home: the Kafka that is started; None: the one at ``KAFKA_HOME``.
            folder: an empty folder for its data and log, which stay; None: one of its own, which goes with it.
            port: where it listens on loopback; None: where it is free.
            properties: lines of ``server.properties`` beside ours.

        Raises:
            Misconfigured: if there is no Kafka.
        """
        home = home or os.environ.get("KAFKA_HOME")
        if not home or not (Path(home) / "bin" / "kafka-server-start.sh").is_file():
            raise Misconfigured("no Apache Kafka: set KAFKA_HOME to the folder of an unpacked one")
        self._bin = Path(home) / "bin"
        self._own = tempfile.TemporaryDirectory(prefix="vedette-kafka-") if folder is None else None
        self.folder = Path(self._own.name if self._own is not None else folder or "").absolute()
        self._port, controller = port or free_port(), free_port()
        self._properties = self.folder / "server.properties"
        self.data = self.folder / "logs"
        self.log = self.folder / "broker.log"
        ours = _PROPERTIES.format(port=self._port, controller=controller, logs=self.data)
        self._properties.write_text(f"{ours}{properties}\n")
        self._process: subprocess.Popen[bytes] | None = None
        self._formatted = False

    @property
    def bootstrap_servers(self) -> str:
        """The broker's address."""
        return f"127.0.0.1:{self._port}"

    def start(self, timeout_s: float = 60.0) -> None:
        """Start the broker and return when it listens; raise ``SourceUnavailable`` if it does not in time."""
        if not self._formatted:
            self._format()
        log = self.log.open("ab")
        # A session of its own: an interrupt at the terminal must not end the broker before its users.
        self._process = subprocess.Popen(
            [self._bin / "kafka-server-start.sh", self._properties],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=self.folder,
        )
        log.close()
        deadline = time.monotonic() + timeout_s
        while listening(self.bootstrap_servers, 1.0) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                self.stop()
                raise SourceUnavailable(f"the local Kafka did not start:\n{tail}")
            time.sleep(0.1)

    @property
    def running(self) -> bool:
        """Whether the broker was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The broker's process; None while it does not run."""
        return self._process.pid if self._process is not None and self.running else None

    def stop(self, timeout_s: float = 30.0) -> None:
        """End the broker; its data stay until ``close``."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the broker, and remove its data unless their folder was given."""
        self.stop()
        if self._own is not None:
            self._own.cleanup()

    def __enter__(self) -> LocalKafka:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _format(self) -> None:
        # As `kafka-storage.sh random-uuid` makes it, without starting Java for it; an option would begin with a dash.
        identity = "V" + base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")[1:]
        done = subprocess.run(
            [self._bin / "kafka-storage.sh", "format", "--standalone", "-t", identity, "-c", self._properties],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Misconfigured(f"the local Kafka's storage could not be formatted: {done.stdout}{done.stderr}")
        self._formatted = True
