"""Who may push is known by a secret, however it is sent, and nobody else gets in."""

from __future__ import annotations

import base64

import pytest

from connectors.push_senders import ANYBODY, Sender, Senders, is_loopback

SENDERS = Senders([Sender("telegraf", "s1:x"), Sender("station", "s2", "school-")])


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("authorization", "name"),
    [
        ("Bearer s2", "station"), ("bearer  s2 ", "station"), ("Token s2", "station"), ("Token station:s2", "station"),
        ("Token s1:x", "telegraf"), ("Token telegraf:s1:x", "telegraf"), (basic("station:s2"), "station"),
        (basic(":s2"), "station"), (basic("telegraf:s1:x"), "telegraf"), (basic("telegraf:s2"), None),
        ("Bearer s3", None), ("Bearer ", None), ("Bearer", None), ("", None), ("s2", None), ("Basic !", None),
        ("Basic czI=", None), ("Bearer \udc80", None),
    ],
)  # fmt: skip
def test_a_secret_in_a_header(authorization: str, name: str | None) -> None:
    """Protects the ways in which senders' software can show a secret, and the door from everything else."""
    found = SENDERS.sender({"authorization": authorization}, {}, "127.0.0.1")
    assert (found.name if found else None) == name


def test_a_secret_in_the_address() -> None:
    """Protects clients of InfluxDB 1, which can do no other."""
    assert SENDERS.sender({}, {"u": "station", "p": "s2"}, "10.0.0.9") == Sender("station", "s2", "school-")
    assert SENDERS.sender({}, {"u": "telegraf", "p": "s2"}, "10.0.0.9") is None
    assert SENDERS.sender({}, {}, "127.0.0.1") is None


def test_a_sender_without_a_secret_is_nobody() -> None:
    """Protects from an empty file or variable in the place of a secret: it would open the door to all who show none."""
    careless = Senders([Sender("telegraf", "")])
    assert careless.sender({}, {}, "10.0.0.9") is None
    assert careless.sender({}, {"u": "telegraf", "p": ""}, "10.0.0.9") is None
    for shown in ("Bearer ", "Token telegraf:", basic("telegraf:"), basic("")):
        assert careless.sender({"authorization": shown}, {}, "10.0.0.9") is None


def test_without_senders_this_machine_may() -> None:
    """Protects a first try on one machine, and that machine from pages in its browsers and from the network."""
    nobody = Senders()
    assert nobody.sender({}, {}, "127.0.0.1") is ANYBODY
    assert nobody.sender({}, {}, "::1") is ANYBODY
    assert nobody.sender({}, {}, "::ffff:127.0.0.1") is ANYBODY
    assert nobody.sender({}, {}, "10.0.0.9") is None
    assert nobody.sender({}, {}, "") is None
    assert nobody.sender({"origin": "http://localhost"}, {}, "127.0.0.1") is None
    assert nobody.sender({"sec-fetch-site": "cross-site"}, {}, "127.0.0.1") is None
    everybody = Senders(open_to_all=True)
    assert everybody.sender({}, {}, "10.0.0.9") is ANYBODY
    assert everybody.sender({"origin": "http://x"}, {}, "10.0.0.9") is None


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-real-ip", "via"])
def test_behind_a_reverse_proxy_nobody_is_of_this_machine(header: str) -> None:
    """Protects the door where a proxy on this machine lets the world in: all that comes through it comes from here."""
    assert Senders().sender({header: "203.0.113.9"}, {}, "127.0.0.1") is None
    assert "a proxy" in Senders().wanted
    everybody = Senders(open_to_all=True)
    assert everybody.sender({header: "203.0.113.9"}, {}, "127.0.0.1") is ANYBODY
    shown = {"authorization": "Bearer s2", header: "203.0.113.9"}
    assert SENDERS.sender(shown, {}, "127.0.0.1") == Sender("station", "s2", "school-")


def test_secrets_are_not_shown() -> None:
    """Protects secrets from logs."""
    assert "s1" not in repr(Sender("telegraf", "s1"))


def test_loopback() -> None:
    """Protects the rule for where secrets are needed."""
    assert [is_loopback(h) for h in ("localhost", "127.0.0.9", "::1", "0.0.0.0", "10.1.1.1", "x")] == [
        True, True, True, False, False, False]  # fmt: skip
