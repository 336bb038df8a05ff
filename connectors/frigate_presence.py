"""When Frigate and its cameras watched, as far as we know: only then is a minute without objects a quiet one."""

from __future__ import annotations

from connectors.frigate_intervals import Intervals
from connectors.frigate_minutes import Standing
from connectors.frigate_objects import MINUTE_US

_MOST_CAMERAS = 1000


class Presence:
    """What is known of connection, Frigate and cameras; times in microseconds, by our clock."""

    def __init__(self) -> None:
        self._watched = Intervals()
        self._dark: dict[str, Intervals] = {}
        self._reasons: dict[str, set[str]] = {}
        self._proven: dict[str, Intervals] = {}
        self._connected = False
        self._online = False
        self._heard_us = 0

    @property
    def since_us(self) -> int | None:
        """Since when we hear all that Frigate says; None: we do not."""
        return self._watched.since

    def connected(self, now_us: int) -> None:
        """Take note that we are connected to the broker; whether Frigate is, it will say."""
        self._connected, self._online, self._heard_us = True, False, now_us

    def heard(self, now_us: int) -> None:
        """Take note of any message: the connection held until now."""
        self._heard_us = max(self._heard_us, now_us)

    def disconnected(self) -> int:
        """Take note that the connection is lost; return since when: nobody knows, but after the last message."""
        self._connected = self._online = False
        self._watched.end(self._heard_us)
        return self._heard_us

    def available(self, online: bool, kept: bool, now_us: int) -> int | None:
        """Take Frigate's word, or its will; ``kept``: the broker had it from before. For its last message ``heard``.

        Return since when messages may have been missed; None: none were. Said anew though it was online all along, it
        has lost its connection in between.
        """
        missed_us = None
        if self._online and not (online and kept):
            self._watched.end(self._heard_us)
            missed_us = self._heard_us
        if online and self._connected:
            self._watched.begin(now_us)
        self._online = online
        return missed_us

    def camera(self, camera: str, what: str, watches: bool, now_us: int) -> None:
        """Take the state of a camera; ``what`` is said of it: its stream, its detection, itself."""
        reasons = self._reasons.get(camera)
        if reasons is None:
            if watches or len(self._reasons) >= _MOST_CAMERAS:
                return
            reasons = self._reasons[camera] = set()
        if watches:
            reasons.discard(what)
        else:
            reasons.add(what)
        dark = self._dark.setdefault(camera, Intervals())
        if reasons:
            dark.begin(now_us)
        else:
            dark.end(now_us)

    def prove(self, camera: str, since_us: int, until_us: int) -> None:
        """Take note that a camera is known to have watched, though we did not listen."""
        if camera in self._proven or len(self._proven) < _MOST_CAMERAS:
            self._proven.setdefault(camera, Intervals()).add(since_us, until_us)

    def standing(self, camera: str, minute: int) -> Standing:
        """Return how far a minute at a camera is known."""
        since_us, until_us = minute * MINUTE_US, (minute + 1) * MINUTE_US
        dark = self._dark.get(camera)
        if dark is not None and dark.touches(since_us, until_us):
            return Standing.UNKNOWN
        if self._watched.covers(since_us, until_us):
            return Standing.WATCHED
        proven = self._proven.get(camera)
        return Standing.PROVEN if proven is not None and proven.covers(since_us, until_us) else Standing.UNKNOWN
