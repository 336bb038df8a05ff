"""The challenger in shadow: it forecasts and is scored beside the champion, and nobody is told anything by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.probation import Failing
from tests.pipeline.daemon_parts import wandering
from tests.pipeline.swap_parts import Service, broken, constant, same, shelf, untrained


def test_a_shadow_changes_nothing(tmp_path: Path) -> None:
    """Protects service from a challenger: with one in shadow all detections and messages are as without."""
    registry, (_, second) = shelf(tmp_path, constant(0.2), untrained(7))
    alone, beside = Service(registry), Service(registry)
    registry.shadow("air", second)
    values = wandering(4, 140, {1: 95})
    alone.feed(values)
    beside.feed(values[:90])
    beside.look_and_turn()
    beside.feed(values[90:])
    assert beside.stream.predictor.challenger is not None
    for left, right in zip(alone.seen.detections, beside.seen.detections, strict=True):
        same(left, right)
    assert beside.seen.messages == alone.seen.messages
    assert alone.seen.messages


def test_its_scores_are_those_of_its_forecasts(tmp_path: Path) -> None:
    """Protects what a shadow is for: with the champion's weights it scores as the champion does, with others not."""
    registry, (_, twin, other) = shelf(tmp_path, constant(0.2), constant(0.2), constant(-3.0))
    for version, equal in ((twin, True), (other, False)):
        registry.shadow("air", version)
        service = Service(registry)
        service.look_and_turn()
        predictor = service.stream.predictor
        for correction in (predictor.champion, predictor.challenger):
            assert correction is not None
            correction.trust["linear"][...] = 10.0
        in_shadow = []
        for values in wandering(4, 130, {1: 110})[:, None]:
            service.feed(values)
            assert service.stream.shadow is not None
            in_shadow.append(service.stream.shadow.score)
        scores = [detection.score for detection in service.seen.detections]
        assert np.array_equal(in_shadow, scores) == equal
        assert np.max(scores) > 1.0


def test_it_is_shown_while_it_runs(tmp_path: Path) -> None:
    """Protects the operator's view: its score and loss are exported, and are gone when it is."""
    registry, (_, second) = shelf(tmp_path, constant(0.1), constant(1.0))
    service = Service(registry)
    registry.shadow("air", second)
    service.feed(wandering(3, 20))
    service.look_and_turn()
    service.feed(wandering(3, 40, seed=1))
    assert service.stream.shadow is not None
    assert service.value("shadow_score_max") == float(service.stream.shadow.score.max())
    losses = {role: service.value("forecast_loss", role=role) for role in ("linear", "champion", "challenger")}
    assert losses["challenger"] is not None
    assert losses["champion"] is not None
    assert losses["challenger"] > losses["champion"] > 0
    assert service.value("model_trusted_share") is not None
    registry.dismiss("air")
    service.look_and_turn()
    service.feed(wandering(3, 2, seed=2))
    assert service.stream.shadow is None
    assert service.value("shadow_score_max") is None
    assert service.value("forecast_loss", role="challenger") is None


def test_new_entities_join_it(tmp_path: Path) -> None:
    """Protects the loop from a shadow that is too small: it grows with the stream."""
    registry, (_, second) = shelf(tmp_path, constant(0.1), constant(0.2))
    service = Service(registry)
    registry.shadow("air", second)
    service.feed(wandering(3, 10))
    service.look_and_turn()
    service.feed(wandering(150, 10, seed=1))
    assert service.stream.shadow is not None
    assert len(service.stream.shadow.score) == 150


def test_a_partition_that_moves_makes_it_begin_again(tmp_path: Path) -> None:
    """Protects its scores: what it knew of slots is void when they get new meanings, and it comes back by itself."""
    registry, (_, second) = shelf(tmp_path, constant(0.1), constant(0.2))
    service = Service(registry)
    registry.shadow("air", second)
    service.stream.add_entities(["gone"], partition=1)
    service.feed(wandering(3, 10))
    service.look_and_turn()
    assert service.stream.shadow is not None
    service.stream.release(1)
    assert service.stream.predictor.challenger is None
    service.look_and_turn()
    assert service.stream.predictor.challenger is not None
    assert service.stream.shadow is not None


@pytest.mark.parametrize("when", ["rebuilt", "running"])
def test_one_that_breaks_is_barred(tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the champion: a challenger that fails ends its shadow, is barred, and may not take charge."""
    registry, (first, second) = shelf(tmp_path, constant(0.1), broken() if when == "rebuilt" else constant(0.2))
    service = Service(registry)
    registry.shadow("air", second)
    service.feed(wandering(3, 20))
    service.look_and_turn()
    if when == "running":
        assert service.stream.predictor.challenger is not None
        monkeypatch.setattr(service.stream.predictor.challenger.network, "step", lambda *_: 1 / 0)
        service.feed(wandering(3, 2, seed=1))
        service.look_and_turn()
    assert service.stream.shadow is None
    assert service.stream.predictor.challenger is None
    assert service.version == first
    assert list(registry.barred("air")) == [second]
    assert registry.challenger_version("air") is None
    reason = Failing.NAN if when == "rebuilt" else Failing.EXCEPTION
    assert service.value("model_rollbacks_total", reason=str(reason)) == 1.0
