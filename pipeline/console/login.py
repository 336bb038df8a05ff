"""Logging in with a token: the page, its form, and logging out."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from pipeline.console.auth import Gatekeeper
from pipeline.console.gate import LOGIN
from pipeline.console.rendering import Rendering

_WRONG = "There is no such token. Look at it once more, or ask whoever runs the daemon."


def login_routes(keeper: Gatekeeper, rendering: Rendering) -> APIRouter:
    """Return the routes of /login and /logout."""
    router = APIRouter(include_in_schema=False)

    def form(request: Request, where: str, trouble: str = "", status: int = 200) -> Response:
        shown = {"place": "", "next": _inside(where), "trouble": trouble}
        return rendering.page("login.html", request, shown, status)

    @router.get(LOGIN)
    async def page(request: Request) -> Response:
        """Show the form."""
        return form(request, request.query_params.get("next", "/"))

    @router.post(LOGIN)
    async def log_in(request: Request) -> Response:
        """Begin a session where the token is one; what the gate has let through is small and from our own page."""
        fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
        where = _inside(fields.get("next", ["/"])[0])
        token = keeper.token(fields.get("token", [""])[0])
        if token is None:
            return form(request, where, _WRONG, 401)
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
