"""What keeps us from a peer is said in words, whatever the system and its libraries call it."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import httpx
import pytest

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.free_ports import free_port
from connectors.http_polling import Poller
from connectors.http_push import HttpPush
from connectors.http_service import HttpService
from connectors.mqtt_socket import open_socket
from connectors.network_words import in_words
from connectors.rate_limiting import RateLimiter
from pipeline.ingest.trial import Trial
from tests.connectors.polled_outlet import QuickOutlet

UNKNOWN = "nobody.invalid"
"""No name server knows it (RFC 6761); one that cannot be asked says that it does not answer."""
RESOLVED = "its name cannot be resolved: (no name server knows it|the name server does not answer)"


def asked(url: str) -> None:
    with Poller(HttpService(base_url=url, tries=1), QuickOutlet(), RateLimiter()) as poller:
        poller.get("items")


def test_a_name_that_nobody_knows_is_said_in_words() -> None:
    """Protects people from `[Errno -2] Name or service not known`."""
    with pytest.raises(SourceUnavailable, match=f"^{UNKNOWN} cannot be reached: {RESOLVED}$"):
        asked(f"http://{UNKNOWN}/v1")
    with pytest.raises(SourceUnavailable, match=f"^{UNKNOWN}:1883 cannot be reached: {RESOLVED}$"):
        open_socket(UNKNOWN, 1883, None, lambda: False)


def test_a_port_where_nobody_listens_is_said_in_words() -> None:
    """Protects people from `All connection attempts failed`, which names no reason."""
    with pytest.raises(SourceUnavailable, match=r"^127\.0\.0\.1 cannot be reached: nobody listens there"):
        asked(f"http://127.0.0.1:{free_port()}/v1")
    with pytest.raises(SourceUnavailable, match="nobody listens there"):
        open_socket("127.0.0.1", free_port(), None, lambda: False)


def test_an_address_that_cannot_be_listened_on_is_said_in_words(tmp_path: Path) -> None:
    """Protects whoever sets up a port under a name that is wrong."""
    with Trial(tmp_path) as trial:
        trial.run(HttpPush(UNKNOWN, open_to_all=True))
        with pytest.raises(Misconfigured, match=f"cannot be listened on: {RESOLVED}"):
            trial.until(lambda: trial.ended and trial.error is None)


@pytest.mark.parametrize("number", [n for n in errno.errorcode if n != errno.EINPROGRESS])
def test_no_number_is_left(number: int) -> None:
    """Protects messages from the system's numbers, as an error's own text and within another's."""
    inner = OSError(number, os.strerror(number))
    outer = httpx.ConnectError(str(inner))
    outer.__cause__ = inner
    for error in (inner, outer, httpx.ConnectError(str(inner)), OSError(str(inner)), ExceptionGroup("all", [inner])):
        told = in_words(error)
        assert told
        assert "Errno" not in told


def test_tls_that_fails_is_said_without_line_numbers() -> None:
    """Protects people from `[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)`."""
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        plain.listen()

        def answer() -> None:
            with plain.accept()[0] as peer:
                peer.recv(10_000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(SourceUnavailable, match=r"^127\.0\.0\.1 cannot be reached: TLS fails: [a-z ]+$"):
            asked(f"https://127.0.0.1:{plain.getsockname()[1]}/v1")


def test_an_error_that_says_nothing_is_named() -> None:
    """Protects from a message that ends after its colon."""
    assert in_words(httpx.ReadError("")) == "ReadError"
    looped = OSError("around")
    looped.__context__ = ValueError()
    looped.__context__.__context__ = looped
    assert in_words(looped) == "around"
