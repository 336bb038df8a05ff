"""Sources of kind ``usgs``: gauges in the United States, from the USGS's Water Data service."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from connectors.source import ReadingSource
from pipeline.config_fields import PositiveDuration, Secret
from pipeline.ingest.kind import SourceKind, SourcePlace
from pipeline.ingest.polled import PolledOptions, Url, service_of

SiteId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]+-[^,\s]+$", max_length=60)]
ParameterCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{5}$")]


class UsgsOptions(PolledOptions):
    """Which sites, and what of them."""

    kind: Literal["usgs"]
    url: Url = "https://api.waterdata.usgs.gov/ogcapi/v0"
    key: Secret | None = None
    """50 requests an hour are answered without, 1000 with one."""
    sites: tuple[SiteId, ...] = Field(min_length=1, examples=[["USGS-06904500"]])
    """Monitoring locations: agency, hyphen, number."""
    parameters: tuple[ParameterCode, ...] = Field(default=("00060", "00065"), min_length=1)
    """Parameter codes in quotes; 00060 is discharge, 00065 stage, 00010 water temperature."""
    history: PositiveDuration = timedelta(days=1)
    """How far back the very first poll asks."""
    overlap: PositiveDuration = timedelta(minutes=30)
    """How far every poll asks back behind the newest modification seen; at least ``every``."""


def _build(options: UsgsOptions, place: SourcePlace) -> ReadingSource:
    from connectors.usgs import KEY_HEADER, UsgsSource

    return UsgsSource(
        service_of(options, options.key, KEY_HEADER),
        options.sites,
        options.parameters,
        every_s=options.every.total_seconds(),
        history_s=options.history.total_seconds(),
        overlap_s=options.overlap.total_seconds(),
    )


KIND = SourceKind(UsgsOptions, _build, "water gauges of the United States (USGS Water Data)")
