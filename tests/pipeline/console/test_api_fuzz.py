"""Whatever is sent to the API: no 500, and answers as the description says, by schemathesis over the OpenAPI."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pipeline.console.answers import Role
from pipeline.console.app import create_app
from pipeline.console.auth import Token
from pipeline.console.limits import RateLimit
from pipeline.console.server import ConsoleServer
from pipeline.health import Probes
from tests.pipeline.console.console_parts import GUARD, console

TOKEN = Token("fuzz", "f" * 32, Role.ACT)
HEADERS = {"Authorization": f"Bearer {TOKEN.secret}", **GUARD}


@pytest.fixture(scope="module")
def served() -> Iterator[ConsoleServer]:
    """A console that takes as many requests as come."""
    with tempfile.TemporaryDirectory() as folder:
        one = console(Path(folder), tokens=[TOKEN])
        probes = Probes(one.status, one.registry, "1.2.3")
        app = create_app(
            one.answers, one.events, probes, one.keeper, one.asking, requests=RateLimit(per_s=1e6, burst=1e6)
        )
        with ConsoleServer(app, "127.0.0.1", 0, on_close=one.events.close) as listening:
            yield listening


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
def test_no_request_is_too_odd(served: ConsoleServer, mode: schemathesis.GenerationMode) -> None:
    """Protects from stack traces, and from a description that promises what is not so."""
    checks = [
        schemathesis.checks.not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    address = f"http://127.0.0.1:{served.port}/api/openapi.json"
    # Events never end: what they send is tested by itself.
    schema = schemathesis.openapi.from_url(address, headers=HEADERS).exclude(path="/api/events")
    operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) >= 16
    asked = []
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=8,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        def ask(case: Any) -> None:
            case.call_and_validate(headers=HEADERS, checks=checks)

        try:
            ask()
        except Unsatisfiable:
            continue  # it takes nothing, so nothing can be wrong with it
        asked.append(operation.label)
    assert len(asked) >= 11
