"""Pushed readings are durable before their sender is answered, whatever senders, Kafka and the spool do."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import subprocess
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from connectors.errors import ConnectorError, Misconfigured, SourceUnavailable
from connectors.http_push import HttpPush
from connectors.push_senders import Sender
from connectors.reading import Reading
from connectors.spool import Message
from pipeline.ingest.source_contract import CHECKS, LEAVES_WITHIN_S, Check
from pipeline.ingest.trial import ListDelivery, Trial
from tests.connectors.pushing_peer import PushingPeer
from tests.connectors.remote_write_body import block, request, series

NOW_US = 1_795_190_400_000_000  # 2026-11-20T16:00:00Z
NOW = "2026-11-20T16:00:00Z"
LINE = f"air,station=a pm25=1 {NOW_US}\n"
JSON = {"content-type": "application/json"}


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with Trial(tmp_path) as trial:
        yield trial


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60.0, trust_env=False) as client:
        yield client


def listening(trial: Trial, source: HttpPush | None = None) -> str:
    """Run a source; return its address when it listens."""
    source = source or HttpPush(now_us=lambda: NOW_US)
    trial.run(source)
    trial.until(lambda: None in trial.reasons)
    return f"http://127.0.0.1:{source.port}"


def lines(client: httpx.Client, url: str, body: str | bytes = LINE, **headers: str) -> httpx.Response:
    return client.post(f"{url}/api/v2/write?precision=us", content=body, headers=headers)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: str(check.__name__))
def test_it_keeps_the_contract_of_sources(check: Check, tmp_path: Path) -> None:
    """Protects what every source owes the process."""
    with PushingPeer() as peer:
        check(peer, tmp_path)


def test_each_kind_of_sender_is_taken_and_answered_in_its_own_way(trial: Trial, client: httpx.Client) -> None:
    """Protects all paths: what comes in, and what each protocol says to a sender whose readings were all taken."""
    url = listening(trial)
    reading = {"entity": "b", "channel": "pm25", "time": NOW, "value": 2}
    labels = {"__name__": "pm25", "instance": "c", "job": "j"}
    point = {"asDouble": 4.0, "timeUnixNano": str(NOW_US * 1000)}
    otlp = {"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "d"}}]},
        "scopeMetrics": [{"metrics": [{"name": "pm25", "gauge": {"dataPoints": [point]}}]}]}]}  # fmt: skip
    assert lines(client, url).status_code == 204
    assert client.post(f"{url}/write?precision=u&db=x", content=LINE.replace("=a", "=a1")).status_code == 204
    answer = client.post(f"{url}/api/readings", json=reading)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "rejected": 0, "reasons": []})
    answer = client.post(f"{url}/api/v1/write", content=block(request(series(labels, [(3.0, NOW_US // 1000)]))),
                         headers={"content-encoding": "snappy", "content-type": "application/x-protobuf"})  # fmt: skip
    assert answer.status_code == 204
    answer = client.post(f"{url}/v1/metrics", json=otlp)
    assert (answer.status_code, answer.json()) == (200, {})
    assert client.get(f"{url}/ping").status_code == 204
    assert [(r.entity, r.channel, r.value) for r in trial.readings()] == [
        ("a", "pm25", 1.0), ("a1", "pm25", 1.0), ("b", "pm25", 2.0), ("c", "pm25", 3.0), ("d", "pm25", 4.0),
    ]  # fmt: skip


def test_what_is_refused_is_told_and_kept_and_the_rest_is_taken(trial: Trial, client: httpx.Client) -> None:
    """Protects good readings beside bad ones, and what each protocol says then."""
    url = listening(trial)
    answer = lines(client, url, f"{LINE}air,station=b pm25=x {NOW_US}\n")
    assert (answer.status_code, answer.json()["line"], answer.json()["code"]) == (400, 2, "invalid")
    assert answer.json()["message"].startswith("partial write: line 2: field 'pm25': 'x' is no value")
    answer = client.post(f"{url}/api/readings", json=[{"entity": "b", "channel": "c", "time": NOW, "value": 1}, 3])
    assert (answer.status_code, answer.json()["accepted"], answer.json()["reasons"][0]["number"]) == (200, 1, 2)
    answer = client.post(f"{url}/api/readings", json=[3])
    assert (answer.status_code, answer.json()["rejected"]) == (422, 1)
    good, bad = ({"__name__": "m", "instance": "c"}, {"__name__": "m"})
    both = block(request(series(good, [(1, NOW_US // 1000)]), series(bad, [(1, NOW_US // 1000)])))
    answer = client.post(f"{url}/api/v1/write", content=both)
    assert (answer.status_code, "1 samples taken, 1 refused: series 2" in answer.text) == (400, True)
    answer = client.post(f"{url}/v1/metrics", content=b"[]", headers=JSON)
    assert (answer.status_code, "no object" in answer.json()["message"]) == (400, True)
    assert [r.entity for r in trial.readings()] == ["a", "b", "c"]
    letters = trial.dead_letters()
    assert len(letters) == 5
    assert letters[0][0] == f"air,station=b pm25=x {NOW_US}".encode()
    assert letters[0][1]["vedette-topic"] == "/api/v2/write"


def test_an_airrohr_station_is_taken(trial: Trial, client: httpx.Client) -> None:
    """Protects stations' own API, and the address at which they believe Sensor.Community to be."""
    url = listening(trial)
    values = [{"value_type": "SDS_P1", "value": "12.30"}, {"value_type": "BME280_pressure", "value": "99512.00"},
              {"value_type": "SDS_P2", "value": "unknown"}]  # fmt: skip
    answer = client.post(f"{url}/airrohr", json={"esp8266id": "12345", "sensordatavalues": values})
    assert (answer.status_code, answer.json()["accepted"]) == (200, 3)
    plain = {"sensordatavalues": [{"value_type": "P1", "value": "7.5"}]}
    headers = {"X-Sensor": "esp8266-777", "X-Pin": "1"}
    assert client.post(f"{url}/v1/push-sensor-data/", json=plain, headers=headers).status_code == 200
    assert client.post(f"{url}/airrohr", json={"esp8266id": "12345"}).status_code == 422
    found = {(r.entity, r.channel): (r.value, r.unit) for r in trial.readings()}
    assert found["esp8266-12345", "pm10"] == (12.3, "ug/m3")
    assert found["esp8266-12345", "pm25"][0] is None
    assert found["esp8266-777", "pm10"][0] == 7.5
    assert ("esp8266-12345", "pressure") in found


def test_clients_of_influxdb_may_make_their_database(trial: Trial, client: httpx.Client) -> None:
    """Protects Telegraf's output for InfluxDB 1, which asks for a database before it writes."""
    url = listening(trial)
    asked = {"q": 'CREATE DATABASE "telegraf"'}
    for answer in (client.post(f"{url}/query", data=asked), client.post(f"{url}/query", params=asked)):
        assert (answer.status_code, answer.json()) == (200, {"results": [{"statement_id": 0}]})
    assert client.get(f"{url}/query", params={"q": "SELECT 1"}).status_code == 400
    assert client.get(f"{url}/query", params=asked, headers={"origin": "http://x"}).status_code == 401


def test_otlp_tells_how_many_points_were_refused(trial: Trial, client: httpx.Client) -> None:
    """Protects OTLP's way of saying so: with status 200, for its senders repeat what gets anything else."""
    url = listening(trial)
    metric = {"name": "m", "gauge": {"dataPoints": [{"asDouble": 1.0}]}}
    answer = client.post(f"{url}/v1/metrics", json={"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})
    assert answer.status_code == 200
    assert answer.json()["partialSuccess"]["rejectedDataPoints"] == "1"


def test_a_clock_that_is_ahead_is_told_to_its_sender(trial: Trial, client: httpx.Client) -> None:
    """Protects senders from believing that readings from the future were taken."""
    url = listening(trial)
    answer = lines(client, url, f"{LINE}air,station=b pm25=1 {NOW_US + 7_200_000_000}\n")
    assert answer.status_code == 400
    assert "look at the sender's clock" in answer.json()["message"]
    assert [r.entity for r in trial.readings()] == ["a"]


def test_a_clock_of_ours_that_was_never_set_refuses_nothing(trial: Trial, client: httpx.Client) -> None:
    """Protects a machine that boots in 1970: its senders' readings are not from the future."""
    url = listening(trial, HttpPush(now_us=lambda: 1_000_000))
    assert lines(client, url).status_code == 204


def test_senders_are_told_to_wait_while_there_is_no_room(tmp_path: Path, client: httpx.Client) -> None:
    """Protects every reading while Kafka is away and the spool full: 429, and taken when sent again."""
    with Trial(tmp_path, max_spool=2_000) as trial:
        url = listening(trial, HttpPush())
        trial.kafka.up = False
        sent: list[str] = []
        while True:
            sent.append(f"air,station=a pm25={len(sent)} {NOW_US + len(sent)}\n")
            answer = lines(client, url, sent[-1])
            if answer.status_code != 204:
                break
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert "spool" in answer.json()["message"]
        trial.kafka.up = True
        trial.until(lambda: lines(client, url, sent[-1]).status_code == 204)
        trial.until(lambda: len(trial.readings()) >= len(sent))
        assert [r.value for r in trial.readings()] == [float(i) for i in range(len(sent))]
        assert trial.count("events", event="pushed_back") >= 1


class SlowDelivery(ListDelivery):
    """Holds what it is given until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()

    def deliver(self, messages: Sequence[Message]) -> dict[str, ConnectorError]:
        self.reached.set()
        assert self.go_on.wait(60.0)
        return super().deliver(messages)


def slow(trial: Trial) -> SlowDelivery:
    trial.kafka = trial.delivering._lanes._delivery = SlowDelivery()
    return trial.kafka


def test_no_answer_before_it_is_durable(trial: Trial, client: httpx.Client) -> None:
    """Protects the meaning of an answer; other requests go on meanwhile."""
    kafka = slow(trial)
    url = listening(trial)
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(lines(client, url).status_code))
    waiting.start()
    assert kafka.reached.wait(60.0)
    assert httpx.get(f"{url}/ping", timeout=60.0, trust_env=False).status_code == 204
    assert not answers
    kafka.go_on.set()
    waiting.join(60.0)
    assert answers == [204]


def test_whoever_waits_is_told_to_come_again_when_it_stops(trial: Trial, client: httpx.Client) -> None:
    """Protects a quick end, and senders from taking it for an answer."""
    kafka = slow(trial)
    url = listening(trial)
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(lines(client, url)))
    waiting.start()
    assert kafka.reached.wait(60.0)
    assert trial.stop() < LEAVES_WITHIN_S
    waiting.join(60.0)
    assert (answers[0].status_code, answers[0].headers["retry-after"]) == (503, "5")
    kafka.go_on.set()


def test_a_sender_that_hangs_up_loses_nothing_and_breaks_nothing(trial: Trial, client: httpx.Client) -> None:
    """Protects what was taken already, and the others, from senders with little patience."""
    kafka = slow(trial)
    url = listening(trial)
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sender:
        head = f"POST /api/v2/write?precision=us HTTP/1.1\r\nHost: a\r\nContent-Length: {len(LINE)}\r\n\r\n"
        sender.sendall(f"{head}{LINE}".encode())
        assert kafka.reached.wait(60.0)
    assert client.get(f"{url}/ping").status_code == 204  # by then it has been noticed that the other one is gone
    kafka.go_on.set()
    assert lines(client, url).status_code == 204  # sent again, and known again
    assert len(trial.readings()) == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_compressed_bodies(trial: Trial, client: httpx.Client, encoding: str) -> None:
    """Protects Telegraf and collectors, which compress; several gzip members are one body."""
    url = listening(trial)
    other = LINE.replace("=a", "=b").encode()
    both = LINE.encode() + other
    bodies = {"gzip": gzip.compress(LINE.encode()) + gzip.compress(other, mtime=0), "deflate": zlib.compress(both)}
    body = bodies.get(encoding, both)
    assert lines(client, url, body, **{"content-encoding": encoding}).status_code == 204
    assert [r.entity for r in trial.readings()] == ["a", "b"]


def test_bodies_are_bounded(trial: Trial, client: httpx.Client) -> None:
    """Protects memory: from long bodies with and without a length, and from what grows when it is unpacked."""
    url = listening(trial, HttpPush(most_body_bytes=100_000))
    assert lines(client, url, b"x" * 100_001).status_code == 413

    def dripping() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * 10_000

    answer = client.post(f"{url}/write", content=dripping())
    assert (answer.status_code, answer.json()["code"]) == (413, "request too large")
    bomb = gzip.compress(b"\n" * 50_000_000, mtime=0)
    assert len(bomb) < 100_000
    assert lines(client, url, bomb, **{"content-encoding": "gzip"}).status_code == 413
    claim = client.post(f"{url}/api/v1/write", content=b"\xff\xff\xff\xff\x0f" + b"\x00" * 8)
    assert claim.status_code == 413
    assert lines(client, url).status_code == 204


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "words"),
    [
        ("/write", {"content-encoding": "br"}, b"x", 415, "gzip"),
        ("/write", {"content-encoding": "gzip"}, b"m a=1", 400, "no gzip"),
        ("/write", {"content-encoding": "gzip"}, gzip.compress(b"m a=1", mtime=0)[:-3], 400, "breaks off"),
        ("/write?precision=fortnight", {}, b"m a=1", 400, "precision"),
        ("/api/v1/write", {}, b"\x05\x00", 400, "no snappy block"),
        ("/api/v1/write", {"content-encoding": "gzip"}, b"x", 415, "snappy"),
        ("/api/v1/write", {"content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}, b"x", 415,
         "1.0"),
        ("/v1/metrics", {"content-type": "text/plain"}, b"x", 415, "application/json"),
        ("/api/readings", {"content-type": "image/png"}, b"x", 415, "senml"),
        ("/api/nothing", {}, b"x", 404, "openapi"),
        ("/ping", {}, b"x", 405, "POST"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_explained(
    trial: Trial, client: httpx.Client, path: str, headers: dict[str, str], body: bytes, status: int, words: str
) -> None:
    """Protects people who set up a sender: each wrong turn says what is allowed."""
    answer = client.post(f"{listening(trial)}{path}", content=body, headers=headers)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_senders_show_a_secret_and_speak_for_their_own(trial: Trial, client: httpx.Client) -> None:
    """Protects the door, and each sender's entities from the others."""
    senders = [Sender("telegraf", "t" * 20, "roof-"), Sender("prometheus", "p" * 20)]
    url = listening(trial, HttpPush(senders=senders))
    assert lines(client, url).status_code == 401
    refused = lines(client, url, authorization="Bearer wrong")
    assert (refused.json()["code"], "www-authenticate" in refused.headers) == ("unauthorized", True)
    assert lines(client, url, authorization=f"Token {'t' * 20}").status_code == 204
    body = block(request(series({"__name__": "up", "instance": "a"}, [(1, NOW_US // 1000)])))
    assert client.post(f"{url}/api/v1/write", content=body, auth=("prometheus", "p" * 20)).status_code == 204
    assert client.post(f"{url}/api/v1/write", content=body, auth=("telegraf", "p" * 20)).status_code == 401
    assert [r.entity for r in trial.readings()] == ["roof-a", "a"]
    assert trial.count("events", event="unauthorized") == 3


def test_a_page_in_a_browser_may_not_push(trial: Trial, client: httpx.Client) -> None:
    """Protects a machine where no secret is configured from the pages that people look at on it."""
    url = listening(trial)
    answer = lines(client, url, origin="https://evil.example")
    assert (answer.status_code, "no pages in browsers" in answer.text) == (401, True)


def test_what_comes_through_a_proxy_is_not_of_this_machine(trial: Trial, client: httpx.Client) -> None:
    """Protects a port without senders behind a reverse proxy on the same machine, and says what to do there."""
    url = listening(trial)
    answer = lines(client, url, **{"X-Forwarded-For": "203.0.113.9"})
    assert (answer.status_code, "behind a proxy name senders" in answer.text) == (401, True)


def test_too_many_bodies_at_once_are_put_off(trial: Trial, client: httpx.Client) -> None:
    """Protects memory from many large bodies together; the last is sent again later."""
    kafka = slow(trial)
    url = listening(trial, HttpPush(most_body_bytes=1 << 20))
    body = f"# {'x' * 65_000}\n".encode() * 15 + LINE.encode()
    answers: list[int] = []
    waiting = [threading.Thread(target=lambda: answers.append(lines(client, url, body).status_code)) for _ in range(5)]
    for one in waiting:
        one.start()
    trial.until(lambda: answers)
    assert answers == [429]
    kafka.go_on.set()
    for one in waiting:
        one.join(60.0)
    assert sorted(answers) == [204, 204, 204, 204, 429]
    assert lines(client, url, body).status_code == 204


def test_silence_is_told(trial: Trial, client: httpx.Client) -> None:
    """Protects from a sender that died unnoticed."""
    url = listening(trial, HttpPush(quiet_after_s=0.2))
    silent = "nobody has sent anything for 0.2 s"
    trial.until(lambda: silent in trial.reasons)
    trial.until(lambda: lines(client, url).status_code == 204 and trial.reasons[:3] == [None, silent, None])


def test_odd_bytes_and_connections_that_say_nothing(trial: Trial, client: httpx.Client) -> None:
    """Protects the server from what is no HTTP at all."""
    url = listening(trial)
    port = int(url.rpartition(":")[2])
    odds = (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n", b"POST /write HTTP/1.1\r\nContent-Length: -1\r\n\r\n")
    for odd in odds:
        with socket.create_connection(("127.0.0.1", port), timeout=60.0) as connection:
            connection.sendall(odd)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100)[:12] in (b"HTTP/1.1 400", b"")
    silent = socket.create_connection(("127.0.0.1", port))
    assert lines(client, url).status_code == 204
    assert trial.stop() < LEAVES_WITHIN_S
    silent.close()


@pytest.mark.parametrize("answered", [False, True], ids=["first request", "a later one"])
def test_a_head_that_never_ends(
    answered: bool, trial: Trial, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the places for connections from clients that send a byte now and then, whether or not they are known."""
    url = listening(trial)
    if not answered:
        monkeypatch.setattr("connectors.http_push._HEAD_S", 0.5)
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=0.1) as connection:
        if answered:
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
            trial.until(lambda: came(connection) not in (b"", None))
            monkeypatch.setattr("connectors.http_push._HEAD_S", 0.5)  # not before: it has to be answered first
        connection.sendall(b"GET /ping HTTP/1.1\r\nX-Slow: ")

        def hung_up() -> bool:
            try:
                connection.sendall(b"a")
            except OSError:
                return True
            return came(connection) == b""

        trial.until(hung_up)
    assert lines(client, url).status_code == 204


def came(connection: socket.socket) -> bytes | None:
    """Return what has come; nothing at the end, None where nothing has come yet."""
    try:
        return connection.recv(1000)
    except TimeoutError:
        return None
    except OSError:
        return b""


def test_tls(trial: Trial, tmp_path: Path) -> None:
    """Protects secrets and readings on the way."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    try:
        subprocess.run(["openssl", "req", *words], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl")
    source = HttpPush(cert_file=certificate, key_file=key, now_us=lambda: NOW_US)
    url = listening(trial, source).replace("http:", "https:").replace("127.0.0.1", "localhost")
    trust = ssl.create_default_context(cafile=str(certificate))
    with httpx.Client(verify=trust, timeout=60.0, trust_env=False) as client:
        assert lines(client, url).status_code == 204


def test_mistakes_of_configuration_are_told(tmp_path: Path) -> None:
    """Protects whoever sets it up: what a person has to change is told apart from what may pass."""
    with pytest.raises(Misconfigured, match="name at least one sender"):
        HttpPush("0.0.0.0")
    with pytest.raises(Misconfigured, match="secret of sender a is empty"):
        HttpPush("0.0.0.0", senders=[Sender("a", "")])
    HttpPush("0.0.0.0", open_to_all=True)
    HttpPush("0.0.0.0", senders=[Sender("a", "b")])
    broken = tmp_path / "cert.pem"
    broken.write_text("no certificate")
    with Trial(tmp_path) as trial:
        trial.run(HttpPush(cert_file=broken))
        with pytest.raises(Misconfigured, match="cannot be used"):
            trial.until(lambda: trial.ended and trial.error is None)
    with Trial(tmp_path) as trial:
        trial.run(HttpPush("192.0.2.1", open_to_all=True))
        with pytest.raises(Misconfigured, match=r"192\.0\.2\.1:0 cannot be listened on"):
            trial.until(lambda: trial.ended and trial.error is None)


def test_an_address_in_use_may_become_free(trial: Trial) -> None:
    """Protects a restart while the old process still holds the port: it is tried again."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        trial.run(HttpPush(port=other.getsockname()[1]))
        with pytest.raises(SourceUnavailable, match="cannot be listened on"):
            trial.until(lambda: trial.ended and trial.error is None)


def test_it_describes_itself(trial: Trial, client: httpx.Client) -> None:
    """Protects programs that read the description: each path is in it, and nothing comes from elsewhere."""
    found = client.get(f"{listening(trial)}/api/openapi.json").json()
    assert set(found["paths"]) >= {"/api/readings", "/api/v2/write", "/write", "/api/v1/write", "/v1/metrics"}
    for path in ("/api/readings", "/api/v1/write"):
        assert found["paths"][path]["post"]["requestBody"]["content"]


def test_order_of_one_sender_is_kept_over_pieces(trial: Trial, client: httpx.Client) -> None:
    """Protects the order in which one body's readings become durable, and a body of many pieces as a whole."""
    url = listening(trial)
    body = "".join(f"air,station=a pm25={i} {NOW_US - 60_000 + i}\n" for i in range(45_000))
    assert lines(client, url, body).status_code == 204
    readings: list[Reading] = trial.readings()
    assert [r.value for r in readings] == [float(i) for i in range(45_000)]


def test_a_secret_never_shows_in_answers_or_metrics(trial: Trial, client: httpx.Client) -> None:
    """Protects secrets that senders show, right or wrong."""
    url = listening(trial, HttpPush(senders=[Sender("a", "right-secret")]))
    told = [lines(client, url, authorization="Bearer wrong-secret").text, client.get(f"{url}/api/openapi.json").text]
    told.append(json.dumps([sample._asdict() for m in trial.registry.collect() for sample in m.samples], default=str))
    assert not [text for text in told if "-secret" in text]
