"""Sensor.Community: thousands of stations that people have built, in one document or in a part of it.

The service keeps five minutes: what is not asked for in time is gone, and there is no cursor to go on from. Documents
overlap, and the outlet knows what it has seen of a sensor at a time.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Sequence

import structlog

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.http_polling import Poller
from connectors.http_service import HttpService
from connectors.http_words import plain
from connectors.poll_schedule import poll_forever
from connectors.rate_limiting import Limit, RateLimiter
from connectors.sensor_community_rows import rows_of
from connectors.source import Outlet, Site
from connectors.whole_polls import RejectedBefore, WholePoll

log = structlog.get_logger("vedette.ingest")

BASE_URL = "https://data.sensor.community"
ALL = "static/v1/data.json"
"""What came of all sensors in the last five minutes."""
AVERAGES = "static/v2/data.json"
"""Each sensor's average over the last five minutes."""
KEPT_S = 300.0
"""So long the service keeps what it has."""
_RECEIVING_HOSTS = ("api.sensor.community", "api.luftdaten.info")
"""For stations to push to; asking for data there is unwelcome."""
LIMITS = (Limit(30, 60.0),)
"""The service names none; its documents are renewed once a minute."""
_MOST_DESCRIBED = 100_000


class SensorCommunitySource:
    """Brings what stations have sent; see ``connectors.source.ReadingSource``.

    The entity is ``sc-`` and the sensor's id: a station's dust sensor and its thermometer are two. The station is an
    attribute of the site.

    Args:
        service: without a key; with a contact.
        sensors: ids; each costs a request.
        types: kinds of sensor, as ``SDS011``.
        area: latitude, longitude and kilometres.
        box: two corners: latitude, longitude, latitude, longitude.
        countries: codes of two letters.
        averages: of all sensors, over five minutes; not of a part of them.
        indoor: whether sensors in houses count too.
        every_s: from poll to poll; more than five minutes leave gaps.
        limits: how often it is asked at most.

    Raises:
        Misconfigured: if the contact is missing, the address is the one for stations, or the selection is none.
    """

    def __init__(
        self,
        service: HttpService,
        *,
        sensors: Sequence[int] = (),
        types: Sequence[str] = (),
        area: tuple[float, float, float] | None = None,
        box: tuple[float, float, float, float] | None = None,
        countries: Sequence[str] = (),
        averages: bool = False,
        indoor: bool = False,
        every_s: float = 120.0,
        limits: Sequence[Limit] = LIMITS,
    ) -> None:
        if not service.contact:
            raise Misconfigured("sensor_community: contact is missing; who asks has to say how to be reached")
        if service.host in _RECEIVING_HOSTS:
            raise Misconfigured(f"sensor_community: {service.host} is for stations to push to; ask {BASE_URL}")
        query = _query(types, area, box, countries)
        if bool(sensors) + bool(query) + averages > 1:
            raise Misconfigured("sensor_community: name either sensors, or a part of all, or averages of all")
        if sensors and min(sensors) < 1:
            raise Misconfigured(f"sensor_community: {min(sensors)} is no id of a sensor; one is written as 67890")
        paths = [f"airrohr/v1/sensor/{one}/" for one in dict.fromkeys(sensors)]
        if not paths:
            paths = [f"airrohr/v1/filter/{query}" if query else AVERAGES if averages else ALL]
        self._service = service
        self._paths = deque(paths)
        self._indoor = indoor
        self._every_s = every_s
        self._limiter = RateLimiter(*limits)
        self._rejected = RejectedBefore()
        self._described: dict[str, int] = {}

    def run(self, outlet: Outlet) -> None:
        """Bring what there is until the outlet stops; see ``connectors.source.ReadingSource.run``."""
        self._described.clear()
        if self._every_s > KEPT_S:
            log.warning("asked so rarely, the service has forgotten part of it", every_s=self._every_s, kept_s=KEPT_S)
        with Poller(self._service, outlet, self._limiter) as poller:
            poll_forever(outlet, self._every_s, lambda: self._poll(poller, outlet))

    def _poll(self, poller: Poller, outlet: Outlet) -> bool:
        for _ in range(len(self._paths)):
            path = self._paths[0]
            self._paths.rotate(-1)  # after one that fails, the next poll begins with the others
            self._bring(poller, outlet, path)
        return False

    def _bring(self, poller: Poller, outlet: Outlet, path: str) -> None:
        answer = poller.get(path, accept=(200, 404) if "/sensor/" in path else (200,), conditional=True)
        if answer.status != 200:
            outlet.count("unchanged" if not answer.changed else "sensors_unknown")
            return
        poll = WholePoll(outlet, self._rejected)
        for piece in rows_of(answer.body, indoor=self._indoor):
            if piece.broken:
                kind = answer.headers.get("content-type", "no content type")
                raise SourceUnavailable(plain(f"{self._service.host} answers {path} as {kind}: {piece.broken}"))
            poll.add(piece.readings, piece.rejected)
            for event, n in (("indoor", piece.indoor), ("refused_unlisted", piece.unlisted)):
                if n:
                    outlet.count(event, n)
            self._describe(outlet, piece.sites)
        poll.finish(None)
        poller.remember(answer)

    def _describe(self, outlet: Outlet, sites: Iterable[Site]) -> None:
        """Tell of the sites that are new, or were moved: the same thousands come every two minutes."""
        new = []
        for site in sites:
            mark = zlib.crc32(repr(site).encode("utf-8", "backslashreplace"))
            if self._described.get(site.entity) != mark:
                self._described[site.entity] = mark
                new.append(site)
        while len(self._described) > _MOST_DESCRIBED:
            del self._described[next(iter(self._described))]
        if new:
            outlet.describe(new)


def _query(
    types: Sequence[str],
    area: tuple[float, float, float] | None,
    box: tuple[float, float, float, float] | None,
    countries: Sequence[str],
) -> str:
    """Return what is written behind ``filter/``; empty where nothing is chosen."""
    if area is not None and box is not None:
        raise Misconfigured("sensor_community: name either an area or a box")
    parts = []
    for name, words in (("type", types), ("country", countries)):
        wrong = [one for one in words if not (one.isascii() and one.replace("-", "").replace("_", "").isalnum())]
        if wrong:
            raise Misconfigured(f"sensor_community: {wrong[0]!r} is no {name}")
        if words:
            parts.append(f"{name}={','.join(words)}")
    for name, numbers in (("area", area), ("box", box)):
        if numbers is not None:
            if abs(numbers[0]) > 90 or abs(numbers[1]) > 180 or (name == "area" and not 0 < numbers[2] <= 20_000):
                raise Misconfigured(f"sensor_community: {name} {numbers} begins with no latitude and longitude")
            parts.append(f"{name}={','.join(str(round(one, 5)) for one in numbers)}")
    return "&".join(parts)
