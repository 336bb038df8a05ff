"""A webhook: each message as one signed POST. How its receiver checks the signature is ``verify``."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from connectors.http_post import Answer, HttpPoster

SIGNATURE = "X-Vedette-Signature"
TIMESTAMP = "X-Vedette-Timestamp"
KEY = "Idempotency-Key"
_CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
TOLERANCE_S = 300.0
"""How old a request may be for its receiver."""
_LONGEST_TIMESTAMP = 12


class Webhook:
    """Posts CloudEvents in structured mode to one address. For one thread; ``abort`` may be called from any.

    Args:
        url: where to.
        secret: requests are signed with it; None: they are not signed.
        timeout_s: of a whole exchange.
        ca_file: PEM with the authorities that its certificate is checked against; None: the system's.

    Raises:
        Misconfigured: if the address or the file cannot be used.
    """

    def __init__(self, url: str, secret: str | None, timeout_s: float, ca_file: Path | None = None) -> None:
        self._poster = HttpPoster(url, timeout_s, ca_file)
        self._secret = secret

    def post(self, body: bytes, key: str, now_s: float) -> Answer:
        """Send one message and return the answer, which is a good one.

        Args:
            body: the CloudEvent.
            key: the same whenever this message is sent, so that the other side can tell what it has already.
            now_s: the wall clock, seconds since 1970.

        Raises:
            ReceiverUnavailable: if it may be taken later.
            ReceiverRefused: if it never will.
        """
        headers = {"Content-Type": _CONTENT_TYPE, KEY: key, TIMESTAMP: str(int(now_s))}
        if self._secret is not None:
            headers[SIGNATURE] = sign(self._secret, int(now_s), body)
        answer = self._poster.post(body, headers)
        answer.check()
        return answer

    def abort(self) -> None:
        """End an exchange that is under way, and let no other begin."""
        self._poster.abort()

    def close(self) -> None:
        """Let go of the connection; in the thread that posted."""
        self._poster.close()


def sign(secret: str, timestamp_s: int, body: bytes) -> str:
    """Return the signature header: HMAC-SHA256 over the timestamp, a dot and the body.

    The timestamp is signed too, so that what somebody recorded cannot be sent again later.
    """
    digest = hmac.new(secret.encode(), str(timestamp_s).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def verify(secret: str, timestamp: str, signature: str, body: bytes, now_s: float) -> bool:
    """Return whether a request is ours and fresh, as its receiver should check it.

    >>> verify("s", "100", sign("s", 100, b"{}"), b"{}", 130.0)
    True
    >>> verify("s", "100", sign("s", 100, b"{}"), b"{}", 1000.0)
    False
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LONGEST_TIMESTAMP):
        return False
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        return False
    return hmac.compare_digest(sign(secret, int(timestamp), body).encode(), signature.encode("utf-8", "replace"))
