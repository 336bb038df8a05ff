"""Events: what is new reaches whoever listens, and whoever is slow, or one too many, holds up nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from pipeline.console.events import Events
from pipeline.console.troubles import TooMuch
from pipeline.incident import AlertMessage, Kind, Phase, Severity, Tier
from pipeline.live import Live
from pipeline.status import NotReady, Status
from tests.pipeline.console.console_parts import HOSTILE, NOW_US, console, step


def message(reason: str = "it is odd", entity: str = HOSTILE) -> AlertMessage:
    """Return the opening of an incident."""
    return AlertMessage(
        "a" * 32, Phase.OPENED, 0, "air", entity, Kind.ANOMALY, "", "site", Tier.ALERT, Severity.WARNING, NOW_US, 1,
        NOW_US, NOW_US, None, 2.0, 1e-4, reason, {}, "linear", False, "", NOW_US,
    )  # fmt: skip


async def one_by_one(stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the events of a stream, several of which may come in one piece, as a browser tells them apart."""
    async with aclosing(stream):
        async for piece in stream:
            assert piece.endswith(b"\n\n")
            for event in piece.split(b"\n\n")[:-1]:
                yield event


async def heard(events: AsyncIterator[bytes], event: str) -> Any:
    """Return the data of the next such event."""
    async with asyncio.timeout(60):
        async for chunk in events:
            lines = chunk.decode("ascii").strip().split("\n")
            if lines[0] == f"event: {event}":
                assert len(lines) == 2
                return json.loads(lines[1].removeprefix("data: "))
    raise AssertionError("the events ended")


def test_a_listener_hears_what_is_new() -> None:
    """Protects live pages: the state at first, then steps, incidents and health as they come, hostile names as text."""

    async def scene() -> None:
        live, status = Live(), Status()
        live.stepped(step(("north",), 0))
        events = Events(live, status, every_s=0.01)
        stream = one_by_one(events.listen())
        assert (await heard(stream, "health"))["ready"] is False
        assert (await heard(stream, "step"))["alerts"] == 1
        live.stepped(step(("north", "south"), 1))
        while (await heard(stream, "step"))["entities"] != 2:
            pass
        events.said([message()])
        assert (await heard(stream, "incident"))["entity"] == HOSTILE
        status.release(NotReady.JOINING)
        while not (await heard(stream, "health"))["ready"]:
            pass
        events.close()
        assert [chunk async for chunk in stream] == []

    asyncio.run(scene())


def test_who_is_slow_loses_the_oldest_and_is_told() -> None:
    """Protects memory from a browser that does not read: its queue is bounded."""

    async def scene() -> None:
        events = Events(Live(), Status(), every_s=0.01)
        stream = one_by_one(events.listen())
        await heard(stream, "health")
        for i in range(50):
            events.said([message(str(10 * i + j)) for j in range(10)])
            events.look()
        assert (await heard(stream, "lost"))["events"] >= 400
        assert int((await heard(stream, "incident"))["reason"]) >= 400
        events.close()

    asyncio.run(scene())


def test_one_too_many_is_told_so_and_places_are_given_back() -> None:
    """Protects the daemon from any number of open pages."""

    async def scene() -> None:
        events = Events(Live(), Status(), most_clients=2, every_s=0.01)
        streams = [one_by_one(events.listen()) for _ in range(2)]
        for stream in streams:
            await heard(stream, "health")
        with pytest.raises(TooMuch):
            events.listen()
        await streams[0].aclose()
        assert events.clients() == 1
        events.listen()
        events.close()
        await streams[1].aclose()

    asyncio.run(scene())


def test_what_is_said_while_nobody_listens_is_bounded() -> None:
    """Protects the loop's memory: it says, whether or not a page is open."""
    events = Events(Live(), Status())
    for i in range(5_000):
        events.said([message(str(i))])
    assert len(events._said) <= 1_000


def test_whoever_is_answered_is_listened_to(tmp_path: Path) -> None:
    """Protects live pages: what happens once a browser shows itself live is not missed by its stream."""
    one = console(tmp_path)
    listeners: list[int] = []
    asked, left = iter([{"type": "http.request", "body": b"", "more_body": False}]), asyncio.Event()

    async def receive() -> dict[str, Any]:
        for request in asked:
            return request
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            listeners.append(one.events.clients())
            left.set()

    async def scene() -> None:
        app = one.browser().app
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/api/events",
            "raw_path": b"/api/events", "query_string": b"", "root_path": "", "scheme": "http",
            "headers": [(b"host", b"localhost:9464")], "client": ("127.0.0.1", 40_000), "server": ("127.0.0.1", 9464),
        }  # fmt: skip
        async with asyncio.timeout(30):
            await app(scope, receive, send)

    asyncio.run(scene())
    assert listeners == [1]
