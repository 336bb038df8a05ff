"""What people meet at the console's edges, in a real browser: the login, refusals, and the list of the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pipeline.console.answers import Role
from pipeline.console.auth import Token
from pipeline.console.limits import MOST_BODY_BYTES
from tests.browser.console_server import Served, served
from tests.browser.looking import Axe, Scheme, Seen, too_wide

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser

LOOKS: tuple[tuple[int, Scheme], ...] = ((390, "dark"), (1440, "light"))
TOKEN = Token("ann", "s3cret-s3cret-s3cret", Role.ACT)
REFUSED = {
    403: ("This form is too old", "Back to the form"),
    404: ("There is no such page", "Go to Now"),
    413: ("A request has at most", "Back to the form"),
    429: ("Too many requests", "Try again"),
    500: ("An internal error", "Try again"),
}
"""What each says, and the way out of it that has the focus first."""
_SEND = """([action, csrf]) => {
  const form = Object.assign(document.createElement("form"), { method: "post", action });
  form.append(Object.assign(document.createElement("input"), { name: "csrf", value: csrf }));
  document.body.append(form);
  form.submit();
}"""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A console that asks who one is."""
    with served(tmp_path_factory.mktemp("locked"), [TOKEN]) as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_logging_in_by_keyboard(context: BrowserContext, locked: Served, width: int, scheme: Scheme) -> None:
    """The login looks like the house, says what was wrong, needs no mouse, and leads to where one wanted to go."""
    seen = Seen(context.new_page(), locked.address)
    seen.screen(width, scheme)
    page = seen.page
    page.goto(f"{locked.address}/incidents/{locked.world.open_id}")
    page.wait_for_selector("#token:focus")  # a browser gives it the focus once it draws the page
    fits(page)
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert]")
    assert "no such token" in page.locator("[role=alert]").inner_text()
    fits(page)
    page.wait_for_selector("#token:focus")
    page.keyboard.type(TOKEN.secret)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Log in"
    page.keyboard.press("Enter")
    page.wait_for_selector("#reason")
    assert [trouble for trouble in seen.troubles if "401" not in trouble] == []


@pytest.mark.parametrize("status", REFUSED)
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_a_refusal_is_a_page_with_a_way_out(
    seen: Seen, console: Served, status: int, width: int, scheme: Scheme
) -> None:
    """What is refused is told in the house's look, with the reason and a way out, and no script."""
    seen.screen(width, scheme)
    words, way_out = REFUSED[status]
    page = seen.page
    meet(seen, console, status)
    page.wait_for_selector(f".crumbs:has-text('{status}')")
    assert words in page.locator("main").inner_text()
    assert page.locator("script").count() == 0
    fits(page)
    tab_to_way_out(page, way_out)


def meet(seen: Seen, console: Served, status: int) -> None:
    """Have the console refuse a page or a form for this reason."""
    page = seen.page
    if status in (403, 413):
        page.goto(f"{seen.address}/system")
        # As after a restart, when a form's token is none of this server's any more; or as an extension fills it.
        csrf = "old" if status == 403 else "w" * (MOST_BODY_BYTES + 1)
        page.evaluate(_SEND, [f"/incidents/{console.world.open_id}/label", csrf])
    elif status == 404:
        page.goto(f"{seen.address}/nowhere")
    elif status == 429:
        with console.exhausted():
            page.goto(f"{seen.address}/system")
    else:
        with console.broken():
            page.goto(f"{seen.address}/system")


def fits(page: Page) -> None:
    """A page has our style, one heading, fits the screen, and everybody can use it."""
    page.wait_for_load_state("load")  # its style may come after its first words
    assert "max-width: 1480px" in page.evaluate("[...document.styleSheets[0].cssRules].map((r) => r.cssText).join()")
    assert page.locator("h1").count() == 1
    assert too_wide(page) <= 0
    if Axe.there:
        assert Axe().violations(page) == []


def tab_to_way_out(page: Page, text: str) -> None:
    """The way out is the first thing in the page that the keyboard gets to."""
    page.evaluate("document.getElementById('page').focus()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == text
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_api_is_listed_without_a_script(seen: Seen) -> None:
    """From the system page one gets to a list of all that the API offers; nothing is loaded for it from elsewhere."""
    page = seen.goto("/system")
    page.locator("main a", has_text="HTTP API").click()
    page.wait_for_selector("h1:has-text('HTTP API')")
    described = page.request.get(f"{seen.address}/api/openapi.json").json()["paths"]
    listed = page.locator(".operation h3").all_inner_texts()
    wanted = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    assert {" ".join(each.split()) for each in listed} == wanted
    assert page.locator(".operation", has_text="/api/models/promote").locator("tbody tr").count() >= 4
    assert seen.troubles == []
