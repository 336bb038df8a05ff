"""The innovation witness sees large errors in both directions, whatever the first ones were."""

from __future__ import annotations

import numpy as np
import pytest

from models.innovation import InnovationWitness


@pytest.mark.parametrize("first", [-1e6, 0.0, 1e6])
def test_both_directions_are_seen_after_an_absurd_beginning(first: float) -> None:
    """Protects from blindness: the second value ever has a forecast without a spread, so its error is a million."""
    errors = np.concatenate(([first], np.random.default_rng(0).normal(size=600)))
    learn, calm, one = np.ones((1, 1), np.bool_), np.zeros(1, np.bool_), np.ones((1, 1), np.float32)
    witness = InnovationWitness(1, 1, 9.0)
    for error in errors:
        witness.step(np.full((1, 1), error), learn, np.zeros((1, 1)), one, calm)
    for error in (-9.0, 9.0):
        surprise, _ = witness.step(np.full((1, 1), error), np.zeros_like(learn), np.zeros((1, 1)), one, calm)
        assert surprise[0, 0] > 7.0
