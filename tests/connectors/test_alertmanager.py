"""Alertmanager takes what we tell it, and shows it as it was told, hostile names included."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from connectors.alertmanager import Alert, Alertmanager
from connectors.errors import ReceiverRefused, ReceiverUnavailable
from tests.alertmanager_server import AlertmanagerServer
from tests.alertmanager_server import alertmanager as alertmanager  # a fixture
from tests.http_receiver import HttpReceiver, Reply
from tests.http_receiver import receiver as receiver  # a fixture

HOSTILE = (
    "<script>alert(1)</script>", 'a"} or vector(1) #', "{{ .Labels }}", "../../etc/passwd", "a\nb\x00\x1b[31m",
    "\ud800", "ünïcode ✓ 🚰", "x" * 10_000, " ", "'; DROP TABLE alerts;--", "\u202eabc",
)  # fmt: skip


def alert(entity: str, minutes: float = 5.0) -> Alert:
    """Return an alert that ends in so many minutes."""
    now = datetime.now(UTC)
    begin = now - timedelta(hours=1)
    end = now + timedelta(minutes=minutes)
    labels = {"alertname": "VedetteAnomaly", "entity": entity, "site": ""}
    return Alert(labels, {"summary": entity}, begin.isoformat(), end.isoformat(), "https://console/incidents/1")


@pytest.fixture
def client(alertmanager: AlertmanagerServer) -> Iterator[Alertmanager]:
    """A client of the real one."""
    made = Alertmanager(alertmanager.url, 10.0)
    yield made
    made.close()


def test_hostile_names_are_text(alertmanager: AlertmanagerServer, client: Alertmanager) -> None:
    """Protects from names that break a request, and with it the alerts of all others."""
    client.post([alert(name) for name in HOSTILE])
    shown = {found["labels"]["entity"]: found for found in alertmanager.alerts()}
    assert set(shown) == {name.encode("utf-8", "replace").decode() for name in HOSTILE}
    for name, found in shown.items():
        assert found["annotations"] == {"summary": name}
        assert "site" not in found["labels"]
        assert found["generatorURL"] == "https://console/incidents/1"


def test_what_is_over_is_gone(alertmanager: AlertmanagerServer, client: Alertmanager) -> None:
    """Protects from alerts that stay: an end in the past ends the alert with the same labels."""
    client.post([alert("a"), alert("b")])
    client.post([alert("a", minutes=-1.0)])
    assert [found["labels"]["entity"] for found in alertmanager.alerts()] == ["b"]


def test_one_that_is_refused_is_found(alertmanager: AlertmanagerServer, client: Alertmanager) -> None:
    """Protects all other alerts from one that Alertmanager will not have."""
    bad = Alert({"not a name": "x"}, {}, alert("a").starts, alert("a").ends)
    with pytest.raises(ReceiverRefused, match="answers 400"):
        client.post([alert("a"), bad])
    assert list(client.post_each([alert("a"), bad, alert("b")])) == [1]
    assert {found["labels"].get("entity") for found in alertmanager.alerts()} == {"a", "b"}


@pytest.mark.parametrize("status", [401, 403, 404, 405, 502])
def test_a_wrong_address_gives_up_no_alert(receiver: HttpReceiver, status: int) -> None:
    """Protects alerts from a proxy or a path that a person has yet to set right."""
    receiver.answer = lambda request: Reply(status)
    client = Alertmanager(f"{receiver.url}/am/", 10.0)
    with pytest.raises(ReceiverUnavailable, match=f"answers {status}"):
        client.post([alert("a")])
    assert receiver.requests[0].path == "/am/api/v2/alerts"
    client.close()
