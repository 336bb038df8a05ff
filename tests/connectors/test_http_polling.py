"""Protects pollers from services that behave badly, and services from pollers that do."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.errors import Misconfigured, SourceRefused, SourceUnavailable
from connectors.http_polling import Answer, Poller
from connectors.http_service import HttpService
from connectors.rate_limiting import Limit, RateLimiter
from connectors.source import Stopping
from pipeline.ingest.source_contract import LEAVES_WITHIN_S
from tests.connectors.polled_outlet import QuickOutlet
from tests.replay_server import (
    Asked,
    ReplayServer,
    Reply,
    busy_reply,
    gzipped,
    json_reply,
    page_reply,
    paged,
    with_etag,
)

GOOD = json_reply({"value": 1})
KEY = "s3cret/key+=="


@pytest.fixture
def outlet() -> QuickOutlet:
    """Where what is said of the peer goes."""
    return QuickOutlet()


Ask = Callable[..., Poller]


@pytest.fixture
def poller(replay: ReplayServer, outlet: QuickOutlet) -> Iterator[Ask]:
    """Makes pollers of the replay server, and closes them."""
    made: list[Poller] = []

    def make(*limits: Limit, **options: object) -> Poller:
        service = HttpService(**{"base_url": f"{replay.url}/v1", "timeout_s": 60.0, **options})  # type: ignore[arg-type]
        made.append(Poller(service, outlet, RateLimiter(*limits, monotonic=outlet.monotonic)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_it_says_who_asks_and_gives_the_key_in_its_header(replay: ReplayServer, poller: Ask) -> None:
    """Protects the service's people, who want to reach whoever asks."""
    replay.on("/v1/items", GOOD)
    answer = poller(key=KEY, key_header="X-Api-Key", contact="ops@town.example").get("items", {"q": "a&b", "n": 2})
    assert answer.document() == {"value": 1}
    (asked,) = replay.asked
    assert asked.headers["user-agent"] == "vedette (ops@town.example)"
    assert asked.headers["x-api-key"] == KEY
    assert asked.query == {"q": "a&b", "n": "2"}


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(replay: ReplayServer, poller: Ask, outlet: QuickOutlet, status: int) -> None:
    """Protects a poll from one bad moment of the service."""
    replay.on("/v1/items", busy_reply(status), busy_reply(status), GOOD)
    assert poller().get("items").status == 200
    assert outlet.counts == {"retries": 2}
    assert 0.5 <= outlet.waits[0] <= 1.0 <= outlet.waits[1] <= 2.0


def test_tries_come_to_an_end(replay: ReplayServer, poller: Ask) -> None:
    """Protects a broken service from being asked without a pause between polls."""
    replay.on("/v1/items", busy_reply(503))
    with pytest.raises(SourceUnavailable, match=r"answers 503 \(.*slow down"):
        poller(tries=3).get("items")
    assert len(replay.asked) == 3


@pytest.mark.parametrize("status", [401, 402, 403, 410])
def test_a_refusal_is_final_and_says_what_to_do(replay: ReplayServer, poller: Ask, status: int) -> None:
    """Protects an account from being banned for asking on."""
    replay.on("/v1/items", json_reply({"detail": f"no use with {KEY}"}, status))
    with pytest.raises(SourceRefused, match=f"127.0.0.1 answers {status}.*; .*(key|service)") as raised:
        poller(key=KEY).get("items")
    assert len(replay.asked) == 1
    assert KEY not in str(raised.value)
    assert "***" in str(raised.value)


@pytest.mark.parametrize(
    ("key", "said", "masked"),
    [
        ("a", "a bad day for 'a' and key=a", "*** bad day for '***' and key=***"),
        ("abc", "abc; abcd xabc x.abc?k=abc&", "***; abcd xabc x.***?k=***&"),
        ("a/b", "abc a/b a%2Fb xa/b", "abc *** *** xa/b"),
        ("12345678", "x12345678x", "x***x"),
        ("+", "1+1 is 2 + 0", "1+1 is 2 *** 0"),
    ],
)
def test_a_short_key_masks_no_part_of_a_word(key: str, said: str, masked: str) -> None:
    """Protects messages from a key of one letter, which made them unreadable; and long keys wherever they stand."""
    assert HttpService(base_url="https://a.example", key=key).masked(said) == masked


@pytest.mark.parametrize("status", [204, 206, 400, 404, 422])
def test_other_answers_are_no_data_and_not_asked_again_at_once(
    replay: ReplayServer, poller: Ask, status: int
) -> None:
    """Protects from taking half an answer, or an error, for data."""
    replay.on("/v1/items", json_reply({"part": True}, status))
    with pytest.raises(SourceUnavailable, match=f"answers {status}"):
        poller().get("items")
    assert len(replay.asked) == 1


def test_a_part_is_success_where_the_service_says_so(replay: ReplayServer, poller: Ask) -> None:
    """Protects pages that come as 206."""
    replay.on("/v1/items", json_reply({"part": True}, 206))
    assert poller().get("items", accept=(200, 206)).document() == {"part": True}


@pytest.mark.parametrize(
    ("headers", "waits_s"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "45"}, 45.0),
        ({"x_ratelimit_remaining": "0"}, 60.0),
        ({"ratelimit_remaining": "0", "ratelimit_reset": "12"}, 12.0),
    ],
)
def test_the_service_says_when_to_come_back(
    replay: ReplayServer, poller: Ask, outlet: QuickOutlet, headers: dict[str, str], waits_s: float
) -> None:
    """Protects from a ban for excess."""
    replay.on("/v1/items", busy_reply(429, **headers), GOOD)
    poller().get("items")
    assert sum(outlet.waits) == pytest.approx(waits_s)
    assert (outlet.told != []) == (waits_s > 11.0)  # what takes long is told to people
    assert outlet.told[-1:] in ([], [None])


@pytest.mark.parametrize("headers", [{}, {"x_ratelimit_remaining": "7"}, {"retry_after": "soon"}])
def test_too_often_without_a_word_until_when(
    replay: ReplayServer, poller: Ask, outlet: QuickOutlet, headers: dict[str, str]
) -> None:
    """Protects a key from a ban: a minute, twice as long each time; a second was too soon. A good answer ends it."""
    busy = busy_reply(429, **headers)
    replay.on("/v1/items", busy, busy, busy, GOOD, busy, GOOD)
    asking = poller()
    asking.get("items")
    assert sum(outlet.waits) == pytest.approx(60.0 + 120.0 + 240.0, abs=1.0)
    assert any("asks us to wait" in (one or "") for one in outlet.told)
    before_s = outlet.monotonic()
    asking.get("items")
    assert outlet.monotonic() - before_s == pytest.approx(60.0, abs=1.0)


def test_a_reset_alone_says_until_when(replay: ReplayServer, poller: Ask, outlet: QuickOutlet) -> None:
    """Protects from waiting longer than is asked for."""
    replay.on("/v1/items", busy_reply(429, x_ratelimit_reset="20"), GOOD)
    poller().get("items")
    assert sum(outlet.waits) == pytest.approx(20.0, abs=1.0)


def test_retry_after_may_be_a_date(replay: ReplayServer, poller: Ask, outlet: QuickOutlet) -> None:
    """Protects from reading a date as no wait at all."""
    in_20_s = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 20.0))
    replay.on("/v1/items", busy_reply(503, retry_after=in_20_s), GOOD)
    poller().get("items")
    assert 15.0 < sum(outlet.waits) < 25.0


def test_a_reset_may_be_a_time(replay: ReplayServer, poller: Ask, outlet: QuickOutlet) -> None:
    """Protects from waiting for the year 2026 in seconds."""
    in_20_s = str(int(time.time()) + 20)
    replay.on("/v1/items", busy_reply(429, x_ratelimit_remaining="0", x_ratelimit_reset=in_20_s), GOOD)
    poller().get("items")
    assert 15.0 < sum(outlet.waits) < 25.0


def test_the_last_request_allowed_is_not_overdrawn(replay: ReplayServer, poller: Ask, outlet: QuickOutlet) -> None:
    """Protects the next request too: a good answer may say that it was the last."""
    replay.on("/v1/items", json_reply({}, x_ratelimit_remaining="0", x_ratelimit_reset="30"), GOOD)
    asking = poller(Limit(60, 60.0))
    asking.get("items")
    assert outlet.waits == []
    asking.get("items")
    assert sum(outlet.waits) == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Reply(body=b'{"value": 1}', stop_after=6), "cannot be reached"),
        (Reply(body=b'{"value": 1}' * 500, chunked=True, stop_after=2500), "cannot be reached"),
        (Reply(body=gzip.compress(b"[]" * 99)[:-9], headers={"Content-Encoding": "gzip"}), "ends too soon"),
        (Reply(body=gzip.compress(b"[]")[:5], headers={"Content-Encoding": "gzip"}), "ends too soon"),
        (Reply(body=b"[]", headers={"Content-Encoding": "gzip"}), "cannot be unpacked"),
        (Reply(body=b"[]", headers={"Content-Encoding": "br"}), "was not asked for"),
        (Reply(reset=True), "cannot be reached"),
    ],
    ids=["truncated", "truncated chunks", "truncated gzip", "a beginning of gzip", "no gzip", "brotli", "reset"],
)
def test_a_broken_answer_is_none(replay: ReplayServer, poller: Ask, broken: Reply, said: str) -> None:
    """Protects from committing half a page; a whole one is asked for again."""
    asking = poller(tries=2)
    replay.on("/v1/items", broken)
    with pytest.raises(SourceUnavailable, match=said):
        asking.get("items")
    replay.on("/v1/items", broken, GOOD)
    assert asking.get("items").document() == {"value": 1}


def test_a_page_for_people_is_not_data(replay: ReplayServer, poller: Ask) -> None:
    """Protects from a maintenance page that comes as 200."""
    replay.on("/v1/items", page_reply())
    with pytest.raises(SourceUnavailable, match=r"text/html.*no JSON.*maintenance"):
        poller().get("items").document()


def test_packed_answers_are_unpacked(replay: ReplayServer, poller: Ask) -> None:
    """Protects from megabytes on the wire that need not be there, also where they are packed in parts."""
    rows = [{"n": n} for n in range(30_000)]
    whole = json_reply(rows)
    parts = gzip.compress(whole.body[:1000]) + gzip.compress(whole.body[1000:]) + bytes(8)
    asking = poller()
    for packed in (gzipped(whole), replace(gzipped(whole), body=parts)):
        replay.on("/v1/items", packed)
        assert asking.get("items").document() == rows


@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_body_is_given_up_before_it_fills_the_memory(replay: ReplayServer, poller: Ask, packed: bool) -> None:
    """Protects the process from one answer, small on the wire as it may be."""
    huge = Reply(body=b" " * 20_000_000)
    replay.on("/v1/items", gzipped(huge) if packed else huge)
    with pytest.raises(SourceUnavailable, match="larger than 1000000 bytes"):
        poller(max_bytes=1_000_000).get("items")
    assert len(replay.asked) == 1  # the next one would be as large


def test_redirects_are_not_followed(replay: ReplayServer, poller: Ask) -> None:
    """Protects the key: another host must not get it."""
    other = ReplayServer()
    other.start()
    try:
        replay.on("/v1/items", Reply(302, headers={"Location": f"{other.url}/v1/items?key={KEY}"}))
        with pytest.raises(SourceUnavailable, match="redirects are not followed") as raised:
            poller(key=KEY).get("items")
        assert other.asked == []
        assert KEY not in str(raised.value)
    finally:
        other.close()


@pytest.mark.parametrize("answer", [Reply(hang=True), Reply(drip=True)], ids=["hanging", "dripping"])
def test_the_deadline_holds_for_the_whole_exchange(replay: ReplayServer, poller: Ask, answer: Reply) -> None:
    """Protects the thread from a peer that keeps it with a byte now and then."""
    replay.on("/v1/items", answer)
    started = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"no whole answer within 0\.3 s"):
        poller(timeout_s=0.3, tries=1).get("items")
    assert time.monotonic() - started < 20.0


@pytest.mark.parametrize("answer", [Reply(hang=True), Reply(drip=True)], ids=["hanging", "dripping"])
def test_it_leaves_soon_in_the_middle_of_an_exchange(
    replay: ReplayServer, poller: Ask, outlet: QuickOutlet, answer: Reply
) -> None:
    """Protects the process's end from slow peers."""
    replay.on("/v1/items", answer)
    asking, left = poller(timeout_s=60.0), threading.Event()

    def ask() -> None:
        with pytest.raises(Stopping):
            asking.get("items")
        left.set()

    thread = threading.Thread(target=ask)
    thread.start()
    replay.wait_until(lambda: len(replay.asked) == 1)
    started = time.monotonic()
    outlet.stop.set()
    thread.join(60.0)
    assert left.is_set()
    assert time.monotonic() - started < LEAVES_WITHIN_S


def test_it_leaves_while_a_name_is_looked_up(
    poller: Ask, outlet: QuickOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the process's end from a name server that does not answer."""
    asked, answer = threading.Event(), threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        asked.set()
        answer.wait(60.0)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asking, left = poller(base_url="http://station.example/v1"), threading.Event()

    def ask() -> None:
        with pytest.raises(Stopping):
            asking.get("items")
        asking.close()
        left.set()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert asked.wait(60.0)
        outlet.stop.set()
        assert left.wait(20.0)
    finally:
        answer.set()
        thread.join(60.0)


def test_it_leaves_while_it_waits(replay: ReplayServer, poller: Ask, outlet: QuickOutlet) -> None:
    """Protects the process's end from a Retry-After of an hour."""
    replay.on("/v1/items", busy_reply(429, retry_after="3600"))
    outlet.on_wait = outlet.stop.set
    with pytest.raises(Stopping):
        poller().get("items")
    assert len(replay.asked) == 1


def test_nobody_there(replay: ReplayServer, poller: Ask) -> None:
    """Protects the message: who cannot be reached."""
    replay.stop()
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1 cannot be reached"):
        poller(tries=1).get("items")


def test_only_what_was_remembered_is_asked_for_conditionally(replay: ReplayServer, poller: Ask) -> None:
    """Protects readings that were never delivered: without ``remember`` the whole answer comes again."""
    replay.on("/v1/items", with_etag(GOOD, '"a"'))
    asking = poller()
    first = asking.get("items", conditional=True)
    again = asking.get("items", conditional=True)
    assert first.changed
    assert again.changed
    asking.remember(again)
    assert not asking.get("items", conditional=True).changed
    assert asking.get("items").changed
    replay.on("/v1/items", with_etag(GOOD, '"b"'))
    assert asking.get("items", conditional=True).changed


def test_an_unasked_304_is_no_answer(replay: ReplayServer, poller: Ask) -> None:
    """Protects from taking an empty answer for data."""
    replay.on("/v1/items", Reply(304))
    for conditional in (False, True):
        with pytest.raises(SourceUnavailable, match="answers 304"):
            poller().get("items", conditional=conditional)


def listed(answer: Answer) -> dict[str, object]:
    """Return the document of a page."""
    document = answer.document()
    assert isinstance(document, dict)
    return document


def following(answer: Answer) -> str | None:
    """Return what a page says of the next one."""
    link = listed(answer).get("next")
    return None if link is None else str(link)


@pytest.mark.parametrize("form", ["{target}", "http://127.0.0.1:{port}{target}", "http://127.0.0.1{target}"])
def test_pages_are_followed_on_their_own_host(replay: ReplayServer, poller: Ask, form: str) -> None:
    """Protects paging with relative links, absolute ones, and those of a service behind a proxy."""

    def page(rows: object, target: str | None) -> Reply:
        link = None if target is None else form.format(target=target, port=replay.port)
        return json_reply({"rows": rows, "next": link})

    replay.on("/v1/items", paged(list(range(25)), 10, page))
    pages = list(poller(key=KEY).pages("items", {"limit": 10}, next_link=following))
    assert [listed(one)["rows"] for one in pages] == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert all(one.headers["x-api-key"] == KEY for one in replay.asked)


def test_a_next_page_elsewhere_is_not_asked_for(replay: ReplayServer, poller: Ask) -> None:
    """Protects the key from links that a service, or who speaks for it, writes."""
    other = ReplayServer()
    other.start()
    try:
        replay.on("/v1/items", json_reply({"next": f"{other.url}/v1/items?offset=10"}))
        with pytest.raises(SourceUnavailable, match="only pages of its own host are followed"):
            list(poller(key=KEY).pages("items", next_link=following))
        assert other.asked == []
    finally:
        other.close()


def test_pages_in_a_circle_end(replay: ReplayServer, poller: Ask) -> None:
    """Protects from a service whose last page links to its first."""
    replay.on("/v1/items", lambda asked: json_reply({"next": f"/v1/items?offset={1 - int(asked.query['offset'])}"}))
    with pytest.raises(SourceUnavailable, match="lead in a circle, after 2"):
        list(poller().pages("items", {"offset": 0}, next_link=following))


def test_a_page_in_the_middle_is_tried_again(replay: ReplayServer, poller: Ask, outlet: QuickOutlet) -> None:
    """Protects a long sequence from starting anew for one 429."""
    busy = iter([False, True, False, False])
    pages = paged(list(range(25)), 10, lambda rows, target: json_reply({"rows": rows, "next": target}))

    def answer(asked: Asked) -> Reply:
        return busy_reply(429, retry_after="2") if next(busy) else pages(asked)

    replay.on("/v1/items", answer)
    assert len(list(poller().pages("items", next_link=following))) == 3
    assert len(replay.asked) == 4
    assert sum(outlet.waits) >= 2.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "ftp://host/x"}, "no address"),
        ({"base_url": "https://"}, "no address"),
        ({"base_url": "https://me:s3cret@host/x"}, "holds a password"),
        ({"base_url": "https://host:99999/"}, "no address|cannot be used"),
        ({"base_url": "https://host/", "key": "two\r\nlines"}, "no header"),
        ({"base_url": "https://host/", "key": "schlüssel"}, "no header"),
        ({"base_url": "https://host/", "key": ""}, "empty"),
        ({"base_url": "https://host/", "contact": "Jörg"}, "ASCII"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(options: dict[str, str], said: str) -> None:
    """Protects from finding out at night, and from messages that hold a key."""
    with pytest.raises(Misconfigured, match=said) as raised:
        HttpService(**options)  # type: ignore[arg-type]
    assert "s3cret" not in str(raised.value)
    assert "schlüssel" not in str(raised.value)


def test_the_key_is_not_shown() -> None:
    """Protects the key from logs of objects."""
    assert KEY not in repr(HttpService(base_url="https://host/", key=KEY))


def test_a_certificate_file_that_is_none_is_said(poller: Ask, tmp_path: Path) -> None:
    """Protects the message: which file, and what it has to hold."""
    with pytest.raises(Misconfigured, match=r"ca_file .*none\.pem cannot be used"):
        poller(base_url="https://127.0.0.1:1/", ca_file=tmp_path / "none.pem").get("")
