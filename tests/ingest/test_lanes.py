"""What one topic refuses holds up nothing that goes elsewhere, and nothing is lost or out of order for it."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from connectors.errors import ConnectorError, SinkUnavailable, SpoolFull
from connectors.source import Stopping
from connectors.spool import Message, Parcel, Spool
from pipeline.ingest.delivering import Delivering
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.trial import ListDelivery
from tests.kafka_broker import until

TOPIC_OF = {"city": "air", "street": "air", "river": "water"}
DEAD = "dead"
"""Where every source writes now and then."""


def parcel(source: str, numbers: range) -> Parcel:
    """Return numbered messages to the source's topic, every fifth with a dead letter beside it."""
    messages = []
    for number in numbers:
        messages.append(Message(TOPIC_OF[source], source, b"%d" % number))
        if number % 5 == 0:
            messages.append(Message(DEAD, source, b"%d" % number))
    return Parcel(source, messages, str(numbers[-1]), len(numbers))


def expected(source: str, topic: str, count: int) -> list[int]:
    """Return the numbers that a source brings to a topic."""
    if topic == DEAD:
        return list(range(0, count, 5))
    return list(range(count)) if topic == TOPIC_OF[source] else []


def found(messages: Sequence[Message], source: str, topic: str) -> list[int]:
    """Return the numbers of a source that are there, in order, without repeats."""
    return list(dict.fromkeys(int(one.value) for one in messages if (one.key, one.topic) == (source, topic)))


class Life:
    """A spool and what delivers, until it is closed or killed."""

    def __init__(self, path: Path, kafka: ListDelivery, max_spool: int = 1 << 20, retry_s: float = 0.01) -> None:
        self.kafka = kafka
        self.killed = False
        self.spool = Spool(path / "spool.db", max_spool)
        self.metrics = IngestMetrics()
        self.delivering = Delivering(kafka, self.spool, self.metrics, retry_s=retry_s)
        for source in TOPIC_OF:
            self.delivering.register(source)
        self.delivering.start()

    def offer(self, source: str, number: int) -> Future[None]:
        return self.delivering.offer(parcel(source, range(number, number + 1)))

    def kill(self) -> None:
        """Let nothing that happens from now on leave a trace."""
        self.killed = True
        self.spool._db.execute("PRAGMA query_only = 1")

    def close(self) -> None:
        self.delivering.close(60.0)
        self.spool.close()

    def metric(self, name: str, topic: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"vedette_ingest_{name}", {"topic": topic})


@contextmanager
def life(path: Path, kafka: ListDelivery, max_spool: int = 1 << 20) -> Iterator[Life]:
    one = Life(path, kafka, max_spool)
    try:
        yield one
    finally:
        one.close()


def test_one_refused_topic_holds_up_no_other(tmp_path: Path) -> None:
    """Protects all sources that write elsewhere; what was refused comes by itself, in order, when its topic is back."""
    kafka = ListDelivery()
    kafka.refusing = frozenset(("water",))
    with life(tmp_path, kafka) as one:
        for number in range(1, 40):
            one.offer("river", number).result(60.0)
            one.offer("city", number).result(60.0)
            assert int(found(kafka.messages, "city", "air")[-1]) == number, "it went straight there"
        assert found(kafka.messages, "river", "water") == []
        assert found(kafka.messages, "river", DEAD) == list(range(5, 40, 5))
        assert {topic: lane.readings for topic, lane in one.spool.lanes.items()} == {"water": 39}
        (note,) = one.delivering.notes()
        assert note.startswith("topic water takes no readings (topic water is refused, for a trial); 39 wait for it")
        assert note.endswith("other topics go on")
        assert (one.metric("topic_refused", "water"), one.metric("spool_topic_readings", "water")) == (1.0, 39.0)
        assert one.metrics.registry.get_sample_value("vedette_ingest_kafka_up") == 1.0
        kafka.refusing = frozenset()
        until(lambda: not len(one.spool))
        one.offer("river", 40).result(60.0)
        assert found(kafka.messages, "river", "water") == list(range(1, 41))
        assert one.delivering.notes() == []
        until(lambda: one.metric("topic_refused", "water") == 0.0)
        until(lambda: one.metric("spool_topic_readings", "water") == 0.0)


def test_a_refused_topic_takes_half_of_the_spool_at_most(tmp_path: Path) -> None:
    """Protects the others for the day that Kafka is away; whose topic is refused has to wait, and is told why."""
    kafka = ListDelivery()
    kafka.refusing = frozenset(("water",))
    with life(tmp_path, kafka, max_spool=8_000) as one:
        numbers = count(1)
        with suppress(SpoolFull):
            while True:
                one.offer("river", next(numbers)).result(60.0)
        until(lambda: one.delivering._failing == frozenset())

        def is_told() -> bool:
            """Whether it is told just now that it is full; that is over a moment after the last that found no room."""
            with pytest.raises(SpoolFull, match="topics that are refused may take half of the spool: water"):
                one.offer("river", next(numbers))
            return "it is full: sources have to wait" in one.delivering.notes()[0]

        until(is_told)
        assert one.spool.bytes <= 4_000
        one.offer("city", 1).result(60.0)
        assert found(kafka.messages, "city", "air") == [1]
        kafka.up = False
        one.offer("city", 2).result(60.0)
        until(lambda: "air" in one.spool.lanes)
        one.offer("city", 3).result(60.0)
        kafka.refusing, kafka.up = frozenset(), True
        until(lambda: not len(one.spool))
        assert found(kafka.messages, "city", "air") == [1, 2, 3]


class Held(ListDelivery):
    """Waits until it may go on, with everything but what is for the topics in ``passing`` alone."""

    def __init__(self) -> None:
        super().__init__()
        self.passing: frozenset[str] = frozenset()
        self.reached, self.go_on = threading.Event(), threading.Event()

    def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
        if not {message.topic for message in messages} <= self.passing:
            self.reached.set()
            assert self.go_on.wait(60.0)
        return super().deliver(messages)


def test_a_full_spool_fails_only_who_needs_it(tmp_path: Path) -> None:
    """Protects sources from what another one suffers in the same batch: each is told of its own parcels."""
    kafka = Held()
    kafka.refusing = frozenset(("water",))
    with life(tmp_path, kafka, max_spool=600) as one:
        first = one.offer("city", 1)
        assert kafka.reached.wait(60.0)
        river = [one.offer("river", number) for number in range(1, 5)]
        city = [one.offer("city", number) for number in range(2, 5)]
        kafka.go_on.set()
        for done in (first, *city):
            assert done.exception(60.0) is None
        errors = [done.exception(60.0) for done in river]
        kept = errors.count(None)
        assert kept < 4
        assert all(isinstance(error, SpoolFull) for error in errors[kept:]), "none after the first that failed"
        assert one.delivering.cursor("river") == (str(kept) if kept else None)
        assert one.delivering.cursor("city") == "4"
        assert found(kafka.messages, "city", "air") == [1, 2, 3, 4]


def test_what_comes_after_a_failure_fails_too(tmp_path: Path) -> None:
    """Protects a source's order over all its topics: its cursor must not get behind what could not be kept."""
    kafka = Held()
    kafka.refusing = frozenset(("water",))
    with life(tmp_path, kafka, max_spool=1) as one:
        first = one.offer("river", 1)
        assert kafka.reached.wait(60.0)
        behind = one.delivering.offer(Parcel("river", [Message(DEAD, "river", b"2")], "2"))
        other = one.delivering.offer(Parcel("city", [Message(DEAD, "city", b"2")], "2"))
        kafka.go_on.set()
        assert isinstance(first.exception(60.0), SpoolFull)
        assert isinstance(behind.exception(60.0), SpoolFull)
        assert other.exception(60.0) is None
        assert (one.delivering.cursor("river"), one.delivering.cursor("city")) == (None, "2")
        assert [message.key for message in kafka.messages] == ["city"]


def test_a_kill_between_two_topics_leaves_the_cursor_behind(tmp_path: Path) -> None:
    """Protects the part of a parcel that was on its way to Kafka while the other part lay in the spool already."""
    kafka = Held()
    kafka.go_on.set()
    kafka.refusing = kafka.passing = frozenset((DEAD,))  # it is tried again and again meanwhile
    with life(tmp_path, kafka) as one:
        one.offer("city", 5).result(60.0)
        kafka.go_on.clear()
        kafka.reached.clear()
        one.offer("city", 10)
        until(lambda: one.spool.lanes[DEAD].parts == 2)
        assert kafka.reached.wait(60.0)
        one.kill()
        kafka.up = False
        kafka.go_on.set()
    with life(tmp_path, kafka) as one:
        assert one.delivering.cursor("city") == "5"


def test_a_try_that_hangs_costs_the_others_little(tmp_path: Path) -> None:
    """Protects the others from a topic about which Kafka says nothing: tries take a tenth of the time at most."""

    class Hanging(ListDelivery):
        tried_s = 0.0

        def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
            if {message.topic for message in messages} == {"water"}:
                time.sleep(0.05)
                self.tried_s += 0.05
                raise SinkUnavailable("not acknowledged")
            return super().deliver(messages)

    kafka = Hanging()
    kafka.refusing = frozenset(("water",))
    with life(tmp_path, kafka) as one:
        started, number = time.monotonic(), 5
        done = [one.offer("river", 5), one.offer("city", 5)]
        for each in done:
            each.result(60.0)
        while kafka.tried_s < 0.15:
            number += 1
            one.offer("city", number).result(60.0)
        assert kafka.tried_s < 0.2 * (time.monotonic() - started)
        assert one.metrics.registry.get_sample_value("vedette_ingest_kafka_up") == 1.0
        assert found(kafka.messages, "city", "air") == list(range(5, number + 1))


def test_a_long_lane_holds_up_no_short_one(tmp_path: Path) -> None:
    """Protects what waits beside megabytes for a topic about which Kafka says nothing: each batch has some of each."""

    class Silent(ListDelivery):
        def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
            topics = {message.topic for message in messages}
            if topics == {"water"}:  # nobody can tell whose fault it is
                raise SinkUnavailable("not acknowledged")
            self.refusing = frozenset(("water",))
            return super().deliver(messages)

    kafka = Silent()
    kafka.up = False
    with life(tmp_path, kafka, max_spool=1 << 24) as one:
        for number in range(7):
            large = Message("water", "river", b"%d" % number + b" " * 1_000_000)
            one.delivering.offer(Parcel("river", [large], str(number), 1)).result(60.0)
        one.offer("city", 1).result(60.0)
        kafka.up = True
        until(lambda: found(kafka.messages, "city", "air") == [1])
        until(lambda: one.spool.lanes.keys() == {"water"})
        until(lambda: one.metric("topic_refused", "water") == 1.0)


# ---- whatever happens ----

COUNT = 800
KILLS = 3


class Moody(ListDelivery):
    """Comes and goes, refuses topics, breaks off half-way, and takes the process with it; calm after some calls."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.life: Life | None = None
        self.calls_left = 300
        self.kills = [chance.randrange(3, 30) for _ in range(KILLS)]
        """After so many calls, in one life after the other."""
        self.seen: set[frozenset[str] | bool] = set()

    def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
        life, chance = self.life, self.chance
        assert life is not None
        if life.killed:
            raise SinkUnavailable("nobody asks")
        self.calls_left -= 1
        if self.calls_left < 0:
            self.up, self.refusing = True, frozenset()
            return super().deliver(messages)
        if chance.random() < 0.2:
            self.up = chance.random() < 0.7
            self.refusing = frozenset(topic for topic in ("air", "water", DEAD) if chance.random() < 0.3)
        self.seen |= {self.up, self.refusing}
        self.kills[:1] = [left - 1 for left in self.kills[:1]]
        if self.kills[:1] == [0]:
            self.kills.pop(0)
            if chance.random() < 0.7:
                self.messages += messages[: chance.randrange(len(messages) + 1)]
            life.kill()  # what was acknowledged is there, and nobody knows
            raise SinkUnavailable("nobody asks")
        if self.up and chance.random() < 0.1:
            self.messages += messages[: chance.randrange(len(messages))]
            raise SinkUnavailable("broke off")
        refused = super().deliver(messages)
        for topic in refused:  # some of it is there
            of = [message for message in messages if message.topic == topic]
            self.messages += of[: chance.randrange(len(of)) if chance.random() < 0.2 else 0]
        return refused


def bring(one: Life, source: str, chance: random.Random) -> None:
    """Bring what is behind the cursor in pieces of any size, some at once; after a failure go back to the cursor."""
    at = after(one.delivering.cursor(source))
    waiting: deque[Future[None]] = deque()
    while not one.killed and (at < COUNT or waiting):
        try:
            if at < COUNT and len(waiting) < chance.randrange(1, 6):
                end = min(at + chance.randrange(1, 12), COUNT)
                waiting.append(one.delivering.offer(parcel(source, range(at, end))))
                at = end
            else:
                waiting.popleft().result(60.0)
        except (ConnectorError, Stopping):
            for done in waiting:
                done.exception(60.0)
            waiting.clear()
            at = after(one.delivering.cursor(source))
            time.sleep(0.002)


def after(cursor: str | None) -> int:
    """Return the first number that a source has to bring."""
    return 0 if cursor is None else int(cursor) + 1


def assert_cursors_are_behind(path: Path, kafka: ListDelivery) -> None:
    """Protects from loss: what is up to a source's cursor is in Kafka or in the spool."""
    spool = Spool(path / "spool.db", 1)
    there = [*kafka.messages, *(message for part in spool.oldest(1 << 30) for message in part.messages)]
    for source, topic in TOPIC_OF.items():
        for each in (topic, DEAD):
            durable = set(found(there, source, each))
            assert set(expected(source, each, after(spool.cursor(source)))) <= durable
    spool.close()


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_whatever_happens(tmp_path: Path, seed: int) -> None:
    """Protects every reading and the order of each source on each topic: Kafka goes and comes, topics are refused, the
    spool is full, and the process is killed at any moment."""
    chance = random.Random(seed)
    kafka = Moody(chance)
    full, lives, done = 0.0, 0, False
    while not done:
        one = kafka.life = Life(tmp_path, kafka, max_spool=chance.choice((4_000, 20_000)))
        threads = [threading.Thread(target=bring, args=(one, name, random.Random(seed))) for name in TOPIC_OF]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60.0)
            assert not thread.is_alive()
        until(lambda one=one: one.killed or not len(one.spool))  # type: ignore[misc]
        done = not one.killed
        full += one.metrics.registry.get_sample_value("vedette_ingest_spool_full_total") or 0.0
        lives += 1
        one.close()
        assert_cursors_are_behind(tmp_path, kafka)
    for source in TOPIC_OF:
        for topic in (TOPIC_OF[source], DEAD):
            assert found(kafka.messages, source, topic) == expected(source, topic, COUNT)
    assert lives == KILLS + 1
    assert full > 0
    assert len(kafka.seen) > 5
