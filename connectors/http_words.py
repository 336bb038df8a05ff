"""What HTTP peers tell us besides data: when to come back, what is left to ask, and why something failed, in words."""

from __future__ import annotations

import email.utils
import math
import ssl
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from connectors.errors import Misconfigured
from connectors.network_words import in_words
from connectors.rate_limiting import Allowance

LONGEST_TEXT = 300
_LONGEST_RETRY_AFTER_S = 3600.0
"""A wrong header may not silence a peer for a year."""
_EPOCH_FROM_S = 1e9
"""A reset that is larger is a time since 1970, not seconds from now."""
_PREFIXES = ("x-ratelimit", "x-rate-limit", "ratelimit")


def date_of(value: str | None) -> datetime | None:
    """Return the time that a Date, Retry-After or Last-Modified header names; None when it names none.

    >>> date_of("Fri, 20 Nov 2026 14:00:00 GMT")
    datetime.datetime(2026, 11, 20, 14, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        moment = email.utils.parsedate_to_datetime(value or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, 10.2.3): a number, or a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until = date_of(value)
        if until is None:
            return None
        seconds = (until - datetime.now(UTC)).total_seconds()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)


def allowance_of(headers: Mapping[str, str], now_s: float) -> Allowance:
    """Return what is left of a rate limit: ``x-ratelimit-remaining`` and ``-reset``, and how others write them.

    Args:
        headers: by lower-case name.
        now_s: seconds since 1970, against which a reset that is a time is held.

    >>> allowance_of({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "60"}, 0.0)
    Allowance(remaining=3, reset_s=60.0)
    """
    remaining = _first_number(headers, "remaining")
    reset_s = _first_number(headers, "reset")
    if reset_s is not None and reset_s >= _EPOCH_FROM_S:
        reset_s = max(reset_s - now_s, 0.0)
    return Allowance(None if remaining is None else int(remaining), reset_s)


def why_not(error: BaseException) -> str:
    """Return why no answer came, in words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}; ca_file names who else is"
        cause = cause.__cause__ or cause.__context__
    return f"cannot be reached: {in_words(error)}"


def plain(text: str) -> str:
    """Return the beginning of a text on one line, without control characters."""
    shown = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 4 * LONGEST_TEXT])
    return " ".join(shown.split())[:LONGEST_TEXT]


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Return who is believed; read once, so that a file that is away later ends nothing.

    Raises:
        Misconfigured: if the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # SSLError is one too
        raise Misconfigured(
            f"ca_file {ca_file} cannot be used: {error.strerror or error}; it has to hold certificates as PEM"
        ) from error


def _first_number(headers: Mapping[str, str], what: str) -> float | None:
    for prefix in _PREFIXES:
        try:
            number = float(headers[f"{prefix}-{what}"])
        except (KeyError, ValueError):
            continue
        if math.isfinite(number):
            return number
    return None
