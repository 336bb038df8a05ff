"""Another network takes charge while readings flow: no gap, nothing opened or closed by it, and no way to stop it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.registry import LINEAR
from pipeline.correcting import Correction, RecentFrame
from pipeline.probation import Failing
from tests.pipeline.daemon_parts import wandering
from tests.pipeline.swap_parts import Service, broken, constant, same, save, shelf, untrained

JUMP = 95


def in_an_incident(entities: int = 4, steps: int = 140) -> NDArray[np.float64]:
    """Return [T, E, C] values with an incident of entity 1 from step JUMP on, for thirty steps."""
    return wandering(entities, steps, {1: JUMP})


def test_the_pointer_decides_who_is_in_charge(tmp_path: Path) -> None:
    """Protects the way of a new model into service: promoted, seen, swapped at a step boundary, shown in metrics."""
    registry, (first, second) = shelf(tmp_path, untrained(0), untrained(1))
    service = Service(registry)
    assert service.version == first
    service.feed(wandering(3, 20))
    registry.promote("air", second)
    service.watch.turn(service.stream)
    assert service.version == first
    service.watch.look()
    assert service.version == first
    service.watch.turn(service.stream)
    assert service.version == second
    assert (service.value("model_info", version=second), service.value("model_info", version=first)) == (1.0, None)
    assert service.value("model_swaps_total") == 1.0
    registry.promote("air", LINEAR)
    service.look_and_turn()
    assert (service.version, service.stream.predictor.network) == (LINEAR, None)


def test_replicas_converge(tmp_path: Path) -> None:
    """Protects replicas from different models for long: each follows the same pointer, at its own boundary."""
    registry, (first, second) = shelf(tmp_path, untrained(0), untrained(1))
    replicas = [Service(registry), Service(registry)]
    for i, replica in enumerate(replicas):
        replica.feed(wandering(3, 10 + 7 * i))
    assert {r.version for r in replicas} == {first}
    registry.promote("air", second)
    for replica in replicas:
        replica.look_and_turn()
    assert {r.version for r in replicas} == {second}


@settings(max_examples=6, deadline=None)
@given(at=st.integers(JUMP - 3, JUMP + 30), twice=st.booleans())
def test_a_swap_to_the_same_weights_changes_nothing(at: int, twice: bool) -> None:
    """Protects open incidents: rebuilt from the ring within one, the same network gives the same detections."""
    with tempfile.TemporaryDirectory() as folder:
        registry, (first, second) = shelf(Path(folder), untrained(0), untrained(0))
        still, moved = Service(registry), Service(registry)
        values = in_an_incident()
        still.feed(values)
        moved.feed(values[:at])
        registry.promote("air", second)
        moved.look_and_turn()
        assert (still.version, moved.version) == (first, second)
        moved.feed(values[at : at + 4])
        if twice:
            registry.promote("air", first)
            moved.look_and_turn()
        moved.feed(values[at + 4 :])
    for left, right in zip(still.seen.detections, moved.seen.detections, strict=True):
        same(left, right)
    assert still.seen.messages
    assert moved.seen.incidents() == still.seen.incidents()


@settings(max_examples=4, deadline=None)
@given(at=st.integers(JUMP - 3, JUMP + 30))
def test_a_challenger_that_takes_over_brings_its_state(at: int) -> None:
    """Protects believed corrections across a promotion: with the same weights not a bit changes, whenever it comes."""
    with tempfile.TemporaryDirectory() as folder:
        registry, (first, second) = shelf(Path(folder), constant(0.3), constant(0.3))
        services = []
        for promoted in (False, True):
            registry.promote("air", first)
            registry.shadow("air", second)
            service = Service(registry)
            service.look_and_turn()
            predictor = service.stream.predictor
            assert predictor.champion is not None
            assert predictor.challenger is not None
            for correction in (predictor.champion, predictor.challenger):
                correction.trust["linear"][...] = 10.0  # so that the corrections count
            values = in_an_incident()
            service.feed(values[:at])
            if promoted:
                registry.promote("air", second)
                service.look_and_turn()
                assert service.version == second
                assert predictor.challenger is None
            assert predictor.trusted_share(4) == 1.0
            service.feed(values[at:])
            services.append(service)
    still, moved = services
    for left, right in zip(still.seen.detections, moved.seen.detections, strict=True):
        same(left, right)
    assert still.seen.messages
    assert moved.seen.incidents() == still.seen.incidents()


@settings(max_examples=5, deadline=None)
@given(at=st.integers(JUMP - 2, JUMP + 25), seed=st.integers(1, 100))
def test_the_next_frame_is_judged_by_what_was_forecast(at: int, seed: int) -> None:
    """Protects the frame after a swap: whatever network comes, its forecast was made before and stays."""
    with tempfile.TemporaryDirectory() as folder:
        registry, (_, second) = shelf(Path(folder), constant(0.3), untrained(seed))
        still, moved = Service(registry), Service(registry)
        for service in (still, moved):
            assert service.stream.predictor.champion is not None
            service.stream.predictor.champion.trust["linear"][...] = 10.0
        values = in_an_incident()
        still.feed(values[: at + 1])
        moved.feed(values[:at])
        registry.promote("air", second)
        moved.look_and_turn()
        moved.feed(values[at : at + 1])
    same(still.seen.detections[-1], moved.seen.detections[-1])
    np.testing.assert_array_equal(still.seen.expected[-1], moved.seen.expected[-1])
    assert moved.seen.incidents() == still.seen.incidents()
    assert moved.version == second


def test_states_are_those_of_a_network_that_always_ran(tmp_path: Path) -> None:
    """Protects the hidden states: rebuilt by the thread and caught up by the loop, also for who joined in between."""
    registry, (first, second) = shelf(tmp_path, untrained(1), untrained(2, neighbours=1))
    late = Service(registry)
    registry.promote("air", second)
    always = Service(registry)
    values = wandering(5, 30)
    for service in (always, late):
        service.feed(values[:20, :3])
    assert late.version == first
    late.watch.look()
    for service in (always, late):
        service.feed(values[20:23])  # two more entities
    assert late.version == second
    left, right = always.stream.predictor.champion, late.stream.predictor.champion
    assert left is not None
    assert right is not None
    for name in ("h", "c", "age"):
        np.testing.assert_array_equal(left.network.state[name][:5], right.network.state[name][:5])
    np.testing.assert_array_equal(left.trust["next"][:5], right.trust["next"][:5])


def test_the_loop_catches_up_a_few_frames_at_most(tmp_path: Path) -> None:
    """Protects the loop's pace: where much came since a network was rebuilt the thread goes on with it."""
    registry, (first, second) = shelf(tmp_path, untrained(0), untrained(1))
    service = Service(registry)
    values = wandering(3, 40)
    service.feed(values[:10])
    registry.promote("air", second)
    service.watch.look()
    for frame in values[10:15]:  # no boundary in between, as if all came at once
        service.step += 1
        service.stream.predictor.observe(
            frame, np.ones((3, 2), np.bool_), service.step, service.step, np.full(3, -1, np.int32)
        )
    service.watch.turn(service.stream)
    assert service.version == first
    service.look_and_turn()
    assert service.version == second
    network = service.stream.predictor.network
    assert network is not None
    assert network.state["age"][:3].tolist() == [15, 15, 15]


def test_slots_that_get_new_meanings_void_what_was_rebuilt(tmp_path: Path) -> None:
    """Protects entities from each other's hidden states: after a rebalance a network is rebuilt anew."""
    registry, (first, second) = shelf(tmp_path, untrained(0), untrained(1))
    service = Service(registry)
    service.stream.add_entities(["gone"], partition=1)
    service.feed(wandering(3, 10))
    registry.promote("air", second)
    service.watch.look()
    service.stream.release(1)
    service.watch.turn(service.stream)
    assert service.version == first
    service.look_and_turn()
    assert service.version == second
    assert service.stream.predictor.network is not None
    assert (service.stream.predictor.network.state["age"] == 0).all()


def test_a_registry_that_is_away_changes_nothing(tmp_path: Path) -> None:
    """Protects scoring from the registry: who is in charge stays, and it is said once."""
    registry, (first, second) = shelf(tmp_path / "models", untrained(0), untrained(1))
    service = Service(registry)
    service.feed(wandering(3, 10))
    registry.away = True
    for _ in range(3):
        service.look_and_turn()
    assert (service.version, service.value("models_unusable_total")) == (first, 1.0)
    registry.away = False
    (tmp_path / "models").rename(tmp_path / "unmounted")
    service.look_and_turn()
    assert service.version == first
    (tmp_path / "unmounted").rename(tmp_path / "models")
    registry.promote("air", second)
    service.look_and_turn()
    assert service.version == second


def test_a_damaged_pointer_to_the_challenger_is_told(tmp_path: Path) -> None:
    """Protects the succession: it counts as no challenger, once in the metric, and a champion is still followed."""
    registry, (_, second) = shelf(tmp_path, untrained(0), untrained(1))
    service = Service(registry)
    service.feed(wandering(3, 10))
    (tmp_path / "air" / "CHALLENGER").write_bytes(b"\xff\x00")
    for _ in range(3):
        service.look_and_turn()
    assert service.value("models_unusable_total") == 1.0
    (tmp_path / "air" / "CHAMPION").write_text(f"{second}\n")
    service.look_and_turn()
    assert service.version == second
    assert service.stream.predictor.challenger is None


@pytest.mark.parametrize("what", ["damaged", "other step", "other channels"])
def test_a_version_that_cannot_be_used_is_left(tmp_path: Path, what: str) -> None:
    """Protects scoring from files and from configuration: refused with the reason, counted once, tried again later."""
    registry, (first,) = shelf(tmp_path, untrained(0))
    changes: dict[str, object] = {}
    if what == "other step":
        changes = {"step_us": 1}
    elif what == "other channels":
        changes = {"channels": ("pm25", "o3")}
    second = save(registry, untrained(1), 1, **changes)
    registry.promote("air", second)
    if what == "damaged":
        next((tmp_path / "air" / second).glob("weights*")).write_bytes(b"")
    service = Service(registry)
    assert service.version == LINEAR
    for _ in range(20):
        service.feed(wandering(3, 1))
        service.look_and_turn()
    assert (service.version, service.value("models_unusable_total")) == (LINEAR, 1.0)
    assert registry.champion_version("air") == second
    registry.promote("air", first)
    service.look_and_turn()
    assert service.version == first


@pytest.mark.parametrize(
    "trouble",
    [MemoryError("no room"), RuntimeError("can't allocate memory"), OSError(28, "No space left on device")],
)
def test_a_machine_in_need_is_no_fault_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """Protects all versions from being barred, one after the other, by a machine without memory or room on the disk."""
    registry, (first,) = shelf(tmp_path, untrained(0))

    def no_room(*_: object, **__: object) -> None:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.preparing.Correction", no_room)
        service = Service(registry)
        service.feed(wandering(3, 10))
        service.look_and_turn()
        assert service.version == LINEAR
    assert (registry.champion_version("air"), registry.barred("air")) == (first, {})
    assert service.value("models_unusable_total") == 1.0
    service.look_and_turn()
    assert service.version == first


@pytest.mark.parametrize("role", ["champion", "challenger"])
@pytest.mark.parametrize("trouble", [MemoryError("no room"), RuntimeError("DefaultCPUAllocator: not enough memory")])
def test_a_swap_without_memory_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception, role: str
) -> None:
    """Protects a new version from being barred where the loop has no memory for its first steps."""
    registry, (_, second) = shelf(tmp_path, untrained(0), untrained(1))
    service = Service(registry)
    service.feed(wandering(3, 12))
    (registry.promote if role == "champion" else registry.shadow)("air", second)
    service.watch.look()
    with monkeypatch.context() as patch:
        step = Correction.step

        def starved(correction: Correction, frame: RecentFrame) -> NDArray[np.float32]:
            if correction.version == second:
                raise trouble
            return step(correction, frame)

        patch.setattr(Correction, "step", starved)
        service.feed(wandering(3, 1, seed=5))
    assert registry.barred("air") == {}
    for _ in range(3):
        service.look_and_turn()
    predictor = service.stream.predictor
    running = predictor.champion if role == "champion" else predictor.challenger
    assert running is not None
    assert running.version == second
    assert registry.barred("air") == {}
    assert service.value("model_steps_missed_total") == 1.0


def test_a_network_that_breaks_while_it_is_rebuilt_never_takes_charge(tmp_path: Path) -> None:
    """Protects the loop from a poisoned model: it is given up before the swap, in the registry too."""
    registry, (first, second) = shelf(tmp_path, untrained(0), broken())
    service = Service(registry)
    service.feed(wandering(3, 12))
    registry.promote("air", second)
    service.look_and_turn()
    service.look_and_turn()
    assert service.version == first
    assert registry.champion_version("air") == first
    assert second in registry.barred("air")
    assert service.value("model_rollbacks_total", reason="nan") == 1.0
    assert service.value("model_swaps_total") in (None, 0.0)


@pytest.mark.parametrize("reason", [Failing.NAN, Failing.EXCEPTION])
def test_a_network_that_breaks_in_service_gives_way(
    tmp_path: Path, reason: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects every step: the linear forecast stands in at once, then the predecessor comes back from memory, and the
    registry is told when it can be."""
    registry, (first, second) = shelf(tmp_path, constant(0.1), constant(0.2))
    service = Service(registry)
    values = wandering(3, 40)
    service.feed(values[:20])
    registry.promote("air", second)
    service.look_and_turn()
    network = service.stream.predictor.network
    assert network is not None

    def step(inputs: NDArray[np.float32], *_: object) -> NDArray[np.float32]:
        if reason is Failing.EXCEPTION:
            raise ZeroDivisionError("deep within")
        return np.full((len(inputs), 2, 2), np.nan, np.float32)

    monkeypatch.setattr(network, "step", step)
    registry.away = True
    service.feed(values[20:21])
    assert service.version == LINEAR
    predictor = service.stream.predictor
    np.testing.assert_array_equal(predictor.forecast(3)[0][:, :, 0], predictor.state["linear_next"][:3])
    assert service.value("model_rollbacks_total", reason=str(reason)) == 1.0
    service.look_and_turn()
    assert service.version == first
    registry.away = False
    assert registry.champion_version("air") == second
    service.look_and_turn()
    assert registry.champion_version("air") == first
    assert list(registry.barred("air")) == [second]
    decision = registry.decisions("air")[-1]
    assert (decision.by, decision.champion_before) == ("daemon", second)
    service.feed(values[21:])
    assert service.version == first
    assert np.isfinite(np.concatenate(service.seen.expected[2:])).all()


def test_an_operator_may_put_a_failed_version_in_charge_again(tmp_path: Path) -> None:
    """Protects people's word: what was given up is tried again once somebody promotes it again."""
    registry, (first, second) = shelf(tmp_path, untrained(0), constant(20.0))
    service = Service(registry)
    service.look_each_step = True
    service.feed(wandering(3, 20))
    registry.promote("air", second)
    service.feed(wandering(3, 40, seed=1))
    assert (service.version, registry.champion_version("air")) == (first, first)
    operator = registry.decisions("air")[-1]
    registry.promote("air", second, type(operator)(operator.time, operator.action, second, None, (), {}, "operator"))
    service.feed(wandering(3, 3, seed=2))
    assert service.version == second


def test_another_replica_may_roll_back_first(tmp_path: Path) -> None:
    """Protects replicas from rolling back twice: who finds the pointer moved follows it."""
    registry, (first, second) = shelf(tmp_path, untrained(0), broken())
    replicas = [Service(registry), Service(registry)]
    for replica in replicas:
        replica.feed(wandering(3, 12))
    registry.promote("air", second)
    for _ in range(2):
        for replica in replicas:
            replica.look_and_turn()
    assert registry.champion_version("air") == first
    assert {r.version for r in replicas} == {first}


def test_a_pointer_that_turns_back_leaves_all_as_it_was(tmp_path: Path) -> None:
    """Protects from a swap that nobody wants any more: one that was ready is withdrawn."""
    registry, (first, second) = shelf(tmp_path, untrained(0), untrained(1))
    service = Service(registry)
    service.feed(wandering(3, 10))
    registry.promote("air", second)
    service.watch.look()
    registry.promote("air", first)
    service.look_and_turn()
    assert service.version == first
    assert service.value("model_swaps_total") in (None, 0.0)


def test_the_thread_does_it_by_itself(tmp_path: Path) -> None:
    """Protects the thread: with the loop running, a promotion arrives without anybody's doing; stop ends it."""
    registry, (_, second) = shelf(tmp_path, untrained(0), untrained(1))
    service = Service(registry)
    values = wandering(3, 1_000)
    service.feed(values[:10])
    registry.promote("air", second)
    service.watch.start()
    deadline_s = time.monotonic() + 60.0
    while service.version != second and time.monotonic() < deadline_s:
        service.feed(values[10:20])
    service.watch.stop()
    assert service.version == second


def test_a_look_that_fails_is_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the watch itself: whatever one look raises, the next one works."""
    registry, (_, second) = shelf(tmp_path, untrained(0), untrained(1))
    service = Service(registry)
    with monkeypatch.context() as patch:
        patch.setattr(type(registry), "challenger_version", lambda self, stream: 1 / 0)
        service.look_and_turn()
    registry.promote("air", second)
    service.look_and_turn()
    assert service.version == second


def test_recent_frames_hold_no_others_neighbours(tmp_path: Path) -> None:
    """Protects a network from inputs that were made for another one: neighbours are each network's own."""
    neighbours = {"station-0": ["station-1"]}
    registry, _ = shelf(tmp_path, untrained(0))
    second = save(registry, untrained(1, neighbours=1), 1, neighbours=neighbours)
    third = save(registry, untrained(1, neighbours=1), 2)
    service = Service(registry)
    service.feed(wandering(3, 10))
    frame = service.stream.predictor.recent.frames[-1]
    told = []
    for version in (second, third):
        registry.promote("air", version)
        service.look_and_turn()
        champion = service.stream.predictor.champion
        assert champion is not None
        told.append(champion.trust["next"][:3].copy())
    assert not np.array_equal(told[0][0], told[1][0])
    np.testing.assert_array_equal(told[0][1:], told[1][1:])
    assert not frame.inputs[:, 3 * 2 : 5 * 2].any()
