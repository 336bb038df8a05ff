"""Objects that may be gone without a word, and counts that do not fit the objects we know: messages were lost.

Frigate tells of each object that lives once a minute, and of every change of a count; both at QoS 0.
"""

from __future__ import annotations

from connectors.frigate_database import Findings
from connectors.frigate_objects import Ledger, Tracked
from connectors.frigate_presence import Presence

_IDS_AT_ONCE = 200
_LOOK_EVERY_US = 10_000_000
_DISAGREE_US = 5_000_000
"""A count may be ahead of its event, or behind, for so long."""
_LOST_US = 3_600_000_000
"""An object that says nothing for so long is gone, though the database takes it for alive."""

Place = tuple[str, str]
"""Camera and label."""


class Silence:
    """Watches over the open objects of a ledger.

    Args:
        ledger: whose objects.
        presence: since when we hear all that is said.
        silent_us: objects that nothing is heard of for so long are looked into.
    """

    def __init__(self, ledger: Ledger, presence: Presence, silent_us: int) -> None:
        self._ledger = ledger
        self._presence = presence
        self._silent_us = silent_us
        self._looked_us = 0
        self._disagree: dict[Place, int] = {}

    def connected(self) -> None:
        """Counts from before are nothing to go by."""
        self._disagree.clear()

    def compare(self, camera: str, label: str, n: int, now_us: int) -> None:
        """Hold Frigate's count against the objects that we know."""
        if self._ledger.open_of(camera, label) == n:
            self._disagree.pop((camera, label), None)
        else:
            self._disagree.setdefault((camera, label), now_us)

    def disagree(self, now_us: int) -> bool:
        """Whether a count has differed for too long."""
        return any(self._disagrees(place, now_us) for place in self._disagree)

    def look(self, now_us: int) -> list[Tracked]:
        """Return the objects that nothing was heard of for too long, though we listened; looks now and then only."""
        if self._presence.since_us is None or now_us - self._looked_us < _LOOK_EVERY_US:
            return []
        self._looked_us = now_us
        return [one for one in self._ledger.open.values() if self._silence_us(one, now_us) > self._silent_us]

    def ask_about(self, now_us: int) -> tuple[str, ...]:
        """Return the ids of open objects to ask the database about, those first that it was not asked for longest."""
        since_us = self._presence.since_us
        odd = [place for place in self._disagree if self._disagrees(place, now_us)]
        found = [
            one
            for one in self._ledger.open.values()
            if since_us is None
            or one.heard_us < since_us
            or (one.camera, one.label) in odd
            or self._silence_us(one, now_us) > self._silent_us
        ]
        for place in odd:  # asked about once; the next count says whether it helped
            del self._disagree[place]
        found = sorted(found, key=lambda one: one.asked_us)[:_IDS_AT_ONCE]
        for one in found:
            one.asked_us = now_us
        return tuple(one.id for one in found)

    def unknown_to(self, found: Findings, now_us: int) -> list[Tracked]:
        """Return silent objects that were asked for and that the database does not know, or keeps open for ever."""
        known = {said.id for said in found.sightings}
        asked = [one for name in found.question.ids if (one := self._ledger.open.get(name)) is not None]
        if self._presence.since_us is None:
            return []
        return [
            one for one in asked if self._silence_us(one, now_us) > (_LOST_US if one.id in known else self._silent_us)
        ]

    def _disagrees(self, place: Place, now_us: int) -> bool:
        at_us = self._disagree[place]
        return now_us - at_us >= _DISAGREE_US

    def _silence_us(self, one: Tracked, now_us: int) -> int:
        return now_us - max(one.heard_us, self._presence.since_us or 0)
