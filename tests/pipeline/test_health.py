"""Probes tell the truth: a stalled loop is dead, an outage is only not ready."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.health import HealthServer
from pipeline.metrics import Metrics
from pipeline.status import NotReady, Status


class Clock:
    """A monotonic clock that is turned by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Probe:
    """A served daemon, and the way to ask it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics(status=Status(stall_timeout_s=60, monotonic=self.clock))
        self.notes: list[str] = []
        self.asked: list[str | None] = []
        self.answer: dict[str, Any] = {"accepted": True, "job": "1", "reason": "", "jobs": [{"job": "1"}]}
        self.server = HealthServer(
            self.metrics.status, self.metrics.registry, "1.2.3", port=0, notes=lambda: self.notes, train=self.train,
            training=lambda: {"scheduler": {"alive": True}, "streams": [{"stream": "air"}]},
        )  # fmt: skip

    def train(self, stream: str | None) -> dict[str, Any]:
        self.asked.append(stream)
        return self.answer

    def post(self, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
        response, told = self.ask(path, "POST", headers or {"X-Vedette-Request": "1"}, body)
        return response.status, json.loads(told)

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        told = response.read()
        connection.close()
        return response, told

    def json(self, path: str) -> tuple[int, dict[str, Any]]:
        response, body = self.ask(path)
        return response.status, json.loads(body)


@pytest.fixture
def probe() -> Iterator[Probe]:
    probe = Probe()
    yield probe
    probe.server.close()


def test_the_life_of_a_daemon_as_its_probes_tell_it(probe: Probe) -> None:
    """Protects from restarts during an outage, and from traffic to what is not ready."""
    assert probe.json("/livez")[0] == 200
    status, body = probe.json("/readyz")
    assert (status, body["ready"]) == (503, False)
    assert [reason["code"] for reason in body["reasons"]] == ["joining"]
    probe.metrics.partitions(set())
    probe.metrics.source_reachable(True)
    assert probe.json("/readyz") == (200, {"ready": True, "reasons": [], "notes": []})
    probe.metrics.source_reachable(False)
    status, body = probe.json("/readyz")
    assert (status, body["reasons"]) == (503, [{"code": "source", "text": "the broker cannot be reached"}])
    assert probe.json("/livez")[0] == 200
    probe.metrics.source_reachable(True)
    probe.metrics.status.hold(NotReady.LOADING)
    assert probe.json("/readyz")[0] == 503
    probe.metrics.status.release(NotReady.LOADING)
    probe.metrics.draining()
    assert probe.json("/readyz")[1]["reasons"][0]["code"] == "draining"


def test_a_stalled_loop_is_not_alive(probe: Probe) -> None:
    """Protects from a daemon that hangs for ever: the loop's own tick decides."""
    probe.clock.now_s += 59.9
    assert probe.json("/livez")[0] == 200
    probe.clock.now_s += 0.1
    status, body = probe.json("/livez")
    assert (status, body) == (503, {"alive": False, "loop_tick_age_s": 60.0, "stall_timeout_s": 60})
    probe.metrics.ticked(0)
    assert probe.json("/livez")[0] == 200


def test_healthz_says_everything(probe: Probe) -> None:
    """Protects the one page a person looks at."""
    status, body = probe.json("/healthz")
    assert status == 503
    assert body["version"] == "1.2.3"
    assert body["alive"] is True
    assert body["ready"] is False


def test_metrics_are_what_prometheus_reads(probe: Probe) -> None:
    """Protects the scrape: its format parses, and holds our metrics and the process's."""
    response, body = probe.ask("/metrics")
    names = {family.name for family in text_string_to_metric_families(body.decode())}
    assert response.status == 200
    assert (response.getheader("Content-Type") or "").startswith("text/plain")
    assert {"vedette_ready", "vedette_build_info", "process_resident_memory_bytes"} <= names


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/healthz?verbose=1"])
def test_head_is_get_without_a_body(probe: Probe, path: str) -> None:
    """Protects probes that ask with HEAD, and queries behind the path."""
    head, nothing = probe.ask(path, "HEAD")
    got, _ = probe.ask(path)
    assert nothing == b""
    assert (head.status, head.getheader("Content-Type")) == (got.status, got.getheader("Content-Type"))


def test_other_paths_and_methods_are_refused(probe: Probe) -> None:
    """Protects from anything but reading."""
    status, body = probe.json("/admin")
    assert status == 404
    assert body["paths"] == ["/api/train", "/api/training", "/healthz", "/livez", "/metrics", "/readyz"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/livez", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
        ("OPTIONS", "/api/train", "POST"),
        ("GET", "/api/train", "POST"),
        ("PUT", "/api/training", "GET, HEAD"),
    ],
)
def test_methods_that_a_path_does_not_take_are_told(probe: Probe, method: str, path: str, allowed: str) -> None:
    """Protects from guessing, and from other sites' pages, whose browsers ask with OPTIONS first."""
    response, body = probe.ask(path, method)
    assert (response.status, response.getheader("Allow")) == (405, allowed)
    assert json.loads(body) == {"error": f"{path} takes no {method}; it takes {allowed}"}
    assert response.getheader("Access-Control-Allow-Origin") is None


def test_a_method_of_nobody_is_refused_in_plain_words(probe: Probe) -> None:
    """Protects from a page of HTML where a program reads."""
    response, body = probe.ask("/livez", "BREW")
    assert response.status == 501
    assert body == b"501 Unsupported method ('BREW')\n"


def test_the_server_tells_nothing_of_its_python(probe: Probe) -> None:
    """Protects from telling strangers which version to attack."""
    assert probe.ask("/livez")[0].getheader("Server") == "vedette "


def test_a_client_that_hangs_up_is_no_error(probe: Probe, capfd: pytest.CaptureFixture[str]) -> None:
    """Protects stderr from stack traces of port scanners."""
    with socket.create_connection(("127.0.0.1", probe.server.port), timeout=60) as half:
        half.sendall(b"GET /met")
    assert probe.json("/livez")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_port_in_use_is_told_at_once(probe: Probe) -> None:
    """Protects from a daemon that runs without its probes."""
    with pytest.raises(OSError, match="Address already in use"):
        HealthServer(probe.metrics.status, probe.metrics.registry, port=probe.server.port)


def test_it_listens_on_loopback_only(probe: Probe) -> None:
    """Protects metrics from the network unless the config says otherwise."""
    assert probe.server.host == "127.0.0.1"


# ---- training ----


def test_a_post_starts_a_training(probe: Probe) -> None:
    """Protects `vedette train --now` and pages: which stream, or all of them, and the scheduler's own answer."""
    assert probe.post("/api/train?stream=air") == (202, probe.answer)
    assert probe.post("/api/train", body=b"{}" * 10_000)[0] == 202
    assert probe.asked == ["air", None]


@pytest.mark.parametrize(("jobs", "status"), [([{"job": "0"}], 409), ([], 404)])
def test_a_refusal_says_why(probe: Probe, jobs: list[dict[str, Any]], status: int) -> None:
    """Protects from a job that somebody believes to run: one is there already, or there is no such stream."""
    probe.answer = {"accepted": False, "job": None, "reason": "because", "jobs": jobs}
    assert probe.post("/api/train?stream=air") == (status, probe.answer)


def test_pages_of_other_sites_start_nothing(probe: Probe) -> None:
    """Protects from a form on any page in the operator's browser: it cannot send our header."""
    status, body = probe.post("/api/train?stream=air", Origin="https://elsewhere.example")
    assert (status, body) == (403, {"error": "send the header X-Vedette-Request: 1"})
    assert probe.asked == []


@pytest.mark.parametrize("query", ["stream=", "stream=air&stream=water", "streams=air"])
def test_a_query_with_a_slip_trains_nothing(probe: Probe, query: str) -> None:
    """Protects from training all streams because of a typing mistake."""
    assert probe.post(f"/api/train?{query}")[0] == 400
    assert probe.asked == []


def test_the_state_of_training_is_told(probe: Probe) -> None:
    """Protects the page that shows what trains."""
    assert probe.json("/api/training") == (200, {"scheduler": {"alive": True}, "streams": [{"stream": "air"}]})


def test_notes_leave_it_ready(probe: Probe) -> None:
    """Protects traffic from trouble that does not concern scoring: it is told, and changes no verdict."""
    probe.metrics.partitions(set())
    probe.metrics.source_reachable(True)
    probe.notes.append("the scheduler has not turned for 60 s")
    for path in ("/readyz", "/healthz"):
        status, body = probe.json(path)
        assert (status, body["ready"], body["notes"]) == (200, True, probe.notes)


def test_a_daemon_without_training_says_so(probe: Probe) -> None:
    """Protects callers of servers that were made without a scheduler."""
    with HealthServer(Status(), probe.metrics.registry, port=0) as server:
        probe.server, before = server, probe.server
        assert probe.json("/api/training") == (200, {"scheduler": None, "streams": []})
        assert probe.post("/api/train")[0] == 503
        probe.server = before
