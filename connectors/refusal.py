"""Why a codec refused bytes: a value that travels, never an exception."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.reading import Reason

LONGEST_DETAIL = 400
"""Characters of a detail: a flood of bad records may not fill the memory with what is said about them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason and a detail that says what, the value, and what is allowed; the origin is added where it is known."""

    reason: Reason
    detail: str

    def within(self, place: str) -> Refusal:
        """Return the same refusal, its detail led by ``place``."""
        return Refusal(self.reason, f"{place}: {self.detail}"[:LONGEST_DETAIL])


def shortened(value: object, longest: int = 60) -> str:
    """Return ``repr(value)``, cut in the middle of what is too long to read.

    >>> shortened("a" * 100, 10)
    "'aaa…aaaa'"
    """
    if isinstance(value, str) and len(value) > 2 * longest:
        value = value[:longest] + value[-longest:]  # repr of a megabyte is a megabyte
    elif isinstance(value, list | dict):
        return f"a{'n object' if isinstance(value, dict) else ' list'} of {len(value)}"
    text = repr(value)
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[: half - 1]}…{text[-half:]}"
