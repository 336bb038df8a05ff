"""Labels at work: a false alarm labelled once stays away, and what is different still speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.build import build_stream
from pipeline.config import loads
from pipeline.frames import Frames
from pipeline.incident import AlertMessage, Incident, Kind, Phase, Severity, Tier
from pipeline.labels import Label, LabelKind
from pipeline.lookalikes import Lookalikes, context_block, grown

STEP_US = 600_000_000
START = 2_954_016
DAY = 144
PATTERN_DAYS = (7, 10, 13, 16)
"""When the harmless pattern comes: once to be labelled, and three more times."""
DIFFERENT_DAY = 19
CONFIG = "streams: [{name: air, topics: [air], step: 10m, horizons: [1, 3], channels: [{name: no2}, {name: pm25}]}]"


def history(seed: int) -> NDArray[np.float64]:
    """Return [T, 2] calm noise with a street party in the first channel four times, and a leak in the second once."""
    random = np.random.default_rng(seed)
    steps = 21 * DAY
    noise = random.normal(size=(steps, 2))
    for t in range(1, steps):
        noise[t] += 0.6 * noise[t - 1]
    values = 20.0 + noise
    for day in PATTERN_DAYS:
        at = day * DAY + 60
        values[at : at + 9, 0] += np.array([6, 12, 16, 18, 18, 16, 12, 8, 4])
    at = DIFFERENT_DAY * DAY + 60
    values[at : at + 12, 1] -= 20.0
    return values


def replay(values: NDArray[np.float64], kind: LabelKind | None, until_us: int | None = None) -> list[AlertMessage]:
    """Return what is said when the first incident after the pattern's beginning is labelled at the next midnight."""
    stream = build_stream(loads(CONFIG).streams[0])
    stream.add_entities(["a"])
    messages: list[AlertMessage] = []
    for t, row in enumerate(values):
        there = np.ones((1, 2), np.bool_)
        frames = Frames(START + t, (START + t) * STEP_US, row[None].copy(), there, there.astype(np.int32))
        messages += stream.process(frames, (START + t) * STEP_US)[2]
        if t == (PATTERN_DAYS[0] + 2) * DAY and kind is not None:
            first = during(messages, PATTERN_DAYS[0])[0].incident_id
            about = [message for message in messages if message.incident_id == first]
            stream.stages.alerting.lookalikes.take([label_of(about, kind, until_us)])
    return messages


def during(messages: Sequence[AlertMessage], day: int) -> list[AlertMessage]:
    """Return what was said of anomalies within 20 steps from the pattern's begin on that day."""
    begin = (START + day * DAY + 60) * STEP_US
    return [m for m in messages if m.kind is Kind.ANOMALY and begin <= m.time_us < begin + 20 * STEP_US]


def label_of(messages: Sequence[AlertMessage], kind: LabelKind, until_us: int | None) -> Label:
    """Return a label of the incident that these messages tell of, as the database would hand it over."""
    last = messages[-1]
    context = last.explanation["context"]
    assert isinstance(context, Sequence)
    return Label(
        "label-1", last.incident_id, kind, "a party", until_us, "ann", last.time_us, last.stream, last.entity,
        str(last.kind), last.started_us, last.resolved_us, last.score, "", tuple(float(str(x)) for x in context),
    )  # fmt: skip


@pytest.fixture(scope="module", params=[1, 2, 4])
def values(request: pytest.FixtureRequest) -> NDArray[np.float64]:
    """Return a history per seed; with each of these the pattern alarms all four times when nothing is labelled."""
    return history(request.param)


def test_a_false_alarm_labelled_once_stays_away_and_another_anomaly_speaks(values: NDArray[np.float64]) -> None:
    """Protects operators from the same false alarm four times, and from a silence that hides what is real."""
    unlabelled, labelled = replay(values, None), replay(values, LabelKind.FALSE_ALARM)
    assert all(during(unlabelled, day) for day in PATTERN_DAYS), (
        "the pattern does not alarm by itself: nothing is shown"
    )
    assert during(labelled, PATTERN_DAYS[0])
    for day in PATTERN_DAYS[1:]:
        assert not during(labelled, day)
    opened = [m for m in during(labelled, DIFFERENT_DAY) if m.phase is Phase.OPENED]
    assert opened
    assert max(m.tier for m in during(labelled, DIFFERENT_DAY)) is Tier.ALERT


def test_silence_ends(values: NDArray[np.float64]) -> None:
    """Protects from a label that is forgotten: after its end look-alikes speak again."""
    until = (START + PATTERN_DAYS[2] * DAY) * STEP_US
    messages = replay(values, LabelKind.FALSE_ALARM, until)
    assert not during(messages, PATTERN_DAYS[1])
    assert during(messages, PATTERN_DAYS[2])


def test_a_true_alarm_keeps_speaking(values: NDArray[np.float64]) -> None:
    """Protects from a label that confirms and silences."""
    messages = replay(values, LabelKind.TRUE)
    assert all(during(messages, day) for day in PATTERN_DAYS)


def incident(context: list[float], kind: Kind = Kind.ANOMALY, name: str = "") -> Incident:
    """Return an open incident that looks like ``context``."""
    return Incident("i", "air", "a", kind, name, "a", Tier.ALERT, Severity.CRITICAL, 1, 0, 0, context=context)


def block(score: float, shares: Sequence[float], errors: Sequence[float]) -> list[float]:
    """Return a context block with two witnesses."""
    share, error = np.abs(np.array(shares, np.float32)), np.array(errors)
    return context_block(score, np.array([score, 0.2], np.float32), share, np.sign(error).astype(np.int8), error)


def false_alarm(context: list[float], kind: Kind = Kind.ANOMALY, name: str = "") -> Label:
    """Return a label of an incident that looked like ``context``."""
    return Label(
        "l", "other", LabelKind.FALSE_ALARM, "", 100, "ann", 0, "air", "a", str(kind), 0, 40, 1.0, name, tuple(context)
    )


SEEN = block(1.2, [0.9, 0.1], [6.0, 1.0])


@pytest.mark.parametrize(
    ("now", "silent"),
    [
        (SEEN, True),
        (block(1.5, [0.8, 0.2], [8.0, 1.5]), True),
        (block(2.5, [0.9, 0.1], [6.0, 1.0]), False),
        (block(1.2, [0.9, 0.1], [40.0, 1.0]), False),
        (block(1.2, [0.9, 0.1], [-6.0, 1.0]), False),
        (block(1.2, [0.1, 0.9], [1.0, 6.0]), False),
    ],
    ids=["the same", "much alike", "higher score", "larger error", "other direction", "other channel"],
)
def test_what_looks_alike(now: list[float], silent: bool) -> None:
    """Protects the meaning of alike: same channels, same directions, not much larger."""
    lookalikes = Lookalikes(2, 1000)
    lookalikes.take([false_alarm(grown([], SEEN))])
    assert bool(lookalikes.silenced_by(incident(grown([], now)), 50, now)) is silent


def test_a_silent_incident_that_grows_speaks() -> None:
    """Protects from an old label that hides what begins like a false alarm and becomes something else."""
    lookalikes = Lookalikes(2, 1000)
    lookalikes.take([false_alarm(grown([], SEEN))])
    it = incident(grown([], SEEN))
    assert lookalikes.silenced_by(it, 50, SEEN) == "lookalike"
    worse = block(3.0, [0.5, 0.5], [9.0, 30.0])
    it.context = grown(it.context, worse)
    assert lookalikes.silenced_by(it, 60, worse) == ""


def test_a_silent_incident_that_lasts_speaks() -> None:
    """Protects from a party's label that hides a leak of the same size, which does not end."""
    lookalikes = Lookalikes(2, 1000)
    lookalikes.take([false_alarm(grown([], SEEN))])
    it = incident(grown([], SEEN))
    assert [lookalikes.silenced_by(it, time_us, now) for time_us in (80, 81) for now in (SEEN, None)] == [
        "lookalike", "lookalike", "", "",
    ]  # fmt: skip


def test_what_looks_like_a_false_alarm_and_stays_is_told() -> None:
    """Protects from a silence without an end: nothing new triggers while a level stays, but there is evidence."""
    values = history(22)
    at = DIFFERENT_DAY * DAY + 60
    values[at : at + 12, 1] += 20.0  # no leak in the other channel
    values[at:, 0] += 18.0
    begin_us = (START + at) * STEP_US
    labelled = [m for m in replay(values, LabelKind.FALSE_ALARM) if m.time_us >= begin_us]
    assert [m.phase for m in labelled][:1] == [Phase.OPENED]
    assert labelled[0].time_us - begin_us > 40 * STEP_US  # it was silent at first: it looked alike


def test_what_a_false_alarm_keeps_silent_may_be_learned_from() -> None:
    """Protects the network from never learning a harmless pattern; an expected state is no normal one."""
    for kind, ordinary in ((LabelKind.FALSE_ALARM, True), (LabelKind.EXPECTED, False)):
        lookalikes = Lookalikes(2, 1000)
        lookalikes.take([replace(false_alarm(grown([], SEEN)), kind=kind)])
        it = incident(grown([], SEEN))
        assert not lookalikes.is_ordinary(it)
        assert lookalikes.silenced_by(it, 50, SEEN)
        assert lookalikes.is_ordinary(it) is ordinary


def test_each_incident_is_counted_once_by_its_label() -> None:
    """Protects the count that operators see: incidents, not messages, and none after it was read."""
    lookalikes = Lookalikes(2, 1000)
    lookalikes.take([false_alarm(grown([], SEEN))])
    it = incident(grown([], SEEN))
    for _ in range(3):
        lookalikes.silenced_by(it, 50, SEEN)
    assert lookalikes.take_counts() == {"l": 1}
    assert not lookalikes.take_counts()


def test_kinds_without_a_context_go_by_what_they_are_about() -> None:
    """Protects a stuck sensor's label from silencing another channel's."""
    lookalikes = Lookalikes(2, 1000)
    lookalikes.take([false_alarm([], Kind.STUCK, "no2")])
    assert lookalikes.silenced_by(incident([], Kind.STUCK, "no2"), 50) == "lookalike"
    assert lookalikes.silenced_by(incident([], Kind.STUCK, "pm25"), 50) == ""
    assert lookalikes.silenced_by(incident([], Kind.SILENCE), 50) == ""


def test_labels_move_the_bar_of_their_entity_alone_and_within_bounds() -> None:
    """Protects other entities from one's false alarms, and each entity from being muted by very many."""
    lookalikes = Lookalikes(2, 1000)
    assert np.all(lookalikes.bars(3, "abc".__getitem__, 50) == 1.0)
    lookalikes.take([false_alarm(SEEN)] * 50)
    assert lookalikes.bars(2, "ab".__getitem__, 50).tolist() == [1.5, 1.0]
    assert lookalikes.bars(3, "abc".__getitem__, 50).tolist() == [1.5, 1.0, 1.0]
    assert np.all(lookalikes.bars(3, "abc".__getitem__, 100) == 1.0), "labels that have ended act no more"
