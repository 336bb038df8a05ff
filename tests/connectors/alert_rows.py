"""Rows for the tests of the alert store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from connectors.alert_store_rows import IncidentRow

HOSTILE = (
    "null\x00byte",
    "\ud800 alone, \udfff too",
    "\\u0000 \\\\u0000 \\",
    "'; DROP TABLE incidents; --",
    "ünïcode ✓ 🚰 line\nbreak\r\t\x1b[31m",
    "%_" * 50,
    "a" * 100_000,
    "",
)
LARGEST = (1 << 63) - 1


def number(n: int) -> str:
    """Return an incident's id."""
    return f"{n:032x}"


def row(n: int = 1, sequence: int = 0, **changes: Any) -> IncidentRow:
    """Return what message ``sequence`` says about incident ``n``."""
    plain = IncidentRow(
        id=number(n),
        stream="air",
        entity=f"station-{n}",
        kind="anomaly",
        name="",
        site="north",
        tier=1,
        severity="warning",
        phase="updated" if sequence else "opened",
        sequence=sequence,
        first_step=7,
        started_us=1_000 + n,
        opened_us=2_000 + n,
        time_us=2_000 + n + sequence,
        told_us=5_000 + sequence,
        score=1.5,
        alpha=0.01,
        reason=f"reason {sequence}",
        explanation={"channels": [{"channel": "pm25", "observed": 3.0}]},
        context=(1.0, 2.0),
        model_version="linear",
        body=f'{{"sequence": {sequence}}}',
    )
    return replace(plain, **changes)
