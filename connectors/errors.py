"""What can go wrong outside.

ConnectorError
├── SourceUnavailable   retriable: the broker is away; back off and poll again
├── SourceRefused       not retriable: the source's peer will not serve us; a person has to look
├── SinkUnavailable     retriable: nothing was dropped; flush again
├── SpoolFull           retriable: the spool of the ingest process has no room; nothing was taken
├── SpoolUnavailable    retriable: the spool cannot be written or read now: a full disk, say
├── StoreUnavailable    retriable: the alert database is away, full, locked for too long or read-only
│   └── StoreMissing    there is none yet
├── StoreRefused        not retriable: the alert database will never take this row, whatever else it takes
├── ReceiverUnavailable retriable: a receiver of alerts is away, too slow, or asks to come back later
├── ReceiverRefused     not retriable: a receiver of alerts will never take this message
├── OutboxUnavailable   retriable: the outbox cannot be written or read now: a full disk, say
├── Misconfigured       not retriable: wrong credentials, missing topic without the right to create it, bad address
└── DamagedRecords      not retriable by itself: a batch failed its checksum; names topic, partition and offset
"""

from __future__ import annotations


class ConnectorError(Exception):
    """Something outside failed. ``retriable`` says whether trying again can help."""

    retriable = False


class SourceUnavailable(ConnectorError):
    """The source cannot be reached now."""

    retriable = True


class SourceRefused(ConnectorError):
    """The source's peer will not serve us: no key, no money, no right, or the service is gone."""


class SpoolFull(ConnectorError):
    """There is no room for more readings; nothing was taken.

    Args:
        text: what is full, and of how much.
        retry_after_s: when it is worth trying again.
    """

    retriable = True

    def __init__(self, text: str, retry_after_s: float = 5.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class SpoolUnavailable(ConnectorError):
    """The spool cannot be used now; nothing of what was asked for was done."""

    retriable = True


class SinkUnavailable(ConnectorError):
    """The sink did not acknowledge in time."""

    retriable = True


class StoreUnavailable(ConnectorError):
    """The database cannot be used now; nothing of what was asked for was done."""

    retriable = True


class StoreMissing(StoreUnavailable):
    """There is no database yet, and it was not to be made."""


class StoreRefused(ConnectorError):
    """The database does not take this row; others it may."""


class ReceiverUnavailable(ConnectorError):
    """The receiver did not take the message this time.

    Args:
        text: what happened, without secrets.
        cause: one word from a bounded set, for metrics: ``unreachable``, ``timeout``, ``busy``, ``failing``,
            ``unwritable``.
        retry_after_s: how long it asks to be left alone; None where it does not say.
    """

    retriable = True

    def __init__(self, text: str, cause: str = "unreachable", retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.cause = cause
        self.retry_after_s = retry_after_s


class ReceiverRefused(ConnectorError):
    """The receiver does not take this message; others it may."""


class OutboxUnavailable(ConnectorError):
    """The outbox cannot be used now; nothing of what was asked for was done."""

    retriable = True


class Misconfigured(ConnectorError):
    """What the configuration says cannot work; a person has to change it."""


class DamagedRecords(ConnectorError):
    """Records are damaged in the log; the message names topic, partition and offset."""
