"""Why a question has no answer; each becomes a JSON body with the reason, never a stack trace.

    Trouble
    ├── BadQuestion 400  the question cannot be understood
    ├── Unknown     401  nobody may ask without showing who they are
    ├── Forbidden   403  whoever asks may not
    ├── NotThere    404  there is no such thing
    ├── Refused     409  what was asked for cannot be done as things are
    ├── TooMuch     429  too many questions, or too much at once
    └── Away        503  the database, the registry or the history cannot be asked now
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Trouble(Exception):
    """A question without an answer. The text is for whoever asked."""

    status = 500
    retry_after_s: int | None = None


class NotThere(Trouble):
    """There is no such thing."""

    status = 404


class BadQuestion(Trouble):
    """The question cannot be understood."""

    status = 400


class Unknown(Trouble):
    """Nobody may ask without showing who they are."""

    status = 401


class Forbidden(Trouble):
    """Whoever asks may not."""

    status = 403


class Refused(Trouble):
    """What was asked for cannot be done as things are; ``told`` is what else is known of it, for machines."""

    status = 409

    def __init__(self, text: str, told: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.told: Mapping[str, Any] = told or {}


class TooMuch(Trouble):
    """Too many questions, or too much at once."""

    status = 429
    retry_after_s = 1


class Away(Trouble):
    """What would have to be asked does not answer now."""

    status = 503
    retry_after_s = 5
