"""Sources of kind ``axis``: cameras that publish Axis Object Analytics over MQTT."""

from __future__ import annotations

from typing import Literal

from connectors.source import ReadingSource
from pipeline.config_fields import Name
from pipeline.ingest.camera_options import CameraOptions
from pipeline.ingest.kind import SourceKind, SourcePlace


class AxisOptions(CameraOptions):
    """Which broker, where the cameras publish, and which scenarios tell what is there now."""

    kind: Literal["axis"]
    occupancy: tuple[Name, ...] = ()
    """Scenarios of occupancy, as Device1Scenario2, beside those whose messages have no startTime."""


def _build(options: AxisOptions, place: SourcePlace) -> ReadingSource:
    from connectors.axis_mqtt import AxisSource

    return AxisSource(
        options.broker(),
        options.topics,
        occupancy=options.occupancy,
        interval_us=options.interval_us,
        alive_us=options.alive_us,
    )


KIND = SourceKind(AxisOptions, _build, "Axis Object Analytics over MQTT: counts by class, occupancy, active scenarios")
