"""Alerts reach the database whatever becomes of it, and the loop never waits for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given

from connectors.alert_store import AlertStore
from pipeline.alert_keeping import AlertKeeping
from pipeline.alert_rows import incident_row
from pipeline.alert_spool import AlertSpool
from pipeline.incident import AlertMessage, Phase, decode
from tests.pipeline.alert_parts import START_US, FakeStore, Numbers, id_of, message
from tests.pipeline.receiver_parts import wait_until
from tests.pipeline.test_incident import MESSAGES

Make = Callable[..., AlertKeeping]

KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.alert_keeping import AlertKeeping
from pipeline.alert_spool import AlertSpool
from tests.pipeline.alert_parts import FakeStore, Numbers, message
store = FakeStore()
store.open.clear()
keeping = AlertKeeping(store, AlertSpool(Path(sys.argv[1])), Numbers().metrics.models, retention_us=1)
keeping.add([message(n) for n in range(3)])
assert keeping.flush(30.0)
keeping.add([message(3)])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def store() -> Iterator[FakeStore]:
    """A database."""
    store = FakeStore()
    yield store
    store.open.set()


@pytest.fixture
def numbers() -> Numbers:
    """What is counted."""
    return Numbers()


@pytest.fixture
def make(store: FakeStore, numbers: Numbers, tmp_path: Path) -> Iterator[Make]:
    """Return a function that begins to keep alerts in the store; what it made is closed in the end."""
    made: list[AlertKeeping] = []

    def make(spool: AlertSpool | None = None, **options: object) -> AlertKeeping:
        chosen = {"retention_us": 1_000, "now_us": lambda: START_US, "first_wait_s": 0.001, "longest_wait_s": 0.002}
        spool = spool or AlertSpool(tmp_path / "spool")
        keeping = AlertKeeping(store, spool, numbers.metrics.models, **chosen | options)  # type: ignore[arg-type]
        made.append(keeping)
        return keeping

    yield make
    store.open.set()
    store.away = False
    for keeping in made:
        keeping.close(30.0)


class FullDisk(AlertSpool):
    """A spool whose disk takes nothing while it is full."""

    full = True

    def append(self, lines: Sequence[bytes]) -> None:
        """Fail."""
        if self.full:
            raise OSError(28, "No space left on device")
        super().append(lines)


def test_messages_arrive_in_their_order(make: Make, store: FakeStore, numbers: Numbers) -> None:
    """Protects the plain case: what is added is in the database soon, without anybody flushing."""
    keeping = make()
    for sequence in range(3):
        keeping.add([message(n, sequence) for n in range(2)])
    store.wait_until(lambda: len(store.rows) == 6)
    assert store.said() == [(f"station-{n}", sequence) for sequence in range(3) for n in range(2)]
    keeping.close(30.0)
    assert keeping.waiting == 0
    assert numbers.value("database_waiting") == 0.0


def test_a_database_that_hangs_holds_up_nobody(make: Make, store: FakeStore, numbers: Numbers) -> None:
    """Protects scoring: adding and flushing return while a call to the database does not."""
    keeping = make()
    store.wait_until(lambda: bool(store.oldest_us))
    store.open.clear()
    before = store.calls
    keeping.add([message(0)])
    store.wait_until(lambda: store.calls > before)  # its thread hangs now
    for n in range(1, 1_000):
        keeping.add([message(n)])
        assert n % 100 or keeping.flush(30.0)
    assert keeping.flush(30.0)
    assert store.rows == []
    assert keeping.waiting == 1_000
    assert numbers.value("database_waiting") == 1_000.0
    store.open.set()
    store.wait_until(lambda: len(store.rows) == 1_000)
    assert store.said() == [(f"station-{n}", 0) for n in range(1_000)]


def test_an_outage_is_ridden_out(make: Make, store: FakeStore, numbers: Numbers) -> None:
    """Protects what is said while the database is away; failures are counted, and all comes in its order."""
    store.away = True
    keeping = make()
    for n in range(5):
        keeping.add([message(n)])
        assert keeping.flush(30.0)
    before = store.calls
    store.wait_until(lambda: store.calls >= before + 4)  # by the fourth call three have failed, and are counted
    assert store.rows == []
    store.away = False
    store.wait_until(lambda: len(store.rows) >= 5)
    assert store.said() == [(f"station-{n}", 0) for n in range(5)]
    failures = numbers.value("database_errors_total")
    assert failures is not None
    assert failures >= 3


def test_what_was_flushed_outlasts_kill_9(make: Make, store: FakeStore, tmp_path: Path) -> None:
    """Protects messages whose offsets were committed: flush says that they are safe."""
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "spool")], cwd=Path(__file__).parents[2], check=False
    )
    assert process.returncode == -9
    make()
    store.wait_until(lambda: len(store.rows) >= 3)
    assert store.said()[:3] == [(f"station-{n}", 0) for n in range(3)]


def test_closing_in_an_outage_leaves_the_rest_to_the_next_start(make: Make, store: FakeStore) -> None:
    """Protects messages from a restart while the database is away."""
    store.away = True
    keeping = make()
    keeping.add([message(0), message(1)])
    keeping.close(30.0)
    store.away = False
    make()
    store.wait_until(lambda: len(store.rows) == 2)


def test_beyond_the_bound_the_oldest_are_dropped_and_counted(
    make: Make, store: FakeStore, numbers: Numbers, tmp_path: Path
) -> None:
    """Protects the disk; the newest are worth most."""
    store.away = True
    keeping = make(AlertSpool(tmp_path / "spool", max_bytes=20_000))
    for n in range(100):
        keeping.add([message(n)])
        keeping.flush(30.0)
    lost = keeping.lost
    assert 0 < lost < 100
    assert keeping.waiting == 100 - lost
    assert numbers.value("database_dropped_total") == lost
    store.away = False
    store.wait_until(lambda: len(store.rows) == 100 - lost)
    assert store.said() == [(f"station-{n}", 0) for n in range(lost, 100)]


def test_a_full_disk_is_said_and_the_database_used_directly(make: Make, store: FakeStore, tmp_path: Path) -> None:
    """Protects messages from a disk that takes nothing: they wait in memory, and go on from there."""
    store.away = True
    keeping = make(FullDisk(tmp_path / "spool"), max_pending=3)
    keeping.add([message(n) for n in range(5)])
    assert not keeping.flush(30.0)
    wait_until(lambda: (keeping.waiting, keeping.lost) == (3, 2))  # its thread has them in hand now and then
    store.away = False
    store.wait_until(lambda: len(store.rows) == 3)
    assert store.said() == [(f"station-{n}", 0) for n in range(2, 5)]


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_full_disk_beside_a_database_that_hangs_holds_up_nobody(
    make: Make, store: FakeStore, tmp_path: Path, comes_back: bool
) -> None:
    """Protects scoring where neither takes anything, and what is between them when one of them does again."""
    disk = FullDisk(tmp_path / "spool")
    keeping = make(disk)
    store.wait_until(lambda: bool(store.oldest_us))
    store.open.clear()
    before = store.calls
    keeping.add([message(0)])
    store.wait_until(lambda: store.calls > before)  # it is on its way from memory into a database that hangs
    keeping.add([message(1)])
    assert not keeping.flush(30.0), "message 0 is nowhere yet"
    assert keeping.waiting == 2
    disk.full = False
    assert keeping.flush(30.0), "the disk has both"
    assert keeping.waiting == 2
    store.away = not comes_back
    before = store.calls
    store.open.set()
    store.wait_until(lambda: store.calls > before)
    store.away = False
    keeping.close(30.0)
    assert set(store.said()) == {("station-0", 0), ("station-1", 0)}
    assert store.said().count(("station-1", 0)) == 1
    assert (keeping.waiting, keeping.lost) == (0, 0)


def test_a_refused_message_holds_up_no_other(make: Make, store: FakeStore) -> None:
    """Protects from one row that the database will never take."""
    store.poison = "station-1"
    keeping = make()
    keeping.add([message(n) for n in range(3)])
    store.wait_until(lambda: len(store.rows) == 2)
    assert store.said() == [("station-0", 0), ("station-2", 0)]
    keeping.close(30.0)
    assert (keeping.lost, keeping.waiting) == (1, 0)


def test_a_defect_does_not_end_the_thread(make: Make, store: FakeStore) -> None:
    """Protects from alerts that silently never arrive again."""
    store.defect = True
    keeping = make()
    keeping.add([message(0)])
    store.wait_until(lambda: store.calls >= 2)
    store.defect = False
    store.wait_until(lambda: len(store.rows) == 1)


def test_a_damaged_line_is_left_out(make: Make, store: FakeStore, tmp_path: Path) -> None:
    """Protects from a spool that a crash cut short."""
    spool = AlertSpool(tmp_path / "spool")
    spool.append([b'{"specversion": "1.'])
    keeping = make(spool)
    keeping.add([message(0)])
    store.wait_until(lambda: len(store.rows) == 1)


def test_counts_of_silence_arrive_once(make: Make, store: FakeStore) -> None:
    """Protects the visible count of what labels suppressed, through an outage."""
    store.away = True
    keeping = make()
    keeping.silenced({"label": 2})
    keeping.silenced({"label": 1, "other": 1})
    before = store.calls
    store.wait_until(lambda: store.calls >= before + 2)
    store.away = False
    store.wait_until(lambda: sum(store.counts.values()) >= 4)
    assert store.counts == {"label": 3, "other": 1}


def test_what_is_old_is_removed(make: Make, store: FakeStore) -> None:
    """Protects the database from growing for ever."""
    make()
    store.wait_until(lambda: bool(store.oldest_us))
    assert store.oldest_us == [START_US - 1_000]


@given(MESSAGES)
def test_a_message_keeps_everything_as_a_row(said: AlertMessage) -> None:
    """Protects the row's body from being another message, and its times and names from being mixed up."""
    row = incident_row(said)
    assert decode(row.body.encode()) == said
    assert (row.id, row.entity, row.tier, row.phase) == (said.incident_id, said.entity, said.tier, said.phase)
    times = (said.started_us, said.opened_us, said.time_us, said.told_us, said.resolved_us)
    assert (row.started_us, row.opened_us, row.time_us, row.told_us, row.resolved_us) == times


def test_a_real_database_gets_it_all(tmp_path: Path, numbers: Numbers) -> None:
    """Protects the way from message to row, context included, through a database that is made on the way."""
    store = AlertStore(f"sqlite:///{tmp_path}/state/vedette.db")
    keeping = AlertKeeping(store, AlertSpool(tmp_path / "spool"), numbers.metrics.models, retention_us=10**15)
    keeping.add([message(0), message(0, 1, phase=Phase.RESOLVED, resolved_us=START_US + 9, reason="over")])
    keeping.close(30.0)
    (kept,) = store.incidents()
    assert (kept.id, kept.sequence, kept.resolved_us) == (id_of(0), 1, START_US + 9)
    assert kept.reason == message(0).reason
    assert kept.context == (1.0, 2.0)
    assert numbers.value("database_waiting") == 0.0
