"""The values of the command line's options; argparse says which option was wrong."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime

from pipeline.durations import BUDGET_ALLOWED, DURATION_ALLOWED, parse_budget, parse_duration


def _words(text: str, parse: Callable[[str], object], allowed: str) -> str:
    try:
        parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}; allowed: {allowed}') from None
    return text


def duration(text: str) -> str:
    """Return the text of a duration longer than zero, as "10m"."""

    def positive(words: str) -> None:
        if not parse_duration(words):
            raise ValueError("must be longer than zero")

    return _words(text, positive, DURATION_ALLOWED)


def budget(text: str) -> str:
    """Return the text of a budget, as "1 per 30d"."""
    return _words(text, parse_budget, BUDGET_ALLOWED)


def time(text: str) -> str:
    """Return the text of an ISO 8601 time."""

    def parse(words: str) -> None:
        try:
            datetime.fromisoformat(words)
        except ValueError:
            raise ValueError("is not a time") from None

    return _words(text, parse, "ISO 8601, such as 2026-03-01T00:00:00Z")


def fraction(text: str) -> float:
    """Return a share, 0 or more and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a share; allowed: 0 or more and below 1')
    return value


def whole(text: str) -> int:
    """Return a whole number, 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number; allowed: 0 or more')
    return int(text)


def positive(text: str) -> int:
    """Return a whole number, 1 or more."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is too small; allowed: 1 or more')
    return value
