"""One browser, one console and one tab for all browser tests.

Plotly's script is 5 MB: a tab that stays open reads it once, a new one for each page reads it each time, for seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.console_server import Served, served
from tests.browser.looking import START_MS, WAIT_MS, Seen

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        # Whoever is root has no other sandbox than the one around the whole.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=START_MS)
        yield started
        started.close()


@pytest.fixture(scope="package")
def console(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A console that all tests look at; those that change something put it back."""
    with served(tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture(scope="package")
def tab(browser: Browser) -> Iterator[Page]:
    """The tab, of somebody in Berlin."""
    context = browser.new_context(timezone_id="Europe/Berlin", locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    yield page
    context.close()


@pytest.fixture
def seen(tab: Page, console: Served) -> Iterator[Seen]:
    """The tab as it opens the console's pages, and what goes wrong there; 1280 pixels wide and light."""
    looked = Seen(tab, console.address)
    looked.screen(1280, "light")
    yield looked
    looked.leave()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A window of a test's own, without cookies."""
    opened = browser.new_context(locale="en-GB")
    opened.set_default_timeout(WAIT_MS)
    yield opened
    opened.close()
