"""Sources of kind ``sensor_community``: air quality from stations that people have built."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from connectors.source import ReadingSource
from pipeline.config_fields import PositiveDuration, Section
from pipeline.ingest.kind import SourceKind, SourcePlace
from pipeline.ingest.polled import PolledOptions, service_of

Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
SensorType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,30}$")]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class AreaOptions(Section):
    """A point, and how far around it."""

    latitude: Latitude = Field(examples=[48.788])
    longitude: Longitude = Field(examples=[9.188])
    radius_km: float = Field(gt=0, le=20_000, examples=[10])


class SensorCommunityOptions(PolledOptions):
    """Which sensors: some by their ids, a part of all by ``types``, ``area``, ``box`` and ``countries``, or all."""

    kind: Literal["sensor_community"]
    url: str = Field(default="https://data.sensor.community", pattern=r"^https?://[^/@\s]+")
    contact: str = Field(min_length=3, max_length=200, examples=["ops@town.example"])
    """How the service's people reach you; they ask for it."""
    every: PositiveDuration = timedelta(minutes=2)
    """The service keeps five minutes."""
    sensors: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Ids, as on the map; each costs a request."""
    types: tuple[SensorType, ...] = ()
    """Kinds of sensor, such as SDS011 and BME280."""
    area: AreaOptions | None = None
    box: tuple[Latitude, Longitude, Latitude, Longitude] | None = None
    """Two corners: latitude, longitude, latitude, longitude."""
    countries: tuple[Country, ...] = ()
    averages: bool = False
    """Of all sensors, over five minutes, in the place of single values."""
    indoor: bool = False
    """Whether sensors in houses count too."""

    @model_validator(mode="after")
    def _one_selection(self) -> SensorCommunityOptions:
        part = bool(self.types or self.area or self.box or self.countries)
        if bool(self.sensors) + part + self.averages > 1:
            raise ValueError("mixes sensors, a part of all, and averages of all | one of them")
        if self.area is not None and self.box is not None:
            raise ValueError("has an area and a box | one of them")
        return self


def _build(options: SensorCommunityOptions, place: SourcePlace) -> ReadingSource:
    from connectors.sensor_community import SensorCommunitySource

    area = options.area
    return SensorCommunitySource(
        service_of(options),
        sensors=options.sensors,
        types=options.types,
        area=None if area is None else (area.latitude, area.longitude, area.radius_km),
        box=options.box,
        countries=options.countries,
        averages=options.averages,
        indoor=options.indoor,
        every_s=options.every.total_seconds(),
    )


KIND = SourceKind(SensorCommunityOptions, _build, "air quality from stations that people have built (Sensor.Community)")
