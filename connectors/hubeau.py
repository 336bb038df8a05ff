"""French rivers: heights and flows from Hub'Eau's hydrometry, as stations send them.

A page that is not the last comes with status 206. Where one observation is there twice, raw and validated, the higher
status counts; a value that is validated later comes again as a correction while it is within the overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.http_polling import Params, Poller
from connectors.http_service import HttpService
from connectors.hubeau_pages import CHANNELS, Ranked, highest, observations_page, stations_page
from connectors.linked_pages import linked_pages
from connectors.poll_progress import Progress
from connectors.poll_schedule import poll_forever
from connectors.rate_limiting import Limit, RateLimiter
from connectors.reading import Reading
from connectors.source import Outlet
from connectors.timestamps import to_text
from connectors.whole_polls import RejectedBefore, WholePoll

BASE_URL = "https://hubeau.eaufrance.fr/api/v2/hydrometrie"
PAGE_SIZE = 20_000
"""The most that it gives at once."""
SUCCESS = (200, 206)
_AT_ONCE = 50
"""Codes in one question."""
_REACH_US = 2 * 86_400_000_000
"""A station that is further behind the others of its question has stopped, and holds them back no more."""
_DEEPEST_US = 31 * 86_400_000_000
"""The service keeps a month."""
_LOOK_AGAIN_US = 86_400_000_000
_LOOK_AGAIN_SOON_US = 3_600_000_000
_LIMIT = Limit(300, 60.0)
"""The service names none; others ask ten times a second, this is half of that."""
_FIELDS = (
    "code_site,code_station,grandeur_hydro,date_debut_serie,code_statut,date_obs,resultat_obs,code_qualification_obs"
)


class HubeauSource:
    """Brings the observations of some stations; see ``connectors.source.ReadingSource``.

    The entity is the station's code of ten characters (``K447001001``), the channels are ``stage`` in mm and
    ``discharge`` in L/s. Of a site's code, eight characters, all stations are brought; what the site itself repeats of
    them is dropped.

    Args:
        service: no key.
        codes: of stations or sites.
        quantities: ``H``, ``Q`` or both.
        every_s: from poll to poll.
        history_s: how far back the first poll asks.
        overlap_s: how far each poll asks back behind the newest observations.

    Raises:
        Misconfigured: if there is no code, or one is none.
    """

    def __init__(
        self,
        service: HttpService,
        codes: Sequence[str],
        quantities: Sequence[str] = ("H", "Q"),
        *,
        every_s: float = 300.0,
        history_s: float = 86_400.0,
        overlap_s: float = 7200.0,
    ) -> None:
        wrong = [code for code in codes if len(code) not in (8, 10) or not code.isalnum()]
        if wrong or not codes:
            said = f"{wrong[0]!r} is no code" if wrong else "no code is named"
            raise Misconfigured(f"hubeau: {said}; a station's is written as K447001001, a site's as K4470010")
        if not quantities or not set(quantities) <= CHANNELS.keys():
            raise Misconfigured(f"hubeau: quantities {', '.join(quantities) or 'none'}; allowed: H, Q, or both")
        self._service = service
        self._chunks = [tuple(codes[start : start + _AT_ONCE]) for start in range(0, len(codes), _AT_ONCE)]
        self._codes = tuple(codes)
        self._quantities = ",".join(quantities)
        self._every_s = every_s
        self._history_us = round(history_s * 1e6)
        self._overlap_us = round(overlap_s * 1e6)
        self._limiter = RateLimiter(_LIMIT)
        self._rejected = RejectedBefore()
        self._described_us: int | None = None

    def run(self, outlet: Outlet) -> None:
        """Bring observations until the outlet stops; see ``connectors.source.ReadingSource.run``."""
        self._described_us = None
        progress: list[Progress] = []  # made at the first poll: by then the service's clock is known

        with Poller(self._service, outlet, self._limiter) as poller:

            def poll() -> bool:
                self._describe_if_due(poller, outlet)
                if not progress:
                    progress.append(Progress(outlet.cursor(), poller.now_us() - self._history_us, _REACH_US))
                return self._bring(poller, outlet, progress[0])

            poll_forever(outlet, self._every_s, poll)

    def _bring(self, poller: Poller, outlet: Outlet, progress: Progress) -> bool:
        """Deliver what is new, after an absence two days of it; return whether there is more of the past.

        The cursor moves when every question was answered to its last page.
        """
        poll, more = WholePoll(outlet, self._rejected), False
        seen: list[tuple[str, str, int]] = []
        ends: list[tuple[tuple[str, ...], int]] = []
        for codes in self._chunks:
            now_us = poller.now_us()
            since_us = max(progress.since_all(codes) - self._overlap_us, now_us - _DEEPEST_US)
            end_us = since_us + self._overlap_us + _REACH_US
            past = end_us < now_us - _REACH_US
            readings = self._asked(poller, outlet, poll, codes, since_us, end_us if past else None)
            seen += [(_code_of(one.entity, codes), f"{one.entity}/{one.channel}", one.time_us) for one in readings]
            if past:
                ends.append((codes, end_us))
                more = True
        now_us = poller.now_us()  # a clock of theirs that runs ahead may not move us past what is still to come
        for code, part, time_us in seen:
            progress.saw(code, part, min(time_us, now_us))
        for codes, end_us in ends:
            progress.complete(codes, end_us)
        poll.finish(progress.cursor(self._codes))
        return more

    def _asked(
        self, poller: Poller, outlet: Outlet, poll: WholePoll, codes: Sequence[str], since_us: int, end_us: int | None
    ) -> list[Reading]:
        """Add to ``poll``, and return, what some stations observed from ``since_us`` to ``end_us``, or until now."""
        params: dict[str, str | int | float] = {
            "code_entite": ",".join(codes),
            "grandeur_hydro": self._quantities,
            "date_debut_obs": to_text(since_us // 1_000_000 * 1_000_000),
            "fields": _FIELDS,
            "size": PAGE_SIZE,
            "sort": "asc",
        }
        if end_us is not None:
            params["date_fin_obs"] = to_text(end_us // 1_000_000 * 1_000_000)
        ranked: list[Ranked] = []
        for page in linked_pages(poller, "observations_tr", params, observations_page, accept=SUCCESS):
            ranked += page.ranked
            poll.add([], page.rejected)
            outlet.count("site_rows", page.of_sites)
        readings = highest(ranked)
        poll.add(readings, [])
        return readings

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
        for name, length in (("code_station", 10), ("code_site", 8)):
            codes = [code for code in self._codes if len(code) == length]
            for start in range(0, len(codes), _AT_ONCE):
                params: Params = {name: ",".join(codes[start : start + _AT_ONCE]), "size": PAGE_SIZE}
                for page in linked_pages(poller, "referentiel/stations", params, stations_page, accept=SUCCESS):
                    outlet.describe(page.sites)


def _code_of(station: str, codes: Sequence[str]) -> str:
    """Return the code by which a station was asked for: its own, or that of its site, with which it begins."""
    return station if station in codes else station[:8]
