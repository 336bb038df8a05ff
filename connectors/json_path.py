"""A small language for places in JSON documents: ``$.a.b[0]``, ``$.readings[*].v``, ``$['odd name'].*``.

No expressions, no recursion, no filters: a path costs at most one look at each element it matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

ALLOWED = "$, then .name, ['any name'], [0], [-1], [*] for all elements of a list or .* for all members of an object"
LONGEST = 500
MOST_STEPS = 20
_STEP = re.compile(r"\.(?P<name>[^.\[\]*'\"\s]+)|\[(?P<index>-?\d{1,9})\]|\['(?P<quoted>[^']*)'\]|(?P<all>\[\*\]|\.\*)")

Key = str | int
Keys = tuple[Key, ...]
"""What each star of a path stood for: an index, or a member's name."""


class _Star:
    """Stands for every element."""


STAR = _Star()
Step = Key | _Star


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A compiled path."""

    text: str
    steps: tuple[Step, ...]

    @property
    def stars(self) -> int:
        """How many stars it has."""
        return sum(step is STAR for step in self.steps)

    @property
    def trunk(self) -> tuple[Step, ...]:
        """The steps up to and with the last star; empty without one."""
        last = max((at for at, step in enumerate(self.steps) if step is STAR), default=-1)
        return self.steps[: last + 1]

    def find(self, document: object) -> Iterator[tuple[Keys, object]]:
        """Yield each match with what the stars stood for, in the document's order; nothing where there is none.

        >>> list(compiled("$.readings[*].v").find({"readings": [{"v": 1}, {}, {"v": None}]}))
        [((0,), 1), ((2,), None)]
        """
        found: list[tuple[Keys, object]] = [((), document)]
        for step in self.steps:
            if isinstance(step, _Star):
                found = [((*keys, key), value) for keys, parent in found for key, value in _members(parent)]
            else:
                found = [(keys, parent[step]) for keys, parent in found if _has(parent, step)]  # type: ignore[index]
        yield from found

    def follow(self, document: object, keys: Keys) -> object:
        """Return the match for which the stars stand for ``keys``, the first for the first; ``ABSENT`` without one.

        >>> compiled("$.readings[*].t").follow({"readings": [{"t": 5}]}, (0,)), compiled("$.t").follow({}, ())
        (5, absent)
        """
        given = iter(keys)
        for step in self.steps:
            key = next(given, None) if isinstance(step, _Star) else step
            if not _has(document, key):
                return ABSENT
            document = document[key]  # type: ignore[index]
        return document


class _Absent:
    """Stands for no match; null is one."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def compiled(text: str) -> JsonPath:
    """Return the path that ``text`` writes.

    Raises:
        ValueError: if it is none; the message says where, and what is allowed.
    """
    if not text.startswith("$") or len(text) > LONGEST:
        raise ValueError(f"{text[:60]!r} is no path; allowed: {ALLOWED}")
    at, steps = 1, []
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise ValueError(f"{text!r} is no path from {text[at:]!r} on; allowed: {ALLOWED}")
        steps.append(_step(match))
        at = match.end()
    if len(steps) > MOST_STEPS:
        raise ValueError(f"{text!r} has {len(steps)} steps; allowed: at most {MOST_STEPS}")
    return JsonPath(text, tuple(steps))


def _step(match: re.Match[str]) -> Step:
    if match["all"] is not None:
        return STAR
    if match["index"] is not None:
        return int(match["index"])
    return match["name"] if match["name"] is not None else match["quoted"]


def _has(parent: object, step: object) -> bool:
    if isinstance(step, str):
        return isinstance(parent, dict) and step in parent
    return isinstance(parent, list) and isinstance(step, int) and -len(parent) <= step < len(parent)


def _members(parent: object) -> Iterator[tuple[Key, object]]:
    if isinstance(parent, dict):
        yield from parent.items()
    elif isinstance(parent, list):
        yield from enumerate(parent)
