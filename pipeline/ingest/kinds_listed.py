"""The kinds of source in words: what ``vedette ingest --kinds`` prints."""

from __future__ import annotations

from typing import Any

from pipeline.ingest.catalogue import source_kinds, unusable_kinds
from pipeline.ingest.kind import SourceKind


def kinds_in_words() -> str:
    """Return a line for each kind, with the options that it must have, and where all options are described."""
    kinds = sorted(source_kinds().items())
    width = max(len(name) for name, _ in kinds)
    lines = ["Kinds of source, for `kind:` under ingest.sources:"]
    lines += [f"  {name:{width}}  {kind.text}{_needed(kind)}" for name, kind in kinds]
    lines += [f"  {name} of another package cannot be used: {why}" for name, why in sorted(unusable_kinds().items())]
    lines.append("All options of each are in the JSON schema that `vedette config-schema` prints.")
    return "\n".join(lines) + "\n"


def _needed(kind: SourceKind[Any]) -> str:
    fields = kind.options.model_fields
    needed = [name for name, field in fields.items() if field.is_required() and name not in ("name", "kind")]
    return f" (needs {', '.join(needed)})" if needed else ""
