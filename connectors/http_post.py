"""One POST with a deadline that holds: for the whole exchange, from the name's look-up to the answer's last byte.

Time limits between two bytes, which HTTP clients offer, let a peer that drips hold a thread for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from connectors.errors import Misconfigured, ReceiverRefused, ReceiverUnavailable
from connectors.http_words import plain, retry_after_s, trust, why_not

_MOST_BYTES = 65_536
"""Of an answer; the rest is nobody's interest."""
_USER_AGENT = "vedette"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    text: str
    """The beginning of the body, on one line, without control characters."""
    retry_after_s: float | None = None

    def check(self) -> None:
        """Return if the request was taken.

        Raises:
            ReceiverUnavailable: if it may be taken later: 408, 425, 429, 5xx, and redirects, which are not followed.
            ReceiverRefused: if it never will: any other 4xx.
        """
        if 200 <= self.status < 300:
            return
        said = f"answers {self.status}{f': {self.text}' if self.text else ''}"
        if self.status in (408, 425, 429):
            raise ReceiverUnavailable(said, "busy", self.retry_after_s)
        if 400 <= self.status < 500:
            raise ReceiverRefused(said)
        raise ReceiverUnavailable(said, "failing", self.retry_after_s)


class HttpPoster:
    """Posts to one address. For one thread; ``abort`` may be called from any.

    Redirects are not followed: they would take signed messages to addresses that nobody configured. Proxies are those
    of the environment (HTTPS_PROXY, NO_PROXY).

    Args:
        url: http or https.
        timeout_s: of a whole exchange.
        ca_file: PEM with the authorities that certificates are checked against; None: the system's.

    Raises:
        Misconfigured: if the address or the file cannot be used.
    """

    def __init__(self, url: str, timeout_s: float, ca_file: Path | None = None) -> None:
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise Misconfigured(f"{shown_url(url)} cannot be used as an address: {error}") from None
        if self._url.scheme not in ("http", "https") or not self._url.host or (self._url.port or 1) > 65_535:
            raise Misconfigured(f"{shown_url(url)} is no address of the kind http://HOST:PORT/PATH")
        self._timeout_s = timeout_s
        self._trust = trust(ca_file) if self._url.scheme == "https" else False
        self._runner: asyncio.Runner | None = None
        self._client: httpx.AsyncClient | None = None
        self._task: asyncio.Task[Answer] | None = None
        self._aborted = False

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Return the answer, whatever its status.

        Raises:
            ReceiverUnavailable: if there was none within the time.
        """
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(self._exchange(body, headers))
        except TimeoutError:
            raise ReceiverUnavailable(f"no answer within {self._timeout_s:g} s", "timeout") from None
        except httpx.TimeoutException:
            raise ReceiverUnavailable(f"no answer within {self._timeout_s:g} s", "timeout") from None
        except (httpx.HTTPError, httpx.StreamError, OSError, ValueError) as error:
            raise ReceiverUnavailable(plain(why_not(error))) from error
        except asyncio.CancelledError:
            raise ReceiverUnavailable("given up: shutting down") from None

    def abort(self) -> None:
        """End an exchange that is under way, and let no other begin."""
        self._aborted = True
        runner, task = self._runner, self._task
        if runner is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended meanwhile
                runner.get_loop().call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """Let go of the connection; in the thread that posted."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(httpx.HTTPError, OSError):
                runner.run(client.aclose())
        runner.close()

    async def _exchange(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        self._task = asyncio.current_task()
        if self._aborted:
            raise asyncio.CancelledError
        if self._client is None:
            self._client = _client(self._trust, self._timeout_s)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", self._url, content=body, headers=dict(headers)) as response,
            ):
                said = b""
                async for chunk in response.aiter_raw():  # as it comes: a compressed answer may be a bomb
                    said += chunk
                    if len(said) >= _MOST_BYTES:
                        break
                text = said.decode("utf-8", "replace")
                return Answer(response.status_code, plain(text), retry_after_s(response.headers.get("retry-after")))
        finally:
            self._task = None


def shown_url(url: str) -> str:
    """Return scheme, host and port of an address: paths and passwords of webhooks are often secrets.

    >>> shown_url("https://user:password@hooks.example:8443/T0/secret?key=1")
    'https://hooks.example:8443'
    """
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return f"{scheme}://{host}"


def _client(trust: ssl.SSLContext | bool, timeout_s: float) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=trust,
        timeout=timeout_s,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30.0),
        headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
    )
