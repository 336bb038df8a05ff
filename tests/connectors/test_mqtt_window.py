"""What waits to be acknowledged is offered in the order in which it came, whatever fails."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import SpoolUnavailable
from connectors.mqtt_messages import MqttMessage, Taken
from connectors.mqtt_window import Window
from connectors.reading import Reading
from pipeline.ingest.trial import Trial


def test_what_fails_after_what_came_before_it_is_offered_before_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects order: batches fail one after the other, and the first may be noticed before the second has."""
    with Trial(tmp_path) as trial:
        now_s = 0.0
        window = Window(trial.outlet, lambda: None, 100, 1 << 20, lambda: now_s)
        first, second = Future[None](), Future[None]()
        given = iter((first, second))
        with monkeypatch.context() as failing:
            failing.setattr(trial.outlet, "offer", lambda *_, **__: next(given))
            for number in (1, 2):
                window.add(*message(number))
            window.offer()
        first.set_exception(SpoolUnavailable("the disk is full"))
        assert window.durable() == []
        second.set_exception(SpoolUnavailable("the disk is full"))
        window.add(*message(3))
        now_s = 10.0
        window.offer()
        trial.until(lambda: window.durable() or window.empty)
        assert [reading.time_us for reading in trial.readings()] == [1, 2, 3]


def message(number: int) -> tuple[list[MqttMessage], Taken]:
    got = MqttMessage("air", b"%d" % number, 1, False, number, 0)
    readings: list[Any] = [Reading("a", "pm25", number, 1.0)]
    return [got], Taken(readings)
