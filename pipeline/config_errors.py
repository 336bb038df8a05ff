"""What is wrong with a config file, said so that it can be mended in one go.

ConfigError   not retriable: carries every mistake of the file at once; the process exits with 78
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_LONGEST_VALUE = 80


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong: where, what stands there, why that cannot be, and what can."""

    path: Path
    line: int | None
    value: object
    problem: str
    allowed: str = ""
    close: str | None = None
    """The known name that was probably meant."""

    def __str__(self) -> str:
        where = ", ".join(part for part in (f"line {self.line}" if self.line else "", spell(self.path)) if part)
        value = "" if self.value is None else f"{_quote(self.value)} "
        hint = f'; did you mean "{self.close}"?' if self.close else ""
        allowed = f" (allowed: {self.allowed})" if self.allowed else ""
        return f"{where}: {value}{self.problem}{hint}{allowed}" if where else f"{value}{self.problem}{hint}{allowed}"


class ConfigError(Exception):
    """The config cannot be used. ``mistakes`` holds all that is wrong, in the order of the file; never empty."""

    retriable = False

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line or 0))
        super().__init__(f"{source}\n{describe(self.mistakes)}")


def describe(mistakes: Sequence[Mistake]) -> str:
    """Return all ``mistakes`` as lines for a person, with their number first."""
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return "\n".join([f"{count} in the config:", *(f"  {mistake}" for mistake in mistakes)])


def spell(path: Path) -> str:
    """Return a path as it is written in messages: ``streams[0].channels[1].unit``."""
    words = ""
    for part in path:
        words += f"[{part}]" if isinstance(part, int) else f".{part}" if words else str(part)
    return words


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` is probably a slip of, or None."""
    by_folded = {candidate.lower().replace("-", "_"): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def _quote(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    text = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
    return f'"{text}"' if isinstance(value, str) else text


_PROBLEMS: dict[str, tuple[str, str]] = {
    "missing": ("is missing", ""),
    "string_type": ("is not text", 'text; put quotes around it if it looks like a number: "7"'),
    "string_too_short": ("is empty", "some text"),
    "int_type": ("is not a whole number", "a whole number"),
    "int_parsing": ("is not a whole number", "a whole number"),
    "int_from_float": ("is not a whole number", "a whole number"),
    "float_type": ("is not a number", "a number"),
    "float_parsing": ("is not a number", "a number"),
    "finite_number": ("is not finite", "a finite number"),
    "bool_type": ("is neither true nor false", "true or false"),
    "bool_parsing": ("is neither true nor false", "true or false"),
    "greater_than": ("is too small", "a number above {gt}"),
    "greater_than_equal": ("is too small", "{ge} or more"),
    "less_than": ("is too large", "a number below {lt}"),
    "less_than_equal": ("is too large", "{le} or less"),
    "too_short": ("has too few elements", "{min_length} or more"),
    "too_long": ("has too many elements", "{max_length} or fewer"),
    "list_type": ("is not a list", "a list"),
    "tuple_type": ("is not a list", "a list"),
    "dict_type": ("is not a mapping", "key: value pairs"),
    "model_type": ("is not a mapping", "key: value pairs"),
    "model_attributes_type": ("is not a mapping", "key: value pairs"),
    "literal_error": ("is not one of the choices", "{expected}"),
    "enum": ("is not one of the choices", "{expected}"),
}
"""pydantic's error types in our words. What is not here falls back to pydantic's own sentence."""


def explain(kind: str, context: Mapping[str, Any], message: str) -> tuple[str, str]:
    """Return (problem, allowed) for a pydantic error.

    A validator of ours raises ``ValueError("problem | allowed")``; that text passes through as it is.
    """
    if kind == "value_error":
        problem, _, allowed = str(context.get("error", message)).partition(" | ")
        return problem, allowed
    if kind not in _PROBLEMS:
        return message[:1].lower() + message[1:], ""
    problem, allowed = _PROBLEMS[kind]
    words = {key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()}
    return problem, allowed.format(**words)
