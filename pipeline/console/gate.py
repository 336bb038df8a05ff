"""The gate before every request: probes pass, all else shows who it is, stays within its limits, and comes from us.

    probes ► rate ► size ► who asks ► may they ► is it their own browser's page that asks ► the app

It is plain ASGI, so that it sees every request, also those that no route takes, and adds the headers to every answer.
What it learned lies in the request's state: ``who``, ``csrf`` (for forms, in a field of that name) and ``nonce`` (for
scripts and styles in a page).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote

import structlog

from pipeline.console.answers import Role
from pipeline.console.asking import Asking
from pipeline.console.auth import Asker, Gatekeeper
from pipeline.console.limits import BODY_TIMEOUT_S, MOST_BODY_BYTES, RateLimit
from pipeline.console.troubles import Trouble
from pipeline.health import GUARD, Answer, Probes

log = structlog.get_logger("vedette.console")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOGIN = "/login"
EVENTS = "/api/events"
_OPEN = (LOGIN, "/static/")
"""What somebody needs who has not shown yet who they are."""
_FORM = "application/x-www-form-urlencoded"
_READS = ("GET", "HEAD")
_JSON = "application/json"
_MOST_SCRAPES = 8
_PROBES = ("/livez", "/readyz", "/healthz", "/metrics")


class Gate:
    """Wraps an app; each method but ``__call__`` refuses by returning an answer, or lets pass by returning None."""

    def __init__(
        self,
        app: App,
        probes: Probes,
        keeper: Gatekeeper,
        *,
        requests: RateLimit | None = None,
        logins: RateLimit | None = None,
        tls: bool = False,
    ) -> None:
        """Guard ``app``.

        Args:
            app: what answers in the end.
            probes: what the open paths answer from.
            keeper: knows who may.
            requests: of each client.
            logins: likewise, of attempts to log in.
            tls: whether this server itself speaks TLS.
        """
        self._app = app
        self._probes = probes
        self._keeper = keeper
        # A thread of its own: Prometheus is answered also while every other one hangs in a dead database.
        self._scraping = Asking(threads=1, most_waiting=_MOST_SCRAPES)
        self._requests = requests or RateLimit(per_s=50.0, burst=200.0)
        self._logins = logins or RateLimit(per_s=0.2, burst=10.0)
        self._tls = tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the app do it; what goes wrong is logged once, and ends with that request."""
        if scope["type"] != "http":
            return
        started = False

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._answer(scope, receive, noting)
        except Exception:
            log.exception("a request failed", method=scope["method"], path=scope["path"][:200])
            if not started:
                await _refuse(send, scope["method"], 500, "an internal error; the daemon's log says more")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path in _PROBES:
            await _reply(send, method, *await self._probe(path, method))
            return
        nonce = secrets.token_urlsafe(16)
        send = self._with_headers(send, nonce)
        headers = _headers(scope)
        peer = (scope.get("client") or ("", 0))[0]
        if not self._requests.allows(peer) or (
            path == LOGIN and method not in _READS and not self._logins.allows(peer)
        ):
            await _refuse(send, method, 429, "too many requests; slow down", {"Retry-After": "5"})
            return
        body = await _body(receive, headers)
        if isinstance(body, int):
            await _refuse(send, method, body, f"a request has at most {MOST_BODY_BYTES} bytes, within 10 s")
            return
        asker = self._keeper.asker(headers, peer)
        refusal = self._stranger(scope, headers, asker) or self._not_allowed(scope, headers, asker, body)
        if refusal is not None:
            await _reply(send, method, *refusal)
            return
        scope.setdefault("state", {}).update(who=asker.who, csrf=asker.csrf, nonce=nonce)
        if method == "HEAD" and path != EVENTS:  # events have no end that could be told without them
            scope = {**scope, "method": "GET"}
            send = _without_body(send)
        await self._app(scope, _replay(body, receive), send)

    def close(self) -> None:
        """Let go of its thread."""
        self._scraping.close()

    # ---- the open paths ----

    async def _probe(self, path: str, method: str) -> tuple[int, str, bytes, Mapping[str, str]]:
        if method not in _READS:
            text = f"{path} takes no {method}; it takes GET, HEAD"
            return 405, _JSON, _error(text), {"Allow": "GET, HEAD"}
        if path != "/metrics":
            probes = {"/livez": self._probes.live, "/readyz": self._probes.readiness, "/healthz": self._probes.health}
            return (*probes[path](), {})
        try:
            answer: Answer = await self._scraping.ask(self._probes.metrics)
        except Trouble as error:
            return error.status, _JSON, _error(str(error)), {"Retry-After": "5"}
        return (*answer, {})

    # ---- who asks, and whether they may ----

    def _stranger(
        self, scope: Scope, headers: Mapping[str, str], asker: Asker
    ) -> tuple[int, str, bytes, Mapping[str, str]] | None:
        """Return what to say to somebody who has not shown who they are."""
        path = scope["path"]
        if asker.who is not None or path.startswith(_OPEN):
            return None
        if self._keeper.open:
            text = "this name is not ours: ask for localhost, or set http.public_url, or http.tokens"
            return 421, _JSON, _error(text), {}
        if path.startswith("/api/") or scope["method"] not in _READS:
            text = "who are you? Send the header Authorization: Bearer TOKEN, or log in"
            return 401, _JSON, _error(text), {"WWW-Authenticate": 'Bearer realm="vedette"'}
        here = quote(path, safe="/")
        if scope.get("query_string"):
            here += "?" + scope["query_string"].decode("latin-1")
        if headers.get("sec-fetch-site") == "cross-site":
            # Who follows a link from elsewhere comes without the strict cookie; asking again from here brings it.
            return 200, "text/html; charset=utf-8", _again(here), {}
        return 303, "text/plain", b"", {"Location": f"{LOGIN}?next={quote(here, safe='')}"}

    def _not_allowed(
        self, scope: Scope, headers: Mapping[str, str], asker: Asker, body: bytes
    ) -> tuple[int, str, bytes, Mapping[str, str]] | None:
        """Return why a request that may change something is refused."""
        method, path = scope["method"], scope["path"]
        if method in _READS:
            return None
        if not asker.by_header and not self._keeper.same_site(headers, scope.get("scheme", "http")):
            return 403, _JSON, _error("another site made your browser send this"), {}
        if path == LOGIN:
            return None
        if path.startswith("/api/"):
            if headers.get(GUARD.lower()) != "1":
                return 403, _JSON, _error(f"send the header {GUARD}: 1"), {}
        elif not asker.by_header and not self._keeper.csrf_fits(asker, _field(headers, body, "csrf")):
            return 403, _JSON, _error("this form is too old, or not ours: load its page again"), {}
        if path != "/logout" and (asker.who is None or asker.who.role is not Role.ACT):
            return 403, _JSON, _error("you may read, not act: use a token with role act"), {}
        return None

    # ---- headers of every answer ----

    def _with_headers(self, send: Send, nonce: str) -> Send:
        policy = (
            f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}';"
            " style-src-attr 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self';"
            " form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
        )
        added = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        }
        if self._tls:
            added["Strict-Transport-Security"] = "max-age=31536000"

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                if b"cache-control" not in there:
                    headers.append((b"cache-control", b"no-store"))
                headers += [(name.lower().encode(), value.encode()) for name, value in added.items()]
                message = {**message, "headers": headers}
            await send(message)

        return sending


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers, names in lower case; of those that come twice all values, as one."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


async def _body(receive: Receive, headers: Mapping[str, str]) -> bytes | int:
    """Return the whole body, or the status to refuse it with: it is small, or it is none of ours."""
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MOST_BODY_BYTES:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return HTTPStatus.BAD_REQUEST
                body += message.get("body", b"")
                if len(body) > MOST_BODY_BYTES:
                    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                if not message.get("more_body", False):
                    return body
    except TimeoutError:
        return HTTPStatus.REQUEST_TIMEOUT


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body once more, and afterwards tells whether the client is gone."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _without_body(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return sending


def _field(headers: Mapping[str, str], body: bytes, name: str) -> str:
    """Return a field of a form; empty where it has none, or is no form."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return ""
    try:
        fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return ""
    return fields.get(name, [""])[0]


def _again(here: str) -> bytes:
    page = f'<!doctype html><title>Vedette</title><meta http-equiv="refresh" content="0;url={escape(here)}">'
    return page.encode()


def _error(text: str) -> bytes:
    return json.dumps({"error": text}).encode() + b"\n"


async def _refuse(send: Send, method: str, status: int, text: str, more: Mapping[str, str] | None = None) -> None:
    await _reply(send, method, status, _JSON, _error(text), {"Connection": "close", **(more or {})})


async def _reply(
    send: Send, method: str, status: int, media: str, body: bytes, more: Mapping[str, str] | None = None
) -> None:
    headers = {"Content-Type": media, "Content-Length": str(len(body)), "Cache-Control": "no-store", **(more or {})}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": raw})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
