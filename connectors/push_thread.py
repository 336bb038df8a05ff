"""The one thread in which large bodies are unpacked and read, so that the event loop goes on answering others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

INLINE_BYTES = 32_768
"""Smaller bodies are read where they come. Measured on line protocol, the way to the thread and back costs 12 % of the
readings/s of a core with bodies of 3 kB, 5 % at 26 kB and 2 % at 88 kB; 32 kB keep the event loop for 5 ms."""

Result = TypeVar("Result")


class BodyThread:
    """Runs work in one thread, in the order in which it is asked for; bodies that ask for slices so take turns.

    One, for Python runs one at a time anyhow. The event loop has to wait for Python's lock meanwhile: 5 ms at each
    step (``sys.getswitchinterval``), and as long as a call into C takes that does not let go of it, such as the parsing
    of a JSON document of 16 MB: 0.1 s. Use it as a context manager.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="push-bodies")

    def begin(self, work: Callable[[], Result]) -> Future[Result]:
        """Have ``work`` done when it is its turn; the future holds what it returns or raises."""
        return self._executor.submit(work)

    def __enter__(self) -> BodyThread:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the slice under way, and begin no other."""
        self._executor.shutdown(wait=True, cancel_futures=True)
