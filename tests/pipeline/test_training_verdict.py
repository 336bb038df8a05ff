"""What becomes of a version when it was judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from models.attention_lstm import AttentionLSTM, export
from models.features import input_width
from models.registry import LINEAR, Action, Manifest, Registry
from models.weights import Sizes
from pipeline.config import loads
from pipeline.judging import Judgement
from pipeline.training_verdict import Hearing
from tests.pipeline.training_parts import CONFIG, STEP_US, frames

NOW = datetime(2026, 1, 10, tzinfo=UTC)
BETTER = Judgement(True, ("its forecasts are better",), LINEAR, 180)
WORSE = Judgement(False, ("refused: its forecasts are not better",), LINEAR, 180)


def save(registry: Registry, day: int) -> str:
    """Put a network of that day into the registry."""
    torch.manual_seed(day)
    weights = export(AttentionLSTM(Sizes(input_width(1), 1, 2, hidden=4, window=4)))
    created = datetime(2026, 1, day, tzinfo=UTC)
    manifest = Manifest("air", ("pm25",), ("ug/m3",), STEP_US, (1, 2), (), {}, 0, 1, created, 0)
    return registry.save(weights, manifest)


def hearing(
    folder: Path, version: str | None = None, shadow: timedelta = timedelta(0), promote: bool = True
) -> Hearing:
    """Return the hearing of a version, or of a new one."""
    registry = Registry(folder, now=lambda: NOW)
    config = loads(CONFIG, {}).stream("air")
    config = config.model_copy(update={"retrain": config.retrain.model_copy(update={"shadow": shadow})})
    version = save(registry, 5) if version is None else version
    return Hearing(config, registry, version, frames(300), 100, (), promote, 0, lambda: NOW)


def test_a_better_one_takes_charge(tmp_path: Path) -> None:
    """Protects the point of it all: promoted, with its reasons and its judgement on record."""
    it = hearing(tmp_path)
    assert it.settled() is None
    verdict = it.decide(BETTER, None)
    assert verdict.action is Action.PROMOTED
    assert it.registry.champion_version("air") == it.version
    [decision] = it.registry.decisions("air")
    assert decision.reasons == ("its forecasts are better",)
    assert decision.evidence["holdout_steps"] == 180
    assert (decision.by, decision.time, decision.champion_before) == ("job", NOW, None)
    settled = it.settled()
    assert settled is not None
    assert settled.action is Action.PROMOTED


def test_a_worse_one_is_refused(tmp_path: Path) -> None:
    """Protects the champion: it stays, and why is on record."""
    it = hearing(tmp_path)
    before = save(it.registry, 2)
    it.registry.promote("air", before)
    assert it.decide(WORSE, before).action is Action.REFUSED
    assert it.registry.champion_version("air") == before
    assert it.registry.decisions("air")[-1].action is Action.REFUSED


@pytest.mark.parametrize(("hours", "action"), [(5, Action.KEPT), (6, Action.PROMOTED)])
def test_shadow_comes_first_where_it_is_wanted(tmp_path: Path, hours: int, action: Action) -> None:
    """Protects a careful site: a better one runs in shadow, and takes charge only when its time there is over."""
    it = hearing(tmp_path, shadow=timedelta(hours=6))
    assert it.decide(BETTER, None).action is Action.SHADOWED
    assert it.registry.challenger_version("air") == it.version
    assert it.registry.champion_version("air") is None
    later = hearing(tmp_path, it.version, timedelta(hours=6))
    later.now = lambda: NOW + timedelta(hours=hours)
    verdict = later.decide(BETTER, None)
    assert verdict.action is action
    assert later.registry.champion_version("air") == (it.version if action is Action.PROMOTED else None)
    if action is Action.KEPT:
        assert verdict.reasons[0] == "it stays in shadow until 2026-01-10 06:00 UTC"


@pytest.mark.parametrize(("hours", "action"), [(1, Action.KEPT), (47, Action.KEPT), (48, Action.SHADOWED)])
def test_a_challenger_comes_to_the_end_of_its_time(tmp_path: Path, hours: int, action: Action) -> None:
    """Protects the first one in shadow from being replaced by each day's newer one before it is judged again."""
    first = hearing(tmp_path, shadow=timedelta(hours=24))
    first.decide(BETTER, None)
    second = hearing(tmp_path, save(first.registry, 6), shadow=timedelta(hours=24))
    second.now = lambda: NOW + timedelta(hours=hours)
    verdict = second.decide(BETTER, None)
    assert verdict.action is action
    if action is Action.KEPT:
        assert verdict.reasons[0] == f"{first.version} runs in shadow and is judged first"
        assert second.registry.challenger_version("air") == first.version
        assert second.registry.challenger_since("air") == NOW
    else:
        assert second.registry.challenger_version("air") == second.version


def test_a_challenger_that_is_damaged_gives_way(tmp_path: Path) -> None:
    """Protects the shadow's place from one that can never be judged."""
    first = hearing(tmp_path, shadow=timedelta(hours=24))
    first.decide(BETTER, None)
    (tmp_path / "air" / first.version / "weights.safetensors").write_bytes(b"damaged")
    second = hearing(tmp_path, save(first.registry, 6), shadow=timedelta(hours=24))
    assert second.decide(BETTER, None).action is Action.SHADOWED


@pytest.mark.parametrize("text", [b"", b"\xff\x00", b"a-version\nyesterday\n"])
@pytest.mark.parametrize("judgement", [BETTER, WORSE])
def test_a_damaged_pointer_to_the_challenger_ends_no_job(tmp_path: Path, text: bytes, judgement: Judgement) -> None:
    """Protects training: nobody counts as in shadow, that is on record, and whoever comes there next repairs it."""
    it = hearing(tmp_path, shadow=timedelta(hours=6))
    (tmp_path / "air" / "CHALLENGER").write_bytes(text)
    assert it.settled() is None
    verdict = it.decide(judgement, None)
    assert "CHALLENGER is damaged" in it.registry.decisions("air")[-1].reasons[-1]
    if judgement is BETTER:
        assert verdict.action is Action.SHADOWED
        assert it.registry.challenger_version("air") == it.version
        assert it.registry.challenger_damage("air") is None
    else:
        assert verdict.action is Action.REFUSED


def test_a_challenger_that_fails_its_second_hearing_is_dismissed(tmp_path: Path) -> None:
    """Protects the shadow's place: who was better once and is not any more leaves it."""
    it = hearing(tmp_path, shadow=timedelta(hours=6))
    it.decide(BETTER, None)
    assert it.decide(WORSE, None).action is Action.REFUSED
    assert it.registry.challenger_version("air") is None


@pytest.mark.parametrize(
    ("judgement", "shadow", "promote", "action"),
    [
        (BETTER, 0, True, Action.PROMOTED),
        (BETTER, 6, True, Action.SHADOWED),
        (BETTER, 0, False, Action.KEPT),
        (WORSE, 0, True, Action.REFUSED),
    ],
)
def test_a_job_that_is_taken_up_again_decides_once(
    tmp_path: Path, judgement: Judgement, shadow: int, promote: bool, action: Action
) -> None:
    """Protects a job that was killed right after it decided: the next attempt knows, but no other job takes it for its
    own; and what could not be carried out is heard again."""
    it = hearing(tmp_path, shadow=timedelta(hours=shadow), promote=promote)
    it.job = "first"
    assert it.settled() is None
    decided = it.decide(judgement, None)
    settled = it.settled()
    assert settled is not None
    assert (settled.action, settled.reasons) == (action, decided.reasons)
    it.job = "second"
    assert (it.settled() is None) == (action is not Action.PROMOTED)
    it.job = "first"
    if action is Action.SHADOWED:
        it.registry.dismiss("air")
        assert it.settled() is None


def test_promotion_can_be_left_to_people(tmp_path: Path) -> None:
    """Protects who wants the last word: the version is kept, the champion stays."""
    it = hearing(tmp_path, promote=False)
    verdict = it.decide(BETTER, None)
    assert verdict.action is Action.KEPT
    assert "waits for a person" in verdict.reasons[0]
    assert it.registry.champion_version("air") is None
    assert it.registry.decisions("air")[-1].action is Action.KEPT


def test_a_champion_that_came_meanwhile_is_not_replaced_unseen(tmp_path: Path) -> None:
    """Protects a person's promotion during a job: who was judged against another one does not take over."""
    it = hearing(tmp_path)
    other = save(it.registry, 2)
    it.registry.promote("air", other)
    verdict = it.decide(BETTER, None)  # judged when nobody was in charge
    assert verdict.action is Action.KEPT
    assert it.registry.champion_version("air") == other
    assert other in verdict.reasons[0]


def test_a_barred_version_is_refused(tmp_path: Path) -> None:
    """Protects from networks that failed in service: a job does not bring them back."""
    it = hearing(tmp_path)
    it.registry.bar("air", it.version, "gave NaN")
    verdict = it.decide(BETTER, None)
    assert verdict.action is Action.REFUSED
    assert "gave NaN" in verdict.reasons[0]
    assert it.registry.champion_version("air") is None


def test_a_damaged_champion_does_not_stop_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from a broken file that would end all retraining: it is judged as if nobody were in charge."""
    it = hearing(tmp_path)
    champion = save(it.registry, 2)
    it.registry.promote("air", champion)
    weights = tmp_path / "air" / champion / "weights.safetensors"
    weights.write_bytes(b"\x00" * 100)
    against: list[object] = []

    def judging(
        config: object, arrays: object, holdout: int, challenger: object, other: object, *_: object, **__: object
    ) -> Judgement:
        against.append(other)
        return BETTER

    monkeypatch.setattr("pipeline.training_verdict.judge", judging)
    judgement, seen = it.judge(lambda *_: None)
    assert (against, seen) == ([None], champion)
    assert it.decide(judgement, seen).action is Action.PROMOTED
    assert np.isfinite(it.registry.load("air", it.version).weights.gates).all()
