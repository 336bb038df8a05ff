"""Alerts reach whoever is to hear of them, whatever becomes of receivers, disk or process; the loop never waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from connectors.alertmanager import Alertmanager
from connectors.errors import OutboxUnavailable, ReceiverUnavailable
from connectors.free_ports import free_port
from connectors.outbox import Outbox
from connectors.outbox_rows import Entry
from connectors.webhook import verify
from pipeline.alertmanager_alerts import AlertWriter
from pipeline.couriers import AlertmanagerCourier
from pipeline.delivering import Instance, ReceiverStatus
from pipeline.incident import AlertMessage, Incident, Phase, Severity, Tier, decode, encode
from pipeline.receivers import Receivers
from tests.alertmanager_server import AlertmanagerServer
from tests.alertmanager_server import alertmanager as alertmanager  # a fixture
from tests.http_receiver import HttpReceiver, Reply, Request
from tests.http_receiver import receiver as receiver  # a fixture
from tests.pipeline.alert_parts import START_US, id_of, message
from tests.pipeline.receiver_parts import Desk, Numbers, wait_until

Open = Callable[[Desk], Receivers]

SENDER = """
import os, signal, sys, time
from pathlib import Path
from tests.pipeline.alert_parts import message
from tests.pipeline.receiver_parts import Desk
desk = Desk(Path(sys.argv[1]))
desk.webhook(sys.argv[2], timeout_s=60.0)
receivers = desk.open()
receivers.add([message(n) for n in range(5)])
assert receivers.flush(30.0)
sys.stdout.write("flushed\\n")
sys.stdout.flush()
time.sleep(600)
"""


@pytest.fixture
def opened() -> Iterator[Open]:
    """Return a function that starts a desk's receivers; they are closed in the end."""
    made: list[Receivers] = []

    def opened(desk: Desk) -> Receivers:
        made.append(desk.open())
        return made[-1]

    yield opened
    for receivers in made:
        receivers.close()


def end(n: int, sequence: int = 1, **changes: object) -> AlertMessage:
    """Return the end of incident ``n``."""
    return message(n, sequence, phase=Phase.RESOLVED, resolved_us=START_US + n, **changes)


def incident(n: int) -> Incident:
    """Return the incident that ``message(n)`` opened, as a checkpoint brings it."""
    said = message(n)
    names = set(Incident.__dataclass_fields__) & set(AlertMessage.__dataclass_fields__) - {"sequence"}
    return Incident(id=said.incident_id, announced=True, sequence=1, **{name: getattr(said, name) for name in names})


def told(requests: Sequence[Request]) -> list[str]:
    """Return what the webhook was told, as entity:sequence."""
    said = [decode(request.body) for request in list(requests)]
    return [f"{each.entity}:{each.sequence}" for each in said]


def lines_of(path: Path) -> int:
    """Return how many lines a file has; one that is not there yet has none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def only(receivers: Receivers) -> ReceiverStatus:
    """Return the only receiver's status."""
    (status,) = receivers.status()
    return status


# ---- webhook ----


def test_a_webhook_gets_every_message_signed_and_in_order(tmp_path: Path, receiver: HttpReceiver, opened: Open) -> None:
    """Protects the plain case: each message once, valid, with the key that tells it apart."""
    desk = Desk(tmp_path)
    desk.webhook(receiver.url)
    receivers = opened(desk)
    receivers.add([message(0), message(1), message(0, 1), end(0, 2)])
    receivers.add([message(0)])
    receiver.wait_until(lambda: len(receiver.requests) == 4)
    said = told(receiver.requests)
    assert sorted(said) == ["station-0:0", "station-0:1", "station-0:2", "station-1:0"]
    assert [each for each in said if each.startswith("station-0")] == ["station-0:0", "station-0:1", "station-0:2"]
    for request in receiver.requests:
        head = request.headers
        assert head["idempotency-key"] == decode(request.body).id
        assert verify("s3cret", head["x-vedette-timestamp"], head["x-vedette-signature"], request.body, time.time())
    wait_until(lambda: only(receivers).delivered == 4)
    instance = f"127.0.0.1:{receiver.port}"
    assert desk.numbers.value("receiver_delivered_total", "hook", instance) == 4.0
    assert desk.numbers.value("receiver_up", "hook", instance) == 1.0
    assert desk.numbers.value("receiver_delay_seconds_count", "hook", instance) == 4.0


def test_a_dead_webhook_holds_up_nobody(tmp_path: Path, receiver: HttpReceiver, opened: Open) -> None:
    """Protects the loop and the other receivers: one hangs, one is away, and the file has everything at once."""
    receiver.open.clear()
    desk = Desk(tmp_path)
    desk.webhook(receiver.url, timeout_s=600.0)
    desk.alertmanager(f"http://127.0.0.1:{free_port()}")
    desk.file(tmp_path / "alerts.jsonl")
    receivers = opened(desk)
    receivers.add([message(0)])
    receiver.wait_until(lambda: len(receiver.requests) == 1)  # its thread hangs now
    for n in range(1, 200):
        receivers.add([message(n)])
    assert receivers.flush(30.0)
    wait_until(lambda: lines_of(tmp_path / "alerts.jsonl") == 200)
    expected = {"hook": 200, "ops": 200, "file": 0}
    wait_until(lambda: {status.receiver: status.waiting for status in receivers.status()} == expected)
    receivers.close()  # while it hangs
    assert len(receiver.requests) == 1


def test_troubles_are_ridden_out_and_shown(tmp_path: Path, receiver: HttpReceiver, opened: Open) -> None:
    """Protects messages from a receiver that fails: all arrive, in each incident's order, and one can see why not."""
    receiver.answer = lambda request: Reply(500, b"out of <paper>")
    desk = Desk(tmp_path)
    desk.webhook(receiver.url)
    receivers = opened(desk)
    receivers.add([message(n, sequence) for sequence in range(2) for n in range(3)])
    receiver.wait_until(lambda: len(receiver.requests) >= 4)
    status = only(receivers)
    assert (status.waiting, status.delivered, status.last_error) == (6, 0, "answers 500: out of <paper>")
    assert status.oldest_us is not None
    assert status.failing_since_us is not None
    instance = f"127.0.0.1:{receiver.port}"
    assert desk.numbers.value("receiver_up", "hook", instance) == 0.0
    failures = desk.numbers.value("receiver_failures_total", "hook", instance, cause="failing")
    assert failures is not None
    assert failures >= 3
    with receiver.changed:
        receiver.answer = lambda request: Reply()
        receiver.requests.clear()
    receiver.wait_until(lambda: len(receiver.requests) == 6)
    said = told(receiver.requests)
    for n in range(3):
        assert [each for each in said if each.startswith(f"station-{n}:")] == [f"station-{n}:0", f"station-{n}:1"]
    wait_until(lambda: only(receivers).waiting == 0)
    assert only(receivers).failing_since_us is None
    wait_until(lambda: desk.numbers.value("receiver_waiting", "hook", instance) == 0.0)
    wait_until(lambda: desk.numbers.value("receiver_oldest_timestamp_seconds", "hook", instance) is None)


def test_a_message_that_breaks_the_receiver_holds_up_only_its_incident(
    tmp_path: Path, receiver: HttpReceiver, opened: Open
) -> None:
    """Protects all incidents from one on which the receiver always fails."""
    poison = id_of(0).encode()
    receiver.answer = lambda request: Reply(500 if poison in request.body else 200)
    desk = Desk(tmp_path)
    desk.webhook(receiver.url)
    receivers = opened(desk)
    receivers.add([message(n) for n in range(4)])
    wait_until(lambda: only(receivers).delivered == 3)
    assert only(receivers).waiting == 1


def test_what_is_refused_is_set_aside(tmp_path: Path, receiver: HttpReceiver, opened: Open) -> None:
    """Protects the rest, and the refused message from vanishing: people see it, and what was said."""
    bad = id_of(0).encode()
    receiver.answer = lambda request: Reply(422, b"no such thing") if bad in request.body else Reply()
    desk = Desk(tmp_path)
    desk.webhook(receiver.url)
    receivers = opened(desk)
    receivers.add([message(0), message(1)])
    wait_until(lambda: only(receivers).delivered == 1 and only(receivers).waiting == 0)
    assert only(receivers).refused == 1
    (refusal,) = desk.outbox.refusals("hook")
    assert (decode(refusal.body).entity, refusal.error) == ("station-0", "answers 422: no such thing")
    wait_until(lambda: desk.numbers.value("receiver_refused_total", "hook", f"127.0.0.1:{receiver.port}") == 1.0)


def test_a_busy_receiver_is_left_alone_for_as_long_as_it_asks(
    tmp_path: Path, receiver: HttpReceiver, opened: Open
) -> None:
    """Protects a receiver that says when to come back; new messages change nothing of it, and closing does."""
    receiver.answer = lambda request: Reply(429, b"", {"Retry-After": "600"})
    desk = Desk(tmp_path)
    desk.webhook(receiver.url)
    receivers = opened(desk)
    receivers.add([message(0)])
    wait_until(lambda: only(receivers).last_error == "answers 429")
    receivers.add([message(1)])
    assert receivers.flush(30.0)
    desk.deliveries[0].join(0.2)
    assert len(receiver.requests) == 1


def test_kill_9_of_the_sender_loses_nothing(tmp_path: Path, receiver: HttpReceiver, opened: Open) -> None:
    """Protects what was flushed: the process is killed while the first request hangs, and the next one delivers."""
    receiver.open.clear()
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER, str(tmp_path), receiver.url],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    with sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == b"flushed\n"
        receiver.wait_until(lambda: len(receiver.requests) >= 1)
        os.kill(sender.pid, signal.SIGKILL)
    receiver.open.set()
    desk = Desk(tmp_path)
    desk.webhook(receiver.url)
    opened(desk)
    receiver.wait_until(lambda: len({request.headers["idempotency-key"] for request in receiver.requests}) == 5)
    assert set(told(receiver.requests)) == {f"station-{n}:0" for n in range(5)}


# ---- Alertmanager ----


def test_an_alert_fires_with_its_reason_and_is_resolved(
    tmp_path: Path, alertmanager: AlertmanagerServer, opened: Open
) -> None:
    """Protects what people see: labels to route by, the reason in a sentence, the band, a link; grouped by site."""
    desk = Desk(tmp_path)
    desk.alertmanager(alertmanager.url)
    receivers = opened(desk)
    receivers.add([message(0), message(1)])
    wait_until(lambda: len(alertmanager.alerts()) == 2)
    (found,) = [each for each in alertmanager.alerts() if each["labels"]["entity"] == "station-0"]
    assert found["labels"] == {
        "alertname": "VedetteAnomaly", "stream": "air", "entity": "station-0", "site": "north", "kind": "anomaly",
        "tier": "alert", "severity": "warning", "incident": id_of(0),
    }  # fmt: skip
    said = found["annotations"]
    assert said["summary"] == message(0).reason
    assert said["link"] == found["generatorURL"] == f"https://console.example/incidents/{id_of(0)}"
    assert (said["observed"], said["expected"]) == ("PM2.5 182 µg/m³", "PM2.5 20 to 60 µg/m³")
    assert found["startsAt"].startswith("2026-03-01T23:59:00")
    people = alertmanager.people
    people.wait_until(lambda: len(alertmanager.notified()) == 2)
    assert json.loads(people.requests[0].body)["groupLabels"] == {"site": "north"}
    receivers.add([end(0)])
    people.wait_until(lambda: ("resolved", "station-0") in alertmanager.notified())
    assert ("resolved", "station-1") not in alertmanager.notified()
    assert [each["labels"]["entity"] for each in alertmanager.alerts()] == ["station-1"]


def test_an_outage_in_the_middle_loses_nothing(tmp_path: Path, alertmanager: AlertmanagerServer, opened: Open) -> None:
    """Protects incidents that began, ended or went on while Alertmanager was down, though it forgot everything; also
    one of which it never heard is told of before it is over. Another instance is told of all at once."""
    other = HttpReceiver()
    other.start()
    desk = Desk(tmp_path)
    desk.alertmanager(alertmanager.url, other.url, linger_s=35.0)
    receivers = opened(desk)
    receivers.add([message(0), message(1)])
    alertmanager.people.wait_until(lambda: len(alertmanager.notified()) == 2)
    alertmanager.stop()
    receivers.add([message(2), message(3)])
    receivers.add([end(0), end(2)])
    other.wait_until(lambda: id_of(3).encode() in b"".join(request.body for request in other.requests))
    wait_until(lambda: receivers.status()[0].failing_since_us is not None)
    assert receivers.status()[1].failing_since_us is None
    alertmanager.start()
    people = alertmanager.people
    people.wait_until(lambda: {("firing", "station-2"), ("firing", "station-3")} <= set(alertmanager.notified()))
    assert ("resolved", "station-2") not in alertmanager.notified()
    desk.pass_time(36.0)
    people.wait_until(lambda: ("resolved", "station-2") in alertmanager.notified())
    wait_until(lambda: all(status.waiting == 0 for status in receivers.status()))
    assert {each["labels"]["entity"] for each in alertmanager.alerts()} == {"station-1", "station-3"}
    other.close()


def test_an_end_lingers_after_the_beginning_is_told_again(tmp_path: Path, receiver: HttpReceiver) -> None:
    """Protects ends from coming with the beginning that an Alertmanager had forgotten: it would notify of neither."""
    now_us, instance = [START_US], Instance("ops", "am", "alertmanager", "ops")
    alertmanager, writer = Alertmanager(receiver.url, 10.0), AlertWriter("http://console", 300_000_000)
    with closing(Outbox(tmp_path / "outbox.db")) as outbox, closing(
        AlertmanagerCourier(
            instance, outbox, Numbers().metrics, alertmanager, writer, settle_s=0.0, now_us=lambda: now_us[0]
        )
    ) as courier:

        def carried() -> int:
            return courier.carry(outbox.due("ops", now_us[0], 9))

        outbox.add([Entry("ops", id_of(0), 0, False, encode(message(0)))], now_us[0])
        assert carried() == 1
        now_us[0] += 3_600_000_000
        outbox.add([Entry("ops", id_of(0), 1, True, encode(end(0)))], now_us[0])
        receiver.answer = lambda request: Reply(503)
        with pytest.raises(ReceiverUnavailable):
            carried()
        receiver.answer = lambda request: Reply()
        assert courier.attend()
        assert carried() == 0
        now_us[0] += 35_000_000
        assert carried() == 1


def test_an_end_is_heard_of_though_both_sides_were_started_anew(
    tmp_path: Path, alertmanager: AlertmanagerServer, opened: Open
) -> None:
    """Protects whoever was woken: after a crash Alertmanager tells only of the end of what it has seen fire."""
    desk = Desk(tmp_path)
    desk.alertmanager(alertmanager.url)
    receivers = opened(desk)
    receivers.add([message(0)])
    alertmanager.people.wait_until(lambda: ("firing", "station-0") in alertmanager.notified())
    alertmanager.stop()
    receivers.add([end(0)])
    receivers.close(30.0)
    again = Desk(tmp_path)
    again.alertmanager(alertmanager.url, linger_s=35.0)
    receivers = opened(again)
    receivers.hold([])  # nothing is open here, as the checkpoint says
    wait_until(lambda: receivers.status()[0].failing_since_us is not None)
    before = len(alertmanager.people.requests)
    alertmanager.start()
    alertmanager.people.wait_until(lambda: len(alertmanager.people.requests) > before)  # it was seen to fire once more
    again.pass_time(36.0)
    alertmanager.people.wait_until(lambda: ("resolved", "station-0") in alertmanager.notified())
    wait_until(lambda: receivers.status()[0].waiting == 0 and alertmanager.alerts() == [])


def test_firing_alerts_are_told_again_after_a_restart(
    tmp_path: Path, alertmanager: AlertmanagerServer, opened: Open
) -> None:
    """Protects alerts that fire: Alertmanager ends what it is not told of again, and it forgets at a restart."""
    desk = Desk(tmp_path)
    desk.alertmanager(alertmanager.url)
    receivers = opened(desk)
    receivers.add([message(0), message(1), end(1)])
    wait_until(lambda: receivers.status()[0].delivered == 3)
    receivers.close(30.0)
    alertmanager.stop()
    alertmanager.start()
    assert alertmanager.alerts() == []
    again = Desk(tmp_path)
    again.alertmanager(alertmanager.url)
    opened(again)
    wait_until(lambda: [each["labels"]["entity"] for each in alertmanager.alerts()] == ["station-0"])


def test_after_a_restart_it_is_first_settled_whose_incidents_are_whose(
    tmp_path: Path, receiver: HttpReceiver, opened: Open
) -> None:
    """Protects from a process that tells of what ended elsewhere while it was away: it waits to be assigned its own."""
    desk = Desk(tmp_path)
    desk.alertmanager(receiver.url)
    receivers = opened(desk)
    receivers.add([message(0), message(1)])
    wait_until(lambda: receivers.status()[0].delivered == 2)
    receivers.close(30.0)
    receiver.requests.clear()
    again = Desk(tmp_path)
    again.alertmanager(receiver.url, settle_s=3600.0)
    receivers = opened(again)
    receivers.hold([incident(1)])
    receiver.wait_until(lambda: len(receiver.requests) == 1)
    (alert,) = json.loads(receiver.requests[0].body)
    assert alert["labels"]["entity"] == "station-1"


def test_what_fires_is_told_until_it_ends(tmp_path: Path, receiver: HttpReceiver, opened: Open) -> None:
    """Protects a long incident from being taken for over, and an ended one from coming back."""
    desk = Desk(tmp_path)
    desk.alertmanager(receiver.url, repeat_s=0.02)
    receivers = opened(desk)
    receivers.add([message(0)])
    receiver.wait_until(lambda: len(receiver.requests) >= 4)
    begun, ends = [], []
    for request in list(receiver.requests):
        (alert,) = json.loads(request.body)
        begun.append(alert["startsAt"])
        ends.append(alert["endsAt"])
    assert len(set(begun)) == 1
    assert ends == sorted(ends)
    receivers.add([end(0)])
    wait_until(lambda: receivers.status()[0].delivered == 2)
    (over,) = json.loads(receiver.requests[-1].body)
    assert over["endsAt"] == "2026-03-02T00:00:00Z"
    count = len(receiver.requests)
    desk.deliveries[0].join(0.1)
    assert len(receiver.requests) == count


def test_a_watch_that_becomes_an_alert_leaves_no_watch_behind(
    tmp_path: Path, alertmanager: AlertmanagerServer, opened: Open
) -> None:
    """Protects from two alerts for one incident: its labels change, so the one before has to end."""
    desk = Desk(tmp_path)
    desk.alertmanager(alertmanager.url)
    desk.routes[0] = type(desk.routes[0])(desk.routes[0].queues, least=Tier.WATCH, repeats=True)
    receivers = opened(desk)
    receivers.add([message(0, tier=Tier.WATCH, severity=Severity.INFO)])
    wait_until(lambda: [each["labels"]["tier"] for each in alertmanager.alerts()] == ["watch"])
    receivers.add([message(0, 1, severity=Severity.CRITICAL)])
    wait_until(lambda: [each["labels"]["severity"] for each in alertmanager.alerts()] == ["critical"])


def test_what_moved_to_another_process_is_told_there(
    tmp_path: Path, alertmanager: AlertmanagerServer, opened: Open
) -> None:
    """Protects incidents whose partition moves: the old process falls silent about them, the new one takes over."""
    desks = [Desk(tmp_path / name) for name in ("old", "new")]
    receivers = []
    for desk in desks:
        desk.alertmanager(alertmanager.url, repeat_s=0.02)
        receivers.append(opened(desk))
    old, new = receivers
    old.add([message(0)])
    wait_until(lambda: len(alertmanager.alerts()) == 1)
    old.hold([])  # where it has not written down yet that it told of it, too
    assert old.flush(30.0)
    old.add([message(1), end(1)])
    wait_until(lambda: old.status()[0].delivered == 3)  # so what it was saying of station-0 just then is said
    new.hold([incident(0)])
    wait_until(lambda: new.status()[0].delivered == 1)
    new.add([end(0)])
    wait_until(lambda: alertmanager.alerts() == [])
    old.add([message(2)])  # its thread turns again, and says nothing of what has gone
    wait_until(lambda: [each["labels"]["entity"] for each in alertmanager.alerts()] == ["station-2"])


def test_what_is_said_after_partitions_moved_is_told_again(
    tmp_path: Path, receiver: HttpReceiver, opened: Open
) -> None:
    """Protects a new incident from running out after minutes: it is ours, though it was written with the move."""
    desk = Desk(tmp_path)
    desk.alertmanager(receiver.url, repeat_s=0.02)
    receivers = opened(desk)
    receivers.hold([])
    receivers.add([message(0)])
    assert receivers.flush(30.0)
    receiver.wait_until(lambda: len(receiver.requests) >= 3)


# ---- file, routes, and what may go wrong at home ----


def test_a_file_gets_lines_and_may_be_rotated(tmp_path: Path, opened: Open) -> None:
    """Protects people who tail it, and logrotate."""
    desk, path = Desk(tmp_path), tmp_path / "logs" / "alerts.jsonl"
    desk.file(path)
    receivers = opened(desk)
    receivers.add([message(0)])
    wait_until(lambda: "cannot be opened" in only(receivers).last_error)
    path.parent.mkdir()
    wait_until(lambda: lines_of(path) == 1)
    path.rename(path.with_suffix(".1"))
    receivers.add([message(1)])
    wait_until(lambda: lines_of(path) == 1)
    lines = path.with_suffix(".1").read_bytes() + path.read_bytes()
    assert [decode(line).entity for line in lines.splitlines()] == ["station-0", "station-1"]


def test_messages_go_where_they_are_wanted(tmp_path: Path, receiver: HttpReceiver, opened: Open) -> None:
    """Protects people from what they did not ask for: by stream, kind and tier."""
    desk = Desk(tmp_path)
    desk.webhook(receiver.url)
    desk.file(tmp_path / "water.jsonl", streams=["water*"])
    receivers = opened(desk)
    receivers.add([message(0, tier=Tier.WATCH), message(1), message(2, stream="water-2")])
    receiver.wait_until(lambda: len(receiver.requests) == 2)
    wait_until(lambda: lines_of(tmp_path / "water.jsonl") == 1)
    assert sorted(told(receiver.requests)) == ["station-1:0", "station-2:0"]
    assert decode((tmp_path / "water.jsonl").read_bytes()).entity == "station-2"


def test_a_disk_that_takes_nothing_is_said_and_waited_for(
    tmp_path: Path, receiver: HttpReceiver, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects messages from a full disk: they wait in memory, so many of them, and go on from there."""
    desk = Desk(tmp_path)
    desk.webhook(receiver.url)
    receivers = opened(desk)
    whole = desk.outbox.add

    def full(entries: Sequence[Entry], now_us: int, timeout_s: float = 0.0) -> set[str]:
        raise OutboxUnavailable("database or disk is full")

    monkeypatch.setattr(desk.outbox, "add", full)
    monkeypatch.setattr(receivers, "_max_pending", 3)
    receivers.add([message(n) for n in range(5)])
    assert not receivers.flush(30.0)
    assert desk.numbers.value("outbox_dropped_total") == 2.0
    assert desk.numbers.value("outbox_unwritten") == 3.0
    monkeypatch.setattr(desk.outbox, "add", whole)
    receiver.wait_until(lambda: len(receiver.requests) == 3)
    assert told(receiver.requests) == ["station-2:0", "station-3:0", "station-4:0"]
    assert (desk.numbers.value("outbox_errors_total") or 0.0) >= 1.0


def test_a_defect_does_not_end_the_thread(tmp_path: Path, receiver: HttpReceiver, opened: Open) -> None:
    """Protects from alerts that silently never arrive again: what cannot be read is set aside or tried again."""
    desk = Desk(tmp_path)
    desk.alertmanager(receiver.url)
    desk.outbox.add([Entry(desk.deliveries[0].instance.queue, "i", 0, False, b"no alert")], 1)
    receivers = opened(desk)
    receivers.add([message(0)])
    receiver.wait_until(lambda: len(receiver.requests) == 1)
    wait_until(lambda: only(receivers).refused == 1)
