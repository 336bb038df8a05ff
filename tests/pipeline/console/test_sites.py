"""Sites in the API and on their page: which fit, how each is, and what is told while something is away."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from connectors.errors import StoreUnavailable
from connectors.source import Site
from pipeline.console.app import create_app
from pipeline.console.page_gate import PageGate
from pipeline.console.page_sites import sites_view
from pipeline.console.pages import router
from pipeline.console.site_index import SiteIndex
from pipeline.health import Probes
from tests.pipeline.console.console_parts import HOSTILE, NOW_US, Browser, Console, console, incident, step

NAMES = ("north", "east", "south", HOSTILE)
SITES = (
    Site("north", "Northern gate", 54.2, 12.1, {"pm25": "ug/m3"}, {"pm25": (0.0, None)}, {"owner": "city"}),
    Site("east", "", 54.1, 12.2, {"pm25": "ug/m3", "no2": "ug/m3"}),
    Site("south", "Südkai", 54.0, 12.1),
    Site(HOSTILE, HOSTILE, 54.05, 12.15, {HOSTILE: HOSTILE}, {}, {HOSTILE: HOSTILE}),
    Site("closed", "Was here", 54.1, 12.0),
    Site("nowhere", "Without coordinates"),
)


@pytest.fixture
def one(tmp_path: Path) -> Console:
    """A console of a test's own; see ``with_sites``."""
    return with_sites(tmp_path)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Console:
    """A console that nobody changes."""
    return with_sites(tmp_path_factory.mktemp("console"))


@pytest.fixture(scope="module")
def pages(still: Console) -> Browser:
    """Somebody who looks at the pages of the console that nobody changes."""
    return looking_at(still)


def with_sites(folder: Path) -> Console:
    """Return a console with four entities measured, two more sites, and incidents: north is in alert, south silent."""
    made = console(folder, names=NAMES)
    made.store.keep([incident("c" * 32, "south", kind="silence"), incident("d" * 32, "north")])
    made.sites.keep("city", SITES, NOW_US - 5_000_000)
    return made


def looking_at(one: Console) -> Browser:
    """Return somebody who looks at the pages of a console."""
    shown = [router(one.answers, PageGate(), one.asking)]
    probes = Probes(one.status, one.registry, "1.2.3")
    app = create_app(one.answers, one.events, probes, one.keeper, one.asking, pages=shown)
    return Browser(app, "127.0.0.1", "localhost:9464")


def found(one: Console, query: str = "") -> dict[str, object]:
    """Return what the API says."""
    answer = one.browser().get(f"/api/sites?{query}")
    assert answer.status_code == 200, answer.text
    told: dict[str, object] = answer.json()
    return told


def entities(told: dict[str, object]) -> list[str]:
    """Return which sites were listed, in their order."""
    sites = told["sites"]
    assert isinstance(sites, list)
    return [site["entity"] for site in sites]


def test_each_site_has_its_state_and_the_worst_is_first(still: Console) -> None:
    """Protects the order and the states: open incidents and the newest step tell, what nothing measures is unknown."""
    told = found(still)
    sites = told["sites"]
    assert isinstance(sites, list)
    assert {site["entity"]: site["state"] for site in sites} == {
        "north": "alert", "south": "silent", "east": "ok", HOSTILE: "ok", "closed": "unknown", "nowhere": "unknown",
    }  # fmt: skip
    assert entities(told) == ["north", "south", HOSTILE, "east", "closed", "nowhere"]
    assert told["counts"] == {"unknown": 2, "ok": 2, "silent": 1, "watch": 0, "alert": 1}
    assert (told["total"], told["located"], told["troubles"]) == (6, 5, [])
    assert sites[0] == {
        "entity": "north", "name": "Northern gate", "source": "city", "latitude": 54.2, "longitude": 12.1,
        "state": "alert", "stream": "air",
    }  # fmt: skip
    assert [site["stream"] for site in sites[-2:]] == [None, None]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("search=GATE", ["north"]),
        ("search=südkai", ["south"]),
        ("search=EAST", ["east"]),
        ("state=unknown", ["closed", "nowhere"]),
        ("box=12.05,53.9,12.3,54.15", ["south", HOSTILE, "east"]),
        ("box=12.05,53.9,12.3,54.15&state=silent", ["south"]),
        ("source=city&limit=2&offset=1", ["south", HOSTILE]),
        ("source=other", []),
    ],
)
def test_what_is_asked_for_is_found(still: Console, query: str, expected: list[str]) -> None:
    """Protects searching, filters, boxes and pages: all of it is done here, not in the browser."""
    assert entities(found(still, query)) == expected


def test_counts_are_those_of_all_states(still: Console) -> None:
    """Protects the filter: a chosen state does not make the others look empty."""
    counts = found(still, "state=alert&search=o")["counts"]
    assert counts == {"unknown": 2, "ok": 0, "silent": 1, "watch": 0, "alert": 1}


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [("box=1,2,3", 400, "west,south,east,north"), ("state=odd", 422, "state"), ("limit=0", 422, "limit")],
)
def test_questions_with_mistakes_are_refused(still: Console, query: str, status: int, word: str) -> None:
    """Protects whoever writes a script: what is wrong is named."""
    answer = still.browser().get(f"/api/sites?{query}")
    assert (answer.status_code, word in answer.json()["error"]) == (status, True), answer.text


def test_news_of_sites_steps_and_incidents_are_seen_at_once(one: Console) -> None:
    """Protects the map from showing the past: what is in memory follows the registry, the steps and the incidents."""
    assert found(one)["total"] == 6
    one.sites.keep("city", [Site("closed", "Here again", 54.15, 12.0), Site("new", "New", 54.3, 12.3)], NOW_US)
    one.live.stepped(step((*NAMES, "closed"), 1))
    one.store.keep([incident("d" * 32, "north", resolved_us=NOW_US + 1), incident("e" * 32, "new")])
    told = found(one, "search=e")
    sites = told["sites"]
    assert isinstance(sites, list)
    states = {site["entity"]: (site["name"], site["state"]) for site in sites}
    assert states["closed"] == ("Here again", "ok")
    assert states["new"] == ("New", "alert")


def test_a_registry_that_was_replaced_is_read_anew(one: Console, tmp_path: Path) -> None:
    """Protects from sites of a database that is not there any more."""
    index = SiteIndex()
    assert len(index.read(one.sites).rows) == 6
    assert [place.name for place in index.read(one.sites).rows if place.entity == "north"] == ["Northern gate"]
    (tmp_path / "other").mkdir()
    other = console(tmp_path / "other")
    assert index.read(other.sites).rows == ()
    other.sites.keep("city", SITES[:1], NOW_US)
    assert len(index.read(other.sites).rows) == 1


def test_what_is_away_is_told(one: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the map while the database is away: what is known from before is shown, with the reason; before
    anything is known there is an answer that says why."""

    def away(*_: object) -> object:
        raise StoreUnavailable("nobody answers")

    with monkeypatch.context() as broken:
        broken.setattr(one.sites, "places", away)
        first = one.browser().get("/api/sites")
        assert (first.status_code, "nobody answers" in first.json()["error"]) == (503, True)
    one.answers.sources._rest.until_s = 0.0
    assert found(one)["total"] == 6
    with monkeypatch.context() as broken:
        broken.setattr(one.sites, "places", away)
        told = found(one)
        assert told["total"] == 6
        assert "nobody answers" in str(told["troubles"])
        page = looking_at(one).get("/sites").text
    assert "Not everything could be asked" in page
    assert "nobody answers" in page
    assert "Northern gate" in page


def test_one_site_is_told_with_its_entity_and_its_incidents(still: Console, pages: Browser) -> None:
    """Protects what the source told: name, place, channels, limits and attributes, in the API and on both pages."""
    site = still.browser().get("/api/entity?stream=air&entity=north").json()["site"]
    assert site == {
        "entity": "north", "name": "Northern gate", "source": "city", "latitude": 54.2, "longitude": 12.1,
        "channels": {"pm25": "ug/m3"}, "limits": {"pm25": [0.0, None]}, "attributes": {"owner": "city"},
        "changed": site["changed"],
    }  # fmt: skip
    assert still.browser().get(f"/api/incidents/{'d' * 32}").json()["site"] == site
    assert still.browser().get(f"/api/incidents/{'b' * 32}").json()["site"]["name"] == HOSTILE
    for path in ("/entities?stream=air&entity=north", f"/incidents/{'d' * 32}"):
        page = pages.get(path).text
        for words in ("Northern gate", "54.2000° N, 12.1000° E", "owner", "/sites?box="):
            assert words in page, (path, words)


def test_a_site_that_nothing_measures_has_a_page(pages: Browser) -> None:
    """Protects links of the map: what a source tells of a place is shown also where no reading came."""
    answer = pages.get("/entities?stream=air&entity=closed")
    assert answer.status_code == 200
    assert "Was here" in answer.text
    assert pages.get("/entities?stream=air&entity=nobody").status_code == 404


def test_the_page_draws_marks_that_lead_somewhere(pages: Browser) -> None:
    """Protects the map: a mark for each site that has coordinates, on both sheets, and every link answers."""
    page = pages.get("/sites").text
    assert page.count('class="mark ') == 2 * 5
    assert page.count('class="mark alert"') == 2
    assert "Northern gate (north): alert" in page
    assert "12.1° E" in page
    assert "5 km" in page
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/(?:sites|entities)[^"]*)"', page)}
    assert len(links) > 15
    for link in links:
        assert pages.get(link).status_code == 200, link


def test_hostile_names_are_text(pages: Browser) -> None:
    """Protects whoever looks: names of sites, channels and attributes are text in lists, titles and drawings."""
    for path in ("/sites", f"/sites?search={quote(HOSTILE)}", f"/entities?stream=air&entity={quote(HOSTILE, safe='')}"):
        page = pages.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/sites?search=nobody", "No site fits"),
        ("/sites?box=0,0,1,1", "No site lies here"),
        ("/sites?search=nowhere", "None of these sites has coordinates"),
    ],
)
def test_nothing_found_is_told(pages: Browser, path: str, words: str) -> None:
    """Protects from an empty page: why there is nothing, and a way back."""
    page = pages.get(path)
    assert page.status_code == 200
    assert words in page.text
    assert 'href="/sites"' in page.text


def test_mistakes_in_the_address_are_pages(pages: Browser) -> None:
    """Protects from stack traces."""
    for path in ("/sites?box=here", "/sites?state=odd", f"/sites?box={'9' * 200}", "/sites?offset=-1"):
        answer: httpx.Response = pages.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == 400, path
        assert "<h1" in answer.text


def test_before_any_site_is_known_the_page_says_where_they_come_from(tmp_path: Path) -> None:
    """Protects the newcomer from an empty map."""
    bare = console(tmp_path)
    nothing = dict.fromkeys(("search", "state", "source", "box"), "")
    view = sites_view(bare.answers, nothing, 0)
    assert (view["total"], view["maps"], view["asked"]) == (0, {}, False)


def test_marks_of_many_tell_the_rarest(one: Console) -> None:
    """Protects one alert among a thousand sites of one spot: its share of the ring is seen."""
    crowd: Sequence[Site] = [Site(f"s{n}", "", 10.0, 10.0) for n in range(1_000)]
    one.sites.keep("crowd", [*crowd, Site("far", "", 11.0, 11.0)], NOW_US)
    one.store.keep([incident("f" * 32, "s7")])
    page = looking_at(one).get("/sites?source=crowd").text
    assert "1000 sites: 1 alert, 999 not measured" in page
    arcs = re.findall(r'class="arc (\w+)" r="[\d.]+" pathLength="100" stroke-dasharray="([\d.]+) 100"', page)
    assert [tone for tone, _ in arcs] == ["alert", "calm"] * 2
    assert float(arcs[0][1]) > 10
    assert float(arcs[0][1]) + float(arcs[1][1]) == pytest.approx(100, abs=0.2)
