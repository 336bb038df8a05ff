"""What is said of a refused record beside its bytes."""

from __future__ import annotations

from connectors.reading import Rejected


def origin_headers(rejected: Rejected) -> list[tuple[str, bytes]]:
    """Return the headers of a dead letter: why it was refused, and where it came from."""
    origin = {
        "vedette-reason": str(rejected.reason),
        "vedette-detail": rejected.detail,
        "vedette-topic": rejected.topic,
        "vedette-partition": str(rejected.partition),
        "vedette-offset": str(rejected.offset),
    }
    return [(name, value.encode("utf-8", "backslashreplace")) for name, value in origin.items()]
