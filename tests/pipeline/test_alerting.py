"""The life of anomaly incidents and what their messages say."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.explanation import AttentionMoment, AttentionSummary, NearestMoment
from pipeline.alerting import Alerting, AnomalyPolicy
from pipeline.incident import AlertMessage, Kind, Phase, Severity, Tier, decode, encode, incident_id
from pipeline.lifecycle import LifePolicy
from pipeline.maintenance import Maintenance, MaintenanceWindow
from tests.pipeline.incident_parts import START, STEP_US, facts, frames, verdict

CHANNELS, UNITS = ("pm25",), ("ug/m3",)
NOW_US = 1_800_000_000_000_000


def alerting(policy: AnomalyPolicy | None = None, maintenance: Maintenance | None = None, n: int = 4) -> Alerting:
    """Return an alerting over PM2.5."""
    return Alerting(facts(maintenance), CHANNELS, UNITS, ("level", "novelty"), 1e-4, policy, capacity=n)


def take(
    subject: Alerting,
    step: int,
    scores: Sequence[float],
    emitted: Sequence[float] | None = None,
    alert: Sequence[float] | None = None,
    values: Sequence[float | None] | None = None,
    summary: AttentionSummary | None = None,
) -> list[AlertMessage]:
    """Let one step pass: PM2.5 of each entity is 182 where 59 ± 18 was expected, unless said otherwise."""
    n = len(scores)
    came = frames(step, [[182.0 if values is None else values[i]] for i in range(n)])
    expected, spread = np.full((n, 1), 59.0), np.full((n, 1), 18 / 2.2152, np.float32)
    return subject.step(came, verdict(scores, emitted, alert), expected, spread, lambda _: summary, NOW_US)


def phases(messages: Sequence[AlertMessage]) -> list[tuple[Phase, Tier]]:
    """Return what was said, and in which tier."""
    return [(m.phase, m.tier) for m in messages]


def test_a_watch_opens_grows_into_an_alert_and_resolves_as_one_incident() -> None:
    """Protects the two tiers: one id through the whole life, ascending numbers, and the detector sees it open."""
    subject = alerting()
    said = take(subject, 0, [0.2])
    assert said == []
    said += take(subject, 1, [1.3])
    assert subject.level(1).tolist() == [1]
    assert subject.open_incident(1).tolist() == [True]
    said += take(subject, 2, [2.0], emitted=[0], alert=[1.1])
    assert subject.level(1).tolist() == [2]
    for step in (3, 4, 5, 6):
        said += take(subject, step, [0.4])
    assert phases(said) == [(Phase.OPENED, 1), (Phase.UPDATED, 2), (Phase.RESOLVED, 2)]
    assert {m.incident_id for m in said} == {incident_id("air", "north/station-0", Kind.ANOMALY, START + 1)}
    assert [m.sequence for m in said] == [0, 1, 2]
    assert [m.severity for m in said] == [Severity.INFO, Severity.CRITICAL, Severity.CRITICAL]
    assert said[2].resolved_us == (START + 5) * STEP_US  # the third calm step
    assert said[2].score == pytest.approx(2.0)
    assert subject.level(1).tolist() == [0]
    assert subject.open_incidents() == []
    assert (subject.counts.opened, subject.counts.resolved) == (1, 1)


def test_the_message_says_what_came_what_was_expected_and_what_was_looked_at() -> None:
    """Protects the reason for being: numbers and words of the issue's own example, through JSON."""
    summary = AttentionSummary(
        (
            AttentionMoment("recent", "2 h before", None, 0.6, 7200.0),
            AttentionMoment("lag", "the same hour yesterday", 1_772_323_200_000_000, 0.4, 86_400.0),
        ),
        NearestMoment(1_772_510_400_000_000, 3.5, "pm25"),
    )
    (said,) = take(alerting(), 0, [1.5], summary=summary)
    assert said.reason == (
        "PM2.5 is 182 µg/m³, expected 41 to 77. "
        "The nearest moment on record was 3 March 04:00 UTC; it differs most in PM2.5. "
        "The model looked mainly at the last 2 h and the same hour yesterday."
    )
    data = cast("dict[str, Any]", decode(encode(said)).explanation)
    (channel,) = data["channels"]
    assert (channel["channel"], channel["observed"], channel["expected"]) == ("pm25", 182.0, 59.0)
    assert channel["lower"] == pytest.approx(41.0, abs=0.01)
    assert data["witnesses"] == {"level": 1.5, "novelty": 0.0}
    assert data["nearest"] == {"time": "2026-03-03T04:00:00Z", "channel": "pm25", "distance": 3.5}
    assert [m["weight"] for m in data["attention"]] == [0.6, 0.4]
    assert (said.model_version, said.alpha, said.site, said.told_us) == ("lstm-7", 1e-4, "north", NOW_US)


def test_nan_everywhere_is_told_without_harm() -> None:
    """Protects the first steps of a sensor: no forecast, no value, and still a message with strict JSON."""
    subject = alerting()
    nothing = np.full((1, 1), np.nan)
    (said,) = subject.step(
        frames(0, [[None]]), verdict([2.0]), nothing, nothing.astype(np.float32), lambda _: None, NOW_US
    )  # fmt: skip
    assert said.reason == "PM2.5 is missing."
    json.loads(encode(said), parse_constant=lambda name: pytest.fail(name))


def test_watches_may_be_kept_silent_until_they_are_alerts() -> None:
    """Protects those who publish alerts only: the watch is tracked, and told of from the moment it grows."""
    subject = alerting(AnomalyPolicy(watches=False))
    assert take(subject, 0, [1.2, 1.2]) == []
    assert subject.level(2).tolist() == [1, 1]
    (said,) = take(subject, 1, [2.0, 0.1], emitted=[0, 0], alert=[1.5, 0])
    assert (said.phase, said.tier, said.sequence) == (Phase.OPENED, Tier.ALERT, 0)
    later = [m for step in (2, 3, 4, 5) for m in take(subject, step, [0.0, 0.0])]
    assert [(m.entity, m.phase) for m in later] == [("north/station-0", Phase.RESOLVED)]


def test_n_of_m_waits_for_more_than_one_step() -> None:
    """Protects streams with nervous sensors: 2 of 3 steps at the boundary, of which one the tier speaks at."""
    subject = alerting(AnomalyPolicy(LifePolicy(needed=2, window=3)))
    assert take(subject, 0, [1.2]) == []
    assert take(subject, 1, [0.2]) == []
    (said,) = take(subject, 2, [1.1], emitted=[0])
    assert (said.first_step, said.opened_us) == (START, (START + 2) * STEP_US)


def test_under_maintenance_nothing_is_said_but_what_lasts_is_told_after_it() -> None:
    """Protects the night of the calibration, and the fault that it leaves behind."""
    window = MaintenanceWindow((START + 1) * STEP_US, (START + 3) * STEP_US, entities=("north/*",))
    subject = alerting(maintenance=Maintenance([window]))
    said = [take(subject, step, [1.5, 0.0], emitted=[float(step == 1), 0]) for step in (1, 2, 3, 4)]
    assert [len(messages) for messages in said] == [0, 0, 0, 1]  # step 3 still begins within the window
    assert said[3][0].phase is Phase.OPENED
    assert said[3][0].first_step == START + 1
    assert subject.counts.suppressed["maintenance"] >= 1


def test_what_ends_under_maintenance_without_having_been_told_is_never_told() -> None:
    """Protects from a "resolved" out of nowhere."""
    window = MaintenanceWindow(0, (START + 100) * STEP_US)
    subject = alerting(maintenance=Maintenance([window]))
    assert [m for step in range(8) for m in take(subject, step, [1.5 if step == 0 else 0.0])] == []
    assert subject.open_incidents() == []


def test_the_new_normal_is_said_and_not_alarmed_again() -> None:
    """Protects from an alert that comes back every two days: only a new maximum of the watch tier may speak."""
    subject = alerting(AnomalyPolicy(LifePolicy(clear_after=3, max_steps=4)))
    said = [m for step in range(12) for m in take(subject, step, [2.0], emitted=[0], alert=[1.5])]
    assert phases(said) == [(Phase.OPENED, 2), (Phase.RESOLVED, 2)]
    assert said[1].note == "new normal"
    assert "new normal" in said[1].reason
    (again,) = take(subject, 12, [3.0], emitted=[1.2])
    assert again.phase is Phase.OPENED


def test_a_flapping_incident_says_so_once() -> None:
    """Protects the pager: the third opening in a day is marked, its updates are held back."""
    life = LifePolicy(flap_openings=3, flap_within=144, flap_calm=20)
    subject = alerting(AnomalyPolicy(life))
    said = [m for step in range(30) for m in take(subject, step, [1.5 if step % 2 == 0 else 0.0])]
    assert phases(said) == [(Phase.OPENED, 1), (Phase.RESOLVED, 1)] * 2 + [(Phase.OPENED, 1)]
    assert [m.flapping for m in said] == [False] * 4 + [True]
    assert subject.counts.suppressed["flapping"] == 12  # steps 6, 8 … 28
    later = [m for step in range(30, 60) for m in take(subject, step, [0.0])]
    assert phases(later) == [(Phase.RESOLVED, 1)]


def revised(subject: Alerting, step: int, new: float | None, unremarkable: bool) -> list[AlertMessage]:
    """Let late data change the PM2.5 of entity 1 at ``step`` from 182 to ``new``."""
    outdated, now = frames(step, [[182.0]], rows=[1]), frames(step, [[new]], rows=[1])
    return subject.revise(outdated, now, np.array([unremarkable]), NOW_US)


def test_late_data_withdraws_an_incident_that_it_explains_away() -> None:
    """Protects trust: an alarm over half a frame is taken back when the other half comes."""
    subject = alerting()
    (opened,) = take(subject, 0, [0.1, 1.5])
    assert revised(subject, 0, 60.0, unremarkable=False) == []
    assert revised(subject, 1, 60.0, unremarkable=True) == []  # another step's data
    (said,) = revised(subject, 0, 60.0, unremarkable=True)
    assert (said.incident_id, said.phase, said.sequence) == (opened.incident_id, Phase.CORRECTED, 1)
    assert said.reason == "Late data for 2 March 2026 00:00 UTC is unremarkable; the alarm is withdrawn."
    assert subject.level(2).tolist() == [0, 0]
    assert subject.counts.corrected == 1
    assert revised(subject, 0, 60.0, unremarkable=True) == []


def test_late_data_that_changes_nothing_withdraws_nothing() -> None:
    """Protects incidents whose channel did not change, or whose other steps hold evidence of their own."""
    subject = alerting()
    take(subject, 0, [0.1, 1.5])
    assert revised(subject, 0, 182.0, unremarkable=True) == []
    take(subject, 1, [0.1, 1.5], emitted=[0, 0])
    assert revised(subject, 0, 60.0, unremarkable=True) == []


def test_what_is_announced_late_is_not_said_twice_in_its_step() -> None:
    """Protects receivers after a maintenance: one message tells of an incident that still speaks, and not a second."""
    night = Maintenance([MaintenanceWindow((START + 1) * STEP_US, (START + 3) * STEP_US)])
    subject = alerting(maintenance=night)
    said = [take(subject, step, [2.0], alert=[2.0]) for step in range(2, 6)]
    assert [phases(messages) for messages in said] == [[], [], [(Phase.OPENED, 2)], [(Phase.UPDATED, 2)]]


STORIES = st.lists(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.4, 0.6, 1.2, 2.0]), st.booleans(), st.booleans()), min_size=3, max_size=3
    ),
    max_size=40,
)
POLICIES = st.builds(
    AnomalyPolicy,
    life=st.builds(
        LifePolicy,
        needed=st.integers(1, 2),
        window=st.integers(2, 3),
        clear_after=st.integers(1, 3),
        max_steps=st.sampled_from([0, 5]),
        cooldown=st.integers(0, 3),
        flap_openings=st.sampled_from([0, 3]),
        flap_within=st.just(20),
        flap_calm=st.just(6),
    ),
    watches=st.booleans(),
)
NIGHT = Maintenance([MaintenanceWindow((START + 5) * STEP_US, (START + 12) * STEP_US, entities=("south/*",))])


def tell(subject: Alerting, step: int, story: Sequence[tuple[float, bool, bool]]) -> list[AlertMessage]:
    """Let one step of a random story pass: (score, watch speaks, alert speaks) of each entity."""
    scores = [score for score, _, _ in story]
    emitted = [score if speaks else 0.0 for score, speaks, _ in story]
    alert = [score if alarms else 0.0 for score, _, alarms in story]
    return take(subject, step, scores, emitted, alert)


@given(POLICIES, STORIES)
def test_every_incident_opens_once_ends_at_most_once_and_counts_its_messages(
    policy: AnomalyPolicy, stories: list[list[tuple[float, bool, bool]]]
) -> None:
    """Protects every sink: for any scores and policy, nothing is said twice, out of order, or after its end."""
    subject = alerting(policy, NIGHT)
    lives: dict[str, list[AlertMessage]] = defaultdict(list)
    for step, story in enumerate(stories):
        for message in tell(subject, step, story):
            lives[message.incident_id].append(message)
    for life in lives.values():
        assert [m.sequence for m in life] == list(range(len(life)))
        assert life[0].phase is Phase.OPENED
        assert all(m.phase is Phase.UPDATED for m in life[1:-1])
        assert [m.time_us for m in life] == sorted({m.time_us for m in life})
        assert [m.tier for m in life] == sorted(m.tier for m in life)
    open_now = subject.open_incident(3)
    assert (subject.level(3) > 0).tolist() == open_now.tolist()
    assert len(subject.open_incidents()) == open_now.sum()


@given(POLICIES, STORIES, st.integers(0, 40))
def test_a_restart_at_any_step_changes_nothing(
    policy: AnomalyPolicy, stories: list[list[tuple[float, bool, bool]]], at: int
) -> None:
    """Protects checkpoints: state and incidents, moved to other slots by way of JSON, tell the same story on."""
    whole, first, second = (alerting(policy, NIGHT) for _ in range(3))
    slots = np.arange(3)
    at = min(at, len(stories))
    said = [m for step, story in enumerate(stories) for m in tell(whole, step, story)]
    resumed = [m for step, story in enumerate(stories[:at]) for m in tell(first, step, story)]
    for name, array in first.state.arrays.items():
        second.state[name][slots] = array[slots]
    second.restore_rows_shared(slots, json.loads(json.dumps(first.rows_shared(slots))))
    resumed += [m for step, story in enumerate(stories[at:], start=at) for m in tell(second, step, story)]
    assert resumed == said


def test_no_entities_and_growing_are_fine() -> None:
    """Protects the start of a stream: nothing known yet, then more entities than there was room for."""
    subject = alerting(n=1)
    assert take(subject, 0, []) == []
    subject.grow(3)
    assert [m.entity for m in take(subject, 1, [0.0, 1.5, 0.0])] == ["south/station-1"]


def test_messages_are_values() -> None:
    """Protects what was said from what comes later: an update does not reach into an earlier message."""
    subject = alerting()
    (opened,) = take(subject, 0, [1.2])
    copy = replace(opened, explanation=json.loads(json.dumps(opened.explanation)))
    take(subject, 1, [3.0])
    assert opened == copy


def test_an_open_alert_speaks_again_when_it_has_grown_by_half() -> None:
    """Protects from a small alarm that hides the large one which follows while it is still open."""
    subject = alerting()
    said = take(subject, 0, [1.1], emitted=[0.0], alert=[1.1])
    said += take(subject, 1, [1.5], emitted=[0.0], alert=[1.5])
    assert phases(said) == [(Phase.OPENED, Tier.ALERT)]
    said += take(subject, 2, [1.7], emitted=[0.0], alert=[1.7])
    said += take(subject, 3, [2.4], emitted=[0.0], alert=[2.4])
    assert phases(said) == [(Phase.OPENED, Tier.ALERT), (Phase.UPDATED, Tier.ALERT)]
    assert len({m.incident_id for m in said}) == 1


def test_an_alarm_that_rises_anew_opens_though_the_last_was_taken_for_the_new_normal() -> None:
    """Protects from deafness: after a long incident has expired, the score may stay high while a new event comes."""
    subject = alerting(AnomalyPolicy(LifePolicy(clear_after=3, max_steps=3)))
    said = take(subject, 0, [1.2], emitted=[0.0], alert=[1.2])
    for step in range(1, 4):
        said += take(subject, step, [1.2], emitted=[0.0], alert=[1.2])
    assert phases(said) == [(Phase.OPENED, Tier.ALERT), (Phase.RESOLVED, Tier.ALERT)]
    said += take(subject, 4, [1.1], emitted=[0.0], alert=[0.9])
    said += take(subject, 5, [1.6], emitted=[0.0], alert=[1.3])
    assert [m.phase for m in said][2:] == [Phase.OPENED]
    assert said[-1].incident_id != said[0].incident_id
