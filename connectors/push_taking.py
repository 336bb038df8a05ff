"""From the pieces of a pushed body to the outlet, and the wait until all are durable: then the sender is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from connectors.errors import ConnectorError, SpoolFull
from connectors.push_body import Trouble
from connectors.push_senders import Sender
from connectors.push_thread import BodyThread
from connectors.pushed import Pushed
from connectors.reading import Reason, Rejected
from connectors.refusal import Refusal
from connectors.source import Outlet, Stopping
from connectors.timestamps import to_text

Awaited = TypeVar("Awaited")

_MOST_TOLD = 100
"""Refusals in one answer."""
_SOUND_CLOCK_US = 1_735_689_600_000_000
"""2025: a wall clock before this was never set, and nothing is held against it."""
_STOPPING_S = 5.0
_TROUBLE_S = 5.0


@dataclass(slots=True)
class Outcome:
    """What became of a body."""

    accepted: int = 0
    rejected: int = 0
    told: list[Rejected] = field(default_factory=list)
    """The first refusals."""
    note: str = ""
    """What is to be said first."""

    def said(self, most: int = 3) -> str:
        """Return the first reasons, and how many there are, for a person.

        >>> Outcome().said()
        ''
        """
        reasons = "; ".join([self.note] * bool(self.note) + [one.detail for one in self.told[:most]])
        more = self.rejected - min(len(self.told), most)
        return f"{reasons}; and {more} more" if more > 0 else reasons

    def add(self, offered: _Offered) -> None:
        """Add a piece that is durable."""
        self.accepted += offered.accepted
        self.rejected += len(offered.rejected) + offered.piece.unlisted
        self.told += offered.rejected[: _MOST_TOLD - len(self.told)]
        self.note = self.note or offered.piece.note


class _Offered(NamedTuple):
    """A piece that the outlet has."""

    piece: Pushed
    accepted: int
    rejected: list[Rejected]
    done: Future[None]


class Taking:
    """Hands pieces over, one after the other. For one event loop, and the thread that reads large bodies.

    Args:
        outlet: where readings go.
        max_ahead_us: readings further in the future are refused here, so that their sender hears of it.
        now_us: the wall clock.
    """

    def __init__(
        self, outlet: Outlet, max_ahead_us: int, now_us: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self._outlet = outlet
        self._max_ahead_us = max_ahead_us
        self.now_us = now_us
        self.heard_s = time.monotonic()
        """When anything came last."""
        self._waiting: set[asyncio.Future[None]] = set()
        """Of those who wait for another thread."""
        self._leaving = False

    async def take(
        self, pieces: Iterator[Pushed], sender: Sender, path: str, thread: BodyThread | None = None
    ) -> Outcome:
        """Make all pieces durable; return what became of them.

        Args:
            pieces: read one by one, each when the one before is durable.
            sender: whose they are.
            path: to which they came.
            thread: where they are read and offered; None: here.

        Raises:
            Trouble: 429 when there is no room, 503 when nothing can be made durable now; all is to be sent again, and
                what was durable already is known again.
        """
        outcome = Outcome()

        def following() -> _Offered | None:
            return self._following(pieces, sender, path)

        with self._in_words():
            while (
                offered := following() if thread is None else await self.awaited(thread.begin(following))
            ) is not None:
                await self.awaited(offered.done)
                outcome.add(offered)
                self._count(offered.piece)
        self.heard_s = time.monotonic()
        return outcome

    def leave(self) -> None:
        """Have all who wait answered at once, and all whose bodies are being read: they are to send again."""
        self._leaving = True
        for one in list(self._waiting):
            if not one.done():
                one.set_exception(_stopped())

    def _following(self, pieces: Iterator[Pushed], sender: Sender, path: str) -> _Offered | None:
        """Read a piece, and offer it; None: there is no further one."""
        if self._leaving:
            raise Stopping
        piece = next(pieces, None)
        if piece is None:
            return None
        self._refuse_what_lies_ahead(piece)
        for reading in piece.readings if sender.prefix else ():
            reading.entity = sender.prefix + reading.entity
        rejected = [replace(one, topic=path, key=sender.name.encode()) for one in piece.rejected]
        accepted = len(piece.readings)
        return _Offered(piece, accepted, rejected, self._outlet.offer(piece.readings, rejected=rejected))

    def _count(self, piece: Pushed) -> None:
        if piece.ignored:
            self._outlet.count("ignored", piece.ignored)
        if piece.unlisted:
            self._outlet.count("refused_unlisted", piece.unlisted)

    def _refuse_what_lies_ahead(self, piece: Pushed) -> None:
        now_us = self.now_us()
        latest_us = now_us + self._max_ahead_us
        if now_us < _SOUND_CLOCK_US or max((reading.time_us for reading in piece.readings), default=0) <= latest_us:
            return
        ahead = [reading for reading in piece.readings if reading.time_us > latest_us]
        piece.readings = [reading for reading in piece.readings if reading.time_us <= latest_us]
        for reading in ahead:
            detail = f"time {to_text(reading.time_us)} is after {to_text(latest_us)}; look at the sender's clock"
            raw = repr(reading).encode("utf-8", "backslashreplace")
            place = f"{reading.entity[:80]}/{reading.channel[:80]}"
            piece.refuse(Refusal(Reason.TOO_FAR_AHEAD, detail), raw, 0, place)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Say what keeps readings from being durable as the ``Trouble`` that a sender is told."""
        try:
            yield
        except SpoolFull as error:
            self._outlet.count("pushed_back")
            raise Trouble(429, f"{error}; send this again later", error.retry_after_s) from None
        except Stopping:
            raise _stopped() from None
        except ConnectorError as error:
            self._outlet.count("not_durable")
            raise Trouble(503, f"not taken: {error}", _TROUBLE_S) from None

    async def awaited(self, done: Future[Awaited]) -> Awaited:
        """Wait for a future of another thread, but no longer than until ``leave``; return what it holds.

        ``asyncio.wrap_future`` would cancel it when the sender hangs up.

        Raises:
            Trouble: 503 when it is not done and the process stops.
        """
        if done.done():
            return done.result()
        if self._leaving:
            raise _stopped()
        loop = asyncio.get_running_loop()
        here: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not here.done():
                here.set_result(None)

        def tell(_: Future[Awaited]) -> None:
            if not loop.is_closed():  # closed: nobody waits any more
                loop.call_soon_threadsafe(settle)

        self._waiting.add(here)
        done.add_done_callback(tell)
        try:
            await here
        finally:
            self._waiting.discard(here)
        return done.result()


def _stopped() -> Trouble:
    return Trouble(503, "the process stops; send this again", _STOPPING_S)
