"""Every detector keeps the detector contract, and the contract is worth keeping: a constant detector breaks it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from models.detection import WITNESSES, Detection, Detector
from models.state import RowState
from tests.contracts.detector_contract import CHECKS, Make, StreamDetector, Values, check_oddity_scores_higher


class ConstantDetector:
    """Says the same whatever comes."""

    def states(self) -> dict[str, RowState]:
        return {}

    def grow(self, capacity: int) -> None:
        pass

    def detect(
        self,
        values: Values,
        learn: NDArray[np.bool_],
        expected: Values,
        spread: NDArray[np.float32],
        time_us: int,
        step: int,
        open_incident: NDArray[np.bool_],
    ) -> Detection:
        n, C = values.shape
        nothing = np.zeros(n, np.float32)
        return Detection(
            score=nothing + 0.5,
            log_p=np.full(n, -1.0),
            emitted=nothing,
            alert=nothing,
            witness=np.zeros((n, len(WITNESSES)), np.float32),
            share=np.zeros((n, C), np.float32),
            sign=np.zeros((n, C), np.int8),
            warming=np.full(n, step < 10),
            admit=np.full(n, -1, np.int32),
        )


def make_detector(capacity: int, channels: int) -> StreamDetector:
    return Detector(capacity, channels, 600.0, 1.0, 30 * 86_400.0)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_detector_keeps_the_contract(check: Callable[[Make], None]) -> None:
    """Protects what daemon, backtest and checkpoints rely on."""
    check(make_detector)


def test_contract_refuses_a_constant_detector() -> None:
    """Protects the contract itself: one that never sees anything must not pass."""
    with pytest.raises(AssertionError):
        check_oddity_scores_higher(lambda capacity, channels: ConstantDetector())
