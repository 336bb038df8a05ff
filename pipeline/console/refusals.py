"""Refusals as pages for people and as JSON for programs: the same words, the status and a way out."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pipeline.console.rendering import Rendering

_TITLES = {
    400: "That cannot be understood",
    401: "Who are you?",
    403: "That is not for you",
    404: "There is no such thing",
    405: "That cannot be done here",
    408: "That took too long",
    409: "That cannot be done now",
    413: "That is too large",
    421: "This name is not ours",
    429: "Too much at once",
    503: "It cannot be asked now",
}
_FORM_TITLES = {403: "This form was not taken"}
_HINTS = {
    413: "Shorten what you typed, and send it again.",
    429: "Wait some seconds; nothing was changed.",
    500: "Nothing more is known here. Whoever runs the daemon finds the reason in its log.",
}
_MEDIA = "text/html; charset=utf-8"
_API = ("/api/", "/metrics", "/livez", "/readyz", "/healthz")


class Refusals:
    """Writes why a request is refused, so that whoever asked can read it. Any thread may call it."""

    def __init__(self, rendering: Rendering) -> None:
        """Show pages by ``rendering``."""
        self._rendering = rendering

    def page(self, status: int, text: str, *, path: str, nonce: str = "", back: str = "") -> bytes:
        """Return a page.

        Args:
            status: of HTTP.
            text: the reason.
            path: that was asked for.
            nonce: of the answer's content policy.
            back: the page that a form was sent from; empty where that is not known.
        """
        title = _TITLES.get(status, "Something went wrong")
        again, words = ("", "")
        if back:
            again, words = back, "Back to the form"
            title = _FORM_TITLES.get(status, title)
        elif status >= 500 or status == 429:
            again, words = path, "Try again"
        shown = {
            "place": "", "title": title, "text": _sentence(text),
            "status": status, "hint": _HINTS.get(status, ""), "again": again, "again_words": words,
            "nonce": nonce, "path": path, "signed_in": "", "csrf": "",
        }  # fmt: skip
        return self._rendering.text("error.html", shown).encode("utf-8", "replace")

    def answer(
        self, status: int, text: str, *, path: str, headers: Mapping[str, str], nonce: str = ""
    ) -> tuple[str, bytes]:
        """Return the media type and the body: a page for a browser that shows one, JSON for everybody else.

        Args:
            status: of HTTP.
            text: the reason.
            path: that was asked for.
            headers: of the request, names in lower case.
            nonce: of the answer's content policy.
        """
        if path.startswith(_API) or "text/html" not in headers.get("accept", ""):
            return "application/json", json.dumps({"error": text}).encode() + b"\n"
        return _MEDIA, self.page(status, text, path=path, nonce=nonce, back=_form_page(headers, status))


def _form_page(headers: Mapping[str, str], status: int) -> str:
    """Return the path of our page that a form came from; empty where it came from elsewhere, or is no use again."""
    host, referer = headers.get("host", ""), headers.get("referer", "")
    for scheme in ("http://", "https://"):
        if host and referer.startswith(f"{scheme}{host}/") and not referer.startswith(f"{scheme}{host}//"):
            return referer.removeprefix(f"{scheme}{host}") if status in (403, 413) else ""
    return ""


def _sentence(text: str) -> str:
    """Return a reason as people write it.

    >>> _sentence("too many requests; slow down")
    'Too many requests; slow down.'
    """
    told = text[:1].upper() + text[1:]
    return told if told.endswith((".", "?", "!", "…")) else f"{told}."
