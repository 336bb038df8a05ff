"""What the site registry takes and gives: plain values without SQL."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from connectors.source import Site

LONGEST_ENTITY = 256
"""Characters, as in readings: nothing longer is ever measured."""
_LONGEST_NAME = 300
_LONGEST_VALUE = 500
_MOST_CHANNELS = 300
_MOST_ATTRIBUTES = 60

Limits = Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True, slots=True)
class SiteRow:
    """All that is known of a place."""

    entity: str
    source: str
    """Who told of it last."""
    name: str
    latitude: float | None
    """Degrees north, WGS 84; None together with ``longitude``."""
    longitude: float | None
    channels: Mapping[str, str]
    """Channel to unit."""
    limits: Limits
    """Channel to the lowest and the highest value that can be true there."""
    attributes: Mapping[str, str]
    changed_us: int = 0
    """Wall clock of the last change."""
    revision: int = 0
    """Grows with every change of any site; larger is later."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a map and a list need of a site."""

    entity: str
    source: str
    name: str
    latitude: float | None
    longitude: float | None


def bounded(site: Site) -> Site | None:
    """Return a site as it can be kept: degrees that are some, finite limits, nothing endless; None without an entity.

    Exactly 0° N 0° E is taken for unknown: that is how many a provider writes it, and nobody measures there.
    """
    if not 0 < len(site.entity) <= LONGEST_ENTITY:
        return None
    latitude, longitude = _position(site.latitude, site.longitude)
    channels = [(name, unit[:64]) for name, unit in site.channels.items() if 0 < len(name) <= LONGEST_ENTITY]
    limits = [(name, (_finite(low), _finite(high))) for name, (low, high) in site.limits.items()]
    attributes = [(name[:100], value[:_LONGEST_VALUE]) for name, value in site.attributes.items()]
    return replace(
        site,
        name=site.name[:_LONGEST_NAME],
        latitude=latitude,
        longitude=longitude,
        channels=dict(channels[:_MOST_CHANNELS]),
        limits=dict(limits[:_MOST_CHANNELS]),
        attributes=dict(attributes[:_MOST_ATTRIBUTES]),
    )


def merged(known: SiteRow | None, source: str, site: Site) -> SiteRow:
    """Return what is known of a place after ``source`` has told ``site``; what it does not tell stays as it was."""
    if known is None:
        known = SiteRow(site.entity, source, "", None, None, {}, {}, {})
    located = site.latitude is not None and site.longitude is not None
    return replace(
        known,
        source=source,
        name=site.name or known.name,
        latitude=site.latitude if located else known.latitude,
        longitude=site.longitude if located else known.longitude,
        channels=dict(site.channels) or known.channels,
        limits={name: (low, high) for name, (low, high) in site.limits.items()} or known.limits,
        attributes=dict(site.attributes) or known.attributes,
    )


def _position(latitude: float | None, longitude: float | None) -> tuple[float | None, float | None]:
    if latitude is None or longitude is None or not (math.isfinite(latitude) and math.isfinite(longitude)):
        return None, None
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 360) or latitude == longitude == 0:
        return None, None
    return float(latitude), float(longitude - 360 if longitude > 180 else longitude)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
