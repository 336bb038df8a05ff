"""The console in a real browser: pages at both widths, by keyboard, with hostile names, live, and without script."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from pipeline.console.answers import Role
from pipeline.console.auth import Token
from tests.browser.console_server import Served, served
from tests.browser.console_world import HOSTILE, LONG, STREAM, next_message

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOOLS = Path(__file__).parents[2] / ".tools"
AXE = Path(os.environ.get("AXE_CORE", TOOLS / "node_modules" / "axe-core")) / "axe.min.js"
"""From npm: ``make tools`` puts it there; AXE_CORE says where another one lies."""
WIDTHS = (390, 1440)
LOOKS = ((390, "light"), (1440, "dark"))
WAIT_MS = 15_000
NOT_DRAWN = "[data-chart]:not([data-state=drawn])"


@dataclass
class Seen:
    """A page, and everything that went wrong in it."""

    page: Page
    address: str
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", lambda m: self.troubles.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self._leaves(request.url))

    def goto(self, path: str) -> Page:
        """Open a page of ours, and wait until its charts are drawn."""
        self.page.goto(f"{self.address}{path}")
        self.page.wait_for_selector("html[data-ready]", state="attached")
        self.page.wait_for_selector(NOT_DRAWN, state="detached")
        return self.page

    def _leaves(self, url: str) -> None:
        if not url.startswith((f"{self.address}/", "data:", "blob:")):
            self.troubles.append(f"a request left the host: {url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        # Whoever is root has no other sandbox than the one around the whole.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def console(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A console that all tests look at; those that change something have their own."""
    with served(tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser of somebody in Berlin."""
    opened = browser.new_context(timezone_id="Europe/Berlin", locale="en-GB")
    yield opened
    opened.close()


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
        "models": "/models",
        "system": "/system",
    }


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_each_page_renders(browser: Browser, console: Served, width: int, scheme: str) -> None:
    """No page has an error in the console, sends a request away, is wider than the screen, or lacks a heading."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    for name, path in places(console).items():
        seen = Seen(context.new_page(), console.address)
        page = seen.goto(path)
        assert page.locator("h1").count() == 1, name
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        page.wait_for_selector("#live[data-state=live], #live[hidden]", state="attached")
        assert seen.troubles == [], name
        page.close()
    context.close()


def test_an_incident_tells_why(context: BrowserContext, console: Served) -> None:
    """Its sentence, series, attention, shares, witnesses, similar ones, and why it was not told earlier are there."""
    page = Seen(context.new_page(), console.address).goto(f"/incidents/{console.world.open_id}")
    assert "PM2.5 is" in page.locator("#reason").inner_text()
    # Two for the band, expected and observed of each of four channels, and the score.
    assert page.locator("[data-chart=series] .scatterlayer .trace").count() == 4 * 4 + 1
    assert page.locator("table.heat tbody tr").count() >= 8
    assert page.locator("table.heat thead th").count() == 1 + 4
    assert page.locator("table.heat tbody th").first.inner_text().strip().startswith("the same hour yesterday")
    text = page.locator("main").inner_text()
    for words in ("the program’s lags", "Share of each channel", "innovation", "The first sign came 1 step"):
        assert words in text
    assert page.locator("[data-chart=scores] .bars .point path").count() > 60
    assert page.locator("section[aria-labelledby=similar-title] .item", has_text="ring-road").count() == 1


def test_times_are_the_viewers_with_utc_at_hand(context: BrowserContext, console: Served) -> None:
    """A time shows the viewer's zone, and UTC in its title; only words that change are left out of the title."""
    page = Seen(context.new_page(), console.address).goto(f"/incidents/{console.world.open_id}")
    opened = page.locator("#facts time").nth(1)
    utc = re.search(r"(\d\d):(\d\d) UTC$", opened.get_attribute("title") or "")
    shown = re.search(r"(\d\d):(\d\d)$", opened.inner_text())
    assert utc is not None
    assert shown is not None
    assert (int(shown[1]) - int(utc[1])) % 24 == 2  # September in Berlin
    assert "Europe/Berlin" in page.locator("#zone").inner_text()


@pytest.mark.parametrize("width", WIDTHS)
def test_labelling_by_keyboard_alone(browser: Browser, tmp_path: Path, width: int) -> None:
    """From the first page to a label and back again, no mouse is needed, and what has the focus can be seen."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    with served(tmp_path) as console:
        seen = Seen(context.new_page(), console.address)
        page = seen.goto("/")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
        page.keyboard.press("Enter")
        page.keyboard.press("j")
        assert page.evaluate("getComputedStyle(document.activeElement, '::after').outlineStyle") == "solid"
        page.keyboard.press("Enter")
        page.wait_for_selector("#label")
        tab_to(page, "False alarm")
        page.keyboard.press("Enter")
        page.wait_for_selector("#label .verdict")
        assert label_of(console) == "false_alarm"
        tab_to(page, "Undo the label")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=The label is taken back")
        assert label_of(console) is None
        tab_to(page, "It was expected …")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.type("a fair")
        page.keyboard.press("Tab")
        page.keyboard.type("2d")
        page.keyboard.press("Enter")
        page.wait_for_selector("#label .verdict")
        assert label_of(console) == "expected"
        assert seen.troubles == []
        audit = console.world.answers.audit()["actions"]
        assert sorted(each["action"] for each in audit) == ["label", "label", "unlabel"]
    context.close()


def tab_to(page: Page, text: str) -> None:
    """Press Tab until what has this text has the focus; fails where the keyboard does not get there."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == text:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"Tab never gets to {text!r}")


def label_of(console: Served) -> str | None:
    """Return the label of the open incident."""
    label = console.world.answers.incident(console.world.open_id)["incident"]["label"]
    return None if label is None else label["kind"]


def test_expected_without_a_sensible_end_is_explained(context: BrowserContext, console: Served) -> None:
    """What cannot be understood comes back with the reason and with what was typed; nothing is labelled."""
    page = Seen(context.new_page(), console.address).goto(f"/incidents/{console.world.hostile_id}")
    page.locator("summary", has_text="It was expected").click()
    page.fill("textarea[name=reason]", "works <b>")
    page.fill("input[name=until]", "whenever")
    page.click("text=Label as expected")
    assert '"whenever" is no time' in page.locator("[role=alert]").inner_text()
    assert page.input_value("textarea[name=reason]") == "works <b>"
    assert console.world.answers.incident(console.world.hostile_id)["incident"]["label"] is None


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_names_are_text(browser: Browser, console: Served, width: int) -> None:
    """Names full of markup, templates and formats, or 10 kB long, are text: nothing runs, nothing overflows."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    entity = f"/entities?stream={STREAM}&entity="
    paths = ["/", f"/incidents/{console.world.hostile_id}", "/entities", entity + quote(HOSTILE, safe="")]
    for path in (*paths, entity + LONG):
        seen = Seen(context.new_page(), console.address)
        page = seen.goto(path)
        assert page.locator("main img, main b b, main script:not([type='application/json'])").count() == 0
        assert page.title() != "hacked"
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path[:60]
        assert seen.troubles == []
        if path == paths[-1]:
            assert page.locator("h1").inner_text().startswith('<img src=x onerror="document.title=')
            assert "{{7*7}}" in page.locator("h1").inner_text()
        page.close()
    context.close()


def test_a_hostile_channel_is_text_in_charts_too(context: BrowserContext, console: Served) -> None:
    """Plotly reads its texts as markup; ours reach it so that they are shown as they are."""
    page = Seen(context.new_page(), console.address).goto(f"/entities?stream={STREAM}&entity=harbour")
    shown = page.evaluate("plain('<a href=\"javascript:alert(1)\">x</a> & %{y} $a$')")
    assert "<" not in shown
    assert "%{" not in shown
    assert "$" not in shown


def test_what_happens_appears_by_itself(context: BrowserContext, tmp_path: Path) -> None:
    """A message that comes while somebody looks is shown without a reload, and what they type is left alone."""
    with served(tmp_path) as console:
        seen = Seen(context.new_page(), console.address)
        page = seen.goto(f"/incidents/{console.world.open_id}")
        page.wait_for_selector("#live[data-state=live]")
        before = page.locator("#said li").count()
        page.locator("summary", has_text="It was expected").click()
        page.fill("textarea[name=reason]", "half a sent")
        console.happens(next_message(console.world))
        page.locator("#said li").nth(before).wait_for()
        assert page.input_value("textarea[name=reason]") == "half a sent"
        assert seen.troubles == []


def test_all_works_without_a_script(browser: Browser, tmp_path: Path) -> None:
    """Reading, searching and labelling need no script: the numbers are in tables, the forms are forms."""
    context = browser.new_context(java_script_enabled=False)
    with served(tmp_path) as console:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(f"{console.address}/incidents/{console.world.open_id}")
        page.locator("summary", has_text="The numbers as a table").click()
        assert page.locator("tbody tr", has_text="opened").count() == 1
        assert "UTC" in page.locator("#facts time").first.inner_text()
        page.click("text=It was real")
        page.wait_for_selector("#label .verdict")
        assert label_of(console) == "true"
        page.goto(f"{console.address}/entities?search=mark")
        assert page.locator("tbody tr").count() == 1
    context.close()


def test_a_model_is_promoted_and_rolled_back(context: BrowserContext, tmp_path: Path) -> None:
    """Who may act can put a version in charge, give it up again, and ask for a training, each with a reason."""
    with served(tmp_path) as console:
        page = Seen(context.new_page(), console.address).goto("/models")
        before = console.world.answers.models(STREAM)["champion"]
        assert page.locator("[data-chart=curves] .scatterlayer .trace").count() == 2 * 4
        page.locator("summary", has_text="Promote").click()
        page.locator("details[open] input[name=reason]").fill("it knows the new road")
        page.click("text=Put it in charge")
        page.wait_for_selector("text=It is in charge")
        after = console.world.answers.models(STREAM)
        assert after["champion"] != before
        assert after["decisions"][0]["reasons"] == ["it knows the new road"]
        page.locator("summary", has_text="Roll back").click()
        page.locator("details[open] input[name=reason]").fill("it does not")
        page.locator("button", has_text="Roll back").click()
        page.wait_for_selector("text=It was rolled back")
        assert console.world.answers.models(STREAM)["champion"] == before
        page.click("text=Train now")
        page.wait_for_selector("text=A training has begun")
        assert console.world.trainings == [STREAM]


def test_who_may_only_read_gets_no_buttons(context: BrowserContext, tmp_path: Path) -> None:
    """After signing in with a reading token nothing can be done, not even with a form of one's own making."""
    token = Token("kim", "s3cret-s3cret-s3cret", Role.READ)
    with served(tmp_path, [token]) as console:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(f"{console.address}/incidents/{console.world.open_id}")
        page.fill("input[name=token]", token.secret)
        page.keyboard.press("Enter")
        page.wait_for_selector("#reason")
        assert page.locator("main form[method=post]").count() == 0
        assert "kim" in page.locator("footer").inner_text()
        csrf = page.locator("footer input[name=csrf]").get_attribute("value") or ""
        sent = page.request.post(
            f"{console.address}/incidents/{console.world.open_id}/label",
            form={"kind": "true", "csrf": csrf},
            headers={"Origin": console.address},
        )
        assert sent.status == 403
        assert label_of(console) is None


def test_what_is_not_there_is_told_with_a_way_out(context: BrowserContext, console: Served) -> None:
    """Wrong addresses and empty ranges are pages with the reason, not stack traces."""
    page = context.new_page()
    for path, status, words in (
        ("/incidents/0123456789", 404, "there is no incident"),
        ("/incidents/nonsense", 400, "no incident's id"),
        (f"/entities?stream={STREAM}&entity=nobody", 404, "nothing is known"),
        (f"/entities?stream={STREAM}&entity=market&from=yesterday&to=now", 400, "no time"),
        ("/entities?stream=water", 404, "no stream"),
        ("/models?stream=water", 404, "no stream"),
        ("/incidents?offset=-1", 400, "too long, or missing"),
    ):
        answer = page.goto(f"{console.address}{path}")
        assert answer is not None
        assert answer.status == status, path
        assert words in page.locator("main").inner_text(), path
        assert page.locator("a", has_text="Go to Now").count() == 1
    page.goto(f"{console.address}/entities?stream={STREAM}&entity=market&from=2025-01-01T00:00&to=2025-01-02T00:00")
    assert "Try another range" in page.locator("main").inner_text()


def test_entities_are_found_on_the_server(context: BrowserContext, console: Served) -> None:
    """A search is a question to the server, and the row leads to the entity with its forecast and limits."""
    page = Seen(context.new_page(), console.address).goto("/entities")
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


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_accessibility(browser: Browser, console: Served, width: int, scheme: str) -> None:
    """axe finds nothing on any page: contrast, labels, headings, landmarks, tables."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make tools gets it where npm is")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    script = AXE.read_text()
    for name, path in {**places(console), "error": "/incidents/0123456789"}.items():
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(f"{console.address}{path}")
        page.wait_for_selector(NOT_DRAWN, state="detached")
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true;")
        page.evaluate(script)
        found = page.evaluate("axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html)]))")
        assert found == [], name
        page.close()
    context.close()
