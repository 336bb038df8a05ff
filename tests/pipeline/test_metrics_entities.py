"""The gauges of single entities tell the newest step, of as many as allowed, whatever they are called."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from models.explanation import BAND_SPREADS
from pipeline.live import Live, LiveStep
from pipeline.metrics_entities import FAMILIES, EntityMetrics, exposition
from tests.pipeline.live_parts import STEP_US, live_step

Series = dict[tuple[str, str, str, str], float]


class Shown:
    """What /metrics tells of the steps that it is given."""

    def __init__(self, max_series: int = 1000, idle_s: float = 3600.0) -> None:
        self.live, self.registry = Live(), CollectorRegistry()
        self.metrics = EntityMetrics(self.live, self.registry, max_series, idle_s)

    def step(
        self, step: int, names: Sequence[str], values: Sequence[Sequence[float]], stream: str = "air",
        channels: Sequence[str] = ("pm25", "no2"),
    ) -> None:  # fmt: skip
        self.live.stepped(live_step(step, names, values, stream=stream, channels=channels))

    def text(self) -> str:
        return exposition(self.registry, self.metrics).decode()

    def series(self) -> Series:
        """Return value by (name, stream, entity, channel), as a strict parser reads it."""
        return {
            (
                sample.name,
                sample.labels["stream"],
                sample.labels["entity"],
                sample.labels.get("channel", ""),
            ): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
            if "entity" in sample.labels
        }

    def entities(self, stream: str = "air") -> list[str]:
        """Return whose scores are shown."""
        return sorted(key[2] for key in self.series() if key[:2] == ("vedette_score", stream))

    def left_out(self) -> float | None:
        return self.registry.get_sample_value("vedette_entity_series_left_out")


def test_the_newest_step_is_told_with_its_band() -> None:
    """Protects graphs: each number stands under the name and the entity that it belongs to."""
    shown = Shown()
    shown.step(1, ["a", "b"], [[1.0, 2.0], [3.0, 4.0]])
    shown.step(2, ["a", "b"], [[10.0, 20.5], [30.0, 1e-7]])
    series = shown.series()
    assert series["vedette_observed", "air", "a", "no2"] == 20.5
    assert series["vedette_observed", "air", "b", "no2"] == 1e-7
    assert series["vedette_expected", "air", "b", "pm25"] == 29.0
    assert series["vedette_expected_lower", "air", "b", "pm25"] == pytest.approx(29.0 - BAND_SPREADS)
    assert series["vedette_expected_upper", "air", "b", "pm25"] == pytest.approx(29.0 + BAND_SPREADS)
    assert series["vedette_score", "air", "a", ""] == 0.5
    assert series["vedette_incident", "air", "a", ""] == 0.0
    assert len(series) == 2 * (4 * 2 + 2)
    assert shown.registry.get_sample_value("vedette_entity_series") == len(series)


def test_what_is_missing_has_no_line() -> None:
    """Protects graphs from a NaN or a zero where nothing was measured."""
    shown = Shown()
    shown.step(1, ["a"], [[1.0, math.nan]])
    series = shown.series()
    assert ("vedette_observed", "air", "a", "no2") not in series
    assert ("vedette_expected", "air", "a", "no2") not in series
    assert ("vedette_observed", "air", "a", "pm25") in series
    assert "nan" not in shown.text().lower()


def test_no_step_yet_is_an_empty_answer_that_parses() -> None:
    """Protects the first scrape, before anything was scored."""
    shown = Shown()
    assert shown.series() == {}


def test_beyond_the_limit_entities_are_left_out_and_counted() -> None:
    """Protects Prometheus from a hundred thousand sensors."""
    shown = Shown(max_series=35)  # 10 each
    shown.step(1, list("abcde"), [[1.0, 1.0]] * 5)
    assert len(shown.entities()) == 3
    assert shown.left_out() == 20


def test_who_is_shown_stays_when_others_come_and_rows_change() -> None:
    """Protects graphs from holes: entities that come or move do not push out those that are shown."""
    shown = Shown(max_series=20)
    shown.step(1, ["m", "n", "o"], [[1.0, 1.0]] * 3)
    first = shown.entities()
    everyone = ["o", *string.ascii_lowercase[:13], "n", "m"]  # a new list, as after a rebalance
    shown.step(2, everyone, [[float(i), 1.0] for i in range(len(everyone))])
    assert shown.entities() == first
    assert shown.series()["vedette_observed", "air", first[0], "pm25"] == everyone.index(first[0])


def test_the_choice_depends_on_names_and_not_on_who_came_first() -> None:
    """Protects from another choice after each restart, when entities come in another order."""
    choices = []
    for names in (list("abcdefgh"), list("hgfedcba")):
        shown = Shown(max_series=40)
        shown.step(1, names, [[1.0, 1.0]] * 8)
        choices.append(shown.entities())
    assert choices[0] == choices[1]


def test_an_idle_entity_loses_its_series_and_gives_its_place_to_another() -> None:
    """Protects the limit from being used up by sensors that are gone."""
    shown = Shown(max_series=10, idle_s=600.0)
    names, gone = ["a", "b"], [math.nan, math.nan]
    shown.step(1, names, [[1.0, 1.0], [1.0, 1.0]])
    (first,) = shown.entities()
    row = names.index(first)
    for step in range(2, 12):
        values = [[1.0, 1.0], [1.0, 1.0]]
        values[row] = gone
        shown.step(step, names, values)
    assert shown.entities() == [first]  # it is 10 minutes ago, not more
    shown.step(12, names, [gone if i == row else [1.0, 1.0] for i in range(2)])
    (second,) = shown.entities()
    assert second != first
    assert shown.left_out() == 0
    assert 12 * STEP_US - STEP_US > 600e6


def test_what_was_measured_between_two_scrapes_counts() -> None:
    """Protects entities that report seldom from being called idle because no scrape met them."""
    shown, names = Shown(idle_s=600.0), ["a"]
    shown.step(1, names, [[1.0, 1.0]])
    assert shown.entities() == ["a"]
    shown.step(8, names, [[1.0, 1.0]])
    shown.step(13, names, [[math.nan, math.nan]])
    assert shown.entities() == ["a"]


class Overtaken(Live):
    """Closes another step, with an entity more, whenever it is asked for the newest."""

    def newest(self, stream: str) -> LiveStep | None:
        newest = super().newest(stream)
        assert newest is not None
        assert isinstance(newest.names, list)
        newest.names.append(f"e{newest.n}")
        self.stepped(live_step(newest.step + 1, newest.names, [[1.0, 1.0]] * len(newest.names)))
        return newest


def test_a_step_that_closes_during_a_scrape_does_no_harm() -> None:
    """Protects scrapes from the loop, which waits for none of them."""
    live, registry = Overtaken(), CollectorRegistry()
    metrics = EntityMetrics(live, registry)
    live.stepped(live_step(1, ["e0"], [[1.0, 1.0]]))
    for entities in (1, 2, 3):
        assert metrics.text().count(b"vedette_score{") == entities


def test_streams_share_the_room() -> None:
    """Protects a small stream from vanishing beside a large one."""
    shown = Shown(max_series=100)
    shown.step(1, [f"e{i}" for i in range(50)], [[1.0, 1.0]] * 50, stream="large")
    shown.step(1, ["x", "y"], [[1.0], [1.0]], stream="small", channels=("level",))
    assert shown.entities("small") == ["x", "y"]
    assert len(shown.entities("large")) == (100 - 2 * 6) // 10


HOSTILE = [
    'a"} 1\nvedette_score{stream="air",entity="forged', "back\\slash", "line\nbreak", "\r\n",
    "<script>alert(1)</script>",
    "../../etc/passwd", "nul\0byte", "half \ud800 character", "x" * 10_000, "x" * 10_001, "{{ $value }}",
    "\u00df \u6f22 \U0001f642", "", " ",
]  # fmt: skip


def test_hostile_names_stay_labels() -> None:
    """Protects the whole answer from an entity whose name is text format, broken Unicode or very long."""
    shown = Shown()
    shown.step(1, HOSTILE, [[float(i), 1.0] for i in range(len(HOSTILE))])
    series = shown.series()
    observed = {key[2]: value for key, value in series.items() if key[0] == "vedette_observed" and key[3] == "pm25"}
    assert sorted(observed.values()) == [float(i) for i in range(len(HOSTILE))]
    for i in (0, 1, 2, 3, 4, 5, 10, 11, 12, 13):
        assert observed[HOSTILE[i]] == i
    assert max(map(len, observed)) < 250


@given(st.lists(st.text(st.characters(exclude_categories=())), min_size=1, max_size=5, unique=True), st.text())
def test_any_names_give_as_many_series(names: list[str], channel: str) -> None:
    """Protects from a name that nobody thought of: every entity keeps series of its own, and the answer parses."""
    shown = Shown()
    shown.step(1, names, [[1.0]] * len(names), channels=(channel,))
    assert len(shown.series()) == 6 * len(names)


def test_every_family_is_listed_with_its_labels() -> None:
    """Protects the documentation: what is told is what FAMILIES lists."""
    shown = Shown()
    shown.step(1, ["a"], [[1.0, 1.0]])
    told = {
        (family.name, tuple(sample.labels), family.documentation)
        for family in text_string_to_metric_families(shown.text())
        for sample in family.samples
    }
    assert told == set(FAMILIES)


def test_an_incident_names_its_site() -> None:
    """Protects the overview by site: the label is what the config says of the entity, whatever it is called."""
    live, registry = Live(), CollectorRegistry()
    metrics = EntityMetrics(live, registry, site=lambda stream, entity: f'{stream} "{entity[0]}"')
    live.stepped(live_step(1, ["north/1", "south/1"], [[1.0, 2.0], [3.0, 4.0]], stream="air", channels=["pm25", "no2"]))
    families = text_string_to_metric_families(exposition(registry, metrics).decode())
    [found] = [family for family in families if family.name == "vedette_incident"]
    assert [(s.labels["entity"], s.labels["site"]) for s in found.samples] == [
        ("north/1", 'air "n"'), ("south/1", 'air "s"')
    ]  # fmt: skip
