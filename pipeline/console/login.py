"""Logging in with a token: the page, its form, and logging out."""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from pipeline.console.auth import Gatekeeper
from pipeline.console.gate import LOGIN

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Log in · Vedette</title>
<style nonce="{nonce}">body{{font:1rem/1.5 system-ui,sans-serif;max-width:24rem;margin:12vh auto;padding:0 1rem}}
label,input,button{{display:block;width:100%;box-sizing:border-box;font:inherit}}
input,button{{padding:.6rem;margin:.4rem 0}}
</style></head><body><main><h1>Vedette</h1>{trouble}
<form method="post" action="/login"><input type="hidden" name="next" value="{next}">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Log in</button></form></main></body></html>
"""
_WRONG = '<p role="alert">No such token. Tokens are in http.tokens of the configuration.</p>'


def login_routes(keeper: Gatekeeper) -> APIRouter:
    """Return the routes of /login and /logout."""
    router = APIRouter(include_in_schema=False)

    @router.get(LOGIN)
    async def page(request: Request) -> Response:
        """Show the form."""
        return _page(request, request.query_params.get("next", "/"))

    @router.post(LOGIN)
    async def log_in(request: Request) -> Response:
        """Begin a session where the token is one; what the gate has let through is small and from our own page."""
        fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
        where = _inside(fields.get("next", ["/"])[0])
        token = keeper.token(fields.get("token", [""])[0])
        if token is None:
            return _page(request, where, _WRONG, 401)
        answer = RedirectResponse(where, 303)
        answer.headers["Set-Cookie"] = keeper.session_cookie(token)
        return answer

    @router.post("/logout")
    async def log_out() -> Response:
        """End the session in this browser."""
        answer = RedirectResponse(LOGIN, 303)
        answer.headers["Set-Cookie"] = keeper.end_cookie()
        return answer

    return router


def _page(request: Request, where: str, trouble: str = "", status: int = 200) -> Response:
    text = _PAGE.format(nonce=request.state.nonce, next=escape(_inside(where)), trouble=trouble)
    return HTMLResponse(text.encode("utf-8", "replace"), status)


def _inside(where: str) -> str:
    """Return a path of ours; the first page where ``where`` leads elsewhere.

    >>> _inside("/incidents?x=1"), _inside("//evil.example/"), _inside("https://evil.example/")
    ('/incidents?x=1', '/', '/')
    """
    try:
        parts = urlsplit(where)
    except ValueError:
        return "/"
    elsewhere = parts.scheme or parts.netloc or not where.startswith("/") or where.startswith(("//", "/\\"))
    return "/" if elsewhere or not where.isprintable() else where
