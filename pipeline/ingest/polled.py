"""What may be said of every source that polls an HTTP service."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from connectors.http_service import HttpService
from pipeline.config_fields import PositiveDuration, Size
from pipeline.ingest.kind import SourceOptions

Url = Annotated[str, StringConstraints(pattern=r"^https?://[^/@\s]+(/[^\s]*)?$", max_length=1000)]
"""Without a user and password: a key has a place of its own."""


class PolledOptions(SourceOptions):
    """Each kind sets its own ``url`` and ``every``; a kind whose service knows keys adds ``key``."""

    url: Url = Field(examples=["https://api.example.org/v1"])
    """Where the service is. A mirror's address may stand here; a key goes to this host only."""
    contact: str = Field(default="", max_length=200, examples=["ops@town.example"])
    """How the service's people reach you; it is part of every request's User-Agent."""
    every: PositiveDuration = timedelta(minutes=15)
    """From poll to poll."""
    timeout: PositiveDuration = timedelta(seconds=60)
    """For one whole answer."""
    max_answer: Size = 64 << 20
    """Larger answers are given up."""
    ca_file: Path | None = None
    """PEM with the authorities that the service's certificate is checked against; none: the system's."""


def service_of(options: PolledOptions, key: SecretStr | None = None, key_header: str = "X-API-Key") -> HttpService:
    """Return the service that the options describe.

    Raises:
        Misconfigured: if its address, its key or the contact cannot be used.
    """
    return HttpService(
        base_url=options.url,
        key=None if key is None else key.get_secret_value(),
        key_header=key_header,
        contact=options.contact,
        timeout_s=options.timeout.total_seconds(),
        max_bytes=options.max_answer,
        ca_file=options.ca_file,
    )
