"""Asks Frigate's database, over HTTP, for what was missed: objects, reviews, and whether it ran all the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from connectors.errors import SourceUnavailable
from connectors.frigate_messages import Review, Rows, Sighting, event_rows, moment_us, review_rows
from connectors.frigate_scene import CameraPlan, plans_of
from connectors.http_polling import Poller
from connectors.reading import Rejected
from connectors.refusal import Refusal

_PAGE = 500
_MOST_PAGE = 20_000
_MOST_ROWS = 200_000
_IDS_AT_ONCE = 50
_SLACK_US = 120_000_000
"""Rows of before and after what is asked for: clocks, and recordings that begin before their object."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be found."""

    since_us: int
    until_us: int
    newest: bool = True
    """Whether ``until_us`` is about now, so that all there is behind it is asked for too."""
    ids: tuple[str, ...] = ()
    """Of objects that began earlier."""
    plans: bool = False
    """Whether to ask which cameras, zones and labels there are."""


@dataclass(slots=True)
class Findings:
    """What was found."""

    question: Question
    sightings: list[Sighting] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    up_since_us: int | None = None
    """By Frigate's clock; None: it does not say."""
    dark: frozenset[str] = frozenset()
    """Cameras without a picture, or whose detection is off."""
    plans: Mapping[str, CameraPlan] | None = None


class FrigateDatabase:
    """Answers questions. For one thread.

    Args:
        poller: on Frigate's address.
        cameras: asked for; empty: all.
        labels: asked for; empty: all.
        reviews: whether reviews are asked for.
    """

    def __init__(self, poller: Poller, cameras: Sequence[str], labels: Sequence[str], reviews: bool) -> None:
        self._poller = poller
        self._cameras = {"cameras": ",".join(cameras)} if cameras else {}
        self._labels = {"labels": ",".join(labels)} if labels else {}
        self._reviews = reviews

    def find(self, question: Question) -> Findings:
        """Return what is known; all of it, or nothing.

        Raises:
            SourceUnavailable: if an answer is missing or no answer to this.
            SourceRefused: if Frigate wants somebody else to ask.
            Stopping: if it is time to leave.
        """
        found = Findings(question)
        self._look(found)
        if question.plans:
            found.plans = plans_of(self._poller.get("api/config").document())
        if question.until_us > question.since_us:
            for rows in self._pages("api/events", event_rows, question, self._labels):
                _take(found, rows)
            if self._reviews:
                for rows in self._pages("api/review", review_rows, question, {}):
                    _take(found, rows)
        for start in range(0, len(question.ids), _IDS_AT_ONCE):
            ids = ",".join(question.ids[start : start + _IDS_AT_ONCE])
            _take(found, _read(event_rows, self._poller.get("api/event_ids", {"ids": ids}).body))
        return found

    def _look(self, found: Findings) -> None:
        """Ask how Frigate is."""
        document = self._poller.get("api/stats").document()
        stats = document if isinstance(document, dict) else {}
        service = stats.get("service")
        if isinstance(service, dict):
            uptime, at_us = service.get("uptime"), moment_us(service.get("last_updated"))
            if isinstance(uptime, int | float) and not isinstance(uptime, bool) and 0 <= uptime < 1e10:
                at_us = self._poller.now_us() if at_us is None else at_us
                found.up_since_us = at_us - round(uptime * 1e6)
        cameras = stats.get("cameras")
        if isinstance(cameras, dict):
            found.dark = frozenset(str(name) for name, camera in cameras.items() if not _watches(camera))

    def _pages(
        self, link: str, read: Callable[[bytes], Rows | Refusal], question: Question, asked: Mapping[str, str]
    ) -> Iterator[Rows]:
        """Yield pages, newest rows first; a row may come twice."""
        params: dict[str, str | int | float] = {
            **self._cameras, **asked, "after": _seconds(question.since_us - _SLACK_US), "include_thumbnails": 0,
        }  # fmt: skip
        if not question.newest:
            params["before"] = _seconds(question.until_us + _SLACK_US)
        limit, seen = _PAGE, set[str]()
        while True:
            rows = _read(read, self._poller.get(link, {**params, "limit": limit}).body)
            yield rows
            if rows.n < limit or rows.oldest_s is None:
                return
            if rows.ids <= seen:
                limit *= 2  # a whole page of one moment
            seen |= rows.ids
            if len(seen) > _MOST_ROWS or limit > _MOST_PAGE:
                raise SourceUnavailable(
                    f"{link} has more than {_MOST_ROWS} rows for one hour, or the same ones for ever"
                )
            params["before"] = _seconds(round(rows.oldest_s * 1e6) + 1)  # exclusive there


def _take(found: Findings, rows: Rows) -> None:
    found.sightings += rows.sightings
    found.reviews += rows.reviews
    found.rejected += rows.rejected


def _read(read: Callable[[bytes], Rows | Refusal], body: bytes) -> Rows:
    rows = read(body)
    if isinstance(rows, Refusal):
        raise SourceUnavailable(f"Frigate answers {rows.detail}")
    return rows


def _watches(camera: object) -> bool:
    if not isinstance(camera, dict):
        return True
    return camera.get("camera_fps") != 0 and camera.get("detection_enabled") is not False


def _seconds(time_us: int) -> str:
    return f"{time_us / 1e6:.6f}"
