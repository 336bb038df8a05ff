"""Builds the HTTP side from the configuration: the probes alone, or the console and its API beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from connectors.alert_store import AlertStore
from connectors.errors import Misconfigured
from connectors.site_store import SiteStore
from models.registry import Registry, StoredModel
from pipeline.casebook import sites
from pipeline.config import Config, HttpConfig, effective
from pipeline.config_streams import StreamConfig
from pipeline.health import HealthServer, Probes
from pipeline.history import HistoryError, HistoryStore
from pipeline.housekeeping import Housekeeping
from pipeline.incident import AlertMessage
from pipeline.live import Live
from pipeline.metrics import Metrics, version
from pipeline.metrics_entities import EntityMetrics

if TYPE_CHECKING:
    from pipeline.console.auth import Gatekeeper
    from pipeline.console.sources import ShownStream


class Listening(Protocol):
    """A server that listens; left, it stops."""

    @property
    def port(self) -> int:
        """Where it listens."""


class Faces:
    """What people and machines reach over HTTP. ``said`` may be called from the loop: it returns at once."""

    def __init__(
        self,
        server: HealthServer | AbstractContextManager[Listening],
        said: Callable[[Sequence[AlertMessage]], None],
        close: Callable[[], None],
    ) -> None:
        self._server = server
        self._close = close
        self.said = said

    def __enter__(self) -> Faces:
        self.port = self._server.__enter__().port
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(None, None, None)
        self._close()


def build_faces(
    config: Config,
    metrics: Metrics,
    beside: Housekeeping,
    live: Live,
    *,
    undelivered: Callable[[], int] | None = None,
) -> Faces:
    """Return the HTTP side that ``config`` describes; it listens already.

    Args:
        config: everything.
        metrics: of the daemon.
        beside: its housekeeping.
        live: the newest steps.
        undelivered: how many messages wait for their receivers.

    Raises:
        OSError: if it cannot listen there.
        Misconfigured: if a place that is named cannot be used at all, the certificate included.
    """
    http = config.http
    if not http.console:
        server = HealthServer(
            metrics.status, metrics.registry, version(), http.host, http.port,
            notes=beside.notes, train=beside.train, training=beside.training, entities=_entities(config, metrics, live),
        )  # fmt: skip
        return Faces(server, _say_nothing, _do_nothing)
    return _console(config, metrics, beside, live, undelivered)


def _entities(config: Config, metrics: Metrics, live: Live) -> EntityMetrics | None:
    shown = config.metrics
    if not shown.per_entity:
        return None
    site_of = {stream.name: sites(stream.site_of) for stream in config.streams}
    return EntityMetrics(
        live,
        metrics.registry,
        shown.max_series,
        shown.idle.total_seconds(),
        lambda stream, entity: site_of[stream](entity),
    )


def _console(
    config: Config, metrics: Metrics, beside: Housekeeping, live: Live, undelivered: Callable[[], int] | None
) -> Faces:
    from pipeline.console.answers import Answers
    from pipeline.console.app import create_app
    from pipeline.console.asking import Asking
    from pipeline.console.events import Events
    from pipeline.console.page_gate import PageGate
    from pipeline.console.pages import router
    from pipeline.console.server import ConsoleServer
    from pipeline.console.sources import Sources

    http = config.http
    _require_certificate(http)
    directory = config.history.directory
    try:
        history = None if directory is None else HistoryStore(directory)
    except HistoryError as error:
        raise Misconfigured(f"history.directory: {error}") from error
    url = config.database.url.get_secret_value()
    store, registry_of_sites = AlertStore(url), SiteStore(url)
    sources = Sources(
        streams={stream.name: _shown(stream) for stream in config.streams},
        store=store,
        registry=Registry(config.models.directory),
        history=history,
        live=live,
        status=metrics.status,
        figures=metrics.registry,
        sites=registry_of_sites,
        version=version(),
        config_text=effective(config),
        lookalikes_us=round(config.feedback.lookalikes_for.total_seconds() * 1e6),
        notes=beside.notes,
        train=beside.train,
        training=beside.training,
        undelivered=undelivered,
        mismatch=lambda stream, model: _mismatch(config, stream, model),
    )
    answers, asking, events = Answers(sources), Asking(), Events(live, metrics.status)
    probes = Probes(metrics.status, metrics.registry, version(), beside.notes, _entities(config, metrics, live))
    app = create_app(
        answers, events, probes, _keeper(http), asking,
        pages=[router(answers, PageGate(), asking)], tls=http.cert_file is not None,
    )  # fmt: skip
    try:
        server = ConsoleServer(
            app, http.host, http.port, cert_file=http.cert_file, key_file=http.key_file, on_close=events.close
        )
    except BaseException:
        asking.close()
        raise

    def close() -> None:
        app.close()
        asking.close()
        store.close()
        registry_of_sites.close()

    return Faces(server, events.said, close)


def _require_certificate(http: HttpConfig) -> None:
    """Raise Misconfigured where TLS cannot be spoken with what is configured."""
    if http.cert_file is None:
        return
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(http.cert_file, http.key_file)
    except OSError as error:  # SSLError is one too
        key = http.key_file or http.cert_file
        raise Misconfigured(
            f"http.cert_file {http.cert_file} and its key {key} cannot be used: {error.strerror or error}; both have to"
            " be PEM, and belong together"
        ) from error


def _keeper(http: HttpConfig) -> Gatekeeper:
    from pipeline.console.answers import Role
    from pipeline.console.auth import Gatekeeper, Token

    public = urlsplit(http.public_url or "")
    secure = http.cert_file is not None or public.scheme == "https"
    tokens = [Token(token.name, token.token.get_secret_value(), Role(token.role)) for token in http.tokens]
    origin = [f"{public.scheme}://{public.netloc}"] if public.netloc else []
    hosts = [host for host in (http.host, public.hostname) if host]
    return Gatekeeper(tokens, hosts=hosts, origins=origin, secure=secure)


def _mismatch(config: Config, stream: str, model: StoredModel) -> str | None:
    from pipeline.judging_fitness import mismatch

    return mismatch(config.stream(stream), model)


def _shown(stream: StreamConfig) -> ShownStream:
    from pipeline.console.sources import ShownLimit, ShownStream

    needed, window = stream.alerts.n_of_m
    limits = tuple(
        ShownLimit(channel.name, limit.name, limit.above, limit.below)
        for channel in stream.channels
        for limit in channel.limits
    )
    names, units = tuple(c.name for c in stream.channels), tuple(c.unit for c in stream.channels)
    return ShownStream(stream.name, names, units, stream.step_us, limits, needed, window)


def _say_nothing(messages: Sequence[AlertMessage]) -> None:
    """Nobody listens."""


def _do_nothing() -> None:
    """There is nothing to close."""
