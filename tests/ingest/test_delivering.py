"""Parcels become durable in their order whatever fails: Kafka, the disk, room, or the time to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from connectors.errors import SinkUnavailable, SpoolFull, SpoolUnavailable
from connectors.source import Stopping
from connectors.spool import Message, Parcel, Spool
from pipeline.ingest.delivering import Delivering
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.trial import ListDelivery
from tests.kafka_broker import until

RETRY_S = 0.05


class Slow(ListDelivery):
    """Hangs, as a Kafka does that accepts connections and says nothing, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.closed = threading.Event()

    def deliver(self, messages: Sequence[Message]) -> None:
        self.asked.set()
        self.closed.wait(30.0)
        raise SinkUnavailable("closed")

    def close(self) -> None:
        self.closed.set()


class Life:
    """A spool and what delivers, for one life."""

    def __init__(self, path: Path, kafka: ListDelivery, max_spool: int) -> None:
        self.kafka = kafka
        self.spool = Spool(path / "spool.db", max_spool)
        self.registry = CollectorRegistry()
        self.delivering = Delivering(kafka, self.spool, IngestMetrics(self.registry), retry_s=RETRY_S)
        self.delivering.register("city")
        self.delivering.start()

    def offer(self, number: int, size: int = 1, entity: str = "a") -> Future[None]:
        message = Message("air", entity, b"%d " % number + b"x" * size)
        return self.delivering.offer(Parcel("city", [message], str(number), 1))

    def numbers(self) -> list[int]:
        return [int(message.value.split()[0]) for message in self.kafka.messages]

    def errors(self) -> float:
        return self.registry.get_sample_value("vedette_ingest_spool_errors_total") or 0.0


@contextmanager
def life(path: Path, kafka: ListDelivery | None = None, max_spool: int = 1 << 20) -> Iterator[Life]:
    one = Life(path, kafka or ListDelivery(), max_spool)
    try:
        yield one
    finally:
        one.delivering.close(5.0)
        one.spool.close()


def test_order_holds_from_straight_to_spooled_and_back(tmp_path: Path) -> None:
    """Protects the order of an entity's readings: what is offered while the spool empties comes behind it."""
    with life(tmp_path) as one:
        one.offer(0).result(5.0)
        one.kafka.up = False
        for number in range(1, 50):
            one.offer(number).result(5.0)
        one.kafka.up = True
        waiting = [one.offer(number) for number in range(50, 60)]
        for done in waiting:
            done.result(5.0)
        until(lambda: not len(one.spool), 5.0)
        assert one.numbers() == list(range(60))
        assert one.delivering.cursor("city") == "59"


def test_what_fits_into_a_small_spool_is_kept_from_the_first(tmp_path: Path) -> None:
    """Protects small spools from being of no use: of many parcels that do not fit together the first ones are kept."""
    hold = threading.Event()

    class Held(ListDelivery):
        def deliver(self, messages: Sequence[Message]) -> None:
            hold.wait(5.0)
            super().deliver(messages)

    kafka = Held()
    kafka.up = False
    with life(tmp_path, kafka, max_spool=4_000) as one:
        first = one.offer(0)
        until(lambda: not one.delivering._queue, 5.0)
        waiting = [one.offer(number, 700) for number in range(1, 10)]  # all in one turn, more than fits
        hold.set()
        first.result(5.0)
        errors = [done.exception(5.0) for done in waiting]
        kept = errors.count(None)
        assert 2 <= kept <= 5
        assert {type(error) for error in errors[kept:]} == {SpoolFull}
        kafka.up = True
        until(lambda: not len(one.spool), 5.0)
        assert one.numbers() == list(range(kept + 1)), "from the first, without a gap"
        assert one.delivering.cursor("city") == str(kept)


def test_who_offers_while_others_are_failing_is_refused(tmp_path: Path) -> None:
    """Protects order, and readings that are sent twice: nothing overtakes what is just being told that it failed."""
    with life(tmp_path, max_spool=1) as one:
        one.kafka.up = False
        refused: list[Exception] = []

        def offer_more(_: Future[None]) -> None:
            try:
                one.offer(2)
            except SpoolFull as error:
                refused.append(error)

        first = one.offer(1)
        first.add_done_callback(offer_more)
        with pytest.raises(SpoolFull):
            first.result(5.0)
        until(lambda: bool(refused), 5.0)
        one.kafka.up = True

        def taken() -> bool:
            try:
                one.offer(3).result(5.0)
            except SpoolFull:
                return False
            return True

        until(taken, 5.0)
        assert one.numbers() == [3]


def test_a_full_disk_does_not_flood_kafka(tmp_path: Path) -> None:
    """Protects Kafka from the same readings again and again when the spool cannot forget what was delivered."""
    with life(tmp_path) as one:
        one.kafka.up = False
        one.offer(1).result(5.0)
        one.spool._db.execute("PRAGMA query_only = 1")  # every write fails, as on a disk that is full
        one.kafka.up = True
        until(lambda: one.errors() >= 2, 10.0)
        assert one.numbers() == [1]
        with pytest.raises(SpoolUnavailable):
            one.offer(2).result(5.0)
        one.spool._db.execute("PRAGMA query_only = 0")
        until(lambda: not len(one.spool), 10.0)
        one.offer(3).result(5.0)
        assert one.numbers() == [1, 3]


def test_a_spool_that_cannot_be_used_is_left_alone_for_a_while(tmp_path: Path) -> None:
    """Protects the processor and the log from a loop that fails as fast as it turns."""
    with life(tmp_path) as one:
        one.kafka.up = False
        one.offer(1).result(5.0)
        one.spool._db.execute("ALTER TABLE parcel RENAME TO elsewhere")
        one.kafka.up = True
        until(lambda: one.errors() >= 1, 5.0)
        before, started = one.errors(), time.monotonic()
        until(lambda: one.errors() >= before + 3, 10.0)
        assert time.monotonic() - started > 2 * 5 * RETRY_S
        one.spool._db.execute("ALTER TABLE elsewhere RENAME TO parcel")
        until(lambda: not len(one.spool), 5.0)
        assert one.numbers() == [1]


def test_a_kafka_that_hangs_does_not_outlast_the_stop(tmp_path: Path) -> None:
    """Protects the stop: what Kafka does not take in time is in the spool when the process leaves."""
    kafka = Slow()
    with life(tmp_path, kafka) as one:
        done = one.offer(1)
        assert kafka.asked.wait(5.0)
        started = time.monotonic()
        one.delivering.close(1.0)
        assert time.monotonic() - started < 5.0
        done.result(0.0)
        with pytest.raises(Stopping):
            one.offer(2)
    with life(tmp_path) as one:
        assert one.delivering.cursor("city") == "1"
        until(lambda: not len(one.spool), 5.0)
        assert one.numbers() == [1]


def test_a_full_spool_is_told_as_long_as_it_is_full(tmp_path: Path) -> None:
    """Protects the person who has to bring Kafka back, or more disk: how much waits, and that sources have to."""
    with life(tmp_path, max_spool=1_000) as one:
        assert one.delivering.notes() == []
        one.kafka.up = False
        one.offer(1, 400).result(5.0)
        assert "1 readings wait in the spool" in one.delivering.notes()[0]
        assert "full:" not in one.delivering.notes()[0]
        with pytest.raises(SpoolFull, match=r"the spool is full: \d+ of 1000 bytes"):
            one.offer(2, 800)
        assert one.delivering.notes()[0].endswith("it is full: sources have to wait")
        assert one.registry.get_sample_value("vedette_ingest_spool_full_total") == 1
        one.kafka.up = True
        until(lambda: not one.delivering.notes(), 5.0)
