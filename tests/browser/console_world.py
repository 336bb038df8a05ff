"""A small simulated run for the pages: six stations, a planted fault, a silence, hostile names, models, in real stores.

Expectations are those of yesterday's same hour and the step before, so bands, scores and incidents are worked out, not
made up. The clock stands still at the end of the last step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.alert_store import AlertStore
from connectors.base import TopicPartition
from connectors.site_store import SiteStore
from connectors.source import Site
from models.attention import AttentionProgram, MemoryLayout, SeasonalLag
from models.explanation import (
    BAND_SPREADS,
    ChannelEvidence,
    MemoryNames,
    NearestMoment,
    explain,
    summarise_attention,
)
from models.registry import Action, Decision, Registry
from pipeline.alert_rows import incident_row
from pipeline.console.answers import Answers
from pipeline.console.sources import ShownLimit, ShownStream, Sources
from pipeline.history import HistoryPart, HistoryStore
from pipeline.incident import AlertMessage, Kind, Phase, Severity, Tier, incident_id, rfc3339
from pipeline.judging import ContenderScore, Judgement
from pipeline.live import Live, LiveStep
from pipeline.metrics import Metrics
from pipeline.simulation import AIR_CHANNELS, AIR_UNITS, Series, air
from pipeline.status import NotReady, Status
from tests.models.stored_models import manifest, weights

STREAM = "air"
HOSTILE = "<img src=x onerror=\"document.title='hacked'\">{{7*7}}</script><b>%{y}"
LONG = "n" * 10_000
CHANNELS, UNITS = AIR_CHANNELS[:4], AIR_UNITS[:4]
FAULT_STEPS, PAST_FAULT = 9, 420
"""Steps at the end that are odd at the market; so many steps before the end the ring road was odd likewise."""
DAYS = 9.0
STEP_US = 600_000_000
HORIZONS = (1, 6, 36)
_LAYOUT = MemoryLayout(48, AttentionProgram((SeasonalLag(144), SeasonalLag(1008))), 2, 4)
_CONFIG = "group: console-test\nstreams:\n- name: air\n  topics: [air]\n  step: 10m\nkafka:\n  sasl_password: '***'\n"


@dataclass
class World:
    """What the pages show, and where it comes from."""

    answers: Answers
    store: AlertStore
    sites: SiteStore
    live: Live
    status: Status
    names: tuple[str, ...]
    now_us: int
    open_id: str
    past_id: str
    hostile_id: str
    trainings: list[str | None]
    """Which stream was asked to be trained, by each request."""


@dataclass
class _Run:
    series: Series
    expected: NDArray[np.float64]
    spread: NDArray[np.float64]
    score: NDArray[np.float64]
    level: NDArray[np.int8]

    def step(self, t: int) -> int:
        return int(self.series.times_us[t]) // STEP_US


def world(directory: Path) -> World:
    """Return the world, its stores below ``directory``."""
    run = _simulated()
    times_us = run.series.times_us
    now_us = int(times_us[-1]) + 20_000_000
    history = HistoryStore(str(directory / "history"))
    history.write(STREAM, _part(run))
    live, status, metrics = Live(), Status(monotonic=lambda: 0.0), Metrics()  # else its loop stalls as time goes by
    for t in range(len(times_us) - 40, len(times_us)):
        live.stepped(_live_step(run, t))
    status.tick()
    status.release(NotReady.JOINING)
    _figures(metrics)
    store = AlertStore(f"sqlite:///{directory / 'alerts.db'}")
    ids = _tell(store, run)
    registry = Registry(directory / "models", now=lambda: datetime.fromtimestamp(now_us / 1e6, UTC))
    _train(registry)
    trainings: list[str | None] = []

    def train(stream: str | None) -> Mapping[str, Any]:
        trainings.append(stream)
        return {"accepted": [stream]}

    sites = SiteStore(f"sqlite:///{directory / 'alerts.db'}")
    sites.keep("city air", _sites(run.series.entities), now_us - 3_600_000_000)
    limit = ShownLimit("pm25", "EU daily mean", 50.0, None)
    shown = ShownStream(STREAM, CHANNELS, UNITS, STEP_US, (limit,), needed=2, window=3)
    sources = Sources(
        streams={STREAM: shown}, store=store, registry=registry, history=history, live=live, status=status,
        figures=metrics.registry, version="0.1.0", config_text=_CONFIG, train=train,
        training=lambda: {"streams": [_training(now_us)]}, undelivered=lambda: 3, now_us=lambda: now_us,
        sites=sites,
    )  # fmt: skip
    return World(Answers(sources), store, sites, live, status, run.series.entities, now_us, *ids, trainings)


def _sites(names: Sequence[str]) -> list[Site]:
    """Return places of all stations, as hostile as their names, and of one that nothing measures."""
    channels = dict(zip(CHANNELS, UNITS, strict=True))
    places = ((54.0931, 12.0994), (54.0887, 12.1402), (54.0712, 12.1087), (54.1218, 12.0721), (54.0801, 12.0655))
    about = {"owner": "city of Rostock", HOSTILE: HOSTILE}
    known = [
        Site(name, HOSTILE if name == HOSTILE else f"{name.title()} station", *place, channels,
             {"pm25": (0.0, 1_000.0)}, about)
        for name, place in zip(names, places, strict=False)
    ]  # fmt: skip
    return [*known, Site("closed", "Closed station", 54.16, 12.19), Site("somewhere", "Without coordinates")]


def next_message(shown: World) -> AlertMessage:
    """Return one more message about the open incident, kept in the store already."""
    run = _simulated()
    T = len(run.series.times_us)
    last = max(message["sequence"] for message in shown.answers.incident(shown.open_id)["messages"])
    message = _anomaly(run, 1, T - FAULT_STEPS, T - 1, last + 1)
    shown.store.keep([incident_row(message)])
    return message


# ---- the run ----


def _simulated() -> _Run:
    series = air(DAYS, seed=4)
    values = series.values[:, :, : len(CHANNELS)].copy()
    T = values.shape[1]
    values[1, T - FAULT_STEPS :, 0] += np.linspace(30.0, 120.0, FAULT_STEPS)
    values[1, T - FAULT_STEPS :, 1] += np.linspace(35.0, 130.0, FAULT_STEPS)
    values[2, T - PAST_FAULT : T - PAST_FAULT + 8, 0] += 85.0
    values[2, T - PAST_FAULT : T - PAST_FAULT + 8, 1] += 90.0
    values[3, T - 30 :] = np.nan
    names = (*series.entities[:4], HOSTILE, LONG)
    expected = np.full_like(values, np.nan)
    expected[:, 145:] = values[:, 144:-1] * 0.75 + values[:, 1:-144] * 0.25
    # What is odd is not learned from: the forecast goes on from the last good moment.
    expected[1, T - FAULT_STEPS :] = expected[1, T - FAULT_STEPS - 1]
    expected[2, T - PAST_FAULT : T - PAST_FAULT + 9] = expected[2, T - PAST_FAULT - 1]
    error = values - expected
    spread = np.broadcast_to(np.nanstd(error[:, 200:1000], axis=1)[:, None], values.shape).copy()
    score = np.nan_to_num(np.nanmax(np.abs(error) / spread, axis=2, initial=0.0) / (2.1 * BAND_SPREADS))
    level = np.zeros(score.shape, np.int8)
    level[1, T - FAULT_STEPS + 1 :], level[2, T - PAST_FAULT + 1 : T - PAST_FAULT + 9] = 2, 2
    shown = replace(series, entities=names, channels=CHANNELS, units=UNITS, values=values)
    return _Run(shown, expected, spread, score, level)


def _part(run: _Run) -> HistoryPart:
    entity, t = np.nonzero(~np.isnan(run.series.values).all(axis=2))
    values = run.series.values[entity, t]
    return HistoryPart(
        CHANNELS, STEP_US, list(run.series.entities), entity.astype(np.int32), run.series.times_us[t] // STEP_US,
        values, ~np.isnan(values), run.score[entity, t].astype(np.float32), run.level[entity, t],
        np.ones(len(t), np.int64), run.expected[entity, t].astype(np.float32),
        run.spread[entity, t].astype(np.float32),
    )  # fmt: skip


def _live_step(run: _Run, t: int) -> LiveStep:
    values, n = run.series.values[:, t], len(run.series.entities)
    ahead = np.stack([values + h * 0.05 for h in HORIZONS], axis=-1)
    grow = np.sqrt(np.array(HORIZONS, np.float64))
    return LiveStep(
        stream=STREAM, step=run.step(t), time_us=int(run.series.times_us[t]), names=run.series.entities,
        channels=CHANNELS, units=UNITS, values=values, expected=run.expected[:, t],
        spread=run.spread[:, t].astype(np.float32), score=run.score[:, t].astype(np.float32), level=run.level[:, t],
        warming=np.arange(n) == n - 1, forecast=ahead, horizons=HORIZONS,
        forecast_spread=(run.spread[:, t, :, None] * grow).astype(np.float32),
    )  # fmt: skip


# ---- what was said ----


def _tell(store: AlertStore, run: _Run) -> tuple[str, str, str]:
    T = len(run.series.times_us)
    now = [_anomaly(run, 1, T - FAULT_STEPS, T - FAULT_STEPS + k, k - 1) for k in (1, 3, 6, 8)]
    past = [_anomaly(run, 2, T - PAST_FAULT, T - PAST_FAULT + k, k - 1) for k in (1, 2, 5)]
    past.append(_ended(past[-1], int(run.series.times_us[T - PAST_FAULT + 9])))
    odd = _anomaly(run, 4, T - 60, T - 59, 0)
    silence = _anomaly(run, 3, T - 30, T - 24, 0)
    silence = replace(
        silence, kind=Kind.SILENCE, score=None, alpha=None, tier=Tier.ALERT,
        incident_id=incident_id(STREAM, silence.entity, Kind.SILENCE, 1), model_version="",
        reason=f"{silence.entity} is silent: its last reading came 5 h ago, it reports every 10 min.",
        explanation={"silent_since_us": silence.started_us, "usual_gap_s": 600.0},
    )  # fmt: skip
    limit = replace(
        now[-1], kind=Kind.FORECAST_LIMIT, name="EU daily mean", sequence=0, phase=Phase.OPENED, score=None,
        incident_id=incident_id(STREAM, now[-1].entity, Kind.FORECAST_LIMIT, 1, "EU daily mean"), alpha=None,
        reason='PM2.5 will probably be above its limit "EU daily mean" of 50 µg/m³ in 1 h: the chance is 93 %.',
        explanation={"channel": "pm25", "limit": 50.0, "probability": 0.93}, tier=Tier.WATCH,
    )  # fmt: skip
    long = replace(odd, entity=LONG, incident_id=incident_id(STREAM, LONG, Kind.ANOMALY, 7), tier=Tier.WATCH)
    long = _ended(long, long.opened_us + 5 * STEP_US)
    for message in (*now, *past, odd, silence, limit, long):
        store.keep([incident_row(message)])
    store.label(past[0].incident_id, "true", "a bus with a broken filter", None, "kim", past[0].opened_us)
    return now[0].incident_id, past[0].incident_id, odd.incident_id


def _anomaly(run: _Run, row: int, first: int, t: int, sequence: int) -> AlertMessage:
    times_us, entity = run.series.times_us, run.series.entities[row]
    values, expected = run.series.values[row, t], run.expected[row, t]
    half = BAND_SPREADS * run.spread[row, t]
    error = np.nan_to_num((values - expected) / run.spread[row, t])
    share = np.square(error) / max(1e-9, float(np.square(error).sum()))
    evidence = [
        ChannelEvidence(
            name,
            unit,
            float(values[c]),
            float(expected[c]),
            float(expected[c] - half[c]),
            float(expected[c] + half[c]),
            float(share[c]),
            int(np.sign(error[c])),
        )
        for c, (name, unit) in enumerate(zip(CHANNELS, UNITS, strict=True))
    ]
    summary = summarise_attention(
        _attention(t), _LAYOUT.positions(), int(times_us[t]), STEP_US / 1e6,
        MemoryNames([run.series.entities[0], run.series.entities[2]], [int(times_us[200 + 90 * k]) for k in range(4)]),
        NearestMoment(int(times_us[300]), 4.2, "no2"),
    )  # fmt: skip
    nearest = summary.nearest
    assert nearest is not None
    moments = [
        {"what": m.kind, "text": m.text, "weight": m.weight, "time": None if m.time_us is None else rfc3339(m.time_us)}
        for m in summary.strongest()
    ]
    channels = [{"channel": e.name, **{k: v for k, v in asdict(e).items() if k != "name"}} for e in evidence]
    score = float(run.score[row, t])
    explanation: dict[str, Any] = {
        "channels": channels,
        "witnesses": {"innovation": score, "level": 0.62 * score, "novelty": 0.8},
        "attention": moments,
        "attention_shares": {k: sum(m.weight for m in summary.moments if m.kind == k) for k in ("recent", "lag")},
        "nearest": {"time": rfc3339(nearest.time_us), "channel": nearest.channel, "distance": nearest.distance},
        "context": [round(float(x), 4) for x in (score, *share, *error)],
    }
    return AlertMessage(
        incident_id(STREAM, entity, Kind.ANOMALY, run.step(first)), Phase.UPDATED if sequence else Phase.OPENED,
        sequence, STREAM, entity, Kind.ANOMALY, "", "old town", Tier.ALERT, Severity.WARNING, int(times_us[t]),
        run.step(first), int(times_us[first]), int(times_us[first + 1]), None, score, 0.001,
        explain(evidence, summary, int(times_us[t]), "innovation"), explanation, "20250905T020000-0123abcd", False, "",
        int(times_us[t]) + 1_000_000,
    )  # fmt: skip


def _ended(message: AlertMessage, at_us: int) -> AlertMessage:
    return replace(
        message, phase=Phase.RESOLVED, sequence=message.sequence + 1, time_us=at_us, resolved_us=at_us,
        reason="PM2.5 and all else have been unremarkable again; it lasted 1.5 h.", told_us=at_us + 1_000_000,
    )  # fmt: skip


def _attention(t: int) -> NDArray[np.float64]:
    """Return [M] weights: the last hour, the same hour yesterday, a little of the neighbours."""
    rng = np.random.default_rng(t)
    raw = rng.gamma(0.6, 1.0, _LAYOUT.size)
    raw[:6] += np.linspace(9.0, 2.0, 6)
    raw[_LAYOUT.window] += 14.0
    raw[_LAYOUT.window + 1] += 5.0
    raw[_LAYOUT.window + 2 :] += 2.5
    weights_of: NDArray[np.float64] = raw / raw.sum()
    return weights_of


# ---- models and figures ----


def _train(registry: Registry) -> None:
    created = datetime(2025, 9, 4, 2, tzinfo=UTC)
    versions = []
    for day in range(4):
        falls = np.exp(-np.arange(8) / 3.0) * (0.5 - 0.05 * day)
        report = {
            "gain": 0.04 + 0.01 * day,
            "baseline": 1.0,
            "train_losses": [round(0.8 - 0.02 * day + float(f), 4) for f in falls],
            "validation_losses": [round(0.84 - 0.02 * day + float(f) * 1.05, 4) for f in falls],
        }
        made = manifest(created=created + timedelta(days=day), report=report, entities=("a", "b", "c", "d"))
        versions.append(registry.save(weights(seed=day), made))
    registry.promote(STREAM, versions[0], Decision(created, Action.PROMOTED, versions[0], None, ("the first one",)))
    for day, version in enumerate(versions[1:], 1):
        judged = _judged(version, versions[max(0, day - 1)], day)
        action = (Action.PROMOTED, Action.REFUSED, Action.SHADOWED)[day - 1]
        decision = Decision(
            created + timedelta(days=day, hours=1), action, version, None, judged.reasons, judged.to_json()
        )
        if action is Action.PROMOTED:
            registry.promote(STREAM, version, decision)
        elif action is Action.SHADOWED:
            registry.shadow(STREAM, version, decision)
        else:
            registry.record(STREAM, decision)


def _judged(version: str, against: str, day: int) -> Judgement:
    def contender(name: str, crps: float, found: int, false: int) -> ContenderScore:
        return ContenderScore(
            name, crps, {"0.1": crps, "0.9": crps}, 0.02 + crps / 50, 0.9 - crps / 40, 12_000,
            faults_found=found, faults_found_by_alert=found - 3, false_alerts=false, false_watches=3 * false,
        )  # fmt: skip

    contenders = {
        "challenger": contender(version, 0.71 - 0.01 * day, 21, 1),
        "champion": contender(against, 0.72, 20, 2),
        "linear": contender("linear", 0.83, 17, 2),
    }
    reasons: Sequence[str] = ("its loss is 2.1 % smaller (0.9 % to 3.2 %)", "it finds 21 of 24 planted faults, not 20")
    if day == 2:
        reasons = ("its loss is 0.1 % smaller", "refused: less than the margin of 0.5 %")
    return Judgement(day != 2, tuple(reasons), against, 1_008, contenders, 0.021, 0.009, 0.032, faults=24)


def _training(now_us: int) -> dict[str, Any]:
    last = {
        "job": "j7", "reason": "drift", "outcome": "shadowed", "version": "20250907T020000-0123abcd",
        "message": "its loss is 2.1 % smaller: it runs in shadow for a day", "ended": rfc3339(now_us - 9_000_000_000),
    }  # fmt: skip
    drift = {"time": rfc3339(now_us - 12_000_000_000), "signals": ["score", "residual"]}
    return {
        "stream": STREAM, "next": rfc3339(now_us + 30_000_000_000), "running": None, "last": last, "drift": drift,
    }  # fmt: skip


def _figures(metrics: Metrics) -> None:
    metrics.lag({TopicPartition("air", 0): 12, TopicPartition("air", 1): 0})
    metrics.checkpointed(4_300_000, 0.08)
    for receiver, address, waiting in (("on-call", "127.0.0.1:9093", 0), ("city desk", "10.0.0.7:443", 3)):
        metrics.receivers.known(receiver, address)
        metrics.receivers.waiting(receiver, address, waiting, 1_757_460_000_000_000 if waiting else None)
    metrics.receivers.answered("on-call", "127.0.0.1:9093")
