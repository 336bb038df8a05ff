"""Asking what may block from an event loop: few threads, a bounded number of questions, and an end to waiting.

The threads are daemons: one that hangs in a dead database keeps no process from ending, and while all of them hang,
further questions are refused at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from pipeline.console.troubles import Away

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 6
_MOST_WAITING = 24
_PATIENCE_S = 20.0


class Asking:
    """A few threads that call what may block. ``ask`` is for event loops, ``submit`` for any thread."""

    def __init__(
        self, threads: int = _THREADS, most_waiting: int = _MOST_WAITING, patience_s: float = _PATIENCE_S
    ) -> None:
        """Start ``threads``; refuse when more than ``most_waiting`` calls wait or run; wait ``patience_s`` for one."""
        self._most = most_waiting
        self._patience_s = patience_s
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._under_way = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"vedette-ask-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def ask(self, what: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the call returns, or raise what it raises.

        Raises:
            Away: if too many calls are under way, or this one takes too long; it goes on then, unheard.
        """
        future = self.submit(lambda: what(*args, **kwargs))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._patience_s)
        except TimeoutError:
            raise Away(
                f"no answer within {self._patience_s:g} s: the database, the registry or the history hangs; what was"
                " to be changed may still be changed"
            ) from None

    def submit(self, what: Callable[[], T]) -> Future[T]:
        """Have a thread call ``what``; raises Away if too many calls are under way."""
        with self._lock:
            if self._under_way >= self._most:
                raise Away("too many questions wait for an answer already; ask again in a moment")
            self._under_way += 1
        future: Future[T] = Future()
        self._calls.put((future, what))
        return future

    def close(self) -> None:
        """Let the threads end after their present call; waits for none of them."""
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, what = call
            try:
                if future.set_running_or_notify_cancel():
                    try:
                        result = what()
                    except BaseException as error:  # whoever asked gets it
                        future.set_exception(error)
                    else:
                        future.set_result(result)
            finally:
                with self._lock:
                    self._under_way -= 1
