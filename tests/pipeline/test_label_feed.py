"""The label feed hands the loop what operators said, whole and at once, also without a database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from connectors.alert_store_rows import LabelRow
from connectors.errors import StoreUnavailable
from pipeline.label_feed import LabelFeed, load_labels
from pipeline.labels import LabelKind
from tests.pipeline.alert_parts import START_US, Numbers

LOOKALIKES_US = 1_000


def label(n: int, revision: int, **changes: object) -> LabelRow:
    """Return label ``n``."""
    plain = LabelRow(
        id=f"label-{n}",
        incident_id=f"{n:032x}",
        kind="false_alarm",
        reason="fog",
        until_us=None,
        author="kim",
        created_us=START_US + n,
        withdrawn_us=None,
        silenced=0,
        revision=revision,
        stream="air",
        entity="station-1",
        incident_kind="anomaly",
        name="legal",
        started_us=START_US - 5,
        resolved_us=None,
        score=1.5,
        context=(1.0, 2.0),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


class Labels:
    """A database of labels; ``open`` cleared makes it hang, ``away`` fail."""

    def __init__(self, *rows: LabelRow) -> None:
        self.rows = list(rows)
        self.away = False
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Semaphore(0)
        self.after: list[int] = []

    def labels(self, after_revision: int = 0) -> list[LabelRow]:
        """Return those that are newer."""
        self.asked.release()
        self.after.append(after_revision)
        self.open.wait()
        if self.away:
            raise StoreUnavailable("gone")
        return [row for row in self.rows if row.revision > after_revision]


@pytest.fixture
def numbers() -> Numbers:
    """What is counted."""
    return Numbers()


@pytest.fixture
def store() -> Labels:
    """A database."""
    return Labels()


@pytest.fixture
def feed(store: Labels, numbers: Numbers) -> Iterator[LabelFeed]:
    """A feed that asks only when it is told to."""
    options = {"refresh_s": 3_600.0, "lookalikes_us": LOOKALIKES_US}
    feed = LabelFeed(store, numbers.metrics.models, **options, now_us=lambda: START_US + 500)  # type: ignore[arg-type]
    yield feed
    store.open.set()
    feed.close(30.0)


def refreshed(feed: LabelFeed, store: Labels) -> None:
    """Have the feed ask; return when it has taken the answer."""
    for _ in range(2):  # the second question comes after the first one's answer was taken
        while store.asked.acquire(blocking=False):
            pass
        feed.refresh()
        assert store.asked.acquire(timeout=30.0)


def test_labels_are_there_before_the_loop_begins(feed: LabelFeed, store: Labels) -> None:
    """Protects from alerts, right after a restart, that operators have long called false."""
    store.rows = [label(2, 1), label(1, 2, stream="water")]
    assert feed.start(30.0)
    assert set(feed.current()) == {"air", "water"}
    (known,) = feed.current()["air"]
    assert (known.id, known.kind, known.reason, known.author) == ("label-2", LabelKind.FALSE_ALARM, "fog", "kim")
    assert (known.name, known.started_us, known.ended_us, known.context) == ("legal", START_US - 5, None, (1.0, 2.0))
    with pytest.raises(TypeError):
        feed.current()["air"] = ()  # type: ignore[index]


def test_a_dead_database_does_not_stop_the_start(feed: LabelFeed, store: Labels) -> None:
    """Protects scoring from a database that does not answer; the labels come when it does."""
    store.rows = [label(1, 1)]
    store.open.clear()
    assert not feed.start(0.01)
    assert feed.current() == {}
    store.open.set()
    refreshed(feed, store)
    assert len(feed.current()["air"]) == 1


def test_there_is_a_new_object_only_when_something_changed(feed: LabelFeed, store: Labels) -> None:
    """Protects the loop from work at every look; what changes changes whole."""
    store.rows = [label(1, 1)]
    feed.start(30.0)
    first = feed.current()
    refreshed(feed, store)
    assert feed.current() is first
    store.rows = [label(1, 1), label(2, 2)]
    refreshed(feed, store)
    assert [known.id for known in feed.current()["air"]] == ["label-1", "label-2"]
    assert [known.id for known in first["air"]] == ["label-1"]
    assert set(store.after[2:]) <= {1, 2}, "it asks for what is newer only"


def test_a_label_that_was_taken_back_goes(feed: LabelFeed, store: Labels) -> None:
    """Protects the way back; and kinds that only a newer version knows are left out."""
    store.rows = [label(1, 1), label(3, 1, kind="from the future")]
    feed.start(30.0)
    store.rows = [label(1, 2, withdrawn_us=START_US)]
    refreshed(feed, store)
    assert feed.current() == {}


def test_labels_stay_while_the_database_is_away(feed: LabelFeed, store: Labels, numbers: Numbers) -> None:
    """Protects from alerts that come back with an outage; afterwards all is read anew, lest it be another database."""
    store.rows = [label(1, 5)]
    feed.start(30.0)
    before = feed.current()
    store.away = True
    refreshed(feed, store)
    assert feed.current() is before
    failures = numbers.value("database_errors_total")
    assert failures is not None
    assert failures >= 1
    store.rows = [label(2, 1)]  # first: the last question may be on its way still, and must not find the old ones
    store.away = False
    refreshed(feed, store)
    assert [known.id for known in feed.current()["air"]] == ["label-2"]


def test_those_that_act_are_counted(feed: LabelFeed, store: Labels, numbers: Numbers) -> None:
    """Protects operators from silence that nobody sees; what has ended does not count."""
    ended = {"until_us": START_US + 400}
    store.rows = [label(1, 1), label(2, 1, **ended), label(3, 1, kind="true"), label(4, 1, kind="expected", **ended)]
    feed.start(30.0)
    refreshed(feed, store)
    assert numbers.value("labels", stream="air", kind="false_alarm") == 1.0
    assert numbers.value("labels", stream="air", kind="expected") == 0.0
    assert numbers.value("labels", stream="air", kind="true") == 1.0
    store.rows = [label(1, 2, withdrawn_us=1)]
    refreshed(feed, store)
    assert numbers.value("labels", stream="air", kind="false_alarm") == 0.0


def test_a_process_that_does_not_follow_reads_them_once() -> None:
    """Protects training from labels that were taken back."""
    labels = load_labels(Labels(label(2, 1), label(1, 2), label(3, 3, withdrawn_us=1)))
    assert [known.id for known in labels["air"]] == ["label-1", "label-2"]
