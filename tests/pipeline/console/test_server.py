"""The server: real sockets, TLS, hanging places and streams without end; the probes answer all the while."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.console.app import create_app
from pipeline.console.asking import Asking
from pipeline.console.server import ConsoleServer
from pipeline.console.troubles import Away
from pipeline.health import Probes
from tests.pipeline.console.console_parts import Console, Stuck, console


@pytest.fixture
def one(tmp_path: Path) -> Console:
    """A console that trusts loopback."""
    return console(tmp_path)


def serve(one: Console, **more: Path) -> ConsoleServer:
    """Return a server of it on a free port of loopback."""
    probes = Probes(one.status, one.registry, "1.2.3")
    app = create_app(one.answers, one.events, probes, one.keeper, one.asking, tls=bool(more))
    return ConsoleServer(app, "127.0.0.1", 0, on_close=one.events.close, **more)


def asked(address: str, **more: Any) -> httpx.Response:
    """Return the answer, however busy the machine is."""
    return httpx.get(address, timeout=60.0, **more)


@pytest.fixture
def server(one: Console) -> Iterator[ConsoleServer]:
    """It, served."""
    with serve(one) as listening:
        yield listening


def test_a_place_that_hangs_holds_up_nobody_else(one: Console, server: ConsoleServer) -> None:
    """Protects probes and scoring: with every thread stuck in a dead database the probes answer, and questions end."""
    places = [Stuck() for _ in range(2)]
    for place in places:
        one.asking.submit(place.ask)
    for place in places:
        assert place.asked.wait(60)
    address = f"http://127.0.0.1:{server.port}"
    assert asked(f"{address}/livez").status_code == 200
    assert asked(f"{address}/readyz").status_code == 503
    assert asked(f"{address}/metrics").status_code == 200
    for place in places:
        place.let_go.set()
    assert asked(f"{address}/api/overview").status_code == 200


def test_too_many_questions_are_refused_at_once() -> None:
    """Protects memory while a place hangs: what waits is bounded, and whoever comes then is told."""
    asking, place = Asking(threads=1, most_waiting=2), Stuck()
    first, second = asking.submit(place.ask), asking.submit(lambda: 2)
    with pytest.raises(Away, match="too many"):
        asking.submit(lambda: 3)
    place.let_go.set()
    assert (first.result(60), second.result(60)) == ("at last", 2)
    asking.close()


def test_events_come_over_the_wire_and_end_with_the_server(one: Console) -> None:
    """Protects live pages, and that an open one does not keep the daemon from ending."""
    listening = serve(one)
    with httpx.stream("GET", f"http://127.0.0.1:{listening.port}/api/events", timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert any(line == "event: health" for line in lines)
        closing = threading.Thread(target=listening.close)
        closing.start()
        for _ in lines:
            pass
        closing.join(60)
        assert not closing.is_alive()


def test_silent_clients_cannot_take_all_places(server: ConsoleServer) -> None:
    """Protects from clients that connect and say nothing: others are served beside them."""
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    assert asked(f"http://127.0.0.1:{server.port}/livez").status_code == 200
    for each in silent:
        each.close()


def test_an_address_that_is_taken_is_an_error_at_the_start(one: Console, server: ConsoleServer) -> None:
    """Protects from a daemon that runs without its probes: it does not start."""
    probes = Probes(one.status, one.registry)
    app = create_app(one.answers, one.events, probes, one.keeper, one.asking)
    with pytest.raises(OSError, match="in use"):
        ConsoleServer(app, "127.0.0.1", server.port)


def test_tls_is_spoken_where_there_is_a_certificate(one: Console, tmp_path: Path) -> None:
    """Protects tokens on their way, and tells browsers to stay with TLS."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", cert, "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    with serve(one, cert_file=cert, key_file=key) as listening:
        trust = ssl.create_default_context(cafile=str(cert))
        answer = asked(f"https://127.0.0.1:{listening.port}/api/overview", verify=trust)
    assert answer.status_code == 200
    assert "strict-transport-security" in answer.headers
