"""Retraining: what a stream's network is trained on, when, and how it takes over within a run.

Legend: n entities, T steps, C channels, K neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import structlog
from numpy.typing import NDArray
from rich.progress import Progress

from models.attention import AttentionProgram, LagWeight, SeasonalLag
from models.learning import Architecture, Learned, learn
from models.training_options import TooLittleHistoryError, TrainingOptions
from pipeline.config_streams import ModelConfig, StreamConfig
from pipeline.frames import Frames
from pipeline.predicting import Predictor

log = structlog.get_logger("vedette.retraining")

_LEAST_STEPS = 400
"""Fewer steps than this teach a network nothing that the linear forecaster does not know."""


def architecture_of(config: StreamConfig) -> Architecture:
    """Return the network that ``config`` asks for."""
    model, attention = config.model, config.model.attention
    seasonal = tuple(SeasonalLag(round(lag / config.step)) for lag in attention.seasonal_lags if lag >= config.step)
    recent = tuple(
        LagWeight(1, min(model.window, max(1, round(r.within / config.step))), r.weight) for r in attention.recent
    )
    return Architecture(
        horizons=config.horizons,
        hidden=model.hidden,
        window=model.window,
        kind=attention.kind,
        heads=attention.heads,
        examples=attention.examples,
        dropout=model.train.dropout,
        program=AttentionProgram(seasonal, recent),
    )


def options_of(config: ModelConfig, seed: int, threads: int = 1) -> TrainingOptions:
    """Return the training that ``config`` asks for, with so many threads of torch."""
    t = config.train
    return TrainingOptions(
        epochs=t.epochs,
        chunk=t.sequence,
        sequences=t.batch,
        learning_rate=t.learning_rate,
        weight_decay=t.weight_decay,
        missing=t.mask,
        jitter=t.jitter,
        validation=t.validation,
        patience=t.patience,
        threads=threads,
        seed=seed,
        device=t.device,
    )


class FrameHistory:
    """The frames of a run, in memory, as training wants them; bounded to the newest ``max_steps``."""

    def __init__(self, max_steps: int = 200_000) -> None:
        self._max_steps = max_steps
        self._values: list[NDArray[np.float64]] = []
        self._learn: list[NDArray[np.bool_]] = []
        self._last_step = 0

    def __len__(self) -> int:
        return len(self._values)

    def add(self, frames: Frames, suspect: NDArray[np.bool_]) -> None:
        """Keep a frame; ``suspect`` [n] are the entities whose values are not to be learned from now."""
        self._values.append(frames.values.copy())
        self._learn.append(frames.learn & ~suspect[:, None])
        self._last_step = frames.step
        if len(self._values) > self._max_steps:
            del self._values[: self._max_steps // 10], self._learn[: self._max_steps // 10]

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
        """Return values [n, T, C], learn [n, T, C] and the index of the first step; late-comers are NaN before."""
        n = max(len(v) for v in self._values)
        shape = (n, len(self._values), self._values[0].shape[1])
        values, learn = np.full(shape, np.nan), np.zeros(shape, np.bool_)
        for t, (v, may) in enumerate(zip(self._values, self._learn, strict=True)):
            values[: len(v), t], learn[: len(v), t] = v, may
        return values, learn, self._last_step - len(self._values) + 1


class InRunTraining:
    """Trains a stream's network from the run's own past and puts it in charge, at a step boundary.

    For backtests and the demo, where waiting for it is right: it runs in the loop's thread.
    """

    def __init__(
        self,
        config: StreamConfig,
        *,
        seed: int,
        first_after: int,
        every: int | None = None,
        progress: Progress | None = None,
        on_trained: Callable[[Learned, str], None] = lambda learned, version: None,
    ) -> None:
        """Train after ``first_after`` steps, then ``every`` so many steps (None: never again).

        Args:
            config: of the stream.
            seed: of all that is random in it.
            first_after: steps; fewer than 400 are too few, then it waits for 400 if it trains again, else not at all.
            every: steps between trainings.
            progress: shows a bar.
            on_trained: called with each network that took charge, and its version.
        """
        self._config = config
        self._architecture = architecture_of(config)
        self._options = options_of(config.model, seed)
        self._due = first_after
        self._every = every
        self._progress = progress
        self._on_trained = on_trained
        self._history = FrameHistory()
        self._steps = 0
        self._versions = 0

    def step(self, predictor: Predictor, entities: Sequence[str], frames: Frames, level: NDArray[np.int8]) -> None:
        """Take a closed frame; train if it is time. Frames of open alerts are not learned from."""
        self._history.add(frames, level[: len(frames.values)] >= 2)
        self._steps += 1
        if self._steps == self._due:
            if self._every is not None:
                self._due += self._every
            self._train(predictor, entities)

    def _train(self, predictor: Predictor, entities: Sequence[str]) -> None:
        values, may, step0 = self._history.arrays()
        if values.shape[1] < _LEAST_STEPS:
            log.info("too little history to train on", stream=self._config.name, steps=values.shape[1])
            return
        names = list(entities[: len(values)])
        bar = None
        if self._progress is not None:
            bar = self._progress.add_task(f"training {self._config.name}", total=self._options.epochs)

        def show(epoch: int, epochs: int, train_loss: float, validation_loss: float, baseline: float) -> None:
            if self._progress is not None and bar is not None:
                gain = 100.0 * (1.0 - validation_loss / baseline) if baseline > 0 else 0.0
                text = f"training {self._config.name}: loss {train_loss:.3f}, {gain:+.1f} % against linear"
                self._progress.update(bar, completed=epoch, total=epochs, description=text)

        neighbours = named_neighbours(self._config.model, names)
        try:
            learned = learn(
                values, may, step0, self._config.step_us, names, self._architecture, self._options,
                neighbours, self._config.model.neighbours.k, show,
            )  # fmt: skip
        except TooLittleHistoryError as error:
            log.info("too little history to train on", stream=self._config.name, error=str(error))
            return
        finally:
            if self._progress is not None and bar is not None:
                self._progress.remove_task(bar)
        report = learned.report
        log.info("trained", stream=self._config.name, gain=round(report.gain, 4), seconds=round(report.seconds, 1))
        if not report.worthwhile:
            return
        self._versions += 1
        version = f"attention-lstm-{self._versions}"
        predictor.adopt(
            learned.weights, version, entities, learned.embedding_ids, learned.neighbours_of, self._config.model.ring
        )
        self._on_trained(learned, version)


def named_neighbours(config: ModelConfig, names: Sequence[str]) -> NDArray[np.int32] | None:
    """Return [n, K] the rows of the neighbours that the configuration names; None when it names none."""
    listed = config.neighbours.map
    if not listed:
        return None
    rows = {name: i for i, name in enumerate(names)}
    K = max(len(v) for v in listed.values())
    neighbours = np.full((len(names), K), -1, np.int32)
    for name, others in listed.items():
        if name in rows:
            known = [rows[o] for o in others if o in rows]
            neighbours[rows[name], : len(known)] = known
    return neighbours
