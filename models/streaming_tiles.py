"""The two innermost products of attention over the ring, written in vector instructions.

A ring of 64 states is one iteration of what LLVM's vectoriser makes of a plain loop, so that set-up costs more than the
work: 105 and 95 ns an entity for scores and context at H = 32, against 41 and 66 ns here. The instructions are
generic (16 lanes of float32); LLVM lowers them to whatever the processor has.

Legend: H hidden, W window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

TILE = 64
"""Ring places that one call takes."""
_LANES = 16
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS = ir.VectorType(_FLOAT, _LANES)
_INTS = ir.VectorType(_INT, _LANES)
_HALVES = ir.VectorType(ir.IntType(16), _LANES)


def _array(context: Any, builder: Any, signature: Any, args: Any, index: int) -> tuple[Any, list[Any]]:
    """Return the data pointer and the shape of array argument ``index``."""
    kind = signature.args[index]
    array = context.make_array(kind)(context, builder, args[index])
    return array.data, cgutils.unpack_tuple(builder, array.shape, kind.ndim)


def _vector_at(builder: Any, data: Any, offset: Any, half: bool) -> Any:
    """Load 16 stored numbers as float32; bfloat16 is the upper half of their bits."""
    place = builder.gep(data, [offset])
    if not half:
        return builder.load(builder.bitcast(place, _FLOATS.as_pointer()), align=4)
    raw = builder.load(builder.bitcast(place, _HALVES.as_pointer()), align=2)
    return builder.bitcast(builder.shl(builder.zext(raw, _INTS), ir.Constant(_INTS, [16] * _LANES)), _FLOATS)


def _all_lanes(builder: Any, value: Any) -> Any:
    nothing = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(_INTS, [0] * _LANES))


def _fused(builder: Any) -> Callable[[Any, Any, Any], Any]:
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v16f32")
    return lambda a, b, c: builder.call(function, [a, b, c])


def _sum(builder: Any, vector: Any) -> Any:
    kind = ir.FunctionType(_FLOAT, [_FLOAT, _FLOATS])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.fadd.v16f32")
    return builder.call(function, [ir.Constant(_FLOAT, 0.0), vector], fastmath=("reassoc",))


def _offsets(builder: Any, start: Any) -> list[Any]:
    return [builder.add(start, ir.Constant(start.type, lane)) for lane in range(0, TILE, _LANES)]


@intrinsic
def add_scores(typing: Any, query: Any, at: Any, ring: Any, start: Any, scores: Any) -> Any:
    """scores[start : start + TILE] += query[at : at + H] @ ring[:, start : start + TILE]; ring is [H, W]."""
    half = ring.dtype == types.uint16

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        query_data, _ = _array(context, builder, signature, args, 0)
        ring_data, (H, W) = _array(context, builder, signature, args, 2)
        score_data, _ = _array(context, builder, signature, args, 4)
        fused, offsets = _fused(builder), _offsets(builder, args[3])
        places = [builder.bitcast(builder.gep(score_data, [o]), _FLOATS.as_pointer()) for o in offsets]
        sums = [cgutils.alloca_once_value(builder, builder.load(place, align=4)) for place in places]
        with cgutils.for_range(builder, H) as loop:
            q = _all_lanes(builder, builder.load(builder.gep(query_data, [builder.add(args[1], loop.index)])))
            row = builder.mul(loop.index, W)
            for offset, total in zip(offsets, sums, strict=True):
                states = _vector_at(builder, ring_data, builder.add(row, offset), half)
                builder.store(fused(q, states, builder.load(total)), total)
        for place, total in zip(places, sums, strict=True):
            builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    return types.void(query, at, ring, start, scores), generate


@intrinsic
def add_context(typing: Any, shares: Any, ring: Any, start: Any, out: Any, to: Any) -> Any:
    """out[to : to + H] += ring[:, start : start + TILE] @ shares[start : start + TILE]; ring is [H, W]."""
    half = ring.dtype == types.uint16

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        share_data, _ = _array(context, builder, signature, args, 0)
        ring_data, (H, W) = _array(context, builder, signature, args, 1)
        out_data, _ = _array(context, builder, signature, args, 3)
        fused, offsets = _fused(builder), _offsets(builder, args[2])
        weights = [_vector_at(builder, share_data, offset, False) for offset in offsets]
        with cgutils.for_range(builder, H) as loop:
            row = builder.mul(loop.index, W)
            states = [_vector_at(builder, ring_data, builder.add(row, offset), half) for offset in offsets]
            even = fused(weights[2], states[2], builder.fmul(weights[0], states[0]))
            odd = fused(weights[3], states[3], builder.fmul(weights[1], states[1]))
            place = builder.gep(out_data, [builder.add(args[4], loop.index)])
            builder.store(builder.fadd(builder.load(place), _sum(builder, builder.fadd(even, odd))), place)
        return context.get_dummy_value()

    return types.void(shares, ring, start, out, to), generate
