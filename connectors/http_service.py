"""A service that is asked over HTTP: where it is, whose key goes there, and what may be told of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx

from connectors.errors import Misconfigured, SourceUnavailable

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SHORT_KEY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpService:
    """One service and how it wants to be asked.

    Args:
        base_url: http or https, such as ``https://api.example.org/v3``; all requests go to its host, and no other.
        key: sent in ``key_header`` with every request; never shown.
        contact: an address or page by which the service's people reach whoever runs this; part of the User-Agent.
        timeout_s: of a whole exchange, from the name's look-up to the answer's last byte.
        max_bytes: of an answer, unpacked.
        ca_file: PEM with the authorities that certificates are checked against; None: the system's.
        tries: of one request, before the poll is given up for this time.

    Raises:
        Misconfigured: if the address, the key or the contact cannot be used.
    """

    base_url: str
    key: str | None = field(default=None, repr=False)
    key_header: str = "X-API-Key"
    contact: str = ""
    timeout_s: float = 60.0
    max_bytes: int = 64 * 1_048_576
    ca_file: Path | None = None
    tries: int = 4

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL as error:
            raise Misconfigured(f"an address cannot be used: {error}") from None
        if url.userinfo:
            raise Misconfigured(f"the address of {url.host} holds a password; say it as the key, not there")
        if url.scheme not in _DEFAULT_PORTS or not url.host or (url.port or 1) > 65_535:
            raise Misconfigured(f"{self.base_url!r} is no address of the kind https://HOST:PORT/PATH")
        if self.key is not None and not (self.key and self.key.isascii() and self.key.isprintable()):
            raise Misconfigured(f"the key for {url.host} is empty, or holds characters that no header may hold")
        if not (self.contact.isascii() and self.contact.isprintable()):
            raise Misconfigured(f"contact {self.contact[:60]!r} holds characters that no header may hold; use ASCII")

    @property
    def host(self) -> str:
        """Return its host, for messages."""
        return httpx.URL(self.base_url).host

    def address(self, link: str) -> httpx.URL:
        """Return where ``link``, absolute or relative to the base, is asked: always at the base's host and port.

        Services behind a proxy often write ``http://`` into the links to their next pages; those are asked as the base
        is, so that no key ever goes in the clear.

        Raises:
            SourceUnavailable: if the link leads to another host.
        """
        base = httpx.URL(self.base_url)
        if "://" not in link.partition("?")[0]:
            path, question, query = link.partition("?")
            joined = path if path.startswith("/") else f"{base.path.rstrip('/')}/{path}" if path else base.path
            return _parsed(f"{base.scheme}://{_authority(base)}{joined}{question}{query}", self.host)
        url = _parsed(link, self.host)
        if url.host != base.host or _port(url) not in (_port(base), _DEFAULT_PORTS.get(url.scheme)):
            raise SourceUnavailable(
                f"{self.host} sends us on to {url.host}:{_port(url)}; only pages of its own host are followed"
            )
        return url.copy_with(scheme=base.scheme, port=base.port, username=None, password=None)

    def masked(self, text: str) -> str:
        """Return ``text`` without the key, as it is or as it stands in addresses.

        A key of less than 8 characters is masked only where it stands by itself: within words it is chance, tells
        nobody anything, and its mask would make the text unreadable.
        """
        if self.key is None:
            return text
        written = "|".join(re.escape(one) for one in (self.key, quote(self.key, safe="")))
        if len(self.key) < _SHORT_KEY:
            written = rf"(?<![^\W_])(?:{written})(?![^\W_])"
        return re.sub(written, "***", text)


def _parsed(text: str, host: str) -> httpx.URL:
    try:
        return httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:  # a service's link may be anything
        raise SourceUnavailable(f"{host} gives a link that is no address: {error}") from None


def _authority(url: httpx.URL) -> str:
    return url.netloc.decode("ascii")


def _port(url: httpx.URL) -> int | None:
    return url.port if url.port is not None else _DEFAULT_PORTS.get(url.scheme)
