"""One life of a daemon: from its newest checkpoint to the end of its feed, or to where it is killed around a swap."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.alert_store import AlertStore
from connectors.json_lines import JsonLinesSink
from models.registry import Registry, StoredModel
from pipeline.alert_keeping import AlertKeeping
from pipeline.alert_spool import AlertSpool
from pipeline.correcting import Rebuilding, RecentFrame
from pipeline.history import HistoryStore
from pipeline.history_rows import KeptStream
from pipeline.history_writing import HistoryWriter
from pipeline.housekeeping import Housekeeping
from pipeline.outputs import Outputs
from pipeline.preparing import Terms
from pipeline.stream import Stream
from pipeline.swapping import ModelWatch
from tests.faults.killing import Countdown, die
from tests.pipeline.daemon_parts import CHANNELS, STEP_US, Rig, blocks_of

_CHECKPOINT_EVERY_S = 4.0
"""Of the clock by hand: every eight steps."""
_LOOK_EVERY_S, _TURN_EVERY_S, _PATIENCE_S = 0.01, 0.001, 60.0
AHEAD = 20
"""Turns that the loop goes on by while the watch's thread makes ready what is ordered; more only on a busy machine."""
_DAY_US = 86_400_000_000


class Stage(StrEnum):
    """Where around a swap a daemon is killed."""

    LOADING = "loading"
    """The watch's thread reads a version from the registry."""
    REBUILDING = "rebuilding"
    """It steps the new network through the recent frames."""
    SWAPPING = "swapping"
    """The loop lets it take charge."""
    SWAPPED = "swapped"
    """It is in charge, and the first outputs and checkpoints under it are written."""
    SHADOWING = "shadowing"
    """It begins to run in shadow, or takes charge from there."""
    GIVING_UP = "giving up"
    """It failed, and the registry is told to roll back."""
    BEGINNING = "beginning"
    """The daemon starts, and puts the champion in charge."""

    @property
    def few(self) -> bool:
        """Whether it has a few places that are tried one after the other; else they are file operations."""
        return self not in (Stage.SWAPPED, Stage.GIVING_UP)


@dataclass(frozen=True, slots=True)
class Kill:
    """The n-th place in a stage."""

    stage: Stage
    n: int

    def __str__(self) -> str:
        return f"killed while {self.stage}, place {self.n}"


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody does to the registry while the daemon runs."""

    version: str
    turn: int
    """Of the loop, after which it is done."""
    in_shadow: bool
    """It is put in shadow first, and promoted once it runs there."""
    ahead: int = AHEAD
    """Turns until the loop waits for it: the feed has an end."""


@dataclass(frozen=True)
class Place:
    """A folder with the state of daemons that live there one after the other, and what they read."""

    folder: Path
    values: NDArray[np.float64]
    """[T, E, C]."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)

    @cached_property
    def registry(self) -> Registry:
        """Where networks come from."""
        return Registry(self.folder / "models")

    @property
    def checkpoints(self) -> Path:
        """Where the daemon goes on from."""
        return self.folder / "checkpoints"

    @property
    def scores(self) -> Path:
        """What was scored."""
        return self.folder / "scores.jsonl"

    @property
    def alerts(self) -> Path:
        """What was said."""
        return self.folder / "alerts.jsonl"

    @property
    def history(self) -> Path:
        """What was seen."""
        return self.folder / "history"

    @property
    def database(self) -> Path:
        """The alert database."""
        return self.folder / "alerts.db"


class Life:
    """A daemon with its housekeeping, in a process that is its own: it changes classes to be killed where it is to."""

    def __init__(self, place: Place, order: Order | None, kill: Kill | None) -> None:
        """Build everything; killed already here where it is to be killed while it begins."""
        self._registry = place.registry
        self._order = order
        self._ordered = False
        self._pace = threading.Event()
        if kill is not None:
            self._arm(kill)
        self.rig = Rig(blocks_of(place.values), place.checkpoints, checkpoint_every_s=_CHECKPOINT_EVERY_S)
        metrics = self.rig.metrics.models
        watch = ModelWatch(place.registry, metrics, every_s=_LOOK_EVERY_S)
        watch.add(self.rig.stream, Terms(STEP_US, (1, 3), "f32", probation=timedelta(days=2)))
        champion = place.registry.champion_version("air") or "linear"
        if self.version != champion:
            raise AssertionError(f"{champion} is in charge by the registry, but the daemon begins with {self.version}")
        self.housekeeping = Housekeeping(
            history=HistoryWriter(
                HistoryStore(str(place.history)), {"air": KeptStream(CHANNELS, STEP_US)}, metrics
            ),
            alerts=AlertKeeping(
                AlertStore(f"sqlite:///{place.database}"), AlertSpool(place.folder / "spool"), metrics,
                retention_us=100 * 365 * _DAY_US,
            ),
            models=watch,
        )  # fmt: skip
        self.rig.daemon.housekeeping = self.housekeeping
        self.rig.daemon.outputs = Outputs([JsonLinesSink(place.alerts)], [JsonLinesSink(place.scores)])

    @property
    def version(self) -> str:
        """Who is in charge here."""
        return self.rig.stream.predictor.model_version

    def run(self) -> None:
        """Live to the end of the feed, and leave in order.

        Raises:
            AssertionError: if the daemon does not come to the registry's champion in the end.
        """
        self.housekeeping.start()
        daemon, turn, since = self.rig.daemon, 0, 0
        while not self.rig.source.exhausted():
            daemon.turn()
            turn += 1
            if self._order is not None and turn >= self._order.turn:
                self._carry_out(self._order)
                since = since + 1 if self._is_awaited(self._order) else 0
                if since > self._order.ahead:
                    self._wait_for(self._order)
            self._pace.wait(_TURN_EVERY_S)  # the watch's thread gets a turn too, as where readings are waited for
        self._wait_for(self._order)
        daemon.finish()
        if daemon.shut_down() != 0:
            raise AssertionError("the daemon could not leave in order")
        self.housekeeping.close()

    def _is_awaited(self, order: Order | None) -> bool:
        """Return whether the registry says what is not yet so here."""
        champion = self._registry.champion_version("air") or "linear"
        return self.version != champion or (
            order is not None and order.in_shadow and champion != order.version and not self._runs_in_shadow(order)
        )

    def _wait_for(self, order: Order | None) -> None:
        """Let no reading come until what the registry says is so here, or is to come about by further readings."""
        until_s = time.monotonic() + _PATIENCE_S
        while self._is_awaited(order):
            self.housekeeping.boundary(self.rig.stream)
            self._pace.wait(_TURN_EVERY_S)
            if time.monotonic() > until_s:
                raise AssertionError(f"the daemon stays with {self.version}")

    def _runs_in_shadow(self, order: Order) -> bool:
        challenger = self.rig.stream.predictor.challenger
        return challenger is not None and challenger.version == order.version

    def _carry_out(self, order: Order) -> None:
        """Do what is ordered, once."""
        if not self._ordered:
            self._ordered = True
            (self._registry.shadow if order.in_shadow else self._registry.promote)("air", order.version)
        runs = order.in_shadow and self._runs_in_shadow(order)
        if runs and self._registry.champion_version("air") != order.version:
            self._registry.promote("air", order.version)

    def _arm(self, kill: Kill) -> None:
        """Have this process die in the place that is meant."""
        n = kill.n
        if kill.stage is Stage.LOADING:
            self._kill_around(Registry, "load", n % 2, lambda: self._ordered and _in_watch())
        elif kill.stage is Stage.REBUILDING:
            self._kill_in_rebuilding(n)
        elif kill.stage is Stage.SWAPPING:
            self._kill_in_swap(n, lambda: self._ordered)
        elif kill.stage is Stage.BEGINNING:
            self._kill_in_swap(n, lambda: True)
        elif kill.stage is Stage.SHADOWING:
            self._kill_around(Stream, ("begin_shadow", "promote_shadow")[n // 2 % 2], n % 2, lambda: self._ordered)
        elif kill.stage is Stage.SWAPPED:
            self._kill_after_swap(n)
        else:
            self._kill_in_rollback(n)

    def _kill_in_swap(self, n: int, when: Callable[[], bool]) -> None:
        """Before the swap, amid it, when the network has seen all but knows not yet whom to believe, or after it."""
        if n % 3 == 1:
            self._kill_around(Rebuilding, "seed", 0, when)
        else:
            self._kill_around(Stream, "swap", n % 3 // 2, when)

    @staticmethod
    def _kill_in_rebuilding(n: int) -> None:
        """After some of the frames."""
        take = Rebuilding.take

        def taking(rebuilding: Rebuilding, frames: Sequence[RecentFrame]) -> None:
            last = _in_watch() and len(frames) > 0
            take(rebuilding, frames[: n % (len(frames) + 1)] if last else frames)
            if last:
                die()

        Rebuilding.take = taking  # type: ignore[method-assign,assignment]

    @staticmethod
    def _kill_in_rollback(n: int) -> None:
        """At a file operation of it, or right after it where there are fewer."""
        countdown, rollback = Countdown(), Registry.rollback

        def rolling_back(registry: Registry, stream: str, **named: Any) -> str:
            countdown.light(n)
            rollback(registry, stream, **named)
            die()

        Registry.rollback = rolling_back  # type: ignore[method-assign,assignment]

    @staticmethod
    def _kill_around(owner: type, name: str, after: int, when: Callable[[], bool]) -> None:
        """Before or after a method's call, once ``when`` holds."""
        method = getattr(owner, name)

        def dying(*args: Any, **named: Any) -> Any:
            if when() and not after:
                die()
            result: StoredModel | None = method(*args, **named)
            if when():
                die()
            return result

        setattr(owner, name, dying)

    def _kill_after_swap(self, n: int) -> None:
        """At a file operation that comes after it."""
        countdown, swap = Countdown(), Stream.swap

        def swapping(stream: Stream, rebuilt: Rebuilding | None, probation_steps: int = 0) -> None:
            swap(stream, rebuilt, probation_steps)
            if self._ordered:
                countdown.light(n)

        Stream.swap = swapping  # type: ignore[method-assign,assignment]


def _in_watch() -> bool:
    return threading.current_thread().name == "model-watch"
