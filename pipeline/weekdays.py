"""Weekdays as crontab numbers them: 0 and 7 are Sunday. APScheduler takes 0 for Monday, so names go between the two."""

from __future__ import annotations

_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def weekday_names(field: str) -> str:
    """Return a crontab's weekday field with every day by its name; ``*`` stays.

    >>> weekday_names("1-5,0"), weekday_names("5-7"), weekday_names("*/3"), weekday_names("Mon-Wed")
    ('mon,tue,wed,thu,fri,sun', 'fri,sat,sun', 'sun,wed,sat', 'mon,tue,wed')

    Raises:
        ValueError: if a part is no day, range of days or step.
    """
    if field == "*":
        return field
    days: list[str] = []
    for part in field.split(","):
        span, slash, step = part.partition("/")
        if slash and not (step.isdigit() and int(step) > 0):
            raise ValueError(f"{part!r} has no step; a step is 1 or more")
        days += [_NAMES[i % 7] for i in _days(span, open_end=bool(slash))[:: int(step) if slash else 1]]
    return ",".join(dict.fromkeys(days))


def _days(span: str, open_end: bool) -> range:
    if span == "*":
        return range(7)
    first, dash, last = span.partition("-")
    start = _day(first)
    if not dash:
        return range(start, 7) if open_end else range(start, start + 1)
    end = _day(last)
    if end == 0 and start > 0:
        end = 7  # fri-sun
    if end < start:
        raise ValueError(f"{span!r} runs backwards; write two ranges")
    return range(start, end + 1)


def _day(word: str) -> int:
    if word.isdigit() and int(word) <= 7:
        return int(word)
    if word.lower() in _NAMES:
        return _NAMES.index(word.lower())
    raise ValueError(f"{word!r} is no weekday; allowed: 0 to 7, or sun to sat")
