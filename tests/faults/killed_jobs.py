"""Kills `vedette train` at every stage, takes it up again in the same folder, and looks around.

Run as a program, by ``test_kills``: FOLDER SEED JOBS. Writes what it found to stdout as JSON.

One service lives through all of it, a stream that is scored: jobs come one after the other, each killed once a stage,
and who is in charge changes on the way. What a job needs is imported once; each attempt is a fork.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from connectors.alert_store import AlertStore
from connectors.alert_store_rows import IncidentRow
from models.registry import Action
from pipeline import cli, training_verdict
from pipeline.history import HistoryStore
from pipeline.job_books import JobBooks
from pipeline.job_record import RECORD, JobFolder, JobPhase
from pipeline.judging import Judgement, judge
from tests.faults.killing import ChildFailedError, Countdown, die, gather_no_more, imported_from, in_child, tear
from tests.faults.scoring import Scoring
from tests.faults.wholeness import database_troubles, registry_troubles
from tests.pipeline.training_parts import STEP0, STEP_US, Site, frames

STAGES = (JobPhase.READING, JobPhase.TRAINING, JobPhase.JUDGING, JobPhase.DECIDING)
STEPS, NAMES = 430, ("a", "b", "c", "d", "e")
"""As few as can be judged on: 64 held-out steps, 300 held-out values."""
TURNS = (Action.PROMOTED, Action.REFUSED, Action.PROMOTED, Action.SHADOWED)
"""What comes of the jobs, in turn; where it is no refusal, what the real judge says is overruled."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where in a stage an attempt is killed."""

    stage: JobPhase
    operation: int | None
    """Right before the stage's n-th file operation; None: after ``seconds`` instead."""
    seconds: float = 0.0

    def __str__(self) -> str:
        where = f"operation {self.operation}" if self.operation is not None else f"{self.seconds:.3f} s"
        return f"{self.stage} at {where}"


class Stages:
    """Follows a job through its stages in its own process: counts, or kills where the plan says."""

    def __init__(self, plan: Plan | None) -> None:
        """Follow from here on; None: to the end."""
        self._plan = plan
        self._countdown = Countdown()
        self._now: JobPhase | None = None
        self._began_s = 0.0
        self.measured: dict[str, tuple[int, float]] = {}
        tell = JobBooks.phase

        def phase(books: JobBooks, stage: JobPhase) -> None:
            self.leave()
            self._enter(stage)
            tell(books, stage)

        JobBooks.phase = phase  # type: ignore[method-assign,assignment]

    def leave(self) -> None:
        """A stage is over: a plan for it that has not been carried out is, now."""
        if self._now is None:
            return
        if self._plan is not None and self._plan.stage is self._now:
            die()
        self.measured[self._now] = self._countdown.seen, time.monotonic() - self._began_s
        self._countdown.seen = 0

    def _enter(self, stage: JobPhase) -> None:
        self._now, self._began_s, self._countdown.seen = stage, time.monotonic(), 0
        if self._plan is None or self._plan.stage is not stage:
            return
        if self._plan.operation is not None:
            self._countdown.light(self._plan.operation)
        else:
            timer = threading.Timer(self._plan.seconds, die)
            timer.daemon = True
            timer.start()


@dataclass(slots=True)
class Before:
    """What there was before a job began."""

    champion: str | None
    versions: set[str]


@dataclass
class Service:
    """A site with its history and alert database, the process that scores, and what was found."""

    site: Site
    scoring: Scoring | None = None
    digest: str = ""
    killed: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    champions: set[str] = field(default_factory=lambda: {"linear"})

    def train(self, job: JobFolder, seed: int, action: Action, plan: Plan | None) -> dict[str, tuple[int, float]]:
        """Run `vedette train` here, unless it is killed; return the file operations and seconds of each stage."""
        if action is not Action.REFUSED:
            training_verdict.judge = overruled(judge)  # type: ignore[attr-defined]  # as it is called there
        stages = Stages(plan)
        code = cli.main([*self.site.words("--job", str(job.path)), "--seed", str(seed)])
        if code != 0:
            raise RuntimeError(f"vedette train ended with {code}")
        stages.leave()
        return stages.measured

    def attempt(self, job: JobFolder, seed: int, action: Action, plan: Plan | None) -> Any:
        """Run `vedette train` in a process of its own; return what it measured, None if it was killed."""
        ended = in_child(lambda: self.train(job, seed, action, plan), self.site.folder / "log.txt")
        if ended.killed and plan is not None:
            self.killed[plan.stage] = self.killed.get(plan.stage, 0) + 1
        return ended.said

    def now(self) -> Before:
        """Return what there is."""
        registry = self.site.registry
        return Before(registry.champion_version("air"), set(registry.versions("air")))

    def look(self, job: JobFolder, before: Before, at: str) -> bool:
        """Look at what is left after a kill; note what is wrong, and return whether anything is."""
        found: list[str] = in_child(lambda: self._troubles(job, before), self.site.folder / "log.txt").said
        if not found:
            champion = self.site.registry.champion_version("air") or "linear"
            self.champions.add(champion)
            if self.scoring is not None:
                found += self.scoring.follow(champion)
        self.wrong += [f"{at}: {trouble}" for trouble in found]
        return bool(found)

    def _troubles(self, job: JobFolder, before: Before) -> list[str]:
        registry, config = self.site.registry, self.site.config
        new = sorted(set(registry.versions("air")) - before.versions)
        found = ["there are two new versions"] if len(new) > 1 else []
        if before.champion is not None or registry.champion_version("air") is not None:
            found += registry_troubles(registry, {*new, before.champion or ""})
        if (job.path / RECORD).exists() and job.read() is None:
            found.append("the job's record cannot be read")
        arrays = HistoryStore(str(config.history.directory)).read("air", ["pm25"], STEP_US)
        if HistoryStore.digest(arrays) != self.digest:
            found.append("the history has changed")
        found += database_troubles(self.site.folder / "alerts.db")
        return found

    def look_at_end(self, job: JobFolder, before: Before, action: Action, at: str) -> None:
        """Look at a job that has come to its end: one version, one decision, and what was decided is so."""
        registry, record = self.site.registry, job.read()
        if record is None or record.phase is not JobPhase.DONE or record.version is None:
            self.wrong.append(f"{at}: its record says {record}")
            return
        version, after = record.version, self.now()
        said = [str(d.action) for d in registry.decisions("air") if d.version == version]
        checks = {
            f"new versions {after.versions - before.versions}": after.versions - before.versions == {version},
            f"decisions {said}, its record says {record.decision!r}": said == [record.decision],
            f"decided {said}, not {action}": action in said,
            f"{after.champion} is in charge": (after.champion == version) == (action is Action.PROMOTED),
            "who is in shadow": (registry.challenger_version("air") == version) == (action is Action.SHADOWED),
        }
        self.wrong += [f"{at}: {what}" for what, right in checks.items() if not right]


def overruled(judges: Callable[..., Judgement]) -> Callable[..., Judgement]:
    """Return the judge, after whom each challenger is better."""

    def better(*args: Any, **named: Any) -> Judgement:
        return replace(judges(*args, **named), better=True)

    return better


def service(folder: Path) -> Service:
    """Make a site with something to learn, and a database with an incident in it; in a child, for its threads."""
    words = {"least_history: 300": "least_history: 200, shadow: SHADOW", "hidden: 6": "hidden: 4"}
    made = Service(Site(folder, None, **words))
    made.site.file.write_text(made.site.file.read_text().replace("SHADOW", "0s"))

    def fill() -> str:
        made.site.add(frames(STEPS, names=NAMES))
        store = AlertStore(made.site.config.database.url.get_secret_value())
        began = (STEP0 + 100) * STEP_US
        ended = began + 10 * STEP_US
        row = IncidentRow(
            "0" * 32, "air", "a", "anomaly", "anomaly", "", 2, "high", "resolved", 1, STEP0 + 100, began, began, ended,
            ended, ended, 3.0,
        )  # fmt: skip
        store.keep([row])
        store.label("0" * 32, "true", "", None, "me", ended)
        store.close()
        return HistoryStore.digest(HistoryStore(str(folder / "history")).read("air", ["pm25"], STEP_US))

    made.digest = in_child(fill, folder / "log.txt").said
    return made


def run_job(of: Service, name: str, seed: int, action: Action, plans: list[Plan]) -> Any:
    """Run a job, killed at each of ``plans`` in turn, to its end; return what its last attempt measured."""
    file = of.site.file
    text = file.read_text()
    file.write_text(text.replace("shadow: 0s", "shadow: 1h") if action is Action.SHADOWED else text)
    of.site.registry.dismiss("air")  # where somebody is in shadow already, nobody else comes in
    job, before, at = of.site.job(name), of.now(), name
    try:
        for plan in plans:
            at = f"{name} ({action}), killed in {plan}"
            if of.attempt(job, seed, action, plan) is not None:
                break  # it came to its end without that stage
            if of.look(job, before, at):
                return None
        measured = of.attempt(job, seed, action, None)
        of.look(job, before, f"{at}, at its end")
        of.look_at_end(job, before, action, f"{at}, at its end")
        return measured
    except ChildFailedError as error:
        of.wrong.append(f"{at}: {error}")
        return None
    finally:
        file.write_text(text)


def torn(of: Service) -> int:
    """Kill a job that replaces its record in two strokes while it begins; return how often that was seen."""
    job, caught = of.site.job("torn"), 0
    for n in range(1, 8):
        before = of.now()
        plan = Plan(JobPhase.READING, n)

        def careless(plan: Plan = plan) -> None:
            tear()
            of.train(job, 0, Action.PROMOTED, plan)

        in_child(careless, of.site.folder / "log.txt")
        caught += of.look(job, before, f"torn, killed in {plan}")
        shutil.rmtree(job.path, ignore_errors=True)
    return caught


def usual_job(folder: Path) -> dict[str, tuple[int, float]]:
    """Import what a job needs; return the file operations and seconds that each stage of one takes after that."""
    first = service(folder)
    imported_from(lambda: first.train(first.site.job("cold"), 0, Action.PROMOTED, None), folder / "log.txt")
    champion = first.site.registry.champion("air")
    assert champion is not None
    # Here too, for the code that it compiles; it needs no threads.
    judge(first.site.config.streams[0], frames(STEPS, names=NAMES), STEPS // 6, champion, None, (), seed=0)
    return dict(first.attempt(first.site.job("warm"), 1, Action.PROMOTED, None))


def main(folder: Path, seed: int, jobs: int) -> None:
    """Run the jobs, each killed once in every stage, and write what was found."""
    usual = usual_job(folder / "first")
    gather_no_more()
    of = service(folder / "site")
    stream = of.site.config.streams[0]
    of.scoring = Scoring(stream, folder / "site" / "models", frames(300, 9, NAMES).values.swapaxes(0, 1), folder)
    random_ = random.Random(seed)
    for j in range(jobs):
        plans = []
        for i, stage in enumerate(STAGES):
            operations, seconds = usual[stage]
            share = (j + random_.random()) / jobs
            by_time = (i + j) % 2 == 1 and stage in (JobPhase.TRAINING, JobPhase.JUDGING)
            plans.append(Plan(stage, None, share * seconds) if by_time else Plan(stage, 1 + int(share * operations)))
        run_job(of, f"job-{j:03d}", seed + j, TURNS[j % len(TURNS)], plans)
    of.wrong += of.scoring.stop(of.champions)
    caught = torn(service(folder / "torn"))
    found = {"killed": of.killed, "wrong": of.wrong, "champions": len(of.champions), "caught": caught}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
