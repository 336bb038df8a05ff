"""Protects pollers from whatever comes where JSON should."""

from __future__ import annotations

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.json_documents import number_of, parsed
from connectors.reading import Reason
from connectors.refusal import Refusal

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_give_a_document_or_a_refusal(body: bytes) -> None:
    """Protects the thread: nothing that a peer sends raises."""
    parsed(body)


@settings(max_examples=40)
@given(DOCUMENTS)
def test_documents_come_back(document: object) -> None:
    """Protects the round trip."""
    assert parsed(json.dumps(document).encode()) == document


def test_depth_is_no_crash() -> None:
    """Protects from a million brackets."""
    found = parsed(b"[" * 1_000_000)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.INVALID_JSON


def test_one_nan_does_not_cost_the_page() -> None:
    """Protects the readings beside a value that JSON does not have."""
    found = parsed(b'[{"v": NaN}, {"v": 1e999}, {"v": 1.5}]')
    assert isinstance(found, list)
    assert math.isnan(found[0]["v"])
    assert math.isinf(found[1]["v"])
    assert found[2]["v"] == 1.5


def test_numbers_as_services_write_them() -> None:
    """Protects precision kept in text, and words for nothing."""
    assert number_of("1.59") == 1.59
    assert number_of(" -3 ") == -3.0
    assert number_of(7) == 7.0
    for absent in (None, "", "NaN", "unknown", "--", "***", math.nan):
        assert number_of(absent) is None
    wrongs: tuple[object, ...] = ("Ice", "1_000", "0x10", True, [1], {}, "9" * 500)
    for wrong in wrongs:
        refusal = number_of(wrong)
        assert isinstance(refusal, Refusal)
        assert refusal.reason is Reason.WRONG_TYPE
    endlesses: tuple[object, ...] = (math.inf, "-inf", "1e999", 10**400)
    for endless in endlesses:
        refusal = number_of(endless)
        assert isinstance(refusal, Refusal)
        assert refusal.reason is Reason.NOT_FINITE


@settings(max_examples=60)
@given(st.none() | st.floats() | st.text() | st.integers() | st.booleans() | DOCUMENTS)
def test_any_value_gives_a_finite_number_nothing_or_a_refusal(value: object) -> None:
    """Protects what comes after from NaN and infinities."""
    number = number_of(value)
    assert number is None or isinstance(number, Refusal) or math.isfinite(number)
