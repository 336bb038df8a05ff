"""A schema registry for tests: a real HTTP server that answers as Confluent's does, and can go away and come back."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID, uuid5

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_SPACE = UUID("9f0f3fd4-2f1c-4ac6-8a5c-6c9c9f3a4f10")


@dataclass(frozen=True)
class Registered:
    """One schema."""

    id: int
    text: str
    type: str
    references: tuple[dict[str, object], ...]

    @property
    def guid(self) -> UUID:
        return uuid5(_SPACE, self.text)


@dataclass
class SchemaRegistryServer:
    """Answers on loopback from construction on. A context manager."""

    user: str = ""
    password: str = ""
    prefix: str = ""
    """Of all paths, as behind a proxy."""
    asked: list[str] = field(default_factory=list)
    """Every request's path."""
    broken: tuple[int, bytes] | None = None
    """What every request is answered instead."""

    def __post_init__(self) -> None:
        self._schemas: dict[int, Registered] = {}
        self._subjects: dict[str, list[int]] = {}
        self._port = 0
        self.come_back()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._port}{self.prefix}"

    def register(
        self, text: str, kind: str = "AVRO", subject: str = "", references: Sequence[tuple[str, str, int]] = ()
    ) -> Registered:
        """Keep a schema; references are name, subject and version."""
        known = [dict(zip(("name", "subject", "version"), one, strict=True)) for one in references]
        schema = Registered(len(self._schemas) + 1, text, kind, tuple(known))
        self._schemas[schema.id] = schema
        self._subjects.setdefault(subject or f"s{schema.id}", []).append(schema.id)
        return schema

    def go_away(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def come_back(self) -> None:
        """Answer, on the same port as before."""
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.registry = self
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="peer-registry", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> SchemaRegistryServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_away()

    def answer(self, target: str, authorization: str) -> tuple[int, dict[str, object]]:
        """Return status and body for a GET."""
        wanted = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if self.user and authorization != f"Basic {wanted}":
            return 401, {"error_code": 401, "message": "Unauthorized"}
        url = urlsplit(target)
        if not url.path.startswith(self.prefix):
            return 404, {}
        parts = [unquote(part) for part in url.path[len(self.prefix) :].strip("/").split("/")]
        serialized = parse_qs(url.query).get("format") == ["serialized"]
        schema = self._find(parts)
        if isinstance(schema, int):
            return 404, {"error_code": schema, "message": f"nothing at {url.path}"}
        if schema is None:
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        return 200, _body(schema, serialized)

    def _find(self, parts: list[str]) -> Registered | int | None:
        match parts:
            case ["schemas", "ids", number]:
                return self._schemas.get(int(number), 40403)
            case ["schemas", "guids", guid]:
                return next((s for s in self._schemas.values() if str(s.guid) == guid), 40403)
            case ["subjects", subject, "versions", version]:
                ids = self._subjects.get(subject)
                if ids is None:
                    return 40401
                return self._schemas[ids[int(version) - 1]] if int(version) <= len(ids) else 40402
        return None


def _body(schema: Registered, serialized: bool) -> dict[str, object]:
    """The type is left out for Avro; Protobuf's text is the .proto file unless its descriptor is asked for."""
    body: dict[str, object] = {"id": schema.id, "guid": str(schema.guid)}
    if schema.type != "AVRO":
        body["schemaType"] = schema.type
    body["schema"] = schema.text if schema.type != "PROTOBUF" or serialized else 'syntax = "proto3"; // as text'
    if schema.references:
        body["references"] = list(schema.references)
    return body


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    registry: SchemaRegistryServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        registry = self.server.registry
        registry.asked.append(self.path)
        if registry.broken is not None:
            status, content = registry.broken
        else:
            status, body = registry.answer(self.path, self.headers.get("Authorization", ""))
            content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
