"""`vedette train` as people and the daemon run it."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import structlog

from connectors.alert_store import AlertStore
from connectors.alert_store_rows import IncidentRow
from models.registry import LINEAR, Action, Registry
from models.training_state import STATE
from pipeline import training_work
from pipeline.health import GUARD
from pipeline.job_books import JobBooks
from pipeline.job_bounds import only_one
from pipeline.job_record import CHECKPOINT, EVENTS, JobPhase, JobReason, JobRecord
from pipeline.judging import Judgement
from pipeline.training_now import ask_daemon
from pipeline.training_verdict import Hearing
from tests.pipeline.training_parts import STEP0, STEP_US, STEPS, Site, frames, last_json

HELD_OUT = 120  # 15 % of 800 steps
BETTER = Judgement(True, ("its forecasts are better",), LINEAR, HELD_OUT)


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """Leave logging as it was: a job configures it for its process."""
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray[Any, Any]]:
    """Return the weights that a job gives which nothing interrupts."""
    site = Site(tmp_path_factory.mktemp("unbroken"), frames())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.training_verdict.judge", lambda *_, **__: BETTER)
        assert site.train() == 0
    return weights_of(site)


@pytest.fixture
def better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have whatever is judged found better: what judging says is tested elsewhere."""
    monkeypatch.setattr("pipeline.training_verdict.judge", lambda *_, **__: BETTER)


def weights_of(site: Site) -> list[np.ndarray[Any, Any]]:
    """Return the newest version's arrays."""
    version = site.registry.versions("air")[-1]
    return list(site.registry.load("air", version).weights.to_arrays().values())


def in_child(run: Callable[[], int]) -> int | None:
    """Run something in a process of its own; return its exit code, negative for a signal."""
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(run()))
    process.start()
    process.join()
    code: int | None = process.exitcode
    return code


def test_a_job_trains_judges_and_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the whole way, with the real judge: version, manifest, decision, record, curves and words for people."""
    site = Site(tmp_path, frames())
    assert site.train("--json") == 0
    out, err = capsys.readouterr()
    told = last_json(out)
    [record] = site.records()
    assert told["job"]["id"] == record.id
    assert record.phase is JobPhase.DONE
    assert record.decision in ("promoted", "refused")
    assert record.message in err
    assert told["judgement"]["holdout_steps"] == HELD_OUT
    assert told["report"]["epochs"] == record.epoch == len(record.train_losses) == len(record.validation_losses)
    assert record.version is not None
    stored = site.registry.load("air", record.version)
    about = stored.manifest
    assert about.entities == ("a", "b", "c")
    assert about.data_from_us == STEP0 * STEP_US
    assert about.data_to_us == (STEP0 + STEPS - HELD_OUT - 1) * STEP_US
    assert len(about.data_hash) == 64
    assert (about.device, about.parent) == ("cpu", None)
    assert about.config["model"]["hidden"] == 6
    assert about.seconds == told["report"]["seconds"]
    [decision] = site.registry.decisions("air")
    assert (decision.version, str(decision.action)) == (record.version, record.decision)
    assert (site.registry.champion_version("air") == record.version) == (record.decision == "promoted")
    folder = site.job(record.id).path
    assert list((folder / EVENTS).glob("events.out.tfevents.*"))
    assert (folder / CHECKPOINT / STATE).is_file()


@pytest.mark.usefixtures("better")
def test_the_held_out_part_decides_nothing_about_the_weights(
    tmp_path: Path, unbroken: list[np.ndarray[Any, Any]]
) -> None:
    """Protects the judging from a leak by scale, early stop, neighbours or normalisation: others, same weights."""
    changed = frames()
    changed.values[:, -HELD_OUT:] = 1000.0 - 30.0 * changed.values[:, -HELD_OUT:]
    changed.values[1, -90:], changed.learn[1, -90:] = np.nan, False
    site = Site(tmp_path / "newer", changed)
    assert site.train() == 0
    for a, b in zip(weights_of(site), unbroken, strict=True):
        np.testing.assert_array_equal(a, b)
    older = frames()
    older.values[:, 500] += 1.0
    site = Site(tmp_path / "older", older)
    assert site.train() == 0
    assert not all(np.array_equal(a, b) for a, b in zip(weights_of(site), unbroken, strict=True))


def kill(*_: object, **__: object) -> None:
    """End this process without a word."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(owner: type, name: str, calls: int = 1) -> Callable[[], None]:
    """Return what makes the process die right after that method was called so often."""

    def arrange() -> None:
        method, done = getattr(owner, name), iter(range(calls))

        def dying(*args: Any, **named: Any) -> Any:
            result = method(*args, **named)
            if next(done) == calls - 1:
                kill()
            return result

        setattr(owner, name, dying)

    return arrange


@pytest.mark.usefixtures("better")
@pytest.mark.parametrize(
    ("death", "trained"),
    [
        (die_after(training_work.Work, "_pin"), False),
        (die_after(JobBooks, "epoch", 3), False),
        (die_after(Registry, "save"), True),
        (die_after(Hearing, "judge"), True),
        (die_after(Registry, "promote"), True),
    ],
    ids=["reading", "training", "saved", "judged", "promoted"],
)
def test_a_job_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, death: Callable[[], None], trained: bool, unbroken: list[np.ndarray[Any, Any]]
) -> None:
    """Protects jobs from kill -9 at every stage: the next attempt ends with one version, that of an unbroken job."""
    site = Site(tmp_path / "killed", frames())
    job = site.job()

    def run() -> int:
        death()
        return site.train("--job", str(job.path))

    assert in_child(run) == -signal.SIGKILL
    record = job.read()
    assert record is not None
    assert not record.phase.ended
    assert bool(site.registry.versions("air")) == trained
    grown = frames(STEPS + 40)
    site.add(grown)  # the history goes on; the job reads what it read
    assert site.train("--job", str(job.path)) == 0
    record = job.read()
    assert record is not None
    assert (record.phase, record.decision) == (JobPhase.DONE, "promoted")
    assert site.registry.versions("air") == [record.version]
    assert site.registry.champion_version("air") == record.version
    for a, b in zip(weights_of(site), unbroken, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("better")
def test_sigterm_ends_a_job_at_the_next_chunk_and_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects a machine's shutdown: exit code 75, the state is kept, the record says so, the next attempt resumes."""
    site, job = Site(tmp_path, frames()), None
    job = site.job()
    epoch = JobBooks.epoch

    def then_signal(books: JobBooks, number: int, *rest: Any) -> None:
        epoch(books, number, *rest)
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(JobBooks, "epoch", then_signal)
        assert site.train("--job", str(job.path)) == 75
    record = job.read()
    assert record is not None
    assert (record.phase, record.epoch) == (JobPhase.TRAINING, 2)
    assert "interrupted" in record.message
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert site.train("--job", str(job.path), "--json") == 0
    told = last_json(capsys.readouterr().out)
    assert told["report"]["resumed"]
    assert len(told["job"]["train_losses"]) == told["report"]["epochs"]
    assert site.train("--job", str(job.path)) == 0  # it has ended: nothing is done again
    assert len(site.registry.versions("air")) == 1


def test_a_second_job_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects from two jobs of a stream: the second one says who runs, and touches no record but its own."""
    site = Site(tmp_path, frames())
    directory = site.config.training.directory
    job = site.job()
    ours = JobRecord("first", "air", JobReason.SCHEDULE, JobPhase.TRAINING, 1, 1)
    first = site.job("first")
    first.write(ours)
    with only_one(directory, "air", "first"):
        assert site.train("--job", str(job.path)) == 75
        assert site.train() == 75
        assert site.train("--job", str(first.path)) == 75
    assert "another job of stream air runs: first" in capsys.readouterr().err
    record = job.read()
    assert record is not None
    assert (record.phase, record.message) == (JobPhase.REFUSED, "another job of stream air runs: first")
    assert first.read() == ours
    assert len(site.records()) == 2


def test_too_little_history_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the first days: refused with the numbers, exit code 65, nothing in the registry."""
    assert Site(tmp_path / "none", None).train() == 65
    site = Site(tmp_path / "little", frames(200))
    assert site.train() == 65
    [record] = site.records()
    assert record.phase is JobPhase.REFUSED
    assert "200 steps of 3 entities" in record.message
    assert record.message in capsys.readouterr().err
    assert site.registry.versions("air") == []
    assert Site(tmp_path / "off", None, **{f"{tmp_path}/off/history": "null"}).train() == 65
    assert "history.directory is null" in capsys.readouterr().err


@pytest.mark.usefixtures("better")
def test_labels_and_open_alerts_are_left_out(tmp_path: Path) -> None:
    """Protects the way from an operator's word to the training: the manifest says what was left out."""
    arrays = frames()
    arrays.level[1, 300:310] = 2
    site = Site(tmp_path, arrays)
    store = AlertStore(site.config.database.url.get_secret_value())
    began = (STEP0 + 100) * STEP_US
    ended = began + 10 * STEP_US
    row = IncidentRow(
        "0" * 32, "air", "a", "anomaly", "anomaly", "", 2, "high", "resolved", 1, STEP0 + 100, began, began, ended,
        ended, ended, 3.0,
    )  # fmt: skip
    store.keep([row])
    store.label("0" * 32, "true", "", None, "me", ended)
    store.close()
    assert site.train() == 0
    manifest = site.registry.load("air", site.registry.versions("air")[-1]).manifest
    assert manifest.config["notes"] == ["27 steps of entities left out: labelled, or an alert was open"]


@pytest.mark.usefixtures("better")
def test_an_unusable_database_does_not_stop_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects retraining from the alert database: it goes on without labels, and says so."""
    site = Site(tmp_path, frames())
    (tmp_path / "alerts.db").write_bytes(b"this is no database" * 100)
    assert site.train() == 0
    assert "training without them" in capsys.readouterr().err


def test_a_job_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    """Protects the machine: the process ends itself, failed, and says how much it held."""
    site = Site(tmp_path, frames(), **{"nice: 0": "nice: 0, max_memory_mib: 256"})
    assert in_child(lambda: site.train()) == 71  # python, numpy and torch alone hold more
    [record] = site.records()
    assert record.phase is JobPhase.FAILED
    assert "more than training.max_memory_mib allows (256)" in record.message


@pytest.mark.usefixtures("better")
def test_a_time_limit_takes_the_best_so_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the night's end: training stops, its best is judged and decided on, and the message says so."""
    site = Site(
        tmp_path, frames(), **{"nice: 0": "nice: 0, max_duration: 1s", "epochs: 1": "epochs: 5000, patience: 5000"}
    )
    assert site.train("--json") == 0
    told = last_json(capsys.readouterr().out)
    assert told["report"]["stopped"] == "time"
    assert told["report"]["epochs"] < 5000
    assert "ended by the time limit" in told["job"]["message"]


def test_a_defect_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from silence: whatever goes wrong, the record is closed with it and the exit code is 70."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("pipeline.training_work.select", broken)
    site = Site(tmp_path, frames())
    assert site.train() == 70
    [record] = site.records()
    assert (record.phase, record.message) == (JobPhase.FAILED, "ZeroDivisionError: by nothing")


@pytest.mark.usefixtures("better")
def test_a_table_can_be_learned_from(tmp_path: Path, unbroken: list[np.ndarray[Any, Any]]) -> None:
    """Protects who has a file and no history: the same values give the same network."""
    arrays = frames()
    table = pd.DataFrame(
        {
            "time": np.repeat(pd.to_datetime((STEP0 + np.arange(STEPS)) * STEP_US, unit="us", utc=True), 3),
            "entity": ["c", "a", "b"] * STEPS,
            "pm25": arrays.values[[2, 0, 1], :, 0].T.ravel(),
        }
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    site = Site(tmp_path, None)
    assert site.train("--data", str(tmp_path / "table.csv")) == 0
    for a, b in zip(weights_of(site), unbroken, strict=True):
        np.testing.assert_array_equal(a, b)
    assert site.train("--data", str(tmp_path / "missing.csv")) == 64


@pytest.mark.usefixtures("better")
def test_judging_alone_decides_about_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the end of a shadow's time: nothing is trained, all that came since is judged on, and it takes over."""
    site = Site(tmp_path, frames(), **{"least_history: 300": "least_history: 300, shadow: 1h"})
    assert site.train() == 0
    version = site.registry.challenger_version("air")
    assert version is not None
    site.add(frames(STEPS + 30))
    held: list[int] = []

    def judging(config: object, arrays: object, holdout: int, *_: object, **__: object) -> Judgement:
        held.append(holdout)
        return BETTER

    monkeypatch.setattr("pipeline.training_verdict.judge", judging)
    assert site.train("--judge", version) == 0
    assert site.records()[-1].decision == "kept"  # its hour is not over
    since = site.registry.challenger_since("air")
    assert since is not None
    monkeypatch.setattr(
        training_work.Work.__init__, "__defaults__", (None, lambda: since + timedelta(hours=1), lambda: 0.0)
    )
    assert site.train("--judge", version) == 0
    assert held == [HELD_OUT + 30, HELD_OUT + 30]
    assert site.records()[-1].decision == "promoted"
    assert site.registry.champion_version("air") == version
    assert site.train("--judge", version) == 0  # in charge already: nothing to decide
    assert site.records()[-1].decision == "kept"
    assert site.train("--judge", "20200101T000000000-00000000") == 69


@pytest.mark.usefixtures("better")
def test_old_versions_are_removed(tmp_path: Path) -> None:
    """Protects the disk: a job leaves the newest versions, and who is in charge."""
    site = Site(tmp_path, frames(), **{f"{tmp_path}/models": f"{tmp_path}/models, keep: 2"})
    for seed in range(3):
        assert site.train("--seed", str(seed), "--no-promote") == 0
    assert len(site.registry.versions("air")) == 2
    assert site.registry.champion_version("air") is None
    assert {d.action for d in site.registry.decisions("air")} == {Action.KEPT}


def test_a_stream_must_be_clear(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the command line: an unknown stream is named together with those there are."""
    site = Site(tmp_path, None)
    assert site.train("--stream", "water") == 64
    assert "no stream 'water'" in capsys.readouterr().err
    (tmp_path / "vedette.yaml").write_text("streams: 3")
    assert site.train() == 78


# ---- asking the daemon ----


class Daemon(BaseHTTPRequestHandler):
    """Answers as a daemon would."""

    answer: tuple[int, bytes] = (202, b"")
    asked: list[str]

    def do_POST(self) -> None:
        type(self).asked.append(f"{self.path} {self.headers[GUARD]}")
        status, body = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (202, {"stream": "air", "accepted": True, "job": "j1", "reason": ""}, 0, "job j1 was started"),
        (409, {"stream": "air", "accepted": False, "job": "j0", "reason": "job j0 is training"}, 75, "j0 is training"),
        (404, {"error": "no stream air"}, 64, "no stream air"),
        (503, {"stream": "air", "accepted": False, "job": None, "reason": "disk full"}, 69, "disk full"),
        (200, "hello", 69, "not what a daemon says"),
    ],
)
def test_now_asks_the_daemon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, body: object, code: int, said: str
) -> None:
    """Protects `--now`: the daemon is asked for the stream, and its answer is told with the fitting exit code."""
    handler = type("Handler", (Daemon,), {"answer": (status, json.dumps(body).encode()), "asked": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        site = Site(tmp_path, None, **{"port: 0": f"port: {server.server_port}"})
        try:
            assert site.train("--now") == code
        finally:
            server.shutdown()
            thread.join()
    assert handler.asked == ["/api/train?stream=air 1"]  # type: ignore[attr-defined]
    assert said in capsys.readouterr().err


def test_now_says_when_no_daemon_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects from silence: nobody there, or a port that cannot be known, is said, with 69."""
    with HTTPServer(("127.0.0.1", 0), Daemon) as server:
        port = server.server_port
    site = Site(tmp_path, None, **{"port: 0": f"port: {port}"})
    assert site.train("--now") == 69
    assert f"no daemon answers at http://127.0.0.1:{port}" in capsys.readouterr().err
    assert ask_daemon(Site(tmp_path / "other", None).config.http, "air", True) == 69
