"""``kill -9`` at 20 moments while a street is busy: every object is counted once, and what comes twice is the same."""

from __future__ import annotations

import random
import sys
import threading
import time
from pathlib import Path

from connectors.frigate_objects import end_of
from pipeline.frigate_api import FrigateApi
from pipeline.frigate_simulation import SimulatedFrigate
from pipeline.frigate_traffic import Traffic
from pipeline.ingest.source_contract import Identity
from tests.connectors.frigate_lives import FastClock, Lives
from tests.end_to_end.kafka_parts import wait_until
from tests.mosquitto_server import MosquittoServer

KILLS = 20
SEED = 6
SPEED = 60.0
SETTLES = 5
"""Minutes after which a lost end is known."""


def test_kills_lose_no_object_and_count_none_twice(tmp_path: Path) -> None:
    """Protects the counts of all lives together, which have to be the truth."""
    moments = random.Random(SEED)
    began = time.time()
    clock = FastClock(began, (began // 3600 - 6) * 3600, SPEED)
    with (
        MosquittoServer(tmp_path / "mosquitto") as broker,
        SimulatedFrigate(broker.port, {"street": ["kerb"], "dock": []}, ("person", "car"), now=clock.now) as frigate,
        FrigateApi(frigate) as api,
        Lives(broker.port, api.url, tmp_path, clock) as lives,
    ):
        frigate.started = clock.base - 60.0
        traffic = Traffic(frigate, lambda *_: 5.0, clock.base, alerts=0.1, lost_ends=0.05)
        enough = threading.Event()

        def go_on() -> None:
            while not enough.wait(0.01):
                traffic.advance(clock.now())

        street = threading.Thread(target=go_on, name="peer-street", daemon=True)
        street.start()
        try:
            for kill in range(KILLS):
                lives.begin()
                if kill % 2:  # just as it tells something
                    told_before = lives.size()
                    wait_until(lambda: lives.size() > told_before, "a life tells something")  # noqa: B023
                time.sleep(moments.uniform(0.0, 0.02 if kill % 2 else 0.7))
                lives.kill()
            minutes = range(int(clock.base // 60), int(clock.now() // 60))
            lives.begin()
            wait_until(lambda: lives.size() > 0 and clock.now() // 60 > minutes[-1] + SETTLES, "all lost is missed")
        finally:
            enough.set()
            street.join()
        truth = {
            (entity, channel, end_of(minute)): value
            for minute in minutes
            for (entity, channel), value in frigate.truth(minute).items()
            if not channel.endswith(".active")
        }
        wait_until(lambda: not wrong(lives, truth), "all lives together have told the truth")
        lives.kill()
        told = lives.told()
    versions: dict[tuple[Identity, int], set[float | None]] = {}
    for identity, result_us, value in told:
        versions.setdefault((identity, result_us), set()).add(value)
    sys.stdout.write(
        f"seed {SEED}: {KILLS} kills in {len(minutes)} minutes, {len(frigate.things)} objects; {len(truth)} values, "
        f"all true; {len(told)} readings told, {len(told) - len(versions)} of them repeats\n"
    )
    assert sum(value for (_, channel, _), value in truth.items() if channel in ("person", "car")) > 100
    assert not {key: values for key, values in versions.items() if len(values) > 1}, "a repeat says the same"


def wrong(lives: Lives, truth: dict[Identity, float]) -> dict[Identity, tuple[float | None, float]]:
    """Return what of the newest versions differs from the truth."""
    newest: dict[Identity, tuple[int, float | None]] = {}
    for identity, result_us, value in lives.told():
        if identity not in newest or result_us > newest[identity][0]:
            newest[identity] = result_us, value
    found: dict[Identity, tuple[float | None, float]] = {}
    for identity, value in truth.items():
        said = newest.get(identity, (0, None))[1]
        if said is None or abs(said - value) > 1e-6 * max(value, 1.0):
            found[identity] = said, value
    return found
