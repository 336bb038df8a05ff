"""What every sink owes the daemon, as checks that run over any implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from connectors.base import Sink
from connectors.errors import SinkUnavailable


class Sent(NamedTuple):
    """A message; where a sink carries values alone, key and headers are not compared."""

    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True)
class World:
    """A sink, what can be read at its other end, and a switch that takes that end away."""

    sink: Sink
    arrived: Callable[[], Sequence[Sent]]
    away: Callable[[bool], None]
    whole: bool = True
    """Whether keys and headers arrive too."""


Make = Callable[[], World]

MESSAGES = [Sent(f"entity-{i % 3}", b'{"n":%d}' % i, (("reason", b"r%d" % i),) if i % 2 else ()) for i in range(20)]
HOSTILE_KEYS = ("", " ", "ünïcode ✓", "null\x00byte", "line\nbreak", "a" * 5_000, "\ud800", "\udfff")


def send(world: World, messages: Sequence[Sent]) -> None:
    """Send ``messages``."""
    for message in messages:
        world.sink.send(*message)


def by_key(messages: Sequence[Sent]) -> list[Sent]:
    """Return ``messages`` by key, those of a key in the order they have."""
    return sorted(messages, key=lambda message: message.key)


def check_flush_makes_all_durable(make: Make) -> None:
    """After a flush everything is at the other end, whole, each key's in order; a second flush adds nothing."""
    world = make()
    send(world, MESSAGES)
    world.sink.flush(10.0)
    expected = by_key(MESSAGES if world.whole else [Sent("", m.value) for m in MESSAGES])
    assert by_key(world.arrived()) == expected
    world.sink.flush(10.0)
    assert by_key(world.arrived()) == expected
    world.sink.close()


def check_nothing_is_dropped_while_away(make: Make) -> None:
    """Sending never fails for an end that is away, flushing says so, and later all is there, each key's in order."""
    world = make()
    send(world, MESSAGES[:5])
    world.sink.flush(10.0)
    world.away(True)
    send(world, MESSAGES[5:])
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            world.sink.flush(0.3)
    world.away(False)
    world.sink.flush(10.0)
    expected = by_key(MESSAGES) if world.whole else MESSAGES
    assert [m.value for m in by_key(world.arrived())] == [m.value for m in expected]
    world.sink.close()


def check_any_key_will_do(make: Make) -> None:
    """Keys come from other people's sensors: none is refused, none stops the others."""
    world = make()
    send(world, [Sent(key, b'{"key":%d}' % i) for i, key in enumerate(HOSTILE_KEYS)])
    world.sink.flush(10.0)
    assert sorted(m.value for m in world.arrived()) == [b'{"key":%d}' % i for i in range(len(HOSTILE_KEYS))]
    if world.whole:
        assert len({m.key for m in world.arrived()}) == len(HOSTILE_KEYS)
    world.sink.close()


def check_close_flushes(make: Make) -> None:
    """What was sent and not flushed is not lost by leaving."""
    world = make()
    send(world, MESSAGES[:3])
    world.sink.close()
    assert sorted(m.value for m in world.arrived()) == [m.value for m in MESSAGES[:3]]


CHECKS: tuple[Callable[[Make], None], ...] = (
    check_flush_makes_all_durable,
    check_nothing_is_dropped_while_away,
    check_any_key_will_do,
    check_close_flushes,
)
