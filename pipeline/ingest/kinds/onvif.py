"""Sources of kind ``onvif``: cameras that publish ONVIF events over MQTT."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from connectors.interval_counts import times_of
from connectors.payload_times import zone_of
from connectors.source import ReadingSource
from pipeline.config_fields import Name
from pipeline.ingest.camera_options import CameraOptions
from pipeline.ingest.kind import SourceKind, SourcePlace


def _time_of_day(value: str) -> str:
    times_of([value])
    return value


def _zone(value: str) -> str:
    zone_of(value)
    return value


class OnvifOptions(CameraOptions):
    """Which broker, where the cameras publish, and when their counters are reset."""

    kind: Literal["onvif"]
    resets: tuple[Annotated[Name, AfterValidator(_time_of_day)], ...] = ()
    """Times of day, as "00:00", at which counters are reset; a total that falls is a reset at any time."""
    time_zone: Annotated[Name, AfterValidator(_zone)] = "UTC"
    """Of ``resets``, as Europe/Berlin."""


def _build(options: OnvifOptions, place: SourcePlace) -> ReadingSource:
    from connectors.interval_counts import DailyResets
    from connectors.onvif_mqtt import OnvifSource

    return OnvifSource(
        options.broker(),
        options.topics,
        interval_us=options.interval_us,
        alive_us=options.alive_us,
        resets=DailyResets(times_of(options.resets), zone_of(options.time_zone)),
    )


KIND = SourceKind(OnvifOptions, _build, "ONVIF cameras over MQTT: counts, occupancy, motion")
