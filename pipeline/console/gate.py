"""The gate before every request: probes pass, all else shows who it is, stays within its limits, and comes from us.

    probes ► rate ► size ► who asks ► may they ► is it their own browser's page that asks ► the app

It is plain ASGI, so that it sees every request, also those that no route takes, and adds the headers to every answer.
What it learned lies in the request's state: ``who``, ``csrf`` (for forms, in a field of that name) and ``nonce`` (for
scripts and styles in a page).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from html import escape
from typing import Any
from urllib.parse import quote

import structlog

from pipeline.console.answers import Role
from pipeline.console.asking import Asking
from pipeline.console.auth import Asker, Gatekeeper
from pipeline.console.gate_requests import Receive, Scope, Send, body_of, field_of, headers_of, replayed, without_body
from pipeline.console.limits import MOST_BODY_BYTES, RateLimit
from pipeline.console.refusals import Refusals
from pipeline.console.troubles import Trouble
from pipeline.health import GUARD, Answer, Probes

log = structlog.get_logger("vedette.console")

App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOGIN = "/login"
EVENTS = "/api/events"
_OPEN = (LOGIN, "/static/")
"""What somebody needs who has not shown yet who they are."""
_READS = ("GET", "HEAD")
_JSON = "application/json"
_MOST_SCRAPES = 8
_PROBES = ("/livez", "/readyz", "/healthz", "/metrics")
_INTERNAL = "an internal error; the daemon's log says more"
_Told = tuple[int, str, bytes, Mapping[str, str]]
"""Status, media type, body, further headers."""


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
        refusals: Refusals | None = None,
    ) -> None:
        """Guard ``app``.

        Args:
            app: what answers in the end.
            probes: what the open paths answer from.
            keeper: knows who may.
            requests: of each client.
            logins: likewise, of attempts to log in.
            tls: whether this server itself speaks TLS.
            refusals: writes why a request is refused; None: as JSON, for everybody.
        """
        self._refusals = refusals
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
        started, probed = False, scope["path"] in _PROBES
        scope.setdefault("state", {})["nonce"] = secrets.token_urlsafe(16)
        if not probed:
            send = self._with_headers(send, scope["state"]["nonce"])

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._answer(scope, receive, noting)
        except Exception:
            log.exception("a request failed", method=scope["method"], path=scope["path"][:200])
            if not started:
                await self._refuse(send, scope, 500, _INTERNAL)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path in _PROBES:
            await _reply(send, method, *await self._probe(path, method))
            return
        headers = headers_of(scope)
        peer = (scope.get("client") or ("", 0))[0]
        if not self._requests.allows(peer) or (
            path == LOGIN and method not in _READS and not self._logins.allows(peer)
        ):
            await self._refuse(send, scope, 429, "too many requests; slow down", {"Retry-After": "5"})
            return
        body = await body_of(receive, headers)
        if isinstance(body, int):
            await self._refuse(send, scope, body, f"a request has at most {MOST_BODY_BYTES} bytes, within 10 s")
            return
        asker = self._keeper.asker(headers, peer)
        refusal = self._stranger(scope, headers, asker) or self._not_allowed(scope, headers, asker, body)
        if refusal is not None:
            await _reply(send, method, *refusal)
            return
        scope["state"].update(who=asker.who, csrf=asker.csrf)
        if method == "HEAD" and path != EVENTS:  # events have no end that could be told without them
            scope = {**scope, "method": "GET"}
            send = without_body(send)
        await self._app(scope, replayed(body, receive), send)

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

    def _stranger(self, scope: Scope, headers: Mapping[str, str], asker: Asker) -> _Told | None:
        """Return what to say to somebody who has not shown who they are."""
        path = scope["path"]
        if asker.who is not None or path.startswith(_OPEN):
            return None
        if self._keeper.open:
            text = "this name is not ours: ask for localhost, or set http.public_url, or http.tokens"
            return self._told(scope, 421, text)
        if path.startswith("/api/") or scope["method"] not in _READS:
            text = "who are you? Send the header Authorization: Bearer TOKEN, or log in"
            return self._told(scope, 401, text, {"WWW-Authenticate": 'Bearer realm="vedette"'})
        here = quote(path, safe="/")
        if scope.get("query_string"):
            here += "?" + scope["query_string"].decode("latin-1")
        if headers.get("sec-fetch-site") == "cross-site":
            # Who follows a link from elsewhere comes without the strict cookie; asking again from here brings it.
            return 200, "text/html; charset=utf-8", _again(here), {}
        return 303, "text/plain", b"", {"Location": f"{LOGIN}?next={quote(here, safe='')}"}

    def _not_allowed(self, scope: Scope, headers: Mapping[str, str], asker: Asker, body: bytes) -> _Told | None:
        """Return why a request that may change something is refused."""
        method, path = scope["method"], scope["path"]
        if method in _READS:
            return None
        if not asker.by_header and not self._keeper.same_site(headers, scope.get("scheme", "http")):
            return self._told(scope, 403, "another site made your browser send this")
        if path == LOGIN:
            return None
        if path.startswith("/api/"):
            if headers.get(GUARD.lower()) != "1":
                return self._told(scope, 403, f"send the header {GUARD}: 1")
        elif not asker.by_header and not self._keeper.csrf_fits(asker, field_of(headers, body, "csrf")):
            return self._told(scope, 403, "this form is too old, or not ours: load its page again")
        if path != "/logout" and (asker.who is None or asker.who.role is not Role.ACT):
            return self._told(scope, 403, "you may read, not act: use a token with role act")
        return None

    # ---- refusing ----

    def _told(self, scope: Scope, status: int, text: str, more: Mapping[str, str] | None = None) -> _Told:
        """Return a refusal, as whoever asks can read it."""
        if self._refusals is None:
            return status, _JSON, _error(text), more or {}
        nonce = scope["state"]["nonce"]
        media, body = self._refusals.answer(status, text, path=scope["path"], headers=headers_of(scope), nonce=nonce)
        return status, media, body, more or {}

    async def _refuse(
        self, send: Send, scope: Scope, status: int, text: str, more: Mapping[str, str] | None = None
    ) -> None:
        told = self._told(scope, int(status), text, {"Connection": "close", **(more or {})})
        await _reply(send, scope["method"], *told)

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


def _again(here: str) -> bytes:
    page = f'<!doctype html><title>Vedette</title><meta http-equiv="refresh" content="0;url={escape(here)}">'
    return page.encode()


def _error(text: str) -> bytes:
    return json.dumps({"error": text}).encode() + b"\n"


async def _reply(
    send: Send, method: str, status: int, media: str, body: bytes, more: Mapping[str, str] | None = None
) -> None:
    headers = {"Content-Type": media, "Content-Length": str(len(body)), "Cache-Control": "no-store", **(more or {})}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": raw})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
