"""What the answers look like: every key that pages and the API may rely on. Times are RFC 3339 in UTC, or ``…_us``.

Texts are as their senders wrote them, hostile ones included: whoever shows them escapes them. Numbers are finite; what
is not known is null.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from pipeline.console.site_shapes import SiteDetail

Number = float | None


class Label(TypedDict):
    """An operator's word; ``effect`` and ``ends`` are there in the answer about one incident."""

    id: str
    kind: str
    reason: str
    author: str
    until: str | None
    created: str | None
    withdrawn: str | None
    silenced: int
    effect: str | None
    ends: str | None


class IncidentLine(TypedDict):
    """An incident in a list."""

    id: str
    stream: str
    entity: str
    kind: str
    name: str
    site: str
    severity: str
    phase: str
    tier: str
    """none, watch or alert."""
    score: Number
    started: str | None
    opened: str | None
    time: str | None
    resolved: str | None
    """null while it is open."""
    reason: str
    model_version: str
    flapping: bool
    note: str
    label: Label | None


class IncidentPage(TypedDict):
    """Some of the incidents that fit, newest first."""

    incidents: list[IncidentLine]
    total: int
    offset: int
    limit: int


class Series(TypedDict):
    """What was measured, and what was expected, of one entity; lists by channel, then by time."""

    stream: str
    entity: str
    channels: list[str]
    units: list[str]
    step_us: int
    times_us: list[int]
    """[T] ends of steps, ascending."""
    values: list[list[Number]]
    """[C][T]; likewise the next three."""
    expected: list[list[Number]]
    lower: list[list[Number]]
    upper: list[list[Number]]
    score: list[Number]
    """[T]; 1 is the boundary."""
    level: list[int]
    """[T] 0 none, 1 watch, 2 alert was open."""
    from_us: int
    to_us: int
    thinned: bool
    """Of several steps that would lie on one spot only the one with the highest score is in it."""
    band_coverage: float
    """Share of values that lie within the band while nothing is wrong."""
    trouble: str | None
    """What of it could not be had, and why."""


class Forecast(TypedDict):
    """What is expected next; lists by channel, then by horizon."""

    made_us: int
    times_us: list[int]
    """[N]"""
    values: list[list[Number]]
    """[C][N]"""
    quantiles: dict[str, list[list[Number]]]
    """Name, such as "0.05", to [C][N]; empty where the spread is not known."""


class Limit(TypedDict):
    """A line that a channel should not cross."""

    channel: str
    name: str
    above: Number
    below: Number


class Moment(TypedDict):
    """Something past that the model looked at."""

    what: str
    """recent, lag (of the attention program), neighbour or example."""
    text: str
    weight: Number
    time: str | None


class Attention(TypedDict):
    """Where the model looked when one message was written."""

    time: str
    moments: list[Moment]
    program_share: Number
    """Share of what is listed that lies on the attention program's lags."""


class Message(TypedDict):
    """What was said about an incident at one moment."""

    sequence: int
    phase: str
    time: str
    reason: str


class Lookalike(TypedDict):
    """A past incident, and how alike it is: 0 to 1."""

    incident: IncidentLine
    likeness: float


class Earlier(TypedDict):
    """Why it was not told of earlier."""

    text: str
    score_before: Number
    """The highest score within the window before its first evidence."""
    steps_to_open: int
    """Steps from the first evidence to the opening."""


class IncidentDetail(TypedDict):
    """Everything known of an incident."""

    incident: IncidentLine
    channels: list[dict[str, Any]]
    """Each channel, unit, observed, expected, lower, upper, share (0 to 1), sign; empty for kinds without."""
    witnesses: dict[str, Number]
    explanation: dict[str, Any]
    attention: list[Attention]
    """By message, oldest first: the rows of a heat map."""
    nearest: dict[str, Any] | None
    messages: list[Message]
    labels: list[Label]
    """All that it has or had, oldest first."""
    similar: list[Lookalike]
    earlier: Earlier | None
    limits: list[Limit]
    series: Series
    site: SiteDetail | None
    """Where the entity is, as far as its source tells."""


class EntityLine(TypedDict):
    """An entity in a list."""

    entity: str
    score: Number
    level: int
    warming: bool
    values: list[Number]
    """[C] of the newest step."""


class EntityPage(TypedDict):
    """Some of a stream's entities."""

    stream: str
    channels: list[str]
    units: list[str]
    time: str | None
    """The newest step's."""
    entities: list[EntityLine]
    total: int
    offset: int
    limit: int


class EntityDetail(TypedDict):
    """One entity over a time range."""

    stream: str
    entity: str
    known: bool
    """Whether this process scores it now; its history may be there all the same."""
    now: EntityLine | None
    series: Series
    forecast: Forecast | None
    limits: list[Limit]
    incidents: list[IncidentLine]
    """Those that overlap the range, newest first."""
    site: SiteDetail | None
    """Where it is, as far as its source tells."""
    trouble: list[str]


class StreamLine(TypedDict):
    """How a stream is, now."""

    stream: str
    time: str | None
    step_us: int
    entities: int
    warming: int
    watches: int
    alerts: int
    score_max: Number
    event_lag_s: Number
    model_version: str | None


class Overview(TypedDict):
    """What is wrong now."""

    time: str
    version: str
    alive: bool
    ready: bool
    reasons: list[str]
    notes: list[str]
    streams: list[StreamLine]
    open: list[IncidentLine]
    """Alerts first, then the newest; at most as many as were asked for."""
    open_total: int
    silent: list[IncidentLine]
    undelivered: int | None
    """Messages that receivers have not taken yet; null where nobody counts them."""
    troubles: list[str]
    """What could not be asked, and why; the rest is all there is."""


class Models(TypedDict):
    """A stream's models, who is in charge, and why."""

    stream: str
    champion: str | None
    challenger: str | None
    challenger_since: str | None
    previous: str | None
    barred: dict[str, str]
    trouble: list[str]
    versions: list[dict[str, Any]]
    """Newest first, as ``vedette models list --json``, with ``losses``, ``judgement`` and ``decisions``."""
    decisions: list[dict[str, Any]]
    """Newest first."""
    training: dict[str, Any] | None


class Partition(TypedDict):
    """A partition that this process reads."""

    topic: str
    partition: str
    lag: Number


class System(TypedDict):
    """How the daemon itself is."""

    time: str
    version: str
    alive: bool
    ready: bool
    reasons: list[str]
    notes: list[str]
    tick_age_s: float
    partitions: list[Partition]
    figures: dict[str, Number]
    """Metrics without labels by name, such as vedette_checkpoint_timestamp_seconds."""
    streams: list[StreamLine]
    undelivered: int | None
    config: str
    """The effective config as YAML, secrets masked."""


class AuditLine(TypedDict):
    """Something that somebody did, or tried to."""

    id: str
    time: str
    who: str
    role: str
    action: str
    subject: str
    detail: str
    outcome: str
    """done, refused, failed, or begun where it is not known how it ended."""


class AuditPage(TypedDict):
    """What was done, newest first."""

    actions: list[AuditLine]
    total: int
    offset: int
    limit: int


class Done(TypedDict):
    """What came of an action."""

    outcome: str
    text: str
    detail: dict[str, Any]
