"""A new champion on probation: what makes it give way, and what must not."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from models.registry import LINEAR
from pipeline.correcting import Correction
from pipeline.preparing import Terms
from pipeline.probation import AlertRate, Failing, Probation, is_flood
from tests.pipeline.daemon_parts import STEP_US, wandering
from tests.pipeline.swap_parts import NOW, TERMS, Service, constant, shelf, untrained

E = 25


def promoted(service: Service, version: str, believed: bool = True) -> None:
    """Put a version in charge; with ``believed`` its corrections count, whatever was seen of them."""
    service.registry.promote("air", version)
    service.look_and_turn()
    champion = service.stream.predictor.champion
    assert champion is not None
    if believed:
        champion.trust["linear"][...] = 10.0


def test_a_flood_of_alerts_that_only_it_sees_ends_it(tmp_path: Path) -> None:
    """Protects sleep: a believed network that is suddenly far off opens alerts everywhere, and gives way at once."""
    registry, (first, second) = shelf(tmp_path, untrained(0), constant(20.0))
    service = Service(registry)
    values = wandering(E, 310)
    service.feed(values[:300])
    promoted(service, second)
    service.feed(values[300:])
    assert service.version == LINEAR
    assert service.value("model_rollbacks_total", reason=str(Failing.FLOOD)) == 1.0
    service.look_and_turn()
    assert (registry.champion_version("air"), service.version) == (first, first)
    assert registry.barred("air")[second].startswith("flood: ")


def test_a_regional_event_is_not_laid_to_it(tmp_path: Path) -> None:
    """Protects a good network: alerts everywhere at once, that the linear forecast would have raised too, are real."""
    registry, (_, second) = shelf(tmp_path, untrained(0), constant(0.05))
    service = Service(registry)
    values = wandering(E, 330)
    values[310:325] += 400.0
    service.feed(values[:300])
    promoted(service, second)
    service.feed(values[300:])
    opened = {m.entity for m in service.seen.messages if m.phase == "opened" and m.tier == 2}
    assert len(opened) > E // 2
    service.look_and_turn()
    assert (service.version, registry.champion_version("air")) == (second, second)


def test_forecasts_far_worse_than_linear_end_it(tmp_path: Path) -> None:
    """Protects the registry from a network that is worth nothing, though nobody believes it; one that is merely no
    better than the linear forecast stays."""
    registry, (first, bad, mild) = shelf(tmp_path, untrained(0), constant(5.0), constant(0.01))
    for version, stays in ((bad, False), (mild, True)):
        registry.promote("air", first)
        service = Service(registry)
        service.feed(wandering(4, 60))
        promoted(service, version, believed=False)
        assert service.stream.predictor.trusted_share(4) < 1.0 or stays
        service.look_each_step = True
        service.feed(wandering(4, 60, seed=1))
        assert (service.version == version) == stays
        assert (registry.champion_version("air") == version) == stays
    assert registry.barred("air")[bad].startswith("error: ")


def test_after_its_probation_it_is_left_in_peace(tmp_path: Path) -> None:
    """Protects an old champion: what a drift does to it after its probation is retraining's business."""
    registry, (first, second) = shelf(tmp_path, untrained(0), constant(5.0))
    registry.promote("air", second)
    for age, steps in ((timedelta(), 2880), (timedelta(days=1), 1440), (timedelta(days=3), 0)):
        service = Service(registry)
        service.now = NOW + age
        service.registry.promote("air", first)
        service.look_and_turn()
        service.registry.promote("air", second)
        service.look_and_turn()
        service.feed(wandering(4, 60))
        assert (service.version == second) == (steps == 0), age


def test_who_comes_back_is_not_on_probation(tmp_path: Path) -> None:
    """Protects from falling ever deeper: a predecessor that was fallen back to is not judged as if it were new."""
    registry, (first, second) = shelf(tmp_path, constant(5.0), untrained(1))
    registry.promote("air", second)
    registry.rollback("air", to=first, reason="by hand", by="operator")
    service = Service(registry)
    service.feed(wandering(4, 60))
    assert service.version == first


def test_a_stream_without_probation_has_none(tmp_path: Path) -> None:
    """Protects the setting: with no time on probation only what breaks the network ends it."""
    registry, (_, second) = shelf(tmp_path, untrained(0), constant(5.0))
    service = Service(registry, terms=Terms(STEP_US, TERMS.horizons, "f32", timedelta(0)))
    promoted(service, second, believed=False)
    service.feed(wandering(4, 60))
    assert service.version == second


@pytest.mark.parametrize("expected", [0.0, 0.01, 0.5, 3.0, 40.0])
def test_a_flood_is_what_chance_cannot_explain(expected: float) -> None:
    """Protects the rule: where it speaks, a Poisson law of four times the expected mean gives less than a millionth."""
    mean = max(4.0 * expected, 1e-9)
    count = next(k for k in range(10_000) if is_flood(k, expected))
    tail = 1.0 - math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count))
    assert count >= 8
    assert tail < 1e-6
    assert is_flood(count + 1, expected)
    assert not is_flood(round(mean), expected)


def test_alerts_that_were_many_before_are_no_flood() -> None:
    """Protects streams that are loud anyway: what is expected is the budget, or the rate before where that is more."""
    champion = Correction(constant(0.0), "v", 4)
    rate = AlertRate()
    for _ in range(100):
        rate.step(1)
    assert rate.per_step == pytest.approx(1.0)
    loud, quiet = Probation("v", 100, 1e-5, rate.per_step), Probation("v", 100, 1e-5, 0.0)
    verdicts = [(loud.step(champion, 4, 1), quiet.step(champion, 4, 1)) for _ in range(50)]
    assert all(verdict is None for verdict, _ in verdicts)
    found = next(failure for _, failure in verdicts if failure is not None)
    assert (found.version, found.reason) == ("v", Failing.FLOOD)
    assert np.isfinite(rate.per_step)
