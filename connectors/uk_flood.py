"""England's river levels, flows and rain: the Environment Agency's flood-monitoring service.

Stations report in batches, some twice a day. For named stations each is asked for everything since its own newest
reading, and nothing is lost. Without names one request brings the newest reading of every measure in England, which
the service recommends for crawling; of a batch only the last reading is seen then.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.http_polling import Answer, Params, Poller
from connectors.http_service import HttpService
from connectors.poll_progress import Progress
from connectors.poll_schedule import poll_forever
from connectors.rate_limiting import Limit, RateLimiter
from connectors.source import Outlet
from connectors.timestamps import to_text
from connectors.uk_flood_pages import ReadingsPage, readings_page, sites_page
from connectors.whole_polls import RejectedBefore, WholePoll

log = structlog.get_logger("vedette.ingest")

BASE_URL = "https://environment.data.gov.uk/flood-monitoring"
MOST_ROWS = 10_000
"""The service gives no more in one answer."""
_REACH_US = 2 * 86_400_000_000
"""Batches come once or twice a day; a measure that is further behind the others has stopped."""
_LIMIT = Limit(300, 60.0)
"""The service names none; this is five requests a second."""
_LOOK_AGAIN_US = 86_400_000_000
_LOOK_AGAIN_SOON_US = 3_600_000_000
_OVERLAP_US = 3_600_000_000
"""Asked for again at each poll: the newest reading of every measure, and what was put right since."""
_MOST_FAILURES = 3
"""One after the other: then it is not the stations."""


class UkFloodSource:
    """Brings the readings of some stations, or the latest of all; see ``connectors.source.ReadingSource``.

    The entity is the station's reference (``1491TH``); the channel tells all that sets measures of a station apart:
    ``stage``, ``stage_downstage``, ``stage_maod`` (above ordnance datum), ``discharge``, ``rain``.

    Args:
        service: no key.
        stations: references; empty: the latest readings of all.
        parameter: ``level``, ``flow`` or ``rainfall``; empty: all.
        every_s: from poll to poll; the service asks for no less than 15 minutes for all.
        history_s: how far back the first poll asks for each station.

    Raises:
        Misconfigured: if a station's reference is none.
    """

    def __init__(
        self,
        service: HttpService,
        stations: Sequence[str] = (),
        *,
        parameter: str = "",
        every_s: float = 900.0,
        history_s: float = 86_400.0,
    ) -> None:
        for station in stations:
            if not station or not set(station).isdisjoint("/?#&% "):
                raise Misconfigured(f"uk_flood: {station!r} is no station reference; one is written as 1491TH")
        self._service = service
        self._stations = tuple(stations)
        self._parameter = {"parameter": parameter} if parameter else {}
        self._every_s = every_s
        self._history_us = round(history_s * 1e6)
        self._limiter = RateLimiter(_LIMIT)
        self._rejected = RejectedBefore()
        self._described_us: int | None = None

    def run(self, outlet: Outlet) -> None:
        """Bring readings until the outlet stops; see ``connectors.source.ReadingSource.run``."""
        self._described_us = None
        progress: list[Progress] = []  # made at the first poll: by then the service's clock is known

        with Poller(self._service, outlet, self._limiter) as poller:

            def poll() -> bool:
                self._describe_if_due(poller, outlet)
                if not self._stations:
                    self._bring_latest(poller, outlet)
                    return False
                if not progress:
                    progress.append(Progress(outlet.cursor(), poller.now_us() - self._history_us, _REACH_US))
                return self._bring_stations(poller, outlet, progress[0])

            poll_forever(outlet, self._every_s, poll)

    def _bring_stations(self, poller: Poller, outlet: Outlet, progress: Progress) -> bool:
        """Bring what each station has; return whether one has more than an answer holds.

        A station that cannot be read holds up no other: its own place in the cursor stays.
        """
        poll, more, failures = WholePoll(outlet, self._rejected), False, 0
        reason: SourceUnavailable | None = None
        for station in self._stations:
            try:
                more = self._bring_station(poller, poll, progress, station) or more
            except SourceUnavailable as error:
                reason, failures = error, failures + 1
                if failures == _MOST_FAILURES:
                    break
            else:
                failures = 0
        poll.finish(progress.cursor(self._stations))
        if reason is not None:
            raise reason
        return more

    def _bring_station(self, poller: Poller, poll: WholePoll, progress: Progress, station: str) -> bool:
        since_us = progress.since(station)
        params: Params = {"since": to_text(since_us - _OVERLAP_US), "_limit": MOST_ROWS, **self._parameter}
        answer = poller.get(f"id/stations/{station}/readings", params, accept=(200, 404))
        if answer.status == 404:  # told when it was looked up
            return False
        page = _usable(answer)
        poll.add(page.readings, page.rejected)
        for one in page.readings:
            # A clock of theirs that runs ahead may not move us past what is still to come.
            progress.saw(station, one.channel, min(one.time_us, poller.now_us()))
        # Unsorted the oldest come first, so what did not fit is asked for next.
        return page.rows >= MOST_ROWS and progress.since(station) > since_us

    def _bring_latest(self, poller: Poller, outlet: Outlet) -> None:
        also = "".join(f"&{name}={value}" for name, value in self._parameter.items())
        answer = poller.get(f"data/readings?latest{also}", conditional=True)
        if not answer.changed:
            outlet.count("unchanged")
            return
        page = _usable(answer)
        poll = WholePoll(outlet, self._rejected)
        poll.add(page.readings, page.rejected)
        poll.finish(None)
        poller.remember(answer)

    def _describe_if_due(self, poller: Poller, outlet: Outlet) -> None:
        """Tell where the stations are; readings come without that too."""
        if self._described_us is not None and poller.now_us() - self._described_us < _LOOK_AGAIN_US:
            return
        try:
            self._describe(poller, outlet)
            self._described_us = poller.now_us()
        except SourceUnavailable:
            outlet.count("failed_looks")
            self._described_us = poller.now_us() - _LOOK_AGAIN_US + _LOOK_AGAIN_SOON_US

    def _describe(self, poller: Poller, outlet: Outlet) -> None:
        links = [f"id/stations/{station}" for station in self._stations] or ["id/stations"]
        for link in links:
            answer = poller.get(link, {} if self._stations else {"_limit": MOST_ROWS}, accept=(200, 404))
            if answer.status == 404:
                log.warning("a service knows nothing of a station", host=self._service.host, asked=link)
                outlet.count("unknown_stations")
                continue
            sites, broken = sites_page(answer.body)
            if broken:
                raise SourceUnavailable(f"what {link} answers cannot be used: {broken}")
            outlet.describe(sites)


def _usable(answer: Answer) -> ReadingsPage:
    page = readings_page(answer.body)
    if page.broken:
        kind = answer.headers.get("content-type", "no content type")
        raise SourceUnavailable(f"an answer cannot be used ({kind}): {page.broken}")
    return page
