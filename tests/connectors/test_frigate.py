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
