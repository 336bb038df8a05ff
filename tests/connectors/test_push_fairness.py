"""One sender's large or bad body holds up nobody else's."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from connectors.http_push import HttpPush
from connectors.pushed import HOPELESS, PIECE_READINGS, Pushed
from pipeline.ingest.source_contract import LEAVES_WITHIN_S
from pipeline.ingest.trial import Trial
from tests.connectors.remote_write_body import block, request, series

NOW_US = 1_795_190_400_000_000  # 2026-11-20T16:00:00Z
LINE = f"air,station=a pm25=1 {NOW_US}\n".encode()
BAD = b"air,station=a pm25=dusty 1\n"
LARGE = 16 * 1_048_576 - 1_000
JSON = {"content-type": "application/json"}


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with Trial(tmp_path) as trial:
        yield trial


def listening(trial: Trial, source: HttpPush | None = None) -> str:
    """Run a source; return its address when it listens."""
    source = source or HttpPush(now_us=lambda: NOW_US)
    trial.run(source)
    trial.until(lambda: None in trial.reasons)
    return f"http://127.0.0.1:{source.port}"


def zipped(url: str, path: str, body: bytes, **headers: str) -> httpx.Response:
    return posted(f"{url}{path}", gzip.compress(body, 1, mtime=0), **headers, **{"content-encoding": "gzip"})


def posted(address: str, body: bytes, **headers: str) -> httpx.Response:
    return httpx.post(address, content=body, headers=headers, timeout=60.0, trust_env=False)


BODIES = {
    "lines": ("/write", LINE + BAD * (LARGE // len(BAD)), {}),
    "JSON lines": ("/api/readings", b'{"entity":"a","channel":"b","time":"2026-11-20T16:00:00Z","value":1}\n'
                   + b"3\n" * (LARGE // 2 - 40), JSON),
}  # fmt: skip
"""Worth tens of seconds of work, for one good row in it forbids to give it up."""


@pytest.mark.parametrize("kind", BODIES)
def test_others_are_answered_while_a_large_bad_body_is_read(kind: str, trial: Trial) -> None:
    """Protects all senders from one whose 16 MB can hardly be read: it used to have the process to itself."""
    url = listening(trial)
    path, body, headers = BODIES[kind]
    answers: list[httpx.Response] = []

    def send() -> None:
        answers.append(zipped(url, path, body, **headers))

    large = threading.Thread(target=send, daemon=True)
    large.start()
    trial.until(lambda: any(trial.count("events", event=f"requests_{one}") for one in ("line_protocol", "json")))
    with httpx.Client(timeout=60.0, trust_env=False) as client:
        for number in range(10):
            line = f"air,station=small pm25={number} {NOW_US + number}\n"
            assert client.post(f"{url}/write?precision=us", content=line).status_code == 204
    assert not answers  # so all ten were answered while it was being read
    assert trial.stop() < LEAVES_WITHIN_S
    large.join(60.0)
    assert answers[0].status_code == 503  # the process stops; send this again


def test_who_is_being_read_is_told_to_come_again_when_it_stops(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects senders of large bodies from an error of ours, where one piece of them takes long to read."""
    read, go_on = threading.Event(), threading.Event()

    def slowly(pieces: Iterator[Pushed], body: bytes) -> Iterator[Pushed]:
        read.set()
        go_on.wait(60.0)
        yield from pieces

    monkeypatch.setattr("connectors.push_app.until_hopeless", slowly)
    url = listening(trial)
    answers: list[httpx.Response] = []
    large = threading.Thread(target=lambda: answers.append(posted(f"{url}/write", LINE * 2_000)))
    large.start()
    assert read.wait(60.0)
    stopping = threading.Thread(target=trial.stop)
    stopping.start()
    large.join(60.0)
    go_on.set()
    stopping.join(60.0)
    assert (answers[0].status_code, answers[0].headers["retry-after"]) == (503, "5")


def test_a_body_without_one_good_row_is_given_up_and_its_sender_told(trial: Trial) -> None:
    """Protects the process from reading millions of rows of something else; and who sends it learns why."""
    url = listening(trial)
    rows = 10 * HOPELESS
    answer = zipped(url, "/write", BAD * rows)
    message = answer.json()["message"]
    assert (answer.status_code, answer.json()["line"]) == (400, 1)
    assert "rows can be read; what follows was not looked at" in message
    assert HOPELESS <= int(message.partition("none of the first ")[2].split()[0]) < 2 * HOPELESS
    answer = zipped(url, "/api/readings", b"[" + b"3," * rows + b"3]", **JSON)
    assert answer.status_code == 422
    assert answer.json()["rejected"] == HOPELESS + 1
    assert "was not looked at" in answer.json()["note"]
    assert answer.json()["reasons"][0]["number"] == 1
    assert b"3,3]" in trial.dead_letters()[-1][0]  # the end of what was not looked at


def test_one_good_row_and_all_are_read(trial: Trial) -> None:
    """Protects good readings behind any number of bad ones; and a body that ends where it would be given up."""
    url = listening(trial)
    answer = zipped(url, "/write", LINE.replace(b"=1", b"=1,b=x") + BAD * (3 * HOPELESS) + LINE.replace(b"=a", b"=z"))
    assert (answer.status_code, answer.json()["accepted"]) == (400, 2)
    assert f"and {3 * HOPELESS + 1 - 3} more" in answer.json()["message"]
    answer = zipped(url, "/write", BAD * HOPELESS)
    assert "was not looked at" not in answer.json()["message"]
    assert f"dropped={HOPELESS}" in answer.json()["message"]
    assert [r.entity for r in trial.readings()] == ["a", "z"]


def test_the_samples_of_one_series_come_in_pieces(trial: Trial) -> None:
    """Protects memory from a series with millions of samples, which became one piece however many they were."""
    url = listening(trial)
    offered: list[int] = []
    offer = trial.outlet.offer
    trial.outlet.offer = lambda readings, **more: offered.append(len(readings)) or offer(readings, **more)  # type: ignore
    samples = [(1.0, NOW_US // 1000 - i) for i in range(2 * PIECE_READINGS + 7)]
    body = block(request(series({"__name__": "m", "instance": "a"}, samples)))
    assert posted(f"{url}/api/v1/write", body).status_code == 204
    assert offered == [PIECE_READINGS, PIECE_READINGS, 7]


def test_what_would_grow_too_large_when_it_is_decoded_is_refused(trial: Trial) -> None:
    """Protects memory: 16 MB of empty lists are half a gigabyte once they are objects. Plain readings have room."""
    url = listening(trial, HttpPush(most_body_bytes=100_000, now_us=lambda: NOW_US))
    answer = posted(f"{url}/api/readings", b"[" + b"[]," * 30_000 + b"3]", **JSON)
    assert answer.status_code == 413
    assert "send fewer readings at once" in answer.json()["error"]
    reading = b'{"entity":"a","channel":"b","time":"2026-11-20T16:00:00Z","value":1,"unit":"ug/m3","quality":"good"}'
    body = b"[" + b",".join([reading] * 980) + b"]"
    answer = posted(f"{url}/api/readings", body, **JSON)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 980)


def test_an_empty_query_may_be_no_large_body(trial: Trial) -> None:
    """Protects the loop from reading megabytes of a form of which one word counts."""
    url = listening(trial)
    answer = posted(f"{url}/query", b"q=a&" * 100_000)
    assert answer.status_code == 413
