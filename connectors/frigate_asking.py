"""Asks Frigate's database in a thread of its own, one question at a time: minutes go on being told meanwhile."""

from __future__ import annotations

import queue
import threading
import time

from connectors.errors import ConnectorError, SourceUnavailable
from connectors.frigate_database import Findings, FrigateDatabase, Question
from connectors.frigate_manner import Manner
from connectors.http_polling import Poller
from connectors.http_service import HttpService
from connectors.outlet_parts import OutletPart
from connectors.rate_limiting import RateLimiter
from connectors.source import Stopping
from connectors.whole_polls import RejectedBefore

_BACKOFF_FIRST_S = 2.0
_BACKOFF_MOST_S = 120.0
_LOOK_S = 0.1


class Asking(threading.Thread):
    """Takes a question, and has its outcome some time later.

    Args:
        service: where Frigate's API answers.
        outlet: told whether it does.
        manner: how Frigate is watched.
    """

    def __init__(self, service: HttpService, outlet: OutletPart, manner: Manner) -> None:
        super().__init__(name="frigate-http", daemon=True)
        self._service = service
        self._outlet = outlet
        self._manner = manner
        self._questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Findings | ConnectorError] = queue.SimpleQueue()
        self._rejected = RejectedBefore()
        self._busy = False
        self._failures = 0
        self._not_before_s = 0.0
        self._defect: BaseException | None = None

    # ---- the source's side ----

    @property
    def idle(self) -> bool:
        """Whether a question may be asked: none is open, and the last failure is long enough ago."""
        return not self._busy and time.monotonic() >= self._not_before_s

    def ask(self, question: Question) -> None:
        """Ask; only while it is idle."""
        self._busy = True
        self._questions.put(question)

    def outcome(self) -> Findings | ConnectorError | None:
        """Return what came of the question, once; None while nothing has."""
        if self._defect is not None:
            raise self._defect
        try:
            outcome = self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self._busy = False
        if isinstance(outcome, ConnectorError):
            self._not_before_s = time.monotonic() + min(_BACKOFF_FIRST_S * 2.0**self._failures, _BACKOFF_MOST_S)
            self._failures = min(self._failures + 1, 20)
        else:
            self._failures = 0
        return outcome

    # ---- its own ----

    def run(self) -> None:
        """Answer until it is time to leave."""
        try:
            with Poller(self._service, self._outlet, RateLimiter()) as poller:
                manner = self._manner
                database = FrigateDatabase(poller, manner.cameras, manner.labels, manner.reviews)
                while not self._outlet.stopping:
                    self._answer(database)
        except Stopping:
            pass
        except BaseException as error:  # raised where the source runs
            self._defect = error

    def _answer(self, database: FrigateDatabase) -> None:
        try:
            question = self._questions.get(timeout=_LOOK_S)
        except queue.Empty:
            return
        try:
            found = database.find(question)
        except SourceUnavailable as error:
            self._outlet.failing(f"what is missed cannot be fetched: {error}")
            self._outcomes.put(error)
        except ConnectorError as error:
            self._outcomes.put(error)
        else:
            found.rejected = self._rejected.new_among(found.rejected)
            self._outlet.working()
            self._outcomes.put(found)
