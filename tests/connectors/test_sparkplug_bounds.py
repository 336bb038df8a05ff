"""What is remembered of Sparkplug edge nodes is bounded, and whoever speaks now is never forgotten for the silent."""

from __future__ import annotations

import pytest

from connectors.reading import Reason
from connectors.sparkplug_nodes import Heard, SparkplugNodes
from tests.connectors.test_sparkplug import BD_SEQ, LEVEL, packed, said, values


def births(nodes: SparkplugNodes, *names: str) -> list[Heard]:
    return [nodes.hear(said("NBIRTH", packed(0, BD_SEQ, LEVEL), node=name)) for name in names]


def test_the_node_that_was_silent_longest_is_forgotten_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects new nodes from old ones: ids that come and go used to fill the places for ever, and each later node was
    refused."""
    monkeypatch.setattr("connectors.sparkplug_nodes.MOST_NODES", 3)
    nodes = SparkplugNodes()
    births(nodes, "a", "b", "c")
    by_alias = packed(1, {"alias": 4, "double_value": 8.0})
    assert values(nodes.hear(said("NDATA", by_alias, node="a"))) == [("plant/a", "Tank/Level", 8.0)]  # b is oldest now
    (new,) = births(nodes, "d")
    assert values(new) == [("plant/d", "Tank/Level", 7.42)]
    assert (new.refused, new.events) == ([], ["nodes_forgotten"])
    assert values(nodes.hear(said("NDATA", packed(2, {"alias": 4, "double_value": 9.0}), node="a")))
    forgotten = nodes.hear(said("NDATA", by_alias, node="b"))
    assert forgotten.rebirth == "spBv1.0/plant/NCMD/b"  # it is asked to say again what it measures
    assert not forgotten.readings


def test_a_dead_node_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects living nodes from being forgotten while others come and go properly."""
    monkeypatch.setattr("connectors.sparkplug_nodes.MOST_NODES", 2)
    nodes = SparkplugNodes()
    births(nodes, "a")
    for name in ("b", "c", "d"):
        births(nodes, name)
        assert nodes.hear(said("NDEATH", packed(None, BD_SEQ), node=name)).events == ["deaths"]
    assert values(nodes.hear(said("NDATA", packed(1, {"alias": 4, "double_value": 8.0}), node="a")))


def test_metrics_of_all_nodes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory: ten thousand nodes may not have a hundred thousand metrics each."""
    monkeypatch.setattr("connectors.sparkplug_nodes.MOST_ALL_METRICS", 20)
    nodes = SparkplugNodes()
    five = [LEVEL | {"name": f"m{i}", "alias": i} for i in range(5)]
    heard = [nodes.hear(said("NBIRTH", packed(0, BD_SEQ, *five), node=f"n{i}")) for i in range(6)]
    assert [one.events for one in heard] == [[]] * 3 + [["nodes_forgotten"]] * 3
    assert [len(one.readings) for one in heard] == [5] * 6
    assert nodes.size <= 20


def test_what_births_say_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory from births that name a metric twice, from devices without metrics, and from endless names."""
    monkeypatch.setattr("connectors.sparkplug_nodes.MOST_METRICS", 50)
    nodes = SparkplugNodes()
    nodes.hear(said("NBIRTH", packed(0, BD_SEQ)))
    for turn in range(10):  # the same name under ever new aliases
        same = [LEVEL | {"alias": 10 * turn + i} for i in range(10)]
        nodes.hear(said("DBIRTH", packed(turn + 1, *same), "pump"))
    assert len(nodes.nodes["plant", "edge"].by_alias) == 1
    heard = [nodes.hear(said("DBIRTH", packed(11 + i), f"device-{i}")) for i in range(60)]
    assert heard[-1].refused[0].reason is Reason.TOO_MANY_ENTITIES
    assert nodes.size <= 50
    endless = nodes.hear(said("NBIRTH", packed(0, BD_SEQ, LEVEL), node="n" * 300))
    assert (endless.readings, "256 characters" in endless.refused[0].detail) == ([], True)
    named = nodes.hear(said("NBIRTH", packed(0, BD_SEQ, LEVEL | {"name": "x" * 10_000}), node="long"))
    assert (named.readings, "256 characters" in named.refused[0].detail) == ([], True)
    assert [len(name) for name in nodes.nodes["plant", "long"].by_name[""]] == [257]
