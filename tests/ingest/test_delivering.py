"""Parcels become durable in their order whatever fails: Kafka, the disk, room, or the time to stop."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from connectors.errors import ConnectorError, SinkUnavailable, SpoolFull, SpoolUnavailable
from connectors.reading import Reading
from connectors.source import Stopping
from connectors.spool import Message, Parcel, Spool
from pipeline.ingest.delivering import Delivering
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.outlet import Rules, SourceOutlet
from pipeline.ingest.trial import ListDelivery
from tests.kafka_broker import until

RETRY_S = 0.05
SOURCES = ("city", "river")


class Slow(ListDelivery):
    """Hangs, as a Kafka does that accepts connections and says nothing, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.closed = threading.Event()

    def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
        self.asked.set()
        self.closed.wait(60.0)
        raise SinkUnavailable("closed")

    def close(self) -> None:
        self.closed.set()


class Life:
    """A spool and what delivers, for one life; ``ahead_s`` puts its clock forward."""

    def __init__(self, path: Path, kafka: ListDelivery, max_spool: int, retry_s: float) -> None:
        self.kafka = kafka
        self.ahead_s = 0.0
        self.spool = Spool(path / "spool.db", max_spool)
        self.registry = CollectorRegistry()
        self.delivering = Delivering(
            kafka, self.spool, IngestMetrics(self.registry), retry_s=retry_s,
            monotonic=lambda: time.monotonic() + self.ahead_s,
        )  # fmt: skip
        for source in SOURCES:
            self.delivering.register(source)
        self.delivering.start()

    def offer(self, number: int, size: int = 1, entity: str = "a") -> Future[None]:
        message = Message("air", entity, b"%d " % number + b"x" * size)
        return self.delivering.offer(Parcel("city", [message], str(number), 1))

    def taken(self, number: int) -> bool:
        """Offer it; return whether it was taken, and not refused because something before it has just failed."""
        try:
            self.offer(number).result(60.0)
        except SpoolFull:
            return False
        return True

    def numbers(self) -> list[int]:
        return [int(message.value.split()[0]) for message in self.kafka.messages]

    def errors(self) -> float:
        return self.registry.get_sample_value("vedette_ingest_spool_errors_total") or 0.0


@contextmanager
def life(
    path: Path, kafka: ListDelivery | None = None, max_spool: int = 1 << 20, retry_s: float = RETRY_S
) -> Iterator[Life]:
    one = Life(path, kafka or ListDelivery(), max_spool, retry_s)
    try:
        yield one
    finally:
        one.delivering.close(60.0)
        one.spool.close()


def test_order_holds_from_straight_to_spooled_and_back(tmp_path: Path) -> None:
    """Protects the order of an entity's readings: what is offered while the spool empties comes behind it."""
    with life(tmp_path) as one:
        one.offer(0).result(60.0)
        one.kafka.up = False
        for number in range(1, 50):
            one.offer(number).result(60.0)
        one.kafka.up = True
        waiting = [one.offer(number) for number in range(50, 60)]
        for done in waiting:
            done.result(60.0)
        until(lambda: not len(one.spool))
        assert one.numbers() == list(range(60))
        assert one.delivering.cursor("city") == "59"


def test_what_fits_into_a_small_spool_is_kept_from_the_first(tmp_path: Path) -> None:
    """Protects small spools from being of no use: of many parcels that do not fit together the first ones are kept."""
    hold = threading.Event()

    class Held(ListDelivery):
        def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
            hold.wait(60.0)
            return super().deliver(messages)

    kafka = Held()
    kafka.up = False
    with life(tmp_path, kafka, max_spool=4_000) as one:
        first = one.offer(0)
        until(lambda: not one.delivering._queue)
        waiting = [one.offer(number, 700) for number in range(1, 10)]  # all in one turn, more than fits
        hold.set()
        first.result(60.0)
        errors = [done.exception(60.0) for done in waiting]
        kept = errors.count(None)
        assert 2 <= kept <= 5
        assert {type(error) for error in errors[kept:]} == {SpoolFull}
        kafka.up = True
        until(lambda: not len(one.spool))
        assert one.numbers() == list(range(kept + 1)), "from the first, without a gap"
        assert one.delivering.cursor("city") == str(kept)


def test_who_offers_while_others_are_failing_is_refused(tmp_path: Path) -> None:
    """Protects order, and readings that are sent twice: nothing overtakes what is just being told that it failed."""
    with life(tmp_path, max_spool=1, retry_s=600.0) as one:
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
            first.result(60.0)
        until(lambda: bool(refused))
        one.kafka.up = True
        with pytest.raises(SpoolFull, match="what was offered before could not be made durable"):
            one.offer(2)  # by who has not noticed yet that the first one failed
        one.ahead_s = 10_000.0
        until(lambda: one.taken(3))
        assert one.numbers() == [3]


def test_a_full_disk_does_not_flood_kafka(tmp_path: Path) -> None:
    """Protects Kafka from the same readings again and again when the spool cannot forget what was delivered."""
    with life(tmp_path) as one:
        one.kafka.up = False
        one.offer(1).result(60.0)
        one.spool._db.execute("PRAGMA query_only = 1")  # every write fails, as on a disk that is full
        one.kafka.up = True
        until(lambda: one.errors() >= 2)
        assert one.numbers() == [1]
        with pytest.raises(SpoolUnavailable):
            one.offer(2).result(60.0)
        one.spool._db.execute("PRAGMA query_only = 0")
        until(lambda: not len(one.spool))
        until(lambda: one.taken(3))
        assert one.numbers() == [1, 3]


def test_a_spool_that_cannot_be_used_is_left_alone_for_a_while(tmp_path: Path) -> None:
    """Protects the processor and the log from a loop that fails as fast as it turns."""
    with life(tmp_path) as one:
        one.kafka.up = False
        one.offer(1).result(60.0)
        until(lambda: renamed(one, "part", "elsewhere"))
        one.kafka.up = True
        until(lambda: one.errors() >= 1)
        started = time.monotonic()  # what fails after this comes no sooner than it may
        before = one.errors()
        until(lambda: one.errors() >= before + 3)
        assert time.monotonic() - started > 2 * 5 * RETRY_S
        until(lambda: renamed(one, "elsewhere", "part"))
        until(lambda: not len(one.spool))
        assert one.numbers() == [1]


def renamed(one: Life, table: str, name: str) -> bool:
    """Rename a table of the spool, unless the thread that delivers is just reading from it."""
    try:
        one.spool._db.execute(f"ALTER TABLE {table} RENAME TO {name}")
    except sqlite3.OperationalError:
        return False
    return True


def test_a_kafka_that_hangs_does_not_outlast_the_stop(tmp_path: Path) -> None:
    """Protects the stop: what Kafka does not take in time is in the spool when the process leaves."""
    kafka = Slow()
    with life(tmp_path, kafka) as one:
        done = one.offer(1)
        assert kafka.asked.wait(60.0)
        started = time.monotonic()
        one.delivering.close(1.0)
        assert time.monotonic() - started < 20.0
        done.result(20.0)  # on a busy machine the thread may need a moment longer
        with pytest.raises(Stopping):
            one.offer(2)
    with life(tmp_path) as one:
        assert one.delivering.cursor("city") == "1"
        until(lambda: not len(one.spool))
        assert one.numbers() == [1]


def test_a_full_spool_is_told_as_long_as_it_is_full(tmp_path: Path) -> None:
    """Protects the person who has to bring Kafka back, or more disk: how much waits, and that sources have to."""
    with life(tmp_path, max_spool=1_000) as one:
        assert one.delivering.notes() == []
        one.kafka.up = False
        one.offer(1, 400).result(60.0)
        assert "1 readings wait in the spool" in one.delivering.notes()[0]
        assert "full:" not in one.delivering.notes()[0]

        def is_told() -> bool:
            with pytest.raises(SpoolFull, match=r"the spool is full: \d+ of 1000 bytes"):
                one.offer(2, 800)
            return one.delivering.notes()[0].endswith("it is full: sources have to wait")

        told = is_told()
        assert one.registry.get_sample_value("vedette_ingest_spool_full_total") == 1
        until(lambda: told or is_told())  # for half a second after each
        one.kafka.up = True
        until(lambda: not one.delivering.notes())


class Flaky(ListDelivery):
    """Comes and goes; when it goes it has taken some of the messages, and says that it has taken none."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance

    def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
        if self.up and self.chance.random() < 0.2:
            self.messages += messages[: self.chance.randrange(len(messages))]
            raise SinkUnavailable("broke off")
        return super().deliver(messages)


@pytest.mark.parametrize("seed", [1, 2])
def test_two_sources_lose_nothing_and_keep_their_order_whatever_kafka_does(tmp_path: Path, seed: int) -> None:
    """Protects each source's order and every reading: Kafka breaks off half-way, goes, and the spool is always full."""
    chance = random.Random(seed)
    kafka = Flaky(chance)
    with life(tmp_path, kafka, max_spool=6_000) as one:
        stop = threading.Event()
        outlets = [
            SourceOutlet(name, Rules("air"), one.delivering, IngestMetrics(CollectorRegistry()), stop)
            for name in SOURCES
        ]
        threads = [threading.Thread(target=bring, args=(outlet, random.Random(seed + 7))) for outlet in outlets]
        kafka.up = False
        for thread in threads:
            thread.start()
        until(lambda: bool(one.registry.get_sample_value("vedette_ingest_spool_full_total")))
        while any(thread.is_alive() for thread in threads):
            kafka.up = chance.random() < 0.6
            threads[0].join(chance.uniform(0.0, 0.1))
        kafka.up = True
        until(lambda: not len(one.spool))
        for outlet in outlets:
            came = [
                int(found["value"])
                for message in kafka.messages
                if message.key == outlet.source
                for found in listed(msgspec.json.decode(message.value))
            ]
            assert list(dict.fromkeys(came)) == list(range(READINGS))
            assert outlet.cursor() == str(READINGS)


READINGS = 400


def bring(outlet: SourceOutlet, chance: random.Random) -> None:
    """Deliver numbered readings in pieces of any size."""
    at = 0
    while at < READINGS:
        end = min(at + chance.randrange(1, 30), READINGS)
        readings = [Reading(outlet.source, "pm25", 1_000_000 * i, float(i)) for i in range(at, end)]
        outlet.deliver(readings, cursor=str(end))
        at = end


def listed(document: object) -> list[dict[str, float]]:
    return document if isinstance(document, list) else [document]  # type: ignore[list-item]
