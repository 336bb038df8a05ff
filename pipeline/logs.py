"""Logs go to stderr, one line each, as logfmt or JSON; what repeats is said a few times and then counted."""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_BURST = 3
_WINDOW_S = 10.0
_MAX_EVENTS = 1000


class RepeatLimiter:
    """Lets an event through ``burst`` times per window; the next one after it says how many were left out.

    An event is its logger, level and phrase; fields do not matter. It remembers 1,000 events and forgets the oldest.
    """

    def __init__(
        self, burst: int = _BURST, window_s: float = _WINDOW_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._window_s = window_s
        self._monotonic = monotonic
        self._seen: OrderedDict[tuple[str, str, str], list[float]] = OrderedDict()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Pass ``event`` on or raise DropEvent; adds ``left_out`` to the first one after a silence."""
        key = (str(event.get("logger", "")), method, str(event.get("event", "")))
        now_s = self._monotonic()
        start_s, count = self._seen.pop(key, (now_s, 0))
        if now_s - start_s >= self._window_s:
            if count > self._burst:
                event["left_out"] = int(count - self._burst)
            start_s, count = now_s, 0
        self._seen[key] = [start_s, count + 1]
        if len(self._seen) > _MAX_EVENTS:
            self._seen.popitem(last=False)
        if count >= self._burst:
            raise structlog.DropEvent
        return event


class _NamedLogger(structlog.WriteLogger):
    """A logger that knows its name."""

    def __init__(self, file: TextIO, name: str) -> None:
        super().__init__(file)
        self.name = name


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    style: Literal["logfmt", "json"] = "logfmt",
    file: TextIO | None = None,
    limiter: RepeatLimiter | None = None,
) -> None:
    """Make all logs of this process, and warnings of libraries that use ``logging``, come out in one form.

    Args:
        level: the lowest that is written.
        style: how a line looks.
        file: where to; none: stderr.
        limiter: none: 3 of the same in 10 seconds.
    """
    target = file if file is not None else sys.stderr
    limit = limiter if limiter is not None else RepeatLimiter()
    shared, render = _processors(), _renderers(style)
    structlog.configure(
        processors=[_add_name, limit, *shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *names: _NamedLogger(target, str(names[0]) if names else "vedette"),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[_add_name, *shared], processors=[drop_meta, *render])
    )
    handler.addFilter(_Limited(limit))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(_LEVELS[level], logging.WARNING))


class _Limited(logging.Filter):
    """Limits repeats of what libraries say; their phrase is the text before its arguments are filled in."""

    def __init__(self, limiter: RepeatLimiter) -> None:
        super().__init__()
        self._limiter = limiter

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether ``record`` is let through."""
        try:
            self._limiter(None, record.levelname, {"logger": record.name, "event": str(record.msg)})
        except structlog.DropEvent:
            return False
        return True


def _processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]


def _renderers(style: str) -> list[Processor]:
    rename: list[Processor] = [structlog.processors.EventRenamer("msg")]
    if style == "json":
        return [*rename, structlog.processors.JSONRenderer(default=str, ensure_ascii=False)]
    order = ["time", "level", "logger", "msg"]
    return [*rename, _plain_keys, structlog.processors.LogfmtRenderer(key_order=order, drop_missing=True)]


def _add_name(logger: Any, method: str, event: EventDict) -> EventDict:
    name = getattr(event.get("_record", logger), "name", None)
    if name is not None:
        event.setdefault("logger", name)
    return event


def _plain_keys(logger: Any, method: str, event: EventDict) -> EventDict:
    """logfmt knows no spaces in keys, and would raise on them."""
    return {key.replace(" ", "_"): value for key, value in event.items()}
