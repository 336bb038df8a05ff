"""Takes the README's pictures anew: ``python -m deploy.pictures.take [DIRECTORY]``. Needs Prometheus and Chromium.

It takes six minutes, most of them because Prometheus cannot be told of the past: see ``deploy.pictures.watched``.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.grafana.preview import WIDTH, page
from deploy.grafana.preview_asking import Asking, Range
from deploy.pictures.palette import in_palette
from deploy.pictures.watched import STATION, Watched, watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HERE = Path(__file__).parent
BOARD = HERE.parent / "grafana" / "dashboards" / "entity.json"
CHANNELS = "pm10|no2"
"""Of the dashboard: one that went wrong, and one that did not."""
MOST_BYTES = 300_000
_DRAWN = "[data-chart]:not([data-state=drawn])"


def main(arguments: Sequence[str]) -> int:
    """Take both pictures; return the exit code."""
    from playwright.sync_api import sync_playwright

    out = Path(arguments[0]) if arguments else HERE
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None or shutil.which("prometheus") is None:
        sys.stderr.write("pictures need Debian's packages chromium and prometheus\n")
        return 1
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with watched(Path(folder)) as run:
            _dashboard(browser, run, Path(folder), out / "dashboard.png")
            _incident(browser, run.console, out / "incident.png")
        browser.close()
    return 0


def _incident(browser: Browser, console: str, out: Path) -> None:
    """Take the page of the station's newest anomaly, from its top to what the model attended to."""
    address = f"{console}/api/incidents?stream=air&entity={STATION}&kind=anomaly&limit=1"
    with urllib.request.urlopen(address, timeout=30) as answer:
        incident = json.load(answer)["incidents"][0]["id"]
    context = browser.new_context(viewport={"width": WIDTH, "height": 900}, locale="en-GB", timezone_id="UTC")
    shown = context.new_page()
    shown.goto(f"{console}/incidents/{incident}")
    shown.wait_for_selector("html[data-ready]", state="attached")
    shown.wait_for_selector(_DRAWN, state="detached")
    shown.wait_for_selector("#live[data-state=live]", state="attached")
    box = shown.locator("section", has_text="What the model attended to").last.bounding_box()
    assert box is not None
    # At the wanted height, so that the picture is not of a page that has been scrolled.
    shown.set_viewport_size({"width": WIDTH, "height": round(box["y"] + box["height"] + 10)})
    shown.wait_for_function("[...document.querySelectorAll('[data-chart]')].every((c) => c.dataset.state === 'drawn')")
    _keep(browser, shown.screenshot(), out)
    context.close()


def _dashboard(browser: Browser, run: Watched, folder: Path, out: Path) -> None:
    """Take the panels of the dashboard Entity, for the station."""
    asking = Asking(run.prometheus, Range(run.began_s, time.time(), 1.0))
    text = page(json.loads(BOARD.read_text(encoding="utf-8")), asking, {"entity": STATION, "channel": CHANNELS})
    file = folder / "dashboard.html"
    file.write_text(text, encoding="utf-8")
    shown = browser.new_page(viewport={"width": WIDTH, "height": 400})
    shown.goto(file.as_uri())
    shown.wait_for_selector("html[data-ready]", state="attached")
    _keep(browser, shown.screenshot(full_page=True), out)
    shown.close()


def _keep(browser: Browser, png: bytes, out: Path) -> None:
    blank = browser.new_page()
    out.write_bytes(in_palette(png, blank))
    blank.close()
    size = out.stat().st_size
    sys.stderr.write(f"{out}: {size // 1000} kB\n")
    if size > MOST_BYTES:
        raise ValueError(f"{out} has {size} bytes, and may have {MOST_BYTES}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
