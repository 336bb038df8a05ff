"""Succession: how one stream's network gives way to another while readings flow.

Two threads meet here. The watch's thread calls ``look``: it asks the registry, loads, checks and rebuilds, and leaves
what is ready in an attribute. The loop calls ``turn`` between two frames: it takes what lies there, and tells of what
failed by a queue. Each attribute has one reader and one writer and is replaced as a whole, so there is no lock for the
loop to wait at; what is lost where both write at once is made again at the next look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue

import structlog

from models.out_of_memory import is_out_of_memory
from models.registry import LINEAR, ChampionChangedError, Registry, RegistryError
from pipeline.correcting import BrokenNetworkError, Correction, Rebuilding
from pipeline.metrics_models import ModelMetrics
from pipeline.preparing import Preparing, Terms
from pipeline.probation import Failing, Failure
from pipeline.stream import Stream

log = structlog.get_logger("vedette.swapping")

# Frames that the loop itself may step a new network through; where more came, the thread goes on.
_MOST_AT_THE_BOUNDARY = 4


@dataclass(frozen=True, slots=True)
class Order:
    """A version that can take over at the next step boundary."""

    version: str
    rebuilt: Rebuilding | None = None
    """None: it is the challenger, which runs already; or there is to be no network."""
    created_s: float | None = None
    """When it was trained, seconds since 1970 UTC."""
    probation_steps: int = 0


class Succession:
    """Who corrects one stream's forecasts now, and who is to; ``look`` and ``turn`` never raise."""

    def __init__(
        self,
        stream: Stream,
        terms: Terms,
        registry: Registry,
        metrics: ModelMetrics,
        now: Callable[[], datetime],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin with who is in charge of ``stream`` now; ``wake`` asks for a look soon."""
        self.stream = stream
        self._registry = registry
        self._metrics = metrics
        self._preparing = Preparing(stream, terms, registry, now)
        self._wake = wake
        self._notices: SimpleQueue[Failure | Order | Correction] = SimpleQueue()
        self._next: Order | None = None
        self._next_shadow: Order | None = None
        # Of the thread:
        self._pointer = stream.predictor.model_version
        self._shadow_pointer: str | None = None
        self._previous = LINEAR
        self._to_give_up: list[Failure] = []
        self._given_up: set[str] = set()
        self._said: dict[str, str] = {}
        # Of the loop:
        self._shown: str | None = None
        self._measured: int | None = None
        self._shadow_shown = False
        self._missed = 0

    def begin(self) -> None:
        """Put the registry's champion in charge at once, before there are readings; without one, or where it cannot be
        used, the linear forecast does."""
        self._ask()
        if self._pointer != LINEAR:
            order = self._prepared(self._pointer, self._preparing.probation_steps(self._pointer))
            if order is not None:
                self._swap(order)
        self._show()

    # ---- the thread's side ----

    def look(self) -> None:
        """Ask the registry once, and have ready what is to change."""
        self._hear()
        self._give_up()
        self._ask()
        self._look_at_champion()
        self._look_at_shadow()
        self._give_up()
        self._preparing.forget_others(
            {self.stream.predictor.model_version, self._previous, self._pointer, self._shadow_pointer}
        )

    def _hear(self) -> None:
        """Take the loop's notices; networks that come back from it are done with, and freed here."""
        try:
            while True:
                notice = self._notices.get_nowait()
                if isinstance(notice, Failure):
                    self._failed(notice)
                elif isinstance(notice, Order) and notice.rebuilt is not None:
                    self._preparing.take_back(notice.rebuilt)
        except Empty:
            pass

    def _failed(self, failure: Failure) -> None:
        self._given_up.add(failure.version)
        self._to_give_up.append(failure)

    def _give_up(self) -> None:
        """Tell the registry of what has failed, until it has heard."""
        for failure in list(self._to_give_up):
            reason, name = f"{failure.reason}: {failure.detail}", self.stream.name
            try:
                if self._registry.champion_version(name) == failure.version:
                    heir = self._registry.rollback(name, reason=reason, by="daemon", only_if=failure.version)
                    log.warning("rolled back", stream=name, version=failure.version, to=heir, reason=reason)
                else:
                    self._registry.bar(name, failure.version, reason)
                    log.warning("barred", stream=name, version=failure.version, reason=reason)
            except ChampionChangedError:
                return  # somebody was quicker; the next look sees by whom
            except RegistryError as error:
                self._complain("rollback", "a version that failed could not be given up yet", error)
                return
            self._to_give_up.remove(failure)
            self._said.pop("rollback", None)

    def _ask(self) -> None:
        """Ask who is in charge and who is in shadow; what cannot be asked stays as it was."""
        name = self.stream.name
        try:
            champion, challenger = self._registry.champion_version(name), self._registry.challenger_version(name)
        except RegistryError as error:
            self._complain("registry", "the registry cannot be asked; scoring goes on as it is", error)
            return
        if self._said.pop("registry", None):
            log.info("the registry answers again", stream=name)
        # Nothing takes a pointer away; where there is none any more the directory is away.
        self._pointer = champion or self._pointer
        self._shadow_pointer = challenger
        damage = self._registry.challenger_damage(name)
        if damage is None:
            self._said.pop("shadow", None)
        else:
            self._complain("shadow", "nobody is in shadow: the pointer is damaged", RegistryError(damage))
        # Who puts a version in charge again after it failed means it. One that is still to be given up waits for that.
        self._given_up &= {self._pointer, challenger, *(failure.version for failure in self._to_give_up)}

    def _look_at_champion(self) -> None:
        wanted, in_charge = self._pointer, self.stream.predictor.model_version
        fallen = wanted in self._given_up
        if fallen:
            wanted = self._previous
        if wanted == in_charge:
            self._next = None
            return
        if self._next is not None and self._next.version == wanted:
            return
        steps = 0 if fallen or wanted == LINEAR else self._preparing.probation_steps(wanted)
        challenger = self.stream.predictor.challenger
        if wanted == LINEAR:
            order: Order | None = Order(LINEAR)
        elif challenger is not None and challenger.version == wanted:
            order = Order(wanted, None, self._preparing.created_s(wanted), steps)
        else:
            order = self._prepared(wanted, steps)
        if order is not None and in_charge not in (*self._given_up, LINEAR):
            self._previous = in_charge
        self._next = order

    def _look_at_shadow(self) -> None:
        wanted, challenger = self._shadow_pointer, self.stream.predictor.challenger
        if wanted in (self._pointer, *self._given_up):
            wanted = None
        if wanted is None:
            # One that is about to take charge keeps running until it does.
            waits = self._next is not None and challenger is not None and self._next.version == challenger.version
            self._next_shadow = Order(LINEAR) if challenger is not None and not waits else None
        elif challenger is not None and challenger.version == wanted:
            self._next_shadow = None
        elif self._next_shadow is None or self._next_shadow.version != wanted:
            self._next_shadow = self._prepared(wanted, 0)

    def _prepared(self, version: str, probation_steps: int) -> Order | None:
        """Return a version ready to take over; None where that cannot be, or not yet."""
        name = self.stream.name
        try:
            rebuilt = self._preparing.rebuilt(version)
        except RegistryError as error:
            self._complain(version, "a version cannot be used; scoring goes on with what is in charge", error)
            return None
        except BrokenNetworkError as error:
            failure = Failure(version, Failing.NAN, str(error))
        except Exception as error:  # whatever a foreign network does when it is stepped: it is not to be put in charge
            if isinstance(error, OSError) or is_out_of_memory(error):  # not its fault, so it is not barred for it
                why = RegistryError(f"stream {name!r}: version {version}: {type(error).__name__}: {error}")
                what = "a version cannot be made ready now; scoring goes on with what is in charge"
                self._complain(version, what, why)
                return None
            failure = Failure(version, Failing.EXCEPTION, f"{type(error).__name__}: {error}")
        else:
            if rebuilt is None:
                return None
            self._said.pop(version, None)
            return Order(version, rebuilt, self._preparing.created_s(version), probation_steps)
        log.error("a network failed while it was rebuilt", stream=name, version=version, why=failure.detail)
        self._metrics.rolled_back(name, failure.reason)
        self._failed(failure)
        return None

    def _complain(self, about: str, event: str, error: RegistryError) -> None:
        """Say and count what is wrong with the registry, once until it changes."""
        if self._said.get(about) != str(error):
            self._said[about] = str(error)
            self._metrics.unusable(self.stream.name)
            log.error(event, stream=self.stream.name, error=str(error))

    # ---- the loop's side ----

    def turn(self) -> None:
        """Take over what is ready; to be called between two frames. Costs next to nothing where nothing is."""
        for failure in self.stream.take_failures():
            self._tell(failure)
        missed = self.stream.predictor.steps_missed
        if missed > self._missed:
            self._metrics.steps_missed(self.stream.name, missed - self._missed)
            self._missed = missed
        order = self._next
        if order is not None:
            self._swap(order)
            if self._next is order:
                self._next = None
        order = self._next_shadow
        if order is not None:
            self._shadow(order)
            if self._next_shadow is order:
                self._next_shadow = None
        self._show()

    def _swap(self, order: Order) -> None:
        """Let ``order``'s version take charge, if it is near enough to the present."""
        predictor = self.stream.predictor
        before = predictor.champion
        if order.rebuilt is not None:
            if not self._near(order):
                return
            try:
                self.stream.swap(order.rebuilt, order.probation_steps)
            except Exception as error:  # the network's first steps here: it must not stop the loop
                self._refuse(order, error)
                return
        elif order.version == LINEAR:
            self.stream.swap(None)
        elif predictor.challenger is not None and predictor.challenger.version == order.version:
            self.stream.promote_shadow(order.probation_steps)
        else:
            return  # the challenger is gone; the next look finds the version wanting and rebuilds it
        if order.created_s is not None:
            self._metrics.created(self.stream.name, order.created_s)
        if before is not None:
            self._notices.put(before)

    def _shadow(self, order: Order) -> None:
        """Let ``order``'s version run in shadow, or nobody."""
        if order.rebuilt is None:
            self.stream.end_shadow()
        elif self._near(order):
            try:
                self.stream.begin_shadow(order.rebuilt)
            except Exception as error:  # as above
                self._refuse(order, error)
                return
            log.info("a challenger runs in shadow", stream=self.stream.name, version=order.version)

    def _refuse(self, order: Order, error: Exception) -> None:
        """Give up a version that failed in its first steps here; not one that there was only no memory for.

        That one has perhaps taken half a step, so it is dropped, and the thread makes it ready anew at its next look.
        """
        why = f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            self._metrics.steps_missed(self.stream.name, 1)
            log.warning("no memory to swap; it is tried again", stream=self.stream.name, version=order.version, why=why)
        else:
            self._tell(Failure(order.version, Failing.EXCEPTION, why))

    def _near(self, order: Order) -> bool:
        """Return whether few enough frames came since ``order`` was made; else the thread goes on with it."""
        assert order.rebuilt is not None
        missing = order.rebuilt.missing(self.stream.predictor.recent)
        if missing is not None and len(missing) <= _MOST_AT_THE_BOUNDARY:
            return True
        self._notices.put(order)
        self._wake()
        return False

    def _tell(self, failure: Failure) -> None:
        """Count a failure and have the registry told."""
        self._metrics.rolled_back(self.stream.name, failure.reason)
        self._notices.put(failure)
        self._wake()

    def _show(self) -> None:
        """Tell the metrics, once a step."""
        name, predictor = self.stream.name, self.stream.predictor
        version = predictor.model_version
        if version != self._shown:
            self._metrics.model(name, version, self._shown)
            if self._shown is not None:
                self._metrics.swapped(name)
                log.info("another model is in charge", stream=name, version=version, before=self._shown)
            self._shown = version
        frames = predictor.recent.frames
        if not frames or frames[-1].step == self._measured:
            return
        self._measured = frames[-1].step
        n = len(frames[-1].inputs)
        self._metrics.trusted(name, predictor.trusted_share(n))
        self._metrics.losses(name, predictor.losses(n))
        shadow = self.stream.shadow
        if shadow is not None and len(shadow.score):
            self._metrics.shadow_score(name, float(shadow.score.max()))
        elif self._shadow_shown:
            self._metrics.shadow_score(name, None)
        self._shadow_shown = shadow is not None
