"""From a planted fault to whoever is to hear of it, and back: a real Kafka, Alertmanager and browser, the real command.

    fault ► incident ► Alertmanager (away at first), webhook, file ► console ► label ► calm ► over everywhere
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest

from connectors.kafka_local import LocalKafka
from connectors.outbox import Outbox
from connectors.outbox_rows import Depth
from pipeline.couriers import instance_name
from pipeline.exit_codes import OK
from pipeline.incident import AlertMessage, Kind, Phase, Tier, decode
from tests.alertmanager_server import AlertmanagerServer
from tests.alertmanager_server import alertmanager as alertmanager  # a fixture
from tests.end_to_end.alert_chain_parts import CLEAR, ENTITY, FAULT, STEPS, Daemon, Town, Visitor, chromium
from tests.end_to_end.kafka_parts import wait_until
from tests.http_receiver import HttpReceiver, Reply, Request
from tests.http_receiver import receiver as receiver  # a fixture
from tests.kafka_broker import fresh

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SECRET, TOKEN = "the-hook's-own-secret", "k1ms-t0ken-for-this-test"

pytestmark = [pytest.mark.kafka, pytest.mark.browser]


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("chromium is not installed")
    with chromium(executable) as started:
        yield started


@pytest.fixture
def town(real_kafka: LocalKafka) -> Town:
    """A town of which nothing was sent yet."""
    return Town(real_kafka.bootstrap_servers, fresh("air"), time.time_ns() // 1000)


@pytest.fixture
def daemon(tmp_path: Path, town: Town, alertmanager: AlertmanagerServer, receiver: HttpReceiver) -> Iterator[Daemon]:
    """The daemon, over that town's topic."""
    started = Daemon(
        tmp_path, town, alertmanager=alertmanager.url, webhook=f"{receiver.url}/hook", secret=SECRET, token=TOKEN
    )
    yield started
    started.close()


def until(done: Callable[[], object], what: str) -> None:
    """Wait until what can only be asked again and again is so."""
    pause = Event()

    def look() -> bool:
        return bool(done()) or pause.wait(0.05)

    wait_until(look, what)


class Tickets:
    """What the webhook's other side makes of requests, from nothing but what its makers say in public.

    The first request about the planted fault is answered 503.
    """

    def __init__(self, receiver: HttpReceiver) -> None:
        self._receiver = receiver
        self.turned_away: list[Request] = []
        receiver.answer = self._answer

    def _answer(self, request: Request) -> Reply:
        data = json.loads(request.body)["data"]
        if data["tier"] == "alert" and not self.turned_away:
            self.turned_away.append(request)
            return Reply(503, b"just now not")
        return Reply()

    def taken(self) -> list[AlertMessage]:
        """Return what was taken, after a look at each request's signature and key."""
        requests = list(self._receiver.requests)
        for request in requests:
            signed = request.headers["x-vedette-timestamp"].encode() + b"." + request.body
            digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
            assert request.headers["x-vedette-signature"] == f"sha256={digest}"
            assert abs(time.time() - int(request.headers["x-vedette-timestamp"])) < 300
            assert request.headers["content-type"].startswith("application/cloudevents+json")
            event = json.loads(request.body)
            assert event["specversion"] == "1.0"
            assert request.headers["idempotency-key"] == event["id"]
        away = {id(request) for request in self.turned_away}  # what came again may look the same
        return [decode(request.body) for request in requests if id(request) not in away]

    def about(self, phase: Phase) -> list[AlertMessage]:
        """Return what was taken about alerts in that phase."""
        return [message for message in alerts_of(self.taken()) if message.phase is phase]


def test_a_fault_reaches_everybody_and_its_end_too(
    tmp_path: Path, town: Town, daemon: Daemon, alertmanager: AlertmanagerServer, receiver: HttpReceiver,
    browser: Browser,
) -> None:  # fmt: skip
    """Protects the whole chain: what is wrong is heard of by its reason, understood, labelled and over, for everybody,
    though Alertmanager is killed before it is told, and again before it hears of the end, as is the daemon ended."""
    tickets, visitor = Tickets(receiver), Visitor(browser, daemon.url)
    town.send(FAULT)
    until(lambda: daemon.metric("readings_total") == town.readings(FAULT), "all is read that came before the fault")
    assert alertmanager.alerts() == []

    alertmanager.stop()
    town.send(FAULT + 3)
    opened = opened_while_away(town, daemon, tickets)
    alertmanager.start()
    link = told_with_its_reason(town, daemon, alertmanager, opened)

    visitor.page.goto(link)
    visitor.log_in(TOKEN)
    visitor.drawn()
    seen_and_labelled(visitor, daemon, opened, tmp_path / "open.png")

    alertmanager.stop()
    town.send(STEPS)
    ended = ended_while_away(daemon, tickets, opened)
    visitor.until("#head .pill", "ended")  # by itself: the page is still the one that was labelled
    visitor.page.goto("about:blank")
    until(lambda: daemon.metric("frames_closed_total") == STEPS - 1, "all steps but the newest are closed")
    until(lambda: has_all(daemon, "tickets") and has_all(daemon, "log"), "all but Alertmanager have all")
    before = delivered(daemon)
    assert daemon.stop() == OK
    daemon.start()
    until(lambda: daemon.metric("ready") == 1, "the daemon is ready again")
    alertmanager.start()
    over_for_people(alertmanager, ended)
    seen_over(visitor, daemon, ended, tmp_path / "over.png")
    assert visitor.troubles == []
    visitor.leave()

    until(lambda: daemon.metric("receiver_waiting") == 0, "nothing waits")
    after = delivered(daemon)
    assert daemon.stop() == OK
    said = town.said()
    assert before["tickets"] == before["log"] == len(said)
    assert after == {"oncall": len(alerts_of(said)) - before["oncall"], "tickets": 0, "log": 0}
    everything_arrived(tmp_path, alertmanager, tickets, said)


def delivered(daemon: Daemon) -> dict[str, float]:
    """Return how many messages each receiver took from this process, which gave up none."""
    assert [daemon.metric(f"receiver_{how}_total") for how in ("refused", "dropped")] == [0, 0]
    return {name: daemon.metric("receiver_delivered_total", receiver=name) for name in ("oncall", "tickets", "log")}


def has_all(daemon: Daemon, receiver: str) -> bool:
    """Return whether a receiver of everything took as many messages as were said."""
    return daemon.metric("receiver_delivered_total", receiver=receiver) == daemon.metric("alerts_total")


def opened_while_away(town: Town, daemon: Daemon, tickets: Tickets) -> AlertMessage:
    """Return what the webhook was told of the fault; it waits for Alertmanager, which is away."""
    until(lambda: tickets.about(Phase.OPENED), "the webhook hears of the fault")
    (opened,) = tickets.about(Phase.OPENED)
    assert (opened.entity, opened.kind) == (ENTITY, Kind.ANOMALY)
    assert FAULT <= town.step_of(opened.started_us) <= town.step_of(opened.opened_us) < CLEAR
    (again,) = tickets.turned_away
    assert again.headers["idempotency-key"] == opened.id  # what was sent again can be told by its key
    until(lambda: daemon.metric("receiver_failures_total", receiver="oncall") > 0, "Alertmanager was tried")
    until(lambda: daemon.metric("receiver_waiting", receiver="oncall") >= 1, "what it has not got waits")
    assert daemon.metric("receiver_up", receiver="oncall") == 0
    return opened


def told_with_its_reason(town: Town, daemon: Daemon, alertmanager: AlertmanagerServer, opened: AlertMessage) -> str:
    """Return the link of the alert that Alertmanager shows, which says what is wrong in one sentence."""
    until(lambda: ("firing", ENTITY) in alertmanager.notified(), "people are told")
    (alert,) = alertmanager.alerts()
    assert alert["status"]["state"] == "active"
    assert alert["labels"]["alertname"] == "VedetteAnomaly"
    assert (alert["labels"]["stream"], alert["labels"]["entity"]) == ("air", ENTITY)
    assert alert["labels"]["incident"] == opened.incident_id
    summary, description = alert["annotations"]["summary"], alert["annotations"]["description"]
    assert re.match(r"PM(2\.5|10) is \d+(\.\d+)? µg/m³, expected \d+(\.\d+)? to \d+(\.\d+)?\b", summary), summary
    assert opened.reason.startswith(summary)
    assert description == opened.reason
    assert moment_us(alert["startsAt"]) == opened.started_us
    link: str = alert["annotations"]["link"]
    assert link == alert["generatorURL"] == f"{daemon.url}/incidents/{opened.incident_id}"
    return link


def seen_and_labelled(visitor: Visitor, daemon: Daemon, opened: AlertMessage, picture: Path) -> None:
    """Look at the incident's page, where the link has led by way of the login, and press a button there."""
    page = visitor.page
    assert page.url == f"{daemon.url}/incidents/{opened.incident_id}"
    assert page.locator("h1").inner_text().endswith(ENTITY)
    assert visitor.text("#reason") == opened.reason
    assert page.locator("#head .pill", has_text="open").count() == 1
    assert page.locator("[data-chart=series] .scatterlayer .trace").count() > 0
    visitor.picture(picture)
    page.get_by_role("button", name="It was real").click()
    page.wait_for_selector("#label .verdict")
    visitor.drawn()
    assert re.search(r"until [\d-]+T[\d:]+Z;", visitor.text("#label .hint"))  # to the second: it is for people
    label = daemon.ask(f"/api/incidents/{opened.incident_id}")["incident"]["label"]
    assert (label["kind"], label["author"]) == ("true", "kim")
    assert [(each["action"], each["who"]) for each in daemon.ask("/api/audit")["actions"]] == [("label", "kim")]


def ended_while_away(daemon: Daemon, tickets: Tickets, opened: AlertMessage) -> AlertMessage:
    """Return what the webhook was told of the end; Alertmanager, killed, has forgotten all and hears of nothing."""
    until(lambda: tickets.about(Phase.RESOLVED), "the webhook hears of the end")
    (ended,) = tickets.about(Phase.RESOLVED)
    assert ended.incident_id == opened.incident_id
    assert ended.sequence > opened.sequence
    assert ended.resolved_us is not None
    until(lambda: daemon.metric("receiver_up", receiver="oncall") == 0, "Alertmanager was tried")
    until(lambda: daemon.metric("receiver_waiting", receiver="oncall") >= 1, "what it has not got waits")
    return ended


def over_for_people(alertmanager: AlertmanagerServer, ended: AlertMessage) -> None:
    """Wait until people are told of the end, with its time, and Alertmanager shows nothing any more."""
    until(lambda: ("resolved", ENTITY) in alertmanager.notified(), "people are told of the end")
    until(lambda: alertmanager.alerts() == [], "nothing fires")
    told = [alert for request in alertmanager.people.requests for alert in json.loads(request.body)["alerts"]]
    assert {alert["labels"]["incident"] for alert in told} == {ended.incident_id}
    (end,) = [alert for alert in told if alert["status"] == "resolved"]
    assert moment_us(end["endsAt"]) == ended.resolved_us
    assert ended.reason.startswith(end["annotations"]["summary"])


def seen_over(visitor: Visitor, daemon: Daemon, ended: AlertMessage, picture: Path) -> None:
    """Look at the incident again, and at what is open now."""
    page = visitor.page
    page.goto(f"{daemon.url}/incidents/{ended.incident_id}")
    visitor.log_in(TOKEN)  # sessions end with the process that began them
    visitor.drawn()
    assert page.locator("#head .pill", has_text="ended").count() == 1
    assert page.locator("#head .pill", has_text="open").count() == 0
    assert visitor.text("#said li:last-child b") == "resolved"
    assert "kim" in visitor.text("#label .verdict")
    visitor.picture(picture)
    page.goto(f"{daemon.url}/")
    visitor.drawn()
    assert page.locator(f"#open [href$='{ended.incident_id}']").count() == 0
    shown = daemon.ask(f"/api/incidents/{ended.incident_id}")["incident"]
    assert moment_us(shown["resolved"]) == ended.resolved_us
    assert shown["label"]["kind"] == "true"


def everything_arrived(
    folder: Path, alertmanager: AlertmanagerServer, tickets: Tickets, said: Sequence[AlertMessage]
) -> None:
    """Compare what was said in the topic with what each receiver got; nothing is left behind."""
    ids = sorted(message.id for message in said)
    assert len(set(ids)) == len(ids)
    assert sorted(message.id for message in tickets.taken()) == ids
    assert sorted(decode(line).id for line in (folder / "alerts.jsonl").read_bytes().splitlines()) == ids
    alerts = alerts_of(said)
    assert {message.entity for message in alerts} == {ENTITY}
    assert (alerts[0].phase, alerts[-1].phase) == (Phase.OPENED, Phase.RESOLVED)
    assert set(alertmanager.notified()) == {("firing", ENTITY), ("resolved", ENTITY)}
    outbox = Outbox(folder / "state" / "outbox.db")
    try:
        assert outbox.strangers(()) == {}  # whatever queue it waits in
        for queue in (f"oncall {instance_name(alertmanager.url)}", "tickets", "log"):
            assert outbox.depth(queue) == Depth(0, None, 0)
    finally:
        outbox.close()


def alerts_of(said: Sequence[AlertMessage]) -> list[AlertMessage]:
    """Return what is for the receiver that hears of alerts only."""
    return [message for message in said if message.tier >= Tier.ALERT]


def moment_us(text: str) -> int:
    """Return the time that RFC 3339 says."""
    return round(datetime.fromisoformat(text).timestamp() * 1e6)
