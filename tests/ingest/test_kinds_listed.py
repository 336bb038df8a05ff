"""What people are told of the kinds of source is what there is."""

from __future__ import annotations

from pipeline.ingest.catalogue import OURS
from pipeline.ingest.kinds_listed import kinds_in_words


def test_every_kind_is_listed_with_what_it_needs() -> None:
    """Protects whoever begins a config: each kind is named, with what it must be told, and where the rest stands."""
    text = kinds_in_words()
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert set(OURS) <= set(lines)
    assert lines["openaq"].endswith("(needs key)")
    assert lines["mqtt"].endswith("(needs host, mappings)")
    assert "needs" not in lines["http"]
    assert "vedette config-schema" in text
    assert max(map(len, text.splitlines())) <= 140
