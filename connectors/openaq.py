"""OpenAQ's API v3: air quality from reference networks and others, all over the world.

A sensor is one parameter at one location, and costs one request: with 2,000 an hour, 500 sensors can be asked every
quarter of an hour. They take turns. Each is asked for what it measured after its own newest value, less an overlap:
values come out of order, and late. (``latest`` would be one request for many, but what comes out of order is never
seen there, as OpenAQ's documentation says.)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Literal

import structlog

from connectors.errors import SourceUnavailable
from connectors.http_polling import Poller
from connectors.http_service import HttpService
from connectors.json_documents import parsed
from connectors.openaq_rows import Sensor, measurements_page
from connectors.openaq_selection import PAGE_SIZE, Selection, numbered_pages, whole
from connectors.openaq_turns import Turns
from connectors.poll_schedule import poll_forever
from connectors.rate_limiting import Limit, RateLimiter
from connectors.source import Outlet, Stopping
from connectors.timestamps import parse, to_text
from connectors.whole_polls import RejectedBefore, WholePoll

log = structlog.get_logger("vedette.ingest")

BASE_URL = "https://api.openaq.org/v3"
LIMITS = (Limit(60, 60.0), Limit(2000, 3600.0))
"""Of a key. Whoever goes beyond them again and again is banned."""
_DAY_US = 86_400_000_000
_REACH_US = 30 * _DAY_US
"""A sensor that was silent for longer is asked for so much only, or for ``history`` if that is more."""
_SHORTEST_US = 3_600_000_000
_LOOK_AGAIN_US = _DAY_US
_LOOK_AGAIN_SOON_US = 3_600_000_000

Series = Literal["measurements", "hours"]


class OpenAQSource:
    """Brings what the sensors of some locations measure; see ``connectors.source.ReadingSource``.

    The entity is ``openaq-`` and the location's id; see ``openaq_parameters`` for the channels, and
    ``openaq_rows.locations_page`` for several sensors of one channel.

    Args:
        service: with its key.
        locations: ids of locations.
        bbox: least longitude, least latitude, greatest longitude, greatest latitude.
        around: latitude, longitude and metres, at most 25,000.
        parameters: such as ``pm25`` and ``no2``, or channels such as ``no2_ppb``; empty: all.
        series: ``measurements`` as reported, or means of ``hours``.
        every_s: from question to question of each sensor, if the allowance is enough for that.
        history_s: how far back a sensor is asked for at first.
        overlap_s: how far behind its newest value each is asked for again: so late may a value come.
        limits: those of a key; all hold at once.
        monotonic: the clock for waiting.

    Raises:
        Misconfigured: if not exactly one of ``locations``, ``bbox`` and ``around`` is given, or one is wrong.
    """

    def __init__(
        self,
        service: HttpService,
        *,
        locations: Sequence[int] = (),
        bbox: tuple[float, float, float, float] | None = None,
        around: tuple[float, float, int] | None = None,
        parameters: Sequence[str] = (),
        series: Series = "measurements",
        every_s: float = 900.0,
        history_s: float = 86_400.0,
        overlap_s: float = 21_600.0,
        limits: Sequence[Limit] = LIMITS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._selection = Selection(locations, bbox, around, parameters)
        self._series = series
        self._every_s = every_s
        self._history_us = round(history_s * 1e6)
        self._overlap_us = round(max(overlap_s, 1.0) * 1e6)
        self._limits = tuple(limits)
        self._monotonic = monotonic
        self._limiter = RateLimiter(*self._limits, monotonic=monotonic)
        self._rejected = RejectedBefore()
        self._forget()

    def _forget(self) -> None:
        """Be as at the first start; what is durable is in the cursor."""
        self._sensors: dict[int, Sensor] = {}
        self._newest_us: dict[int, int] = {}
        self._spans_us: dict[int, int] = {}
        self._turns = Turns(self._every_s, self._monotonic)
        self._looked_us: int | None = None

    def run(self, outlet: Outlet) -> None:
        """Bring values until the outlet stops; see ``connectors.source.ReadingSource.run``."""
        self._forget()
        self._newest_us = _read(outlet.cursor())
        with Poller(self._service, outlet, self._limiter) as poller:
            poll_forever(outlet, self._every_s, lambda: self._turn(poller, outlet), self._monotonic)

    def _turn(self, poller: Poller, outlet: Outlet) -> bool:
        """Ask one sensor, as soon as one is due; return True: there is always one that will be."""
        self._look_if_due(poller, outlet)
        while (wait_s := self._turns.wait_s()) > 0.0:
            if outlet.wait(min(wait_s, 60.0)):
                raise Stopping
            self._look_if_due(poller, outlet)
        number = self._turns.next()
        try:
            self._bring(poller, outlet, self._sensors[number])
        except SourceUnavailable:
            self._turns.failed(number)
            raise
        return True

    # ---- what a sensor measured ----

    def _bring(self, poller: Poller, outlet: Outlet, sensor: Sensor) -> None:
        now_us = poller.now_us()
        newest_us = self._newest_us.get(sensor.id)
        start_us = now_us - self._history_us if newest_us is None else newest_us - self._overlap_us
        start_us = max(start_us, now_us - max(_REACH_US, self._history_us))
        while True:
            span_us = self._spans_us.get(sensor.id)
            end_us = None if span_us is None or start_us + span_us >= now_us else start_us + span_us
            status = self._window(poller, outlet, sensor, start_us, end_us, now_us)
            if status == 404:  # until the list of sensors is made anew
                outlet.count("sensors_gone")
                return self._turns.drop(sensor.id)
            if status == 408:
                self._narrow(sensor, (end_us or now_us) - start_us)
            elif end_us is None:
                newest_us = self._newest_us.get(sensor.id, 0)
                return self._turns.answered(sensor.id, silent=newest_us < now_us - _DAY_US)
            else:
                start_us = end_us

    def _window(
        self, poller: Poller, outlet: Outlet, sensor: Sensor, start_us: int, end_us: int | None, now_us: int
    ) -> int:
        """Deliver what was measured after ``start_us``, until ``end_us``; return the last answer's status.

        Nothing is delivered for good, and the cursor stays, unless that is 200.
        """
        params: dict[str, str | int | float] = {"datetime_from": to_text(start_us // 1_000_000 * 1_000_000)}
        if end_us is not None:
            params["datetime_to"] = to_text(end_us // 1_000_000 * 1_000_000)
        poll = WholePoll(outlet, self._rejected)
        known_us = newest_us = self._newest_us.get(sensor.id, 0)
        for answer in numbered_pages(poller, f"sensors/{sensor.id}/{self._series}", params, accept=(200, 404, 408)):
            if answer.status != 200:
                return answer.status
            page = measurements_page(answer.body, sensor)
            whole(page, answer)
            poll.add(page.readings, page.rejected)
            # A clock of theirs that runs ahead may not move us past what is still to come.
            newest_us = max(newest_us, min(page.newest_us or 0, now_us))
            if not page.full(PAGE_SIZE):
                break
        if newest_us > known_us:
            self._newest_us[sensor.id] = newest_us
        poll.finish(self._cursor() if newest_us > known_us else None)
        return 200

    def _narrow(self, sensor: Sensor, span_us: int) -> None:
        """Ask for less at once: the service took too long."""
        if span_us // 4 < _SHORTEST_US:
            raise SourceUnavailable(f"{self._service.host} takes too long (408) even for hours of sensor {sensor.id}")
        self._spans_us[sensor.id] = span_us // 4

    def _cursor(self) -> str:
        """Return the newest time of each sensor; most share theirs with many."""
        seen: dict[str, list[int]] = {}
        for number in self._sensors:
            if number in self._newest_us:
                seen.setdefault(to_text(self._newest_us[number]), []).append(number)
        return json.dumps({"seen": seen}, separators=(",", ":"))

    # ---- which sensors there are ----

    def _look_if_due(self, poller: Poller, outlet: Outlet) -> None:
        now_us = poller.now_us()
        wait_us = _LOOK_AGAIN_US if len(self._turns) else _LOOK_AGAIN_SOON_US
        if self._looked_us is not None and now_us - self._looked_us < wait_us:
            return
        try:
            sites, sensors = self._selection.found(poller)
        except SourceUnavailable:
            if not self._sensors:
                raise
            outlet.count("failed_looks")  # the sensors that are known can be asked meanwhile
            self._looked_us = now_us - wait_us + _LOOK_AGAIN_SOON_US
            return
        self._sensors = {one.id: one for one in sensors}
        self._turns.arrange(sorted(self._sensors, key=lambda number: self._newest_us.get(number, 0)))
        self._looked_us = poller.now_us()
        self._tell_if_too_many()
        outlet.describe(sites)

    def _tell_if_too_many(self) -> None:
        rates = [limit.n / limit.per_s for limit in self._limits]
        possible_s = len(self._sensors) / min(rates) if rates else 0.0
        if possible_s > self._every_s:
            log.warning(
                "more sensors than the allowance lets be asked so often",
                sensors=len(self._sensors),
                every_s=self._every_s,
                possible_s=round(possible_s),
            )


def _read(cursor: str | None) -> dict[int, int]:
    """Return the newest time of each sensor, as far as the cursor can be read."""
    document = parsed(cursor.encode()) if cursor is not None else None
    seen = document.get("seen") if isinstance(document, dict) else None
    newest: dict[int, int] = {}
    for text, numbers in seen.items() if isinstance(seen, dict) else ():
        time_us = parse(str(text))
        if isinstance(time_us, int) and isinstance(numbers, list):
            newest |= {number: time_us for number in numbers if isinstance(number, int)}
    return newest
