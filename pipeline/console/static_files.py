"""The console's styles and scripts, and Plotly's script out of its wheel: all from here, nothing from outside."""

from __future__ import annotations

import gzip
import hashlib
import threading
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import Request
from fastapi.responses import Response

FOREVER = "public, max-age=31536000, immutable"
"""An address holds a digest of what lies there, so it never changes."""
_DIGITS = 12
_OWN = {"console.css": "text/css", "console.js": "text/javascript", "charts.js": "text/javascript"}
_PLOTLY = "plotly.min.js"


@dataclass
class _File:
    """One file; read, hashed and packed once, when it is first asked for."""

    source: Traversable
    media: str

    @cached_property
    def body(self) -> bytes:
        return self.source.read_bytes()

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()[:_DIGITS]

    @cached_property
    def packed(self) -> bytes:
        # Plotly's script is 5 MB, and 1.4 MB so; a better level costs seconds.
        return gzip.compress(self.body, 6, mtime=0)


class StaticFiles:
    """Knows the files by name. May be used from several threads."""

    def __init__(self) -> None:
        own = resources.files("pipeline.console") / "static"
        self._files = {name: _File(own / name, media) for name, media in _OWN.items()}
        self._files[_PLOTLY] = _File(resources.files("plotly") / "package_data" / _PLOTLY, "text/javascript")
        self._lock = threading.Lock()

    def address(self, name: str) -> str:
        """Return the path that pages link to; raises KeyError where there is no such file."""
        with self._lock:
            return f"/static/{self._files[name].digest}/{name}"

    def response(self, name: str, request: Request) -> Response | None:
        """Return a file, packed where the browser takes that; None where there is none of that name."""
        file = self._files.get(name)
        if file is None:
            return None
        headers = {"Cache-Control": FOREVER, "Vary": "Accept-Encoding"}
        with self._lock:  # two browsers at once need not pack it twice
            if "gzip" in request.headers.get("accept-encoding", ""):
                return Response(
                    file.packed, 200, {**headers, "Content-Encoding": "gzip"}, f"{file.media}; charset=utf-8"
                )
            return Response(file.body, 200, headers, f"{file.media}; charset=utf-8")
