"""Who may push: senders with a secret each, told apart by the header that their software can send."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sender:
    """Somebody who may push."""

    name: str
    secret: str = field(repr=False)
    prefix: str = ""
    """Put before the entities of what it sends, so that no sender can speak for another's."""


_OF_PROXIES = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers by which a reverse proxy shows: who comes through one on this machine is not of this machine (RFC 7239)."""
ANYBODY = Sender("anybody", "")
"""Who pushes where no secret is asked for."""


class Senders:
    """Knows the senders. Without any, whoever comes from this machine is let in, or everybody if ``open_to_all``.

    Args:
        senders: by secrets that differ.
        open_to_all: whether to let everybody in when there are no senders.
    """

    def __init__(self, senders: Sequence[Sender] = (), *, open_to_all: bool = False) -> None:
        self._senders = [(sender, _digest(sender.secret)) for sender in senders]
        self._open_to_all = open_to_all

    @property
    def wanted(self) -> str:
        """Return what somebody who was not let in has to do."""
        if self._senders:
            return "no sender has this secret; allowed in Authorization: Bearer SECRET, Token SECRET, Basic NAME:SECRET"
        return (
            "only programs on this machine may push, not through a proxy, and no pages in browsers: no sender is "
            "configured; behind a proxy name senders with their secrets"
        )

    def sender(self, headers: Mapping[str, str], query: Mapping[str, str], peer: str) -> Sender | None:
        """Return who sends, or None for somebody who may not.

        A secret comes as ``Authorization: Bearer SECRET`` or ``Token SECRET``, as the password of basic authentication
        (the user is the sender's name), or, as clients of InfluxDB 1 do, as ``u`` and ``p`` in the query.

        Args:
            headers: names in lower case.
            query: of the address.
            peer: the address it comes from.
        """
        if not self._senders:
            return ANYBODY if self._may_be_anybody(headers, peer) else None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() in ("bearer", "token"):
            name, _, secret = given.strip().partition(":")
            return self._found(given.strip()) or self._found(secret, name)
        if scheme.lower() == "basic":
            name, _, secret = _from_base64(given).partition(":")
            return self._found(secret, name)
        return self._found(query.get("p", ""), query.get("u", ""))

    def _may_be_anybody(self, headers: Mapping[str, str], peer: str) -> bool:
        """Return whether this may be let in without a secret: no page in a browser on this machine, for one."""
        if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
            return False
        return self._open_to_all or (is_loopback(peer) and not any(header in headers for header in _OF_PROXIES))

    def _found(self, secret: str, name: str = "") -> Sender | None:
        """Return whose secret it is; takes the same time whatever differs."""
        if not secret:  # a sender whose secret came out empty is nobody, not everybody
            return None
        given = _digest(secret)
        found = None
        for sender, digest in self._senders:
            if hmac.compare_digest(given, digest) and name in ("", sender.name):
                found = sender
        return found


def is_loopback(host: str) -> bool:
    """Return whether an address, or the name ``localhost``, is this machine's own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _from_base64(text: str) -> str:
    try:
        return base64.b64decode(text.strip(), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
