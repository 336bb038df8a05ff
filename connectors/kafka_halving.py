"""Messages that a broker finds too large, in smaller pieces: readings as two lists, dead letters cut short."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from connectors.json_documents import NOT_JSON
from connectors.spool import Message

CUT = "vedette-cut"
"""Header of a dead letter that was cut: how many bytes there had been."""
_LEAST_CUT = 64
_elements = msgspec.json.Decoder(list[msgspec.Raw])


def halved(message: Message) -> list[Message]:
    """Return what to send instead of a message that is too large; [] if nothing smaller says the same.

    A list of readings becomes two lists, in order, so nothing is lost. What has headers is a dead letter: of its bytes
    the first half is kept, and how many there had been.

    >>> [one.value for one in halved(Message("air", "a", b'[{"value":1},{"value":2},{"value":3}]'))]
    [b'{"value":1}', b'[{"value":2},{"value":3}]']
    >>> halved(Message("air", "a", b'{"value":1}'))
    []
    """
    if message.headers:
        return _cut(message)
    try:
        elements = _elements.decode(message.value)
    except NOT_JSON:
        return []
    if len(elements) < 2:
        return []
    middle = len(elements) // 2
    return [message._replace(value=_together(part)) for part in (elements[:middle], elements[middle:])]


def pieces(message: Message, most_bytes: int) -> list[Message]:
    """Return the message in pieces whose values have at most so many bytes, as far as it can be halved."""
    if len(message.value) <= most_bytes:
        return [message]
    halves = halved(message)
    return [piece for half in halves for piece in pieces(half, most_bytes)] if halves else [message]


def _cut(message: Message) -> list[Message]:
    if len(message.value) < _LEAST_CUT:
        return []
    headers = message.headers
    if not any(name == CUT for name, _ in headers):
        headers = (*headers, (CUT, str(len(message.value)).encode()))
    return [message._replace(value=message.value[: len(message.value) // 2], headers=headers)]


def _together(elements: Sequence[msgspec.Raw]) -> bytes:
    return bytes(elements[0]) if len(elements) == 1 else b"[%s]" % b",".join(map(bytes, elements))
