"""The pages: addresses, what each asks for, and the forms that act. All of it works without a script.

Handlers block on the answers, so they are plain functions, which run in the server's threads.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Annotated, Any, Protocol
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from connectors.alert_store_rows import IncidentQuery
from pipeline.console.answers import Answers, Role, Who
from pipeline.console.asking import Asking
from pipeline.console.page_docs import docs_view
from pipeline.console.page_entity import entity_view, last_us, range_us
from pipeline.console.page_incident import incident_view
from pipeline.console.page_models import models_view
from pipeline.console.page_receivers import receiver_lines
from pipeline.console.page_sites import sites_view
from pipeline.console.page_system import system_view
from pipeline.console.refusals import Refusals
from pipeline.console.rendering import Rendering
from pipeline.console.static_files import StaticFiles
from pipeline.console.troubles import BadQuestion, NotThere, Trouble
from pipeline.incident import Kind, Tier

_LINES = 50
"""Of a page of a list."""
_MOST_OFFSET = 10_000_000
_LONGEST_NAME = 12_000
"""Characters of an entity's or stream's name in an address; the connectors take 10 kB."""
_TRUSTED = ("operator", "anybody")
"""Those who did not have to sign in."""
Name = Annotated[str, Query(max_length=_LONGEST_NAME)]
Offset = Annotated[int, Query(ge=0, le=_MOST_OFFSET)]
Handler = Callable[..., Response]


class Gate(Protocol):
    """Who asks, and whether a form is ours."""

    def who(self, request: Request) -> Who:
        """Return who asks; raises Trouble where it is nobody we know."""

    def form_token(self, request: Request) -> str:
        """Return what our forms carry, so that another site's cannot be sent in somebody's name."""

    def check_form(self, request: Request, token: str) -> None:
        """Raise Trouble unless the form is one of ours."""


def router(answers: Answers, gate: Gate, asking: Asking | None = None) -> APIRouter:
    """Return all pages, their forms and their files.

    Args:
        answers: what they show, and what carries out what people ask for.
        gate: who asks. Reading and acting are checked here, whatever stands before it.
        asking: calls the handlers, as many at a time as it lets; None: the server's own threads do.
    """
    files = StaticFiles()
    pages = Pages(answers, gate, Rendering(files))
    routes = APIRouter(route_class=_route_class(pages), include_in_schema=False)
    gets: dict[str, Handler] = {
        "/": pages.now,
        "/incidents": pages.incidents,
        "/incidents/{incident_id}": pages.incident,
        "/entities": pages.entities,
        "/sites": pages.sites,
        "/models": pages.models,
        "/system": pages.system,
        "/docs": pages.docs,
    }
    posts: dict[str, Handler] = {
        "/incidents/{incident_id}/label": pages.label,
        "/incidents/{incident_id}/unlabel": pages.unlabel,
        "/models/train": pages.train,
        "/models/promote": pages.promote,
        "/models/rollback": pages.roll_back,
    }
    for path, handler in gets.items():
        routes.get(path)(_asked(handler, asking))
    for path, handler in posts.items():
        routes.post(path)(_asked(handler, asking))

    @routes.get("/static/{digest}/{name}")
    def static(request: Request, digest: str, name: str) -> Response:
        """Return a style or script; an old digest gets what is there now."""
        found = files.response(name, request)
        if found is None:
            raise NotThere(f"there is no file {name[:60]!r}")
        return found

    return routes


class Pages:
    """Handlers of all pages. Any thread may call them."""

    def __init__(self, answers: Answers, gate: Gate, rendering: Rendering) -> None:
        """Show ``answers``."""
        self._answers = answers
        self._gate = gate
        self._rendering = rendering
        self._refusals = Refusals(rendering)

    # ---- reading ----

    def now(self, request: Request) -> Response:
        """Show what is open, what is silent, and how the daemon is."""
        self._gate.who(request)
        now = self._answers.overview(_LINES)
        alerts = sum(incident["tier"] == "alert" for incident in now["open"])
        shown = {"now": now, "alerts": alerts, "streams": now["streams"], "version": now["version"]}
        return self._page(request, "now.html", "Now", shown)

    def incidents(
        self,
        request: Request,
        state: str = "all",
        stream: Name = "",
        kind: str = "",
        tier: str = "",
        search: Annotated[str, Query(max_length=500)] = "",
        offset: Offset = 0,
    ) -> Response:
        """Show a list of incidents."""
        self._gate.who(request)
        query = IncidentQuery(
            stream=stream or None, open_only=state == "open", limit=_LINES, offset=offset,
            kind=kind if kind in tuple(Kind) else None, least_tier=int(Tier.ALERT) if tier == "alert" else None,
            search=search or None,
        )  # fmt: skip
        chosen = {"state": state, "stream": stream, "kind": kind, "tier": tier, "search": search}
        address = f"/incidents?{urlencode(chosen, errors='replace')}&"
        shown = {**chosen, "found": self._answers.incidents(query), "address": address, "names": self._streams()}
        shown["kinds"] = [str(each) for each in Kind]
        return self._page(request, "incidents.html", "Incidents", shown)

    def incident(self, request: Request, incident_id: str, done: str = "") -> Response:
        """Show an incident."""
        self._gate.who(request)
        said = {"labelled": "The label is kept.", "unlabelled": "The label is taken back."}.get(done, "")
        return self._incident(request, incident_id, said=said)

    def entities(
        self, request: Request, stream: Name = "", entity: Name = "", search: Name = "", offset: Offset = 0
    ) -> Response:
        """Show a stream's entities, or one of them over a range of time."""
        self._gate.who(request)
        names = self._streams()
        stream = stream or next(iter(names), "")
        if entity:
            return self._entity(request, stream, entity)
        troubles, found = [], None
        if stream:
            found = self._answers.entities(stream, search, offset=offset, limit=_LINES)
        else:
            troubles = ["no stream is configured"]
        chosen = {"stream": stream, "search": search}
        address = f"/entities?{urlencode(chosen, errors='replace')}&"
        shown = {**chosen, "found": found, "names": names, "address": address, "troubles": troubles}
        return self._page(request, "entities.html", "Entities", shown)

    def sites(
        self,
        request: Request,
        search: Annotated[str, Query(max_length=500)] = "",
        state: Annotated[str, Query(max_length=40)] = "",
        source: Name = "",
        box: Annotated[str, Query(max_length=100)] = "",
        offset: Offset = 0,
    ) -> Response:
        """Show where things are measured, on a map and in a list."""
        self._gate.who(request)
        chosen = {"search": search, "state": state, "source": source, "box": box}
        return self._page(request, "sites.html", "Sites", sites_view(self._answers, chosen, offset))

    def models(self, request: Request, stream: Name = "", done: str = "") -> Response:
        """Show a stream's models."""
        self._gate.who(request)
        said = {
            "train": "A training has begun.",
            "promote": "It is in charge; the daemon takes it at a step boundary.",
            "rollback": "It was rolled back; the daemon takes the predecessor at a step boundary.",
        }.get(done, "")
        return self._models(request, stream, said=said)

    def system(self, request: Request, offset: Offset = 0) -> Response:
        """Show how the daemon itself is, and what people did."""
        self._gate.who(request)
        system, receivers = self._answers.system(), receiver_lines(self._answers.sources.figures)
        try:
            audit, troubles = self._answers.audit(offset, _LINES), []
        except Trouble as error:  # the rest tells why the database is away
            audit, troubles = None, [f"what people did cannot be shown: {error}"]
        return self._page(request, "system.html", "System", system_view(system, receivers, audit, troubles))

    def docs(self, request: Request) -> Response:
        """Show what the HTTP API offers."""
        self._gate.who(request)
        described = request.app.openapi()
        return self._page(request, "docs.html", "HTTP API", docs_view(described, request.app.openapi_url))

    # ---- acting ----

    def label(
        self,
        request: Request,
        incident_id: str,
        kind: Annotated[str, Form(max_length=40)],
        reason: Annotated[str, Form(max_length=4_000)] = "",
        until: Annotated[str, Form(max_length=100)] = "",
        csrf: Annotated[str, Form(max_length=400)] = "",
    ) -> Response:
        """Label an incident, and go back to it."""
        who = self._actor(request, csrf)
        try:
            self._answers.label(who, incident_id, kind, reason, until or None)
        except BadQuestion as error:
            return self._incident(request, incident_id, refused=str(error), form={"reason": reason, "until": until})
        return _seen(f"/incidents/{incident_id}?done=labelled")

    def unlabel(self, request: Request, incident_id: str, csrf: Annotated[str, Form(max_length=400)] = "") -> Response:
        """Take an incident's label back, and go back to it."""
        self._answers.unlabel(self._actor(request, csrf), incident_id)
        return _seen(f"/incidents/{incident_id}?done=unlabelled")

    def train(
        self,
        request: Request,
        stream: Annotated[str, Form(max_length=_LONGEST_NAME)],
        csrf: Annotated[str, Form(max_length=400)] = "",
    ) -> Response:
        """Ask for a training."""
        who = self._actor(request, csrf)
        return self._acted(request, stream, "train", lambda: self._answers.train(who, stream))

    def promote(
        self,
        request: Request,
        stream: Annotated[str, Form(max_length=_LONGEST_NAME)],
        version: Annotated[str, Form(max_length=200)],
        reason: Annotated[str, Form(max_length=500)],
        csrf: Annotated[str, Form(max_length=400)] = "",
    ) -> Response:
        """Put a version in charge."""
        who = self._actor(request, csrf)
        return self._acted(request, stream, "promote", lambda: self._answers.promote(who, stream, version, reason))

    def roll_back(
        self,
        request: Request,
        stream: Annotated[str, Form(max_length=_LONGEST_NAME)],
        reason: Annotated[str, Form(max_length=500)],
        csrf: Annotated[str, Form(max_length=400)] = "",
    ) -> Response:
        """Give the champion up."""
        who = self._actor(request, csrf)
        return self._acted(request, stream, "rollback", lambda: self._answers.roll_back(who, stream, reason=reason))

    def trouble(self, request: Request, status: int, text: str) -> Response:
        """Show that there is no answer, and why."""
        nonce = getattr(request.state, "nonce", "")
        page = self._refusals.page(status, text, path=request.url.path, nonce=nonce)
        return Response(page, status, {"Cache-Control": "no-store"}, "text/html; charset=utf-8")

    # ---- inner ----

    def _page(self, request: Request, name: str, place: str, shown: dict[str, Any], status: int = 200) -> Response:
        who = self._gate.who(request)
        signed_in = "" if who.name in _TRUSTED else who.name
        always = {"place": place, "may_act": who.role is Role.ACT, "csrf": self._gate.form_token(request)}
        always["signed_in"] = signed_in
        return self._rendering.page(name, request, {**always, **shown}, status)

    def _incident(
        self,
        request: Request,
        incident_id: str,
        *,
        said: str = "",
        refused: str = "",
        form: dict[str, str] | None = None,
    ) -> Response:
        view = incident_view(self._answers.incident(incident_id))
        shown = {**view, "said": said, "refused": refused, "form": form or {"reason": "", "until": ""}}
        return self._page(request, "incident.html", "Incidents", shown, 400 if refused else 200)

    def _entity(self, request: Request, stream: str, entity: str) -> Response:
        asked = request.query_params
        chosen = {name: asked[name] for name in ("hours", "from", "to") if asked.get(name)}
        from_us, to_us = range_us(chosen.get("from"), "from"), range_us(chosen.get("to"), "to")
        length_us = last_us(chosen.get("hours"))
        if length_us is not None:
            newest = self._answers.entity(stream, entity)["series"]["to_us"]
            from_us, to_us = max(0, newest - length_us), newest
        view = entity_view(self._answers.entity(stream, entity, from_us, to_us), chosen)
        return self._page(request, "entity.html", "Entities", view)

    def _models(self, request: Request, stream: str, *, said: str = "", refused: str = "") -> Response:
        names = self._streams()
        stream = stream or next(iter(names), "")
        view = models_view(self._answers.models(stream)) if stream else {"models": None}
        shown = {**view, "names": names, "stream": stream, "said": said, "refused": refused}
        return self._page(request, "models.html", "Models", shown, 409 if refused else 200)

    def _acted(self, request: Request, stream: str, action: str, act: Callable[[], object]) -> Response:
        try:
            act()
        except Trouble as error:
            if error.status >= 500:
                raise
            return self._models(request, stream, refused=str(error))
        return _seen(f"/models?{urlencode({'stream': stream, 'done': action}, errors='replace')}")

    def _actor(self, request: Request, token: str) -> Who:
        who = self._gate.who(request)
        self._gate.check_form(request, token)
        return who

    def _streams(self) -> list[str]:
        return [line["stream"] for line in self._answers.streams()]


def _asked(handler: Handler, asking: Asking | None) -> Callable[..., Any]:
    """Return the handler as it is called by few threads that may block, where there are such."""
    if asking is None:
        return handler

    @wraps(handler)
    async def ask(**parts: Any) -> Response:
        return await asking.ask(handler, **parts)

    return ask


def _seen(address: str) -> Response:
    """Return the answer to a form that was carried out: going back or loading anew does not send it again."""
    return RedirectResponse(address, 303)


def _route_class(pages: Pages) -> type[APIRoute]:
    """Return a route whose troubles are pages."""

    class PageRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            answer = super().get_route_handler()

            async def answer_with_page(request: Request) -> Response:
                try:
                    return await answer(request)
                except Trouble as error:
                    shown = pages.trouble(request, error.status, str(error))
                    if error.retry_after_s is not None:
                        shown.headers["Retry-After"] = str(error.retry_after_s)
                    return shown
                except RequestValidationError:
                    return pages.trouble(request, 400, "Something in this address or form is too long, or missing.")

            return answer_with_page

    return PageRoute
