"""Places go into the registry behind the sources, named as their readings are, whatever becomes of the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry

from connectors.errors import ConnectorError, StoreRefused, StoreUnavailable
from connectors.free_ports import free_port
from connectors.reading import Reading
from connectors.site_store import SiteStore
from connectors.source import Outlet, Site
from connectors.spool import Message
from pipeline.config import Config
from pipeline.ingest.build import build_ingest
from pipeline.ingest.metrics import IngestMetrics
from pipeline.ingest.site_keeping import SiteKeeper, as_delivered
from tests.hubeau_service import STATION, HubeauService
from tests.ingest.ingest_process import IngestProcess
from tests.kafka_broker import until
from tests.replay_server import ReplayServer


class Registry:
    """A registry that can be away, refuse, or hang."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, list[Site]]] = []
        self.away = False
        self.refuses = ""
        self.asked = 0
        self.go_on = threading.Event()
        self.go_on.set()

    def keep(self, source: str, told: Sequence[Site], now_us: int) -> int:
        """Keep places unless something is wrong."""
        self.asked += 1
        self.go_on.wait(60.0)
        if self.away:
            raise StoreUnavailable("the database is away")
        if any(site.entity == self.refuses for site in told):
            raise StoreRefused("no such characters")
        self.kept.append((source, list(told)))
        return len(told)

    def entities(self) -> list[str]:
        """Return the entities that were kept, in that order."""
        return [site.entity for _, sites in self.kept for site in sites]


def until_kept(keeper: SiteKeeper) -> None:
    """Wait until nothing waits."""

    def nothing_waits() -> bool:
        time.sleep(0.005)
        return keeper.waiting == 0

    until(nothing_waits)


def test_what_is_told_again_costs_no_question() -> None:
    """Protects the database from pollers that tell of all their places at every poll."""
    registry = Registry()
    keeper = SiteKeeper(registry)
    for _ in range(3):
        keeper.describe("air", [Site("a"), Site("b")])
        until_kept(keeper)
    keeper.describe("air", [Site("a"), Site("b", "moved")])
    until_kept(keeper)
    keeper.close()
    assert registry.entities() == ["a", "b", "b"]
    assert keeper.notes() == []


def test_a_database_that_hangs_or_is_away_holds_up_no_source() -> None:
    """Protects sources: describing returns at once, the newest of a place is kept later, and people are told."""
    registry = Registry()
    registry.go_on.clear()
    keeper = SiteKeeper(registry, first_wait_s=0.01)
    keeper.describe("air", [Site("a", "old")])
    until(lambda: registry.asked == 1)
    began = time.monotonic()
    keeper.describe("air", [Site("a", "new"), Site("b")])
    assert time.monotonic() - began < 20.0
    registry.away = True
    registry.go_on.set()
    until(lambda: registry.asked >= 3)
    assert keeper.notes() == ["2 sites wait for the alert database: the database is away"]
    registry.away = False
    until_kept(keeper)
    keeper.close()
    assert [(source, sorted((s.entity, s.name) for s in sites)) for source, sites in registry.kept] == [
        ("air", [("a", "new"), ("b", "")])
    ]
    assert keeper.notes() == []


def test_news_while_a_place_is_written_is_not_lost() -> None:
    """Protects the newest word about a place that comes while an older one is on its way."""
    registry = Registry()
    registry.go_on.clear()
    keeper = SiteKeeper(registry)
    keeper.describe("air", [Site("a", "old")])
    until(lambda: registry.asked == 1)
    keeper.describe("air", [Site("a", "new")])
    registry.go_on.set()
    until_kept(keeper)
    keeper.close()
    assert [sites[0].name for _, sites in registry.kept] == ["old", "new"]


def test_one_place_that_is_refused_holds_up_no_other() -> None:
    """Protects the map from one place that the database will never take."""
    registry = Registry()
    registry.refuses = "odd"
    keeper = SiteKeeper(registry)
    keeper.describe("air", [Site("a"), Site("odd"), Site("b")])
    until_kept(keeper)
    keeper.close()
    assert sorted(registry.entities()) == ["a", "b"]


def test_what_waits_is_bounded_and_comes_when_it_is_told_again() -> None:
    """Protects the memory while the database is away; what was left out is told again by its source."""
    registry = Registry()
    registry.away = True
    keeper = SiteKeeper(registry, most_pending=2, first_wait_s=0.01)
    three = [Site("a"), Site("b"), Site("c")]
    keeper.describe("air", three)
    assert keeper.waiting == 2
    assert any("left out" in note for note in keeper.notes())
    registry.away = False
    until_kept(keeper)
    keeper.describe("air", three)
    until_kept(keeper)
    keeper.close()
    assert registry.entities() == ["a", "b", "c"]


def test_the_end_tries_once_more() -> None:
    """Protects what was told just before the process was asked to leave."""
    registry = Registry()
    keeper = SiteKeeper(registry)
    keeper.describe("air", [Site("a")])
    keeper.close(60.0)
    assert registry.entities() == ["a"]
    SiteKeeper(registry).close()  # who never had anything to keep leaves too


def test_places_are_named_as_their_readings(tmp_path: Path) -> None:
    """Protects the match of places and readings: prefix, renaming and choice of channels are the outlet's, with a
    source that runs in the ingest process and a database on the disk."""

    class Lists:
        up = True

        def __init__(self) -> None:
            self.messages: list[Message] = []

        def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
            self.messages += messages
            return {}

        def close(self) -> None:
            """Nothing is open."""

    source = {
        "name": "weir", "kind": "hubeau", "codes": ["K437311001"],
        "prefix": "fr/", "rename": {"P2": "pm25"}, "only": ["pm25"],
    }  # fmt: skip
    stream = {"name": "air", "topics": ["air"], "step": "1m", "channels": [{"name": "pm25"}]}
    ingest_config = {"spool": str(tmp_path / "spool.db"), "sources": [source]}
    config = Config.model_validate({"streams": [stream], "ingest": ingest_config})
    store = SiteStore(f"sqlite:///{tmp_path}/alerts.db")
    keeper = SiteKeeper(store)
    lists = Lists()
    ingest = build_ingest(config, IngestMetrics(CollectorRegistry()), delivery=lists, describe=keeper.describe)
    ingest.delivering.start()
    outlet: Outlet = ingest.supervisor.sources[0]._outlet
    outlet.describe([Site("7", channels={"P2": "µg/m³", "P1": "µg/m³"}, limits={"P2": (0.0, 900.0)})])
    outlet.deliver([Reading("7", "P2", 1_795_190_400_000_000, 12.5, "µg/m³")])
    until_kept(keeper)
    keeper.close()
    (row,) = store.sites(["fr/7"])
    store.close()
    ingest.delivering.close(60.0)
    ingest.spool.close()
    assert (row.source, row.channels, row.limits) == ("weir", {"pm25": "ug/m3"}, {"pm25": (0.0, 900.0)})
    (message,) = lists.messages
    assert b'"fr/7"' in message.value
    assert b'"pm25"' in message.value
    assert b'"ug/m3"' in message.value


def test_a_process_tells_where_its_stations_are_while_kafka_is_away(tmp_path: Path, replay: ReplayServer) -> None:
    """Protects the whole way, from a service's metadata by a real ``vedette ingest`` to the database that the console
    reads; where things are does not wait for the broker of the readings."""
    service = HubeauService(replay)
    source = f"  - {{name: loire, kind: hubeau, url: {service.url}, codes: [{STATION}], prefix: fr/, every: 1s}}"
    store = SiteStore(f"sqlite:///{tmp_path}/state/vedette.db", create=False)
    with IngestProcess(tmp_path, f"127.0.0.1:{free_port()}", "air", source) as process:
        process.start()

        def kept() -> bool:
            time.sleep(0.05)
            process.asked("/livez")  # raises if it has ended
            with suppress(StoreUnavailable):  # there is none yet
                return bool(store.sites([f"fr/{STATION}"]))
            return False

        until(kept)
        (row,) = store.sites([f"fr/{STATION}"])
        assert process.stop() == 0
    store.close()
    assert (row.source, row.name, row.latitude, row.longitude) == ("loire", "La Loire à Blois", 47.586, 1.335)
    assert row.channels == {"stage": "mm", "discharge": "L/s"}
    assert row.attributes["libelle_cours_eau"] == "La Loire"


def test_names_of_limits_follow_their_channels() -> None:
    """Protects limits from naming channels that nobody has."""
    site = Site("a", channels={"P1": "x"}, limits={"P1": (None, 1.0), "P2": (0.0, 1.0)})
    (named,) = as_delivered([site], rename={"P1": "pm10"}, only=frozenset({"pm10"}))
    assert (named.entity, named.channels, named.limits) == ("a", {"pm10": "x"}, {"pm10": (None, 1.0)})
