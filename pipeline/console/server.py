"""The console's server: uvicorn in a thread of its own, beside the daemon's loop and never in it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

log = structlog.get_logger("vedette.console")

_MOST_CONNECTIONS = 512
"""Beyond it new ones are hung up on: each takes a file handle that the daemon may need for its own work."""
_MOST_HEAD_BYTES = 131_072
"""Of a request: an entity's name of 10 kB, each byte of it escaped, or each character of it of four bytes."""
_FIRST_REQUEST_S = 10.0
"""A client that has not sent a whole request's head by then is hung up on."""
_START_S = 10.0
_CLOSE_S = 5.0


class _Protocol(H11Protocol):
    """HTTP/1.1 with an end to waiting for the first request, and to how many may wait."""

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
        else:
            self.loop.call_later(_FIRST_REQUEST_S, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()


class ConsoleServer:
    """Serves an ASGI app until closed. Raises OSError where ``host`` and ``port`` cannot be listened on."""

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        *,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Listen at once, and serve from a thread.

        Args:
            app: what answers.
            host: where to listen.
            port: 0 takes a free one.
            cert_file: PEM; with it, TLS is spoken.
            key_file: of the certificate, if it is not in the same file.
            on_close: called in the server's event loop when it is to end, to let go of streams that never do.
        """
        self._socket = _listening(host, port)
        self.host = str(self._socket.getsockname()[0])
        self.port = int(self._socket.getsockname()[1])
        try:
            settings: dict[str, Any] = {
                "http": _Protocol, "ws": "none", "lifespan": "off", "loop": "asyncio", "log_config": None,
                # Else it would write a line for each odd byte that somebody sends.
                "access_log": False, "log_level": "critical",
                "server_header": False, "proxy_headers": False, "timeout_keep_alive": 15,
                "timeout_graceful_shutdown": 1, "h11_max_incomplete_event_size": _MOST_HEAD_BYTES,
                "ssl_certfile": None if cert_file is None else str(cert_file),
                "ssl_keyfile": None if key_file is None else str(key_file),
            }  # fmt: skip
            self._server = uvicorn.Server(uvicorn.Config(app, **settings))
            self._server.config.load()  # a certificate that cannot be used is told of here, not in a thread
        except BaseException:
            self._socket.close()
            raise
        self._on_close = on_close
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="vedette-http", daemon=True)
        self._thread.start()
        self._started.wait(_START_S)

    def close(self) -> None:
        """Stop listening; requests under way have a second to end."""
        self._server.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._on_close)
        self._thread.join(_CLOSE_S)
        self._socket.close()

    def __enter__(self) -> ConsoleServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        try:
            asyncio.run(self._until_closed())
        except Exception:
            log.exception("the console has ended; the daemon goes on without it and its probes")
        finally:
            self._started.set()

    async def _until_closed(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._started.set)
        await self._server.serve(sockets=[self._socket])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    # Named, or asyncio would not know it for TCP and leave its delays on: 40 ms an answer.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
        found.setblocking(False)
    except OSError:
        found.close()
        raise
    return found
