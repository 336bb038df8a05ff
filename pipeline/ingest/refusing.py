"""Why a reading is not taken further on: what the daemon would refuse is refused before it is on a topic."""

from __future__ import annotations

import math

from connectors.codec_json import LONGEST_NAME
from connectors.reading import Reading, Reason, Rejected
from connectors.timestamps import in_range, to_text


def refusal_of(reading: Reading, latest_us: int) -> Rejected | None:
    """Return why a reading would not be taken further on; None when it would."""
    for name, text in (("entity", reading.entity), ("channel", reading.channel)):
        if not 0 < len(text) <= LONGEST_NAME:
            return _rejected(reading, Reason.MISSING_KEY, f"{name} has {len(text)} characters; allowed: 1 to 256")
    if reading.value is not None and math.isinf(reading.value):
        return _rejected(reading, Reason.NOT_FINITE, "the value is infinite; allowed: a finite number, or none")
    if not in_range(reading.time_us):
        return _rejected(reading, Reason.BAD_TIME, f"time {reading.time_us} us is not between 1970 and 2200")
    if reading.result_time_us is not None and not in_range(reading.result_time_us):
        return _rejected(reading, Reason.BAD_TIME, f"result_time {reading.result_time_us} us is not from 1970 to 2200")
    if reading.time_us > latest_us:
        detail = f"time {to_text(reading.time_us)} is after {to_text(latest_us)}; look at the sender's clock"
        return _rejected(reading, Reason.TOO_FAR_AHEAD, detail)
    return None


def _rejected(reading: Reading, reason: Reason, detail: str) -> Rejected:
    raw = repr(reading).encode("utf-8", "backslashreplace")[:65_536]
    return Rejected(reason, f"{reading.entity[:80]}/{reading.channel[:80]}: {detail}", raw)
