"""The Kafka source's own rules, on a played consumer and a clock that is set: order, waiting, damage, silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from connectors import kafka_source
from connectors.base import RecordBlock, TopicPartition
from connectors.errors import Misconfigured, SourceUnavailable
from connectors.kafka_batches import DamagedBatch, RawBatch
from connectors.kafka_consumer import Change, Patience
from connectors.kafka_source import HELD_BACK_WAIT_S, KafkaSource
from tests.connectors.record_batches import FIRST_MS, Record, batch, checksummed, raw_batches

P0, P1, P2, P3 = (TopicPartition("readings", p) for p in range(4))
Fetched = dict[TopicPartition, list[RawBatch]]


class PlayedConsumer:
    """Hands out what a test puts into ``answers``; waiting moves the clock."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.answers: list[Fetched | Exception] = []
        self.changes: list[Change] = []
        self.owned: set[TopicPartition] = set()
        self.positions: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self.true_ends: dict[TopicPartition, int] = {}
        self.asked: list[float] = []
        self.commits: list[Mapping[TopicPartition, int]] = []
        self.given_up = False
        self.reachable = True

    def assign(self, *partitions: TopicPartition) -> None:
        self.owned |= set(partitions)
        self.positions |= dict.fromkeys(partitions, 0)
        self.changes.append((set(), set(partitions)))

    def connected(self) -> PlayedConsumer:
        return self

    def poll(self, timeout_s: float, max_records: int) -> Fetched:
        self.asked.append(timeout_s)
        if not self.answers:
            self.now_s += timeout_s
            return {}
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        for partition, batches in answer.items():
            self.positions[partition] = batches[-1].next_offset
            self.ends[partition] = max(self.ends.get(partition, 0), batches[-1].next_offset)
        return answer

    def take_changes(self) -> list[Change]:
        changes, self.changes = self.changes, []
        return changes

    def assignment(self) -> set[TopicPartition]:
        return set(self.owned)

    def end(self, partition: TopicPartition) -> int | None:
        return self.ends.get(partition)

    def position(self, partition: TopicPartition) -> int | None:
        return self.positions.get(partition)

    def require_broker(self, timeout_s: float) -> None:
        if not self.reachable:
            raise SourceUnavailable("no broker listens")

    def ask_ends(self, partitions: Iterable[TopicPartition], timeout_s: float) -> dict[TopicPartition, int]:
        if not self.reachable:
            raise SourceUnavailable("no answer")
        return {p: self.true_ends.get(p, 0) for p in partitions}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.commits.append(offsets)

    def give_up(self) -> None:
        self.given_up = True


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> PlayedConsumer:
    """The consumer that the source under test will use."""
    played = PlayedConsumer()
    monkeypatch.setattr(kafka_source, "GroupConsumer", lambda *arguments: played)
    return played


def source_of(consumer: PlayedConsumer, **options: Any) -> KafkaSource:
    """Return a source that tells the time by its consumer's clock."""
    return KafkaSource("nowhere:1", ["readings"], "g", clock=lambda: consumer.now_s, **options)


def batch_at(partition: TopicPartition, offset: int, second: int, records: int = 10) -> RawBatch:
    """Return a batch whose records lie within one second of record time."""
    content = [Record(b"%d:%d" % (partition.partition, second), delta_ms=second * 1000 + i) for i in range(records)]
    (one,) = raw_batches(bytes(batch(offset, content)))
    one.partition = partition
    return one


def run(partition: TopicPartition, seconds: Iterable[int], offset: int = 0) -> list[RawBatch]:
    """Return a batch a second."""
    return [batch_at(partition, offset + 10 * i, second) for i, second in enumerate(seconds)]


def seconds(blocks: list[RecordBlock]) -> list[tuple[int, int, int]]:
    """Return partition, first and last second of each block."""
    return [
        (b.partition, int(b.timestamps_ms[0] - FIRST_MS) // 1000, int(b.timestamps_ms[-1] - FIRST_MS) // 1000)
        for b in blocks
    ]


def test_a_catch_up_of_four_partitions_comes_in_time_order(consumer: PlayedConsumer) -> None:
    """Protects the watermark: partitions fetched minutes apart come out no further apart than one poll reaches."""
    consumer.assign(P0, P1, P2, P3)
    consumer.ends = dict.fromkeys((P0, P1, P2, P3), 2400)
    # kafka-python serves one partition after the other: each answer is a minute of one of them.
    for minute in range(4):
        for p in (P0, P1, P2, P3):
            consumer.answers.append({p: run(p, range(minute * 60, minute * 60 + 60), offset=600 * minute)})
    source = source_of(consumer, max_records=200)
    newest, came = -1, 0
    while came < 4 * 2400:
        blocks = source.poll(0.1)
        times = [(first, last) for _, first, last in seconds(blocks)]
        if times:
            # 200 records are 20 batches: five seconds of four partitions.
            assert max(last for _, last in times) - min(first for first, _ in times) <= 6
            assert min(first for first, _ in times) >= newest - 1
            newest = max(newest, *(last for _, last in times))
        came += sum(len(block.values) for block in blocks)
    assert newest == 239


def test_records_wait_for_a_partition_that_is_behind_but_not_for_ever(consumer: PlayedConsumer) -> None:
    """Protects both the order of a catch-up and the latency when a partition does not answer."""
    consumer.assign(P0, P1)
    consumer.ends = {P0: 50, P1: 50}
    consumer.answers = [{P0: run(P0, range(5))}]
    source = source_of(consumer, patience=Patience(hold_back_s=0.5))
    assert source.poll(0.3) == []
    assert set(consumer.asked[1:]) == {HELD_BACK_WAIT_S} | {consumer.asked[-1]}
    assert seconds(source.poll(0.5)) == [(0, 0, 4)]
    assert consumer.now_s == pytest.approx(100.5, abs=0.05)


def test_an_idle_partition_holds_nothing_back(consumer: PlayedConsumer) -> None:
    """Protects latency: where a partition is read to its end, nothing waits for it."""
    consumer.assign(P0, P1)
    consumer.ends = {P0: 50, P1: 0}
    consumer.answers = [{P0: run(P0, range(5))}]
    assert seconds(source_of(consumer).poll(0.3)) == [(0, 0, 4)]
    assert consumer.now_s == 100.0


def test_full_queues_stop_the_fetching_and_the_waiting(consumer: PlayedConsumer) -> None:
    """Protects memory: what is queued stays bounded, and a partition that cannot be fetched is not awaited."""
    consumer.assign(P0, P1)
    consumer.ends = {P0: 1000, P1: 1000}
    consumer.answers = [{P0: run(P0, range(20))}, {P0: run(P0, range(20, 40), 200)}]
    source = source_of(consumer, max_records=50, max_queue_bytes=2000)
    assert seconds(source.poll(1.0)) == [(0, 0, 4)]
    assert len(consumer.answers) == 1
    assert seconds(source.poll(1.0)) == [(0, 5, 9)]
    assert len(consumer.answers) == 1


@pytest.mark.parametrize("timeout_s", [0.0, 0.05, 1.0])
def test_poll_waits_no_longer_than_it_may(consumer: PlayedConsumer, timeout_s: float) -> None:
    """Protects the daemon's loop: together, the waits inside the consumer are the time-out."""
    consumer.assign(P0)
    source = source_of(consumer)
    for _ in range(3):
        before = consumer.now_s
        assert source.poll(timeout_s) == []
        assert consumer.now_s - before == pytest.approx(timeout_s)


def test_the_callback_comes_before_the_records(consumer: PlayedConsumer) -> None:
    """Protects checkpoints: state is taken up, and the position sought, before a record of the partition is seen."""
    consumer.assign(P0)
    consumer.answers = [{P0: run(P0, range(5))}, {P0: run(P0, range(2, 5), 20)}]
    source = source_of(consumer)
    told: list[Change] = []

    def changed(revoked: set[TopicPartition], assigned: set[TopicPartition]) -> None:
        told.append((revoked, assigned))
        source.seek(P0, 20)

    source.on_rebalance(changed)
    assert seconds(source.poll(0.1)) == [(0, 2, 4)]  # what had been fetched from the old position is gone
    assert told == [(set(), {P0})]


def test_what_was_queued_of_a_revoked_partition_never_comes(consumer: PlayedConsumer) -> None:
    """Protects from reading what its new owner reads too."""
    consumer.assign(P0, P1)
    consumer.answers = [{P0: run(P0, range(5)), P1: run(P1, range(5))}]
    source = source_of(consumer, max_records=40)
    source.poll(0.1)
    consumer.owned = {P0}
    consumer.changes = [({P1}, set())]
    rest = seconds(source.poll(0.1) + source.poll(0.1))
    assert {partition for partition, _, _ in rest} == {0}
    assert source.assignment() == {P0}


def test_damage_comes_after_what_lies_before_it(consumer: PlayedConsumer) -> None:
    """Protects the good records before a damaged batch: whoever skips it must have had them."""
    consumer.assign(P0, P1)
    consumer.ends = {P0: 50, P1: 50}
    damage = DamagedBatch(P0, 20, 30, "its checksum is wrong")
    consumer.answers = [{P0: run(P0, range(2))}, *[damage] * 100]
    source = source_of(consumer)
    came: list[RecordBlock] = []

    def poll_on() -> None:
        for _ in range(5):
            came.extend(source.poll(0.2))
            consumer.now_s += 0.2

    with pytest.raises(DamagedBatch, match="readings-0: the record batch at offset 20"):
        poll_on()
    assert seconds(came) == [(0, 0, 1)]
    with pytest.raises(DamagedBatch):
        source.poll(0.2)
    consumer.answers = [{P0: run(P0, range(3, 5), 30), P1: run(P1, [3])}]
    source.seek(P0, damage.next_offset)
    assert seconds(source.poll(0.2)) == [(0, 3, 4), (1, 3, 3)]


@pytest.mark.parametrize(
    ("broken", "error"), [(b"\x7f", DamagedBatch), (None, Misconfigured)], ids=["damage", "missing library"]
)
def test_a_batch_that_cannot_be_read_stays_queued(
    consumer: PlayedConsumer, broken: bytes | None, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects from losing it, and what follows it, when someone polls on."""
    consumer.assign(P0)
    data = batch(20, [Record(b"x" * 50, delta_ms=2000)] * 10)
    if broken:
        data[61:62] = broken
    (bad,) = raw_batches(bytes(checksummed(data)))
    bad.partition = P0
    if broken is None:

        def refuse() -> Any:
            raise Misconfigured("install snappy")

        monkeypatch.setattr(RawBatch, "columns", _columns_unless(bad, RawBatch.columns, refuse))
    consumer.answers = [{P0: [*run(P0, range(2)), bad, *run(P0, [3], 30)]}]
    source = source_of(consumer)
    assert seconds(source.poll(0.1)) == [(0, 0, 1)]
    for _ in range(3):
        with pytest.raises(error):
            source.poll(0.1)
    assert source.lag() == {P0: 20}
    source.seek(P0, 30)
    consumer.answers = [{P0: run(P0, [3], 30)}]
    assert seconds(source.poll(0.1)) == [(0, 3, 3)]


def test_offsets_of_revoked_partitions_are_left_to_their_owner(consumer: PlayedConsumer) -> None:
    """Protects the new owner's progress from being turned back."""
    consumer.assign(P0)
    source = source_of(consumer)
    source.poll(0.0)
    source.commit({P0: 7, P1: 9})
    source.commit({P1: 9})
    assert consumer.commits == [{P0: 7}]


def test_lag_counts_what_is_queued(consumer: PlayedConsumer) -> None:
    """Protects the lag that operators see: what was fetched and not handed out is still to be done."""
    consumer.assign(P0, P1)
    consumer.answers = [{P0: run(P0, range(5))}]
    source = source_of(consumer, max_records=20)
    assert source.lag() == {}
    source.poll(0.6)
    assert source.lag() == {P0: 30}
    consumer.ends[P0] = 80
    assert source.lag() == {P0: 60}


def test_a_broker_that_went_away_is_noticed(consumer: PlayedConsumer) -> None:
    """Protects from silence: kafka-python just returns nothing, with partitions or without."""
    source = source_of(consumer, patience=Patience(quiet_s=10.0))
    source.poll(0.0)
    consumer.reachable = False
    polled_until(consumer, source, "no broker listens")
    consumer.assign(P0)
    polled_until(consumer, source, "no answer")
    consumer.reachable = True
    for _ in range(40):
        assert source.poll(1.0) == []


@pytest.mark.parametrize("position", [5, None], ids=["stands still", "never known"])
def test_a_partition_that_stands_still_makes_it_connect_anew(consumer: PlayedConsumer, position: int | None) -> None:
    """Protects from partitions that kafka-python silently stops fetching."""
    consumer.assign(P0)
    consumer.true_ends = {P0: 6}
    source = source_of(consumer, patience=Patience(quiet_s=10.0, stalled_s=60.0))
    source.poll(0.0)
    if position is None:
        del consumer.positions[P0]
    else:
        consumer.positions[P0] = position
    polled_until(consumer, source, "nothing came for 60 s from readings-0 at -?[0-9]+ of 6")
    assert consumer.given_up
    assert 160.0 <= consumer.now_s <= 190.0


def test_a_live_source_is_never_exhausted(consumer: PlayedConsumer) -> None:
    """Protects the daemon from ending when a topic is quiet."""
    assert not source_of(consumer).exhausted()


def polled_until(consumer: PlayedConsumer, source: KafkaSource, said: str) -> None:
    """Poll for up to two minutes of the played clock until it is said that the source is away."""

    def poll_on() -> None:
        deadline = consumer.now_s + 120.0
        while consumer.now_s < deadline:
            source.poll(1.0)

    with pytest.raises(SourceUnavailable, match=said):
        poll_on()


def _columns_unless(
    bad: RawBatch, columns: Callable[[RawBatch], Any], refuse: Callable[[], Any]
) -> Callable[[RawBatch], Any]:
    return lambda one: refuse() if one is bad else columns(one)
