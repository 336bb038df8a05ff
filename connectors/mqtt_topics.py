"""Topic templates: MQTT filters whose levels may have names, as ``sensors/{entity}/{channel}`` or ``plant/+/#``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LONGEST = 1000
_NAME = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class TopicTemplate:
    """A compiled template."""

    text: str
    filter: str
    """What the broker is asked for."""
    names: tuple[str, ...]
    pattern: re.Pattern[str]

    def match(self, topic: str) -> Mapping[str, str] | None:
        """Return what the names stand for in ``topic``; None when it does not fit.

        >>> template("sensors/{entity}/{channel}").match("sensors/dock-3/stage")
        {'entity': 'dock-3', 'channel': 'stage'}
        """
        found = self.pattern.fullmatch(topic)
        return None if found is None else found.groupdict()


def template(text: str) -> TopicTemplate:
    """Return the template that ``text`` writes: levels between ``/``; ``+`` is any level, ``#`` at the end any number.

    ``{name}`` is a level, or a part of one, that has a name; it is never empty.

    Raises:
        ValueError: if it is none; the message says why.
    """
    if not text or len(text.encode("utf-8", "replace")) > LONGEST or "\0" in text:
        raise ValueError(f"{text[:60]!r} is no topic; allowed: 1 to {LONGEST} bytes without NUL")
    levels = text.split("/")
    filters, patterns, names = [], [], list[str]()
    for at, level in enumerate(levels):
        if level == "#" and at != len(levels) - 1:
            raise ValueError(f"{text!r}: # is allowed as the last level only")
        if level not in ("+", "#") and ("+" in level or "#" in level):
            raise ValueError(f"{text!r}: + and # are allowed as whole levels only, not as {level!r}")
        named = _NAME.findall(level)
        if ("{" in _NAME.sub("", level)) or ("}" in _NAME.sub("", level)):
            raise ValueError(f"{text!r}: {level!r} is no level; a name is written {{entity}}, in small letters")
        names += named
        filters.append("+" if named else level)
        patterns.append(_pattern(level))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{text!r}: {twice[0]} stands twice; each name once")
    body = "/".join(patterns)
    if levels[-1] == "#" and len(levels) > 1:  # it takes the parent level too (MQTT 5, 4.7.1.2)
        body = "/".join(patterns[:-1]) + "(?:/.*)?"
    wild = levels[0] in ("+", "#") or _NAME.match(levels[0]) is not None
    guard = r"(?!\$)" if wild else ""  # wildcards at the start take no topic that begins with $ (4.7.2)
    return TopicTemplate(text, "/".join(filters), tuple(names), re.compile(guard + body, re.DOTALL))


def _pattern(level: str) -> str:
    if level == "+":
        return "[^/]*"
    if level == "#":
        return ".*"
    at, parts = 0, []
    for match in _NAME.finditer(level):
        parts += [re.escape(level[at : match.start()]), f"(?P<{match[1]}>[^/]+?)"]
        at = match.end()
    return "".join([*parts, re.escape(level[at:])])


def covers(wide: str, narrow: str) -> bool:
    """Return whether every topic that the filter ``narrow`` takes, ``wide`` takes too.

    >>> covers("a/#", "a/+/b"), covers("a/+", "a/#")
    (True, False)
    """
    wides, narrows = wide.split("/"), narrow.split("/")
    if narrow.startswith("$") and wides[0] in ("+", "#"):
        return False  # MQTT 5, 4.7.2: wildcards at the start take no topic that begins with $
    for at, level in enumerate(wides):
        if level == "#":
            return True
        if at >= len(narrows):
            return False
        if narrows[at] == "#" or (level != "+" and level != narrows[at]):
            return False
    return len(narrows) == len(wides)


def widest(filters: Iterable[str]) -> list[str]:
    """Return the filters without those that another one covers: a broker may deliver once for each that fits."""
    distinct = list(dict.fromkeys(filters))
    return [one for one in distinct if not any(other != one and covers(other, one) for other in distinct)]
