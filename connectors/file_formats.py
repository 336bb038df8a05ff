"""Kinds of file that hold records, told by the file's name; each gives rows, and the place in the file behind each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, NamedTuple, Protocol

from connectors.refusal import Refusal

FormatName = Literal["csv", "json_lines", "json", "parquet", "hdf5"]
ENDINGS: Mapping[str, FormatName] = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv",
    ".jsonl": "json_lines", ".ndjson": "json_lines",
    ".json": "json",
    ".parquet": "parquet", ".pq": "parquet",
    ".h5": "hdf5", ".hdf5": "hdf5", ".hdf": "hdf5", ".nc": "hdf5", ".nc4": "hdf5",
}  # fmt: skip
"""NetCDF 4 is HDF5."""
GZIP = ".gz"


class BadFile(Exception):
    """A file is not what it should be; says what, and where in it."""


class Row(NamedTuple):
    """One record of a file."""

    record: Mapping[str, object] | Refusal
    """Its fields, or why there are none; empty where nobody asked for fields."""
    next_at: int
    """The place behind it: where to go on."""
    raw: bytes = b""
    """As it is in the file; empty in files that are no text."""


class Format(Protocol):
    """Reads files of one kind."""

    appendable: bool
    """Whether more may come behind what is there, so that reading can go on in the middle of a file that grew."""

    def rows(self, file: BinaryIO, at: int, whole: bool) -> Iterator[Row]:
        """Yield the rows from ``at`` on; the generator holds a bounded part of the file.

        Args:
            file: at its beginning; seekable.
            at: a place behind a row, as ``Row.next_at``; 0: the beginning.
            whole: whether the file is complete; if not, a last line without an end is left for later.

        Raises:
            BadFile: if the file, from somewhere on, cannot be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvStyle:
    """How a CSV is written."""

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    """One in which a line's end is one byte: UTF-8, Latin 1 and their like; not UTF-16."""
    skip_lines: int = 0
    """Before the header."""
    comment: str = ""
    """Lines that begin so are skipped; empty: there are none."""
    header: tuple[str, ...] = ()
    """The columns' names where the file does not tell them; empty: the first line does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be read of files."""

    columns: tuple[str, ...] = ()
    """Those of the table that are wanted, and have to be there; empty: whole records as they come."""
    documents: bool = True
    """Of JSON: whether lines are to be parsed into fields; else they come as they are."""
    csv: CsvStyle = field(default_factory=CsvStyle)
    table: str = ""
    """Of HDF5: a compound dataset that holds the columns; empty: each column is a dataset."""


def told_by_name(path: str) -> FormatName | None:
    """Return the format that a file's name tells, compressed or not; None for a name that tells none.

    >>> told_by_name("s3://river/2026/stage.csv.gz"), told_by_name("notes")
    ('csv', None)
    """
    name = path.lower().removesuffix(GZIP)
    return next((format_ for ending, format_ in ENDINGS.items() if name.endswith(ending)), None)


def stem_of(path: str) -> str:
    """Return a file's name without folders and endings.

    >>> stem_of("data/station-7.csv.gz")
    'station-7'
    """
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    plain = name[: -len(GZIP)] if name.lower().endswith(GZIP) else name
    ending = next((e for e in ENDINGS if plain.lower().endswith(e)), "")
    return plain[: len(plain) - len(ending)]


def make_format(name: FormatName, wanted: Wanted) -> Format:
    """Return the reader of a format; imports what it needs only now.

    Raises:
        Misconfigured: if a library is missing.
    """
    if name == "csv":
        from connectors.file_lines import CsvFormat

        return CsvFormat(wanted)
    if name in ("json_lines", "json"):
        from connectors.file_lines import JsonDocument, JsonLines

        return JsonLines(wanted) if name == "json_lines" else JsonDocument()
    if name == "parquet":
        from connectors.file_parquet import ParquetFormat

        return ParquetFormat(wanted)
    from connectors.file_hdf5 import Hdf5Format

    return Hdf5Format(wanted)
