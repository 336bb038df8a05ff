"""Predict: the forecast of each entity's next frames, by the linear forecaster and the network that corrects it.

Legend: n entities in use, k of them meant, C channels, N horizons, K neighbours, I network inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from models.attention import AttentionPosition
from models.features import build_inputs, input_width
from models.linear import LinearForecaster
from models.out_of_memory import is_out_of_memory
from models.state import RowState
from models.streaming import StreamingAttentionLSTM
from models.weights import Weights
from pipeline.correcting import (
    ERROR_CLIP,
    BrokenNetworkError,
    Correction,
    NeighboursOf,
    Rebuilding,
    Recent,
    RecentFrame,
)
from pipeline.probation import Failing, Failure

log = structlog.get_logger("vedette.predicting")

LINEAR = "linear"
"""The version of a forecast without a network."""
_ERROR_GAIN = 1.0 / 200.0
"""Memory of the linear forecast's mean error: that of the networks' trust."""
_FAR = 1e6
"""Spreads; a forecast that is off by more is off by so many."""


class Predictor:
    """Forecasts every entity's channels at the next steps; knows what it expected when a frame comes.

    The linear forecaster is always there. A network in charge, the champion, corrects it where it is believed
    (``Correction``); another one in shadow, the challenger, is stepped beside it and changes nothing. A network that
    fails is let go within the step and told of by ``take_failures``; the forecast of that step is the linear one. So it
    is of a step that there was no memory for; but that says nothing about the network, which goes on at the next one.
    """

    def __init__(self, capacity: int, channels: int, horizons: Sequence[int], step_s: float, replay_steps: int) -> None:
        """Make a cold predictor without a network.

        Args:
            capacity: entity slots to begin with.
            channels: C.
            horizons: steps ahead, ascending; the first must be 1.
            step_s: seconds of a step.
            replay_steps: how many recent frames' inputs are kept to rebuild hidden states when a network takes over.
        """
        self.channels = channels
        self.horizons = tuple(horizons)
        self.linear = LinearForecaster(capacity, channels, self.horizons, step_s)
        self.champion: Correction | None = None
        self.challenger: Correction | None = None
        self.recent = Recent(0, capacity, (), ())
        self._replay_steps = replay_steps
        self._failures: list[Failure] = []
        self._starved: dict[str, int] = {}
        """Steps that each network has missed in a row for want of memory, by version."""
        self.steps_missed = 0
        """Steps that networks missed for want of memory, since the start."""
        self._outgoing: tuple[Correction | None] | None = None
        """Between a swap and the next frame: whose correction, if any, is in the newest forecast."""
        self._nobody = np.empty((capacity, 0), np.int32)
        self.state = RowState(capacity)
        N = len(self.horizons)
        self.state.add("forecast", (channels, N), np.float64, np.nan)
        self.state.add("spread", (channels, N), np.float32, 1.0)
        self.state.add("linear_next", (channels,), np.float64, np.nan)
        self.state.add("linear_spread", (channels,), np.float32, 1.0)
        self.state.add("linear_error", (channels,), np.float32, 1.0)

    @property
    def model_version(self) -> str:
        """Who is in charge of the correction."""
        champion = self.champion
        return LINEAR if champion is None else champion.version

    @property
    def forecast_version(self) -> str:
        """Who made the newest forecast; after a swap that is still who was in charge before, for one frame."""
        speaker = self._speaker()
        return LINEAR if speaker is None else speaker.version

    @property
    def network(self) -> StreamingAttentionLSTM | None:
        """The network in charge."""
        return None if self.champion is None else self.champion.network

    @property
    def neighbours(self) -> NDArray[np.int32]:
        """[capacity, K] slots of each entity's neighbours, as the network saw them that made the newest forecast."""
        speaker = self._speaker()
        return self._nobody if speaker is None else speaker.neighbours

    def states(self) -> dict[str, RowState]:
        """Return all per-entity state, by name; ``trust`` and ``network`` mean nothing to another network."""
        states = {"predictor": self.state, "linear": self.linear.state}
        if self.champion is not None:
            states |= {"trust": self.champion.trust, "network": self.champion.network.state}
        return states

    def grow(self, capacity: int) -> None:
        """Make room for more entities."""
        self.state.grow(capacity)
        self.linear.grow(capacity)
        for correction in {self.champion, self.challenger, self._speaker()} - {None}:
            assert correction is not None
            correction.grow(capacity)
        self._nobody = np.empty((max(capacity, len(self._nobody)), 0), np.int32)
        self.recent = replace(self.recent, capacity=self.state.capacity)

    def expected(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return what was forecast for the coming frame: [n, C] values (NaN: nothing known) and their spread."""
        return self.state["forecast"][:n, :, 0], self.state["spread"][:n, :, 0]

    def expected_in_shadow(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return what would have been forecast for the coming frame with the challenger in charge, [n, C] each."""
        linear, spread = self.state["linear_next"][:n], self.state["linear_spread"][:n]
        if self.challenger is None:
            return linear, spread
        correction = self.challenger.trust["next"][:n]
        values, spreads = self.challenger.applied(correction[:, :, None], linear[:, :, None], spread[:, :, None])
        said = ~np.isnan(correction)  # it says nothing after a step that it missed
        return np.where(said, values[:, :, 0], linear), np.where(said, spreads[:, :, 0], spread)

    def forecast(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return the newest forecast and its spread, [n, C, N] each."""
        return self.state["forecast"][:n], self.state["spread"][:n]

    def linear_miss(self, rows: NDArray[np.intp] | slice, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return [k, C] by how many of its spreads the linear forecast for the coming frame is off for ``rows``.

        Args:
            rows: k slots.
            values: [k, C] of that frame; NaN where missing, and so is what is returned.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            miss = (values - self.state["linear_next"][rows]) / self.state["linear_spread"][rows]
        return np.clip(miss, -_FAR, _FAR).astype(np.float32)

    # ---- who corrects ----

    def adopt(
        self,
        weights: Weights,
        version: str,
        names: Sequence[str],
        embedding_ids: Mapping[str, int] | None = None,
        neighbours_of: NeighboursOf | None = None,
        ring: Literal["f32", "bf16"] = "f32",
    ) -> None:
        """Put a network in charge now; its hidden states are rebuilt from the recent frames, and so is its trust.

        Nothing else changes: forecasts, spreads and scores go on. Takes as long as the frames are many; a daemon
        rebuilds beside the loop instead and calls ``take_charge``.

        Args:
            weights: of the network.
            version: what it is called in messages.
            names: of the entities in use, by slot.
            embedding_ids: entity to row of the embedding; others are unknown to it.
            neighbours_of: whose states each entity looks at; None: nobody's.
            ring: how past states are held.
        """
        self.recent = replace(self.recent, names=tuple(names))
        correction = Correction(
            weights, version, self.state.capacity, embedding_ids=embedding_ids, neighbours_of=neighbours_of, ring=ring
        )
        self.take_charge(Rebuilding(correction, self.recent))

    def take_charge(self, rebuilding: Rebuilding) -> None:
        """Put a rebuilt network in charge, after the frames that it has not seen yet; forecasts made already stay.

        Raises:
            BrokenNetworkError: if it fails on those frames; the one in charge stays.
            ValueError: if it was rebuilt from frames that are gone.
        """
        self._put_in_charge(self._brought_up(rebuilding))

    def shadow(self, rebuilding: Rebuilding) -> None:
        """Let a rebuilt network run beside the one in charge; raises as ``take_charge`` does."""
        self.challenger = self._brought_up(rebuilding)

    def promote_shadow(self) -> None:
        """Put the challenger in charge as it is, with the states and the trust that it has; there is none after it."""
        self._put_in_charge(self.challenger)
        self.challenger = None

    def let_go(self) -> None:
        """Go on without a network in charge: the forecast is the linear one from the next step on."""
        self._put_in_charge(None)

    def _put_in_charge(self, correction: Correction | None) -> None:
        if self.recent.frames and self._outgoing is None:
            self._outgoing = (self.champion,)
        self.champion = correction

    def _speaker(self) -> Correction | None:
        """Return whose correction is in the newest forecast."""
        return self.champion if self._outgoing is None else self._outgoing[0]

    def _brought_up(self, rebuilding: Rebuilding) -> Correction:
        missing = rebuilding.missing(self.recent)
        if missing is None:
            raise ValueError(f"version {rebuilding.correction.version} was rebuilt from frames that are gone")
        rebuilding.take(missing)
        correction, names = rebuilding.correction, self.recent.names
        correction.grow(self.state.capacity)
        if len(names) > rebuilding.named:
            correction.name_entities(rebuilding.named, names)
        n = len(self.recent.frames[-1].inputs) if self.recent.frames else 0
        rebuilding.seed(self.state["linear_error"][:n])
        return correction

    def name_entities(self, first_slot: int, names: Sequence[str]) -> None:
        """Tell the names of all entities, of which those from ``first_slot`` on are new."""
        self.recent = replace(self.recent, names=tuple(names))
        for correction in (self.champion, self.challenger):
            if correction is not None:
                correction.name_entities(first_slot, names)

    def start_anew(self, rows: NDArray[np.intp]) -> None:
        """Let the network earn its trust anew for ``rows``: what is known of it was said by another network."""
        if self.champion is not None:
            self.champion.start_anew(rows, self.state["linear_error"][rows])

    def forget_recent(self) -> None:
        """Forget the frames that a new network's states would be rebuilt from: slots are about to get new meanings."""
        self.recent = replace(self.recent, epoch=self.recent.epoch + 1, frames=(), names=())
        self._outgoing = None

    # ---- a step ----

    def observe(
        self,
        values: NDArray[np.float64],
        learn: NDArray[np.bool_],
        step: int,
        time_us: int,
        admit: NDArray[np.int32],
    ) -> None:
        """Learn from the frame that came and forecast the next ones.

        Args:
            values: [n, C], NaN where missing.
            learn: [n, C], where the value may be learned from.
            step: index of the frame.
            time_us: its end.
            admit: [n] slot of the network's memory of examples that this step's state goes to; -1 for none. Kept.
        """
        n = len(values)
        miss = self._compare(values, learn, n)
        self.linear.update(values, learn)
        linear, spread = self.linear.forecast(n), self.linear.spread(n)
        self.state["linear_next"][:n], self.state["linear_spread"][:n] = linear[:, :, 0], spread[:, :, 0]
        frame = RecentFrame(step, time_us, self._inputs(values, time_us, n), miss, admit)
        self.recent = replace(self.recent, frames=(*self.recent.frames, frame)[-self._replay_steps :])
        correction = self._stepped(self.champion, frame)
        if self.champion is not None and correction is not None:
            linear, spread = self.champion.applied(correction, linear, spread)
        self._outgoing = (None,) if self.champion is not None and correction is None else None
        self._stepped(self.challenger, frame)
        self.state["forecast"][:n] = linear
        self.state["spread"][:n] = spread

    def _compare(self, values: NDArray[np.float64], learn: NDArray[np.bool_], n: int) -> NDArray[np.float32]:
        """Return [n, C] how far the linear forecast was off, NaN where there is nothing to learn; move all means."""
        miss = self.linear_miss(slice(n), values)
        miss[~learn] = np.nan
        mean = self.state["linear_error"][:n]
        error = np.minimum(np.abs(miss), np.float32(ERROR_CLIP))
        mean += np.float32(_ERROR_GAIN) * np.where(np.isnan(error), np.float32(0.0), error - mean)
        for correction in (self.champion, self.challenger):
            if correction is not None:
                correction.compare(miss)
        return miss

    def _stepped(self, correction: Correction | None, frame: RecentFrame) -> NDArray[np.float32] | None:
        """Return what a network says, None where there is none; lets one go that fails, whatever the reason."""
        if correction is None:
            return None
        try:
            said = correction.step(frame)
        except BrokenNetworkError as error:
            self.fail(Failure(correction.version, Failing.NAN, str(error)))
        except Exception as error:
            if is_out_of_memory(error):
                self._miss_step(correction, frame, error)
            else:
                # Weights come from files and a broken one must not silence a monitor, so nothing is let through here.
                self.fail(Failure(correction.version, Failing.EXCEPTION, f"{type(error).__name__}: {error}"))
        else:
            if self._starved and (missed := self._starved.pop(correction.version, 0)):
                log.info("there is memory for the network again", version=correction.version, steps_missed=missed)
            return said
        return None

    def _miss_step(self, correction: Correction, frame: RecentFrame, error: Exception) -> None:
        """Go on without a network in the step that there was no memory for; said once until there is some again."""
        correction.say_nothing(len(frame.inputs))
        self.steps_missed += 1
        missed = self._starved.get(correction.version, 0)
        self._starved = {correction.version: missed + 1} | self._starved_of_others(correction)
        if not missed:
            log.warning(
                "no memory for a network's step; the linear forecast stands in, and each step tries again",
                version=correction.version, step=frame.step, error=f"{type(error).__name__}: {error}",
            )  # fmt: skip

    def _starved_of_others(self, correction: Correction) -> dict[str, int]:
        """Return what the other network that runs has missed; those that are gone are forgotten."""
        others = {c.version for c in (self.champion, self.challenger) if c is not None and c is not correction}
        return {version: missed for version, missed in self._starved.items() if version in others}

    def fail(self, failure: Failure) -> None:
        """Let the network go that has failed; the linear forecast stands in from here on."""
        log.error("a network failed and was let go", version=failure.version, reason=failure.reason, why=failure.detail)
        self._failures.append(failure)
        if self.champion is not None and self.champion.version == failure.version:
            self.champion = self._outgoing = None
            self.state["forecast"][:, :, 0] = self.state["linear_next"]
            self.state["spread"][:, :, 0] = self.state["linear_spread"]
        if self.challenger is not None and self.challenger.version == failure.version:
            self.challenger = None

    def take_failures(self) -> list[Failure]:
        """Return the failures since this was asked last."""
        failures, self._failures = self._failures, []
        return failures

    # ---- what is known of it ----

    def trusted_share(self, n: int) -> float:
        """Return the share of entity-channels whose forecast the network corrects now; 0 without any."""
        if self.champion is None or n == 0:
            return 0.0
        return float(np.mean(self.champion.trusted(n)))

    def losses(self, n: int) -> dict[str, float]:
        """Return the lately mean absolute errors, in the linear forecast's spreads, of all who forecast."""
        if n == 0:
            return {}
        losses = {"linear": float(self.state["linear_error"][:n].mean())}
        for role, correction in (("champion", self.champion), ("challenger", self.challenger)):
            if correction is not None:
                # Each is measured against the linear forecast over its own comparisons; that puts all on one scale.
                losses[role] = float((correction.ratio(n) * self.state["linear_error"][:n]).mean())
        return losses

    def attention(self, rows: NDArray[np.intp]) -> NDArray[np.float32] | None:
        """Return [k, M] weights, the mean over heads, that the newest forecast of ``rows`` gave to its memories."""
        speaker = self._speaker()
        if speaker is None:
            return None
        return np.asarray(speaker.network.attention(rows).mean(axis=1), np.float32)

    def positions(self) -> list[AttentionPosition]:
        """Return what each of the M memory positions is; empty without a network."""
        speaker = self._speaker()
        return [] if speaker is None else speaker.network.positions()

    def _inputs(self, values: NDArray[np.float64], time_us: int, n: int) -> NDArray[np.float32]:
        """Return [n, I] what every network is told of the frame; each adds its own neighbours."""
        out = np.empty((n, input_width(self.channels)), np.float32)
        return build_inputs(
            self.linear.level_z(n), self.linear.diff_z(n), ~np.isnan(values), time_us, self._nobody[:n], out
        )
