"""What became of a batch of messages, topic by topic: what a producer tells, and whom that blames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from connectors.errors import ConnectorError, Misconfigured, SinkUnavailable
from connectors.spool import Message


class Blame(Enum):
    """What a failure tells of."""

    TOPIC = "topic"
    """The broker says that it does not take this one."""
    KAFKA = "kafka"
    """It takes nothing from us: a login, a version."""
    OPEN = "open"
    """Nobody has said anything: the topic has no leader, or Kafka is away."""


class Failure(NamedTuple):
    """Why messages of a topic are not acknowledged."""

    blame: Blame
    error: ConnectorError


class Outcome(NamedTuple):
    """What became of a batch; what is not named here is acknowledged."""

    failures: dict[str, Failure]
    """By topic; some of its messages may be there."""
    large: frozenset[int]
    """Indices of messages that the broker does not take for their size."""


class Producer(Protocol):
    """Sends batches. Called from one thread."""

    def faults(self, topics: Sequence[str]) -> dict[str, ConnectorError]:
        """Return which of these topics cannot be written now, as far as the broker tells without being written to.

        Raises:
            ConnectorError: if no broker answers.
        """

    def send(self, messages: Sequence[Message], timeout_s: float) -> Outcome:
        """Send all, and return when it is clear what became of each."""

    def close(self) -> None:
        """Leave; what is pending is dropped."""


def blamed(
    outcome: Outcome, topics: frozenset[str], ask: Callable[[Sequence[str]], dict[str, ConnectorError]]
) -> dict[str, ConnectorError]:
    """Return which topics refuse what is for them, and why.

    Args:
        outcome: of sending.
        topics: all that were sent to.
        ask: returns what the broker tells of topics that it was silent about; raises if no broker answers.

    Raises:
        ConnectorError: if Kafka takes nothing now: it says so, or is silent and knows of nothing wrong with a topic.
    """
    failures = outcome.failures
    for failure in failures.values():
        if failure.blame is Blame.KAFKA:
            raise failure.error
    silent = [topic for topic, failure in failures.items() if failure.blame is Blame.OPEN]
    found = {topic: failure.error for topic, failure in failures.items()}
    if not silent:
        return found
    try:
        faults = ask(silent)
    except ConnectorError:
        raise found[silent[0]] from None
    if not faults and len(silent) == len(topics):
        raise found[silent[0]]
    return found | faults


def missing(topic: str) -> ConnectorError:
    """Return what a person is told of a topic that is not there."""
    detail = f"there is no topic {topic}, and the broker makes none: create it, or correct the name"
    return SinkUnavailable(f"writing to Kafka: {detail}")


def leaderless(topic: str) -> ConnectorError:
    """Return what a person is told of a topic with a partition that no broker leads."""
    detail = f"topic {topic} has a partition without a leader: look after the brokers that hold it"
    return SinkUnavailable(f"writing to Kafka: {detail}")


def forbidden(topic: str) -> ConnectorError:
    """Return what a person is told of a topic that may not be written."""
    return Misconfigured(f"writing to Kafka: topic {topic} may not be written: give its user the right to write it")
