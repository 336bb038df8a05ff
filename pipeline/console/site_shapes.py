"""What the answers about sites look like; see ``pipeline.console.shapes``."""

from __future__ import annotations

from typing_extensions import TypedDict

Number = float | None


class SiteLine(TypedDict):
    """A site in a list."""

    entity: str
    name: str
    """As people call it; empty where its source does not tell."""
    source: str
    """Who told of it."""
    latitude: Number
    """Degrees north, WGS 84; null where unknown."""
    longitude: Number
    state: str
    """unknown (nothing measures it now), ok, silent, watch or alert: the worst that is open about it."""
    stream: str | None
    """Which measures it, or did as the incident was opened; null where none does."""


class SitePage(TypedDict):
    """Some of the sites that fit: the worst first, then by entity."""

    sites: list[SiteLine]
    total: int
    offset: int
    limit: int
    counts: dict[str, int]
    """State to how many fit but for the state that was asked for."""
    located: int
    """How many of those that fit have coordinates."""
    troubles: list[str]
    """What could not be asked, and why."""


class SiteDetail(TypedDict):
    """All that its source tells of a site."""

    entity: str
    name: str
    source: str
    latitude: Number
    longitude: Number
    channels: dict[str, str]
    """Channel to unit."""
    limits: dict[str, list[Number]]
    """Channel to the lowest and the highest value that can be true there."""
    attributes: dict[str, str]
    changed: str | None
    """When it was told of otherwise for the last time."""
