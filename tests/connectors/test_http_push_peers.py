"""Real peers: Prometheus writes to us, its count and ours equal; InfluxDB reads lines as we do."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from connectors.codec_line_protocol import LineProtocol
from connectors.http_push import HttpPush
from connectors.push_senders import Sender
from pipeline.ingest.trial import Trial
from tests.connectors.test_codec_line_protocol import written
from tests.influxdb_server import InfluxServer
from tests.prometheus_server import PrometheusServer

SERIES = 50
SECRET = "prometheus-shows-this"


class Counting(BaseHTTPRequestHandler):
    """Shows counters that go up with each look, one of which is never a number."""

    looks = 0

    def do_GET(self) -> None:
        Counting.looks += 1
        lines = [f'pulses{{meter="{i:02d}"}} {Counting.looks + i}' for i in range(SERIES)]
        body = "\n".join([*lines, "broken NaN", "dry 0", ""]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class' name
        """Say nothing."""


@pytest.fixture
def counting() -> Iterator[str]:
    """A target to scrape; its address."""
    Counting.looks = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="peer-target")
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def configured(port: int, target: str | None) -> str:
    """Return a Prometheus' configuration that writes to us, and scrapes ``target`` if there is one."""
    targets = f"[{{targets: ['{target}']}}]" if target else "[]"
    return (
        f"global: {{scrape_interval: 500ms}}\n"
        f"scrape_configs: [{{job_name: meters, static_configs: {targets}}}]\n"
        f"remote_write:\n- url: http://127.0.0.1:{port}/api/v1/write\n"
        f"  basic_auth: {{username: prometheus, password: {SECRET}}}\n"
        f"  queue_config: {{batch_send_deadline: 100ms, min_backoff: 30ms, max_backoff: 200ms}}\n"
        f"  metadata_config: {{send_interval: 1s}}\n"
    )


def told(server: PrometheusServer, name: str) -> float:
    """Return the sum of one of Prometheus' own metrics of remote storage."""
    with urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(rf"^prometheus_remote_storage_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for value in found)


def taken(trial: Trial) -> float:
    """Return how many samples we took; stale markers are ignored, and counted."""
    return trial.count("readings") + trial.count("events", event="ignored")


def pulses_of(trial: Trial) -> list[float | None]:
    """Return what one of the meters has shown."""
    return [r.value for r in trial.readings() if r.channel == 'pulses{meter="07"}']


def test_a_real_prometheus_and_we_count_alike(tmp_path: Path, counting: str) -> None:
    """Protects every sample: through an hour without room, in small, Prometheus' count equals ours when all is over."""
    source = HttpPush(senders=[Sender("prometheus", SECRET)], quiet_after_s=30)
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with Trial(tmp_path, max_spool=30_000) as trial:
        trial.run(source)
        trial.until(lambda: None in trial.reasons)
        with PrometheusServer(folder, configured(source.port, counting)) as server:
            trial.until(lambda: len(pulses_of(trial)) >= 4 and trial.count("readings") > 3 * SERIES)
            trial.kafka.up = False
            trial.until(lambda: trial.count("events", event="pushed_back") >= 2)
            assert told(server, "samples_failed_total") == 0
            trial.kafka.up = True
            (folder / "prometheus.yml").write_text(configured(source.port, None))
            os.kill(server._process.pid, signal.SIGHUP)
            sent = 0.0

            def settled() -> bool:
                nonlocal sent
                sent = told(server, "samples_total") - told(server, "samples_retried_total")
                ended = not server.query('{job="meters"}') and told(server, "samples_pending") == 0
                return ended and taken(trial) == sent

            trial.until(settled)
            (series,) = server.query('pulses{meter="07"}[1h]')
            assert told(server, "samples_failed_total") == told(server, "samples_dropped_total") == 0
        ours = taken(trial)
        sys.stdout.write(f"Prometheus sent {sent:.0f} samples; we took {ours:.0f}\n")
        assert ours == sent
        assert trial.count("events", event="ignored") >= SERIES, "stale markers: each series has ended"
        assert trial.count("corrections") == 0
        trial.until(lambda: len(trial.readings()) == trial.count("readings"))
        readings = trial.readings()
        # not each look: what took too long to come is no sample
        assert pulses_of(trial) == [float(value) for _, value in series["values"]]
        assert {r.entity for r in readings} == {counting}
        assert {r.value for r in readings if r.channel == "broken"} == {None}
        assert {r.value for r in readings if r.channel == "dry"} == {0.0}


NASTY = ["a", "a b", "a,b", "a=b", 'q"q', "ü/µ", "back\\slash", "x\\y z", "#", "1", "'", "a\tb", " lead", "end "]
NOW_NS = 1_795_190_400_000_000_000


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    with InfluxServer(tmp_path_factory.mktemp("influx")) as server:
        yield server


def ours(body: bytes) -> dict[tuple[str, str], float | None]:
    """Return what we read: (entity, channel) to value."""
    return {(r.entity, r.channel): r.value for p in LineProtocol().read(body, 0) for r in p.readings}


def theirs(server: InfluxServer) -> dict[tuple[str, str], float | None]:
    """Return what InfluxDB has, in our words."""
    found: dict[tuple[str, str], float | None] = {}
    names = [row[0] for series in server.query("SHOW MEASUREMENTS") for row in series["values"]]
    texts = ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names]
    for series in (one for text in texts for one in server.query(f"SELECT * FROM {text} GROUP BY *")):
        entity = "/".join(value for _, value in sorted(series["tags"].items()) if value)
        for row in series["values"]:
            for name, value in zip(series["columns"][1:], row[1:], strict=True):
                if value is not None:
                    found[entity, name] = float(value)
    return found


@pytest.fixture
def empty(influx: InfluxServer) -> InfluxServer:
    influx.query("DROP SERIES FROM /.*/")
    return influx


def test_influxdb_reads_escapes_as_we_do(empty: InfluxServer) -> None:
    """Protects names with every awkward character, against the program that made the protocol."""
    lines = [
        written(name, {"t": f"{i}-{name}", f"k{name}": "v"}, {f"f{name}": f"{i}.5"}, str(NOW_NS + i))
        for i, name in enumerate(NASTY)
    ]
    body = "\n".join(lines).encode()
    answer = empty.write(body)
    assert answer.status_code == 204, answer.text
    assert ours(body) == theirs(empty)
    assert len(ours(body)) == len(NASTY) - 1  # a line that begins with # is a comment


VALUES = ["1", "-1.5", "1e3", "1E-3", "2i", "-2i", "t", "F", "true", "False", ".5", "5.", "9007199254740993",
          "0.1", "1.7976931348623157e308", "5e-324", "-0", "007"]  # fmt: skip


def test_influxdb_reads_numbers_as_we_do(empty: InfluxServer) -> None:
    """Protects values of every kind, to the last bit of a float."""
    lines = [f"m{i},t={i} f={value} {NOW_NS + i}" for i, value in enumerate(VALUES)]
    refused = [i for i, line in enumerate(lines) if empty.write(line.encode()).status_code != 204]
    taken = "\n".join(line for i, line in enumerate(lines) if i not in refused).encode()
    assert ours(taken) == theirs(empty)
    assert {VALUES[i] for i in refused} <= {".5", "5.", "5e-324"}  # we take a little more


@pytest.mark.parametrize(
    "line",
    ["m", "m ", "m f", "m f=", "m,t f=1", "m,t= f=1", ",t=a f=1", "m f=1 x", "m f=abc", 'm f="x', "m f=nan", "m f=1_0",
     "m f=+inf", "m f=1 1.5", "m f=0x10", "m,t=a,t=b f=1", "m f=9223372036854775808i", "m f=tRue", "m f=1,", "m ,f=1"],
)  # fmt: skip
def test_what_influxdb_refuses_we_refuse(empty: InfluxServer, line: str) -> None:
    """Protects from reading a meaning into lines that have none."""
    answer = empty.write(f"good,t=g f=1 {NOW_NS}\n{line}\n".encode())
    assert answer.status_code == 400
    pieces = list(LineProtocol().read(f"good,t=g f=1 {NOW_NS}\n{line}\n".encode(), 0))
    assert sum(len(p.rejected) for p in pieces) == 1
    assert sum(len(p.readings) for p in pieces) == 1
    assert theirs(empty) == {("g", "f"): 1.0}
