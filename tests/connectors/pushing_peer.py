"""A sender for tests: what it is given it posts, and again until it is told that all was taken."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType

import httpx

from connectors.free_ports import free_port
from connectors.http_push import HttpPush
from connectors.push_senders import Sender

TOKEN = "a-secret-of-some-length"
_PAUSE_S = 0.02


class PushingPeer:
    """The other side of ``HttpPush`` for the contract of sources: line protocol, one request a gift."""

    keeps = True

    def __init__(self) -> None:
        self.port = free_port()
        self.answers: list[int] = []
        self._given = 0
        self._queue: deque[str] = deque()
        self._here = threading.Event()
        self._here.set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="peer-sender", daemon=True)
        self._thread.start()

    def source(self) -> HttpPush:
        return HttpPush(port=self.port, senders=[Sender("peer", TOKEN)], quiet_after_s=0.4)

    def give(self, count: int) -> Sequence[tuple[str, str, int]]:
        times_us = [1_795_190_400_000_000 + 1_000_000 * (self._given + i) for i in range(count)]
        self._given += count
        self._queue.append("".join(f"air,station=station-7 pm25={t % 97} {t}\n" for t in times_us))
        return [("station-7", "pm25", time_us) for time_us in times_us]

    def give_bad(self) -> None:
        self._queue.append("air,station=station-7 pm25=dusty\n")

    def go_away(self) -> None:
        self._here.clear()

    def come_back(self) -> None:
        self._queue.appendleft("# here again\n")
        self._here.set()

    def close(self) -> None:
        self._over.set()
        self._here.set()
        self._thread.join(10.0)

    def __enter__(self) -> PushingPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10.0, trust_env=False) as client:
            while not self._over.wait(_PAUSE_S):
                self._here.wait()
                if self._queue and self._taken(client, self._queue[0]):
                    self._queue.popleft()

    def _taken(self, client: httpx.Client, body: str) -> bool:
        try:
            answer = client.post(f"http://127.0.0.1:{self.port}/api/v2/write?precision=us", content=body)
        except httpx.HTTPError:
            return False
        self.answers.append(answer.status_code)
        return answer.status_code in (204, 400)
