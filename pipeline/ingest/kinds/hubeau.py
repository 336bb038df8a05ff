"""Sources of kind ``hubeau``: river heights and flows in France, from Hub'Eau's hydrometry."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from connectors.source import ReadingSource
from pipeline.config_fields import Duration, PositiveDuration
from pipeline.ingest.kind import SourceKind, SourcePlace
from pipeline.ingest.polled import PolledOptions, Url, service_of

HydroCode = Annotated[str, StringConstraints(pattern=r"^([A-Z0-9]{8}|[A-Z0-9]{10})$")]


class HubeauOptions(PolledOptions):
    """Which stations, and what of them."""

    kind: Literal["hubeau"]
    url: Url = "https://hubeau.eaufrance.fr/api/v2/hydrometrie"
    codes: tuple[HydroCode, ...] = Field(min_length=1, examples=[["K447001001"]])
    """Of stations (ten characters) or sites (eight)."""
    quantities: tuple[Literal["H", "Q"], ...] = Field(default=("H", "Q"), min_length=1)
    """H is height, Q is flow."""
    every: PositiveDuration = timedelta(minutes=5)
    history: PositiveDuration = timedelta(days=1)
    """How far back the very first poll asks; the service keeps a month."""
    overlap: Duration = timedelta(hours=2)
    """How far every poll asks back behind the newest observations: so late a correction is seen."""


def _build(options: HubeauOptions, place: SourcePlace) -> ReadingSource:
    from connectors.hubeau import HubeauSource

    return HubeauSource(
        service_of(options),
        options.codes,
        options.quantities,
        every_s=options.every.total_seconds(),
        history_s=options.history.total_seconds(),
        overlap_s=options.overlap.total_seconds(),
    )


KIND = SourceKind(HubeauOptions, _build, "river heights and flows in France (Hub'Eau)")
