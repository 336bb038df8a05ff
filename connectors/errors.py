"""What can go wrong outside.

ConnectorError
├── SourceUnavailable   retriable: the broker is away; back off and poll again
├── SinkUnavailable     retriable: nothing was dropped; flush again
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


class SinkUnavailable(ConnectorError):
    """The sink did not acknowledge in time."""

    retriable = True


class Misconfigured(ConnectorError):
    """What the configuration says cannot work; a person has to change it."""


class DamagedRecords(ConnectorError):
    """Records are damaged in the log; the message names topic, partition and offset."""
