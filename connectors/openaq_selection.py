"""Which of OpenAQ's locations are followed, and how its pages are asked for: by number, until one is not full."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import structlog

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.http_polling import Answer, Params, Poller
from connectors.http_words import plain
from connectors.openaq_rows import LocationsPage, ResultsPage, Sensor, locations_page
from connectors.source import Site

log = structlog.get_logger("vedette.ingest")

PAGE_SIZE = 1000
"""The most that it gives at once."""
FARTHEST_M = 25_000
"""The largest radius."""
_MOST_PAGES = 1000
_MOST_SENSORS = 20_000


class Selection:
    """Some locations, or an area; and which of what is measured there.

    Args:
        locations: ids of locations.
        bbox: least longitude, least latitude, greatest longitude, greatest latitude.
        around: latitude, longitude and metres, at most 25,000.
        parameters: such as ``pm25``, or channels such as ``no2_ppb``; empty: all.

    Raises:
        Misconfigured: if not exactly one of ``locations``, ``bbox`` and ``around`` is given, or one is wrong.
    """

    def __init__(
        self,
        locations: Sequence[int] = (),
        bbox: tuple[float, float, float, float] | None = None,
        around: tuple[float, float, int] | None = None,
        parameters: Sequence[str] = (),
    ) -> None:
        if sum((bool(locations), bbox is not None, around is not None)) != 1:
            raise Misconfigured("openaq: name either locations, a bbox, or a point with a radius")
        if locations and min(locations) < 1:
            raise Misconfigured(f"openaq: {min(locations)} is no id of a location; one is written as 2178")
        self._locations = tuple(dict.fromkeys(locations))
        self._area: Params = {}
        if bbox is not None:
            self._area = _box(*bbox)
        elif around is not None:
            self._area = _circle(*around)
        self._wanted = frozenset(parameters)

    def found(self, poller: Poller) -> tuple[list[Site], list[Sensor]]:
        """Ask which locations there are; return them and what they measure, sensors of all in one list.

        Raises:
            SourceUnavailable: if the answers cannot be used, or no sensor is found.
            Misconfigured: if the service refuses the area, or there are too many sensors.
        """
        sites: list[Site] = []
        sensors: list[Sensor] = []
        for page in self._in_area(poller) if self._area else self._named(poller):
            sites += page.sites
            sensors += page.sensors
        if not sensors:
            raise SourceUnavailable(
                f"OpenAQ knows no sensor of what is asked for, at {len(sites)} locations found; "
                "look at locations, area and parameters"
            )
        if len(sensors) > _MOST_SENSORS:
            raise Misconfigured(
                f"openaq: {len(sensors)} sensors are in the area; at most {_MOST_SENSORS} can be asked in turn: "
                "make it smaller, or name parameters"
            )
        return sites, sensors

    def _named(self, poller: Poller) -> Iterator[LocationsPage]:
        for number in self._locations:
            answer = poller.get(f"locations/{number}", accept=(200, 404))
            page = locations_page(answer.body, self._wanted) if answer.status == 200 else LocationsPage()
            whole(page, answer)
            if not page.sites:
                log.warning("OpenAQ knows no such location", location=number)
            yield page

    def _in_area(self, poller: Poller) -> Iterator[LocationsPage]:
        for answer in numbered_pages(poller, "locations", self._area, accept=(200, 422)):
            if answer.status == 422:
                said = plain(answer.body[:500].decode("utf-8", "replace"))
                raise Misconfigured(f"openaq: the area is refused: {said}")
            page = locations_page(answer.body, self._wanted)
            whole(page, answer)
            yield page
            if not page.full(PAGE_SIZE):
                return


def numbered_pages(poller: Poller, link: str, params: Params, accept: Sequence[int]) -> Iterator[Answer]:
    """Yield answer after answer; the caller leaves when one is the last.

    Raises:
        SourceUnavailable: if a page does not come, or there is no end of them.
    """
    for number in itertools.count(1):
        if number > _MOST_PAGES:
            raise SourceUnavailable(f"there is no end of the pages of {link}, after {_MOST_PAGES}")
        yield poller.get(link, {**params, "limit": PAGE_SIZE, "page": number}, accept=accept)


def whole(page: ResultsPage, answer: Answer) -> None:
    """Return if the page can be used.

    Raises:
        SourceUnavailable: if it cannot.
    """
    if page.broken:
        kind = answer.headers.get("content-type", "no content type")
        raise SourceUnavailable(plain(f"OpenAQ answers {answer.status} as {kind}: {page.broken}"))


def _box(west: float, south: float, east: float, north: float) -> Params:
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise Misconfigured(
            f"openaq: bbox {west}, {south}, {east}, {north} is none; it is written as least longitude, least latitude, "
            "greatest longitude, greatest latitude"
        )
    return {"bbox": ",".join(str(round(edge, 4)) for edge in (west, south, east, north))}


def _circle(latitude: float, longitude: float, radius_m: int) -> Params:
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 1 <= radius_m <= FARTHEST_M):
        raise Misconfigured(
            f"openaq: {latitude}, {longitude}, {radius_m} is no latitude, longitude and radius of 1 to {FARTHEST_M} m"
        )
    return {"coordinates": f"{round(latitude, 4)},{round(longitude, 4)}", "radius": radius_m}
