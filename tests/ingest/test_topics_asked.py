"""Whoever asks for the topics goes on asking."""

from __future__ import annotations

import threading
from contextlib import closing

from connectors.errors import Misconfigured
from pipeline.ingest.topics_asked import TopicsAsked
from tests.kafka_broker import until


def test_a_defect_does_not_end_the_asking() -> None:
    """Protects from a note that stays for ever, or never comes, because the thread that asks has died."""
    answers = iter([RuntimeError("a defect"), Misconfigured("no topic air"), RuntimeError("another"), None])
    over = threading.Event()

    def ask() -> bool:
        answer = next(answers)
        if answer is not None:
            raise answer
        over.set()
        return True

    with closing(TopicsAsked(ask, wait_s=0.01, missing_wait_s=0.01)) as topics:
        topics.start()
        assert over.wait(60.0), "it asks until it is answered"
        until(lambda: topics.notes() == [])
