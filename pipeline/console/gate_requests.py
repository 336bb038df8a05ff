"""What the gate reads of a request before the app does: its headers, a form's field, and all of a small body."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from pipeline.console.limits import BODY_TIMEOUT_S, MOST_BODY_BYTES

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_FORM = "application/x-www-form-urlencoded"


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers, names in lower case; of those that come twice all values, as one."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


async def body_of(receive: Receive, headers: Mapping[str, str]) -> bytes | int:
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


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body once more, and afterwards tells whether the client is gone."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def without_body(send: Send) -> Send:
    """Return what sends the headers alone."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return sending


def field_of(headers: Mapping[str, str], body: bytes, name: str) -> str:
    """Return a field of a form; empty where it has none, or is no form."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return ""
    try:
        fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return ""
    return fields.get(name, [""])[0]
