"""Sources of kind ``frigate``: what a Frigate network video recorder sees, as counts per minute."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from connectors.source import ReadingSource
from pipeline.config_fields import Name, PositiveDuration, Secret
from pipeline.ingest.broker_options import BrokerOptions
from pipeline.ingest.kind import SourceKind, SourcePlace

Word = Annotated[str, StringConstraints(pattern=r"^[^/,+#\s]+$", max_length=60)]


class FrigateOptions(BrokerOptions):
    """Where Frigate publishes, where it can be asked, and what of it is counted."""

    kind: Literal["frigate"]
    topic_prefix: Name = "frigate"
    """``mqtt.topic_prefix`` of Frigate's config."""
    url: str | None = Field(default=None, pattern=r"^https?://[^/@\s]+", examples=["http://frigate.example.org:5000"])
    """Where its API answers; without it, what is missed while a link is down is lost."""
    token: Secret | None = None
    """Sent as ``Authorization: Bearer TOKEN``, for port 8971."""
    ca_file: Path | None = None
    """PEM with the authorities that the API's certificate is checked against; none: the system's."""
    timeout: PositiveDuration = timedelta(seconds=20)
    """For one whole answer."""
    cameras: tuple[Word, ...] = ()
    """Those that are looked at; empty: all."""
    labels: tuple[Word, ...] = ()
    """Those that are counted; empty: all that Frigate follows."""
    reviews: bool = True
    """Whether reviews are counted, by severity."""
    grace: PositiveDuration = timedelta(seconds=10)
    """How long after its end a minute is told: Frigate needs a moment to be sure of an object."""
    every: PositiveDuration = timedelta(minutes=5)
    """How often the API is asked without a reason; it is asked at once when something was missed."""
    silent: PositiveDuration = timedelta(minutes=3)
    """An object that nothing is heard of for so long is looked into; Frigate tells of each once a minute."""
    history: PositiveDuration = timedelta(hours=1)
    """How far back the very first start asks."""
    reach: PositiveDuration = timedelta(days=1)
    """How far back any later start asks, and how long ago a minute may be corrected."""


def _build(options: FrigateOptions, place: SourcePlace) -> ReadingSource:
    from connectors.frigate import FrigateSource
    from connectors.http_service import HttpService

    service = None
    if options.url is not None:
        service = HttpService(
            base_url=options.url,
            key=None if options.token is None else f"Bearer {options.token.get_secret_value()}",
            key_header="Authorization",
            timeout_s=options.timeout.total_seconds(),
            ca_file=options.ca_file,
            tries=2,
        )
    return FrigateSource(
        options.broker(),
        service,
        prefix=options.topic_prefix,
        cameras=options.cameras,
        labels=options.labels,
        reviews=options.reviews,
        grace_s=options.grace.total_seconds(),
        every_s=options.every.total_seconds(),
        silent_s=options.silent.total_seconds(),
        history_s=options.history.total_seconds(),
        reach_s=options.reach.total_seconds(),
        now_us=place.now_us,
    )


KIND = SourceKind(FrigateOptions, _build, "Frigate: objects and reviews per camera, zone and label, by the minute")
