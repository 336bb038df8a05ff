"""What people do in the console, in a real browser: label, undo, promote, roll back; by keyboard, live, scriptless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.console.answers import Role, Who
from pipeline.console.auth import Token
from tests.browser.console_server import Served, served
from tests.browser.console_world import STREAM, next_message
from tests.browser.looking import WAIT_MS, WIDTHS, Seen

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.browser


@pytest.fixture
def unlabelled(console: Served) -> Iterator[Served]:
    """The console, its open incident without a label before and after."""
    assert label_of(console) is None
    yield console
    if label_of(console) is not None:
        console.world.answers.unlabel(Who("tests", Role.ACT), console.world.open_id)


@pytest.mark.parametrize("width", WIDTHS)
def test_labelling_by_keyboard_alone(seen: Seen, unlabelled: Served, width: int) -> None:
    """From the first page to a label and back again, no mouse is needed, and what has the focus can be seen."""
    seen.screen(width, "light")
    before = audit_of(unlabelled)
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
    assert label_of(unlabelled) == "false_alarm"
    tab_to(page, "Undo the label")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=The label is taken back")
    assert label_of(unlabelled) is None
    tab_to(page, "It was expected …")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("a fair")
    page.keyboard.press("Tab")
    page.keyboard.type("2d")
    page.keyboard.press("Enter")
    page.wait_for_selector("#label .verdict")
    assert label_of(unlabelled) == "expected"
    assert seen.troubles == []
    assert audit_of(unlabelled) - before == {"label": 2, "unlabel": 1}


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


def audit_of(console: Served) -> Counter[str]:
    """Return how often each thing was done."""
    return Counter(each["action"] for each in console.world.answers.audit()["actions"])


def test_expected_without_a_sensible_end_is_explained(seen: Seen, console: Served) -> None:
    """What cannot be understood comes back with the reason and with what was typed; nothing is labelled."""
    page = seen.goto(f"/incidents/{console.world.hostile_id}")
    page.locator("summary", has_text="It was expected").click()
    page.fill("textarea[name=reason]", "works <b>")
    page.fill("input[name=until]", "whenever")
    page.click("text=Label as expected")
    assert '"whenever" is no time' in page.locator("[role=alert]").inner_text()
    assert page.input_value("textarea[name=reason]") == "works <b>"
    assert console.world.answers.incident(console.world.hostile_id)["incident"]["label"] is None


def test_what_happens_appears_by_itself(seen: Seen, console: Served) -> None:
    """A message that comes while somebody looks is shown without a reload, and what they type is left alone."""
    page = seen.goto(f"/incidents/{console.world.open_id}")
    page.wait_for_selector("#live[data-state=live]")
    before = page.locator("#said > .timeline > li").count()
    page.locator("summary", has_text="It was expected").click()
    page.fill("textarea[name=reason]", "half a sent")
    console.happens(next_message(console.world))
    page.locator("#said > .timeline > li").nth(before).wait_for()
    assert page.input_value("textarea[name=reason]") == "half a sent"
    assert seen.troubles == []


def test_all_works_without_a_script(browser: Browser, unlabelled: Served) -> None:
    """Reading, searching and labelling need no script: the numbers are in tables, the forms are forms."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{unlabelled.address}/incidents/{unlabelled.world.open_id}")
    page.locator("summary", has_text="The numbers as a table").click()
    assert page.locator("tbody tr", has_text="opened").count() == 1
    assert "UTC" in page.locator("#facts time").first.inner_text()
    page.click("text=It was real")
    page.wait_for_selector("#label .verdict")
    assert label_of(unlabelled) == "true"
    page.goto(f"{unlabelled.address}/entities?search=mark")
    assert page.locator("tbody tr").count() == 1
    context.close()


def test_a_model_is_promoted_and_rolled_back(seen: Seen, console: Served) -> None:
    """Who may act can put a version in charge, give it up again, and ask for a training, each with a reason."""
    page = seen.goto("/models")
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
