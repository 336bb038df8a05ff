"""The alert store keeps what it is given, on SQLite and on a real PostgreSQL alike."""

from __future__ import annotations

import math
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text

from connectors import alert_store_engine
from connectors.alert_store import AlertStore
from connectors.alert_store_engine import Database
from connectors.alert_store_rows import AuditRow, IncidentQuery, LabelRow
from connectors.alert_store_tables import escaped, unescaped
from connectors.errors import Misconfigured, StoreRefused, StoreUnavailable
from tests.connectors.alert_rows import HOSTILE, LARGEST, number, row
from tests.kafka_broker import until
from tests.postgres_server import PostgresServer

NASTY = "".join(HOSTILE)
ANYTHING = st.text(st.characters(exclude_categories=()))


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/alerts.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh()


@pytest.fixture
def store(url: str) -> Iterator[AlertStore]:
    """A store over it."""
    store = AlertStore(url)
    yield store
    store.close()


def revisions(labels: list[LabelRow]) -> list[int]:
    """Return the labels' revisions."""
    return [label.revision for label in labels]


# ---- incidents ----


def test_what_is_kept_comes_back(store: AlertStore) -> None:
    """Protects every field of an incident from being lost on the way."""
    given_row = row(resolved_us=9, note="new normal", flapping=True, name="legal")
    store.keep([given_row])
    assert store.incidents() == [replace(given_row, body="")]
    assert [message.body for message in store.messages(number(1))] == [given_row.body]


def test_the_same_message_twice_is_one(store: AlertStore) -> None:
    """Protects from double rows when a daemon says again what it said before a crash."""
    store.keep([row(), row()])
    store.keep([row(told_us=99, body="again")])
    assert [(kept.sequence, kept.told_us) for kept in store.incidents()] == [(0, 5_000)]
    assert [message.body for message in store.messages(number(1))] == [row().body]


def test_an_older_message_never_overwrites_a_newer_one(store: AlertStore) -> None:
    """Protects an incident's state from messages that were spooled and come late."""
    store.keep([row(sequence=2), row(sequence=1)])
    store.keep([row(sequence=0)])
    (kept,) = store.incidents()
    assert kept.sequence == 2
    assert [message.sequence for message in store.messages(number(1))] == [0, 1, 2]


def test_an_end_leaves_the_reason(store: AlertStore) -> None:
    """Protects the list from telling only that it is over, of every incident that is."""
    store.keep([row(), row(sequence=1, phase="resolved", resolved_us=77, reason="over", explanation={}, context=())])
    (kept,) = store.incidents()
    assert (kept.phase, kept.resolved_us, kept.reason) == ("resolved", 77, "reason 0")
    assert kept.explanation == row().explanation
    assert kept.context == (1.0, 2.0)


def test_the_newest_context_counts(store: AlertStore) -> None:
    """Protects look-alikes from being compared with how an incident began."""
    store.keep([row(), row(sequence=1, context=(3.0, 4.0)), row(sequence=2, context=())])
    assert store.incidents()[0].context == (3.0, 4.0)


def test_a_batch_costs_the_same_few_statements_whatever_its_size(tmp_path: Path) -> None:
    """Protects the loop, which gives up Python's lock for every step that a thread makes in SQLite."""
    store = AlertStore(f"sqlite:///{tmp_path}/alerts.db")
    store.keep([row(99)])
    said: list[str] = []
    event.listen(store._database._engine, "checkout", lambda raw, *_: raw.set_trace_callback(said.append))
    store.keep([row(n % 10, sequence=n // 10, body=str(n)) for n in range(50)])
    assert [words.split()[0] for words in said] == ["BEGIN", "INSERT", "INSERT", "SELECT", "COMMIT"]
    assert [(kept.sequence, kept.reason) for kept in store.incidents()][-10:] == [(4, "reason 4")] * 10
    assert [message.body for message in store.messages(number(7))] == ["7", "17", "27", "37", "47"]


def test_a_batch_beyond_what_one_statement_takes_is_kept(tmp_path: Path) -> None:
    """Protects whoever keeps many rows from SQLite's bound on parameters, which builds may raise."""
    store = AlertStore(f"sqlite:///{tmp_path}/alerts.db")
    store.migrate()
    bound = sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER
    event.listen(store._database._engine, "checkout", lambda raw, *_: raw.setlimit(bound, 32_766))
    store.keep([row(n) for n in range(1_500)])
    assert store.count() == 1_500


def test_any_text_is_stored(store: AlertStore) -> None:
    """Protects from sensors whose names PostgreSQL, UTF-8 or SQL cannot bear."""
    for n, any_text in enumerate(HOSTILE):
        names: dict[str, Any] = dict.fromkeys(("stream", "entity", "name", "site", "reason"), any_text)
        hostile = row(n, 0, explanation={any_text: [any_text]}, **names)
        store.keep([hostile])
        assert store.incidents(IncidentQuery(stream=any_text, entity=any_text)) == [replace(hostile, body="")]
        label = store.label(number(n), "true", any_text, None, any_text, 5)
        assert label is not None
        assert (label.reason, label.author, label.entity) == (any_text, any_text, any_text)


@given(ANYTHING)
def test_escaping_loses_nothing(said: str) -> None:
    """Protects every text from being another one when it comes back; what is stored is always valid UTF-8."""
    assert unescaped(escaped(said)) == said
    assert b"\x00" not in escaped(said).encode()


def test_times_reach_as_far_as_the_arrays(store: AlertStore) -> None:
    """Protects from an overflow that stops every message behind it."""
    far = row(started_us=-LARGEST, opened_us=LARGEST, resolved_us=LARGEST, first_step=-LARGEST, told_us=LARGEST)
    store.keep([far])
    assert store.incidents() == [replace(far, body="")]


@pytest.mark.parametrize(
    "bad", [row(2, explanation={"x": math.nan}), row(2, first_step=LARGEST + 1)], ids=["not finite", "too large"]
)
def test_a_row_that_cannot_be_kept_is_refused_with_its_batch(store: AlertStore, bad: object) -> None:
    """Protects from retrying for ever what can never work, and from keeping half of a batch."""
    with pytest.raises(StoreRefused):
        store.keep([row(1), bad])  # type: ignore[list-item]
    assert store.incidents() == []


def test_incidents_are_chosen(store: AlertStore) -> None:
    """Protects the filters of the list, and what training asks for."""
    store.keep([row(1), row(2, resolved_us=2_500), row(3, stream="water"), row(4, entity="x", opened_us=9_000)])

    def ids(query: IncidentQuery) -> list[int]:
        return [int(found.id, 16) for found in store.incidents(query)]

    assert ids(IncidentQuery()) == [4, 3, 2, 1]
    assert ids(IncidentQuery(stream="air")) == [4, 2, 1]
    assert ids(IncidentQuery(entity="x")) == [4]
    assert ids(IncidentQuery(open_only=True)) == [4, 3, 1]
    assert ids(IncidentQuery(opened_from_us=2_003)) == [4, 3]
    assert ids(IncidentQuery(limit=1)) == [4]
    assert ids(IncidentQuery(overlaps_us=(2_501, 3_000))) == [4, 3, 1]
    assert ids(IncidentQuery(overlaps_us=(0, 1_001))) == [1]


def test_incidents_are_searched_counted_and_paged(store: AlertStore) -> None:
    """Protects lists of 100,000 incidents: the database finds, counts and cuts, and a percent sign is no wild card."""
    store.keep([row(i, entity=f"Pump {i} 100%", tier=1 + i % 2) for i in range(1, 8)])
    store.keep([row(9, entity=NASTY, kind="silence", opened_us=1)])

    def ids(**wanted: Any) -> list[int]:
        return [int(found.id, 16) for found in store.incidents(IncidentQuery(**wanted))]

    assert ids(search="pump", limit=2, offset=3) == [4, 3]
    assert store.count(IncidentQuery(search="PUMP", limit=2, offset=3)) == 7
    assert ids(search="3 100%") == [3]
    assert ids(search="%ump") == ids(search="_ump") == []
    assert ids(search=NASTY[:40]) == [9]
    assert ids(search=number(9)) == [9]
    assert ids(kind="silence") == [9]
    assert ids(least_tier=2, search="pump") == [7, 5, 3, 1]
    assert ids(urgent_first=True, search="pump") == [7, 5, 3, 1, 6, 4, 2]


def test_ids_are_found_by_their_beginning(store: AlertStore) -> None:
    """Protects short ids; a percent sign is no wild card."""
    store.keep([row(1, id="a1" * 16), row(2, id="a2" * 16)])
    assert [found.id[:2] for found in store.find("a1")] == ["a1"]
    assert len(store.find("a")) == 2
    assert len(store.find("a", limit=1)) == 1
    assert store.find("%") == []


def test_what_is_old_goes(store: AlertStore) -> None:
    """Protects the disk; what a label still acts for stays, what goes takes its messages and labels along."""
    store.keep([row(1, told_us=10), row(2, told_us=10), row(3, told_us=20)])
    store.label(number(1), "true", "", None, "kim", 10)
    store.label(number(2), "expected", "works", 99, "kim", 10)
    assert store.retain(20) == 1
    assert [kept.id for kept in store.incidents()] == [number(3), number(2)]
    assert store.messages(number(1)) == []
    assert [label.incident_id for label in store.labels()] == [number(2)]


# ---- what people did ----


def test_what_people_did_is_kept_in_its_order_and_goes_with_its_time(store: AlertStore) -> None:
    """Protects the record: whoever acted, on whatever, however it ended, and also where nobody knows how."""
    done = [AuditRow(str(i), 10 * i, NASTY, "act", "label", NASTY, "asked", "begun") for i in range(4)]
    for each in done:
        store.begin_action(each)
    store.end_action("2", "done", NASTY)
    found = store.actions(2, offset=1)
    assert found == [replace(done[2], outcome="done", detail=NASTY), done[1]]
    assert store.count_actions() == 4
    store.retain(20)
    assert [each.id for each in store.actions(9)] == ["3", "2"]


# ---- labels ----


def test_the_latest_label_counts(store: AlertStore) -> None:
    """Protects operators who change their mind; what was said before stays to be seen."""
    store.keep([row(score=2.5, resolved_us=77, name="legal")])
    assert store.label(number(1), "true", "", None, "kim", 10) is not None
    second = store.label(number(1), "false_alarm", "fog", 99, "lee", 11)
    first, newest = store.labels_of([number(1)])
    assert (first.kind, first.withdrawn_us) == ("true", 11)
    assert newest == second
    assert (newest.kind, newest.reason, newest.until_us, newest.author) == ("false_alarm", "fog", 99, "lee")
    assert (newest.created_us, newest.withdrawn_us, newest.silenced) == (11, None, 0)
    assert (newest.stream, newest.entity, newest.incident_kind) == ("air", "station-1", "anomaly")
    assert (newest.name, newest.started_us, newest.resolved_us, newest.score) == ("legal", 1_001, 77, 2.5)
    assert newest.context == (1.0, 2.0)


def test_a_label_is_taken_back(store: AlertStore) -> None:
    """Protects the way back."""
    store.keep([row()])
    store.label(number(1), "true", "", None, "kim", 10)
    assert store.withdraw(number(1), "lee", 12) is True
    assert store.withdraw(number(1), "lee", 13) is False
    assert [label.withdrawn_us for label in store.labels()] == [12]


def test_an_unknown_incident_is_not_labelled(store: AlertStore) -> None:
    """Protects from labels about nothing, whatever is given for an id."""
    for unknown in (number(9), *HOSTILE):
        assert store.label(unknown, "true", "", None, "kim", 1) is None
        assert store.withdraw(unknown, "kim", 1) is None
    assert store.labels() == []


def test_a_label_said_twice_is_said_once(store: AlertStore) -> None:
    """Protects a newer label from an older one that Kafka brings again."""
    store.keep([row()])
    store.label(number(1), "true", "", None, "kim", 10, label_id="a")
    newest = store.label(number(1), "false_alarm", "", None, "lee", 11)
    again = store.label(number(1), "true", "", None, "kim", 12, label_id="a")
    assert again is not None
    assert again.withdrawn_us == 11
    assert [label for label in store.labels() if label.withdrawn_us is None] == [newest]


def test_only_what_changed_is_read_again(store: AlertStore) -> None:
    """Protects followers from reading everything, and from missing how a labelled incident goes on."""
    store.keep([row(1), row(2)])
    store.label(number(1), "true", "", None, "kim", 10)
    store.label(number(2), "true", "", None, "kim", 10)
    (seen,) = store.labels(after_revision=1)
    assert (seen.incident_id, seen.revision) == (number(2), 2)
    assert store.labels(after_revision=2) == []
    store.keep([row(1, sequence=1, resolved_us=77, phase="resolved")])
    (changed,) = store.labels(after_revision=2)
    assert (changed.incident_id, changed.resolved_us) == (number(1), 77)
    store.withdraw(number(2), "kim", 11)
    (withdrawn,) = store.labels(after_revision=changed.revision)
    assert (withdrawn.incident_id, withdrawn.withdrawn_us) == (number(2), 11)


def test_what_labels_kept_silent_adds_up(store: AlertStore) -> None:
    """Protects the visible count of what was suppressed."""
    store.keep([row()])
    store.label(number(1), "false_alarm", "", None, "kim", 10, label_id="a")
    store.silenced({"a": 2, "gone": 5})
    store.silenced({"a": 1})
    assert [label.silenced for label in store.labels()] == [3]


# ---- several at once ----


def test_followers_miss_nothing_while_many_write(url: str) -> None:
    """Protects from revisions that become visible out of their order, and from two labels that act at once."""
    stores = [AlertStore(url) for _ in range(4)]
    stores[0].keep([row(n) for n in range(3)])
    writing = threading.Event()
    writing.set()
    seen: dict[str, LabelRow] = {}

    def follow() -> None:
        newest, last = 0, False
        while not last:
            last = not writing.is_set()
            for label in stores[3].labels(newest):
                seen[label.id] = label
                newest = max(newest, label.revision)

    def write(writer: int) -> None:
        for i in range(10):
            stores[writer].keep([row(n, sequence=10 * writer + i) for n in range(3)])
            stores[writer].label(number(i % 3), "true", "", None, f"writer-{writer}", i)

    with ThreadPoolExecutor(4) as pool:
        follower = pool.submit(follow)
        for done in [pool.submit(write, writer) for writer in range(3)]:
            done.result()
        writing.clear()
        follower.result()
    everything = stores[0].labels()
    assert len(everything) == 30
    assert {label.id: label for label in everything} == seen
    assert len({label.incident_id for label in everything if label.withdrawn_us is None}) == 3
    assert sum(label.withdrawn_us is None for label in everything) == 3
    for each in stores:
        each.close()


def test_a_label_waits_for_whoever_changes_its_incident(postgres: PostgresServer) -> None:
    """Protects followers from a label that never learns how its incident went on: SQLite's writers wait anyway."""
    url = postgres.fresh()
    store, keeper = AlertStore(url), Database(url)
    store.keep([row()])
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with ThreadPoolExecutor(1) as pool:
        with keeper.writing() as keeping, keeper.reading() as watching:
            keeping.execute(text("UPDATE incidents SET resolved_us = 77"))
            labelling = pool.submit(store.label, number(1), "true", "", None, "kim", 10)
            until(lambda: labelling.done() or watching.execute(waiting).scalar_one() > 0)
            assert not labelling.done()
        label = labelling.result()
    assert label is not None
    assert label.resolved_us == 77
    keeper.close()
    store.close()


def test_a_locked_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a daemon from a command line that writes at the same moment; one that holds on for ever is said."""
    monkeypatch.setattr(alert_store_engine, "_LOCK_S", 0.05)
    hasty = AlertStore(f"sqlite:///{tmp_path}/alerts.db")
    hasty.keep([row(1)])
    monkeypatch.setattr(alert_store_engine, "_LOCK_S", 30)
    patient = AlertStore(f"sqlite:///{tmp_path}/alerts.db")
    other = sqlite3.connect(tmp_path / "alerts.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        hasty.keep([row(2)])
    assert len(hasty.incidents()) == 1  # reading goes on meanwhile
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(patient.keep, [row(2)])
        other.execute("ROLLBACK")
        waiting.result()
    other.close()
    assert len(hasty.incidents()) == 2


# ---- what can go wrong ----


def test_a_server_that_comes_back_is_used_again(postgres: PostgresServer) -> None:
    """Protects a daemon from a restart of its database."""
    store = AlertStore(postgres.fresh())
    store.keep([row(1)])
    postgres.stop()
    try:
        with pytest.raises(StoreUnavailable):
            store.keep([row(2)])
    finally:
        postgres.start()
    store.keep([row(2)])
    assert len(store.incidents()) == 2
    store.close()


def test_a_file_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    """Protects from writing into a file that nobody can read any more."""
    store = AlertStore(f"sqlite:///{tmp_path}/alerts.db")
    store.keep([row(1)])
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(StoreUnavailable, match="there is no alert database"):
        store.keep([row(2)])
    store.keep([row(2)])
    assert [kept.id for kept in store.incidents()] == [number(2)]


def test_a_file_that_was_replaced_is_the_one_written_to(tmp_path: Path) -> None:
    """Protects a database that was restored from a copy while the daemon runs; connections are kept all the same."""
    store, copy = AlertStore(f"sqlite:///{tmp_path}/alerts.db"), tmp_path / "copy.db"
    opened: list[object] = []
    event.listen(store._database._engine, "connect", lambda raw, _: opened.append(raw))
    store.keep([row(1)])
    with closing(sqlite3.connect(tmp_path / "alerts.db")) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    for n in range(2, 9):
        store.keep([row(n)])
    assert len(opened) == 1
    copy.replace(tmp_path / "alerts.db")
    for ending in ("-wal", "-shm"):
        (tmp_path / f"alerts.db{ending}").unlink()
    store.keep([row(9)])
    assert len(opened) == 2
    assert {kept.id for kept in store.incidents()} == {number(1), number(9)}
    with closing(AlertStore(f"sqlite:///{tmp_path}/alerts.db")) as another:
        assert {kept.id for kept in another.incidents()} == {number(1), number(9)}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://kim:pass-word@host/db", "no database for mysql"),
        ("postgresql+asyncpg://kim:pass-word@host/db", "allowed: sqlite:///PATH"),
        ("sqlite://", "in memory keeps nothing"),
        ("sqlite:///:memory:", "in memory keeps nothing"),
    ],
)
def test_an_unusable_url_is_explained(url: str, said: str) -> None:
    """Protects whoever configures it; the password stays unsaid."""
    with pytest.raises(Misconfigured, match=said) as caught:
        AlertStore(url)
    assert "pass-word" not in str(caught.value)


def test_a_missing_driver_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects those who installed without PostgreSQL."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Misconfigured, match=r"vedette\[postgres\]"):
        AlertStore("postgresql://kim:pass-word@host/db")


def test_an_absent_server_is_said_without_its_password() -> None:
    """Protects secrets from logs."""
    store = AlertStore("postgresql://kim:pass-word@127.0.0.1:1/db")
    with pytest.raises(StoreUnavailable, match=r"db at 127\.0\.0\.1:1") as caught:
        store.keep([row()])
    assert "pass-word" not in str(caught.value)
