"""Predict: the forecast of each entity's next frames, by the linear forecaster and the network that corrects it.

Legend: n entities in use, C channels, N horizons, K neighbours, I network inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.attention import AttentionPosition
from models.features import build_inputs, input_width
from models.linear import LinearForecaster
from models.state import RowState
from models.streaming import StreamingAttentionLSTM
from models.weights import Weights

NeighboursOf = Callable[[Sequence[str]], NDArray[np.int32]]
"""From all names by slot to [n, K] slots of each one's neighbours, -1 for none."""

# Memory of the two error means that decide whom to trust: long enough that a network must be better for days, short
# enough that one that has gone stale is dropped within days.
_TRUST_GAIN = 1.0 / 200.0
# Errors beyond this many spreads count as this many: an anomaly says nothing about which forecaster is better.
_ERROR_CLIP = 6.0
# A new network starts this much worse than the linear forecast: it needs a run of better forecasts to be believed.
_HEAD_START = 1.02


class Predictor:
    """Forecasts every entity's channels at the next steps; knows what it expected when a frame comes.

    The network's correction is used for an entity's channel only while it has lately been better than the linear
    forecast alone there, so an untrained, stale or misled network cannot make the forecast worse for long.
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
        self.network: StreamingAttentionLSTM | None = None
        self.model_version = "linear"
        self.neighbours = np.full((capacity, 0), -1, np.int32)
        self._recent: deque[tuple[int, NDArray[np.float32], NDArray[np.int32]]] = deque(maxlen=replay_steps)
        self._embedding_ids: dict[str, int] = {}
        self._neighbours_of: NeighboursOf | None = None
        self.state = RowState(capacity)
        N = len(self.horizons)
        self.state.add("forecast", (channels, N), np.float64, np.nan)
        self.state.add("spread", (channels, N), np.float32, 1.0)
        self.state.add("linear_next", (channels,), np.float64, np.nan)
        self.state.add("network_next", (channels,), np.float64, np.nan)
        self.state.add("linear_error", (channels,), np.float32, 1.0)
        self.state.add("network_error", (channels,), np.float32, 1.0)
        self.state.add("embedding", (), np.int32, 0)

    def states(self) -> dict[str, RowState]:
        """Return all per-entity state, by name."""
        states = {"predictor": self.state, "linear": self.linear.state}
        if self.network is not None:
            states["network"] = self.network.state
        return states

    def grow(self, capacity: int) -> None:
        """Make room for more entities."""
        self.state.grow(capacity)
        self.linear.grow(capacity)
        if self.network is not None:
            self.network.grow(capacity)
        missing = capacity - len(self.neighbours)
        if missing > 0:
            self.neighbours = np.pad(self.neighbours, ((0, missing), (0, 0)), constant_values=-1)

    def expected(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return what was forecast for the coming frame: [n, C] values (NaN: nothing known) and their spread."""
        return self.state["forecast"][:n, :, 0], self.state["spread"][:n, :, 0]

    def forecast(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return the newest forecast and its spread, [n, C, N] each."""
        return self.state["forecast"][:n], self.state["spread"][:n]

    def adopt(
        self,
        weights: Weights,
        version: str,
        names: Sequence[str],
        embedding_ids: Mapping[str, int] | None = None,
        neighbours_of: NeighboursOf | None = None,
        ring: Literal["f32", "bf16"] = "f32",
    ) -> None:
        """Put a network in charge of the correction; its hidden states are rebuilt from the recent frames.

        Nothing else changes: forecasts, spreads and scores go on; the network earns trust anew from its first forecast.

        Args:
            weights: of the network.
            version: what it is called in messages.
            names: of the entities in use, by slot.
            embedding_ids: entity to row of the embedding; others are unknown to it.
            neighbours_of: whose states each entity looks at; None: nobody's.
            ring: how past states are held.
        """
        network = StreamingAttentionLSTM(weights, self.state.capacity, ring_dtype=ring)
        self.neighbours = np.full((self.state.capacity, weights.sizes.neighbours), -1, np.int32)
        self._embedding_ids = dict(embedding_ids or {})
        self._neighbours_of = neighbours_of
        self.name_entities(0, names)
        self.model_version = version
        self.state["network_error"][...] = self.state["linear_error"] * np.float32(_HEAD_START)
        self.state["network_next"][...] = np.nan
        for step, inputs, admit in self._recent:
            n = len(inputs)
            network.step(inputs, step, self.neighbours[:n], admit, self.state["embedding"][:n])
        self.network = network

    def name_entities(self, first_slot: int, names: Sequence[str]) -> None:
        """Tell the names of all entities, of which those from ``first_slot`` on are new: so each gets its embedding,
        and all the neighbours that the network was trained with, as far as they are here."""
        self.state["embedding"][first_slot : len(names)] = [self._embedding_ids.get(n, 0) for n in names[first_slot:]]
        if self._neighbours_of is not None and self.neighbours.shape[1] > 0:
            self.neighbours[: len(names)] = self._neighbours_of(names)

    def start_anew(self, rows: NDArray[np.intp]) -> None:
        """Let the network earn its trust anew for ``rows``: what is known of it was said by another network."""
        self.state["network_error"][rows] = self.state["linear_error"][rows] * np.float32(_HEAD_START)
        self.state["network_next"][rows] = np.nan

    def forget_recent(self) -> None:
        """Forget the frames that a new network's states would be rebuilt from: slots are about to get new meanings."""
        self._recent.clear()

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
            admit: [n] slot of the network's memory of examples that this step's state goes to; -1 for none.
        """
        n = len(values)
        self._compare(values, learn, n)
        self.linear.update(values, learn)
        linear = self.linear.forecast(n)
        spread = self.linear.spread(n)
        inputs = self._inputs(values, time_us, n)
        self._recent.append((step, inputs, admit))
        forecast = linear
        if self.network is not None:
            correction = self.network.step(inputs, step, self.neighbours[:n], admit, self.state["embedding"][:n])
            corrected = linear + correction * spread
            self.state["network_next"][:n] = corrected[:, :, 0]
            trusted = self.state["network_error"][:n] < self.state["linear_error"][:n]
            forecast = np.where(trusted[:, :, None], corrected, linear)
            gain = np.where(trusted, self.state["network_error"][:n] / self.state["linear_error"][:n], 1.0)
            spread = spread * np.maximum(gain, 0.5)[:, :, None].astype(np.float32)
        self.state["linear_next"][:n] = linear[:, :, 0]
        self.state["forecast"][:n] = forecast
        self.state["spread"][:n] = spread

    def trusted_share(self, n: int) -> float:
        """Return the share of entity-channels whose forecast the network corrects now; NaN without entities."""
        if self.network is None or n == 0:
            return 0.0
        return float(np.mean(self.state["network_error"][:n] < self.state["linear_error"][:n]))

    def attention(self, rows: NDArray[np.intp]) -> NDArray[np.float32] | None:
        """Return [k, M] weights, the mean over heads, that the newest forecast of ``rows`` gave to its memories."""
        if self.network is None:
            return None
        return np.asarray(self.network.attention(rows).mean(axis=1), np.float32)

    def positions(self) -> list[AttentionPosition]:
        """Return what each of the M memory positions is; empty without a network."""
        return [] if self.network is None else self.network.positions()

    def _inputs(self, values: NDArray[np.float64], time_us: int, n: int) -> NDArray[np.float32]:
        out = np.empty((n, input_width(self.channels)), np.float32)
        return build_inputs(
            self.linear.level_z(n),
            self.linear.diff_z(n),
            ~np.isnan(values),
            time_us,
            self.neighbours[:n],
            out,
        )

    def _compare(self, values: NDArray[np.float64], learn: NDArray[np.bool_], n: int) -> None:
        """Move the error means of the two forecasters by what came, where both had forecast."""
        scale = self.state["spread"][:n, :, 0]
        linear = np.minimum(np.abs(values - self.state["linear_next"][:n]) / scale, _ERROR_CLIP)
        pairs = [("linear_error", linear)]
        both = learn & ~np.isnan(linear)
        if self.network is not None:
            network = np.minimum(np.abs(values - self.state["network_next"][:n]) / scale, _ERROR_CLIP)
            pairs.append(("network_error", network))
            both &= ~np.isnan(network)
        for name, error in pairs:
            mean = self.state[name][:n]
            mean[both] += np.float32(_TRUST_GAIN) * (error[both] - mean[both]).astype(np.float32)
