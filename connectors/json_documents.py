"""Bytes to a JSON document, or why they are none; whatever the bytes are, nothing is raised.

Strict first and fast; then leniently, because some services write ``NaN`` for a value that they do not have, and one
such value must not cost the page it is on.
"""

from __future__ import annotations

import json
import math

import msgspec

from connectors.reading import Reason
from connectors.refusal import LONGEST_DETAIL, Refusal, shortened

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON: the second where a text is no UTF-8, the third if it is too deep."""
_KEPT_BYTES = 4096


def parsed(body: bytes) -> object | Refusal:
    """Return the document that ``body`` holds: dicts, lists, texts, numbers (NaN and infinities too), bools, None.

    >>> parsed(b'{"value": NaN}'), parsed(b"<html>").reason.value
    ({'value': nan}, 'invalid_json')
    """
    try:
        return msgspec.json.decode(body)
    except NOT_JSON:
        pass
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        if not body.strip():
            return Refusal(Reason.EMPTY, "the body is empty")
        said = str(error) or type(error).__name__
        begins = body[:60].decode("utf-8", "replace")
        return Refusal(Reason.INVALID_JSON, f"no JSON: {said}; it begins {begins!r}"[:LONGEST_DETAIL])


def written(value: object) -> bytes:
    """Return a parsed value as JSON again, cut to 4 kB: what a refused row is kept as."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError):
        text = shortened(value)
    return text.encode("utf-8", "replace")[:_KEPT_BYTES]


def number_of(value: object) -> float | Refusal | None:
    """Return a number written as a number or as text; None for null, and for text that says there is none.

    >>> number_of("1.59"), number_of(None), number_of("nan"), number_of("--")
    (1.59, None, None, None)
    """
    if value is None or (isinstance(value, float | int) and not isinstance(value, bool)):
        number = _float(value)
    elif isinstance(value, str):
        text = value.strip()
        if text.lower() in ABSENT:
            return None
        number = _float(text)
    else:
        number = math.nan
    if number is None:
        return None
    if math.isnan(number) and not isinstance(value, float):
        return Refusal(Reason.WRONG_TYPE, f"value {shortened(value)} is no number")
    if math.isinf(number):
        return Refusal(Reason.NOT_FINITE, f"value {shortened(value)} is not finite")
    return None if math.isnan(number) else number


ABSENT = frozenset(("", "nan", "null", "none", "unknown", "unavailable", "-", "--", "---", "***", "n/a", "na"))
"""Texts, in lower case, that stand for no value."""


def _float(value: str | float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, str) and ("_" in value or len(value) > 400):
        return math.nan  # float("1_000") is Python's, nobody's measurement
    try:
        return float(value)
    except ValueError:
        return math.nan
    except OverflowError:  # an int of 400 digits
        return math.inf
