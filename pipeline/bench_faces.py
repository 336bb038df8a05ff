"""What the faces cost: the daemon's loop with console, metrics of single entities and all sinks, and without, by turns.

Two daemons in processes of their own read the same topic. One has everything on: a console with listeners and visitors,
/metrics asked for every two seconds, an Alertmanager, a webhook, files, a topic, the history and the alert database.
The other scores and commits. Each portion of readings is taken by one and then by the other, and who begins changes
from round to round. A round ends when all it has said and kept is durable.

Other programs on the machine make the wall clock's ratio smaller. Beside it stand ratios of processor time: of the
loop's thread (what the faces add to its work) and of the whole process (as if there were one core and nothing else).
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_load import fill
from connectors.kafka_local import LocalKafka
from connectors.kafka_topics import ensure_topics
from models.registry import Manifest, Registry
from pipeline import bench_faces_clients, bench_faces_daemon
from pipeline.bench_faces_clients import Seen
from pipeline.bench_faces_daemon import Go, Side, Spent
from pipeline.bench_kafka import PARTITIONS, keyed
from pipeline.bench_load import Load, last_block_us, untrained

_ENTITIES = 3600
"""Of three channels: 14 series each, 50,400 in all."""
_STEPS = 30
"""Of a round."""
_EMBEDDED_STEPS = 2
"""Of a portion from the embedded broker: it keeps 5 MB of a partition."""
_FILL_STEPS = 3
"""Made and appended at a time, so that a round need not fit into memory."""
_READY_S = 300.0
_SIDES = ("bare", "faces")
_ANSWER_S = 300.0


@dataclass(frozen=True, slots=True)
class Round:
    """What one round took the two."""

    bare: Spent
    faces: Spent
    readings: int

    def ratio(self, of: Callable[[Spent], float]) -> float:
        """Return how much less the bare one took."""
        return of(self.bare) / of(self.faces)


def bench_faces(
    rounds: int, say: Callable[[str], None], *, entities: int | None = None, steps: int = _STEPS
) -> dict[str, Any]:
    """Return the ratios, and how long a scrape takes and holds up the loop; see ``vedette bench``.

    Args:
        rounds: that count; one before them does not.
        say: told of progress.
        entities: how many; fewer than 3,572 have fewer than 50,000 series.
        steps: of a round, at 18 readings a step and entity.
    """
    load = Load(entities=entities or _ENTITIES)
    with (
        tempfile.TemporaryDirectory(prefix="vedette-bench-") as folder,
        _broker() as (servers, embedded),
        _process(bench_faces_clients.serve, ()) as clients,
    ):
        alertmanager, webhook = _answer(clients, _READY_S)
        models = _registry(Path(folder) / "models", load)
        say(f"faces: warming {load.entities} entities, twice")
        sides = [
            Side(on, str(_made(Path(folder) / name)), models, servers, embedded, load, alertmanager, webhook)
            for on, name in ((False, "bare"), (True, "faces"))
        ]
        with (
            _process(bench_faces_daemon.serve, (sides[0],)) as bare,
            _process(bench_faces_daemon.serve, (sides[1],)) as faces,
        ):
            _answer(bare, _READY_S)
            race = _Race(load, servers, bare, faces, clients, _answer(faces, _READY_S))
            portion = _EMBEDDED_STEPS if embedded else steps
            race.round(min(steps, 2 * portion), portion, bare_first=True)  # compiles, allocates, fills caches
            race.seen = Seen()
            done = []
            for number in range(rounds):
                done.append(race.round(steps, portion, bare_first=number % 2 == 0))
                say(f"faces: round {number + 1} of {rounds}: {_shown(done[-1])}")
    return _result(done, race.seen, load, "embedded" if embedded else "Apache Kafka")


class _Race:
    """Readings, portion by portion, to both daemons."""

    def __init__(
        self, load: Load, servers: str, bare: Connection, faces: Connection, clients: Connection, port: int
    ) -> None:
        self._load, self._servers, self._port = load, servers, port
        self._bare, self._faces, self._clients = bare, faces, clients
        self._step = 0
        self._readings = 0
        self.seen = Seen()

    def round(self, steps: int, portion: int, *, bare_first: bool) -> Round:
        """Let both take so many steps."""
        before = self._readings
        bare, faces = Spent(), Spent()
        last = self._step + steps
        while self._step < last:
            now_us = self._append(min(portion, last - self._step))
            go = Go(self._readings, now_us, durable=self._step == last)
            for is_bare in (bare_first, not bare_first):
                if is_bare:
                    bare.add(self._run(self._bare, go))
                else:
                    faces.add(self._run_with_clients(go))
        return Round(bare, faces, self._readings - before)

    def _append(self, steps: int) -> int:
        now_us = 0
        while steps > 0:
            some = min(_FILL_STEPS, steps)
            blocks = self._load.blocks(some, off=True, first=self._step)
            records = [value for block in blocks for value in block.values if value is not None]
            self._readings += fill(self._servers, "load", keyed(records))
            self._step += some
            steps -= some
            now_us = last_block_us(blocks)
        return now_us

    def _run(self, daemon: Connection, go: Go) -> Spent:
        daemon.send(go)
        spent: Spent = _answer(daemon, _ANSWER_S)
        return spent

    def _run_with_clients(self, go: Go) -> Spent:
        self._clients.send(self._port)
        spent = self._run(self._faces, go)
        self._clients.send(None)
        seen: Seen = _answer(self._clients, _ANSWER_S)
        self.seen.add(seen)
        return spent


def _result(rounds: Sequence[Round], seen: Seen, load: Load, broker: str) -> dict[str, Any]:
    scrapes = [ended - began for began, ended, _, _ in seen.scrapes]
    during, otherwise = _pauses(rounds, seen)
    steps = sum(r.readings for r in rounds) / (18 * load.entities)
    bare_cpu, faces_cpu = (sum(getattr(r, side).loop_cpu_s for r in rounds) for side in _SIDES)
    clocks: dict[str, Callable[[Spent], float]] = {
        "ratio": lambda spent: spent.wall_s,
        "ratio_undisturbed": lambda spent: spent.wall_s - spent.queued_s,
        "ratio_of_loop_cpu": lambda spent: spent.loop_cpu_s,
        "ratio_of_process_cpu": lambda spent: spent.process_cpu_s,
    }
    return {
        **{name: round(statistics.median(r.ratio(of) for r in rounds), 3) for name, of in clocks.items()},
        "rounds": [{name: round(r.ratio(of), 3) for name, of in clocks.items()} for r in rounds],
        "readings_per_s_bare": _rate(rounds, lambda r: r.bare),
        "readings_per_s_with_faces": _rate(rounds, lambda r: r.faces),
        "loop_us_per_entity_step_bare": round(1e6 * bare_cpu / steps / load.entities, 3),
        "loop_us_per_entity_step_added": round(1e6 * (faces_cpu - bare_cpu) / steps / load.entities, 3),
        "loop_ms_per_step": {
            stage: [
                round(1e3 * sum(getattr(r, side).stages.get(stage, 0.0) for r in rounds) / steps, 2) for side in _SIDES
            ]
            for stage in sorted(rounds[0].faces.stages)
        },
        "queued_share": [_share(rounds, side, lambda spent: spent.queued_s) for side in _SIDES],
        "standing_still_share": [
            _share(rounds, side, lambda spent: sum(pause for _, _, pause in spent.pauses)) for side in _SIDES
        ],
        "scrapes": len(scrapes),
        "scrape_series": min((series for _, _, series, _ in seen.scrapes), default=0),
        "scrape_bytes": max((size for _, _, _, size in seen.scrapes), default=0),
        "scrape_median_s": round(statistics.median(scrapes), 3) if scrapes else None,
        "scrape_longest_s": round(max(scrapes), 3) if scrapes else None,
        "longest_pause_ms": {
            "during_scrapes": _ms(during),
            "between_scrapes": _ms(otherwise),
            "bare": _ms([pause for r in rounds for _, _, pause in r.bare.pauses]),
        },
        "pages": len(seen.pages),
        "pages_failed": sorted({f"{status} {path}" for path, status, _ in seen.pages if status != 200}),
        "page_longest_s": round(max((seconds for _, _, seconds in seen.pages), default=0.0), 3),
        "events": seen.events,
        "posts": seen.posts,
        "alert_messages": rounds[-1].faces.messages if rounds else 0,
        "broker": broker,
        "entities": load.entities,
        "channels": load.channels,
        "readings_a_round": rounds[0].readings if rounds else 0,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _pauses(rounds: Sequence[Round], seen: Seen) -> tuple[list[float], list[float]]:
    """Return the pauses of the loop with faces that fell into a scrape, and the others; seconds."""
    during: list[float] = []
    otherwise: list[float] = []
    for one in rounds:
        for began, ended, pause in one.faces.pauses:
            in_one = any(first < ended and began < last for first, last, _, _ in seen.scrapes)
            (during if in_one else otherwise).append(pause)
    return during, otherwise


def _share(rounds: Sequence[Round], side: str, of: Callable[[Spent], float]) -> float:
    """Return what part of a side's time that is."""
    all_of_it: list[Spent] = [getattr(one, side) for one in rounds]
    return round(sum(map(of, all_of_it)) / sum(spent.wall_s for spent in all_of_it), 3)


def _ms(pauses: Sequence[float]) -> float:
    return round(1e3 * max(pauses, default=0.0), 1)


def _rate(rounds: Sequence[Round], side: Callable[[Round], Spent]) -> int:
    return round(statistics.median(one.readings / side(one).wall_s for one in rounds))


def _shown(one: Round) -> str:
    wall, cpu = one.ratio(lambda spent: spent.wall_s), one.ratio(lambda spent: spent.loop_cpu_s)
    rate = one.readings / one.faces.wall_s
    return f"{rate:,.0f} readings/s with faces, ratio {wall:.2f} (processor time of the loop: {cpu:.2f})"


def _registry(folder: Path, load: Load) -> str:
    """Make a registry with a champion for the load; return where it is."""
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)  # its probation is over
    registry = Registry(folder, now=lambda: long_ago)
    config = load.config()
    manifest = Manifest(
        stream=config.name, channels=tuple(c.name for c in config.channels),
        units=tuple(c.unit for c in config.channels), step_us=config.step_us, horizons=config.horizons, entities=(),
        neighbours={}, data_from_us=0, data_to_us=1, created=long_ago, seed=0,
    )  # fmt: skip
    registry.promote(config.name, registry.save(untrained(load.channels), manifest))
    return str(folder)


@contextmanager
def _broker() -> Iterator[tuple[str, bool]]:
    """Yield a broker's address, and whether it is the embedded one: that, where KAFKA_HOME names no Kafka."""
    topics = {"load": PARTITIONS, "alerts": 1}
    if os.environ.get("KAFKA_HOME"):
        with LocalKafka() as kafka:
            ensure_topics(kafka.bootstrap_servers, topics)
            yield kafka.bootstrap_servers, False
    else:
        with EmbeddedBroker() as broker:
            ensure_topics(broker.bootstrap_servers, topics, settings=EmbeddedBroker.settings)
            yield broker.bootstrap_servers, True


@contextmanager
def _process(serve: Callable[..., None], args: tuple[Any, ...]) -> Iterator[Connection]:
    """Run ``serve(*args, orders)`` in a process of its own; yield our end of its orders, and end it afterwards."""
    spawn = multiprocessing.get_context("spawn")
    ours, its = spawn.Pipe()
    process = spawn.Process(target=serve, args=(*args, its), daemon=True)
    process.start()
    its.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(20)
        if process.is_alive():
            process.kill()
            process.join()


def _answer(orders: Connection, timeout_s: float) -> Any:
    """Return what came back.

    Raises:
        RuntimeError: if nothing did in time, or the other side failed.
    """
    try:
        answer = orders.recv() if orders.poll(timeout_s) else RuntimeError(f"no answer within {timeout_s:.0f} s")
    except EOFError:
        answer = RuntimeError("a process of the benchmark has ended")
    if isinstance(answer, Exception):
        raise answer
    return answer


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
