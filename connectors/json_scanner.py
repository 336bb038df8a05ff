"""Plain readings, scanned: canonical JSON as programs usually write it, from bytes straight into columns.

Compiled code reads a batch of records and makes no Python object of a reading; that takes a third of the time of a
general decoder, and no interpreter lock. It takes what means exactly one thing: objects, or lists of them, whose texts
have no escapes, whose names are known already, and whose times are RFC 3339 in the usual spelling. One record that is
anything else, good or bad, and the batch is left to the general decoder; so this refuses nothing and explains nothing.

It stays within its bytes since each record is followed by a NUL byte, which no JSON holds as it is: nothing goes on
over one, and ``_AHEAD`` bytes of them behind the last record are room for what is looked at by place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from connectors.codec_json import LONGEST_NAME, QUALITY_CODES
from connectors.known_names import FNV_OFFSET, FNV_PRIME, MOST_PROBES, KnownNames
from connectors.reading import NO_TIME, Quality, Vocabulary
from connectors.timestamps import EARLIEST_US, LATEST_US

_LONGEST_UNIT = 64
_LONGEST_QUALITY = 16
_AHEAD = 40
"""No less than the characters of a time, ``2026-11-21T10:00:00.000000+00:00``."""
_SHORTEST = len('{"entity":"a","channel":"b","time":"2026-11-21T10:00:00Z","value":1}')
_MOST_SKIPPED = 64
"""Batches that are not even tried after some that failed: a source that writes otherwise does so all the time."""
_ENTITY, _CHANNEL, _UNIT, _QUALITY = range(4)
_TIME, _VALUE, _RESULT_TIME, _OTHER, _BAD = 4, 5, 6, 7, -1
_REQUIRED = (1 << _ENTITY) | (1 << _CHANNEL) | (1 << _TIME) | (1 << _VALUE)
_UNKNOWN = int(Quality.UNKNOWN)
_MOST_DIGITS = 18
"""So many fit into 64 bits."""
_EXACT = np.uint64(2**53)
_TENS = np.array([10.0**n for n in range(23)])
"""Powers of ten that are exact; a quotient or product of two exact numbers is rounded once, as it has to be (Clinger,
"How to read floating point numbers accurately", 1990)."""


def _word(text: str) -> tuple[int, int]:
    """Return up to 16 characters as two words, as the scanner gathers them."""
    number = int.from_bytes(text.encode(), "big")
    return number >> 64, number & (2**64 - 1)


_W_ENTITY, _W_CHANNEL, _W_UNIT = (np.uint64(_word(key)[1]) for key in ("entity", "channel", "unit"))
_W_QUALITY, _W_TIME, _W_VALUE = (np.uint64(_word(key)[1]) for key in ("quality", "time", "value"))
_W_RESULT_HIGH, _W_RESULT_LOW = (np.uint64(word) for word in _word("result_time"))

Columns = tuple[
    NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], NDArray[np.int8],
    NDArray[np.int64], NDArray[np.int32],
]  # fmt: skip
"""entity, channel, time_us, value, unit, quality, result_time_us, record; each [n], as in ``ReadingBatch``."""


class JsonScanner:
    """Scans batches of records. Not for use from two threads at once.

    Args:
        entities, channels, units: names to codes; the scanner adds none.
        max_bytes: batches with larger records are left alone.
    """

    def __init__(self, entities: Vocabulary, channels: Vocabulary, units: Vocabulary, max_bytes: int) -> None:
        names = [name for name, _ in sorted(QUALITY_CODES.items(), key=lambda item: item[1]) if name]
        self._units = units
        self._known = KnownNames(
            (entities, LONGEST_NAME, False), (channels, LONGEST_NAME, False), (units, _LONGEST_UNIT, True),
            (Vocabulary(names), _LONGEST_QUALITY, False),
        )  # fmt: skip
        self._max_bytes = max_bytes
        self._failures = 0
        self._skip = 0
        self._scan([b"{}"], 0)  # compiles, before there is anything to read

    def scan(self, values: Sequence[bytes | None], first: int) -> Columns | None:
        """Return the readings of all records, or None where one of them is not plain; changes no vocabulary.

        Args:
            values: the records.
            first: index of the first of them in its block.
        """
        if self._skip > 0:
            self._skip -= 1
            return None
        columns = self._scan(values, first)
        self._failures = 0 if columns is not None else self._failures + 1
        self._skip = min(1 << self._failures, _MOST_SKIPPED) - 2 if self._failures > 1 else 0
        return columns

    def _scan(self, values: Sequence[bytes | None], first: int) -> Columns | None:
        try:
            joined = b"\0".join(values) + b"\0" * (1 + _AHEAD)  # type: ignore[arg-type]
        except TypeError:  # a tombstone
            return None
        lengths = np.fromiter(map(len, values), np.int64, len(values))  # type: ignore[arg-type]
        if not len(values) or lengths.max() > self._max_bytes:
            return None
        self._known.follow()
        ends = np.cumsum(lengths + 1) - 1
        most = len(joined) // _SHORTEST + 1
        columns: Columns = (
            np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int64), np.empty(most, np.float64),
            np.empty(most, np.int32), np.empty(most, np.int8), np.empty(most, np.int64), np.empty(most, np.int32),
        )  # fmt: skip
        long_numbers = np.empty((most, 3), np.int64)
        n, n_long = _scan_records(
            np.frombuffer(joined, np.uint8), ends, self._known.slots, self._known.entries, self._known.pool,
            self._units.codes.get("", -1), *columns, long_numbers,
        )  # fmt: skip
        if n < 0:
            return None
        for row, begin, end in long_numbers[:n_long].tolist():
            value = float(joined[begin:end])
            if value in (np.inf, -np.inf):
                return None
            columns[3][row] = value
        columns[7][:n] += np.int32(first)
        return tuple(column[:n] for column in columns)  # type: ignore[return-value]


_compiled = njit(cache=True, nogil=True, error_model="numpy")
Pointer: TypeAlias = Any
"""To the first element of an array: handing the array itself to a function costs more than what is done there."""


@intrinsic
def _pointer(_: Any, array: types.Array) -> Any:
    """Return where an array begins; who holds the pointer has to hold the array, too."""

    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), made


@_compiled
def _spaces(data: Pointer, at: int) -> int:
    """Return where the next character is that is no space."""
    while data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9:
        at += 1
    return at


@_compiled
def _key(data: Pointer, at: int) -> tuple[int, int]:
    """Return which field the key is, _OTHER for what is not read, and where its value begins; (_BAD, 0): not plain."""
    if data[at] != 34:  # "
        return _BAD, 0
    at += 1
    first = at
    high, low = np.uint64(0), np.uint64(0)
    while data[at] != 34:
        c = data[at]
        if c < 32 or c == 92 or c > 126:  # control, backslash, beyond ASCII
            return _BAD, 0
        high = (high << np.uint64(8)) | (low >> np.uint64(56))
        low = (low << np.uint64(8)) | np.uint64(c)
        at += 1
    field = _field(high, low) if at - first <= 16 else _OTHER
    at = _spaces(data, at + 1)
    if data[at] != 58:  # :
        return _BAD, 0
    return field, _spaces(data, at + 1)


@_compiled
def _field(high: np.uint64, low: np.uint64) -> int:
    if high == _W_RESULT_HIGH and low == _W_RESULT_LOW:
        return _RESULT_TIME
    if high != 0:
        return _OTHER
    if low == _W_ENTITY:
        return _ENTITY
    if low == _W_CHANNEL:
        return _CHANNEL
    if low == _W_TIME:
        return _TIME
    if low == _W_VALUE:
        return _VALUE
    if low == _W_UNIT:
        return _UNIT
    return _QUALITY if low == _W_QUALITY else _OTHER


@_compiled
def _number(data: Pointer, at: int) -> tuple[float, int, bool]:
    """Return a number or null (NaN), where it ends, and whether it is left to others; where it ends is 0: not plain."""
    if data[at] == 110:
        is_null = data[at + 1] == 117 and data[at + 2] == 108 and data[at + 3] == 108
        return np.nan, at + 4 if is_null else 0, False
    negative = data[at] == 45  # -
    if negative:
        at += 1
    if data[at] == 48 and 48 <= data[at + 1] <= 57:  # 01
        return 0.0, 0, False
    digits, mantissa, begin = 0, np.uint64(0), at
    while 48 <= data[at] <= 57:
        if digits < _MOST_DIGITS:
            mantissa = mantissa * np.uint64(10) + np.uint64(data[at] - 48)
        digits += 1
        at += 1
    if at == begin:
        return 0.0, 0, False
    tens = 0
    if data[at] == 46:  # .
        at += 1
        begin = at
        while 48 <= data[at] <= 57:
            if digits < _MOST_DIGITS:
                mantissa = mantissa * np.uint64(10) + np.uint64(data[at] - 48)
            digits += 1
            at += 1
        tens = begin - at
        if tens == 0:
            return 0.0, 0, False
    if data[at] == 101 or data[at] == 69:  # e
        at += 1
        below = data[at] == 45
        if below or data[at] == 43:
            at += 1
        exponent, begin = 0, at
        while 48 <= data[at] <= 57:
            exponent = min(10 * exponent + (data[at] - 48), 100_000)
            at += 1
        if at == begin:
            return 0.0, 0, False
        tens += -exponent if below else exponent
    if digits > _MOST_DIGITS or mantissa > _EXACT or not -22 <= tens <= 22 or (negative and mantissa == 0):
        return 0.0, at, True
    value = np.float64(mantissa)
    value = value / _TENS[-tens] if tens < 0 else value * _TENS[tens]
    return -value if negative else value, at, False


@_compiled
def _moment(data: Pointer, at: int) -> tuple[int, int]:
    """Return the time that a text says, microseconds since 1970, and where it ends; (-1, 0): not plain.

    ``2026-11-21T10:00:00``, up to six digits of a fraction, and ``Z`` or ``+01:00``. What is looked at by place may lie
    behind the text, but not behind the NULs.
    """
    days = _days(
        100 * _two_digits(data[at], data[at + 1]) + _two_digits(data[at + 2], data[at + 3]),
        _two_digits(data[at + 5], data[at + 6]),
        _two_digits(data[at + 8], data[at + 9]),
    )
    seconds = _seconds(
        _two_digits(data[at + 11], data[at + 12]),
        _two_digits(data[at + 14], data[at + 15]),
        _two_digits(data[at + 17], data[at + 18]),
    )
    if data[at + 4] != 45 or data[at + 7] != 45 or data[at + 10] != 84 or data[at + 13] != 58 or data[at + 16] != 58:
        return -1, 0
    if days < 0 or seconds < 0:
        return -1, 0
    at += 19
    fraction = 0
    if data[at] == 46:
        at += 1
        scale = 100_000
        while 48 <= data[at] <= 57:
            if scale == 0:  # a seventh digit is rounded elsewhere
                return -1, 0
            fraction += scale * (data[at] - 48)
            scale //= 10
            at += 1
        if scale == 100_000:
            return -1, 0
    offset = 0
    if data[at] == 90:  # Z
        at += 1
    elif data[at] == 43 or data[at] == 45:  # + -
        offset = _seconds(_two_digits(data[at + 1], data[at + 2]), _two_digits(data[at + 4], data[at + 5]), 0)
        if offset < 0 or data[at + 3] != 58 or (offset == 0 and data[at] == 45):  # -00:00 is an unknown one
            return -1, 0
        if data[at] == 45:
            offset = -offset
        at += 6
    else:
        return -1, 0
    moment = (days * 86_400 + seconds - offset) * 1_000_000 + fraction
    if moment < EARLIEST_US or moment >= LATEST_US:
        return -1, 0
    return moment, at


@_compiled
def _two_digits(tens: int, ones: int) -> int:
    """Return the number, or a large negative one where a character is no digit."""
    return 10 * (tens - 48) + ones - 48 if 48 <= tens <= 57 and 48 <= ones <= 57 else -1_000_000


@_compiled
def _seconds(hour: int, minute: int, second: int) -> int:
    """Return the second of the day, -1 where there is none such; a leap second is left to others."""
    if 0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59:
        return hour * 3600 + minute * 60 + second
    return -1


@_compiled
def _days(year: int, month: int, day: int) -> int:
    """Return the days since 1970 of a date of the Gregorian calendar; -1 where there is no such day.

    Years from 1970 on; Howard Hinnant, "chrono-compatible low-level date algorithms", days_from_civil.
    """
    if not (1970 <= year <= 2200 and 1 <= month <= 12 and 1 <= day <= 31):
        return -1
    if month in (4, 6, 9, 11) and day > 30:
        return -1
    if month == 2 and day > (29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28):
        return -1
    y = year - 1 if month <= 2 else year
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


@_compiled
def _name(
    data: Pointer,
    at: int,
    kind: int,
    slots: Pointer,
    mask: np.uint64,
    entries: Pointer,
    pool: Pointer,
) -> tuple[int, int]:
    """Return the code of a name, and where it ends; (-1, 0): not plain, or not known.

    It is valid UTF-8, and no longer than it may be, since a name with the same bytes was.
    """
    first = at
    state = FNV_OFFSET ^ np.uint64(kind)
    while data[at] != 34:
        c = data[at]
        if c < 32 or c == 92:
            return -1, 0
        state = (state ^ np.uint64(c)) * FNV_PRIME
        at += 1
    for probe in range(MOST_PROBES):
        i = slots[np.int64((state + np.uint64(probe)) & mask)] - 1
        if i < 0:
            break
        if entries[4 * i] == kind and entries[4 * i + 3] == at - first:
            k = first
            while k < at and data[k] == pool[entries[4 * i + 2] + k - first]:
                k += 1
            if k == at:
                return entries[4 * i + 1], at
    return -1, 0


@_compiled
def _text(data: Pointer, at: int) -> int:
    """Return where a text ends that is not read; 0: not plain."""
    while data[at] != 34:
        if data[at] < 32 or data[at] == 92 or data[at] > 126:
            return 0
        at += 1
    return at


@_compiled
def _scan_records(
    records: NDArray[np.uint8],
    ends: NDArray[np.int64],
    slots: NDArray[np.int32],
    entries: NDArray[np.int64],
    pool: NDArray[np.uint8],
    no_unit: int,
    entity: NDArray[np.int32],
    channel: NDArray[np.int32],
    time_us: NDArray[np.int64],
    value: NDArray[np.float64],
    unit: NDArray[np.int32],
    quality: NDArray[np.int8],
    result_time_us: NDArray[np.int64],
    record: NDArray[np.int32],
    long_numbers: NDArray[np.int64],
) -> tuple[int, int]:
    """Fill the columns; return how many readings there are, and how many numbers are left; (-1, 0): not all is plain.

    Args:
        records: the records, each with a NUL behind it, and ``_AHEAD`` more of these behind the last.
        ends: [records] where each one's NUL is.
        slots, entries, pool: of ``KnownNames``.
        no_unit: code of the empty unit; -1 where it has none yet.
        long_numbers: row, first and last of numbers that more than a multiplication is needed for.
    """
    data, mask = _pointer(records), np.uint64(len(slots) - 1)
    n, n_long, at = 0, 0, 0
    for r in range(len(ends)):
        at = _spaces(data, at)
        is_list = data[at] == 91  # [
        if is_list:
            at = _spaces(data, at + 1)
        while True:
            if data[at] != 123 or n >= len(entity):  # {
                return -1, 0
            seen = 0
            unit[n], quality[n], result_time_us[n], record[n] = no_unit, _UNKNOWN, NO_TIME, r
            while data[at] != 125:  # }
                field, at = _key(data, _spaces(data, at + 1))
                if field < 0 or (field != _OTHER and seen & (1 << field)):
                    return -1, 0
                seen |= 1 << field
                if field == _VALUE or (field == _OTHER and data[at] != 34):
                    first = at
                    number, at, is_long = _number(data, at)
                    if at == 0:
                        return -1, 0
                    if field == _VALUE:
                        value[n] = number
                        if is_long:
                            long_numbers[n_long, 0] = n
                            long_numbers[n_long, 1] = first
                            long_numbers[n_long, 2] = at
                            n_long += 1
                elif data[at] != 34:
                    return -1, 0
                else:
                    if field in (_TIME, _RESULT_TIME):
                        moment, at = _moment(data, at + 1)
                        if field == _TIME:
                            time_us[n] = moment
                        else:
                            result_time_us[n] = moment
                    elif field == _OTHER:
                        at = _text(data, at + 1)
                    else:
                        code, at = _name(data, at + 1, field, _pointer(slots), mask, _pointer(entries), _pointer(pool))
                        if field == _ENTITY:
                            entity[n] = code
                        elif field == _CHANNEL:
                            channel[n] = code
                        elif field == _UNIT:
                            unit[n] = code
                        else:
                            quality[n] = code
                    if at == 0 or data[at] != 34:
                        return -1, 0
                    at += 1
                at = _spaces(data, at)
                if data[at] != 44 and data[at] != 125:  # , }
                    return -1, 0
            if seen & _REQUIRED != _REQUIRED or unit[n] < 0:
                return -1, 0
            n += 1
            at = _spaces(data, at + 1)
            if not is_list:
                break
            if data[at] == 93:  # ]
                at = _spaces(data, at + 1)
                break
            if data[at] != 44:
                return -1, 0
            at = _spaces(data, at + 1)
        if at != ends[r]:
            return -1, 0
        at += 1
    return n, n_long
