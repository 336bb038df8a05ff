"""A source that is pushed to over HTTP: it listens, and answers each sender when its readings are durable.

======================= ===============================================================================================
POST                    takes
======================= ===============================================================================================
/api/readings           canonical JSON (one, a list, one a line), SenML packs, CloudEvents
/api/v2/write, /write   InfluxDB's line protocol, ``?precision=``
/api/v1/write           Prometheus remote-write 1.0
/v1/metrics             OTLP metrics, as protobuf or JSON
/airrohr                what airRohr stations send to an own API; /v1/push-sensor-data/ likewise
======================= ===============================================================================================

Large bodies are unpacked and read in a thread of their own (``connectors.push_thread``), so that one of them holds up
nobody else. When there is no room senders get 429 with ``Retry-After``, and nothing is dropped: what they send again
and was durable already is known again. Answers are described in ``connectors.push_replies``.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.network_words import in_words
from connectors.push_app import PushApp, PushMappings
from connectors.push_body import BodyReader
from connectors.push_senders import Sender, Senders, is_loopback
from connectors.push_taking import Taking
from connectors.push_thread import BodyThread
from connectors.source import Outlet

_MOST_CONNECTIONS = 512
_MOST_HEAD_BYTES = 65_536
_HEAD_S = 10.0
"""A client that has not sent a whole request's head by then is hung up on: since it came, or began the next one."""
_KEEP_ALIVE_S = 75
"""Longer than the minute at which stations and Prometheus send: a new connection each time costs more than an old."""
_LOOK_S = 0.05
_WRONG = (errno.EACCES, errno.EADDRNOTAVAIL, errno.EPERM)
"""Listening fails so until a person changes something; an address in use may become free."""


class _Protocol(H11Protocol):
    """HTTP/1.1 with an end to waiting for a request, and to how many may wait.

    uvicorn ends a connection that says nothing; one that says a byte now and then it would keep for ever.
    """

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
        else:
            self._patience = self.loop.call_later(_HEAD_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        """A client has sent a part of a request's head, or of its body; or goes on after it was answered."""
        super().data_received(data)
        if not self._awaits_request():
            self._stay_patient()
        elif self._patience is None:
            self._patience = self.loop.call_later(_HEAD_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """A client is gone."""
        self._stay_patient()
        super().connection_lost(exc)

    def _awaits_request(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _stay_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if self._awaits_request() and not self.transport.is_closing():
            self.transport.abort()


class HttpPush:
    """Listens for pushed readings.

    Args:
        host: where to listen.
        port: 0 takes a free one; ``port`` says which.
        senders: who may; empty: whoever comes from this machine.
        open_to_all: without senders, whether everybody may.
        mappings: how names become entities and channels.
        most_body_bytes: of one body, as it comes and without compression.
        max_ahead_us: readings further in the future are refused.
        quiet_after_s: the source is said to fail when nothing came for so long; None: senders may be silent.
        cert_file: PEM; with it, TLS is spoken.
        key_file: of the certificate, if it is not in the same file.
        now_us: the wall clock.

    Raises:
        Misconfigured: if it would listen beyond this machine without knowing any sender, or a sender has no secret.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        senders: Sequence[Sender] = (),
        open_to_all: bool = False,
        mappings: PushMappings | None = None,
        most_body_bytes: int = 16 * 1_048_576,
        max_ahead_us: int = 3_600_000_000,
        quiet_after_s: float | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        if not (senders or open_to_all or is_loopback(host)):
            raise Misconfigured(f"{host} is reached from other machines: name at least one sender with its secret")
        bare = [sender.name for sender in senders if not sender.secret]
        if bare:
            raise Misconfigured(f"the secret of sender {bare[0]} is empty: whoever shows none would pass for it")
        self._host = host
        self._port = port
        self._senders = Senders(senders, open_to_all=open_to_all)
        self._mappings = mappings or PushMappings()
        self._most_body_bytes = most_body_bytes
        self._max_ahead_us = max_ahead_us
        self._quiet_after_s = quiet_after_s
        self._cert_file = cert_file
        self._key_file = key_file
        self._now_us = now_us

    @property
    def port(self) -> int:
        """Where it listens; the configured one until it does."""
        return self._port

    def run(self, outlet: Outlet) -> None:
        """Listen until the outlet is stopping; requests under way are answered at once then.

        Raises:
            SourceUnavailable: if the address is in use.
            Misconfigured: if it can never be listened on, or the certificate cannot be used.
        """
        listening = self._listen()
        try:
            self._port = int(listening.getsockname()[1])  # the same one when it is run again
            taking = Taking(outlet, self._max_ahead_us, self._now_us)
            bodies = BodyReader(self._most_body_bytes)
            with BodyThread() as thread:
                app = PushApp(taking, bodies, thread, self._senders, self._mappings, outlet.count).app()
                server = self._server(app)
                asyncio.run(self._serve(server, listening, taking, outlet))
        finally:
            listening.close()

    async def _serve(self, server: uvicorn.Server, listening: socket.socket, taking: Taking, outlet: Outlet) -> None:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        outlet.working()
        quiet = False
        while not outlet.stopping and not serving.done():
            await asyncio.sleep(_LOOK_S)
            silent_s = time.monotonic() - taking.heard_s
            if self._quiet_after_s is not None and quiet is not (silent_s > self._quiet_after_s):
                quiet = not quiet
                if quiet:
                    outlet.failing(f"nobody has sent anything for {self._quiet_after_s:g} s")
                else:
                    outlet.working()
        server.should_exit = True
        taking.leave()
        await serving

    def _server(self, app: Any) -> uvicorn.Server:
        config = uvicorn.Config(
            app, http=_Protocol, ws="none", lifespan="off", loop="asyncio", log_config=None, access_log=False,
            log_level="critical",  # else it would write a line for each odd byte that somebody sends
            server_header=False, proxy_headers=False, timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=_MOST_HEAD_BYTES, backlog=128,
            ssl_certfile=None if self._cert_file is None else str(self._cert_file),
            ssl_keyfile=None if self._key_file is None else str(self._key_file),
        )  # fmt: skip
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:  # of the files only: the app is an object
            raise Misconfigured(f"the certificate {self._cert_file} cannot be used: {error}") from error
        return uvicorn.Server(config)

    def _listen(self) -> socket.socket:
        where = f"{self._host}:{self._port}"
        try:
            family = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0][0]
            # Named, or asyncio would not know it for TCP and leave its delays on: 40 ms an answer.
            found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OSError as error:
            raise Misconfigured(f"{where} cannot be listened on: {in_words(error)}") from error
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((self._host, self._port))
            found.listen(128)
            found.setblocking(False)
        except OSError as error:
            found.close()
            wrong = Misconfigured if error.errno in _WRONG else SourceUnavailable
            raise wrong(f"{where} cannot be listened on: {in_words(error)}") from error
        return found
