"""Smaller weights: how far they may be off, what cannot be stored, what they take, and students."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from models.compression import step_rates, stored, stored_bytes
from models.distillation import corrections, distil, student_sizes
from models.features import input_width
from models.learning import Architecture, learn
from models.registry import DamagedModelError, Registry
from models.sequences import prepare
from models.storage_kinds import KINDS, decode, encode, from_bf16, to_bf16
from models.streaming import StreamingAttentionLSTM
from models.training_options import TooLittleHistoryError, TrainingOptions
from models.weights import Sizes, Weights
from tests.models.stored_models import manifest, weights

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)
MATRICES = arrays.arrays(np.float32, st.tuples(st.integers(2, 6), st.integers(1, 5)), elements=FLOATS)
BF16_EPS = 2.0**-8
"""Relative distance between neighbours, halved by rounding to the nearest: 8 bits of mantissa with the hidden one."""


@given(MATRICES)
@settings(deadline=None)
def test_bf16_is_the_nearest_and_comes_back_bit_by_bit(matrix: NDArray[np.float32]) -> None:
    """Protects the half-sized form: within half a unit of the last place, and storing it again changes nothing."""
    back = from_bf16(to_bf16(matrix))
    normal = np.abs(matrix) >= np.finfo(np.float32).tiny
    assert (np.abs(back - matrix)[normal] <= BF16_EPS * np.abs(matrix)[normal]).all()
    np.testing.assert_array_equal(to_bf16(back), to_bf16(matrix))


def test_bf16_rounds_ties_to_even_and_keeps_what_it_can_hold() -> None:
    """Protects from a bias: a number half-way between two goes to the even one, as the standard says."""
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0xFF800000, 0x80000000], np.uint32)
    assert to_bf16(bits.view(np.float32)).tolist() == [0x3F80, 0x3F82, 0x3F81, 0xFF80, 0x8000]
    with pytest.raises(ValueError, match="too large for bf16"):
        to_bf16(np.array([np.finfo(np.float32).max], np.float32))


@given(MATRICES)
@settings(deadline=None)
def test_int8_is_off_by_half_a_step_of_its_column_at_most(matrix: NDArray[np.float32]) -> None:
    """Protects the quarter-sized form: the bound follows from each output channel's own largest weight."""
    for name, body in (("query", matrix), ("gates", matrix[:-1])):
        back = decode(encode({name: matrix}, "int8"), "int8")[name]
        step = np.maximum(np.abs(body).max(axis=0) / 127.0, np.finfo(np.float32).tiny)
        assert (np.abs(back[: len(body)].astype(np.float64) - body) <= 0.5001 * step).all()
        np.testing.assert_array_equal(back[len(body) :], matrix[len(body) :])  # the bias row is exact


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_stored(kind: str, value: float) -> None:
    """Protects from weights that would silence a network; −inf may stand in the bias, where nothing is looked at."""
    good = weights().to_arrays()
    for name in good:
        bad = good[name].copy()
        bad[0, 0] = value
        if name == "bias" and value == -np.inf:
            assert decode(encode(good | {name: bad}, kind), kind)[name][0, 0] == -np.inf
            continue
        with pytest.raises(ValueError, match=f"{name} holds values that are not finite"):
            encode(good | {name: bad}, kind)
    with pytest.raises(ValueError, match="'int4' is not known"):
        encode(good, "int4")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_goes_through_the_registry(tmp_path: Path, kind: str) -> None:
    """Protects the stored forms: the checksum covers the stored bytes, and float32 comes back for the engine."""
    registry = Registry(tmp_path)
    version = registry.save(weights(), manifest(kind=kind, parent="p"))
    back = registry.load("air", version)
    assert back.manifest.kind == kind
    for name, array in stored(weights(), kind).to_arrays().items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(back.weights.to_arrays()[name], array)
    path = tmp_path / "air" / version / "weights.safetensors"
    assert path.stat().st_size == stored_bytes(weights(), kind) == registry.size("air", version)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedModelError, match="checksum"):
        registry.load("air", version)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "gates.scale"}, r"arrays are missing: gates\.scale"),
        (lambda a: {k: v for k, v in a.items() if k != "gates.last"}, r"arrays are missing: gates\.last"),
        (lambda a: {k: v for k, v in a.items() if k != "query"}, "arrays are missing: query"),
        (lambda a: a | {"gates": a["gates"].astype(np.int16)}, "gates is int16, wanted int8"),
        (lambda a: a | {"gates.scale": a["gates.scale"][1:]}, "but has scales"),
        (lambda a: a | {"gates.last": a["gates.last"][:, 1:]}, "but has a bias row"),
        (lambda a: a | {"gates": a["gates"][0]}, "but has scales"),
        (lambda a: a | {"gates.scale": np.full_like(a["gates.scale"], np.nan)}, "gates holds values that are not"),
    ],
)
def test_int8_arrays_that_do_not_fit_are_named(change: object, message: str) -> None:
    """Protects the engine from a damaged or foreign int8 file whose checksum was made to fit."""
    assert callable(change)
    with pytest.raises(ValueError, match=message):
        Weights.from_parts(weights().to_dict(), change(weights().to_arrays("int8")), "int8")


def test_sizes_fall_as_promised() -> None:
    """Protects the point of storing smaller: about a half and about a quarter, at the sizes that streams have."""
    large = weights(hidden=64, window=64)
    full = stored_bytes(large, "f32")
    assert stored_bytes(large, "bf16") < 0.52 * full
    assert stored_bytes(large, "int8") < 0.30 * full


@pytest.mark.parametrize(("kind", "bound"), [("bf16", 0.05), ("int8", 0.1)])
def test_a_stored_network_says_nearly_the_same(kind: str, bound: float) -> None:
    """Protects forecasts: over many steps the corrections stay within a small part of their own size."""

    def said(network: Weights) -> NDArray[np.float32]:
        engine, rng = StreamingAttentionLSTM(network, 16), np.random.default_rng(5)
        nobody, none, ids = np.full((16, 2), -1, np.int32), np.full(16, -1, np.int32), np.zeros(16, np.int32)
        steps = rng.standard_normal((60, 16, network.sizes.inputs)).astype(np.float32)
        return np.stack([engine.step(x, t, nobody, none, ids) for t, x in enumerate(steps)])

    original = said(weights(hidden=32))
    off = said(stored(weights(hidden=32), kind)) - original
    assert 0.0 < float(np.sqrt(np.mean(off**2))) < bound * float(original.std())


def test_speed_is_measured_in_turns() -> None:
    """Protects the comparison from a busy machine: rounds alternate, and the best of each counts."""
    taken = iter([2.0, 4.0, 9.0, 5.0, 3.0, 8.0])  # seconds of small, large, small, large …
    times = [0.0]
    for seconds in taken:
        times += [times[-1], times[-1] + seconds]
    ticks = iter(times[1:])
    small, large = step_rates([weights(), weights(hidden=16)], entities=8, steps=2, rounds=3, clock=lambda: next(ticks))
    assert (small, large) == (8.0, 4.0)


# ---- students ----

NAMES = ("a", "b", "c")
OPTIONS = TrainingOptions(epochs=5, chunk=16, sequences=3, fewest_updates=0, learning_rate=1e-2, device="cpu")


@pytest.fixture(scope="module")
def chaos() -> NDArray[np.float64]:
    """Return [E, T, 1] a chaotic map: noise to a linear forecaster, a rule to a network."""
    rng = np.random.default_rng(3)
    z, out = rng.uniform(-1.0, 1.0, 3), np.empty((3, 900, 1))
    for t in range(900):
        z = np.clip(1.0 - 1.9 * z * z + rng.normal(0.0, 0.02, 3), -1.0, 1.0)
        out[:, t, 0] = 10.0 + 2.0 * z
    return out


def test_a_student_learns_what_its_teacher_knows(chaos: NDArray[np.float64]) -> None:
    """Protects distillation: a smaller network that beats the linear forecast, knows its entities, and streams."""
    torch.set_num_threads(1)
    there = np.isfinite(chaos)
    shape = Architecture((1,), hidden=16, window=8, kind="multi_head", heads=4, examples=2, dropout=0.0)
    teacher = learn(chaos, there, 100, 3_600_000_000, NAMES, shape, OPTIONS)
    sequences = prepare(chaos, there, 100, 3_600_000_000, (1,), NAMES, teacher.neighbours, 2)
    before = sequences.targets.copy()
    student, report = distil(teacher.weights, teacher.embedding_ids, sequences, 6, OPTIONS, dropout=0.0)
    np.testing.assert_array_equal(sequences.targets, before)  # the caller's are not touched
    assert (student.sizes.hidden, student.sizes.heads, student.sizes.entities) == (6, 3, 3)
    assert report.worthwhile
    said = corrections(student, teacher.embedding_ids, sequences, sequences.steps)[:, -200:]
    mask, came = sequences.mask[:, -200:], sequences.targets[:, -200:]
    assert np.mean((came - said)[mask] ** 2) < 0.8 * np.mean(came[mask] ** 2)


def test_what_the_teacher_says_reaches_the_student_only_before_the_holdout(chaos: NDArray[np.float64]) -> None:
    """Protects the student's report: its validation is against what came, whoever taught it."""
    torch.set_num_threads(1)
    sequences = prepare(chaos, np.isfinite(chaos), 100, 3_600_000_000, (1,), NAMES)
    silent = _silent(Sizes(input_width(1), 1, 1, hidden=8, window=4, entities=3))
    options = replace(OPTIONS, epochs=1)
    reports = [distil(silent, {}, sequences, 4, options, dropout=0.0, share=share)[1] for share in (0.0, 1.0)]
    assert reports[0].baseline == reports[1].baseline > 0.0
    assert reports[1].train_losses[0] < reports[0].train_losses[0]  # its targets were the teacher's: nothing


def _silent(sizes: Sizes) -> Weights:
    """Return a network that corrects nothing."""
    from models.attention_lstm import AttentionLSTM, export

    return export(AttentionLSTM(sizes).eval())  # the head's last layer is zero before training


def test_a_student_must_be_smaller_and_have_something_to_learn(chaos: NDArray[np.float64]) -> None:
    """Protects from a "student" that saves nothing, and names a history that is too short."""
    sequences = prepare(chaos[:, :80], np.isfinite(chaos[:, :80]), 100, 3_600_000_000, (1,), NAMES)
    silent = _silent(Sizes(input_width(1), 1, 1, hidden=8, window=4, entities=3))
    with pytest.raises(ValueError, match="of 8 hidden numbers is not smaller than its teacher's 8"):
        distil(silent, {}, sequences, 8, OPTIONS)
    with pytest.raises(TooLittleHistoryError):
        distil(silent, {}, sequences, 4, OPTIONS)


@pytest.mark.parametrize(("hidden", "heads"), [(16, 4), (6, 3), (5, 1), (2, 2), (1, 1)])
def test_heads_divide_the_student(hidden: int, heads: int) -> None:
    """Protects --to hN from sizes that the teacher's heads do not divide: as many as fit, at least one."""
    teacher = Sizes(14, 2, 3, hidden=32, kind="multi_head", heads=4, entities=9)
    assert student_sizes(teacher, hidden, 5) == replace(teacher, hidden=hidden, heads=heads, entities=5)
