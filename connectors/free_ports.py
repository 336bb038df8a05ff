"""Ports for programs that have to be told where to listen before they do.

The system gives away ports too: to whoever listens on port 0, and to every connection that begins. One of those may be
gone again before the program that was told of it has started, so none of them is taken here.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST = 12_000
"""Below lie the ports that many programs have by custom."""
_DYNAMIC = 49_152
"""Where RFC 6335 begins what a system gives away; used where the system does not say."""
_FEWEST = 1000
_APART = 611
"""Between the first ports of two processes whose ids follow each other."""

_lock = threading.Lock()
_given: dict[int, int] = {}
"""How many candidates a process has used up; by its id, for a fork goes its own way."""


def free_port() -> int:
    """Return a port of loopback that nobody listens on now; each call of a process gives another one.

    Processes begin at different places, so that two that ask at the same time hardly ever get the same.
    """
    first, end = _FIRST, _system_begins()
    if end - first < _FEWEST:
        return _of_the_system()
    with _lock:
        pid = os.getpid()
        for _ in range(end - first):
            used = _given[pid] = _given.get(pid, 0) + 1
            port = first + (pid * _APART + used) % (end - first)
            if _is_free(port):
                return port
    return _of_the_system()


def _system_begins() -> int:
    """Return the lowest port that the system gives away by itself."""
    try:
        return int(_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _DYNAMIC


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _of_the_system() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
