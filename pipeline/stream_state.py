"""A stream's state: everything that is known of its entities, so that it grows with them and moves with a partition.

Legend: n entities in use, k of them meant, C channels, P steps that may still be revised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.detection import Detector
from models.online import OnlineDetector
from models.state import RowState
from pipeline.alerting import Alerting
from pipeline.data_quality import DataQuality
from pipeline.limits import Limits
from pipeline.predicting import Predictor
from pipeline.screen import Screen
from pipeline.shadowing import Shadow
from pipeline.silence import Silence
from pipeline.stuck import Stuck
from pipeline.watermarks import Watermarks
from pipeline.windowing import Windows

_OF_THE_NETWORK = ("trust", "network")
"""Components that mean nothing to another network; the rest does not depend on it."""


@dataclass(slots=True)
class Expected:
    """What was forecast for a frame, at the frame before it."""

    values: NDArray[np.float64]
    """[n, C], NaN where nothing was known."""
    spread: NDArray[np.float32]
    """[n, C], robust standard deviation of the forecast's error."""


@dataclass(slots=True)
class Stages:
    """The stages of one stream, ready made."""

    screen: Screen
    windows: Windows
    watermarks: Watermarks
    predictor: Predictor
    detector: Detector
    cold_start: OnlineDetector
    alerting: Alerting
    limits: Limits
    silence: Silence
    stuck: Stuck
    data_quality: DataQuality

class StreamState:
    """The stages' state as one: taken up, given away and grown together.

    What is known of an entity lies in a row of each stage, its slot. A checkpoint holds a partition's rows and what is
    shared; not the recent frames, and nothing of a challenger in shadow: those are had again within a window of steps.
    """

    def __init__(self, name: str, channels: Sequence[str], stages: Stages, revise_steps: int) -> None:
        """Take the stages ready made, cold; closed steps up to ``revise_steps`` ago may still be revised."""
        self.name = name
        self.channels = tuple(channels)
        self.stages = stages
        self.predictor = stages.predictor
        self.shadow: Shadow | None = None
        self._past: deque[tuple[int, Expected]] = deque(maxlen=revise_steps)
        self._named = 0

    @property
    def entities(self) -> list[str]:
        """Names of the entities by slot."""
        return self.stages.screen.entities

    def end_shadow(self) -> None:
        """Let no challenger run beside the champion any more."""
        self.shadow = None
        self.predictor.challenger = None

    def states(self) -> dict[str, RowState]:
        """Return all per-entity state by component."""
        stages = self.stages
        states = {"screen": stages.screen.state, "windows": stages.windows.state}
        states |= self.predictor.states()
        states |= {f"detector.{name}": state for name, state in stages.detector.states().items()}
        states |= {"alerting": stages.alerting.state, "limits": stages.limits.state}
        states |= {"silence": stages.silence.state, "stuck": stages.stuck.state}
        return states

    def snapshot(self, partition: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the whole state of a partition's entities: what JSON can hold, and arrays with a row per entity.

        The arrays may be views of the live state: to be written or copied before the next step.
        """
        slots = self._slots_of(partition)
        in_order = len(slots) > 0 and slots[-1] == len(slots) - 1
        rows = slice(len(slots)) if in_order else slots  # a view costs nothing, picked rows cost their bytes
        arrays = {
            f"{component}/{name}": array[rows]
            for component, state in self.states().items()
            for name, array in state.arrays.items()
        }
        arrays |= {f"held/{name}": column for name, column in self.stages.windows.held(slots).items()}
        arrays |= self._past_of(slots)
        meta = {
            "stream": self.name,
            "model_version": self.predictor.model_version,
            "entities": [self.entities[slot] for slot in slots],
            "past_steps": [step for step, _ in self._past],
            "shared": {name: part.shared() for name, part in self._sharing().items()},
            "incidents": {
                name: part.rows_shared(slots) for name, part in self._with_incidents().items()
            },
        }
        return meta, arrays

    def restore(self, partition: int, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what ``snapshot`` gave; the entities get new slots here.

        What another network knew of them is left behind: the one in charge begins cold with them and earns its trust.
        """
        self.end_shadow()  # its detector knows nothing of them
        names = meta["entities"]
        fresh = not self.entities
        slots = self.stages.screen.restore_entities(names, [partition] * len(names))
        same_network = meta["model_version"] == self.predictor.model_version
        if fresh and names:
            self._adopt(arrays, same_network)
        self._make_room()
        if not fresh:
            self._copy_in(slots, arrays, same_network)
        if not same_network:
            self.predictor.start_anew(slots)
        if self._past.maxlen and "past/values" in arrays:
            self._restore_past(slots, meta["past_steps"], arrays["past/values"], arrays["past/spread"])
        for name, part in self._sharing().items():
            part.restore_shared(meta["shared"][name])
        held = {name.removeprefix("held/"): column for name, column in arrays.items() if name.startswith("held/")}
        if held:
            self.stages.windows.restore_held(slots, held)
        for name, incidents in self._with_incidents().items():
            incidents.restore_rows_shared(slots, meta["incidents"][name])

    def release(self, partition: int, topic: str = "") -> None:
        """Forget a partition's entities: another process has them now. The others move to fresh slots."""
        partitions = set(np.unique(self.stages.screen.state["partition"][: len(self.entities)]).tolist()) - {partition}
        kept = {}
        for p in partitions:
            meta, arrays = self.snapshot(p)
            kept[p] = meta, {name: array.copy() for name, array in arrays.items()}
        for state in self.states().values():
            state.reset(np.arange(state.capacity))
        self.stages.screen.clear()
        self.stages.windows.clear_held()
        self.stages.watermarks.remove((topic, partition))
        for incidents in self._with_incidents().values():
            incidents.clear()
        self._past.clear()
        self.stages.cold_start.forget(np.arange(len(self.entities)))
        self.end_shadow()
        self.predictor.forget_recent()
        self._named = 0
        for p, (meta, arrays) in kept.items():
            self.restore(p, meta, arrays)

    # ---- inner ----

    def _adopt(self, arrays: Mapping[str, NDArray[Any]], same_network: bool) -> None:
        """Make the saved arrays the state itself, without a copy: there are no other entities."""
        for component, state in self.states().items():
            if component in _OF_THE_NETWORK and not same_network:
                continue
            prefix = f"{component}/"
            state.adopt({name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)})

    def _copy_in(self, slots: NDArray[np.intp], arrays: Mapping[str, NDArray[Any]], same_network: bool) -> None:
        for component, state in self.states().items():
            if component in _OF_THE_NETWORK and not same_network:
                continue
            for name, array in state.arrays.items():
                saved = arrays.get(f"{component}/{name}")
                if saved is not None and saved.shape[1:] == array.shape[1:]:
                    array[slots] = saved

    def _sharing(self) -> dict[str, Any]:
        stages = self.stages
        return {
            "windows": stages.windows,
            "watermarks": stages.watermarks,
            "detector": stages.detector,
            "data_quality": stages.data_quality,
        }

    def _with_incidents(self) -> dict[str, Any]:
        stages = self.stages
        return {
            "alerting": stages.alerting,
            "limits": stages.limits,
            "silence": stages.silence,
            "stuck": stages.stuck,
        }

    def _past_of(self, slots: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Return what was forecast for the steps that may still be revised, [k, P, C] each; {} where none may."""
        if not self._past:
            return {}
        shape = (len(slots), len(self._past), len(self.channels))
        values, spread = np.full(shape, np.nan), np.ones(shape, np.float32)
        for p, (_, expected) in enumerate(self._past):
            known = slots < len(expected.values)
            values[known, p], spread[known, p] = expected.values[slots[known]], expected.spread[slots[known]]
        return {"past/values": values, "past/spread": spread}

    def _restore_past(
        self, slots: NDArray[np.intp], steps: Sequence[int], values: NDArray[np.float64], spread: NDArray[np.float32]
    ) -> None:
        past = dict(self._past)
        for p, step in enumerate(steps):
            n, C = int(slots.max(initial=-1)) + 1, len(self.channels)
            mine = past.setdefault(step, Expected(np.empty((0, C)), np.empty((0, C), np.float32)))
            missing = ((0, max(0, n - len(mine.values))), (0, 0))
            mine.values = np.pad(mine.values, missing, constant_values=np.nan)
            mine.spread = np.pad(mine.spread, missing, constant_values=1.0)
            mine.values[slots], mine.spread[slots] = values[:, p], spread[:, p]
        self._past = deque(sorted(past.items(), key=lambda item: item[0]), maxlen=self._past.maxlen)

    def _slots_of(self, partition: int) -> NDArray[np.intp]:
        return self.stages.screen.rows_of(partition)

    def _make_room(self) -> None:
        """Let every stage grow to the number of entities, by doubling."""
        n = len(self.entities)
        if n > self._named:
            for part in (
                self.stages.windows,
                self.predictor,
                self.stages.detector,
                self.stages.alerting,
                self.stages.limits,
                self.stages.silence,
                self.stages.stuck,
            ):
                part.grow(self.stages.screen.state.capacity)
            if self.shadow is not None:
                self.shadow.grow(self.stages.screen.state.capacity)
            self.predictor.name_entities(self._named, self.entities)
            self._named = n
