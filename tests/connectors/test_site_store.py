"""What sources tell of places is kept, changes only where it changed, and no change is missed by who follows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.alert_store import AlertStore
from connectors.errors import StoreMissing
from connectors.site_rows import Place, bounded, merged
from connectors.site_store import SiteStore
from connectors.source import Site
from tests.postgres_server import PostgresServer

QUAY = Site("quay", "Harbour quay", 54.1, 12.1, {"no2": "ug/m3"}, {"no2": (0.0, None)}, {"owner": "city"})
HOSTILE = "<img src=x>\x00\ud800'\";DROP TABLE sites;--"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/alerts.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh()


@pytest.fixture
def store(url: str) -> Iterator[SiteStore]:
    """A registry in it."""
    store = SiteStore(url)
    yield store
    store.close()


def test_what_was_told_comes_back(store: SiteStore) -> None:
    """Protects every field, and texts that no database takes as they are."""
    odd = Site(HOSTILE, HOSTILE, None, None, {HOSTILE: HOSTILE}, {HOSTILE: (None, 2.5)}, {HOSTILE: HOSTILE})
    assert store.keep("air", [QUAY, odd], 7) == 2
    hostile, quay = sorted(store.sites(["quay", HOSTILE, "nobody"]), key=lambda row: row.entity)
    assert (quay.entity, quay.source, quay.name, quay.latitude, quay.longitude) == (
        "quay", "air", "Harbour quay", 54.1, 12.1,
    )  # fmt: skip
    assert (quay.channels, quay.limits, quay.attributes) == ({"no2": "ug/m3"}, {"no2": (0.0, None)}, {"owner": "city"})
    assert (quay.changed_us, quay.revision) == (7, 1)
    assert (hostile.entity, hostile.name, hostile.latitude) == (HOSTILE, HOSTILE, None)
    assert (hostile.channels, hostile.limits, hostile.attributes) == (
        {HOSTILE: HOSTILE}, {HOSTILE: (None, 2.5)}, {HOSTILE: HOSTILE},
    )  # fmt: skip


def test_only_what_changed_is_written(store: SiteStore) -> None:
    """Protects the database from pollers that tell the same of a hundred thousand places every hour."""
    assert store.keep("air", [QUAY, Site("ring")], 1) == 2
    assert store.keep("air", [QUAY, Site("ring")], 2) == 0
    assert store.keep("air", [QUAY, Site("ring", "Ring road")], 3) == 1
    assert store.places(1) == (2, [Place("ring", "air", "Ring road", None, None)])
    assert [row.changed_us for row in store.sites(["quay", "ring"])] == [1, 3]


def test_what_is_not_told_stays(store: SiteStore) -> None:
    """Protects a place's coordinates from a second source, or a second answer, that knows only its name."""
    store.keep("air", [QUAY], 1)
    store.keep("other", [Site("quay", "Quay 7", 1.0, None)], 2)
    (row,) = store.sites(["quay"])
    assert (row.source, row.name, row.latitude, row.channels) == ("other", "Quay 7", 54.1, {"no2": "ug/m3"})


def test_who_follows_misses_nothing(store: SiteStore) -> None:
    """Protects maps from places that were written while others were: revisions become visible in their order."""
    with ThreadPoolExecutor(4) as pool:
        for n in range(12):
            pool.submit(store.keep, "air", [Site(f"s{n}")], 1)
        seen: dict[str, int] = {}
        after = 0
        while len(seen) < 12:
            newest, places = store.places(after)
            assert newest >= after
            after = newest
            for place in places:
                seen[place.entity] = newest
    assert store.places(after) == (12, [])


def test_many_at_once(store: SiteStore) -> None:
    """Protects registries of national networks: more than a statement takes variables for."""
    many = [Site(f"station-{n:05}", f"Station {n}", 50 + n / 1e4, 8.0) for n in range(2_500)]
    assert store.keep("air", many, 1) == 2_500
    assert store.keep("air", [*many[:-1], replace(many[-1], name="moved")], 2) == 1
    assert len(store.sites([site.entity for site in many])) == 2_500


def test_it_shares_the_database_with_incidents(url: str, store: SiteStore) -> None:
    """Protects the one URL that the ingest process and the daemon have: whichever comes first makes all tables."""
    store.keep("air", [QUAY], 1)
    alerts = AlertStore(url)
    assert alerts.incidents() == []
    alerts.close()
    missing = SiteStore(f"sqlite:////nowhere/{url[-5:]}.db", create=False)
    with pytest.raises(StoreMissing):
        missing.sites(["quay"])


@pytest.mark.parametrize(
    ("latitude", "longitude", "kept"),
    [
        (54.1, 12.1, (54.1, 12.1)),
        (-90.0, 180.0, (-90.0, 180.0)),
        (10.0, 350.0, (10.0, -10.0)),
        (0.0, 0.0, (None, None)),
        (0.0, 5.0, (0.0, 5.0)),
        (91.0, 5.0, (None, None)),
        (float("nan"), 5.0, (None, None)),
        (5.0, None, (None, None)),
        (5.0, float("inf"), (None, None)),
    ],
)
def test_degrees_that_are_none_are_not_known(
    latitude: float | None, longitude: float | None, kept: tuple[float | None, float | None]
) -> None:
    """Protects maps from points that would stretch them over the whole world."""
    site = bounded(Site("s", "", latitude, longitude))
    assert site is not None
    assert (site.latitude, site.longitude) == kept


numbers = st.none() | st.floats()
texts = st.text(max_size=600)
sites = st.builds(
    Site, texts, texts, numbers, numbers, st.dictionaries(texts, texts, max_size=3),
    st.dictionaries(texts, st.tuples(numbers, numbers), max_size=3), st.dictionaries(texts, texts, max_size=3),
)  # fmt: skip


@given(sites, sites)
def test_whatever_is_told_can_be_kept(first: Site, second: Site) -> None:
    """Protects the keeping from one place that no table takes: all is bounded and finite, and telling twice is once."""
    one, two = bounded(first), bounded(replace(second, entity=first.entity))
    if one is None or two is None:
        assert not 0 < len(first.entity) <= 256
        return
    assert bounded(one) == one
    assert len(one.name) <= 300
    row = merged(merged(None, "a", one), "a", two)
    assert merged(row, "a", two) == row
    json.dumps([dict(row.channels), dict(row.limits), dict(row.attributes)], allow_nan=False)
