"""Sources of kind ``usgs_archive``: kept answers of the USGS's former instantaneous-values service."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr, StrictBool

from connectors.source import ReadingSource
from pipeline.config_fields import Duration, Name, PositiveDuration, Secret
from pipeline.ingest.kind import SourceKind, SourceOptions, SourcePlace


class UsgsArchiveOptions(SourceOptions):
    """Which files."""

    kind: Literal["usgs_archive"]
    path: Name = Field(examples=["archive/*.json.gz"])
    """``*``, ``?``, ``[…]`` and ``**`` stand for names; a URL that fsspec knows, as ``s3://bucket/2024/*.json``."""
    follow: bool = False
    """Whether to wait for new files; else the source ends when all is read."""
    every: PositiveDuration = timedelta(seconds=10)
    """From look to look, while following."""
    settle: Duration = timedelta(minutes=1)
    """While following, files left alone for so long are complete."""
    storage: dict[Name, StrictBool | Secret] = Field(default_factory=dict)
    """fsspec's own options for the object store."""


def _build(options: UsgsArchiveOptions, place: SourcePlace) -> ReadingSource:
    from connectors.file_places import Places
    from connectors.usgs_archive_files import UsgsArchiveFiles

    storage = {
        name: word.get_secret_value() if isinstance(word, SecretStr) else word for name, word in options.storage.items()
    }
    return UsgsArchiveFiles(
        Places(options.path, storage),
        follow=options.follow,
        every_s=options.every.total_seconds(),
        settle_s=options.settle.total_seconds(),
    )


KIND = SourceKind(UsgsArchiveOptions, _build, "kept answers of the USGS's former service (WaterML as JSON)")
