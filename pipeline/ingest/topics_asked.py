"""Asks again for the topics that nobody could be asked for at the start, and says which are missing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from connectors.errors import Misconfigured

log = structlog.get_logger("vedette.ingest")

_WAIT_S = 5.0
"""Between two tries to reach Kafka."""
_MISSING_WAIT_S = 30.0
"""Between two looks whether somebody has made what is missing."""
_LEAVE_S = 1.0


class TopicsAsked:
    """Asks, in a thread of its own, until all topics are there. What is missing is a note, and no reason to end:
    other topics go on.

    Args:
        ask: returns whether it got an answer; raises ``Misconfigured`` naming the topics that do not exist.
        wait_s: seconds between two tries to get one.
        missing_wait_s: seconds until it looks again for what is missing.
    """

    def __init__(
        self, ask: Callable[[], bool], *, wait_s: float = _WAIT_S, missing_wait_s: float = _MISSING_WAIT_S
    ) -> None:
        self._ask = ask
        self._wait_s, self._missing_wait_s = wait_s, missing_wait_s
        self._missing: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vedette-topics", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def notes(self) -> list[str]:
        """Return what a person should know."""
        missing = self._missing
        return [] if missing is None else [f"{missing}; its readings wait in the spool"]

    def close(self) -> None:
        """Ask no more."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        while not self._over.wait(self._wait_s if self._missing is None else self._missing_wait_s):
            try:
                answered = self._ask()
            except Misconfigured as error:
                if self._missing is None:
                    log.error("a topic is missing; its readings wait in the spool, and the others go on",
                              error=str(error))  # fmt: skip
                self._missing = str(error)
                continue
            except Exception:
                # A defect must not end the thread: what is missing would be a note for ever, or never one.
                log.exception("asking for the topics failed; will try again")
                continue
            if answered:
                self._missing = None
                log.info("all topics are there")
                return
