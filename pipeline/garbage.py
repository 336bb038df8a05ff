"""The garbage collector of long-lived processes: it looks less often, and not at what stays."""

from __future__ import annotations

import gc

_THRESHOLDS = (20_000, 20, 50)
"""Readings hold no cycles, and come by the thousand: the defaults would have the collector run for each few hundred."""


def settle() -> None:
    """Take all that is there now for what stays, and look for garbage seldom; once, when a process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
