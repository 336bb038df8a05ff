"""What happens, as server-sent events: new steps, what was said of incidents, and health.

The loop only puts messages into a bounded queue; one task of the event loop looks, at most once a second, what is new,
and hands it to each client's own bounded queue. A browser that reads slowly loses the oldest events and is told so.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import structlog

from pipeline.console.troubles import TooMuch
from pipeline.incident import AlertMessage, Tier, rfc3339
from pipeline.live import Live
from pipeline.status import Status

log = structlog.get_logger("vedette.console")

MOST_CLIENTS = 64
_MOST_WAITING = 100
"""Events in a client's queue."""
_MOST_SAID = 1_000
_EVERY_S = 1.0
_SIGN_OF_LIFE_S = 15.0
_LONGEST_S = 1_800.0
"""After it a client has to come again, and to show who it is again."""
_LONGEST_TEXT = 500


class Events:
    """Tells clients what happens. ``said`` may be called from any thread, all else belongs to one event loop."""

    def __init__(
        self, live: Live, status: Status, *, most_clients: int = MOST_CLIENTS, every_s: float = _EVERY_S
    ) -> None:
        """Tell of the steps in ``live``, of ``status``, and of what is ``said``."""
        self._live = live
        self._status = status
        self._most_clients = most_clients
        self._every_s = every_s
        self._said: deque[AlertMessage] = deque(maxlen=_MOST_SAID)
        self._clients: set[_Client] = set()
        self._steps: dict[str, int] = {}
        self._health: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def said(self, messages: Sequence[AlertMessage]) -> None:
        """Alert messages were handed to the outputs; returns at once."""
        self._said.extend(messages)

    def clients(self) -> int:
        """Return how many listen."""
        return len(self._clients)

    def listen(self) -> AsyncGenerator[bytes, None]:
        """Return the events from when it is first asked, as they go over the wire; ends by itself after half an hour.

        Raises:
            TooMuch: if as many as may listen do.
        """
        if len(self._clients) >= self._most_clients:
            raise TooMuch(f"{self._most_clients} browsers listen already; this page is not live")
        return self._events(_Client())

    def close(self) -> None:
        """End all clients' streams."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
        for client in self._clients:
            client.wake.set()

    async def _events(self, client: _Client) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _LONGEST_S
        self._begin(client)
        try:
            yield b"retry: 3000\n\n"
            while not self._closing and loop.time() < until_s:
                if waiting := client.take():
                    yield waiting
                try:
                    await asyncio.wait_for(client.wake.wait(), _SIGN_OF_LIFE_S)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._clients.discard(client)
            if not self._clients and self._task is not None:
                self._task.cancel()
                self._task = None

    def _begin(self, client: _Client) -> None:
        if self._task is None:
            self._said.clear()  # nobody listened; pages have been made since
            self._task = asyncio.get_running_loop().create_task(self._look_again_and_again())
        self._clients.add(client)
        client.put(_written("health", self._health_now()))
        for stream in self._live.streams():
            told = self._step(stream)
            if told is not None:
                client.put(_written("step", told))

    async def _look_again_and_again(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # what one look trips over must not end all that follow
                log.exception("events could not be told")
            await asyncio.sleep(self._every_s)

    def look(self) -> None:
        """Hand what is new to every client."""
        for stream in self._live.streams():
            newest = self._live.newest(stream)
            if newest is not None and newest.step != self._steps.get(stream):
                self._steps[stream] = newest.step
                self._tell("step", self._step(stream))
        while self._said:
            self._tell("incident", _told(self._said.popleft()))
        health = self._health_now()
        if health != self._health:
            self._health = health
            self._tell("health", health)

    def _tell(self, event: str, data: Mapping[str, Any] | None) -> None:
        if data is not None:
            written = _written(event, data)
            for client in self._clients:
                client.put(written)

    def _step(self, stream: str) -> dict[str, Any] | None:
        step = self._live.newest(stream)
        if step is None:
            return None
        return {
            "stream": stream,
            "step": int(step.step),
            "time": rfc3339(step.time_us),
            "entities": step.n,
            "watches": int((step.level == Tier.WATCH).sum()),
            "alerts": int((step.level == Tier.ALERT).sum()),
        }

    def _health_now(self) -> dict[str, Any]:
        reasons = self._status.reasons()
        return {"alive": self._status.alive(), "ready": not reasons, "reasons": [str(reason) for reason in reasons]}


class _Client:
    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._lost = 0
        self.wake = asyncio.Event()

    def put(self, event: bytes) -> None:
        self._waiting.append(event)
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self.wake.set()

    def take(self) -> bytes:
        """Return all that waits as one piece, which is sent at once."""
        self.wake.clear()
        waiting = b"".join(self._waiting)
        self._waiting.clear()
        if self._lost:
            waiting = _written("lost", {"events": self._lost}) + waiting
            self._lost = 0
        return waiting


def _written(event: str, data: Mapping[str, Any]) -> bytes:
    # ASCII JSON has no line breaks, whatever the names in it hold.
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode("ascii")


def _told(message: AlertMessage) -> dict[str, Any]:
    return {
        "id": message.incident_id,
        "stream": message.stream,
        "entity": message.entity,
        "kind": str(message.kind),
        "tier": message.tier.name.lower(),
        "phase": str(message.phase),
        "time": rfc3339(message.time_us),
        "reason": message.reason[:_LONGEST_TEXT],
    }
