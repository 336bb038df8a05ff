"""Why a connection failed, in words for people: without the numbers and abbreviations of the system."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator

_NUMBERED = re.compile(r"\[(?:Errno|WinError|SSL)[^\]]*\]\s*")
_WORDS = {
    errno.ECONNREFUSED: "nobody listens there (connection refused)",
    errno.ECONNRESET: "the connection was cut (reset by peer)",
    errno.EPIPE: "the connection was cut",
    errno.ETIMEDOUT: "no answer came in time",
    errno.EHOSTUNREACH: "no way leads there (no route to host)",
    errno.ENETUNREACH: "no way leads there (network is unreachable)",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EADDRINUSE: "the address is in use",
    errno.EACCES: "permission denied",
    errno.EMFILE: "this process has too many files and connections open",
}


def in_words(error: BaseException) -> str:
    """Return why a connection failed, by the innermost error of the system that led to ``error``.

    >>> in_words(ConnectionRefusedError(111, "Connection refused"))
    'nobody listens there (connection refused)'
    >>> in_words(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    'its name cannot be resolved: no name server knows it'
    """
    told = [one for one in _chain(error) if isinstance(one, OSError) and one.errno is not None]
    if not told:
        return _NUMBERED.sub("", str(error)) or type(error).__name__
    inner = told[-1]
    if isinstance(inner, socket.gaierror):
        why = "the name server does not answer" if inner.errno == socket.EAI_AGAIN else "no name server knows it"
        return f"its name cannot be resolved: {why}"
    if isinstance(inner, ssl.SSLError) and inner.reason:
        return f"TLS fails: {inner.reason.lower().replace('_', ' ')}"
    return _WORDS.get(inner.errno or 0) or inner.strerror or _NUMBERED.sub("", str(inner)) or type(inner).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and what led to it; of several that came together the first."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        if isinstance(following, BaseExceptionGroup):
            following = following.exceptions[0]
        else:
            following = following.__cause__ or following.__context__
