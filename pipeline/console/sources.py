"""What the answers are made from: facts of the streams, and the places that are asked. Nothing of it is the loop's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from connectors.alert_store import AlertStore
from connectors.errors import ConnectorError, StoreRefused
from connectors.site_store import SiteStore
from models.registry import Registry, StoredModel
from pipeline.console.troubles import Away, BadQuestion, NotThere
from pipeline.history import HistoryStore
from pipeline.live import Live
from pipeline.status import Status


@dataclass(frozen=True, slots=True)
class ShownLimit:
    """A line that a channel should not cross."""

    channel: str
    name: str
    above: float | None
    below: float | None


@dataclass(frozen=True, slots=True)
class ShownStream:
    """What is told of a stream that does not change while the daemon runs."""

    name: str
    channels: tuple[str, ...]
    units: tuple[str, ...]
    step_us: int
    limits: tuple[ShownLimit, ...] = ()
    needed: int = 1
    """So many odd steps within ``window`` open an incident."""
    window: int = 1


class Figures(Protocol):
    """A Prometheus registry, as far as it is asked here."""

    def restricted_registry(self, names: Sequence[str]) -> Any:
        """Return what collects the metrics with these names only."""


def _no_model_trouble(stream: str, model: StoredModel) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Sources:
    """The places that are asked. Each call into one may block: never from an event loop."""

    streams: Mapping[str, ShownStream]
    store: AlertStore
    registry: Registry
    history: HistoryStore | None
    live: Live
    status: Status
    figures: Figures
    sites: SiteStore | None = None
    """The registry of sites; None where nobody keeps one."""
    version: str = ""
    config_text: str = ""
    """The effective config, secrets masked."""
    lookalikes_us: int = 90 * 86_400_000_000
    """How long a false alarm without an end acts."""
    notes: Callable[[], Sequence[str]] = tuple
    train: Callable[[str | None], Mapping[str, Any]] | None = None
    training: Callable[[], Mapping[str, Any]] | None = None
    undelivered: Callable[[], int] | None = None
    """How many messages receivers have not taken yet; may raise ``ConnectorError``."""
    mismatch: Callable[[str, StoredModel], str | None] = _no_model_trouble
    """Why a model does not fit its stream any more."""
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000
    monotonic: Callable[[], float] = time.monotonic
    _rest: _Rest = field(default_factory=lambda: _Rest())

    def stream(self, name: str) -> ShownStream:
        """Return a stream; raises NotThere."""
        found = self.streams.get(name)
        if found is None:
            raise NotThere(f"there is no stream {name[:60]!r}; there are: {', '.join(self.streams)}")
        return found

    def now(self) -> datetime:
        """Return the wall clock."""
        return datetime.fromtimestamp(self.now_us() / 1e6, UTC)

    def asking_store(self) -> _Asking:
        """Return a context in which the database may be asked: its errors become Away, and it is left alone for a
        moment after one, so that a dead database holds up one question and not every one."""
        return _Asking(self)


@dataclass(slots=True)
class _Rest:
    until_s: float = 0.0
    why: str = ""


class _Asking:
    _PAUSE_S = 3.0

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def __enter__(self) -> AlertStore:
        rest = self._sources._rest
        if self._sources.monotonic() < rest.until_s:
            raise Away(rest.why)
        return self._sources.store

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, StoreRefused):
            raise BadQuestion(str(error)) from error
        if isinstance(error, ConnectorError):
            rest = self._sources._rest
            rest.why = str(error)
            rest.until_s = self._sources.monotonic() + self._PAUSE_S
            raise Away(str(error)) from error
