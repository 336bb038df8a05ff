"""Frigate's counts against the truth of a simulated Frigate, over a real mosquitto and HTTP, whatever goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connectors.errors import SourceRefused
from connectors.frigate_objects import end_of
from connectors.reading import Quality
from pipeline.frigate_traffic import Traffic
from pipeline.ingest.trial import Trial
from tests.connectors.frigate_peer import FrigateWorld, Truth, final, until

STREET = {"street": ["crossing", "kerb"], "dock": ["gate"]}
CHANNELS = ("person", "person.active", "review.alert")


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


def test_minutes_that_are_over_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Protects the way back after an absence: the source looks again at once while there is more to tell."""
    with FrigateWorld(tmp_path, http=False) as world, Trial(tmp_path) as trial:
        trial.run(world.source(look_s=5.0))
        world.await_listening()
        world.frigate.begin("dock", "person", world.clock.now)
        world.heard()
        first = world.clock.minute
        world.clock.now += 4.5 * 3600.0
        last = world.clock.minute - 1
        minutes = {("dock", "person", end_of(minute)) for minute in range(first + 1, last)}
        trial.until(lambda: minutes <= set(final(trial)))


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


def test_nothing_is_zero_only_while_somebody_watched(tmp_path: Path) -> None:
    """Protects from false quiet: Frigate offline, a camera without a picture, or its detection off is missing."""
    with FrigateWorld(tmp_path, http=False, cameras={"dock": [], "street": []}) as world, Trial(tmp_path) as trial:
        trial.run(world.source(cameras=("dock", "street"), labels=("person",)))
        world.await_listening()
        world.minute()
        first = world.clock.minute
        world.minute()  # 0: quiet
        world.frigate.camera_status("dock", False)
        world.minute()  # 1: the dock goes dark
        world.frigate.camera_status("dock", True)
        world.minute()  # 2: it comes back
        world.frigate.say("dock/detect/state", b"OFF")
        world.minute()  # 3: it looks, and sees nothing
        world.frigate.say("dock/detect/state", b"ON")
        world.minute()  # 4
        world.minute()  # 5: quiet
        world.heard()
        world.frigate.link.cut()
        until(lambda: not world.listens(), "the will is heard")
        world.clock.next_minute()  # 6: offline
        world.frigate.link.mend()
        world.await_listening()
        world.minute()  # 7: online again, in the middle of it
        world.frigate.begin("dock", "person", world.clock.now)
        world.minute()  # 8
        last = {(camera, channel, end_of(first + 8)) for camera in ("dock", "street") for channel in CHANNELS}
        trial.until(lambda: last <= set(final(trial)))
        found = final(trial)

        def counts(camera: str, channel: str) -> list[float | None]:
            return [found[camera, channel, end_of(first + minute)].value for minute in range(9)]

        assert counts("dock", "person") == [0, None, None, None, None, 0, None, None, 1]
        assert counts("street", "person") == [0, 0, 0, 0, 0, 0, None, None, 0]
        assert counts("street", "person.active") == [0, 0, 0, 0, 0, 0, None, None, 0]
        assert counts("dock", "review.alert") == [0, None, None, None, None, 0, None, None, 0]
        missing = [one for one in found.values() if one.value is None]
        assert all(one.quality is Quality.MISSING for one in missing)


def test_without_a_database_lost_ends_are_closed_by_age(tmp_path: Path) -> None:
    """Protects from objects that never go: silent for three minutes, one is gone since it was last seen."""
    with FrigateWorld(tmp_path, http=False, cameras={"dock": []}, labels=("car",)) as world, Trial(tmp_path) as trial:
        trial.run(world.source(cameras=("dock",), labels=("car",)))
        world.await_listening()
        world.minute()
        first, began = world.clock.minute, world.clock.now
        lost = world.frigate.begin("dock", "car")
        parked = world.frigate.begin("dock", "car")
        world.frigate.move(parked, active=False, at=world.clock.now + 5.0)
        world.frigate.tell(lost, at=began + 20.0)
        world.frigate.end(lost, at=began + 25.0, lost=True)
        for _ in range(6):
            world.frigate.tell(parked, 50)
            world.minute()
        trial.until(lambda: ("dock", "car.dwell", end_of(first)) in final(trial))
        dwell = final(trial)["dock", "car.dwell", end_of(first)]
        assert (dwell.value, dwell.quality) == (20.0, Quality.ESTIMATED)
        trial.until(lambda: told(trial).get(("dock", "car.active", end_of(first + 2))) == 0.0)
        found = final(trial)
        assert [found["dock", "car", end_of(first + minute)].value for minute in range(4)] == [2, 0, 0, 0]
        assert world.running is not None
        assert world.running.watch is not None
        assert list(world.running.watch.ledger.open) == [parked]


def test_a_day_at_a_busy_place_is_caught_up_page_by_page(tmp_path: Path) -> None:
    """Protects a late start: all of a night's objects are counted, though rows are wider than their objects."""
    with FrigateWorld(tmp_path, cameras={"dock": ["gate"]}, padding_s=5.0, reviews=False) as world:
        began = world.clock.now
        world.frigate.started = began - 10 * 3600.0
        for number in range(2400):
            name = world.frigate.begin("dock", "person", began - 9 * 3600.0 + number * 12.0, lost=True)
            world.frigate.end(name, began - 9 * 3600.0 + number * 12.0 + 9.0, lost=True)
        with Trial(tmp_path) as trial:
            trial.run(world.source(history_s=10 * 3600.0))
            truth = world.truth(range(world.clock.minute - 590, world.clock.minute - 1))
            counted = {key: value for key, value in truth.items() if key[1] in ("person", "person.dwell")}
            trial.until(lambda: trial.count("events", event="polls") >= 10)  # an hour each
            trial.until(lambda: not wrong(trial, counted))
            assert sum(one.value or 0.0 for one in final(trial).values() if one.channel == "person") == 2400
            assert world.api is not None
            assert not [
                asked for asked in world.api.asked if "/events" in asked and "include_thumbnails=0" not in asked
            ]
            assert trial.count("corrections") == 0


def test_a_frigate_that_refuses_us_is_given_up(tmp_path: Path) -> None:
    """Protects from asking for ever with a wrong token."""
    with FrigateWorld(tmp_path) as world, Trial(tmp_path) as trial:
        assert world.api is not None
        world.api.status = 401
        trial.run(world.source())
        with pytest.raises(SourceRefused, match="401"):
            trial.until(lambda: False)


def test_without_an_answer_minutes_are_told_as_they_pass(tmp_path: Path) -> None:
    """Protects the present from a database that does not answer; what it knew is told when it does."""
    with FrigateWorld(tmp_path, cameras={"dock": []}) as world, Trial(tmp_path) as trial:
        assert world.api is not None
        world.api.status = 503
        trial.run(world.source(labels=("person",), cameras=("dock",)))
        world.await_listening()
        trial.until(lambda: trial.count("events", event="failed_polls"))
        world.frigate.begin("dock", "person", lost=True)
        world.minute()
        first = world.clock.minute
        world.frigate.begin("dock", "person")
        world.minute()
        trial.until(lambda: told(trial).get(("dock", "person", end_of(first))) == 1.0)
        assert ("dock", "person", end_of(first - 1)) not in told(trial)
        assert [one for one in trial.reasons if one is not None and "cannot be fetched" in one]
        world.api.status = None
        trial.until(lambda: told(trial).get(("dock", "person", end_of(first - 1))) == 1.0)
        trial.until(lambda: trial.reasons[-1] is None)
