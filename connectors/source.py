"""What every source of readings promises, and what it is given: the two sides of ``vedette ingest``.

A source speaks to one system outside (an HTTP service, an MQTT broker, a folder) and runs in a thread of its own. What
it brings it hands to its outlet, which says when that is safe: acknowledged by Kafka, or in the spool on the disk.
``connectors.source_contract`` checks these promises over any source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from connectors.reading import Reading, Rejected


@dataclass(frozen=True, slots=True)
class Site:
    """What a source knows of a place where something is measured."""

    entity: str
    """The entity of its readings."""
    name: str = ""
    """As people call it."""
    latitude: float | None = None
    """Degrees north, WGS 84."""
    longitude: float | None = None
    """Degrees east, WGS 84."""
    channels: Mapping[str, str] = field(default_factory=dict)
    """Channel to its unit."""
    limits: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Channel to the lowest and highest value that can be true there, in the channel's unit."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Whatever else people may want to know: owner, river, camera model."""


class Stopping(Exception):
    """The process is told to stop: leave ``run``; what was not durable yet comes again at the next start."""


class Outlet(Protocol):
    """Where a source hands over what it has. All methods may be called from any thread of the source.

    Delivered readings are normalised here, not by the source: channel names as configured, units as UCUM codes, NaN as
    missing; repeats are dropped, and corrections let through. Of counters, which the configuration names or a
    ``CounterReading`` is, what was added since the reading before goes on.
    """

    @property
    def stopping(self) -> bool:
        """Whether the source is to leave ``run``."""

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until told to stop; return ``stopping``."""

    def cursor(self) -> str | None:
        """Return the newest durable cursor: where to go on; None at the very first start."""

    def offer(
        self, readings: Sequence[Reading], *, cursor: str | None = None, rejected: Sequence[Rejected] = ()
    ) -> Future[None]:
        """Take readings at once; the future is done as soon as they, the rejected records and the cursor are durable.

        Of one source everything becomes durable in the order in which it was offered. The readings belong to the
        outlet from here on.

        Raises:
            SpoolFull: if there is no room; nothing was taken. Its ``retry_after_s`` says when to try again.
            Stopping: if the process is past taking anything.
        """

    def deliver(
        self, readings: Sequence[Reading], *, cursor: str | None = None, rejected: Sequence[Rejected] = ()
    ) -> None:
        """Take readings and return when they are durable; while there is no room, wait for it.

        Raises:
            Stopping: if the process stops before that.
        """

    def describe(self, sites: Sequence[Site]) -> None:
        """Tell what is known of places; cheap when nothing is new."""

    def working(self) -> None:
        """Say that the peer answers."""

    def failing(self, reason: str) -> None:
        """Say that the peer does not answer as it should, in words for a person and without secrets."""

    def count(self, event: str, n: int = 1) -> None:
        """Count something that happened; ``event`` is from a small set of words fixed in the source's code."""


class ReadingSource(Protocol):
    """Brings the readings of one system outside. ``run`` is called from a thread of its own.

    Obligations:
    - what the peer still has is brought at least once, whatever is killed and when: the cursor, the acknowledgement or
      the reply goes out only after the outlet said that the readings are durable;
    - a reading that is brought twice has the same entity, channel, time and result_time both times;
    - bad data is a ``Rejected`` beside the good, never an exception, and stops nothing;
    - while the outlet has no room the source waits, or tells its peer to wait; it holds a bounded amount;
    - it leaves within about two seconds once the outlet is stopping, and leaves no thread and no connection behind.
    """

    def run(self, outlet: Outlet) -> None:
        """Bring readings until there are no more (a file) or the outlet is stopping.

        Raises:
            SourceUnavailable: the peer is away; the process waits and runs it again, from its cursor.
            SourceRefused: the peer will not serve us whatever we do (401, 402, 403, 410); it is not run again.
            Misconfigured: a person has to change the configuration; it is not run again.
        """
