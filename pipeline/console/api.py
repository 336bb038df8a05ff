"""The JSON API: questions and actions as HTTP, each in a thread that may block, never in the event loop.

Whoever may ask at all was let in by the gate; routes take who it is from the request. Names come as query parameters:
they may hold anything, slashes included.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from connectors.alert_store_rows import IncidentQuery
from pipeline.console import shapes
from pipeline.console.answers import Answers, Who
from pipeline.console.asking import Asking
from pipeline.console.events import Events
from pipeline.console.site_answers import SiteQuery
from pipeline.console.site_box import box_of
from pipeline.console.site_shapes import SitePage
from pipeline.console.troubles import Refused
from pipeline.incident import Kind, Tier, finite_json

_LAST_US = 253_402_300_799_999_999
_FARTHEST = 10_000_000

Name = Annotated[str, Query(max_length=10_240)]
Search = Annotated[str, Query(max_length=200, description="A part of the name, in either case.")]
Offset = Annotated[int, Query(ge=0, le=_FARTHEST, description="How many of the first are left out.")]
Limit = Annotated[int, Query(ge=1, le=200)]
TimeUs = Annotated[int | None, Query(ge=0, le=_LAST_US, description="Microseconds since 1970 UTC.")]
IncidentId = Annotated[str, Path(pattern="^[0-9a-f]{4,32}$", description="The id, or its only possible beginning.")]


class Problem(BaseModel):
    """Why there is no answer."""

    error: str


class LabelBody(BaseModel):
    """An operator's word about an incident."""

    model_config = ConfigDict(extra="forbid")
    label: Literal["true", "false_alarm", "expected"]
    reason: str = Field("", max_length=2_000)
    until: str | None = Field(None, max_length=100, description="A time, or a duration from now such as 7d.")


class PromoteBody(BaseModel):
    """Which version is to take charge, and why."""

    model_config = ConfigDict(extra="forbid")
    stream: str = Field(max_length=200)
    version: str = Field(min_length=1, max_length=200, description='A version or its beginning, a role, or "linear".')
    reason: str = Field("", max_length=2_000)


class RollbackBody(BaseModel):
    """Whose champion is to be given up, for whom, and why."""

    model_config = ConfigDict(extra="forbid")
    stream: str = Field(max_length=200)
    to: str | None = Field(None, min_length=1, max_length=200)
    reason: str = Field("", max_length=2_000)


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in {
        400: "The question cannot be understood.",
        401: "Nobody may ask so.",
        403: "Not allowed, or another site's request.",
        404: "There is no such thing.",
        409: "It cannot be done as things are.",
        413: "Too large.",
        421: "Not our name.",
        422: "A parameter is not what it has to be.",
        429: "Too much at once.",
        503: "What would have to be asked is away.",
    }.items()
}
_GUARD = {"parameters": [{
    "name": "X-Vedette-Request", "in": "header", "required": True, "schema": {"type": "string", "enum": ["1"]},
    "description": "Other sites cannot make a browser send it.",
}]}  # fmt: skip


def api_routes(answers: Answers, asking: Asking, events: Events) -> APIRouter:
    """Return the routes below /api."""
    router = APIRouter(prefix="/api", responses=_PROBLEMS)
    _questions(router, answers, asking)
    _models(router, answers, asking)
    _actions(router, answers, asking)

    @router.get(
        "/events",
        tags=["live"],
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Events: step, incident, health, lost."}},
    )
    async def live() -> Response:
        """New steps, what is said of incidents, and health, as server-sent events; ends after half an hour."""
        stream = events.listen()
        # Listens before the answer begins: a page that is told to be live misses nothing from then on.
        told = _from_the_first(await anext(stream), stream)
        return StreamingResponse(told, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    return router


async def _from_the_first(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


def _questions(router: APIRouter, answers: Answers, asking: Asking) -> None:
    ask = _answering(asking)

    @router.get("/overview", tags=["now"], responses=_shape(shapes.Overview))
    async def overview(most: Limit = 50) -> Response:
        """What is wrong now; what cannot be asked is told in ``troubles``."""
        return await ask(answers.overview, most)

    @router.get("/streams", tags=["now"], responses=_shape(list[shapes.StreamLine]))
    async def streams() -> Response:
        """How each stream is."""
        return await ask(answers.streams)

    @router.get("/system", tags=["now"], responses=_shape(shapes.System))
    async def system() -> Response:
        """How the daemon itself is: partitions, lag, checkpoints, and its config with secrets masked."""
        return await ask(answers.system)

    @router.get("/incidents", tags=["incidents"], responses=_shape(shapes.IncidentPage))
    async def incidents(
        stream: Name | None = None,
        entity: Name | None = None,
        search: Search = "",
        kind: Kind | None = None,
        tier: Literal["watch", "alert"] | None = None,
        open: bool = False,  # noqa: A002  # so it is called outside
        from_us: TimeUs = None,
        to_us: TimeUs = None,
        offset: Offset = 0,
        limit: Limit = 50,
    ) -> Response:
        """Incidents, newest first; ``from_us`` and ``to_us`` keep those that lived then."""
        span = None if from_us is None and to_us is None else (from_us or 0, _LAST_US if to_us is None else to_us)
        query = IncidentQuery(
            stream, entity, open, None, span, limit, offset,
            kind=None if kind is None else str(kind),
            least_tier=None if tier is None else int(Tier[tier.upper()]),
            search=search or None,
        )  # fmt: skip
        return await ask(answers.incidents, query)

    @router.get("/incidents/{incident_id}", tags=["incidents"], responses=_shape(shapes.IncidentDetail))
    async def incident(incident_id: IncidentId) -> Response:
        """Everything known of an incident, with the series around it."""
        return await ask(answers.incident, incident_id)

    @router.get("/entities", tags=["entities"], responses=_shape(shapes.EntityPage))
    async def entities(
        stream: Name, search: Search = "", order: Literal["score", "name"] = "score", offset: Offset = 0,
        limit: Limit = 50,
    ) -> Response:  # fmt: skip
        """Entities of a stream that are scored here, as their newest step left them."""
        return await ask(answers.entities, stream, search, offset=offset, limit=limit, order=order)

    @router.get("/entity", tags=["entities"], responses=_shape(shapes.EntityDetail))
    async def entity(stream: Name, entity: Name, from_us: TimeUs = None, to_us: TimeUs = None) -> Response:
        """One entity over a time range; without one its newest 288 steps."""
        return await ask(answers.entity, stream, entity, from_us, to_us)

    @router.get("/sites", tags=["sites"], responses=_shape(SitePage))
    async def sites(
        search: Search = "",
        state: Literal["unknown", "ok", "silent", "watch", "alert"] | None = None,
        source: Name = "",
        box: Annotated[
            str,
            Query(max_length=100, description="west,south,east,north in degrees; west above east: across 180°."),
        ] = "",
        offset: Offset = 0,
        limit: Limit = 50,
    ) -> Response:
        """Where things are measured, as sources tell, and how each is now; the worst first."""

        def found() -> SitePage:
            return answers.sites(SiteQuery(search, state or "", source, box_of(box) if box else None, offset, limit))

        return await ask(found)

    @router.get("/audit", tags=["audit"], responses=_shape(shapes.AuditPage))
    async def audit(offset: Offset = 0, limit: Limit = 50) -> Response:
        """What people did by the console and the API, newest first."""
        return await ask(answers.audit, offset, limit)


def _models(router: APIRouter, answers: Answers, asking: Asking) -> None:
    ask = _answering(asking)

    @router.get("/models", tags=["models"], responses=_shape(shapes.Models))
    async def models(stream: Name) -> Response:
        """A stream's models, who is in charge, what was decided and why."""
        return await ask(answers.models, stream)

    @router.get("/training", tags=["models"])
    async def training() -> Response:
        """The state of all trainings."""
        told = answers.sources.training
        return await ask(lambda: {"scheduler": None, "streams": []} if told is None else dict(told()))

    @router.post("/models/promote", tags=["models"], responses=_shape(shapes.Done), openapi_extra=_GUARD)
    async def promote(request: Request, body: PromoteBody) -> Response:
        """Put a version in charge."""
        return await ask(answers.promote, _who(request), body.stream, body.version, body.reason)

    @router.post("/models/rollback", tags=["models"], responses=_shape(shapes.Done), openapi_extra=_GUARD)
    async def roll_back(request: Request, body: RollbackBody) -> Response:
        """Give the champion up for its predecessor, or for another version."""
        return await ask(answers.roll_back, _who(request), body.stream, body.to, body.reason)

    @router.post("/train", tags=["models"], status_code=202, openapi_extra=_GUARD)
    async def train(
        request: Request, stream: Annotated[str | None, Query(min_length=1, max_length=200)] = None
    ) -> Response:
        """Start a training of a stream, or of all of them."""
        try:
            done = await asking.ask(answers.train, _who(request), stream)
        except Refused as error:
            body = {"error": str(error), "accepted": False, "job": None, "jobs": [], "reason": str(error)}
            return _json(body | dict(error.told), error.status)
        return _json(done["detail"], 202)


def _actions(router: APIRouter, answers: Answers, asking: Asking) -> None:
    ask = _answering(asking)

    @router.post(
        "/incidents/{incident_id}/label", tags=["incidents"], responses=_shape(shapes.Done), openapi_extra=_GUARD
    )
    async def label(request: Request, incident_id: IncidentId, body: LabelBody) -> Response:
        """Label an incident; the label that it had is replaced."""
        return await ask(answers.label, _who(request), incident_id, body.label, body.reason, body.until)

    @router.delete(
        "/incidents/{incident_id}/label", tags=["incidents"], responses=_shape(shapes.Done), openapi_extra=_GUARD
    )
    async def unlabel(request: Request, incident_id: IncidentId) -> Response:
        """Take an incident's label back."""
        return await ask(answers.unlabel, _who(request), incident_id)

    @router.get("/whoami", tags=["audit"])
    async def whoami(request: Request) -> Response:
        """Who asks, as the audit calls them, and their role."""
        who = _who(request)
        return _json({"name": who.name, "role": str(who.role)})


def _answering(asking: Asking) -> Callable[..., Any]:
    """Return what asks in a thread and makes the answer there too: a long series takes a while to write."""

    async def ask(what: Callable[..., Any], *args: Any, **kwargs: Any) -> Response:
        body = await asking.ask(lambda: _dump(what(*args, **kwargs)))
        return Response(body, media_type="application/json")

    return ask


def _who(request: Request) -> Who:
    who: Who = request.state.who
    return who


def _shape(model: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}}


def _json(body: Mapping[str, Any], status: int = 200) -> Response:
    return Response(_dump(body), status, media_type="application/json")


def _dump(value: Any) -> bytes:
    """Return ASCII JSON, which can hold every text; what is not finite becomes null."""
    try:
        return json.dumps(value, allow_nan=False).encode("ascii")
    except ValueError:
        return json.dumps(finite_json(value), allow_nan=False).encode("ascii")
