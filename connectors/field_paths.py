"""Names of fields in records, and names made of fields.

A field is named as it is; in documents also by dots (``sensor.pm.value``), or as a path (``$['odd name'][0]``). What
begins with ``@`` is not in the record but around it: ``@stem`` of a file, ``@key`` of a Kafka record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from connectors.codec_json import LONGEST_NAME
from connectors.json_path import ABSENT, JsonPath, compiled
from connectors.reading import Reason
from connectors.refusal import Refusal, shortened

Around = Mapping[str, object]
"""What is known of where a record came from, by names that begin with ``@``."""
_PLACES = re.compile(r"\{([^{}]+)\}")


class FieldPath:
    """Where a field is.

    Raises:
        ValueError: if it is written as a path and is none, or has a star.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._around = text.startswith("@")
        self._path: JsonPath | None = compiled(text) if text.startswith("$") else None
        self._parts = () if self._around or self._path else tuple(text.split("."))
        if self._path is not None and self._path.stars:
            raise ValueError(f"{text!r} stands for many places; a field is one")

    def find(self, record: object, around: Around) -> object:
        """Return what is there; ``ABSENT`` where nothing is.

        >>> FieldPath("a.b").find({"a": {"b": 1}}, {}), FieldPath("a.b").find({"a.b": 2}, {})
        (1, 2)
        """
        if self._around:
            return around.get(self.text, ABSENT)
        if self._path is not None:
            return self._path.follow(record, ())
        if not isinstance(record, dict):
            return ABSENT
        found = record.get(self.text, ABSENT)
        if found is not ABSENT or len(self._parts) == 1:
            return found
        found = record
        for part in self._parts:
            if not isinstance(found, dict) or part not in found:
                return ABSENT
            found = found[part]
        return found


class NameWords:
    """A name made of fields: a field's name alone, or words around names in braces, as ``USGS-{site}/{series}``.

    Raises:
        ValueError: if a path in it is none.
    """

    def __init__(self, text: str, what: str) -> None:
        self._what = what
        pieces = _PLACES.split(text)  # words and names by turns
        self._words = pieces[::2] if len(pieces) > 1 else ["", ""]
        self._paths = [FieldPath(name) for name in (pieces[1::2] or [text])]

    def paths(self) -> list[FieldPath]:
        """Return the fields it is made of."""
        return self._paths

    def read(self, record: object, around: Around) -> str | Refusal:
        """Return the name, or why there is none."""
        parts = [self._words[0]]
        for path, word in zip(self._paths, self._words[1:], strict=True):
            text = text_of(path.find(record, around))
            if not text:
                return Refusal(Reason.MISSING_KEY, f"no {self._what} is at {path.text!r}")
            parts += [text, word]
        name = "".join(parts)
        if len(name) > LONGEST_NAME:
            return Refusal(Reason.WRONG_TYPE, f"{self._what} {shortened(name)}; allowed: at most {LONGEST_NAME}")
        return name


def text_of(found: object) -> str:
    """Return a field as a name; empty where it is none."""
    if isinstance(found, str):
        return found.strip()
    if isinstance(found, bool):
        return ""
    if isinstance(found, float):
        return str(int(found)) if found.is_integer() and abs(found) < 1e15 else ""
    return str(found) if isinstance(found, int) and abs(found) < 10**18 else ""
