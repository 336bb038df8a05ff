"""Log lines can be read by machines, and a flood of them stays small."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from pipeline.logs import RepeatLimiter, configure


class Clock:
    """A monotonic clock that is turned by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


def written(style: str, limiter: RepeatLimiter | None = None, level: str = "info") -> io.StringIO:
    file = io.StringIO()
    configure(level, style, file, limiter)  # type: ignore[arg-type]  # literals by parameter
    return file


def test_json_lines_hold_what_was_said() -> None:
    """Protects log pipelines: one JSON object a line, whatever is in it."""
    file = written("json")
    structlog.get_logger("vedette.x").warning("not kept", partition=3, error=OSError("line\nbreak"), when={1, 2})
    line = json.loads(file.getvalue())
    said = {name: line[name] for name in ("msg", "level", "logger", "partition")}
    assert said == {"msg": "not kept", "level": "warning", "logger": "vedette.x", "partition": 3}
    assert line["time"].endswith("Z")
    assert file.getvalue().count("\n") == 1


def test_logfmt_stays_one_line_with_any_field() -> None:
    """Protects grep: line breaks, quotes and odd keys do not break a line."""
    file = written("logfmt")
    structlog.get_logger("vedette.x").info("hello there", **{"a key": 'say "x"\n', "none": None})
    assert file.getvalue().count("\n") == 1
    assert 'level=info logger=vedette.x msg="hello there"' in file.getvalue()
    assert "a_key=" in file.getvalue()


def test_levels_below_are_silent() -> None:
    """Protects production from debug output."""
    file = written("logfmt", level="warning")
    structlog.get_logger().info("not said")
    assert file.getvalue() == ""


def test_repeats_are_said_a_few_times_and_then_counted() -> None:
    """Protects the disk in an outage, and still tells how often."""
    clock = Clock()
    file = written("json", RepeatLimiter(burst=2, window_s=10, monotonic=clock))
    log = structlog.get_logger("vedette.x")
    for number in range(50):
        log.warning("the source is away", attempt=number)
    log.warning("something else")
    clock.now_s = 10.0
    log.warning("the source is away", attempt=50)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(line["msg"], line.get("attempt"), line.get("left_out")) for line in lines] == [
        ("the source is away", 0, None),
        ("the source is away", 1, None),
        ("something else", None, None),
        ("the source is away", 50, 48),
    ]


def test_the_limiter_forgets_the_oldest() -> None:
    """Protects the memory from phrases that never repeat."""
    limiter = RepeatLimiter(burst=1)
    for number in range(5000):
        limiter(None, "info", {"event": str(number)})
    limiter(None, "info", {"event": "0"})
    with pytest.raises(structlog.DropEvent):
        limiter(None, "info", {"event": "4999"})


def test_libraries_speak_in_the_same_form_and_are_limited_too() -> None:
    """Protects from kafka-python's warnings in another format, hundreds a second."""
    file = written("json", RepeatLimiter(burst=2))
    for number in range(9):
        logging.getLogger("kafka.conn").warning("node %s is away", number)
    logging.getLogger("kafka.conn").info("chatter")
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(line["logger"], line["msg"]) for line in lines] == [("kafka.conn", f"node {n} is away") for n in (0, 1)]
