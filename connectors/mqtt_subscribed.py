"""What a broker's session is subscribed to, kept in the cursor: a changed configuration takes back what it left."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from connectors.mqtt_messages import Taken
from connectors.source import Outlet


class _Cursor(msgspec.Struct):
    filters: list[str] = []


def filters_in(cursor: str | None) -> list[str]:
    """Return the filters in a cursor; none at the first start, or if another kind of source had this name."""
    try:
        return msgspec.json.decode(cursor or "", type=_Cursor).filters
    except msgspec.DecodeError:
        return []


class SubscribedCursor:
    """The cursor of a source that has nothing else to keep.

    Args:
        filters: what is subscribed to.
    """

    def __init__(self, filters: Sequence[str]) -> None:
        self._text = msgspec.json.encode(_Cursor(list(filters))).decode()
        self._due = False

    def connected(self, outlet: Outlet) -> None:
        """Take note that the subscriptions are asked for."""
        self._due = outlet.cursor() != self._text

    def taken(self) -> Taken | None:
        """Return the cursor, once, if it is not durable yet."""
        if not self._due:
            return None
        self._due = False
        return Taken((), (), self._text)
