"""Frigate's counts against the truth of a simulated Frigate, over a real mosquitto and HTTP, whatever goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connectors.reading import Quality
from pipeline.frigate_traffic import Traffic
from pipeline.ingest.trial import Trial
from tests.connectors.frigate_peer import FrigateWorld, Truth, final

STREET = {"street": ["crossing", "kerb"], "dock": ["gate"]}


def told(trial: Trial) -> Truth:
    """Return the newest values, as far as there are any."""
    return {identity: one.value for identity, one in final(trial).items() if one.value is not None}


def wrong(trial: Trial, truth: Truth) -> dict[object, object]:
    """Return what differs from the truth: told and true."""
    values = told(trial)
    return {key: (values.get(key), value) for key, value in truth.items() if values.get(key) != pytest.approx(value)}


def test_a_quiet_street_is_counted_as_it_was(tmp_path: Path) -> None:
    """Protects the counts: each object once, by camera and zone, updates in floods or not; and nothing is corrected."""
    with FrigateWorld(tmp_path, cameras=STREET, labels=("person", "car")) as world, Trial(tmp_path) as trial:
        trial.run(world.source())
        world.await_listening()
        world.minute()
        first = world.clock.minute
        traffic = Traffic(world.frigate, lambda *_: 6.0, first * 60.0, alerts=0.2)
        for _ in range(8):
            traffic.advance(world.clock.now + 48.0)
            for name in list(world.frigate.things)[:3]:
                if world.frigate.things[name].end is None:
                    world.frigate.tell(name, 200, at=world.clock.now)
            world.minute()
        truth = world.truth(range(first, world.clock.minute))
        assert sum(truth.values()) > 100
        trial.until(lambda: set(truth) <= set(told(trial)))
        trial.until(lambda: not wrong(trial, truth))
        corrected = trial.count("corrections")
        assert corrected <= sum(len(one.entered) for one in world.frigate.things.values()), "only by zones entered late"
        assert all(one.quality is Quality.GOOD for one in final(trial).values() if one.time_us > first * 60_000_000)
        everything = json.dumps([str(message) for message in trial.kafka.messages])
        assert "Ada" not in everything
        assert "B-XY" not in everything


def test_what_is_lost_on_the_way_is_found_in_the_database(tmp_path: Path) -> None:
    """Protects the counts from floods, lost beginnings and ends, cut links, a dead broker, and a second life."""
    with FrigateWorld(tmp_path, cameras=STREET, labels=("person", "car")) as world:
        first = world.clock.minute
        world.frigate.started -= 600.0
        traffic = Traffic(
            world.frigate, lambda *_: 5.0, first * 60.0, alerts=0.1, lost_ends=0.2, parked=0.1, parking_s=600.0
        )

        def pass_minutes(count: int, heard: bool = True) -> None:
            for _ in range(count):
                traffic.advance((world.clock.minute + 1) * 60.0)
                if heard:
                    world.heard()
                world.clock.next_minute()

        with Trial(tmp_path) as trial:
            trial.run(world.source())
            world.await_listening()
            pass_minutes(1)
            world.frigate.begin("dock", "person", world.clock.now, lost=True)
            for name in list(world.frigate.things)[:2]:
                world.frigate.tell(name, 500, at=world.clock.now)
            pass_minutes(4)
            world.frigate.link.cut()
            pass_minutes(2, heard=False)
            world.frigate.link.mend()
            world.await_listening()
            pass_minutes(2)
            world.broker.kill()
            pass_minutes(2, heard=False)
            world.broker.start()
            world.frigate.link.await_up()
            world.await_listening()
            pass_minutes(2)
            trial.stop()
        pass_minutes(5, heard=False)
        with Trial(tmp_path) as again:
            again.run(world.source())
            world.await_listening()
            pass_minutes(9)
            again.kafka.messages[:0] = trial.kafka.messages
            settled = range(first, world.clock.minute - 4)  # an end that was lost is missed after three minutes
            truth = world.truth(settled)
            counted = {key: value for key, value in truth.items() if not key[1].endswith(".active")}
            active = {key: value for key, value in truth.items() if key[1].endswith(".active")}
            assert sum(thing.end is not None for thing in world.frigate.things.values()) > 100
            assert world.frigate.link.dropped > 20
            again.until(lambda: not wrong(again, counted))
            again.until(lambda: all(told(again).get(key, value) == value for key, value in active.items()))
            assert sum(key in told(again) for key in active) > len(active) / 3
