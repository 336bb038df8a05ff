"""Sources of kind ``http``: they listen, and senders push to them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from connectors.source import ReadingSource
from pipeline.config_fields import Count, Name, PositiveDuration, Secret, Section, Size
from pipeline.ingest.kind import SourceKind, SourceOptions, SourcePlace


class SenderOptions(Section):
    """Somebody who may push."""

    name: Name = Field(examples=["telegraf"])
    """The user in basic authentication; dead letters are keyed by it."""
    token: Secret = Field(examples=["file:secrets/telegraf"])
    """Sent as ``Authorization: Bearer TOKEN``, ``Token TOKEN``, or as the password of basic authentication."""
    prefix: str = Field(default="", max_length=100)
    """Put before the entities of what it sends, so that no sender can speak for another's."""


class LabelOptions(Section):
    """How the labels (tags, attributes) of a series become its entity; what is left stands behind the channel."""

    entity: tuple[Name, ...] = ()
    """Their values, joined by ``/``, are the entity; empty: all that are not ignored."""
    ignore: tuple[Name, ...] = ()
    """Labels that tell no two series apart."""


class LineOptions(LabelOptions):
    """How lines of InfluxDB's line protocol are read."""

    channel: Literal["field", "measurement_field"] = "field"
    text: Literal["refuse", "ignore"] = "refuse"
    """What is done about fields that are texts."""


class HttpOptions(SourceOptions):
    """Where to listen, for whom, and what their names mean."""

    kind: Literal["http"]
    host: Name = "127.0.0.1"
    port: Count = Field(default=9466, le=65535)
    """0 takes any free one."""
    senders: tuple[SenderOptions, ...] = ()
    """Who may push; empty: whoever comes from this machine, and not through a proxy. A proxy that adds no header such
    as X-Forwarded-For cannot be told: behind one name senders."""
    open_to_all: bool = False
    """Without senders, whether everybody may push who reaches the port."""
    cert_file: Path | None = None
    """PEM; with it, TLS is spoken."""
    key_file: Path | None = None
    max_body: Size = 16 << 20
    """Of one request, as it comes and without compression; beyond it senders get 413. All requests together may hold
    four times as much, and sixteen times as much once decoded; beyond that they get 429."""
    quiet_after: PositiveDuration | None = None
    """The source is said to fail when nobody has sent anything for so long; none: senders may be silent."""
    line_protocol: LineOptions = Field(default_factory=LineOptions)
    remote_write: LabelOptions = LabelOptions(entity=("instance",), ignore=("job",))
    otlp: LabelOptions = LabelOptions(entity=("host.name", "service.name", "service.instance.id"))

    @model_validator(mode="after")
    def _knows_its_senders(self) -> HttpOptions:
        from connectors.push_senders import is_loopback

        bare = [one.name for one in self.senders if not one.token.get_secret_value()]
        if bare:
            raise ValueError(f"the token of sender {bare[0]} is empty | a secret; look at its file or variable")
        names, tokens = {one.name for one in self.senders}, {one.token.get_secret_value() for one in self.senders}
        if len(names) < len(self.senders) or len(tokens) < len(self.senders):
            raise ValueError("two senders have one name or one token | each name and each token once")
        if not (self.senders or self.open_to_all or is_loopback(self.host)):
            raise ValueError(
                f"host {self.host} is reached from other machines, and there are no senders | at least one sender with "
                "a token, open_to_all: true, or host: 127.0.0.1"
            )
        return self


def _build(options: HttpOptions, place: SourcePlace) -> ReadingSource:
    from connectors.codec_line_protocol import LineMapping
    from connectors.http_push import HttpPush
    from connectors.label_mapping import LabelMapping
    from connectors.push_app import PushMappings
    from connectors.push_senders import Sender

    lines, remote_write, otlp = (
        LabelMapping(labels.entity, labels.ignore)
        for labels in (options.line_protocol, options.remote_write, options.otlp)
    )
    text = options.line_protocol.text == "ignore"
    return HttpPush(
        options.host,
        options.port,
        senders=[Sender(one.name, one.token.get_secret_value(), one.prefix) for one in options.senders],
        open_to_all=options.open_to_all,
        mappings=PushMappings(LineMapping(lines, options.line_protocol.channel, text), remote_write, otlp),
        most_body_bytes=options.max_body,
        max_ahead_us=round(options.max_ahead.total_seconds() * 1e6),
        quiet_after_s=None if options.quiet_after is None else options.quiet_after.total_seconds(),
        cert_file=options.cert_file,
        key_file=options.key_file,
        now_us=place.now_us,
    )


KIND = SourceKind(
    HttpOptions, _build, "what is pushed over HTTP: JSON, SenML, CloudEvents, line protocol, remote-write, OTLP"
)
