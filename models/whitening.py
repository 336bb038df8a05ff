"""Packed Cholesky factors of small correlation matrices: what whitens several channels at once.

Legend: M channels of a block; a packed matrix is its lower triangle row by row, M(M+1)/2 numbers.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

JOINT_CHANNELS = 12  # more channels than this are whitened each alone
SHRINK = 0.7  # of correlations; measured on GECCO, CalIt2 and SKAB
LEAST_VARIANCE = 0.01  # below which nothing is winsorised further: it would collapse where most values are zero
RIDGE = 1e-6  # (1e-3 sd)²; measured on GECCO, CalIt2 and SKAB


@njit(cache=True, nogil=True, error_model="numpy")
def learn_covariance(covariance: Any, z: Any, gain: float, limit: float) -> None:
    """Move a packed covariance towards z·zᵀ, z clipped at ``limit`` of its own standard deviations; NaN is skipped."""
    M = z.shape[0]
    at = 0
    for i in range(M):
        bound = limit * math.sqrt(max(covariance[at + i], LEAST_VARIANCE))
        a = min(max(z[i], -bound), bound)
        row = 0
        for j in range(i + 1):
            other = limit * math.sqrt(max(covariance[row + j], LEAST_VARIANCE))
            b = min(max(z[j], -other), other)
            if not math.isnan(a * b):
                covariance[at + j] += gain * (a * b - covariance[at + j])
            row += j + 1
        at += i + 1


@njit(cache=True, nogil=True, error_model="numpy")
def factorise(covariance: Any, factor: Any) -> None:
    """Write the packed Cholesky factor of a covariance whose correlations are shrunk; always positive definite."""
    M = int((math.sqrt(8.0 * covariance.shape[0] + 1.0) - 1.0) / 2.0)
    for i in range(M):
        at = i * (i + 1) // 2
        for j in range(i + 1):
            row = j * (j + 1) // 2
            entry = covariance[at + j] + RIDGE if i == j else SHRINK * covariance[at + j]
            for k in range(j):
                entry -= factor[at + k] * factor[row + k]
            if i == j:
                factor[at + i] = math.sqrt(max(entry, RIDGE))
            else:
                factor[at + j] = entry / factor[row + j]


@njit(cache=True, nogil=True, error_model="numpy")
def whiten(factor: Any, z: Any, out: Any) -> float:
    """Solve factor·out = z by forward substitution; return |out|², which is zᵀR⁻¹z. NaN in z counts as 0."""
    total = 0.0
    at = 0
    for i in range(z.shape[0]):
        value = 0.0 if math.isnan(z[i]) else z[i]
        for j in range(i):
            value -= factor[at + j] * out[j]
        out[i] = value / factor[at + i]
        total += out[i] * out[i]
        at += i + 1
    return total
