"""The work of a training job: read, select, train, keep the version, judge it, decide. What it needs is handed to it.

    READING → TRAINING → JUDGING → DECIDING → DONE

Killed at any moment it goes on where it was: the training from its checkpoint, a trained version from its judging, one
that took charge already is done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from connectors.errors import ConnectorError, StoreMissing
from models.learning import Learned, learn
from models.registry import Action, Manifest, Registry, RegistryError
from models.training_memory import MemoryNeed, memory_need
from models.training_options import Limits, TrainingOptions
from pipeline.config import Config
from pipeline.config_streams import StreamConfig
from pipeline.history import FrameArrays, HistoryStore, NoHistoryError
from pipeline.job_books import JobBooks
from pipeline.job_bounds import StopRequest
from pipeline.job_record import CHECKPOINT, JobPhase
from pipeline.judging import Judgement
from pipeline.labels import Label
from pipeline.retraining import architecture_of, named_neighbours, options_of
from pipeline.training_data import TrainingData, excluded, first_us, select
from pipeline.training_verdict import IN_CHARGE, Hearing, Verdict

log = structlog.get_logger("vedette.training_job")

RANGE = "range.json"
"""In the job's folder: what it read, so that a later attempt reads the same although the history has grown."""
TRAINING_SHARE = 0.8
"""Of the job's time, after which training ends with the best so far: judging takes time too."""
REFUSED = "refused: "
"""Reasons of a judgement that speak against begin so."""
_MEMORY_SHARE = 0.8
"""Of what the process may take; the rest is for what the estimate does not know."""
_PROCESS_BYTES = 400 * 2**20
"""That python, torch and numba take before there is any data."""
_READ_BYTES = 21
"""For each cell of the history while it is read and selected."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job's work."""

    phase: JobPhase
    decision: str
    message: str
    report: dict[str, Any] | None = None
    verdict: Verdict | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold, beside the record."""
        judgement = None if self.verdict is None or self.verdict.judgement is None else self.verdict.judgement.to_json()
        reasons = [] if self.verdict is None else list(self.verdict.reasons)
        return {"report": self.report, "judgement": judgement, "reasons": reasons}


@dataclass(slots=True)
class Work:
    """One job's work."""

    config: Config
    stream: StreamConfig
    books: JobBooks
    stop: StopRequest
    seed: int
    promote: bool
    data: Path | None = None
    """A table to learn from instead of the history."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic

    def run(self) -> Done:
        """Do what is left of the work.

        Raises:
            TooLittleHistoryError, HistoryError, Misconfigured: if there is nothing to learn from.
            TrainingInterrupted: if it was told to stop; another attempt goes on.
            RegistryError: if the version cannot be kept or put in charge.
        """
        began_s = self.monotonic()
        registry = Registry(self.config.models.directory)
        self.books.phase(JobPhase.READING)
        labels = self._labels()
        record = self.books.record
        if record.judge is not None:
            return self._judge_again(registry, record.judge, labels)
        need, options = self._need(), self._options()
        data = select(self.stream, self._read(), labels, need, self._budget_bytes())
        self._pin(data)
        for note in data.notes:
            log.info("training data", stream=self.stream.name, note=note)
        self.stop.check()
        trained = record.version if record.version in registry.versions(self.stream.name) else None
        if trained is None:
            self.books.phase(JobPhase.TRAINING)
            seconds = max(1.0, TRAINING_SHARE * self._longest_s - (self.monotonic() - began_s))
            learned = self._learn(data, options, Limits(seconds, self.stop.asked))
            trained = registry.save(learned.weights, self._manifest(learned, data, options, registry))
            self.books.change(version=trained, device=learned.report.device)
        report = dict(registry.load(self.stream.name, trained).manifest.report)
        verdict = self._hear(registry, trained, data.frames, data.holdout, labels)
        self._prune(registry)
        return Done(JobPhase.DONE, str(verdict.action), _told(trained, report, verdict), report, verdict)

    # ---- reading ----

    def _labels(self) -> tuple[Label, ...]:
        """Return what operators said about this stream; none where there is no database, or it is away."""
        from connectors.alert_store import AlertStore
        from pipeline.label_feed import load_labels

        try:
            store = AlertStore(self.config.database.url.get_secret_value(), create=False)
            try:
                return load_labels(store).get(self.stream.name, ())
            finally:
                store.close()
        except StoreMissing:
            log.info("no alert database: training without labels", stream=self.stream.name)
        except ConnectorError as error:
            log.warning("labels cannot be read: training without them", stream=self.stream.name, error=str(error))
        return ()

    def _read(self) -> FrameArrays:
        if self.data is not None:
            from pipeline.training_table import read_table

            return read_table(self.stream, self.data)
        if self.config.history.directory is None:
            raise NoHistoryError("history.directory is null, so nothing is kept to learn from; give a table by --data")
        store, name, step_us = HistoryStore(self.config.history.directory), self.stream.name, self.stream.step_us
        pinned = self._pinned()
        span = store.span(name) if pinned is None else None
        if span is not None:
            pinned = first_us(self.stream, span.last_us, self.books.record.since_us), span.last_us + 1
        from_us, to_us = pinned if pinned is not None else (None, None)
        channels = [c.name for c in self.stream.channels]
        cells = max(1, int(self._budget_bytes() / _READ_BYTES))
        return store.read(name, channels, step_us, from_us=from_us, to_us=to_us, max_cells=cells)

    def _pinned(self) -> tuple[int, int] | None:
        """Return from when and until when (exclusive) an earlier attempt read, if there was one."""
        try:
            told = json.loads((self.books.folder.path / RANGE).read_text(encoding="utf-8"))
            return int(told["from_us"]), int(told["to_us"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _pin(self, data: TrainingData) -> None:
        step_us, frames = self.stream.step_us, data.frames
        last = frames.step0 + frames.values.shape[1] - 1
        text = json.dumps({"from_us": frames.step0 * step_us, "to_us": last * step_us + 1})
        beside = self.books.folder.path / f".{RANGE}"
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.books.folder.path / RANGE)

    # ---- training ----

    @property
    def _longest_s(self) -> float:
        return self.config.training.max_duration.total_seconds()

    def _budget_bytes(self) -> float:
        """Return the memory for data; the same in each attempt, so that each selects the same."""
        most = self.config.training.max_memory_mib * 2**20
        return max(0.1 * most, _MEMORY_SHARE * most - _PROCESS_BYTES)

    def _need(self) -> MemoryNeed:
        model = self.stream.model
        neighbours = max([model.neighbours.k, *(len(names) for names in model.neighbours.map.values())])
        return memory_need(architecture_of(self.stream), len(self.stream.channels), neighbours, self._options())

    def _options(self) -> TrainingOptions:
        return options_of(self.stream.model, self.seed, self.config.training.threads)

    def _learn(self, data: TrainingData, options: TrainingOptions, limits: Limits) -> Learned:
        part, model = data.learned, self.stream.model
        return learn(
            part.values, part.learn, part.step0, self.stream.step_us, part.names, architecture_of(self.stream), options,
            named_neighbours(model, part.names), model.neighbours.k, self.books.epoch,
            self.books.folder.path / CHECKPOINT, limits,
        )  # fmt: skip

    def _manifest(self, learned: Learned, data: TrainingData, options: TrainingOptions, registry: Registry) -> Manifest:
        part, stream, report = data.learned, self.stream, learned.report
        settings = {
            "model": stream.model.model_dump(mode="json"),
            "retrain": stream.retrain.model_dump(mode="json"),
            "training": asdict(options),
            "held_out_steps": data.holdout,
            "notes": list(data.notes),
        }
        return Manifest(
            stream=stream.name,
            channels=tuple(c.name for c in stream.channels),
            units=tuple(c.unit for c in stream.channels),
            step_us=stream.step_us,
            horizons=stream.horizons,
            entities=learned.names,
            neighbours=learned.neighbour_names(),
            data_from_us=part.step0 * stream.step_us,
            data_to_us=(part.step0 + part.values.shape[1] - 1) * stream.step_us,
            # The job's, not the clock's: an attempt that is killed after saving finds its version again.
            created=datetime.fromtimestamp(self.books.record.created_us / 1e6, UTC),
            seed=report.seed,
            report=asdict(report),
            config=settings,
            data_hash=HistoryStore.digest(part),
            parent=_in_charge(registry, stream.name),
            device=report.device,
            seconds=report.seconds,
        )

    # ---- judging ----

    def _judge_again(self, registry: Registry, version: str, labels: tuple[Label, ...]) -> Done:
        """Judge a version that is there on all that came since it was trained."""
        manifest = registry.load(self.stream.name, version).manifest
        frames = self._read()
        frames.learn &= ~excluded(frames, labels, self.stream.step_us)[:, :, None]
        last = frames.step0 + frames.values.shape[1] - 1
        holdout = min(max(0, last - manifest.data_to_us // self.stream.step_us), frames.values.shape[1])
        verdict = self._hear(registry, version, frames, holdout, labels)
        if verdict.reasons == IN_CHARGE:
            verdict = Verdict(Action.KEPT, verdict.reasons)
        message = f"{version}: {_outcome(verdict)}"
        return Done(JobPhase.DONE, str(verdict.action), message, dict(manifest.report), verdict)

    def _hear(
        self, registry: Registry, version: str, frames: FrameArrays, holdout: int, labels: tuple[Label, ...]
    ) -> Verdict:
        hearing = Hearing(
            self.stream, registry, version, frames, holdout, labels, self.promote and self.stream.retrain.promote,
            self.seed, self.now, self.books.record.id,
        )  # fmt: skip
        self.stop.check()
        self.books.phase(JobPhase.JUDGING)
        settled = hearing.settled()
        if settled is not None:
            return settled
        judgement, against = hearing.judge(lambda stage, share: self.stop.check())
        self._log_judgement(version, judgement)
        self.books.phase(JobPhase.DECIDING)
        verdict = hearing.decide(judgement, against)
        log.info("decided", stream=self.stream.name, version=version, action=str(verdict.action), why=_why(verdict))
        return verdict

    def _log_judgement(self, version: str, judgement: Judgement) -> None:
        log.info(
            "judged", stream=self.stream.name, version=version, better=judgement.better, against=judgement.against,
            gain=round(judgement.gain, 4), gain_low=round(judgement.gain_low, 4), held_out=judgement.holdout_steps,
        )  # fmt: skip

    def _prune(self, registry: Registry) -> None:
        try:
            registry.prune(self.stream.name, self.config.models.keep)
        except RegistryError as error:
            log.warning("old versions cannot be removed", stream=self.stream.name, error=str(error))


def _in_charge(registry: Registry, stream: str) -> str | None:
    try:
        return registry.champion_version(stream)
    except RegistryError:
        return None


def _told(version: str, report: dict[str, Any], verdict: Verdict) -> str:
    """Return what was trained and what came of it, in a sentence for people."""
    early = {"time": ", ended by the time limit", "diverged": ", ended where it diverged"}.get(
        str(report["stopped"]), ""
    )
    return (
        f"{version}: {report['gain']:+.1%} against the linear forecast on its own newest part"
        f" ({report['epochs']} epochs, {report['seconds']:.0f} s on {report['device']}{early}); {_outcome(verdict)}"
    )


def _outcome(verdict: Verdict) -> str:
    words = {
        Action.PROMOTED: "put in charge",
        Action.SHADOWED: "put in shadow",
        Action.KEPT: "kept, not in charge",
        Action.REFUSED: "not put in charge",
    }
    against = f" (judged against {verdict.judgement.against})" if verdict.judgement is not None else ""
    return f"{words[verdict.action]}{against}: {_why(verdict)}"


def _why(verdict: Verdict) -> str:
    """Return what decided it; all reasons are in the decision that the registry keeps."""
    against = [reason for reason in verdict.reasons if reason.startswith(REFUSED)]
    said = against if against and verdict.action is Action.REFUSED else verdict.reasons[:2]
    return "; ".join(reason.removeprefix(REFUSED) for reason in said)
