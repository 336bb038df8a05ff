"""Kills `vedette models promote` and `rollback` at their file operations while a stream is scored, and looks around.

Run as a program, by ``test_kills``: FOLDER. Writes what it found to stdout as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from models.registry import Registry
from pipeline import cli, model_desk, models_command
from tests.faults.killing import Countdown, in_child, tear
from tests.faults.networks import idle, keep
from tests.faults.scoring import Scoring
from tests.faults.wholeness import registry_troubles
from tests.pipeline.daemon_parts import stream_config, wandering

NEEDED = (model_desk, models_command)
"""Imported before the forks, which need it."""
CONFIG = """
streams:
  - name: air
    topics: [air]
    step: 1m
    horizons: [1, 3]
    channels: [{{name: pm25, unit: ug/m3}}, {{name: no2, unit: ug/m3}}]
state: {folder}
models: {{directory: {folder}/models}}
"""


class Place:
    """A folder with a registry in service, and the commands on it."""

    def __init__(self, folder: Path) -> None:
        """Make it: three versions, of which the first was in charge and the second is."""
        folder.mkdir(parents=True)
        self.folder = folder
        self.config = folder / "vedette.yaml"
        self.config.write_text(CONFIG.format(folder=folder))
        self.registry = Registry(folder / "models")
        self.versions = [keep(self.registry, idle(seed), seed) for seed in range(3)]
        for version in self.versions[:2]:
            self.registry.promote("air", version)
        self.killed = 0
        self.wrong: list[str] = []

    @property
    def champion(self) -> str:
        """Who is in charge, as far as can be read."""
        return str(self.registry.champion_version("air"))

    def command(self, *words: str, kill_at: int | None = None, before: Callable[[], None] = lambda: None) -> int | None:
        """Run `vedette models …` in a process of its own; return its file operations, None if it was killed."""

        def work() -> int:
            before()
            countdown = Countdown(flushes=True)
            if kill_at is not None:
                countdown.light(kill_at)
            action, *more = words
            code = cli.main(["models", action, *more, "--config", str(self.config)])
            countdown.put_out()
            if code != 0:
                raise RuntimeError(f"vedette models {' '.join(words)} ended with {code}")
            return countdown.seen

        ended = in_child(work, self.folder / "log.txt")
        self.killed += ended.killed
        return None if ended.killed else int(ended.said)

    def troubles(self, allowed: set[str], at: str) -> bool:
        """Look at what a kill has left; note what is wrong, and return whether anything is."""
        found = registry_troubles(self.registry, allowed)
        self.wrong += [f"{at}: {trouble}" for trouble in found]
        return bool(found)


def kill_everywhere(place: Place, scoring: Scoring) -> None:
    """Kill promotions, then rollbacks, at each of their file operations in turn, one after the other."""
    for action in ("promote", "rollback"):
        n = 1
        while True:
            before = place.champion
            if action == "promote":
                after = next(v for v in place.versions if v != before)
                words = ["promote", after]
            else:
                after = str(place.registry.predecessor("air"))
                words = ["rollback"]
            changes = len(changes_of(place))
            done = place.command(*words, kill_at=n) is not None
            at = f"{action} killed at operation {n}"
            if place.troubles({before, after}, at):
                return
            place.wrong += [f"{at}: {trouble}" for trouble in scoring.follow(place.champion)]
            if place.champion == before:
                place.command(*words)  # who was interrupted asks once more
            place.wrong += [f"{at}, and asked again: {trouble}" for trouble in scoring.follow(after)]
            if len(changes_of(place)) != changes + 1 or changes_of(place)[-1] != after:
                place.wrong.append(f"{at}, and asked again: decisions say {changes_of(place)[changes:]}, not {after}")
            if action == "rollback":
                place.command("promote", before)  # which lifts its bar
            if done:
                break
            n += 1


def changes_of(place: Place) -> list[str]:
    """Return who took charge, by the decisions."""
    return [d.version for d in place.registry.decisions("air") if d.action in ("promoted", "rolled_back")]


def torn(place: Place) -> int:
    """Kill promotions that replace files in two strokes; return how often that was seen."""
    caught = n = 0
    done = False
    while not done:
        n += 1
        before = place.champion
        after = next(v for v in place.versions if v != before)
        done = place.command("promote", after, kill_at=n, before=tear) is not None
        if place.troubles({before, after}, f"torn at {n}"):
            caught += 1
            place.registry.promote("air", before)  # repairs the pointer
            for path in (place.folder / "models" / "air" / "decisions").glob("*.json"):
                if not path.read_bytes().endswith(b"}"):
                    path.unlink()
    return caught


def main(folder: Path) -> None:
    """Do all that, and write what was found."""
    place = Place(folder / "whole")
    scoring = Scoring(stream_config(), folder / "whole" / "models", wandering(3, 200), folder)
    kill_everywhere(place, scoring)
    place.wrong += scoring.stop(set(place.versions))
    careless = Place(folder / "torn")
    caught = torn(careless)
    sys.stdout.write(json.dumps({"killed": place.killed, "wrong": place.wrong, "caught": caught}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
