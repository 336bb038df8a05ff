"""Sources of kind ``uk_flood``: river levels, flows and rain in England, from the Environment Agency."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import StringConstraints

from connectors.source import ReadingSource
from pipeline.config_fields import PositiveDuration
from pipeline.ingest.kind import SourceKind, SourcePlace
from pipeline.ingest.polled import PolledOptions, Url, service_of

Station = Annotated[str, StringConstraints(pattern=r"^[^/?#&%\s]+$", max_length=60)]


class UkFloodOptions(PolledOptions):
    """Which stations, and what of them."""

    kind: Literal["uk_flood"]
    url: Url = "https://environment.data.gov.uk/flood-monitoring"
    stations: tuple[Station, ...] = ()
    """References such as 1491TH, asked for all that they have; empty: the latest reading of every measure there is."""
    parameter: Literal["", "level", "flow", "rainfall"] = ""
    """Only these; empty: all."""
    history: PositiveDuration = timedelta(days=1)
    """How far back the very first poll asks for named stations."""


def _build(options: UkFloodOptions, place: SourcePlace) -> ReadingSource:
    from connectors.uk_flood import UkFloodSource

    return UkFloodSource(
        service_of(options),
        options.stations,
        parameter=options.parameter,
        every_s=options.every.total_seconds(),
        history_s=options.history.total_seconds(),
    )


KIND = SourceKind(UkFloodOptions, _build, "river levels, flows and rain in England (Environment Agency)")
