"""What may be said of cameras whose analytics come over MQTT, whatever their make."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator

from connectors.mqtt_topics import template
from pipeline.config_fields import Name, PositiveDuration
from pipeline.ingest.broker_options import BrokerOptions


def _topic_filter(value: str) -> str:
    if template(value).names:
        raise ValueError("has names in it | a topic filter, where + is any level and # the rest, as cameras/+/#")
    return value


def _divides_a_day(value: timedelta) -> timedelta:
    if timedelta(days=1) % value:
        raise ValueError("does not divide a day | such as 1m, 5m, 1h")
    return value


class CameraOptions(BrokerOptions):
    """Which broker, where the cameras publish, and how their counters become counts."""

    topics: tuple[Annotated[Name, AfterValidator(_topic_filter)], ...] = ()
    """Topic filters; empty: where the make's cameras publish by default."""
    interval: Annotated[PositiveDuration, AfterValidator(_divides_a_day)] = timedelta(minutes=1)
    """Counters become counts of so long."""
    alive_for: PositiveDuration = timedelta(hours=1)
    """A counter that says nothing has counted nothing for so long after its last report; then nothing is known."""

    @property
    def interval_us(self) -> int:
        """``interval`` in microseconds."""
        return round(self.interval.total_seconds() * 1e6)

    @property
    def alive_us(self) -> int:
        """``alive_for`` in microseconds."""
        return round(self.alive_for.total_seconds() * 1e6)
