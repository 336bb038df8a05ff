"""How long small requests wait, alone and while another sender's large bodies are read."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LARGE_BYTES = 16 * 1_048_576 - 1_000
"""Just below what one request may have."""
_START_US = 1_700_000_000_000_000
_GOOD = b'{"entity":"large","channel":"pm25","time":"2023-11-14T22:13:20Z","value":1}'
_BAD_LINE = b"air,station=large pm25=dusty 1\n"

LARGE: dict[str, tuple[str, bytes]] = {
    "bad_lines": ("/api/v2/write?precision=us", b"air,station=large pm25=1 1700000000000000\n"
                  + _BAD_LINE * (LARGE_BYTES // len(_BAD_LINE) - 1)),
    "json": ("/api/readings", b"[" + b",".join([_GOOD] * (LARGE_BYTES // (len(_GOOD) + 1) - 1)) + b"]"),
}  # fmt: skip
"""Path and body: lines of which only the first can be read: the most work; and a document, decoded as a whole."""


def fairness(port: int, seconds: float) -> dict[str, dict[str, float]]:
    """Return the milliseconds that small requests take, in the middle and the 99th of 100, by what goes on beside."""
    found = {"alone": _small(port, seconds)}
    for kind, (path, body) in LARGE.items():
        with _large(port, path, gzip.compress(body, 1, mtime=0)):
            found[f"beside_{kind}"] = _small(port, seconds)
    return found


def _small(port: int, seconds: float) -> dict[str, float]:
    """Send requests of one reading, one after the other, for so long, and at least ten."""
    taken_s: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120.0)
    began_s = time.perf_counter()
    while len(taken_s) < 10 or time.perf_counter() - began_s < seconds:
        started_s = time.perf_counter()
        line = f"air,station=small pm25=1 {_START_US + time.monotonic_ns() // 1000}"
        connection.request("POST", "/api/v2/write?precision=us", line.encode())
        with connection.getresponse() as answer:
            answer.read()
            if answer.status != 204:
                raise RuntimeError(f"answered {answer.status}")
        taken_s.append(time.perf_counter() - started_s)
    connection.close()
    return {
        "median_ms": round(1e3 * statistics.median(taken_s), 2),
        "p99_ms": round(1e3 * statistics.quantiles(taken_s, n=100, method="inclusive")[98], 2),
        "requests": len(taken_s),
    }


@contextmanager
def _large(port: int, path: str, packed: bytes) -> Iterator[None]:
    """Send a body over and over until left."""
    over, began = threading.Event(), threading.Event()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120.0)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}

    def send() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):  # hung up in the middle, as we asked
            while not over.is_set():
                connection.request("POST", path, packed, headers)
                began.set()
                connection.getresponse().read()

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    if not began.wait(20.0):
        raise RuntimeError("the large body cannot be sent")
    try:
        yield
    finally:
        over.set()
        sending.join(120.0)  # so that the next one begins alone
        connection.close()
