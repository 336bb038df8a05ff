"""The kinds of value that config fields are made of: words that become durations, budgets, numbers and secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
)

from pipeline.durations import (
    BUDGET_ALLOWED,
    DURATION_ALLOWED,
    Budget,
    format_duration,
    parse_budget,
    parse_duration,
    parse_n_of_m,
)

_MULTIPLES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
SIZE_ALLOWED = "a number and KiB, MiB, GiB or TiB, such as 1GiB"


class Section(BaseModel):
    """A part of the config: frozen, unknown keys refused, defaults checked like values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


def _from_words(parse: Callable[[str], Any], allowed: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, timedelta | Budget | tuple):
            return value
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(f"is not written in words | {allowed}")
        if isinstance(value, int) and value != 0:
            raise ValueError(f"has no unit | {allowed}")
        try:
            return parse(str(value))
        except ValueError as error:
            raise ValueError(f"{error} | {allowed}") from None

    return BeforeValidator(check)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("is not a number | a number")
    return value


def _positive(duration: timedelta) -> timedelta:
    if duration <= timedelta(0):
        raise ValueError(f"must be longer than zero | {DURATION_ALLOWED}")
    return duration


def _words_schema(description: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description, "examples": [example]})


def _read_secret(value: Any) -> Any:
    """Return the secret itself; ``file:PATH`` is read, without the newline that editors leave at the end."""
    if not isinstance(value, str) or not value.startswith("file:"):
        return value
    path = Path(value.removeprefix("file:"))
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ValueError(f"cannot be read: {path}: {reason} | file:PATH of a readable file") from None


def _glob(value: str) -> str:
    if re.search(r"\s", value):
        raise ValueError("holds white space | a name, where * and ? stand for any characters")
    return value


def _cron(value: str) -> str:
    fields = value.split()
    if len(fields) != 5 or not all(re.fullmatch(r"[0-9A-Za-z*/,-]+", field) for field in fields):
        raise ValueError('is no cron expression | five fields: minute hour day month weekday, such as "0 3 * * *"')
    return " ".join(fields)


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _read_size(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).replace(" ", "")
    number, unit = text[:-3], text[-3:]
    if unit not in _MULTIPLES or not number.isdecimal():
        raise ValueError(f"is no size | {SIZE_ALLOWED}")
    return int(number) * _MULTIPLES[unit]


def _at_least_a_mebibyte(value: int) -> int:
    if value < 1 << 20:
        raise ValueError("is too small | at least 1MiB")
    return value


def _size_words(value: int) -> str:
    for unit, size in reversed(_MULTIPLES.items()):
        if value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


Duration = Annotated[
    timedelta,
    _from_words(parse_duration, DURATION_ALLOWED),
    PlainSerializer(format_duration, return_type=str),
    _words_schema(DURATION_ALLOWED, "10m"),
]
"""Zero or longer."""

PositiveDuration = Annotated[Duration, AfterValidator(_positive)]

BudgetWords = Annotated[
    Budget,
    _from_words(parse_budget, BUDGET_ALLOWED),
    PlainSerializer(str, return_type=str),
    _words_schema(BUDGET_ALLOWED, "1 per 30d"),
]

NOfM = Annotated[
    tuple[int, int],
    _from_words(parse_n_of_m, '"n of m" with 1 <= n <= m <= 64, such as "2 of 3"'),
    PlainSerializer(lambda pair: f"{pair[0]} of {pair[1]}", return_type=str),
    _words_schema("n steps out of the last m", "2 of 3"),
]

Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
PositiveCount = Annotated[int, BeforeValidator(_no_bool), Field(ge=1)]
Share = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Glob = Annotated[Name, AfterValidator(_glob)]
Cron = Annotated[Name, AfterValidator(_cron)]
Secret = Annotated[SecretStr, BeforeValidator(_read_secret)]
Time = Annotated[AwareDatetime, AfterValidator(_utc)]
Size = Annotated[
    int, BeforeValidator(_read_size), AfterValidator(_at_least_a_mebibyte),
    PlainSerializer(_size_words, return_type=str),
]  # fmt: skip
"""Bytes, at least 1MiB."""
