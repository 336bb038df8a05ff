"""A connected socket for MQTT, with or without TLS, that reads and writes in large pieces and never waits for long."""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Callable

from connectors.errors import Misconfigured, SourceRefused, SourceUnavailable
from connectors.mqtt_messages import Tls
from connectors.network_words import in_words
from connectors.source import Stopping

PIECE_BYTES = 65_536
MOST_UNSENT_BYTES = 1_048_576
_CONNECT_S = 5.0
_SLICE_S = 0.1
"""How often a wait looks whether to leave."""
_CLIENT_CERTIFICATE = (
    "CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED", "CERTIFICATE_UNKNOWN", "ACCESS_DENIED",
)  # fmt: skip
"""What a peer's alert says when it does not like, or misses, our certificate (RFC 8446, 6.2)."""


class BufferedSocket:
    """A non-blocking stream, as paho uses it: it asks for a byte, then for another, then for the rest of a packet.

    Args:
        sock: connected; belongs to this object from here on.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._come = b""
        self._at = 0
        self._unsent = bytearray()
        self.dry = False
        """Set when nothing more has come; for the reader to reset."""
        self.error: OSError | None = None
        """What ended the connection, where something did."""

    def recv(self, most: int) -> bytes:
        """Return up to ``most`` bytes; none at the end of the stream.

        Raises:
            BlockingIOError: if nothing has come.
            OSError: if the connection is broken.
        """
        if self._at == len(self._come):
            self._come, self._at = self._receive(), 0
        part = self._come[self._at : self._at + most]
        self._at += len(part)
        return part

    def _receive(self) -> bytes:
        try:
            come = self._sock.recv(PIECE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.dry = True
            raise BlockingIOError from None
        except OSError as error:
            self.dry, self.error = True, error
            raise
        if not come:
            self.dry = True
        return come

    def pending(self) -> int:
        """Return how many bytes can be read without the network."""
        inner = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return len(self._come) - self._at + inner

    def send(self, data: bytes) -> int:
        """Take all of ``data``; ``flush`` sends it.

        Raises:
            BlockingIOError: if too much waits to be sent.
        """
        if len(self._unsent) > MOST_UNSENT_BYTES:
            raise BlockingIOError
        self._unsent += data
        return len(data)

    @property
    def unsent(self) -> int:
        """How many bytes wait to be sent."""
        return len(self._unsent)

    def flush(self) -> None:
        """Send what can be sent at once.

        Raises:
            OSError: if the connection is broken.
        """
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            self.error = self._last_word() or error
            raise

    def _last_word(self) -> OSError | None:
        """Return the alert that a peer sent before it closed: with TLS 1.3 it comes after our side is done."""
        try:
            self._sock.recv(PIECE_BYTES)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            return error
        except OSError:
            return None
        return None

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """Stay as it is: non-blocking."""

    def close(self) -> None:
        """End the connection."""
        self._sock.close()


def open_socket(host: str, port: int, tls: Tls | None, stopping: Callable[[], bool]) -> BufferedSocket:
    """Return a connected socket.

    The look-up of a name is the system's, and cannot be cut short.

    Raises:
        SourceUnavailable: if nobody answers there, or one who is not to be trusted.
        SourceRefused: if the peer does not take our certificate.
        Misconfigured: if a file of ``tls`` cannot be used.
        Stopping: if it is time to leave.
    """
    context = None if tls is None else _context(tls)
    address = f"{host}:{port}"
    try:
        sock = _connected(host, port, stopping)
    except OSError as error:
        raise SourceUnavailable(f"{address} cannot be reached: {in_words(error)}") from error
    if context is None:
        return BufferedSocket(sock)
    try:
        return BufferedSocket(_secured(sock, host, context, stopping))
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise SourceUnavailable(
            f"{address}: its certificate is not trusted: {error.verify_message}; tls.ca_file names who else is"
        ) from error
    except OSError as error:  # SSLError is one too
        sock.close()
        raise refused_certificate(error, address) or SourceUnavailable(
            f"{address} does not agree on TLS: {plain_reason(error)}; is it the broker's port for TLS?"
        ) from error
    except Stopping:
        sock.close()
        raise


def refused_certificate(error: OSError | None, address: str) -> SourceRefused | None:
    """Return what to raise if ``error`` is the peer's alert about our certificate."""
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLError) and "ALERT" in reason and reason.endswith(_CLIENT_CERTIFICATE):
        told = reason.rpartition("ALERT_")[2].lower().replace("_", " ")
        return SourceRefused(
            f"{address} does not take our client certificate, or wants one: {told}; see tls.cert_file"
        )
    return None


def plain_reason(error: OSError) -> str:
    """Return what an error of a socket says, without the library's line numbers."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return in_words(error)


def _context(tls: Tls) -> ssl.SSLContext:
    """Return what TLS needs; reads the files."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise Misconfigured(
            f"tls.ca_file {tls.ca_file} cannot be used: {plain_reason(error)}; it has to hold certificates as PEM"
        ) from error
    context.check_hostname = tls.check_name
    if tls.cert_file is not None:
        try:
            # Without a password: never ask a person.
            context.load_cert_chain(tls.cert_file, tls.key_file, tls.key_password or "")
        except OSError as error:
            raise Misconfigured(
                f"tls.cert_file {tls.cert_file} and tls.key_file {tls.key_file or tls.cert_file} cannot be used: "
                f"{plain_reason(error)}; they have to be PEM, belong together, and tls.key_password fit"
            ) from error
    return context


def _connected(host: str, port: int, stopping: Callable[[], bool]) -> socket.socket:
    """Return a socket connected to the first of the host's addresses that answers."""
    failed: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            sock.connect_ex(address)
            _wait(sock, select.POLLOUT, time.monotonic() + _CONNECT_S, stopping)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failed = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failed


def _secured(sock: socket.socket, host: str, context: ssl.SSLContext, stopping: Callable[[], bool]) -> ssl.SSLSocket:
    """Return ``sock`` with TLS on it, hands shaken."""
    until_s = time.monotonic() + _CONNECT_S
    secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    while True:
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            wanted = select.POLLIN
        except ssl.SSLWantWriteError:
            wanted = select.POLLOUT
        except BaseException:
            secured.close()
            raise
        else:
            return secured
        try:
            _wait(secured, wanted, until_s, stopping)
        except BaseException:
            secured.close()
            raise


def _wait(sock: socket.socket, what: int, until_s: float, stopping: Callable[[], bool]) -> None:
    poller = select.poll()
    poller.register(sock, what)
    while not poller.poll(_SLICE_S * 1000):
        if stopping():
            raise Stopping
        if time.monotonic() >= until_s:
            raise TimeoutError(0, f"no answer within {_CONNECT_S:g} s")
