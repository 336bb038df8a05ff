"""The lanes to Kafka, one for each topic: straight there, or behind what waits in the spool for the same topic.

What one topic refuses holds up nothing that goes elsewhere. Only when Kafka takes nothing at all, everything waits.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from connectors.errors import ConnectorError, SpoolFull, SpoolUnavailable
from connectors.spool import Lane, Message, Part, Spool
from pipeline.ingest.backoff import Backoff
from pipeline.ingest.metrics import IngestMetrics

log = structlog.get_logger("vedette.ingest")

_BATCH_BYTES = 4 * 1_048_576
_TRIAL_BYTES = 65_536
"""What is taken from a refused lane to find out whether its topic takes it now."""
_FULL_RETRY = 5
"""Sources that found no room are to wait for so many retries of Kafka."""
_IDLE_S = 0.5
_SAY_AGAIN_S = 60.0


class Delivery(Protocol):
    """Delivers messages: those of each topic are acknowledged when ``deliver`` returns, or it says why not."""

    def deliver(self, messages: Sequence[Message]) -> Mapping[str, ConnectorError]:
        """Return why topics refuse what is for them; all messages of all others are acknowledged.

        Raises:
            ConnectorError: if Kafka takes nothing now. Some may be there; sent again, they are there twice.
        """

    def close(self) -> None:
        """Leave."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a topic takes nothing, and when it is asked again."""

    why: str
    backoff: Backoff


class Lanes:
    """Brings parts to Kafka or into the spool, and what waits there to Kafka, in order for each topic.

    Called from one thread; ``waits``, ``no_room`` and ``notes`` from any.

    Args:
        delivery: to Kafka.
        spool: on the disk.
        metrics: where to count.
        retry_s: how long Kafka, or a topic, is left alone after a first failure; up to 5 times as long after others.
        monotonic: the clock for waiting.
    """

    def __init__(
        self,
        delivery: Delivery,
        spool: Spool,
        metrics: IngestMetrics,
        *,
        retry_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._delivery = delivery
        self._spool = spool
        self._metrics = metrics
        self._retry_s = retry_s
        self._monotonic = monotonic
        self._away: str | None = None
        self._kafka = Backoff(retry_s, monotonic)
        self._disk = Backoff(retry_s, monotonic)
        self._refusals: dict[str, Refusal] = {}
        """By topic; never changed in place, for other threads look at it."""
        self._delivered: list[Part] = []
        """Kafka has them, and the spool too: it could not be written. They are not sent again for that."""
        self._full_said_s = -_SAY_AGAIN_S
        self._full_until_s = -math.inf

    # ---- from any thread ----

    def waits(self, topic: str) -> bool:
        """Return whether what is for a topic goes to the spool, not straight to Kafka."""
        refusal = self._refusals.get(topic)
        return topic in self._spool.lanes or not self._kafka.due or (refusal is not None and not refusal.backoff.due)

    def no_room(self, topics: Collection[str], size: int) -> SpoolFull | None:
        """Return why so many bytes for these topics could not wait; None if they could, or need not."""
        if not len(self._spool) or not any(map(self.waits, topics)):
            return None
        if self._spool.bytes + size > self._spool.max_bytes:
            why = f"the spool is full: {self._spool.bytes} of {self._spool.max_bytes} bytes, and {size} more to come"
        elif any(topic in self._bounded() for topic in topics) and not self._spool.has_share(self._bounded(), size):
            why = f"topics that are refused may take half of the spool: {', '.join(sorted(self._bounded()))}"
        else:
            return None
        self.say_full(why)
        return SpoolFull(why, _FULL_RETRY * self._retry_s)

    def say_full(self, why: str) -> None:
        """Note that something found no room."""
        self._metrics.spool_was_full()
        self._full_until_s = self._monotonic() + 2 * _FULL_RETRY * self._retry_s  # by then who waits has asked again
        if self._monotonic() - self._full_said_s >= _SAY_AGAIN_S:
            self._full_said_s = self._monotonic()
            until = "those topics take" if self._bounded() else "Kafka is back and takes"
            log.error(
                f"the spool is full: sources have to wait until {until} readings",
                spool=str(self._spool.path), reason=why, max_bytes=self._spool.max_bytes,
            )  # fmt: skip

    def notes(self) -> list[str]:
        """Return what a person should know."""
        lanes, refusals, away = self._spool.lanes, self._refusals, self._away
        share = f"{round(100 * self._spool.bytes / self._spool.max_bytes)} % full"
        full = "; it is full: sources have to wait" if self._monotonic() < self._full_until_s else ""
        found = []
        if away is not None:
            found.append(f"Kafka is away ({away}); {self._spool.readings} readings wait in the spool, {share}{full}")
        elif lanes.keys() - refusals.keys():
            found.append(f"Kafka is back; {self._spool.readings} readings wait in the spool, {share}{full}")
        for topic, refusal in sorted(refusals.items()):
            held = f"topic {topic} takes no readings ({refusal.why}); {lanes.get(topic, Lane()).readings} wait for it"
            found.append(held if away is not None else f"{held} in the spool, {share}{full}; other topics go on")
        return found

    def _bounded(self) -> Collection[str]:
        """Return the topics that may not take the whole spool: what is refused may last, and Kafka be away tomorrow."""
        return self._refusals.keys() if self._away is None else ()

    # ---- from the thread that delivers ----

    def carry(self, parts: Sequence[Part], *, trial: bool = False) -> frozenset[str]:
        """Bring parts to Kafka; return the topics that did not take theirs. All messages of the others are there.

        Args:
            parts: in order.
            trial: they are of one topic that was refused; if that fails too, it says nothing of Kafka at large.
        """
        topics = frozenset(part.topic for part in parts)
        messages = [message for part in parts for message in part.messages]
        started_s = self._monotonic()
        try:
            refused = self._delivery.deliver(messages)
        except ConnectorError as error:
            if not trial or self._away is not None:
                self._go_away(error)
                return topics
            refused = dict.fromkeys(topics, error)
        else:
            self._come_back()
        took_s = self._monotonic() - started_s
        for topic in topics:
            self._judge(topic, refused.get(topic), took_s if trial else 0.0)
        taken = [part for part in parts if part.topic not in refused]
        if taken:
            count = len(messages) if not refused else sum(len(part.messages) for part in taken)
            self._metrics.delivered(sum(part.readings for part in taken), count, took_s)
        return topics & refused.keys()

    def put(self, parts: Sequence[Part], cursors: Mapping[str, str]) -> None:
        """Keep parts at the ends of their lanes, with cursors that hold from then on; all or none.

        Raises:
            SpoolFull: if they do not fit.
            SpoolUnavailable: if the spool cannot be written now.
        """
        try:
            self._spool.put(parts, cursors, bounded=self._bounded())
        except SpoolFull as error:
            error.retry_after_s = _FULL_RETRY * self._retry_s
            raise

    def drain(self) -> None:
        """Bring a part of what waits to Kafka, where it is time for a try."""
        if not self._disk.due or not self._kafka.due:
            return
        try:
            self._forget()
            well = [topic for topic in self._spool.lanes if topic not in self._refusals]
            self._bring(random.sample(well, len(well)))  # whoever goes without this time will not be always the same
            refused = {topic: self._refusals[topic] for topic in self._spool.lanes if topic in self._refusals}
            due = [topic for topic, refusal in refused.items() if refusal.backoff.due]
            if due and self._kafka.due:
                self._bring(due[:1], trial=True)
            self._disk.succeeded()
        except SpoolUnavailable as error:
            log.error("the spool cannot be used", error=str(error))
            self._metrics.spool_failed()
            self._disk.rest()

    def idle_s(self) -> float:
        """Return how long there is nothing to do here unless something new comes."""
        refusals = self._refusals
        tries = [refusals[topic].backoff.left_s if topic in refusals else 0.0 for topic in self._spool.lanes]
        return min(_IDLE_S, max(min(tries, default=_IDLE_S), self._kafka.left_s, self._disk.left_s, 0.0))

    def rest(self) -> None:
        """Leave Kafka and the spool alone for a while."""
        self._kafka.rest()
        self._disk.rest()

    def show(self) -> None:
        """Tell the metrics how it stands."""
        self._metrics.kafka_reachable(self._away is None)
        self._metrics.spooled(self._spool.bytes, self._spool.readings, self._spool.max_bytes)
        self._metrics.lanes({topic: lane.readings for topic, lane in self._spool.lanes.items()}, self._refusals)

    def close(self) -> None:
        """Leave Kafka. What is under way fails by that."""
        self._delivery.close()

    def _bring(self, topics: Sequence[str], *, trial: bool = False) -> None:
        parts = self._spool.oldest(_TRIAL_BYTES if trial else _BATCH_BYTES, topics)
        if parts:
            missed = self.carry(parts, trial=trial)
            self._delivered = [part for part in parts if part.topic not in missed]
            self._forget()

    def _forget(self) -> None:
        """Remove from the spool what was delivered; nothing else is taken from it before that has worked."""
        self._spool.remove(self._delivered)
        self._delivered = []

    def _judge(self, topic: str, error: ConnectorError | None, took_s: float) -> None:
        """Note what became of a try to write a topic."""
        refusal = self._refusals.get(topic)
        if error is None:
            if refusal is not None:
                self._refusals = {name: each for name, each in self._refusals.items() if name != topic}
                waiting = self._spool.lanes.get(topic, Lane()).readings
                log.info("a topic takes readings again", topic=topic, waiting=waiting)
            return
        if refusal is None:
            say = log.warning if error.retriable else log.error
            say("a topic does not take readings; they wait in the spool, and the others go on", topic=topic,
                error=str(error))  # fmt: skip
        backoff = Backoff(self._retry_s, self._monotonic) if refusal is None else refusal.backoff
        backoff.failed(took_s)
        self._refusals = {**self._refusals, topic: Refusal(str(error), backoff)}

    def _go_away(self, error: ConnectorError) -> None:
        if self._away is None:
            say = log.warning if error.retriable else log.error
            say("Kafka does not take readings; they wait in the spool", error=str(error))
        self._away = str(error)
        self._kafka.failed()

    def _come_back(self) -> None:
        if self._away is not None:
            log.info("Kafka takes readings again", waiting=self._spool.readings)
        self._away = None
        self._kafka.succeeded()
