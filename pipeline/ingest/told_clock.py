"""A clock that another process sets: what replays and the demo give ``vedette ingest`` instead of the wall clock."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType

from connectors.errors import Misconfigured

_BYTES = 8


class ToldClock:
    """A time in a file that is mapped into memory: eight bytes, a whole number of microseconds since 1970 UTC.

    Reading and setting it costs no call of the system. A context manager; thread-safe.

    Args:
        path: of the file.
        begin_us: makes the file, with this time in it; None: it is there already.

    Raises:
        Misconfigured: if there is no such file, or it is not one of a clock.
    """

    def __init__(self, path: Path, begin_us: int | None = None) -> None:
        try:
            if begin_us is not None:
                path.write_bytes(b"\0" * _BYTES)
            with path.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)
        except (OSError, ValueError) as error:
            raise Misconfigured(f"the clock {path} cannot be used: {error}") from error
        if len(self._map) != _BYTES:
            found = len(self._map)
            self._map.close()
            raise Misconfigured(f"the clock {path} has {found} bytes; allowed: {_BYTES}, microseconds since 1970 UTC")
        # As one number of the machine's own: it is written and read whole, never by halves.
        self._time = memoryview(self._map).cast("q")
        if begin_us is not None:
            self.set(begin_us)

    def now_us(self) -> int:
        """Return the time, microseconds since 1970 UTC."""
        return self._time[0]

    def now_s(self) -> float:
        """Return the time, seconds since 1970 UTC."""
        return self._time[0] / 1e6

    def set(self, time_us: int) -> None:
        """Let it be ``time_us`` for all who read this clock."""
        self._time[0] = time_us

    def close(self) -> None:
        """Let go of the file."""
        self._time.release()
        self._map.close()

    def __enter__(self) -> ToldClock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
