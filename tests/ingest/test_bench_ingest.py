"""The ingest benchmark measures what it says: every reading sent is a new one, and every protocol has its figures."""

from __future__ import annotations

import argparse
import os

import pytest

from connectors.codec_line_protocol import LineProtocol
from connectors.codec_remote_write import RemoteWrite, decompressed
from pipeline import bench_ingest, bench_ingest_fairness
from pipeline.bench_ingest_load import MakeBody, line_bodies, single_bodies, write_requests
from pipeline.bench_ingest_subjects import Kafka


def identities(kind: str, body: bytes) -> set[tuple[str, str, int]]:
    if kind == "lines":
        pieces = list(LineProtocol().read(body, 0, "us"))
    else:
        plain = decompressed(body, 10**7)
        assert isinstance(plain, bytes)
        pieces = list(RemoteWrite().read(plain))
    assert not [one for piece in pieces for one in piece.rejected]
    return {(r.entity, r.channel, r.time_us) for piece in pieces for r in piece.readings}


@pytest.mark.parametrize(
    ("kind", "made"),
    [("lines", line_bodies(20)), ("lines", single_bodies(20)), ("remote-write", write_requests(20))],
)
def test_every_body_is_new(kind: str, made: tuple[MakeBody, int]) -> None:
    """Protects the figures from being those of repeats, which cost next to nothing."""
    body, readings = made
    found = [identities(kind, body(number)) for number in range(3)]
    assert [len(one) for one in found] == [readings] * 3
    assert len(set.union(*found)) == 3 * readings


def test_http_push_is_measured_beside_a_bare_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the figures of `vedette bench ingest`: real processes on a core, and rates that fit together."""
    monkeypatch.setattr(bench_ingest, "WINDOW_S", 0.2)
    said: list[str] = []
    bench = bench_ingest.Bench(max(os.sched_getaffinity(0)), Kafka(), 1, said.append)
    figures = bench.http("line protocol", "/api/v2/write?precision=us", "", *line_bodies(20))
    assert figures["readings_per_s"] > 0
    assert figures["ratio"] == pytest.approx(figures["readings_per_s"] / figures["bare_readings_per_s"], rel=0.01)
    # by the time that the core worked for each: others on this machine may hold up either
    assert figures["per_core_s"]["bare"] > figures["per_core_s"]["ours"] > 0
    assert 0 < figures["ratio_per_core_s"] < 1
    assert "line protocol, round 1 of 1: bare " in said[0]


def test_small_requests_are_timed_beside_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the figures of how long others wait: each is of requests that were answered, beside bodies that were."""
    monkeypatch.setattr(bench_ingest, "WINDOW_S", 0.1)
    cut = {kind: (path, body[:300_000]) for kind, (path, body) in bench_ingest_fairness.LARGE.items()}
    monkeypatch.setattr(bench_ingest_fairness, "LARGE", cut)
    said: list[str] = []
    found = bench_ingest.Bench(max(os.sched_getaffinity(0)), Kafka(), 1, said.append).fairness()
    assert set(found) == {"alone", "beside_bad_lines", "beside_json"}
    assert all(one["requests"] >= 10 and 0 < one["median_ms"] <= one["p99_ms"] for one in found.values())
    assert said


@pytest.mark.soak
def test_everything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the whole of `vedette bench ingest --json`, MQTT and a broker included."""
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    result = bench_ingest.bench_ingest(argparse.Namespace(entities=200, rounds=1), lambda text: None)
    assert {"line_protocol", "remote_write", "mqtt", "kafka", "cores"} <= set(result)
    if isinstance(result["mqtt"], dict):
        assert result["mqtt"]["readings_per_s"] > 0
