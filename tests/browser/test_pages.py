"""The console's pages in a real browser: at both widths, in both schemes, for everybody, with hostile names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.browser.console_server import Served
from tests.browser.console_world import HOSTILE, LONG, STREAM
from tests.browser.looking import LOOKS, NOT_DRAWN, WIDTHS, Axe, Scheme, Seen, too_wide

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@dataclass(frozen=True)
class Visit:
    """What was found on one page."""

    headings: int
    too_wide: int
    troubles: list[str]
    violations: list[list[object]] | None
    """Of accessibility; None where the checker is not installed."""


Visits = Callable[[int, Scheme], dict[str, Visit]]


@pytest.fixture(scope="package")
def visits(tab: Page, console: Served) -> Visits:
    """Every page, opened once for a width and scheme: what several tests look for is gathered in one visit."""

    @cache
    def visited(width: int, scheme: Scheme) -> dict[str, Visit]:
        axe, found = Axe(), {}
        for name, path in places(console).items():
            seen = Seen(tab, console.address)
            seen.screen(width, scheme)
            page = seen.goto(path)
            page.wait_for_selector("#live[data-state=live], #live[hidden]", state="attached")
            wider = too_wide(page)
            violations = axe.violations(page) if axe.there else None
            found[name] = Visit(page.locator("h1").count(), wider, seen.troubles, violations)
            seen.leave()
        return found

    return visited


def places(console: Served) -> dict[str, str]:
    """Return the pages' addresses by name."""
    world = console.world
    return {
        "now": "/",
        "incidents": "/incidents",
        "incident": f"/incidents/{world.open_id}",
        "past incident": f"/incidents/{world.past_id}",
        "entities": "/entities",
        "entity": f"/entities?stream={STREAM}&entity=market",
        "long range": f"/entities?stream={STREAM}&entity=harbour&hours=168",
        "sites": "/sites",
        "no sites": "/sites?search=nobody",
        "models": "/models",
        "system": "/system",
        "docs": "/docs",
    }


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_each_page_renders(visits: Visits, width: int, scheme: Scheme) -> None:
    """No page has an error in the console, sends a request away, is wider than the screen, or lacks a heading."""
    for name, visit in visits(width, scheme).items():
        assert visit.headings == 1, name
        assert visit.too_wide <= 0, name
        assert visit.troubles == [], name


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_accessibility(visits: Visits, width: int, scheme: Scheme) -> None:
    """axe finds nothing on any page: contrast, labels, headings, landmarks, tables."""
    if not Axe.there:
        pytest.skip("axe-core is not installed: make tools gets it where npm is")
    assert {name: visit.violations for name, visit in visits(width, scheme).items() if visit.violations != []} == {}


def test_an_incident_tells_why(seen: Seen, console: Served) -> None:
    """Its sentence, series, attention, shares, witnesses, similar ones, and why it was not told earlier are there."""
    page = seen.goto(f"/incidents/{console.world.open_id}")
    assert "PM2.5 is" in page.locator("#reason").inner_text()
    # Two for the band, expected and observed of each of four channels, and the score.
    assert page.locator("[data-chart=series] .scatterlayer .trace").count() == 4 * 4 + 1
    assert page.locator("table.heat tbody tr").count() >= 8
    messages = console.world.answers.incident(console.world.open_id)["messages"]
    assert page.locator("table.heat thead th").count() == 1 + len(messages)
    assert page.locator("table.heat tbody th").first.inner_text().strip().startswith("the same hour yesterday")
    text = page.locator("main").inner_text()
    for words in ("the program’s lags", "Share of each channel", "innovation", "The first sign came 1 step"):
        assert words in text
    assert page.locator("[data-chart=scores] .bars .point path").count() > 60
    assert page.locator("section[aria-labelledby=similar-title] .item", has_text="ring-road").count() == 1


def test_times_are_the_viewers_with_utc_at_hand(seen: Seen, console: Served) -> None:
    """A time shows the viewer's zone, and UTC in its title; only words that change are left out of the title."""
    page = seen.goto(f"/incidents/{console.world.open_id}")
    opened = page.locator("#facts time").nth(1)
    utc = re.search(r"(\d\d):(\d\d) UTC$", opened.get_attribute("title") or "")
    shown = re.search(r"(\d\d):(\d\d)$", opened.inner_text())
    assert utc is not None
    assert shown is not None
    assert (int(shown[1]) - int(utc[1])) % 24 == 2  # September in Berlin
    assert "Europe/Berlin" in page.locator("#zone").inner_text()


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_names_are_text(seen: Seen, console: Served, width: int) -> None:
    """Names full of markup, templates and formats, or 10 kB long, are text: nothing runs, nothing overflows."""
    seen.screen(width, "light")
    entity = f"/entities?stream={STREAM}&entity="
    paths = ["/", f"/incidents/{console.world.hostile_id}", "/entities", entity + quote(HOSTILE, safe="")]
    for path in (*paths, entity + LONG):
        page = seen.goto(path)
        assert page.locator("main img, main b b, main script:not([type='application/json'])").count() == 0
        assert page.title() != "hacked"
        assert too_wide(page) <= 0, path[:60]
        assert seen.troubles == []
        if path == paths[-1]:
            assert page.locator("h1").inner_text().startswith('<img src=x onerror="document.title=')
            assert "{{7*7}}" in page.locator("h1").inner_text()


def test_a_hostile_channel_is_text_in_charts_too(seen: Seen) -> None:
    """Plotly reads its texts as markup; ours reach it so that they are shown as they are."""
    page = seen.goto(f"/entities?stream={STREAM}&entity=harbour")
    shown = page.evaluate("plain('<a href=\"javascript:alert(1)\">x</a> & %{y} $a$')")
    assert "<" not in shown
    assert "%{" not in shown
    assert "$" not in shown


def test_what_is_not_there_is_told_with_a_way_out(seen: Seen) -> None:
    """Wrong addresses and empty ranges are pages with the reason, not stack traces."""
    page = seen.page
    for path, status, words in (
        ("/incidents/0123456789", 404, "There is no incident"),
        ("/incidents/nonsense", 400, "incident's id"),
        (f"/entities?stream={STREAM}&entity=nobody", 404, "Nothing is known"),
        (f"/entities?stream={STREAM}&entity=market&from=yesterday&to=now", 400, "no time"),
        ("/entities?stream=water", 404, "no stream"),
        ("/models?stream=water", 404, "no stream"),
        ("/incidents?offset=-1", 400, "too long, or missing"),
        ("/nowhere", 404, "There is no such page"),
    ):
        answer = page.goto(f"{seen.address}{path}")
        assert answer is not None
        assert answer.status == status, path
        assert words in page.locator("main").inner_text(), path
        assert page.locator("a", has_text="Go to Now").count() == 1
    seen.goto(f"/entities?stream={STREAM}&entity=market&from=2025-01-01T00:00&to=2025-01-02T00:00")
    assert "Try another range" in page.locator("main").inner_text()


def test_entities_are_found_on_the_server(seen: Seen) -> None:
    """A search is a question to the server, and the row leads to the entity with its forecast and limits."""
    page = seen.goto("/entities")
    page.fill("input[name=search]", "MARK")
    page.keyboard.press("Enter")
    page.wait_for_url("**/entities?stream=air&search=MARK")
    page.click("tbody a")
    page.wait_for_url("**entity=market")
    page.wait_for_selector(NOT_DRAWN, state="detached")
    text = page.locator("main").inner_text()
    assert "0.025 to the 0.975 quantile" in text
    assert "PM2.5 above 50" in text
    assert page.locator("section[aria-labelledby=forecast-title] tbody tr").count() == 3
    steps = page.evaluate("JSON.parse(document.getElementById('series-data').textContent).times_us.length")
    assert steps == 288
