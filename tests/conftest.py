"""What all tests share: one thread for numerics, so that results and load do not depend on the machine's cores, logs
that no test configures for the next one, properties without a deadline, which only a busy machine would miss, brokers
that are started once, and an order in which the longest files begin first."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# A Kafka that lives for a minute or two is never paid back what its second compiler costs.
os.environ.setdefault("KAFKA_OPTS", "-XX:TieredStopAtLevel=1")

pytest_plugins = ["tests.kafka_broker"]
"""Its brokers: a fixture that a module or another conftest imports is one of its own, and starts one more."""

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

_LONGEST_FIRST = ("tests/end_to_end/", "tests/faults/", "tests/deploy/", "tests/browser/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: workers that share the suite then end at about the same time."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST_FIRST))


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Undo what a test's command line does to the logs: its stderr is closed when the next test writes to it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
    root.handlers, root.level = handlers, level
