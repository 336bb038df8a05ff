"""Who asks, and what they may: tokens, sessions of browsers, and what keeps other sites from acting through them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeline.console.answers import Role, Who

COOKIE = "vedette_session"
SESSION_S = 12 * 3600
_OPERATOR = "operator"
"""What whoever is trusted without a token is called on record."""
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


@dataclass(frozen=True, slots=True)
class Token:
    """A secret, whose it is, and what it is good for."""

    name: str
    secret: str
    role: Role

    def __repr__(self) -> str:
        return f"Token(name={self.name!r}, role={self.role!r})"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and how they have shown it."""

    who: Who | None
    """None: nobody may ask so."""
    csrf: str = ""
    """What forms have to send in their field ``csrf``; empty where no browser is at work."""
    by_header: bool = False
    """A token in a header: no other site can make a browser send it."""


class Gatekeeper:
    """Knows the tokens and signs sessions. Without tokens loopback is trusted to act, and others may read.

    Sessions are signed with a key of this process: they end with it, and nothing that leaks helps to guess a token.
    """

    def __init__(
        self,
        tokens: Sequence[Token] = (),
        *,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        secure: bool = False,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Know these tokens.

        Args:
            tokens: empty: whoever comes from loopback is trusted.
            hosts: names, besides those of loopback, under which the console is reached: other names are refused where
                loopback is trusted, as a page elsewhere could give its own name our address.
            origins: origins besides the request's own from which forms may come, such as a proxy's public one.
            secure: whether browsers may send the cookie over TLS only.
            now_s: the wall clock.
        """
        self._tokens = tuple(tokens)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower() for origin in origins)
        self._secure = secure
        self._now_s = now_s
        self._key = secrets.token_bytes(32)

    @property
    def open(self) -> bool:
        """Whether there are no tokens."""
        return not self._tokens

    def asker(self, headers: Mapping[str, str], peer: str) -> Asker:
        """Return who asks, from a request's headers (names in lower case) and the address it comes from."""
        if self.open:
            return self._trusted(headers, peer)
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            token = self.token(secret.strip())
            return Asker(None if token is None else Who(token.name, token.role), by_header=True)
        session = _cookie(headers.get("cookie", ""), COOKIE)
        told = None if session is None else self._opened(session)
        if told is None:
            return Asker(None)
        who, session_id = told
        return Asker(who, self._signed(b"csrf", session_id.encode()))

    def token(self, secret: str) -> Token | None:
        """Return the token with this secret; takes the same time whatever differs."""
        if not secret:  # a token whose secret came out empty is nobody's, not everybody's
            return None
        given = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(given, hashlib.sha256(token.secret.encode()).digest()):
                found = token
        return found

    def session_cookie(self, token: Token) -> str:
        """Return the header that begins a browser's session."""
        told = {"name": token.name, "until": round(self._now_s()) + SESSION_S, "id": secrets.token_hex(16)}
        body = base64.urlsafe_b64encode(json.dumps(told).encode()).decode()
        return f"{COOKIE}={body}.{self._signed(b'session', body.encode())}; {self._attributes(SESSION_S)}"

    def end_cookie(self) -> str:
        """Return the header that ends it."""
        return f"{COOKIE}=; {self._attributes(0)}"

    def same_site(self, headers: Mapping[str, str], scheme: str) -> bool:
        """Return False where a browser says that another site has made it send this."""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        if origin is None:
            return True
        own = f"{scheme}://{headers.get('host', '')}".lower()
        return origin.lower() == own or origin.lower() in self._origins

    def csrf_fits(self, asker: Asker, given: str) -> bool:
        """Return whether a form came from a page that this browser got from us."""
        return bool(asker.csrf) and hmac.compare_digest(asker.csrf.encode(), given.encode("utf-8", "replace"))

    # ---- inner ----

    def _trusted(self, headers: Mapping[str, str], peer: str) -> Asker:
        csrf = self._signed(b"csrf", b"loopback")
        # Whoever a proxy speaks for is not on this machine, though the proxy may be.
        if not _is_loopback(peer) or any(name in headers for name in _FORWARDED):
            return Asker(Who("anybody", Role.READ), csrf)
        return Asker(Who(_OPERATOR, Role.ACT) if self._is_our_name(headers.get("host", "")) else None, csrf)

    def _is_our_name(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "") if _is_plain(host) else ""
        return name == "localhost" or _is_address(name) or name in self._hosts

    def _opened(self, session: str) -> tuple[Who, str] | None:
        body, _, signature = session.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signed(b"session", body.encode()).encode()):
            return None
        told = json.loads(base64.urlsafe_b64decode(body))
        token = next((token for token in self._tokens if token.name == told["name"]), None)
        if token is None or told["until"] <= self._now_s():
            return None
        return Who(token.name, token.role), str(told["id"])

    def _signed(self, purpose: bytes, message: bytes) -> str:
        return hmac.new(self._key, purpose + b"\0" + message, hashlib.sha256).hexdigest()

    def _attributes(self, age_s: int) -> str:
        secure = "; Secure" if self._secure else ""
        return f"Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}"


def _cookie(header: str, name: str) -> str | None:
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return None


def _is_loopback(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_plain(host: str) -> bool:
    return bool(host) and all(c.isalnum() or c in ".-:[]_" for c in host) and host.count("[") == host.count("]")
