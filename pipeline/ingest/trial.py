"""Tries a source out: the real outlet, spool and delivering, and a list in the place of Kafka.

For tests of sources, ours and other people's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from connectors.errors import ConnectorError, SinkUnavailable
from connectors.reading import Quality, Reading
from connectors.source import ReadingSource, Site
from connectors.spool import Message, Spool
from connectors.timestamps import parse
from pipeline.ingest.delivering import Delivering
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.outlet import Rules, SourceOutlet

READINGS = "readings"
"""The topic of what is let through."""
DEAD_LETTERS = "dead_letters"
"""The topic of what is refused."""
_POLL_S = 0.01
_RETRY_S = 0.05
"""A trial is in a hurry."""


class ListDelivery:
    """Takes messages into a list while it is ``up``; thread-safe as far as a trial needs it.

    It refuses the topics in ``refusing``.
    """

    def __init__(self) -> None:
        self.up = True
        self.refusing: frozenset[str] = frozenset()
        self.messages: list[Message] = []

    def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
        """Take messages, or raise ``SinkUnavailable``; return why those of some topics were left out."""
        if not self.up:
            raise SinkUnavailable("Kafka is away, for a trial")
        refused = self.refusing & {message.topic for message in messages}
        self.messages += [message for message in messages if message.topic not in refused]
        return {topic: SinkUnavailable(f"topic {topic} is refused, for a trial") for topic in refused}

    def close(self) -> None:
        """Nothing is open."""


class Trial:
    """One life of a source between a peer and a list; a second ``Trial`` on the same path is its second life.

    >>> import tempfile
    >>> with Trial(Path(tempfile.mkdtemp())) as trial:
    ...     trial.outlet.deliver([Reading("station-7", "pm25", 1_000_000, 12.5, "ug/m3")], cursor="1")
    ...     [(reading.entity, reading.value) for reading in trial.readings()], trial.outlet.cursor()
    ([('station-7', 12.5)], '1')

    Args:
        path: a directory; the spool lies in it, and so what the source knows in its next life.
        rules: what readings go through; as nothing had been configured by default.
        max_spool: bytes.
        now_us: the wall clock that readings are held against.
        counters: the file that keeps what counters said last; None: ``counters.db`` in ``path``.
    """

    def __init__(
        self,
        path: Path,
        *,
        rules: Rules | None = None,
        max_spool: int = 1 << 26,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        counters: Path | None = None,
    ) -> None:
        self.kafka = ListDelivery()
        self.sites: dict[str, Site] = {}
        self.reasons: list[str | None] = []
        """What the source reported of its peer, in order; None: it answers."""
        self.error: BaseException | None = None
        """What ``run`` raised."""
        self._stop = threading.Event()
        self._closing = ExitStack()
        self._spool = Spool(path / "spool.db", max_spool)
        self._closing.callback(self._spool.close)
        metrics = IngestMetrics()
        self.registry = metrics.registry
        self.delivering = Delivering(self.kafka, self._spool, metrics, retry_s=_RETRY_S)
        self.delivering.register("trial")
        self.outlet = SourceOutlet(
            "trial",
            rules or Rules(READINGS, DEAD_LETTERS),
            self.delivering,
            metrics,
            self._stop,
            describe=self._described,
            report=self.reasons.append,
            now_us=now_us,
            counters=counters or path / "counters.db",
        )
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Trial:
        self.delivering.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(60.0 if error is None else 0.5)  # what failed may never leave
        self.delivering.close(10.0)
        self.outlet.close()
        self._closing.close()

    def run(self, source: ReadingSource) -> None:
        """Let the source run in a thread of its own; ``error`` has what it raises."""

        def run() -> None:
            try:
                source.run(self.outlet)
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=run, name="trial", daemon=True)
        self._thread.start()

    def until(self, condition: Callable[[], object], patience_s: float = 60.0) -> None:
        """Wait for a condition; raise AssertionError when it does not come, or what the source raised before it."""
        deadline = time.monotonic() + patience_s
        while not condition():
            error = self.error
            if error is not None and not condition() and self.error is error:  # which the condition may take away
                raise error
            assert time.monotonic() < deadline, f"waited {patience_s} s in vain"
            time.sleep(_POLL_S)

    def stop(self, patience_s: float = 60.0) -> float:
        """Tell the source to leave; return the seconds it took. AssertionError if it did not."""
        started = time.monotonic()
        self._stop.set()
        if self._thread is not None:
            self._thread.join(patience_s)
            assert not self._thread.is_alive(), f"the source did not leave within {patience_s} s"
        return time.monotonic() - started

    @property
    def ended(self) -> bool:
        """Whether the source has left ``run``."""
        return self.error is not None or (self._thread is not None and not self._thread.is_alive())

    def readings(self) -> list[Reading]:
        """Return what Kafka has, as readings, in order."""
        return [
            _reading(one)
            for message in list(self.kafka.messages)
            if message.topic == READINGS
            for one in _listed(msgspec.json.decode(message.value))
        ]

    def dead_letters(self) -> list[tuple[bytes, dict[str, str]]]:
        """Return what was refused: the bytes, and the headers as text."""
        return [
            (message.value, {name: value.decode() for name, value in message.headers})
            for message in list(self.kafka.messages)
            if message.topic == DEAD_LETTERS
        ]

    def spooled(self) -> int:
        """Return how many readings wait in the spool."""
        return int(self._spool.readings)

    def count(self, name: str, **labels: str) -> float:
        """Return a metric of the source, such as ``readings`` or ``repeats``; 0 where there is none."""
        found = self.registry.get_sample_value(f"vedette_ingest_source_{name}_total", {"source": "trial", **labels})
        return found or 0.0

    def _described(self, source: str, sites: Sequence[Site]) -> None:
        self.sites.update({site.entity: site for site in sites})


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _reading(fields: dict[str, Any]) -> Reading:
    result = fields.get("result_time")
    return Reading(
        fields["entity"],
        fields["channel"],
        _time_us(fields["time"]),
        fields["value"],
        fields.get("unit", ""),
        Quality[fields.get("quality", "unknown").upper()],
        None if result is None else _time_us(result),
        fields.get("source", ""),
        fields.get("id", ""),
    )


def _time_us(text: str) -> int:
    found = parse(text)
    assert isinstance(found, int), found
    return found
