"""Sources of kind ``openaq``: air quality all over the world, from OpenAQ's API v3."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from connectors.source import ReadingSource
from pipeline.config_fields import Duration, Name, PositiveDuration, Secret, Section
from pipeline.ingest.kind import SourceKind, SourcePlace
from pipeline.ingest.polled import PolledOptions, service_of

Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]


class AroundOptions(Section):
    """A point, and how far around it."""

    latitude: Latitude = Field(examples=[48.788])
    longitude: Longitude = Field(examples=[9.188])
    radius_m: int = Field(ge=1, le=25_000, examples=[12_000])


class OpenAQOptions(PolledOptions):
    """Which locations, and what of them. Exactly one of ``locations``, ``bbox`` and ``around``."""

    kind: Literal["openaq"]
    url: str = Field(default="https://api.openaq.org/v3", pattern=r"^https?://[^/@\s]+")
    key: Secret = Field(examples=["file:secrets/openaq"])
    """Of your account: 60 questions a minute and 2,000 an hour are answered with it."""
    locations: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Ids of locations, as in the addresses of explore.openaq.org."""
    bbox: tuple[Longitude, Latitude, Longitude, Latitude] | None = None
    """Least longitude, least latitude, greatest longitude, greatest latitude."""
    around: AroundOptions | None = None
    parameters: tuple[Name, ...] = ()
    """Such as pm25 and no2; no2_ppb takes only what is measured as a mixing ratio. Empty: all; each one costs."""
    series: Literal["measurements", "hours"] = "measurements"
    """As reported, or means of hours."""
    history: PositiveDuration = timedelta(days=1)
    """How far back a sensor is asked for at first."""
    overlap: Duration = timedelta(hours=6)
    """How far behind its newest value each sensor is asked for again: so late a value may come."""

    @model_validator(mode="after")
    def _one_selection(self) -> OpenAQOptions:
        if sum((bool(self.locations), self.bbox is not None, self.around is not None)) != 1:
            raise ValueError("names not exactly one of locations, bbox and around | name one of them")
        return self


def _build(options: OpenAQOptions, place: SourcePlace) -> ReadingSource:
    from connectors.openaq import OpenAQSource

    around = options.around
    return OpenAQSource(
        service_of(options, options.key),
        locations=options.locations,
        bbox=options.bbox,
        around=None if around is None else (around.latitude, around.longitude, around.radius_m),
        parameters=options.parameters,
        series=options.series,
        every_s=options.every.total_seconds(),
        history_s=options.history.total_seconds(),
        overlap_s=options.overlap.total_seconds(),
    )


KIND = SourceKind(OpenAQOptions, _build, "air quality all over the world (OpenAQ)")
