"""The grammar of InfluxDB's line protocol: one line's text to its parts, escapes resolved."""

from __future__ import annotations

import math
import re

from connectors.reading import Reason
from connectors.refusal import Refusal, shortened

LINE = "allowed: measurement[,tag=value] field=value [timestamp]"

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"([+-]?\d{1,20})([iu])", re.ASCII)
_TRUE = frozenset(("t", "T", "true", "True", "TRUE"))
_FALSE = frozenset(("f", "F", "false", "False", "FALSE"))
_RANGES = {"i": (-(2**63), 2**63 - 1), "u": (0, 2**64 - 1)}
_UNESCAPED = {kind: re.compile(rf"\\([{chars}])") for kind, chars in (("measurement", ", "), ("key", ",= "))}
_CUT = {marks: re.compile(rf"(?:[^\\{marks}]|\\[{marks}]?)*") for marks in (", ", ",= ")}
"""What stands before the next of these marks that is not escaped."""
_BARE = re.compile("[^, ]*")


def up_to_space(text: str) -> str:
    """Return what stands before the first space that is not escaped."""
    at = text.find(" ")
    while at > 0 and text[at - 1] == "\\":
        at = text.find(" ", at + 1)
    return text if at < 0 else text[:at]


def skip_spaces(text: str, at: int) -> int:
    """Return where the first other character from ``at`` on stands."""
    while at < len(text) and text[at] == " ":
        at += 1
    return at


def parse_series(text: str) -> tuple[str, dict[str, str]] | Refusal:
    """Return measurement and tags of what stands before a line's fields."""
    cut = _CUT[", "].match(text)
    end = cut.end() if cut else 0
    measurement = _UNESCAPED["measurement"].sub(r"\1", text[:end])
    if not measurement:
        return Refusal(Reason.MISSING_KEY, f"no measurement; {LINE}")
    tags: dict[str, str] = {}
    while end < len(text):
        pair = _pair(text, end + 1)
        if isinstance(pair, Refusal):
            return pair.within("tags")
        name, value, end = pair
        if not value:
            return Refusal(Reason.MISSING_KEY, f"tag {shortened(name)} has no value")
        if name in tags:
            return Refusal(Reason.WRONG_TYPE, f"tag {shortened(name)} is there twice")
        tags[name] = value
    return measurement, tags


def _pair(text: str, start: int) -> tuple[str, str, int] | Refusal:
    """Return name, value and end of the tag at ``start``."""
    found = _CUT[",= "].match(text, start)
    at = found.end() if found else start
    if at == start or at >= len(text) or text[at] != "=":
        return Refusal(Reason.MISSING_KEY, f"{shortened(text[start : at + 20])} is no name=value")
    cut = _CUT[",= "].match(text, at + 1)
    end = cut.end() if cut else at + 1
    if end < len(text) and text[end] != ",":
        detail = f"{shortened(text[start : end + 20])} has a {text[end]!r} that is not escaped"
        return Refusal(Reason.WRONG_TYPE, detail)
    return _plain(text[start:at]), _plain(text[at + 1 : end]), end


def _plain(text: str) -> str:
    return _UNESCAPED["key"].sub(r"\1", text)


def parse_fields(text: str, start: int) -> tuple[list[tuple[str, str]], int] | Refusal:
    """Return names and values (as written) of the fields from ``start`` on, and where they end."""
    fields: list[tuple[str, str]] = []
    while True:
        found = _CUT[",= "].match(text, start)
        at = found.end() if found else start
        if at == start or at >= len(text) or text[at] != "=":
            what = f"{shortened(text[start : at + 20])} is no field=value" if start < len(text) else "no field"
            return Refusal(Reason.MISSING_KEY, f"{what}; {LINE}")
        end = _end_of_value(text, at + 1)
        if end < 0:
            return Refusal(Reason.WRONG_TYPE, f"the text of field {shortened(text[start:at])} has no end")
        fields.append((_plain(text[start:at]), text[at + 1 : end]))
        if end == len(text) or text[end] == " ":
            return fields, end
        if text[end] != ",":
            return Refusal(Reason.WRONG_TYPE, f"{shortened(text[end : end + 20])} follows the end of a text")
        start = end + 1


def _end_of_value(text: str, start: int) -> int:
    """Return where the value at ``start`` ends; -1 for a text without an end."""
    if text[start : start + 1] != '"':
        bare = _BARE.match(text, start)
        return bare.end() if bare else start
    at = start + 1
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == '"':
            return at + 1
        at += 1
    return -1


def parse_value(text: str) -> float | str | Refusal:
    """Return the number that a field's value means, or its text."""
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            return Refusal(Reason.NOT_FINITE, f"{shortened(text)} is more than a 64-bit float can hold")
        return number
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        lowest, highest = _RANGES[whole[2]]
        if lowest <= int(whole[1]) <= highest:
            return float(int(whole[1]))
        return Refusal(Reason.NOT_FINITE, f"{text} is more than 64 bits can hold")
    if text in _TRUE or text in _FALSE:
        return float(text in _TRUE)
    if text.startswith('"'):
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])
    allowed = 'allowed: 1.5, 3i, 3u, true, false, "text"'
    return Refusal(Reason.WRONG_TYPE, f"{shortened(text)} is no value; {allowed}" if text else f"no value; {allowed}")
