"""Schemas by id, from a schema registry as Confluent's and those that speak as it does. They never change, so each is
asked for once.
"""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit
from uuid import UUID

import httpx
import msgspec

from connectors.errors import Misconfigured, SourceRefused, SourceUnavailable
from connectors.json_documents import NOT_JSON
from connectors.reading import Reason
from connectors.refusal import Refusal, shortened
from connectors.schema_framing import SchemaId

ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"
_UNKNOWN = (40401, 40402, 40403)
"""error_code: no such subject, version, schema. A bare 404 comes from a wrong address."""
_MOST_KNOWN = 10_000
_MOST_REFERENCES = 100
_LARGEST_BYTES = 8 << 20
_ASK_AGAIN_S = 60.0
"""A schema that the registry did not know is asked for again after so long."""


class Reference(msgspec.Struct, frozen=True):
    """Another schema that one needs."""

    name: str
    subject: str
    version: int


class _Answer(msgspec.Struct):
    schema: str
    schemaType: str = "AVRO"  # noqa: N815 - the registry's word
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema with all it needs."""

    type: str
    """AVRO, JSON or PROTOBUF."""
    text: str
    """Avro and JSON: as it was registered. Protobuf: a FileDescriptorProto in base64."""
    needs: tuple[tuple[str, str], ...] = ()
    """Names and texts of the schemas it refers to, each behind those that it needs itself."""


class SchemaRegistry:
    """Asks a registry over HTTP. Redirects are not followed: credentials go to this host only. For one thread.

    Args:
        url: as ``https://registry.example.org:8081``, with a path where there is one.
        user: for basic authentication; empty: none.
        password: of that user.
        ca_file: PEM with the authorities its certificate is checked against; none: the system's.
        timeout_s: for connecting, and for each part of an answer.
        monotonic: the clock for asking again.

    Raises:
        Misconfigured: if the address or the file cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str = "",
        password: str = "",
        ca_file: Path | None = None,
        timeout_s: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise Misconfigured(
                "the registry's url is to be http://host:port or https://host:port, without a user in it"
            )
        self._url = url.rstrip("/")
        self._monotonic = monotonic
        try:
            verify = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise Misconfigured(f"{ca_file}: no PEM with authorities: {error.strerror or error}") from error
        self._client = functools.partial(
            httpx.Client,
            auth=httpx.BasicAuth(user, password) if user else None,
            headers={"Accept": ACCEPT},
            timeout=timeout_s,
            verify=verify,
            follow_redirects=False,
            trust_env=False,
        )
        self._http: httpx.Client | None = None
        self._known: dict[SchemaId, Schema] = {}
        self._unknown: dict[SchemaId, tuple[float, Refusal]] = {}

    def schema(self, wanted: SchemaId) -> Schema | Refusal:
        """Return a schema, or a refusal if the registry does not know it.

        Raises:
            SourceUnavailable: if the registry does not answer as one should; ask again.
            SourceRefused: if it does not take the credentials.
        """
        known = self._known.get(wanted)
        if known is not None:
            return known
        unknown = self._unknown.get(wanted)
        if unknown is not None and self._monotonic() - unknown[0] < _ASK_AGAIN_S:
            return unknown[1]
        found = self._found(wanted)
        for memory in (self._known, self._unknown):
            if len(memory) >= _MOST_KNOWN:
                memory.clear()
        if isinstance(found, Refusal):
            self._unknown[wanted] = self._monotonic(), found
        else:
            self._known[wanted] = found
        return found

    def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _found(self, wanted: SchemaId) -> Schema | Refusal:
        path = f"/schemas/guids/{wanted}" if isinstance(wanted, UUID) else f"/schemas/ids/{wanted}"
        answer = self._asked(path)
        if isinstance(answer, Refusal):
            return answer
        serialized = {"format": "serialized"} if answer.schemaType == "PROTOBUF" else {}
        if serialized:
            answer = self._asked(path, serialized)
            if isinstance(answer, Refusal):
                return answer
        needs: dict[str, str] = {}
        refusal = self._gather(answer, serialized, needs, ())
        return refusal or Schema(answer.schemaType, answer.schema, tuple(needs.items()))

    def _gather(
        self, answer: _Answer, form: Mapping[str, str], needs: dict[str, str], within: tuple[str, ...]
    ) -> Refusal | None:
        """Add what an answer refers to, each behind what it needs itself; return why that cannot be."""
        for reference in answer.references:
            if reference.name in needs:
                continue
            if reference.name in within or len(needs) + len(within) >= _MOST_REFERENCES:
                detail = f"schemas refer to each other in a circle, or to more than {_MOST_REFERENCES}"
                return Refusal(Reason.UNSUPPORTED, f"{detail}: {shortened(reference.name)}")
            found = self._asked(f"/subjects/{quote(reference.subject, safe='')}/versions/{reference.version}", form)
            if isinstance(found, Refusal):
                return found.within(f"reference {shortened(reference.name)}")
            refusal = self._gather(found, form, needs, (*within, reference.name))
            if refusal is not None:
                return refusal
            needs[reference.name] = found.schema
        return None

    def _asked(self, path: str, parameters: Mapping[str, str] | None = None) -> _Answer | Refusal:
        status, body = self._got(path, parameters or {})
        where = f"{self._url}{path}"
        if status == 200:
            try:
                return msgspec.json.decode(body, type=_Answer)
            except NOT_JSON as error:
                raise SourceUnavailable(f"{where} answers no schema: {error}") from error
        code, message = _told(body)
        if status == 404 and code in _UNKNOWN:
            return Refusal(Reason.UNSUPPORTED, f"the schema registry says of {path}: {shortened(message)}")
        if status in (401, 403):
            raise SourceRefused(f"{where} answers {status}: the user, the password or the rights do not do")
        if 300 <= status < 400:
            raise Misconfigured(
                f"{where} answers {status}: redirects are not followed; write the registry's own address"
            )
        hint = "; is the url that of a schema registry, with its path?" if status in (400, 404, 405) else ""
        raise SourceUnavailable(f"{where} answers {status} {shortened(message)}{hint}")

    def _got(self, path: str, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        if self._http is None:
            self._http = self._client()
        try:
            with self._http.stream("GET", f"{self._url}{path}", params=dict(parameters) or None) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > _LARGEST_BYTES:
                        raise SourceUnavailable(f"{self._url}{path} answers more than {_LARGEST_BYTES} bytes")
                return response.status_code, bytes(body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise SourceUnavailable(f"the schema registry at {self._url} does not answer: {said}") from error


class _Trouble(msgspec.Struct):
    error_code: int = 0
    message: str = ""


def _told(body: bytes) -> tuple[int, str]:
    try:
        trouble = msgspec.json.decode(body, type=_Trouble)
    except NOT_JSON:
        return 0, ""
    return trouble.error_code, trouble.message
