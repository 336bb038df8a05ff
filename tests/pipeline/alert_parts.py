"""Alert messages and a database that can be taken away, for the tests of what lies between the two."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry

from connectors.alert_store_rows import IncidentRow
from connectors.errors import StoreRefused, StoreUnavailable
from pipeline.incident import AlertMessage, Json, Kind, Phase, Severity, Tier, incident_id
from pipeline.metrics import Metrics

START_US = 1_772_409_600_000_000
"""2026-03-02T00:00:00Z."""


def id_of(n: int) -> str:
    """Return the id of incident ``n``."""
    return incident_id("air", f"station-{n}", Kind.ANOMALY, n)


def message(n: int = 0, sequence: int = 0, **changes: Any) -> AlertMessage:
    """Return message ``sequence`` about incident ``n``."""
    at_us = START_US + n * 60_000_000
    channel: dict[str, Json] = {
        "channel": "pm25",
        "unit": "ug/m3",
        "observed": 182.0,
        "expected": 40.0,
        "lower": 20.0,
        "upper": 60.0,
    }
    plain = AlertMessage(
        incident_id=id_of(n),
        phase=Phase.UPDATED if sequence else Phase.OPENED,
        sequence=sequence,
        stream="air",
        entity=f"station-{n}",
        kind=Kind.ANOMALY,
        name="",
        site="north",
        tier=Tier.ALERT,
        severity=Severity.WARNING,
        time_us=at_us + sequence,
        first_step=n,
        started_us=at_us - 60_000_000,
        opened_us=at_us,
        resolved_us=None,
        score=1.5,
        alpha=0.01,
        reason=f"PM2.5 is 182 µg/m³, far above the 20 to 60 that were expected ({n}).",
        explanation={"channels": [{**channel, "share": 1.0, "sign": 1}], "attention": [], "context": [1.0, 2.0]},
        model_version="lstm-7",
        flapping=False,
        note="",
        told_us=at_us,
    )
    return replace(plain, **changes)


class FakeStore:
    """Keeps rows in a list. ``away`` refuses everything for now, ``poison`` one entity for ever; ``open`` cleared
    makes every call hang."""

    def __init__(self) -> None:
        self.rows: list[IncidentRow] = []
        self.counts: Counter[str] = Counter()
        self.oldest_us: list[int] = []
        self.away = False
        self.defect = False
        self.poison = ""
        self.open = threading.Event()
        self.open.set()
        self.changed = threading.Condition()
        self.calls = 0

    def keep(self, rows: Sequence[IncidentRow]) -> None:
        """Keep them all, or none."""
        self._answer()
        if any(row.entity == self.poison for row in rows):
            raise StoreRefused("will not have it")
        with self.changed:
            self.rows += rows
            self.changed.notify_all()

    def silenced(self, counts: Mapping[str, int]) -> None:
        """Add them."""
        self._answer()
        with self.changed:
            self.counts.update(counts)
            self.changed.notify_all()

    def retain(self, oldest_us: int) -> int:
        """Note it."""
        self._answer()
        with self.changed:
            self.oldest_us.append(oldest_us)
            self.changed.notify_all()
        return 0

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Return when ``done``, which looks at this store, is True; fail after a while."""
        with self.changed:
            assert self.changed.wait_for(done, 30.0)

    def said(self) -> list[tuple[str, int]]:
        """Return (entity, sequence) of the rows, in their order."""
        return [(row.entity, row.sequence) for row in self.rows]

    def _answer(self) -> None:
        with self.changed:
            self.calls += 1
            self.changed.notify_all()
        self.open.wait()
        if self.away:
            raise StoreUnavailable("gone fishing")
        if self.defect:
            raise ZeroDivisionError("a defect")


class Numbers:
    """Metrics in a registry of their own, and their values."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)

    def value(self, name: str, **labels: str) -> float | None:
        """Return a metric's value."""
        return self.registry.get_sample_value(f"vedette_{name}", labels)
