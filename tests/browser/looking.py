"""How the browser tests look at a page: what went wrong in it, whether it fits, whether everybody can use it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Error, Page, Request

TOOLS = Path(__file__).parents[2] / ".tools"
AXE = Path(os.environ.get("AXE_CORE", TOOLS / "node_modules" / "axe-core")) / "axe.min.js"
"""From npm: ``make tools`` puts it there; AXE_CORE says where another one lies."""
Scheme = Literal["light", "dark"]
WIDTHS = (390, 1440)
LOOKS: tuple[tuple[int, Scheme], ...] = ((390, "light"), (1440, "dark"))
WAIT_MS = 90_000
"""Long, for the machine may be busy with the rest of the suite."""
START_MS = 120_000
NOT_DRAWN = "[data-chart]:not([data-state=drawn])"


@dataclass
class Seen:
    """A tab at pages of one console, and everything that went wrong in it."""

    page: Page
    address: str
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", self._broke)
        self.page.on("request", self._asked)

    def leave(self) -> None:
        """Stop listening, and let go of what the page does."""
        self.page.remove_listener("console", self._said)
        self.page.remove_listener("pageerror", self._broke)
        self.page.remove_listener("request", self._asked)
        self.page.goto("about:blank")

    def screen(self, width: int, scheme: Scheme) -> None:
        """Be a screen of that width, in that scheme; for pages that are opened from now on."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)

    def goto(self, path: str) -> Page:
        """Open a page of ours, and wait until its charts are drawn."""
        self.page.goto(f"{self.address}{path}")
        self.page.wait_for_selector("html[data-ready]", state="attached")
        self.page.wait_for_selector(NOT_DRAWN, state="detached")
        return self.page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(message.text)

    def _broke(self, error: Error) -> None:
        self.troubles.append(str(error))

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.address}/", "data:", "blob:", "about:")):
            self.troubles.append(f"a request left the host: {request.url}")


class Axe:
    """The accessibility checker; ``there`` tells whether it is installed."""

    there = AXE.is_file()

    @cached_property
    def script(self) -> str:
        """Its source."""
        return AXE.read_text(encoding="utf-8")

    def violations(self, page: Page) -> list[list[object]]:
        """Return what it finds in a page, everything in it unfolded: a rule's name, and the elements that break it."""
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true;")
        page.evaluate(self.script)
        found: list[list[object]] = page.evaluate(
            "axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html)]))"
        )
        return found


def too_wide(page: Page) -> int:
    """Return by how many pixels a page is wider than its screen; 0 or less is well."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return wider
