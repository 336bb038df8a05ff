"""The benchmark of the faces: two real daemons, real clients, and ratios that follow from what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.bench_faces import Round, _answer, _pauses, _process, _result, bench_faces
from pipeline.bench_faces_clients import Seen
from pipeline.bench_faces_daemon import Side, Spent, serve
from pipeline.bench_load import Load


def quiet(text: str) -> None:
    """Say nothing."""


def test_both_daemons_take_the_same_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the figures: over the embedded broker both sides score, all clients are answered, and it is JSON."""
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    result = bench_faces(1, quiet, entities=60, steps=2)
    assert json.loads(json.dumps(result)) == result
    assert result["readings_a_round"] == 2 * 18 * 60
    assert result["broker"] == "embedded"
    assert min(result["ratio"], result["ratio_of_loop_cpu"], result["ratio_of_process_cpu"]) > 0.0
    assert result["scrape_series"] in (0, 60 * 14)  # none, where the round was over before the first answer
    assert result["pages_failed"] == []


def test_ratios_and_pauses_follow_from_what_was_spent() -> None:
    """Protects from a ratio the wrong way round, and from pauses that are counted to the wrong scrape."""
    bare, faces = Spent(wall_s=1.0, loop_cpu_s=0.9, process_cpu_s=1.0), Spent(2.0, 1.0, 0.5, 4.0)
    bare.pauses = [(0.0, 0.1, 0.007)]
    faces.pauses = [(0.0, 1.0, 0.001), (1.4, 1.6, 0.05), (3.0, 4.0, 0.2)]
    seen = Seen(scrapes=[(1.5, 2.0, 50_400, 10), (5.0, 5.25, 50_000, 12)])
    assert _pauses([Round(bare, faces, 36)], seen) == ([0.05], [0.001, 0.2])
    result = _result([Round(bare, faces, 36)], seen, Load(entities=1), "none")
    assert (result["ratio"], result["ratio_undisturbed"]) == (0.5, 0.667)
    assert (result["ratio_of_loop_cpu"], result["ratio_of_process_cpu"]) == (0.9, 0.25)
    assert (result["readings_per_s_bare"], result["readings_per_s_with_faces"]) == (36, 18)
    assert (result["scrape_series"], result["scrape_longest_s"], result["scrapes"]) == (50_000, 0.5, 2)
    assert result["longest_pause_ms"] == {"during_scrapes": 50.0, "between_scrapes": 200.0, "bare": 7.0}
    assert result["loop_us_per_entity_step_added"] == pytest.approx(50_000.0)


def test_a_daemon_that_cannot_start_ends_the_benchmark(tmp_path: Path) -> None:
    """Protects from waiting for minutes for a process that has failed, and from figures without a network."""
    side = Side(False, str(tmp_path), str(tmp_path / "models"), "127.0.0.1:9", False, Load(2), "", "")
    with _process(serve, (side,)) as orders, pytest.raises(RuntimeError, match="the network is not in charge"):
        _answer(orders, 200.0)
