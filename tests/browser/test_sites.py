"""The map of sites in a real browser: it is drawn without a script's help, leads to its entities, and follows news."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from connectors.source import Site
from pipeline.console.site_answers import SiteQuery
from tests.browser.console_server import Served
from tests.browser.console_world import HOSTILE, next_message
from tests.browser.looking import NOT_DRAWN, WIDTHS, Seen, too_wide

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser


def sheet(page: Page, width: int) -> Locator:
    """Return the map that a screen of that width shows; the other one is hidden."""
    shown, hidden = ("narrow", "wide") if width <= 700 else ("wide", "narrow")
    assert not page.locator(f".map svg.{hidden}").is_visible()
    return page.locator(f".map svg.{shown}")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_site_is_on_the_map_and_can_be_reached(seen: Seen, console: Served, width: int) -> None:
    """A mark for each site with coordinates lies on the sheet, large enough to be hit, in its state's colour."""
    seen.screen(width, "light")
    page = seen.goto("/sites")
    drawn = sheet(page, width)
    frame = drawn.bounding_box()
    assert frame is not None
    assert drawn.locator("a.mark").count() == console.world.answers.sites(SiteQuery())["located"]
    for mark in drawn.locator("a.mark").all():
        box = mark.bounding_box()
        assert box is not None
        assert frame["x"] - 2 <= box["x"] <= frame["x"] + frame["width"] - 18
        assert frame["y"] - 2 <= box["y"] <= frame["y"] + frame["height"] - 18
        assert box["width"] >= 20
    fills = {
        state: drawn.locator(f"a.mark.{state} path").first.evaluate("(path) => getComputedStyle(path).fill")
        for state in ("alert", "good")
    }
    assert fills["alert"] != fills["good"]
    assert drawn.locator(".degrees text").count() >= 3
    assert (drawn.locator(".scale text").text_content() or "").endswith("km")
    assert too_wide(page) <= 0
    assert seen.troubles == []


def test_a_mark_leads_to_its_entity_and_back_to_the_map(seen: Seen) -> None:
    """Whoever clicks a mark is at its entity, which tells where it is, and leads to the map around it."""
    page = seen.goto("/sites")
    page.locator(".map svg.wide a.mark", has=page.locator("title", has_text="Harbour station")).locator(
        "path"
    ).first.click()
    page.wait_for_url("**/entities?stream=air&entity=harbour")
    page.wait_for_selector(NOT_DRAWN, state="detached")
    place = page.locator("section[aria-labelledby=place-title]")
    assert "54.0931° N, 12.0994° E" in place.inner_text()
    assert "PM2.5" in place.inner_text()
    place.locator("a", has_text="On the map").click()
    page.wait_for_url("**/sites?box=*")
    assert page.locator("#list .item", has_text="Harbour station").count() == 1


def test_keys_alone_are_enough(seen: Seen) -> None:
    """Who has no pointer goes through the list; marks are no stops on the way, and are hidden from screen readers."""
    page = seen.goto("/sites")
    assert page.locator(".map svg[aria-hidden=true]").count() == 2
    assert page.locator(".map a:not([tabindex='-1'])").count() == 0
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == page.locator("#list .what a").nth(1).inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url("**/entities?*")


def test_the_map_is_searched_filtered_and_moved_on_the_server(seen: Seen) -> None:
    """A search, a state and a move are addresses: the map and the list follow them, and one way leads back to all."""
    page = seen.goto("/sites")
    page.fill("input[name=search]", "STATION")
    page.keyboard.press("Enter")
    page.wait_for_url("**search=STATION")
    assert page.locator("#list .item").count() == 5
    page.click("#states a:has-text('Silent')")
    page.wait_for_url("**state=silent")
    assert page.locator(".map svg.wide a.mark.other").count() == 1
    page.click("a.button:has-text('Show all')")
    page.wait_for_url("**/sites")
    whole = page.locator(".map svg.wide .scale path").get_attribute("d")
    page.click(".moves a[aria-label=Nearer]")
    page.wait_for_url("**box=*")
    assert page.locator(".map svg.wide .scale path").get_attribute("d") != whole
    page.click(".moves a[aria-label=Farther]")
    page.wait_for_selector(f".map svg.wide .scale path[d='{whole}']", state="attached")
    assert seen.troubles == []


def test_a_hostile_name_is_text_on_the_map(seen: Seen) -> None:
    """Names full of markup are text beside marks, in titles and in the list."""
    page = seen.goto("/sites")
    assert page.locator("main img, main b b").count() == 0
    assert page.title() != "hacked"
    title = page.locator(".map svg.wide a.mark.alert title").all_text_contents()
    assert any(text.startswith(HOSTILE[:30]) for text in title)
    assert page.locator(".map svg.wide .names text", has_text="<img src=x").count() == 1


def test_news_is_drawn_without_loading_anew(seen: Seen, console: Served) -> None:
    """A site that a source tells of while somebody looks is drawn as soon as something happens."""
    page = seen.goto("/sites")
    page.wait_for_selector("#live[data-state=live]")
    console.world.sites.keep("city air", [Site("quay", "New quay", 54.15, 12.05)], console.world.now_us)
    console.happens(next_message(console.world))
    page.wait_for_selector("#list .item:has-text('New quay')")
    assert page.locator(".map svg.wide .names text", has_text="New quay").count() == 1
    assert seen.troubles == []
