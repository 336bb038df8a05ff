"""Webhooks: signed, told apart by a key, and never waited for longer than said, whatever the other side does."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate

import pytest

from connectors.errors import Misconfigured, ReceiverRefused, ReceiverUnavailable
from connectors.free_ports import free_port
from connectors.http_post import HttpPoster, shown_url
from connectors.webhook import Webhook, sign, verify
from tests.http_receiver import HttpReceiver, Reply
from tests.http_receiver import receiver as receiver  # a fixture
from tests.kafka_broker import until

Make = Callable[..., Webhook]
IN_900_S = "in 900 s"


@pytest.fixture
def make() -> Iterator[Make]:
    """Return a function that opens a webhook; what it opened is closed in the end."""
    made: list[Webhook] = []

    def make(url: str, secret: str | None = "s3cret", timeout_s: float = 60.0) -> Webhook:
        made.append(Webhook(url, secret, timeout_s))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_request_is_signed_and_names_its_message(receiver: HttpReceiver, make: Make) -> None:
    """Protects receivers from forged alerts and from doing things twice."""
    answer = make(f"{receiver.url}/hook?key=1").post(b'{"a":"\xc3\xa9"}', "ab:3", 1_800_000_000.7)
    assert (answer.status, answer.text) == (200, "ok")
    (request,) = receiver.requests
    assert request.path == "/hook?key=1"
    assert request.headers["idempotency-key"] == "ab:3"
    assert request.headers["content-type"].startswith("application/cloudevents+json")
    timestamp, signature = request.headers["x-vedette-timestamp"], request.headers["x-vedette-signature"]
    assert timestamp == "1800000000"
    assert verify("s3cret", timestamp, signature, request.body, 1_800_000_010.0)
    assert not verify("another", timestamp, signature, request.body, 1_800_000_010.0)
    assert not verify("s3cret", timestamp, signature, request.body + b" ", 1_800_000_010.0)
    assert not verify("s3cret", "1800000001", signature, request.body, 1_800_000_010.0)


def test_the_signature_is_what_others_compute() -> None:
    """Protects receivers in other languages: OpenSSL finds the same HMAC over timestamp, dot and body."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    command = [openssl, "dgst", "-sha256", "-hmac", "s3cret", "-r"]
    done = subprocess.run(command, input=b'1800000000.{"a":1}', stdout=subprocess.PIPE, check=True)
    assert sign("s3cret", 1_800_000_000, b'{"a":1}') == f"sha256={done.stdout.split()[0].decode()}"


@pytest.mark.parametrize("timestamp", ["", "-1", "1e9", "٣", "9" * 400, "nan"])
def test_a_hostile_timestamp_is_no_signature(timestamp: str) -> None:
    """Protects whoever copies ``verify`` from headers that are no number."""
    assert not verify("s", timestamp, "sha256=é", b"", 1_800_000_000.0)


def test_without_a_secret_nothing_is_signed(receiver: HttpReceiver, make: Make) -> None:
    """Protects from a signature that anybody could make."""
    make(receiver.url, None).post(b"{}", "a:0", 0.0)
    assert "x-vedette-signature" not in receiver.requests[0].headers


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 302, 307])
def test_what_may_pass_is_tried_again(receiver: HttpReceiver, make: Make, status: int) -> None:
    """Protects messages from passing troubles; a redirect is not followed, for it may lead anywhere."""
    receiver.answer = lambda request: Reply(status, b"later", {"Location": f"{receiver.url}/elsewhere"})
    with pytest.raises(ReceiverUnavailable, match=f"answers {status}: later"):
        make(receiver.url).post(b"{}", "a:0", 0.0)
    assert [request.path for request in receiver.requests] == ["/"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_what_never_will_be_taken_is_given_up(receiver: HttpReceiver, make: Make, status: int) -> None:
    """Protects the receiver from being asked for ever; what it says is passed on, as plain text."""
    receiver.answer = lambda request: Reply(status, b"\x1b[31m<b>no</b>\n\xff")
    with pytest.raises(ReceiverRefused, match=f"answers {status}: ") as caught:
        make(receiver.url).post(b"{}", "a:0", 0.0)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("header", "least_s", "most_s"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("-3", 0, 0),
        ("1e99", 3600, 3600),
        (IN_900_S, 1, 900),
    ],
)
def test_retry_after_is_understood(
    receiver: HttpReceiver, make: Make, header: str, least_s: float, most_s: float
) -> None:
    """Protects a busy receiver, and ourselves from one that asks for a year."""
    if header == IN_900_S:  # from now, not from when the tests were collected
        header = formatdate(time.time() + 900, usegmt=True)
    receiver.answer = lambda request: Reply(429, b"", {"Retry-After": header})
    with pytest.raises(ReceiverUnavailable) as caught:
        make(receiver.url).post(b"{}", "a:0", 0.0)
    assert caught.value.retry_after_s is not None
    assert least_s <= caught.value.retry_after_s <= most_s


@pytest.mark.parametrize("header", ["soon", "nan", ""])
def test_a_retry_after_that_says_nothing_is_passed_over(receiver: HttpReceiver, make: Make, header: str) -> None:
    """Protects the delivery from a header that is none."""
    receiver.answer = lambda request: Reply(503, b"", {"Retry-After": header})
    with pytest.raises(ReceiverUnavailable) as caught:
        make(receiver.url).post(b"{}", "a:0", 0.0)
    assert caught.value.retry_after_s is None


def test_a_receiver_that_hangs_is_left(receiver: HttpReceiver, make: Make) -> None:
    """Protects the queue from a server that takes a request and never answers; then it goes on."""
    receiver.open.clear()
    webhook = make(receiver.url, timeout_s=0.2)
    with pytest.raises(ReceiverUnavailable, match=r"no answer within 0\.2 s") as caught:
        webhook.post(b"{}", "a:0", 0.0)
    assert caught.value.cause == "timeout"
    receiver.open.set()

    def goes_on() -> bool:
        try:
            return webhook.post(b"{}", "a:0", 0.0).status == 200
        except ReceiverUnavailable:  # so little time may not be enough for a busy machine
            return False

    until(goes_on)


def test_a_receiver_that_drips_is_left(receiver: HttpReceiver, make: Make) -> None:
    """Protects the queue from a server whose every byte comes in time, but never the last."""
    receiver.answer = lambda request: Reply(drip=True)
    with pytest.raises(ReceiverUnavailable, match="no answer within"):
        make(receiver.url, timeout_s=0.3).post(b"{}", "a:0", 0.0)


def test_a_receiver_that_is_away_is_said_so(make: Make) -> None:
    """Protects the message: it can be tried again."""
    with pytest.raises(ReceiverUnavailable, match="cannot be reached") as caught:
        make(f"http://127.0.0.1:{free_port()}/secret-path").post(b"{}", "a:0", 0.0)
    assert caught.value.cause == "unreachable"
    assert "secret-path" not in str(caught.value)


def test_an_exchange_can_be_ended_from_outside(receiver: HttpReceiver, make: Make) -> None:
    """Protects a shutdown from a receiver that hangs."""
    receiver.open.clear()
    webhook = make(receiver.url, timeout_s=600.0)
    ended: list[str] = []

    def post() -> None:
        try:
            webhook.post(b"{}", "a:0", 0.0)
        except ReceiverUnavailable as error:
            ended.append(str(error))

    thread = threading.Thread(target=post)
    thread.start()
    receiver.wait_until(lambda: len(receiver.requests) == 1)
    webhook.abort()
    thread.join(60.0)
    assert ended == ["given up: shutting down"]


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "http://host:99999/", "http://[::1", "nothing"])
def test_an_address_that_cannot_work_is_refused(url: str) -> None:
    """Protects from a receiver that could never be reached."""
    with pytest.raises(Misconfigured, match="address"):
        HttpPoster(url, 1.0)


def test_what_is_shown_of_an_address_is_no_secret() -> None:
    """Protects passwords, paths and keys of webhooks from logs and pages."""
    assert shown_url("http://user:pa@ss@host/T0/B0/x?token=1") == "http://host"
    assert shown_url("http://host?token=a/b@c") == "http://host"
