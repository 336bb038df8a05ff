"""A console over real stores with a little in them, asked in the same process as a browser would ask."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client import CollectorRegistry, Gauge

from connectors.alert_store import AlertStore
from connectors.alert_store_rows import IncidentRow
from connectors.site_store import SiteStore
from models.registry import Registry
from pipeline.console.answers import Answers
from pipeline.console.app import create_app
from pipeline.console.asking import Asking
from pipeline.console.auth import Gatekeeper, Token
from pipeline.console.events import Events
from pipeline.console.gate import Gate
from pipeline.console.sources import ShownLimit, ShownStream, Sources
from pipeline.health import Probes
from pipeline.history import HistoryStore
from pipeline.live import Live, LiveStep
from pipeline.status import Status

STEP_US = 600_000_000
NOW_US = 1_772_500_000_000_000 // STEP_US * STEP_US
HOSTILE = "<script>alert(1)</script>/../%2e%2e?x=1#\\'\"{{7*7}}\u202e\U0001f6a8"
"""A name with all that a browser, a path, a template or a terminal might obey."""
CHANNELS, UNITS = ("pm25", "no2"), ("ug/m3", "ug/m3")
GUARD = {"X-Vedette-Request": "1"}


@dataclass
class Console:
    """All parts of a console, and who asks it."""

    answers: Answers
    store: AlertStore
    sites: SiteStore
    live: Live
    status: Status
    events: Events
    asking: Asking
    registry: CollectorRegistry
    keeper: Gatekeeper
    trained: list[str | None] = field(default_factory=list)
    """What training was asked for."""

    def browser(self, peer: str = "127.0.0.1", host: str = "localhost:9464") -> Browser:
        """Return who asks from ``peer`` for ``host``."""
        probes = Probes(self.status, self.registry, "1.2.3")
        return Browser(create_app(self.answers, self.events, probes, self.keeper, self.asking), peer, host)

    def hasty_browser(self) -> Browser:
        """Return who asks everything in one instant, however long it takes: no bucket of tokens fills up meanwhile."""
        browser = self.browser()
        for limit in (browser.app._requests, browser.app._logins):
            limit._monotonic = lambda: 0.0
        return browser


@dataclass
class Browser:
    """Asks an app in this process; follows nothing, and keeps no cookies."""

    app: Gate
    peer: str
    host: str

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Return the answer to one request; ``more`` as httpx takes it."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(self.peer, 40_000))
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{self.host}") as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())

    def get(self, path: str, **more: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        """POST."""
        return self.request("POST", path, **more)

    def delete(self, path: str, **more: Any) -> httpx.Response:
        """DELETE."""
        return self.request("DELETE", path, **more)


def console(tmp_path: Path, *, tokens: Sequence[Token] = (), names: Sequence[str] = ("north", HOSTILE)) -> Console:
    """Return a console with one stream of ``names``, two channels, and an open incident of the first."""
    url = f"sqlite:///{tmp_path}/alerts.db"
    store, sites = AlertStore(url), SiteStore(url)
    live, status, registry = Live(), Status(), CollectorRegistry()
    Gauge("vedette_consumer_lag_records", "", ("topic", "partition"), registry=registry).labels("air", "0").set(7)
    for t in range(3):
        live.stepped(step(names, t - 2))
    store.keep([incident("a" * 32, names[0]), incident("b" * 32, names[-1], kind="silence", resolved_us=NOW_US)])
    trained: list[str | None] = []

    def train(stream: str | None) -> Mapping[str, Any]:
        trained.append(stream)
        return {
            "accepted": len(trained) == 1,
            "job": "j1",
            "reason": "" if len(trained) == 1 else "one runs",
            "jobs": [],
        }

    shown = ShownStream("air", CHANNELS, UNITS, STEP_US, (ShownLimit("pm25", "limit", 50.0, None),))
    sources = Sources(
        streams={"air": shown}, store=store, registry=Registry(tmp_path / "models"),
        history=HistoryStore(str(tmp_path / "history")), live=live, status=status, figures=registry, version="1.2.3",
        config_text="password: '**********'\n", train=train, training=lambda: {"scheduler": None, "streams": []},
        now_us=lambda: NOW_US, sites=sites,
    )  # fmt: skip
    events, asking = Events(live, status, every_s=0.01), Asking(threads=2)
    return Console(Answers(sources), store, sites, live, status, events, asking, registry, Gatekeeper(tokens), trained)


def step(names: Sequence[str], t: int, score: float = 0.25) -> LiveStep:
    """Return the step ``t`` after now's, in which entity i measures i and 10 + i; the first one's score is 4."""
    n = len(names)
    values = np.stack([np.arange(n) + 0.0, np.arange(n) + 10.0], axis=1)
    scores = np.full(n, score, np.float32)
    scores[0] = 4.0
    return LiveStep(
        "air", NOW_US // STEP_US + t, NOW_US + t * STEP_US, names, CHANNELS, UNITS, values, values + 1.0,
        np.full((n, 2), 2.0, np.float32), scores, (scores >= 1.0).astype(np.int8) * 2, np.zeros(n, np.bool_),
        np.repeat(values[:, :, None], 2, axis=2), (1, 6), np.full((n, 2, 2), 3.0, np.float32),
    )  # fmt: skip


def incident(
    identity: str, entity: str, *, kind: str = "anomaly", resolved_us: int | None = None, opened_us: int = NOW_US
) -> IncidentRow:
    """Return an incident that began a step before it opened."""
    phase = "opened" if resolved_us is None else "resolved"
    return IncidentRow(
        identity, "air", entity, kind, "", "site", 2, "warning", phase, 0 if resolved_us is None else 1,
        opened_us // STEP_US - 1, opened_us - STEP_US, opened_us, opened_us, opened_us, resolved_us,
        2.5 if kind == "anomaly" else None, 1e-4, f"{entity} is odd", {"channels": []}, (1.0, 2.0, 0.5), "linear",
        body='{"data": {"reason": "it is odd"}}',
    )  # fmt: skip


class Stuck:
    """Stands for a place that hangs: whoever asks waits until ``let_go`` is set."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked = threading.Event()

    def ask(self) -> str:
        """Hang."""
        self.asked.set()
        self.let_go.wait(20)
        return "at last"
