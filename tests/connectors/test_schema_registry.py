"""Protects the ways to schemas: framing of all kinds, what a registry answers, and what it must not be told."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.errors import Misconfigured, SourceRefused, SourceUnavailable
from connectors.refusal import Refusal
from connectors.schema_framing import KEY_HEADER, Framed, is_framed, read_steps, unframe
from connectors.schema_registry import Schema, SchemaRegistry
from tests.connectors.foreign_values import framed
from tests.schema_registry import SchemaRegistryServer

GUID = UUID("12345678-1234-5678-1234-567812345678")


def test_both_frames_before_the_value_and_in_headers() -> None:
    """Protects values of old and of new serializers."""
    assert unframe(framed(258, b"x")) == Framed(258, b"x", None)
    assert unframe(framed(GUID, b"x")) == Framed(GUID, b"x", None)
    assert unframe(b"x", [("__value_schema_id", framed(GUID, b"", b"\x00"))]) == Framed(GUID, b"x", b"\x00")
    assert unframe(b"x", [(KEY_HEADER, framed(7, b""))], KEY_HEADER) == Framed(7, b"x", b"")
    assert not is_framed(b'{"a": 1}', [("__value_schema_id", b"")])
    assert isinstance(unframe(b"\x00\x00\x01"), Refusal)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20))
def test_steps_come_back(steps: list[int]) -> None:
    """Protects nested Protobuf messages: zig-zag varints, as the registry's serializers write them."""

    def varint(number: int) -> bytes:
        number, out = number * 2, bytearray()
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        return bytes([*out, number])

    data = b"".join(varint(number) for number in (len(steps), *steps))
    assert read_steps(data + b"rest") == (tuple(steps), len(data))


@given(st.binary(max_size=40))
@example(b"\x00")
@example(b"\x02\x01")
def test_no_frame_raises(data: bytes) -> None:
    """Protects the source from every first byte there is."""
    assert isinstance(unframe(data, [("__value_schema_id", data)]), Framed | Refusal)
    assert isinstance(read_steps(data), tuple | Refusal)


def test_a_schema_is_asked_for_once_with_all_it_needs() -> None:
    """Protects the registry from a question a record, and schemas from their missing parts."""
    with SchemaRegistryServer(prefix="/ccompat/v7") as server:
        server.register('"float"', subject="a/b")
        server.register('"int"', subject="mid", references=[("low", "a/b", 1)])
        schema = server.register('"long"', references=[("low", "a/b", 1), ("mid", "mid", 1)])
        registry = SchemaRegistry(server.url + "/")
        found = registry.schema(schema.id)
        assert found == Schema("AVRO", '"long"', (("low", '"float"'), ("mid", '"int"')))
        asked = len(server.asked)
        assert registry.schema(schema.id) == found
        assert len(server.asked) == asked
        assert registry.schema(schema.guid) == found
        registry.close()


def test_protobuf_is_asked_for_as_descriptor() -> None:
    """Protects from .proto texts, which nothing here can compile."""
    with SchemaRegistryServer() as server:
        server.register("bG93", "PROTOBUF", "low")
        schema = server.register("aGlnaA==", "PROTOBUF", references=[("low.proto", "low", 1)])
        registry = SchemaRegistry(server.url)
        assert registry.schema(schema.id) == Schema("PROTOBUF", "aGlnaA==", (("low.proto", "bG93"),))
        registry.close()


def test_an_unknown_schema_is_a_refusal_and_not_asked_for_at_once() -> None:
    """Protects the registry from a flood of foreign bytes; it is asked again later, for it may know it by then."""
    clock = [0.0]
    with SchemaRegistryServer() as server:
        registry = SchemaRegistry(server.url, monotonic=lambda: clock[0])
        refusals = [registry.schema(77) for _ in range(3)]
        assert all(isinstance(refusal, Refusal) and "/schemas/ids/77" in refusal.detail for refusal in refusals)
        assert len(server.asked) == 1
        for _ in range(77):
            server.register('"int"')
        clock[0] = 100.0
        assert isinstance(registry.schema(77), Schema)
        circle = server.register('"int"', subject="round", references=[("me", "round", 1)])
        assert isinstance(registry.schema(circle.id), Refusal)
        registry.close()


@pytest.mark.parametrize(
    ("broken", "error", "told"),
    [
        ((503, b"busy"), SourceUnavailable, "503"),
        ((500, b'{"error_code": 50001, "message": "store timed out"}'), SourceUnavailable, "store timed out"),
        ((404, b"<html>nginx</html>"), SourceUnavailable, "is the url that of a schema registry"),
        ((200, b"<html>welcome</html>"), SourceUnavailable, "answers no schema"),
        ((200, b'{"schema": "\xff"}'), SourceUnavailable, "answers no schema"),
        ((500, b'{"message": "\xff"}'), SourceUnavailable, "500"),
        ((401, b""), SourceRefused, "password"),
        ((403, b""), SourceRefused, "rights"),
        ((302, b""), Misconfigured, "redirects"),
    ],
)
def test_trouble_is_told_apart(broken: tuple[int, bytes], error: type[Exception], told: str) -> None:
    """Protects records from the dead letters while a registry is only away, and from waiting for what never comes."""
    with SchemaRegistryServer(broken=broken) as server:
        registry = SchemaRegistry(server.url, user="u", password="hush-hush")
        with pytest.raises(error, match=told) as found:
            registry.schema(1)
        assert "hush" not in str(found.value)
        registry.close()


def test_a_registry_that_is_away_is_waited_for() -> None:
    """Protects from losing what came while it restarted; and that a password is asked for and given."""
    with SchemaRegistryServer("u", "p") as server:
        schema = server.register('"int"')
        registry = SchemaRegistry(server.url, user="u", password="p")
        server.go_away()
        with pytest.raises(SourceUnavailable, match="does not answer"):
            registry.schema(schema.id)
        server.come_back()
        assert isinstance(registry.schema(schema.id), Schema)
        registry.close()
    with pytest.raises(Misconfigured, match="without a user"):
        SchemaRegistry("http://u:p@registry")
