"""How detection is judged: area under precision and recall, its range-aware volume, NAB's score, and the floors.

Everything here sees labels and is for reports only; nothing in the running product may call it.

Legend: T rows of one series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]


def auc_pr(labels: Labels, scores: Scores) -> float:
    """Return the average precision of ``scores`` [T] for ``labels`` [T]; ties count as one threshold; NaN without
    labels.

    >>> auc_pr(np.array([True, False]), np.array([2.0, 1.0]))
    1.0
    """
    positives = int(labels.sum())
    if positives == 0:
        return math.nan
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    last_of_tie = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    recall = hits[last_of_tie] / positives
    precision = hits[last_of_tie] / (last_of_tie + 1)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def segments(labels: Labels) -> list[tuple[int, int]]:
    """Return the runs of True as (first, last), both inclusive."""
    edges = np.flatnonzero(np.diff(np.r_[False, labels, False].astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def vus_pr(labels: Labels, scores: Scores, window: int, thresholds: int = 250) -> float:
    """Return the volume under the range-aware precision-recall surface for buffers of 0 … ``window`` rows.

    Source: Paparrizos et al., "Volume Under the Surface", PVLDB 15 (2022), and the TSB-AD benchmark (NeurIPS 2024):
    labels are widened by square-root ramps, recall is weighed by the share of events that are touched at all.
    """
    runs = segments(labels)
    if not runs:
        return math.nan
    order = np.argsort(-scores, kind="stable")
    ends = np.unique(np.linspace(0, len(scores) - 1, thresholds).astype(np.int64))
    cuts = scores[order[ends]]
    flagged = len(scores) - np.searchsorted(scores[order[::-1]], cuts, side="left")
    return float(np.mean([_range_auc_pr(labels, scores, runs, order, cuts, flagged, w) for w in range(window + 1)]))


def _range_auc_pr(
    labels: Labels,
    scores: Scores,
    runs: list[tuple[int, int]],
    order: NDArray[np.intp],
    cuts: Scores,
    flagged: NDArray[np.int64],
    window: int,
) -> float:
    soft = _widened(labels, runs, window)
    size = (labels.sum() + soft.sum()) / 2.0
    hits = np.cumsum(soft[order])[flagged - 1]
    touched = np.array([scores[max(0, a - window // 2) : b + window // 2 + 1].max() for a, b in runs])
    existence = np.mean(touched[:, None] >= cuts, axis=0)
    recall = np.minimum(hits / size, 1.0) * existence
    return float(np.sum(np.diff(recall, prepend=0.0) * hits / flagged))


def _widened(labels: Labels, runs: list[tuple[int, int]], window: int) -> Scores:
    soft = labels.astype(np.float64)
    for first, last in runs:
        after = np.arange(last, min(last + window // 2, len(soft)))
        before = np.arange(max(0, first - window // 2), first)
        if window:
            soft[after] += np.sqrt(1.0 - (after - last) / window)
            soft[before] += np.sqrt(1.0 - (first - before) / window)
    return np.minimum(soft, 1.0)


@dataclass(frozen=True, slots=True)
class NabProfile:
    """Weights of NAB v1.1: a detection early in a window, a false alarm, a missed window."""

    hit: float
    false_alarm: float
    miss: float


NAB_PROFILES = {
    "standard": NabProfile(1.0, 0.11, 1.0),
    "low_fp": NabProfile(1.0, 0.22, 1.0),
    "low_fn": NabProfile(1.0, 0.11, 2.0),
}


@dataclass(frozen=True, slots=True)
class NabFile:
    """One scored file: its scores [T] and its label windows as (first row, last row), inclusive, in order."""

    scores: Scores
    windows: Sequence[tuple[int, int]]

    @property
    def probation(self) -> int:
        """Rows at the start that are not scored: 15 %, at most 750."""
        return int(min(0.15 * len(self.scores), 750.0))


def nab_score(files: Sequence[NabFile], profile: NabProfile, threshold: float) -> float:
    """Return NAB's corpus score in percent (0: says nothing, 100: every window at its left edge, nothing else).

    Source: Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms", ICMLA 2015, and the NAB v1.1 scorer.
    """
    gains = [_gains(file, profile) for file in files]
    total = sum(_file_score(f, g, profile, threshold) for f, g in zip(files, gains, strict=True))
    return _percent(total, files, profile)


def nab_sweep(files: Sequence[NabFile], profile: NabProfile) -> tuple[float, float]:
    """Return (best score in percent, its threshold) over all thresholds for the whole corpus.

    This threshold sees the labels: report the score at the product's own boundary beside it.
    """
    cuts: list[Scores] = []
    changes: list[Scores] = []
    for file in files:
        gain, owner = _gains(file, profile), _owner(file)
        scored = np.arange(len(file.scores)) >= file.probation
        outside = scored & (owner < 0)
        cuts.append(file.scores[outside])
        changes.append(gain[outside])
        for window in range(len(file.windows)):
            rows = np.flatnonzero(scored & (owner == window))
            # Going down the thresholds a window first changes from missed to hit, then to earlier and earlier hits.
            order = rows[np.argsort(-file.scores[rows], kind="stable")]
            best = np.maximum.accumulate(gain[order])
            cuts.append(file.scores[order])
            changes.append(np.diff(best, prepend=-profile.miss))
    cut, change = np.concatenate(cuts), np.concatenate(changes)
    order = np.argsort(-cut, kind="stable")
    total = np.cumsum(change[order]) - profile.miss * sum(len(f.windows) for f in files)
    last_of_tie = np.r_[np.flatnonzero(np.diff(cut[order])), len(order) - 1]
    best_at = last_of_tie[np.argmax(total[last_of_tie])]
    return _percent(float(total[best_at]), files, profile), float(cut[order][best_at])


def _percent(score: float, files: Sequence[NabFile], profile: NabProfile) -> float:
    windows = sum(len(f.windows) for f in files)
    null = -profile.miss * windows
    return 100.0 * (score - null) / (profile.hit * windows - null)


def _file_score(file: NabFile, gain: Scores, profile: NabProfile, threshold: float) -> float:
    owner = _owner(file)
    fired = (file.scores >= threshold) & (np.arange(len(file.scores)) >= file.probation)
    score = float(gain[fired & (owner < 0)].sum())
    for window in range(len(file.windows)):
        hits = gain[fired & (owner == window)]
        score += float(hits.max()) if len(hits) else -profile.miss
    return score


def _owner(file: NabFile) -> NDArray[np.int64]:
    """Return [T] the index of the window a row lies in, −1 outside."""
    owner = np.full(len(file.scores), -1, np.int64)
    for i, (first, last) in enumerate(file.windows):
        owner[first : last + 1] = i
    return owner


def _gains(file: NabFile, profile: NabProfile) -> Scores:
    """Return [T] what a detection at each row is worth: in a window by its place, outside by its distance."""
    gain = np.full(len(file.scores), -profile.false_alarm)
    for i, (first, last) in enumerate(file.windows):
        width = last - first + 1
        inside = np.arange(first, last + 1)
        gain[inside] = profile.hit * _sigmoid(-(last - inside + 1) / width) / _sigmoid(np.array(-1.0))
        until = file.windows[i + 1][0] if i + 1 < len(file.windows) else len(gain)
        past = np.arange(last + 1, until)
        gain[past] = profile.false_alarm * _sigmoid((past - last) / max(width - 1, 1))
    return gain


def _sigmoid(position: Scores) -> Scores:
    """Return NAB's scaled sigmoid: near 1 at −1, 0 at 0, −1 beyond 3."""
    return np.where(position > 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, 3.0))) - 1.0)


# ---- floors: what anything worth its electricity must beat, printed beside every figure ----


def floor_random(values: Scores, seed: int = 0) -> Scores:
    """Return [T] uniform random scores."""
    return np.random.default_rng(seed).random(len(values))


def floor_difference(values: Scores) -> Scores:
    """Return [T] the largest absolute one-step change over the channels of [T, C], each over its own spread."""
    change = np.abs(np.diff(_filled(values), axis=0, prepend=_filled(values)[:1]))
    return np.asarray((change / (change.std(axis=0) + 1e-12)).max(axis=1))


def floor_ew_z(values: Scores, half_life: float) -> Scores:
    """Return [T] the largest |z| over the channels of [T, C] against exponentially weighted mean and variance."""
    x = _filled(values)
    gain = 1.0 - 0.5 ** (1.0 / half_life)
    mean, variance = x[0].copy(), np.zeros(x.shape[1])
    out = np.zeros(len(x))
    for t in range(1, len(x)):
        deviation = x[t] - mean
        out[t] = np.max(np.abs(deviation) / np.sqrt(variance + 1e-12)) if t > 30 else 0.0
        mean += max(gain, 1.0 / (t + 1)) * deviation
        variance += max(gain, 1.0 / (t + 1)) * (deviation * deviation - variance)
    return out


def _filled(values: Scores) -> Scores:
    """Return [T, C] with the last known value carried over gaps."""
    x = np.array(values if values.ndim == 2 else values[:, None], np.float64)
    for c in range(x.shape[1]):
        known = np.where(np.isnan(x[:, c]), 0, np.arange(len(x)))
        x[:, c] = np.nan_to_num(x[np.maximum.accumulate(known), c])
    return x
