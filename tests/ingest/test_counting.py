"""Channels that only grow go to Kafka as what was added: across resets, repeats, failures, kills and restarts."""

from __future__ import annotations

import random
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import structlog

from connectors.counter_series import Total, increase
from connectors.errors import ConnectorError, SinkUnavailable
from connectors.reading import CounterReading, Quality, Reading
from connectors.spool import Message
from pipeline.ingest.outlet import Rules
from pipeline.ingest.trial import DEAD_LETTERS, READINGS, Trial

STEP_US = 60_000_000
START_US = time.time_ns() // 1000 - 10_000 * STEP_US
RULES = Rules(READINGS, DEAD_LETTERS, counters=("cars", "*_total"))


def total(at: int, value: float | None, channel: str = "cars", entity: str = "gate-1", **more: object) -> Reading:
    return Reading(entity, channel, START_US + at * STEP_US, value, **more)  # type: ignore[arg-type]


def found(trial: Trial) -> list[tuple[str, int, float | None]]:
    return [(r.channel, (r.time_us - START_US) // STEP_US, r.value) for r in trial.readings()]


def test_named_channels_become_increases(tmp_path: Path) -> None:
    """Protects gauges beside counters, the order of both, and labels behind a counter's name."""
    with Trial(tmp_path, rules=RULES) as trial:
        trial.outlet.deliver([total(0, 5.0), total(0, 21.5, "temperature"), total(0, 1.0, 'hits_total{code="200"}')])
        trial.outlet.deliver([total(1, 7.0), total(1, 22.5, "temperature"), total(1, 4.0, 'hits_total{code="200"}')])
        trial.outlet.deliver([total(2, 2.0), total(2, 2.0), total(1, 9.0), total(3, 2.0)])
        assert found(trial) == [
            ("temperature", 0, 21.5),
            ("cars", 1, 2.0), ("temperature", 1, 22.5), ('hits_total{code="200"}', 1, 3.0),
            ("cars", 2, 2.0), ("cars", 3, 0.0),
        ]  # fmt: skip
        events = ("counters_new", "counters_resets", "counter_resets", "counters_outdated")
        assert [trial.count("events", event=event) for event in events] == [2, 0, 1, 2]
        assert trial.count("readings") == 6


def test_the_newest_may_come_first(tmp_path: Path) -> None:
    """Protects each increase of a body that is not in order of time; what comes older in a later one gives nothing."""
    with Trial(tmp_path, rules=RULES) as trial:
        trial.outlet.deliver([total(3, 9.0), total(3, 20.0, "level"), total(1, 2.0), total(2, 5.0)])
        trial.outlet.deliver([total(0, 1.0), total(4, 11.0)])
        assert found(trial) == [("cars", 3, 4.0), ("level", 3, 20.0), ("cars", 2, 3.0), ("cars", 4, 2.0)]


def test_names_are_those_after_renaming(tmp_path: Path) -> None:
    """Protects one way of naming: `counters` speaks as `only` does, and two entities are two series."""
    rules = Rules(READINGS, DEAD_LETTERS, prefix="de/", rename={"Zähler": "cars"}, counters=("cars",))
    with Trial(tmp_path, rules=rules) as trial:
        for at, entity in ((0, "gate-1"), (0, "gate-2"), (1, "gate-1"), (1, "gate-2")):
            trial.outlet.deliver([total(at, 10.0 * at + len(entity), "Zähler", entity)])
        assert [(r.entity, r.value) for r in trial.readings()] == [("de/gate-1", 10.0), ("de/gate-2", 10.0)]


def test_what_is_no_total_is_missing(tmp_path: Path) -> None:
    """Protects increases from a sentinel, and from what its source does not trust: a flagged fall is no reset."""
    with Trial(tmp_path, rules=RULES) as trial:
        suspect = total(2, 3.0, quality=Quality.SUSPECT)
        trial.outlet.deliver([total(0, 50.0), total(1, -1.0), suspect, total(3, None), total(4, 60.0)])
        assert [(r.value, r.quality) for r in trial.readings()] == [
            (None, Quality.MISSING), (None, Quality.SUSPECT), (None, Quality.MISSING), (10.0, Quality.UNKNOWN),
        ]  # fmt: skip
        assert trial.count("events", event="counters_unusable") == 2


def test_a_payload_that_says_so_needs_no_configuration(tmp_path: Path) -> None:
    """Protects OTLP's counters, their starts too; a stream that makes rates itself gets totals."""
    rules = Rules(READINGS, DEAD_LETTERS, prefix="x/", rates=frozenset({"bytes"}))

    def said(at: int, value: float, since: int, channel: str = "cars") -> Reading:
        time_us, since_us = START_US + at * STEP_US, START_US + since * STEP_US
        return CounterReading("gate-1", channel, time_us, value, "1", since_us=since_us)

    with Trial(tmp_path, rules=rules) as trial:
        trial.outlet.deliver([said(1, 5.0, 0), said(2, 8.0, 0), said(4, 9.0, 3), said(1, 5.0, 0, "bytes")])
        assert found(trial) == [("cars", 2, 3.0), ("cars", 4, 9.0), ("bytes", 1, 5.0)]


def test_counting_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Protects the increase across a restart, and after a graceful one even overlaps bring nothing twice."""
    with Trial(tmp_path, rules=RULES) as trial:
        trial.outlet.deliver([total(0, 5.0), total(1, 7.0)])
    with Trial(tmp_path, rules=RULES) as trial:
        trial.outlet.deliver([total(0, 5.0), total(1, 7.0), total(5, 17.0)])
        assert found(trial) == [("cars", 5, 10.0)]


def test_what_may_have_been_delivered_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from counting twice after a kill when the peer does not send again: MQTT at QoS 0, a cursor that moved.

    Kafka has the second reading, and the process is killed before it knows.
    """
    with Trial(tmp_path / "first", rules=RULES) as trial:
        trial.outlet.deliver([total(0, 100.0)])
        trial.outlet.deliver([total(1, 103.0)])
        took = trial.kafka.deliver

        def deliver(messages: Sequence[Message]) -> Any:
            refused = took(messages)
            shutil.copytree(tmp_path / "first", tmp_path / "second")
            return refused

        monkeypatch.setattr(trial.kafka, "deliver", deliver)
        trial.outlet.deliver([total(2, 110.0)])
        assert found(trial) == [("cars", 1, 3.0), ("cars", 2, 7.0)]
    with Trial(tmp_path / "second", rules=RULES) as trial:
        trial.outlet.deliver([total(3, 111.0)])
        assert found(trial) == [("cars", 3, 1.0)]


def test_without_a_disk_readings_go_on(tmp_path: Path) -> None:
    """Protects readings from a folder that cannot be written: it is said once, and in this life nothing is wrong."""
    (tmp_path / "counters.db").mkdir()
    (tmp_path / "counters.db" / "file").write_text("")
    with structlog.testing.capture_logs() as logs:
        trial = Trial(tmp_path, rules=RULES, counters=tmp_path / "counters.db" / "file" / "counters.db")
        with trial:
            for at in range(3):
                trial.outlet.deliver([total(at, 2.0 * at)])
        assert found(trial) == [("cars", 1, 2.0), ("cars", 2, 2.0)]
        assert trial.count("events", event="counters_not_kept") == 3
    assert [one["log_level"] for one in logs if "counters' state" in one["event"]] == ["error"]


class Lives:
    """A peer that sends again until it is answered, and the lives of a source; what Kafka has in the end is kept.

    Args:
        path: for one folder a life: the next one is a copy of the last at the moment at which it was killed.
        seed: of everything that happens.
        patch: of Kafka, in the middle of whose deliveries kills come.
    """

    def __init__(self, path: Path, seed: int, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.random = random.Random(seed)
        self.path = path
        self.life = 0
        self.kafka: list[Message] = []
        self.totals = dict.fromkeys("abc", 1000.0)
        self.at = 0
        self.unanswered: list[Reading] = []
        self.answered: list[Reading] = []
        self.killed = False

    def give(self, count: int) -> None:
        """Let counters grow, and be reset now and then."""
        for _ in range(count):
            entity = self.random.choice("abc")
            reset = self.random.random() < 0.1
            self.totals[entity] = self.random.randint(0, 20) + (0.0 if reset else self.totals[entity])
            self.at += 1
            self.unanswered.append(total(self.at, self.totals[entity], entity=entity))

    def live(self) -> None:
        """Run until told to stop, or killed."""
        self.killed = False
        trial = Trial(self.path / str(self.life), rules=RULES, max_spool=1 << 14)
        self.patch.setattr(trial.kafka, "deliver", self._deadly(trial.kafka.deliver))
        with trial:
            for _ in range(6):
                trial.kafka.up = self.random.random() < 0.8
                self.give(self.random.randint(1, 12))
                self.send(trial)
                if self.killed:
                    break
            trial.kafka.up = True
            trial.until(lambda: not trial.spooled() or self.killed)
        if not self.killed:
            self._kill()

    def send(self, trial: Trial) -> None:
        """Send what is unanswered, in parcels side by side, and some of what was answered before it."""
        again = self.answered[len(self.answered) - self.random.choice([0, 0, 1, 2, 5]) :]
        rest = [*again, *self.unanswered]
        sent: list[tuple[list[Reading], Future[None]]] = []
        while rest:
            size = self.random.randint(1, 10)
            try:
                sent.append((rest[:size], trial.outlet.offer(rest[:size])))
            except ConnectorError:
                break
            rest = rest[size:]
        for parcel, durable in sent:
            try:
                durable.result(60.0)
            except ConnectorError:
                break
            if self.killed:
                break
            new = [one for one in parcel if one in self.unanswered]
            self.answered += new
            self.unanswered = self.unanswered[len(new) :]

    def _deadly(self, took: Callable[[Sequence[Message]], Any]) -> Callable[[Sequence[Message]], Any]:
        """Return a delivery in the middle of which the process is killed, perhaps: Kafka has taken it, or not."""
        left = self.random.choice([1, 2, 3, 4, 1000])
        had = self.random.random() < 0.5

        def deliver(messages: Sequence[Message]) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                if not self.killed:
                    self.kafka += messages if had else []
                    self._kill()
                raise SinkUnavailable("this life is over")
            refused = took(messages)
            self.kafka += messages
            return refused

        return deliver

    def _kill(self) -> None:
        """Have the next life begin with what lies on the disk just now."""
        shutil.copytree(self.path / str(self.life), self.path / str(self.life + 1))
        self.killed = True
        self.life += 1


@pytest.mark.parametrize("seed", range(6))
def test_increases_add_up_to_the_truth(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects every increase of a peer that sends again: through resets, repeats, overlaps, failures and kills."""
    lives = Lives(tmp_path, seed, monkeypatch)
    (tmp_path / "0").mkdir()
    for _ in range(6):
        lives.live()
    with Trial(tmp_path / str(lives.life), rules=RULES) as trial:
        while lives.unanswered:
            lives.killed = False
            lives.send(trial)
        trial.until(lambda: not trial.spooled())
        lives.kafka += trial.kafka.messages
        trial.kafka.messages = lives.kafka
        delivered = trial.readings()
    truth: dict[tuple[str, int], float] = {}
    before: dict[str, Total] = {}
    for one in lives.answered:
        now = Total(one.time_us, one.value or 0.0)
        if one.entity in before:
            truth[one.entity, one.time_us] = increase(before[one.entity], now)[1]
        before[one.entity] = now
    ids: dict[tuple[str, int], set[str]] = defaultdict(set)
    for one in delivered:
        ids[one.entity, one.time_us].add(one.id)
    assert {(one.entity, one.time_us): one.value for one in delivered} == truth
    assert [key for key, different in ids.items() if len(different) > 1] == [], "told twice, and differently"
