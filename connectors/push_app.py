"""The app that takes pushed readings: a path for each kind of sender, one way through it for all.

    who sends ► its body, within bounds ► its codec, piece by piece ► the outlet ► durable ► the answer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from connectors import push_replies as replies
from connectors.airrohr import AirRohr
from connectors.codec_line_protocol import PRECISIONS, LineMapping, LineProtocol
from connectors.codec_otlp import DEFAULT_LABELS as OTLP_LABELS
from connectors.codec_otlp import Otlp
from connectors.codec_remote_write import DEFAULT_LABELS as REMOTE_WRITE_LABELS
from connectors.codec_remote_write import BodyTooLarge, RemoteWrite, decompressed
from connectors.label_mapping import LabelMapping
from connectors.push_body import (
    BodyReader,
    Held,
    TooLarge,
    Trouble,
    decoded_json_bytes,
    decoded_protobuf_bytes,
    is_plain,
    unzipped,
)
from connectors.push_json import FORMS, Form, PushedJson
from connectors.push_senders import Sender, Senders
from connectors.push_taking import Outcome, Taking
from connectors.push_thread import INLINE_BYTES, BodyThread
from connectors.pushed import Pushed, until_hopeless
from connectors.refusal import Refusal

OPENAPI = "/api/openapi.json"

Pieces = Callable[[bytes], Iterator[Pushed]]
Unpacked = Callable[[Request, bytes, int], bytes]
"""The body of a request without its compression; raises ``TooLarge`` where it would have more bytes."""
Count = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PushMappings:
    """How each protocol's names become entities and channels."""

    lines: LineMapping = field(default_factory=LineMapping)
    remote_write: LabelMapping = REMOTE_WRITE_LABELS
    otlp: LabelMapping = OTLP_LABELS


class PushApp:
    """Takes pushed readings.

    Args:
        taking: what hands them over.
        bodies: reads bodies.
        thread: where large ones are unpacked and read.
        senders: who may.
        mappings: how names become entities and channels.
        count: told of what happens: ``requests_…``, ``unauthorized``, ``troubles``.
    """

    def __init__(
        self,
        taking: Taking,
        bodies: BodyReader,
        thread: BodyThread,
        senders: Senders,
        mappings: PushMappings,
        count: Count,
    ) -> None:
        self._taking = taking
        self._bodies = bodies
        self._thread = thread
        self._senders = senders
        self._count = count
        self._json = PushedJson()
        self._airrohr = AirRohr()
        self._lines = LineProtocol(mappings.lines, self._airrohr)
        self._remote_write = RemoteWrite(mappings.remote_write)
        self._otlp = Otlp(mappings.otlp)

    def app(self) -> FastAPI:
        """Return it as an ASGI app."""
        app = FastAPI(
            title="Vedette: pushed readings", version="1", openapi_url=OPENAPI, docs_url=None, redoc_url=None,
            description="Takes readings from whoever pushes them; an answer comes when they are durable.",
            redirect_slashes=False,
        )  # fmt: skip
        for path, take, about, media in (
            ("/api/readings", self.readings, "Canonical readings, SenML or CloudEvents", tuple(FORMS)[:10]),
            ("/api/v2/write", self.line_protocol, "Line protocol, as InfluxDB 2 takes it", ("text/plain",)),
            ("/write", self.line_protocol, "Line protocol, as InfluxDB 1 takes it", ("text/plain",)),
            ("/api/v1/write", self.remote_write, "Prometheus remote-write 1.0", ("application/x-protobuf",)),
            ("/v1/metrics", self.otlp, "OTLP metrics", ("application/x-protobuf", "application/json")),
            ("/airrohr", self.airrohr, "What airRohr stations send to an own API", ("application/json",)),
            ("/v1/push-sensor-data/", self.airrohr, "What they send to Sensor.Community", ("application/json",)),
        ):
            content = {one: {"schema": {"type": "string", "format": "binary"}} for one in media if one}
            app.add_api_route(
                path, take, methods=["POST"], summary=about, response_class=Response,
                operation_id=path.strip("/").replace("/", "_"),
                openapi_extra={"requestBody": {"required": True, "content": content}},
            )  # fmt: skip
        app.add_api_route("/ping", self.ping, methods=["GET"], summary="Whether it listens", response_class=Response)
        app.add_api_route("/query", self.query, methods=["GET", "POST"], include_in_schema=False)
        app.add_exception_handler(Trouble, self._trouble)
        app.add_exception_handler(HTTPException, _http)
        return app

    async def readings(self, request: Request) -> Response:
        """Take JSON; the media type says which, and is found out where it says just JSON."""
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        form = FORMS.get(media)
        if request.headers.get("ce-specversion"):
            form = Form.ANY
        if form is None:
            raise Trouble(415, f"Content-Type {media[:60]!r}; allowed: {', '.join(name for name in FORMS if name)}")
        entity = _event_entity(request.headers)
        outcome = await self._take(
            request,
            "json",
            lambda body: self._json_reader(body).read(body, form, self._taking.now_us(), entity),
            decoded=None if form is Form.LINES else decoded_json_bytes,
        )
        return replies.listed(outcome)

    async def line_protocol(self, request: Request) -> Response:
        """Take lines; ``precision`` in the query is the unit of their timestamps, ns if it says none."""
        precision = request.query_params.get("precision", "")
        if precision not in PRECISIONS:
            allowed = ", ".join(name for name in PRECISIONS if name)
            raise Trouble(400, f"precision {precision[:20]!r}; allowed: {allowed}")
        return replies.influx(
            await self._take(
                request, "line_protocol", lambda body: self._lines.read(body, self._taking.now_us(), precision)
            )
        )

    async def remote_write(self, request: Request) -> Response:
        """Take a WriteRequest in a snappy block."""
        if "io.prometheus.write.v2" in request.headers.get("content-type", ""):
            raise Trouble(415, "remote-write 2.0; allowed: 1.0, prometheus.WriteRequest")
        encoding = request.headers.get("content-encoding", "snappy").strip().lower()
        if encoding != "snappy":
            raise Trouble(415, f"Content-Encoding {encoding[:40]!r}; allowed: snappy")
        return replies.plain(await self._take(request, "remote_write", self._remote_write.read, _unsnapped))

    async def otlp(self, request: Request) -> Response:
        """Take an ExportMetricsServiceRequest, as protobuf or JSON."""
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in ("application/x-protobuf", "application/json"):
            raise Trouble(415, f"Content-Type {media[:60]!r}; allowed: application/x-protobuf, application/json")
        as_json = media == "application/json"
        decoded = decoded_json_bytes if as_json else decoded_protobuf_bytes
        outcome = await self._take(request, "otlp", lambda body: self._otlp.read(body, json=as_json), decoded=decoded)
        return replies.otlp(outcome, as_json)

    async def airrohr(self, request: Request) -> Response:
        """Take what a station measured. It has no clock: what it sends again is of another time."""
        station, pin = request.headers.get("x-sensor", ""), request.headers.get("x-pin", "")
        outcome = await self._take(
            request,
            "airrohr",
            lambda body: self._airrohr.read(body, self._taking.now_us(), station, pin),
            decoded=decoded_json_bytes,
        )
        return replies.listed(outcome)

    async def ping(self) -> Response:
        """Say that it listens, as clients of InfluxDB ask."""
        return Response(status_code=204, headers={"X-Influxdb-Version": "vedette"})

    async def query(self, request: Request) -> Response:
        """Let clients of InfluxDB 1 believe that their database is there; nothing else is answered."""
        self._sender(request)
        text = request.query_params.get("q", "")
        with self._bodies.held() as held:
            form = await self._bodies.collect(request.stream(), held, request.headers)
            if len(form) > INLINE_BYTES:
                raise TooLarge(len(form), INLINE_BYTES)
        text = text or parse_qs(form.decode("utf-8", "replace")).get("q", [""])[0]
        if text.strip().lower().startswith("create database"):
            return Response('{"results":[{"statement_id":0}]}', media_type="application/json")
        raise Trouble(400, "queries are not answered here; readings are taken at /write and /api/v2/write")

    # ---- inner ----

    async def _take(
        self,
        request: Request,
        kind: str,
        pieces: Pieces,
        unpacked: Unpacked | None = None,
        decoded: Callable[[bytes], int] | None = None,
    ) -> Outcome:
        """Take the body of a request; return what became of it when that is durable.

        Args:
            request: with the body.
            kind: to count it.
            pieces: reads it.
            unpacked: takes its compression off; None: gzip and the like.
            decoded: tells how much memory it needs when it is decoded as a whole; None: it is not.
        """
        sender = self._sender(request)
        self._count(f"requests_{kind}")
        with self._bodies.held() as held:
            body = await self._body(request, held, unpacked)
            if decoded is not None:
                held.take_decoded(decoded(body))
            thread = None if len(body) <= INLINE_BYTES else self._thread
            return await self._taking.take(until_hopeless(pieces(body), body), sender, request.url.path, thread)

    def _json_reader(self, body: bytes) -> PushedJson:
        """Return one that knows the times that repeat; for the other thread one of its own."""
        return self._json if len(body) <= INLINE_BYTES else PushedJson()

    def _sender(self, request: Request) -> Sender:
        peer = request.client.host if request.client else ""
        sender = self._senders.sender(request.headers, request.query_params, peer)
        if sender is None:
            self._count("unauthorized")
            raise Trouble(401, self._senders.wanted)
        return sender

    async def _body(self, request: Request, held: Held, unpacked: Unpacked | None) -> bytes:
        raw = await self._bodies.collect(request.stream(), held, request.headers)
        if unpacked is None and is_plain(request.headers.get("content-encoding", "")):
            return raw
        unpacked, most = unpacked or _unzipped, self._bodies.most_bytes
        try:
            body = unpacked(request, raw, min(INLINE_BYTES, most)) if len(raw) <= INLINE_BYTES else None
        except TooLarge:  # for doing it here, perhaps
            body = None
        if body is None:
            body = await self._taking.awaited(self._thread.begin(lambda: unpacked(request, raw, most)))
        if body is not raw:
            held.take(len(body))
        return body

    async def _trouble(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Trouble)
        self._count(f"answered_{error.status}")
        return replies.trouble(error, request.url.path, request.headers.get("content-type", ""))


def _unzipped(request: Request, raw: bytes, most: int) -> bytes:
    return unzipped(raw, request.headers.get("content-encoding", ""), most)


def _unsnapped(request: Request, raw: bytes, most: int) -> bytes:
    try:
        body = decompressed(raw, most)
    except BodyTooLarge as error:
        raise TooLarge(error.needed, error.most) from None
    if isinstance(body, Refusal):
        raise Trouble(400, body.detail)
    return body


def _event_entity(headers: Mapping[str, str]) -> str | None:
    """Return the entity that the attributes of a CloudEvent in binary mode name."""
    if "ce-specversion" not in headers:
        return None
    return headers.get("ce-partitionkey") or headers.get("ce-subject") or None


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = str(error.detail)
    if error.status_code == 404:
        text = f"not found; what is taken is described at {OPENAPI}"
    elif error.status_code == 405:
        text = f"{request.url.path[:200]} takes no {request.method}"
    return replies.trouble(Trouble(error.status_code, text), request.url.path, "")
