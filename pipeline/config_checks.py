"""What single values cannot tell: names said twice, limits that never clear, topics that two streams read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.config_errors import Path
from pipeline.config_streams import LimitConfig, MaintenanceConfig, StreamConfig
from pipeline.config_validation import Conflict
from pipeline.durations import format_duration
from pipeline.ingest.checks import ingest_conflicts
from pipeline.receiver_checks import receiver_conflicts

if TYPE_CHECKING:
    from pipeline.config import Config

_MAX_OPEN_STEPS = 1024
"""Steps that grace and revise may hold open at once; each costs memory for every entity and channel."""
_OURS = {
    "bootstrap_servers": "kafka.bootstrap_servers",
    "group_id": "kafka.group",
    "group_instance_id": "kafka.instance",
    "sasl_plain_password": "kafka.security.password",
    "ssl_password": "kafka.security.key_password",
    "client_id": "leave it out: it is set for each client",
    "enable_auto_commit": "leave it out: commits follow durable alerts",
    "isolation_level": "leave it out: it is read_committed",
    "auto_offset_reset": "leave it out: it is earliest",
    "key_deserializer": "leave it out: the codecs read bytes",
    "value_deserializer": "leave it out: the codecs read bytes",
}
"""Settings of kafka-python that are not passed through, and where to say them instead."""


def find_conflicts(config: Config, doubtful: frozenset[Path]) -> Iterator[Conflict]:
    """Yield everything in ``config`` that contradicts something else in it.

    Args:
        config: valid field by field.
        doubtful: paths whose values are stand-ins for wrong ones; what rests on them is not judged.
    """
    yield from _twice([stream.name for stream in config.streams], lambda index: ("streams", index, "name"), "stream")
    yield from _shared_topics(config)
    yield from ingest_conflicts(config)
    yield from _loops(config)
    yield from _security(config)
    yield from receiver_conflicts(config.outputs)
    for name in config.kafka.settings.keys() & _OURS.keys():
        yield ("kafka", "settings", name), None, "is not passed through", _OURS[name]
    for index, stream in enumerate(config.streams):
        inside = frozenset(path[2:] for path in doubtful if path[:2] == ("streams", index))
        checks = [_names(stream), _horizons(stream), _neighbours(stream)]
        checks += [_limits(stream, inside), _maintenance(stream, inside)]
        if ("step",) not in inside:
            checks += [_times(stream), _lags(stream)]
        if not inside & {("model", "hidden"), ("model", "attention", "kind")}:
            checks.append(_heads(stream))
        for path, value, problem, allowed in itertools.chain.from_iterable(checks):
            yield ("streams", index, *path), value, problem, allowed


def _twice(names: Sequence[str], where: Callable[[int], Path], what: str) -> Iterator[Conflict]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield where(index), name, f"is the name of another {what} too", "each name once"


def _shared_topics(config: Config) -> Iterator[Conflict]:
    owner: dict[str, str] = {}
    for index, stream in enumerate(config.streams):
        for position, topic in enumerate(stream.topics):
            if topic in owner:
                problem = f"is read by stream {owner[topic]!r} already"
                yield ("streams", index, "topics", position), topic, problem, "each topic in one stream, once"
            owner.setdefault(topic, stream.name)


def _loops(config: Config) -> Iterator[Conflict]:
    topics = {topic for stream in config.streams for topic in stream.topics}
    outputs = config.outputs
    names = [("alerts_topic", outputs.alerts_topic), ("scores_topic", outputs.scores_topic)]
    names.append(("dead_letter_topic", outputs.dead_letter_topic))
    seen: set[str] = set()
    for key, topic in names:
        if topic in topics:
            yield ("outputs", key), topic, "is an input topic too: the daemon would read itself", "another topic"
        elif topic in seen:
            yield ("outputs", key), topic, "is used for another output already", "another topic"
        seen.update([topic] if topic else [])


def _security(config: Config) -> Iterator[Conflict]:
    security, base = config.kafka.security, ("kafka", "security")
    if security.protocol.startswith("SASL"):
        for key in ("mechanism", "username", "password"):
            if getattr(security, key) is None:
                yield (*base, key), None, f"is missing, but {security.protocol} needs it", ""
    elif security.password is not None:
        problem = f"is {security.protocol}, so the password would not be used"
        yield (*base, "protocol"), None, problem, "SASL_SSL or SASL_PLAINTEXT"


def _names(stream: StreamConfig) -> Iterator[Conflict]:
    yield from _twice([c.name for c in stream.channels], lambda index: ("channels", index, "name"), "channel")
    for index, channel in enumerate(stream.channels):
        base: Path = ("channels", index, "limits")
        names = [limit.name for limit in channel.limits]
        yield from _twice(names, lambda position, base=base: (*base, position, "name"), "limit")  # type: ignore[misc]


def _times(stream: StreamConfig) -> Iterator[Conflict]:
    step = stream.step
    if step < timedelta(milliseconds=1):
        yield ("step",), format_duration(step), "is too short", "1ms or longer"
        return
    if step > timedelta(days=7):
        yield ("step",), format_duration(step), "is too long", "7d or shorter"
    if stream.silence_after is not None and stream.silence_after < step:
        words = format_duration(stream.silence_after)
        yield ("silence_after",), words, "is shorter than the step", f"{format_duration(step)} or longer"
    longest = _MAX_OPEN_STEPS * step
    if stream.grace + stream.revise > longest:
        key, value = ("revise", stream.revise) if stream.revise else ("grace", stream.grace)
        allowed = f"grace and revise of {format_duration(longest)} together"
        yield (key,), format_duration(value), f"holds more than {_MAX_OPEN_STEPS} steps open", allowed


def _horizons(stream: StreamConfig) -> Iterator[Conflict]:
    horizons = stream.horizons
    if list(horizons) != sorted(set(horizons)):
        yield ("horizons",), horizons, "is not ascending", "each horizon once, smallest first"
    elif horizons[0] != 1:
        yield ("horizons", 0), horizons[0], "cannot come first", "1, because each step is scored"


def _heads(stream: StreamConfig) -> Iterator[Conflict]:
    attention, hidden = stream.model.attention, stream.model.hidden
    if attention.kind == "multi_head" and hidden % attention.heads:
        path = ("model", "attention", "heads")
        yield path, attention.heads, f"does not divide hidden, which is {hidden}", "a divisor of hidden"


def _lags(stream: StreamConfig) -> Iterator[Conflict]:
    step = format_duration(stream.step)
    for index, lag in enumerate(stream.model.attention.seasonal_lags):
        if lag < stream.step:
            path = ("model", "attention", "seasonal_lags", index)
            yield path, format_duration(lag), "is shorter than the step", f"{step} or longer"


def _neighbours(stream: StreamConfig) -> Iterator[Conflict]:
    neighbours = stream.model.neighbours
    for entity, others in neighbours.map.items():
        path: Path = ("model", "neighbours", "map", entity)
        if entity in others:
            yield path, entity, "is its own neighbour", "other entities"
        elif neighbours.k and len(others) > neighbours.k:
            yield path, others, "names more neighbours than k", f"{neighbours.k} at most, or a larger k"


def _limits(stream: StreamConfig, doubtful: frozenset[Path]) -> Iterator[Conflict]:
    for index, channel in enumerate(stream.channels):
        for position, limit in enumerate(channel.limits):
            path: Path = ("channels", index, "limits", position)
            if _sound(path, doubtful):
                yield from _limit(limit, path)


def _limit(limit: LimitConfig, path: Path) -> Iterator[Conflict]:
    above, below, clear = limit.above, limit.below, limit.clear
    if (above is None) == (below is None):
        yield path, None, "needs a line to watch", "exactly one of above and below"
    elif clear is not None and above is not None and clear > above:
        yield (*path, "clear"), clear, "is above the limit, so it would never stay open", f"{above:g} or less"
    elif clear is not None and below is not None and clear < below:
        yield (*path, "clear"), clear, "is below the limit, so it would never stay open", f"{below:g} or more"


def _maintenance(stream: StreamConfig, doubtful: frozenset[Path]) -> Iterator[Conflict]:
    for index, maintenance in enumerate(stream.maintenance):
        if _sound(("maintenance", index), doubtful):
            yield from _window(maintenance, ("maintenance", index))


def _sound(section: Path, doubtful: frozenset[Path]) -> bool:
    """Return whether every value in ``section`` is the file's own."""
    return not any(path[: len(section)] == section for path in doubtful)


def _window(maintenance: MaintenanceConfig, path: Path) -> Iterator[Conflict]:
    length = maintenance.end - maintenance.start
    if length <= timedelta(0):
        yield (*path, "end"), maintenance.end.isoformat(), "is not after start", "a later time"
    elif maintenance.repeat is not None and maintenance.repeat < length:
        words = format_duration(maintenance.repeat)
        yield (*path, "repeat"), words, "is shorter than the maintenance itself", f"{format_duration(length)} or longer"
