"""What pages ask about who asks; the gate before the app has found it out, and checked their forms, already."""

from __future__ import annotations

import hmac

from fastapi import Request

from pipeline.console.answers import Who
from pipeline.console.troubles import Forbidden, Unknown


class PageGate:
    """Takes from the request's state what ``pipeline.console.gate`` left there."""

    def who(self, request: Request) -> Who:
        """Return who asks; raises Trouble where it is nobody we know."""
        who: Who | None = getattr(request.state, "who", None)
        if who is None:
            raise Unknown("log in first")
        return who

    def form_token(self, request: Request) -> str:
        """Return what our forms carry; empty for whoever comes with a token in a header."""
        return str(getattr(request.state, "csrf", ""))

    def check_form(self, request: Request, token: str) -> None:
        """Raise Trouble unless the form is one of ours: once more, in case no gate stands before the app."""
        expected = self.form_token(request)
        if expected and not hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")):
            raise Forbidden("this form is too old, or not ours: load its page again")
