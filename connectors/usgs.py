"""USGS Water Data: continuous values of gauges in the United States, followed by when they were last modified.

The USGS rewrites values: provisional ones are corrected and approved later. So the source follows ``last_modified`` and
not the time of the values, and every modification is asked for at least twice, because ``overlap`` is at least as long
as the time between two polls: what a service shows late, or moves between two pages, is in the second.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.http_polling import Params, Poller
from connectors.http_service import HttpService
from connectors.json_documents import parsed
from connectors.linked_pages import linked_pages
from connectors.poll_schedule import poll_forever
from connectors.rate_limiting import Limit, RateLimiter
from connectors.source import Outlet
from connectors.timestamps import parse, to_text
from connectors.unchanged import Unchanged
from connectors.usgs_pages import Series, SitesPage, names_of, series_page, sites_page, values_page
from connectors.whole_polls import RejectedBefore, WholePoll

BASE_URL = "https://api.waterdata.usgs.gov/ogcapi/v0"
KEY_HEADER = "X-Api-Key"
PAGE_SIZE = 10_000
"""The most that ``continuous`` gives at once."""
_SITES_AT_ONCE = 200
"""In one address, which stays below 8 kB."""
_SPAN_US = 6 * 3_600_000_000
"""Modifications asked for at once while catching up: the cursor moves that often."""
_REACH_US = 30 * 86_400_000_000
"""Older values are left alone though they are modified: a year is approved at a time."""
_LOOK_AGAIN_US = 86_400_000_000
"""After so long it is asked anew which series there are; after an hour if one comes that is not known."""
_LOOK_AGAIN_SOON_US = 3_600_000_000


@dataclass(slots=True)
class _Known:
    """What is known of the sites, and since when."""

    names: dict[str, str] = field(default_factory=dict)
    looked_us: int | None = None
    unknown: bool = False

    def outdated(self, now_us: int) -> bool:
        age_us = None if self.looked_us is None else now_us - self.looked_us
        return age_us is None or age_us > (_LOOK_AGAIN_SOON_US if self.unknown else _LOOK_AGAIN_US)


class UsgsSource:
    """Brings the continuous values of some sites; see ``connectors.source.ReadingSource``.

    The entity is the site (``USGS-06904500``), the channel that of the parameter code, and of a second series of the
    same site and code that with the beginning of its id; see ``usgs_pages.names_of``.

    Args:
        service: ``key`` is optional: 50 requests an hour without, 1000 with one.
        sites: such as ``USGS-06904500``.
        parameters: five-digit codes.
        every_s: from poll to poll.
        history_s: how far back the first poll asks.
        overlap_s: how far each poll asks back behind the newest modification seen; at least ``every_s`` is taken.
        limits: None: those that the USGS has.

    Raises:
        Misconfigured: if there is no site or no parameter, or one is none.
    """

    def __init__(
        self,
        service: HttpService,
        sites: Sequence[str],
        parameters: Sequence[str],
        *,
        every_s: float = 900.0,
        history_s: float = 86_400.0,
        overlap_s: float = 1800.0,
        limits: Sequence[Limit] | None = None,
    ) -> None:
        for what, listed, form in (("site", sites, "USGS-06904500"), ("parameter", parameters, "00065")):
            wrong = [one for one in listed if not one or "," in one or (what == "site" and "-" not in one)]
            if wrong or not listed:
                said = f"{wrong[0]!r} is no {what}" if wrong else f"no {what} is named"
                raise Misconfigured(f"usgs: {said}; one is written as {form}")
        self._service = service
        self._chunks = [sites[start : start + _SITES_AT_ONCE] for start in range(0, len(sites), _SITES_AT_ONCE)]
        self._parameters = ",".join(parameters)
        self._every_s = every_s
        self._history_us = round(history_s * 1e6)
        self._overlap_us = round(max(overlap_s, every_s) * 1e6)
        if limits is None:
            limits = (Limit(50 if service.key is None else 1000, 3600.0),)
        self._limiter = RateLimiter(*limits)
        self._of = zlib.crc32(",".join([*sorted(sites), *sorted(parameters)]).encode())
        self._rejected = RejectedBefore()
        self._unchanged = Unchanged()

    def run(self, outlet: Outlet) -> None:
        """Bring values until the outlet stops; see ``connectors.source.ReadingSource.run``."""
        known = _Known()
        self._unchanged = Unchanged()  # an earlier run may have ended before what it remembers was durable
        with Poller(self._service, outlet, self._limiter) as poller:
            poll_forever(outlet, self._every_s, lambda: self._poll(poller, outlet, known))

    def _poll(self, poller: Poller, outlet: Outlet, known: _Known) -> bool:
        """Bring one span of modifications; return whether there are more that are past."""
        if known.outdated(poller.now_us()):
            self._look_again(poller, outlet, known)
        now_us = poller.now_us()
        done_us = self._done_us(outlet.cursor(), now_us)
        from_us = done_us - self._overlap_us
        to_us = from_us + self._overlap_us + _SPAN_US
        past = to_us < now_us - self._overlap_us
        newest_us = self._bring(poller, outlet, known, from_us, to_us if past else None, now_us, done_us)
        return past and newest_us > done_us

    def _bring(
        self, poller: Poller, outlet: Outlet, known: _Known, from_us: int, to_us: int | None, now_us: int, done_us: int
    ) -> int:
        """Deliver what was modified from ``from_us`` to ``to_us``, or until now; return up to when all is delivered."""
        poll = WholePoll(outlet, self._rejected, unchanged=self._unchanged)
        newest_us = done_us
        for sites in self._chunks:
            params: Params = {
                "f": "json",
                "monitoring_location_id": ",".join(sites),
                "parameter_code": self._parameters,
                "time": f"{to_text(now_us - _REACH_US)}/..",
                "last_modified": f"{to_text(from_us)}/{'..' if to_us is None else to_text(to_us)}",
                "limit": PAGE_SIZE,
            }
            for page in linked_pages(
                poller, "collections/continuous/items", params, lambda body: values_page(body, known.names)
            ):
                poll.add(page.readings, page.rejected)
                known.unknown = known.unknown or bool(page.unknown_series)
                newest_us = max(newest_us, page.newest_modified_us or 0)
        # A clock of theirs that runs ahead may not move us past what is still to come.
        newest_us = min(newest_us, now_us) if to_us is None else to_us
        poll.finish(json.dumps({"modified": to_text(max(newest_us, done_us)), "of": self._of}))
        return newest_us

    def _look_again(self, poller: Poller, outlet: Outlet, known: _Known) -> None:
        """Ask what there is; what is known already holds while that fails."""
        try:
            self._look(poller, outlet, known)
        except SourceUnavailable:
            if known.looked_us is None:
                raise
            outlet.count("failed_looks")
            known.looked_us = poller.now_us() - _LOOK_AGAIN_US + _LOOK_AGAIN_SOON_US

    def _look(self, poller: Poller, outlet: Outlet, known: _Known) -> None:
        """Ask what series there are, and where the sites are."""
        series: list[Series] = []
        for sites in self._chunks:
            asked: Params = {
                "f": "json",
                "monitoring_location_id": ",".join(sites),
                "parameter_code": self._parameters,
                "limit": PAGE_SIZE,
            }
            for page in linked_pages(poller, "collections/time-series-metadata/items", asked, series_page):
                series += page.series
        known.names = names_of(series)

        def read(body: bytes) -> SitesPage:
            return sites_page(body, series, known.names)

        for sites in self._chunks:
            placed: Params = {"f": "json", "id": ",".join(sites), "limit": PAGE_SIZE}
            for places in linked_pages(poller, "collections/monitoring-locations/items", placed, read):
                outlet.describe(places.sites)
        known.looked_us, known.unknown = poller.now_us(), False

    def _done_us(self, cursor: str | None, now_us: int) -> int:
        """Return up to when all modifications are delivered: the cursor's word, if it was for the same sites."""
        start_us = now_us - self._history_us
        document = parsed(cursor.encode()) if cursor is not None else None
        if not isinstance(document, dict) or document.get("of") != self._of:
            return start_us
        modified_us = parse(str(document.get("modified")))
        return modified_us if isinstance(modified_us, int) else start_us
