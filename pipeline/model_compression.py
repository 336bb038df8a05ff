"""`vedette models compress`: smaller versions of a model, each beside the original by size, speed and loss.

The loss is the CRPS of the forecasts that the service would have made on the newest held-out part of the history, by
the same replay and on the same targets for all of them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from models.compression import step_rates, stored, stored_bytes
from models.manifest import Manifest, StoredModel
from models.training_options import TooLittleHistoryError
from models.weights import Weights
from pipeline.compression_words import Measured, tell
from pipeline.config import Config
from pipeline.config_streams import StreamConfig
from pipeline.exit_codes import DATA, OK, UNAVAILABLE
from pipeline.history import FrameArrays, HistoryError, HistoryStore
from pipeline.judging_fitness import mismatch
from pipeline.judging_replay import Material, Replay, gather, replay
from pipeline.judging_scores import ForecastScore, forecast_score, targets_of
from pipeline.model_desk import Desk, RefusedError
from pipeline.training_data import FEWEST_VALUES, TrainingData, excluded, fewest_held_out, held_out_steps, newest

MOST_ENTITIES = 64
"""That are replayed; each contender takes seconds."""
MOST_CELLS = 10_000_000
"""Of the history that is read: a student's training takes about 150 bytes for each."""
_STUDENT = re.compile(r"h([1-9]\d{0,3})")


@dataclass(frozen=True, slots=True)
class Variant:
    """A smaller form of a model."""

    name: str
    """As it was asked for: bf16, int8 or hN."""
    weights: Weights
    manifest: Manifest


def run(desk: Desk) -> int:
    """Run the command; return 0, 65 where the history does not suffice, 69 where it is away."""
    shelf = desk.shelf()
    entry = shelf.entry(desk.args.version)
    original = entry.model or desk.registry.load(desk.name, entry.version)
    kinds = kinds_of(desk.args.to, original)
    if isinstance(kinds, str):
        raise RefusedError(kinds)
    if trouble := mismatch(desk.stream, original):
        raise RefusedError(f"{entry.version} does not fit stream '{desk.name}' any more: {trouble}; train a new one")
    try:
        data = read(desk.config, desk.stream)
        measured, linear = compare(desk, original, kinds, data)
    except TooLittleHistoryError as error:
        return _fail(str(error), DATA)
    except HistoryError as error:
        return _fail(f"{error}; see history.directory", UNAVAILABLE if error.retriable else DATA)
    tell(desk, original, measured, linear, data)
    return OK


def kinds_of(text: str, original: StoredModel) -> list[str] | str:
    """Return the kinds that a text names, each once; or what is wrong with it."""
    hidden = original.weights.sizes.hidden
    kinds = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for kind in kinds:
        student = _STUDENT.fullmatch(kind)
        if student is None and kind not in ("bf16", "int8"):
            return f"--to {kind!r} is neither bf16, int8 nor hN, such as h{max(1, hidden // 2)}"
        if student is not None and int(student[1]) >= hidden:
            return f"--to {kind} is not smaller than {original.version}, which has {hidden} hidden numbers"
        if kind == original.manifest.kind:
            return f"{original.version} is stored as {kind} already"
    return kinds or "--to names nothing; say bf16, int8 or hN"


def read(config: Config, stream: StreamConfig) -> TrainingData:
    """Return the history as a training job splits it, so that what is judged on was not learned from.

    Raises:
        HistoryError: if there is none, or it cannot be read.
        TooLittleHistoryError: if it is too short to hold a part out.
    """
    if config.history.directory is None:
        raise HistoryError("no history is kept: history.directory is null")
    channels = tuple(channel.name for channel in stream.channels)
    store = HistoryStore(config.history.directory)
    frames = store.read(stream.name, channels, stream.step_us, max_cells=MOST_CELLS)
    frames = newest(frames, round(stream.retrain.history / stream.step))
    frames = replace(frames, learn=frames.learn & ~excluded(frames, (), stream.step_us)[:, :, None])
    T, fewest = frames.values.shape[1], fewest_held_out(stream)
    if 2 * fewest > T:
        raise TooLittleHistoryError(f"the history holds {T} steps; {2 * fewest} are needed to compare forecasts")
    holdout = held_out_steps(stream, T)
    rows = np.flatnonzero(frames.learn[:, : T - holdout].sum(axis=(1, 2)) >= FEWEST_VALUES)
    return TrainingData(frames, holdout, rows, ())


def compare(
    desk: Desk, original: StoredModel, kinds: Sequence[str], data: TrainingData
) -> tuple[list[Measured], float]:
    """Return the original and its variants measured in one run, and the linear forecast's loss; keep what is to be.

    Raises:
        TooLittleHistoryError: if there is nothing to learn from or to judge on.
    """
    variants = [variant(desk, original, kind, data) for kind in kinds]
    models = [original, *(StoredModel(v.name, v.weights, v.manifest) for v in variants)]
    _say("measuring their speed")
    rates = step_rates([model.weights for model in models])
    scores = losses(desk.stream, data.frames, data.holdout, models)
    crps = [score.crps for score in scores]
    measured = []
    for model, rate, loss in zip(models, rates, crps[1:], strict=True):
        size = stored_bytes(model.weights, model.manifest.kind)
        growth = loss / max(crps[1], 1e-12) - 1.0
        kept = (crps[0] - loss) / (crps[0] - crps[1]) if crps[1] < crps[0] else None
        measured.append(Measured(model.version, model.weights.sizes.hidden, size, rate, loss, growth, kept))
    if desk.args.keep:
        for i, made in enumerate(variants, 1):
            if measured[i].holds:
                judged = _judgement(original, made.name, (scores[0], scores[1], scores[i + 1]), data.holdout)
                about = replace(made.manifest, judgement=judged | {"compression": asdict(measured[i])})
                measured[i] = replace(measured[i], version=desk.registry.save(made.weights, about))
    return measured, crps[0]


def variant(desk: Desk, original: StoredModel, kind: str, data: TrainingData) -> Variant:
    """Return a smaller form of ``original``: stored otherwise, or a student that was trained for it."""
    about = replace(original.manifest, parent=original.version, created=desk.now(), judgement={})
    student = _STUDENT.fullmatch(kind)
    if student is None:
        return Variant(kind, stored(original.weights, kind), replace(about, kind=kind))
    return _student(desk.stream, original, int(student[1]), kind, data, about)


def _student(
    stream: StreamConfig, original: StoredModel, hidden: int, kind: str, data: TrainingData, about: Manifest
) -> Variant:
    from models.distillation import distil  # torch
    from models.sequences import prepare
    from pipeline.retraining import options_of

    frames, sizes = data.learned, original.weights.sizes
    neighbours = original.neighbours_of(frames.names)
    sequences = prepare(
        frames.values, frames.learn, frames.step0, stream.step_us, stream.horizons, frames.names, neighbours,
        sizes.representatives,
    )  # fmt: skip

    def progress(epoch: int, epochs: int, train_loss: float, validation_loss: float, baseline: float) -> None:
        _say(f"{kind}: epoch {epoch} of {epochs}, loss {validation_loss:.4f} of {baseline:.4f} without a network")

    weights, report = distil(
        original.weights, original.embedding_ids, sequences, hidden, options_of(stream.model, original.manifest.seed),
        stream.model.train.dropout, progress=progress,
    )  # fmt: skip
    others = {name: list(original.manifest.neighbours.get(name, ())) for name in frames.names}
    T = frames.values.shape[1]
    return Variant(
        kind,
        weights,
        replace(
            about,
            kind="f32",
            entities=tuple(frames.names),
            neighbours=others,
            data_from_us=frames.step0 * stream.step_us,
            data_to_us=(frames.step0 + T - 1) * stream.step_us,
            data_hash="",
            report=asdict(report),
            config=_with_hidden(about.config, hidden),
            device=report.device,
            seconds=report.seconds,
        ),
    )


def _with_hidden(settings: Mapping[str, Any], hidden: int) -> dict[str, Any]:
    """Return the settings that the student's size would come of."""
    return {**settings, "student_hidden": hidden}


def losses(
    stream: StreamConfig, frames: FrameArrays, holdout: int, models: Sequence[StoredModel]
) -> list[ForecastScore]:
    """Return the scores of the linear forecast and of each model, as in service, on the same held-out targets.

    Raises:
        TooLittleHistoryError: if there is no target.
    """
    everything = gather(stream, frames, holdout, models[:1], [], seed=0, max_entities=MOST_ENTITIES)
    material = _without_copies(everything)
    linear = _replay(stream, material, None, None, "the linear forecast")
    said = [_replay(stream, material, model, linear.levels, model.version) for model in models]
    targets = targets_of(material, linear, stream.horizons, said)
    if not targets.there.any():
        raise TooLittleHistoryError(f"not one value of the newest {holdout} steps can be judged on")
    return [forecast_score(targets, each.middle, each.spread) for each in (linear, *said)]


def _without_copies(material: Material) -> Material:
    """Return the material without the copies on which a detector would run: only forecasts are compared here."""
    E = material.entities
    return replace(
        material, names=material.names[:E], base=material.base[:E], values=np.ascontiguousarray(material.values[:, :E]),
        learn=np.ascontiguousarray(material.learn[:, :E]), faults=[], counted=np.zeros(0, np.bool_), labelled={},
    )  # fmt: skip


def _replay(stream: StreamConfig, material: Material, model: StoredModel | None, levels: Any, name: str) -> Replay:
    _say(f"replaying {name}")
    return replay(stream, material, model, levels, lambda share: None)


def _judgement(
    original: StoredModel, name: str, scores: tuple[ForecastScore, ForecastScore, ForecastScore], holdout: int
) -> dict[str, Any]:
    """Return how a variant did, for its manifest, as a judgement against its original; there is no interval."""
    linear, champion, own = scores
    names = {"challenger": name, "champion": original.version, "linear": "linear"}
    by_role = {"challenger": own, "champion": champion, "linear": linear}
    return {
        "against": original.version,
        "holdout_steps": holdout,
        "gain": 1.0 - own.crps / max(champion.crps, 1e-12),
        "gain_over_linear": 1.0 - own.crps / max(linear.crps, 1e-12),
        "contenders": {
            role: {
                "version": names[role],
                "crps": score.crps,
                "pinball": score.pinball,
                "calibration_error": score.calibration_error,
                "coverage_90": score.coverage_90,
                "targets": score.targets,
            }
            for role, score in by_role.items()
        },
    }


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _fail(text: str, code: int) -> int:
    _say(f"vedette models compress: {text}")
    return code
