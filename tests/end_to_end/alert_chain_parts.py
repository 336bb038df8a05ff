"""What the way of an alert is tested with: a town's readings with a planted fault, the daemon as users run it, a page.

The town is simulated and the same in every run, but for its dates: it begins on a Monday before the last one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from connectors.free_ports import free_port
from connectors.kafka_topics import ensure_topics
from pipeline.incident import AlertMessage, decode, rfc3339
from pipeline.simulation import STEP_S, air
from tests.end_to_end.kafka_parts import Record, produce, read_all

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ENTITY = "market"
FAULT, CLEAR = 516, 520
"""The steps from which, and until which, ENTITY's particle channels read so much too high; before lie 3.6 days."""
_TOO_HIGH = (90.0, 95.0)
STEPS = 576
PARTITIONS = 2
STEP_US = round(STEP_S * 1e6)
_DAY_US = 86_400_000_000
_STOP_S = 60.0
"""The daemon itself gives up after 30 s."""
_ANSWER_S = 60.0
_PAGE_MS = 60_000
_START_MS = 120_000
_CONFIG = """
kafka: {{bootstrap_servers: '{servers}', group: '{topic}'}}
outputs:
  alerts_topic: {topic}.alerts
  dead_letter_topic: {topic}.letters
  receivers:
    - {{name: oncall, kind: alertmanager, urls: ['{alertmanager}'], linger: 1s}}  # more than group_wait there
    - {{name: tickets, kind: webhook, urls: ['{webhook}'], secret: {secret}, tier: watch}}
    - {{name: log, kind: file, path: {folder}/alerts.jsonl, tier: watch}}
state: {folder}/state
history: {{flush: 200ms}}
http: {{port: {port}, tokens: [{{name: kim, token: {token}, role: act}}]}}
streams:
  - name: air
    topics: ['{topic}']
    step: 10m
    grace: 1m
    idle_timeout: 1h
    channels: [{channels}]
"""


class Town:
    """Six stations whose readings come when they are sent, step after step."""

    def __init__(self, servers: str, topic: str, now_us: int) -> None:
        """Make the topics and the readings, all of them from before ``now_us``."""
        self.servers, self.topic = servers, topic
        day = now_us // _DAY_US
        monday = day - (day + 3) % 7 - 7
        series = air(STEPS * STEP_S / 86_400.0, seed=0, start_us=monday * _DAY_US)
        self._series, self._values = series, series.values.copy()
        self._values[series.entities.index(ENTITY), FAULT:CLEAR, : len(_TOO_HIGH)] += _TOO_HIGH
        self.channels = tuple(zip(series.channels, series.units, strict=True))
        self._sent = 0
        ensure_topics(servers, {topic: PARTITIONS, f"{topic}.alerts": 1, f"{topic}.letters": 1})

    def step_of(self, time_us: int) -> int:
        """Return the index of the step that ends then."""
        return (time_us - int(self._series.times_us[0])) // STEP_US

    def readings(self, steps: int) -> int:
        """Return how many readings so many steps hold."""
        return steps * len(self._series.entities) * len(self.channels)

    def send(self, until: int) -> None:
        """Send what is left of the steps before ``until``; the last of them stays open."""
        steps, self._sent = range(self._sent, until), until
        records = [
            Record(self._readings(e, t), name.encode(), partition=e % PARTITIONS)
            for t in steps
            for e, name in enumerate(self._series.entities)
        ]
        assert produce(self.servers, self.topic, records, {}) == len(records)

    def _readings(self, e: int, t: int) -> bytes:
        when, name = rfc3339(int(self._series.times_us[t]) - STEP_US // 2), self._series.entities[e]
        values = self._values[e, t].tolist()
        return json.dumps(
            [
                {"entity": name, "channel": channel, "time": when, "value": value, "unit": unit}
                for (channel, unit), value in zip(self.channels, values, strict=True)
            ]
        ).encode()

    def said(self) -> list[AlertMessage]:
        """Return all that was said in the topic of alerts, each message once."""
        messages = [decode(record.value or b"") for record in read_all(self.servers, f"{self.topic}.alerts", {})]
        return list({message.id: message for message in messages}.values())


class Daemon:
    """A process of ``vedette run``, or one after another; what it is asked over HTTP comes with its token."""

    def __init__(self, folder: Path, town: Town, *, alertmanager: str, webhook: str, secret: str, token: str) -> None:
        """Start it with its state in ``folder``."""
        self.folder, self._token, port = folder, token, free_port()
        self.url = f"http://127.0.0.1:{port}"
        channels = ", ".join(f"{{name: {name}, unit: '{unit}'}}" for name, unit in town.channels)
        self._config = folder / "vedette.yaml"
        self._config.write_text(
            _CONFIG.format(
                servers=town.servers, topic=town.topic, alertmanager=alertmanager, webhook=webhook, secret=secret,
                folder=folder, port=port, token=token, channels=channels,
            ),
            encoding="utf-8",
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it, the first time or again."""
        command = [sys.executable, "-m", "pipeline.cli", "run", "--config", str(self._config)]
        with (self.folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def log(self) -> str:
        """Return what it has logged."""
        return (self.folder / "daemon.log").read_text(encoding="utf-8")

    def ask(self, path: str) -> Any:
        """Return what its API answers."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self._token}"})
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            return json.load(answer)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over what has these labels, 0 while it cannot be asked."""
        assert self._process.poll() is None, self.log()
        request = urllib.request.Request(f"{self.url}/metrics", headers={"Authorization": f"Bearer {self._token}"})
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                text = answer.read().decode()
        except ConnectionError:
            return 0.0
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            return 0.0
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(s.value for s in samples if s.name == f"vedette_{name}" and labels.items() <= s.labels.items())

    def stop(self) -> int:
        """Send SIGTERM; return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_STOP_S)

    def close(self) -> None:
        """Kill it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """Run a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Whoever is root has no other sandbox than the one around the whole.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"], timeout=_START_MS)
        yield browser
        browser.close()


class Visitor:
    """Somebody with a browser, in which ``troubles`` gathers whatever goes wrong, and each request that leaves."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.troubles: list[str] = []
        self._address = address
        self._context = browser.new_context(timezone_id="Europe/Berlin", locale="en-GB", viewport=None)
        self.page: Page = self._context.new_page()
        self.page.set_viewport_size({"width": 1440, "height": 1000})
        self.page.set_default_timeout(_PAGE_MS)
        self.page.on("console", lambda m: self.troubles.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))

    def log_in(self, token: str) -> None:
        """Fill in the form that is shown to whoever is not known."""
        self.page.fill("input[name=token]", token)
        self.page.keyboard.press("Enter")

    def drawn(self) -> None:
        """Wait until the page is ready, live, and its charts are drawn."""
        self.page.wait_for_selector("html[data-ready]", state="attached")
        self.page.wait_for_selector("[data-chart]:not([data-state=drawn])", state="detached")
        self.page.wait_for_selector("#live[data-state=live]", state="attached")

    def text(self, selector: str) -> str:
        """Return the words of the first of what fits."""
        return self.page.locator(selector).first.inner_text()

    def until(self, selector: str, words: str) -> None:
        """Wait until what fits holds these words, without loading the page anew."""
        self.page.locator(selector, has_text=words).first.wait_for()

    def picture(self, path: Path) -> None:
        """Keep what the whole page looks like."""
        self.page.screenshot(path=path, full_page=True)

    def leave(self) -> None:
        """Close the browser's window."""
        self._context.close()

    def _note(self, url: str) -> None:
        if not url.startswith((f"{self._address}/", "data:", "blob:")):
            self.troubles.append(f"a request left the host: {url}")
