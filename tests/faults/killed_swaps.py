"""Kills a daemon around swaps, starts it again from its checkpoint, and compares it with one that nothing happened to.

Run as a program, by ``test_kills``: FOLDER SEED ROUNDS. Writes what it found to stdout as JSON.

The networks that come and go here add nothing to the linear forecast, so whoever is in charge, and wherever a life
ends, every score, message, row of the history and incident must be those of a daemon that never had a network.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.outputs import Outputs
from tests.faults.daemon_lives import AHEAD, Kill, Life, Order, Place, Stage
from tests.faults.killing import ChildFailedError, gather_no_more, imported_from, in_child
from tests.faults.networks import broken, constant, idle, keep
from tests.faults.swap_marks import marks, troubles
from tests.pipeline.daemon_parts import WARMUP_STEPS, wandering

ENTITIES, STEPS_PER_LIFE = 4, 14
"""Steps of the feed for each life; a life that is killed takes fewer, one that resumes takes some again."""
_WARM_TURNS = 2 * (WARMUP_STEPS + 10)
"""Of the loop until the first kill: what scores while the detectors warm up is in no checkpoint, and begins anew."""


@dataclass
class Town:
    """A place in which daemons live one after the other, and what was found."""

    place: Place
    unlike: dict[str, Any]
    """What a daemon without any network left behind."""
    careless: bool = False
    killed: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    days: int = 0

    def keep(self, stage: Stage, n: int) -> str | None:
        """Keep a network that fits what is to be killed; return its version."""
        if stage is Stage.BEGINNING:
            return None
        self.days += 1
        network = idle(self.days)
        if stage is Stage.GIVING_UP:
            network = broken(self.days) if n % 2 else constant(self.days, 5.0)
        return keep(self.place.registry, network, self.days)

    def live(self, order: Order | None, kill: Kill | None) -> bool:
        """Have a daemon live until it is killed, or to the end of the feed; return whether it was killed."""

        def work() -> None:
            if self.careless:
                forget_to_flush()
            Life(self.place, order, kill).run()

        return in_child(work, self.place.folder / "log.txt").killed

    def round(self, stage: Stage, n: int, at_turn: int) -> bool:
        """Live a life that is killed in ``stage``; return whether what it left behind is whole."""
        registry, kill = self.place.registry, Kill(stage, n)
        before, way_back = registry.champion_version("air"), registry.predecessor("air")
        version = self.keep(stage, n)
        # What is lost by carelessness depends on when the kill comes, which must not depend on other processes then.
        ahead = 0 if self.careless else AHEAD
        order = None if version is None else Order(version, at_turn, stage is Stage.SHADOWING, ahead)
        if not self.live(order, kill):
            self.wrong.append(f"{kill}: it lived")
            return False
        self.killed[stage] = self.killed.get(stage, 0) + 1
        allowed = {each for each in (before, way_back, version) if each is not None}
        found = in_child(lambda: troubles(self.place, allowed), self.place.folder / "log.txt").said
        self.wrong += [f"{kill}: {trouble}" for trouble in found]
        return not found

    def end(self) -> None:
        """Live to the end, and compare all that the lives left behind."""
        if self.live(None, None):
            self.wrong.append("killed, though nobody wanted that")
            return
        left = in_child(lambda: marks(self.place), self.place.folder / "log.txt").said
        for name, wanted in self.unlike.items():
            if left[name] != wanted:
                self.wrong.append(f"{name} differ: {_difference(left[name], wanted)}")
        self.wrong += left["contradictions"]


def forget_to_flush() -> None:
    """Have outputs keep what was sent for two commits out of three: careless, for checkpoints are written meanwhile."""
    flush, calls = Outputs.flush, iter(range(sys.maxsize))

    def careless(outputs: Outputs) -> None:
        if next(calls) % 3 == 2:
            flush(outputs)

    Outputs.flush = careless  # type: ignore[method-assign,assignment]


def _difference(left: Any, wanted: Any) -> str:
    if not isinstance(left, dict):
        return f"{left} and {wanted}"
    missing, odd = wanted.keys() - left.keys(), left.keys() - wanted.keys()
    other = [key for key in wanted.keys() & left.keys() if left[key] != wanted[key]]
    return f"missing {sorted(missing)[:3]}, unknown {sorted(odd)[:3]}, others {sorted(other)[:3]} of {len(wanted)}"


def place_for(folder: Path, rounds: int) -> Place:
    """Return a place with a feed long enough for so many lives: entities jump one after the other all the way."""
    steps = WARMUP_STEPS + STEPS_PER_LIFE * (rounds + 3)
    apart = (steps - WARMUP_STEPS) // ENTITIES
    values = wandering(ENTITIES, steps, {e: WARMUP_STEPS + 6 + e * apart for e in range(ENTITIES)})
    return Place(folder, values)


def unlike(place: Place) -> dict[str, Any]:
    """Return what a daemon without networks leaves behind that nothing happens to."""

    def work() -> dict[str, Any]:
        Life(place, None, None).run()
        return marks(place)

    found: dict[str, Any] = imported_from(work, place.folder / "log.txt")
    contradictions = found.pop("contradictions")
    if contradictions or not found["messages"]:
        raise RuntimeError(f"the daemon to compare with is of no use: {contradictions}")
    del found["models"]
    return found


def rounds_of(random_: random.Random, count: int) -> list[tuple[Stage, int, int]]:
    """Return stage, place in it and turn of each kill: all stages in turn, their places one after the other."""
    stages = list(Stage)
    found = []
    for i in range(count):
        stage = stages[i % len(stages)]
        n = i // len(stages) if stage.few else random_.randrange(1, 12)
        found.append((stage, n, random_.randrange(2, 20)))
    return found


def live_through(town: Town, kills: list[tuple[Stage, int, int]]) -> None:
    """Have one daemon after the other killed, then one that lives; note what is wrong."""
    try:
        for i, (stage, n, turn) in enumerate(kills):
            if not town.round(stage, n, turn + (_WARM_TURNS if i == 0 else 0)):
                return
        town.end()
    except ChildFailedError as error:
        town.wrong.append(str(error))


def main(folder: Path, seed: int, rounds: int) -> None:
    """Do all that, once as it is and once with a defect, and write what was found."""
    random_ = random.Random(seed)
    reference = place_for(folder / "unlike", rounds)
    wanted = unlike(reference)
    gather_no_more()
    town = Town(place_for(folder / "town", rounds), wanted)
    town.place.registry.promote("air", keep(town.place.registry, idle(0), 0))
    live_through(town, rounds_of(random_, rounds))
    models = in_child(lambda: marks(town.place)["models"], folder / "log.txt").said
    careless = Town(place_for(folder / "careless", rounds), wanted, careless=True)
    careless.place.registry.promote("air", keep(careless.place.registry, idle(0), 0))
    live_through(careless, [(Stage.SWAPPING, 0, turn) for turn in (10, 13, 16, 19)])
    found = {"killed": town.killed, "wrong": town.wrong, "models": models, "caught": careless.wrong}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
