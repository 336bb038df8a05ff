"""The app: the API, the login, the pages where there are any, and every trouble with its reason."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from pipeline.console.answers import Answers
from pipeline.console.api import api_routes
from pipeline.console.asking import Asking
from pipeline.console.auth import Gatekeeper
from pipeline.console.events import Events
from pipeline.console.gate import Gate
from pipeline.console.limits import RateLimit
from pipeline.console.login import login_routes
from pipeline.console.refusals import Refusals
from pipeline.console.rendering import Rendering
from pipeline.console.static_files import StaticFiles
from pipeline.console.troubles import Trouble
from pipeline.health import Probes

OPENAPI = "/api/openapi.json"
_MOST_TOLD = 5
"""Of the mistakes in one request."""


def create_app(
    answers: Answers,
    events: Events,
    probes: Probes,
    keeper: Gatekeeper,
    asking: Asking,
    *,
    pages: Sequence[APIRouter] = (),
    requests: RateLimit | None = None,
    tls: bool = False,
) -> Gate:
    """Return the whole as one ASGI app, the gate before it.

    Args:
        answers: what is shown and done.
        events: what /api/events tells.
        probes: of the paths that are always open.
        keeper: knows who may.
        asking: calls what may block.
        pages: routes of the console's pages; their handlers find ``who``, ``csrf`` and ``nonce`` in ``request.state``.
        requests: of each client; the usual one if None.
        tls: whether this server itself speaks TLS.
    """
    app = FastAPI(
        title="Vedette", version=answers.sources.version or "0", openapi_url=OPENAPI, docs_url=None, redoc_url=None,
        description="What is wrong with the sensors, why, and what people say about it.", redirect_slashes=False,
    )  # fmt: skip
    rendering = Rendering(StaticFiles())
    refusals = app.state.refusals = Refusals(rendering)
    app.include_router(api_routes(answers, asking, events))
    app.include_router(login_routes(keeper, rendering))
    for router in pages:
        app.include_router(router)
    app.add_exception_handler(Trouble, _trouble)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _internal)
    return Gate(app, probes, keeper, requests=requests, tls=tls, refusals=refusals)


async def _trouble(request: Request, error: Exception) -> Response:
    assert isinstance(error, Trouble)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return _problem(request, error.status, str(error), headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = [f"{'.'.join(str(part) for part in e['loc'][1:])[:80]}: {e['msg']}" for e in error.errors()[:_MOST_TOLD]]
    return _problem(request, 422, "; ".join(told))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = str(error.detail)
    if error.status_code == 404:
        text = "there is no such page; the API is listed at /docs"
    elif error.status_code == 405:
        text = f"{request.url.path[:200]} takes no {request.method}"
    return _problem(request, error.status_code, text, dict(error.headers or {}))


async def _internal(request: Request, error: Exception) -> Response:
    return _problem(request, 500, "an internal error; the daemon's log says more")


def _problem(request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    refusals: Refusals = request.app.state.refusals
    nonce = getattr(request.state, "nonce", "")
    media, body = refusals.answer(status, text, path=request.url.path, headers=request.headers, nonce=nonce)
    return Response(body, status, headers, media)
