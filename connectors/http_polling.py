"""Asks one HTTP service: politely, with a deadline that holds, and never twice at a time.

What pollers share: the pace (``rate_limiting``), retries with back-off, pages, conditional requests, and which answers
mean what. When to ask at all is ``poll_schedule``'s matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from connectors.errors import SourceRefused, SourceUnavailable
from connectors.http_body import Body, BodyBroken, BodyTooLarge
from connectors.http_service import HttpService
from connectors.http_words import allowance_of, date_of, plain, retry_after_s, trust, why_not
from connectors.json_documents import parsed
from connectors.rate_limiting import Allowance, RateLimiter
from connectors.refusal import Refusal
from connectors.source import Outlet, Stopping
from connectors.timestamps import in_range, to_us

Params = Mapping[str, str | int | float]

_BUSY = frozenset((408, 425, 429))
_REFUSED = {
    401: "it wants a key, or does not know ours: put a valid one into the configuration",
    402: "it wants to be paid: the key's account is spent",
    403: "it forbids this: look whether the key is blocked, lacks a right, or asked too often",
    410: "this service is gone for good: look for its successor, and do not ask here again",
}
_BACKOFF_FIRST_S = 1.0
_BACKOFF_MOST_S = 60.0
_SAY_WAITING_S = 10.0
_LOOK_S = 0.1
"""How often an exchange under way looks whether the process stops."""
_MOST_PAGES = 10_000
_MOST_VALIDATORS = 10_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole: a body that broke off never becomes one."""

    status: int
    url: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes
    received_us: int
    """By our clock."""

    @property
    def changed(self) -> bool:
        """Whether there is anything new: False for the 304 of a conditional request."""
        return self.status != 304

    @property
    def server_time_us(self) -> int:
        """Return the service's clock, by its Date header; ours where it has none."""
        moment = date_of(self.headers.get("date"))
        return to_us(moment) if moment is not None and in_range(to_us(moment)) else self.received_us

    def document(self) -> object:
        """Return the JSON document.

        Raises:
            SourceUnavailable: if it is none: an error page with status 200, say.
        """
        document = parsed(self.body)
        if isinstance(document, Refusal):
            kind = self.headers.get("content-type", "no content type")
            raise SourceUnavailable(plain(f"answers {self.status} as {kind}, which is {document.detail}"))
        return document


class Poller:
    """Asks one service for as long as a source runs. A context manager; for the thread of its source only.

    Redirects are not followed: they would take keys to addresses that nobody configured. Proxies are those of the
    environment (HTTPS_PROXY, NO_PROXY). Every wait, and every exchange, ends within a moment when the outlet stops.

    Args:
        service: where it is, and how it is asked.
        outlet: of the source; told ``failing`` while a request has to wait or is tried again, ``working`` after.
        limiter: its pace; give the same one at every ``run``, so that a restart does not begin a new allowance.
    """

    def __init__(self, service: HttpService, outlet: Outlet, limiter: RateLimiter) -> None:
        self._service = service
        self._outlet = outlet
        self._limiter = limiter
        self._loop = asyncio.new_event_loop()
        self._client: httpx.AsyncClient | None = None
        self._validators: dict[str, dict[str, str]] = {}
        self._told_failing = False
        self._server_ahead_us = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection; again does nothing."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(httpx.HTTPError, OSError):
                self._loop.run_until_complete(client.aclose())
        self._loop.close()  # unlike a Runner's, it does not wait for a look-up of a name that hangs

    def get(
        self, link: str, params: Params | None = None, *, accept: Collection[int] = (200,), conditional: bool = False
    ) -> Answer:
        """Return the answer to a GET; waits for its turn, and tries again what may succeed later.

        Args:
            link: relative to the service's base, or absolute on its host, as in ``next`` links.
            params: added to the link's query.
            accept: statuses that are success; others raise.
            conditional: ask only whether it changed since the answer that was last told to ``remember``; a 304 comes
                as an answer that is not ``changed``.

        Raises:
            SourceUnavailable: no answer that is any good, after all tries; nothing of it was used.
            SourceRefused: 401, 402, 403 or 410.
            Stopping: the outlet stops.
        """
        url = self._service.address(link)
        if params:
            url = url.copy_merge_params({name: str(value) for name, value in params.items()})
        for attempt in range(1, max(self._service.tries, 1) + 1):
            self._wait_for_turn()
            validators = self._validators.get(str(url), {}) if conditional else {}
            try:
                answer = self._asked(url, validators)
                self._check(answer, (*accept, 304) if validators else accept)
            except SourceUnavailable as error:
                if attempt >= self._service.tries or not isinstance(error, _Passing):
                    raise
                self._outlet.count("retries")
                self._pause(random.uniform(0.5, 1.0) * min(_BACKOFF_FIRST_S * 2 ** (attempt - 1), _BACKOFF_MOST_S))
            else:
                self._say_working()
                return answer
        raise AssertionError("the last try returns or raises")

    def now_us(self) -> int:
        """Return the time by the service's clock, as its newest answer told it; before the first one, by ours."""
        return time.time_ns() // 1000 + self._server_ahead_us

    def remember(self, answer: Answer) -> None:
        """Ask at this address, from now on, only whether it changed since. Call it when all of it is durable."""
        wanted = {"if-none-match": answer.headers.get("etag"), "if-modified-since": answer.headers.get("last-modified")}
        known = {name: value for name, value in wanted.items() if value}
        self._validators.pop(answer.url, None)
        if known:
            self._validators[answer.url] = known
        while len(self._validators) > _MOST_VALIDATORS:
            del self._validators[next(iter(self._validators))]

    def pages(
        self,
        link: str,
        params: Params | None = None,
        *,
        next_link: Callable[[Answer], str | None],
        accept: Collection[int] = (200,),
    ) -> Iterator[Answer]:
        """Yield an answer for each page, asking for one when the one before was dealt with.

        Args:
            link, params, accept: as for ``get``; the params go with the first page only.
            next_link: returns what an answer says of its next page; None at the end. May raise.

        Raises:
            SourceUnavailable: as ``get``, and if pages lead in a circle. What came before was whole.
        """
        asked: set[str] = set()
        answer = self.get(link, params, accept=accept)
        yield answer
        while (following := next_link(answer)) is not None:
            asked.add(answer.url)
            if str(self._service.address(following)) in asked or len(asked) > _MOST_PAGES:
                raise SourceUnavailable(f"the pages of {self._service.host} lead in a circle, after {len(asked)}")
            answer = self.get(following, accept=accept)
            yield answer

    # ---- inner ----

    def _wait_for_turn(self) -> None:
        while (seconds := self._limiter.wait_s()) > 0.0:
            if seconds > _SAY_WAITING_S and self._limiter.blocked:
                self._say_failing(f"{self._service.host} asks us to wait; goes on in {seconds:.0f} s")
            self._pause(seconds)
        if self._outlet.stopping:
            raise Stopping
        self._limiter.take()

    def _pause(self, seconds: float) -> None:
        if self._outlet.wait(seconds):
            raise Stopping

    def _asked(self, url: httpx.URL, validators: Mapping[str, str]) -> Answer:
        """Return what is answered, whatever its status."""
        service = self._service
        try:
            return self._loop.run_until_complete(self._exchange(url, validators))
        except (TimeoutError, httpx.TimeoutException):
            said = f"{service.host} gave no whole answer within {service.timeout_s:g} s"
        except BodyTooLarge as error:
            raise SourceUnavailable(f"the answer of {service.host} {error}; ask for less, or allow more") from None
        except BodyBroken as error:
            said = f"the answer of {service.host} {error}"
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError) as error:
            said = f"{service.host} {why_not(error)}"
        except asyncio.CancelledError:
            raise Stopping from None
        raise _Passing(plain(service.masked(said)))  # without a cause: that may hold the key

    async def _exchange(self, url: httpx.URL, validators: Mapping[str, str]) -> Answer:
        watching = asyncio.create_task(self._cancel_when_stopping(asyncio.current_task()))
        try:
            async with asyncio.timeout(self._service.timeout_s):
                return await self._fetched(url, validators)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _fetched(self, url: httpx.URL, validators: Mapping[str, str]) -> Answer:
        if self._client is None:
            self._client = _client(self._service)
        async with self._client.stream("GET", url, headers=dict(validators)) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            body = Body(headers.get("content-encoding", "").strip().lower(), self._service.max_bytes)
            async for piece in response.aiter_raw():
                body.add(piece)
            return Answer(response.status_code, str(url), headers, body.whole(), time.time_ns() // 1000)

    async def _cancel_when_stopping(self, exchange: asyncio.Task[Answer] | None) -> None:
        while not self._outlet.stopping:
            await asyncio.sleep(_LOOK_S)
        if exchange is not None:
            exchange.cancel()

    def _check(self, answer: Answer, accept: Collection[int]) -> None:
        """Return if the answer is one to use; raise what it means otherwise."""
        allowance = allowance_of(answer.headers, answer.received_us / 1e6)
        self._limiter.learn(allowance)
        self._server_ahead_us = answer.server_time_us - answer.received_us
        status = answer.status
        if status in accept:
            return self._limiter.answered()
        said = plain(self._service.masked(answer.body[:2000].decode("utf-8", "replace")))
        told = f"{self._service.host} answers {status}{f' ({said})' if said else ''}"
        if status in _REFUSED:
            raise SourceRefused(f"{told}; {_REFUSED[status]}")
        if status in _BUSY or status >= 500:
            asked_s = retry_after_s(answer.headers.get("retry-after"))
            if status == 429:
                self._exceeded(asked_s, allowance)
            elif asked_s is not None:
                self._limiter.block(asked_s)
            raise _Passing(told)
        if 300 <= status < 400:
            to = plain(self._service.masked(answer.headers.get("location", "")))
            raise SourceUnavailable(f"{told} and sends us on to {to}; redirects are not followed: correct the address")
        raise SourceUnavailable(f"{told}, which is none of {', '.join(map(str, sorted(accept)))}")

    def _exceeded(self, asked_s: float | None, allowance: Allowance) -> None:
        """Wait for as long as the answer to a request too many says, in whatever way."""
        if asked_s is None and allowance.remaining == 0:
            return  # what is left was learned, and until when
        self._limiter.exceeded(allowance.reset_s if asked_s is None else asked_s)

    def _say_failing(self, reason: str) -> None:
        self._told_failing = True
        self._outlet.failing(reason)

    def _say_working(self) -> None:
        if self._told_failing:
            self._told_failing = False
            self._outlet.working()


class _Passing(SourceUnavailable):
    """The same request may succeed in a moment; where the service says that it is wrong, another try is no use."""


def _client(service: HttpService) -> httpx.AsyncClient:
    contact = f" ({service.contact})" if service.contact else ""
    headers = {"User-Agent": f"vedette{contact}", "Accept-Encoding": "gzip", "Accept": "application/json, */*;q=0.5"}
    if service.key is not None:
        headers[service.key_header] = service.key
    return httpx.AsyncClient(
        verify=trust(service.ca_file) if service.base_url.lower().startswith("https") else False,
        timeout=service.timeout_s,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30.0),
        headers=headers,
    )
