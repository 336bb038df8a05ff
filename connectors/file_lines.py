"""CSV and JSON lines, read row by row from any byte on; whole JSON documents too."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator
from typing import BinaryIO

from connectors.file_formats import BadFile, Row, Wanted
from connectors.json_documents import parsed
from connectors.reading import Reason
from connectors.refusal import Refusal, shortened

LONGEST_LINE = 4 << 20
"""Bytes. What is longer is no line of a table; it is refused, and the next line read."""
LONGEST_DOCUMENT = 512 << 20
_KEPT = 4096


class Lines:
    """The lines of a file as csv's reader takes them; knows how far it was read.

    Args:
        file: where its next line begins.
        at: which byte that is.
        whole: whether a last line without an end is one.
    """

    def __init__(self, file: BinaryIO, at: int, whole: bool, encoding: str = "utf-8") -> None:
        self.at = at
        self.ended = False
        self.raw: list[bytes] = []
        """The lines since it was last emptied."""
        self._file = file
        self._whole = whole
        self._encoding = encoding

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self.next_bytes()
        if line is None:
            self.ended = True
            raise StopIteration
        self.raw.append(line)
        return line.decode(self._encoding, "replace").replace("\0", "\ufffd")

    def next_bytes(self) -> bytes | None:
        """Return the next line, cut if it is too long; None at the end."""
        line = self._file.readline(LONGEST_LINE)
        if not line or not (self._whole or line.endswith(b"\n") or len(line) == LONGEST_LINE):
            return None
        self.at += len(line)
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            self._skip_the_rest()
        return line

    def _skip_the_rest(self) -> None:
        while True:
            more = self._file.readline(LONGEST_LINE)
            self.at += len(more)
            if not more or more.endswith(b"\n"):
                return


class CsvFormat:
    """Tables as text. The place is a byte; a quoted field may hold line ends."""

    appendable = True

    def __init__(self, wanted: Wanted) -> None:
        self._style = wanted.csv
        self._columns = wanted.columns

    def rows(self, file: BinaryIO, at: int, whole: bool) -> Iterator[Row]:
        """See ``Format.rows``."""
        style = self._style
        lines = Lines(file, 0, whole, style.encoding)
        header = self._header(lines)
        if header is None:
            return
        if at > lines.at:
            file.seek(at)
            lines.at = at
        places = [(name, header.index(name)) for name in self._columns or header]
        reader = csv.reader(lines, delimiter=style.delimiter, quotechar=style.quote or None)
        while True:
            lines.raw.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(Refusal(Reason.UNSUPPORTED, f"no row of a CSV: {error}"), lines.at, _cut(lines.raw))
                continue
            if lines.ended and not whole:  # within quotes that may yet be closed
                return
            if not any(cells) or (style.comment and cells[0].startswith(style.comment)):
                continue
            yield Row(_record(cells, places, len(header)), lines.at, _cut(lines.raw))

    def _header(self, lines: Lines) -> list[str] | None:
        """Return the columns' names; None when the file does not hold them yet."""
        style = self._style
        for _ in range(style.skip_lines):
            if next(lines, None) is None:
                return None
        names = list(style.header)
        while not names:
            lines.raw.clear()
            try:
                cells = next(csv.reader(lines, delimiter=style.delimiter, quotechar=style.quote or None), None)
            except csv.Error as error:
                raise BadFile(f"no header of a CSV: {error}") from error
            if cells is None:
                return None
            if any(cells) and not (style.comment and cells[0].startswith(style.comment)):
                names = [cells[0].removeprefix("\ufeff").strip(), *(cell.strip() for cell in cells[1:])]
        check_columns(self._columns, names)
        return names


def check_columns(wanted: tuple[str, ...], known: list[str]) -> None:
    """Raise BadFile when a column is not there; it says which is nearest."""
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f" (nearest: {near[0]!r})" if near else ""
            raise BadFile(f"no column {name!r}{hint}; its columns are {', '.join(known[:30])}"[:400])


def _record(cells: list[str], places: list[tuple[str, int]], columns: int) -> dict[str, object] | Refusal:
    if len(cells) > columns and any(cells[columns:]):
        return Refusal(Reason.WRONG_TYPE, f"the row has {len(cells)} cells; the header names {columns}")
    if len(cells) < columns:
        if len(cells) == 1:
            return Refusal(Reason.WRONG_TYPE, f"the row is {shortened(cells[0])}; the header names {columns} columns")
        cells = cells + [""] * (columns - len(cells))
    return {name: cells[place] for name, place in places}


def _cut(lines: list[bytes]) -> bytes:
    return b"".join(lines)[:_KEPT] if len(lines) != 1 else lines[0][:_KEPT]


class JsonLines:
    """One JSON value a line. The place is a byte."""

    appendable = True

    def __init__(self, wanted: Wanted) -> None:
        self._documents = wanted.documents

    def rows(self, file: BinaryIO, at: int, whole: bool) -> Iterator[Row]:
        """See ``Format.rows``."""
        file.seek(at)
        lines = Lines(file, at, whole)
        while (line := lines.next_bytes()) is not None:
            line = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not line:
                continue
            if len(line) >= LONGEST_LINE - 1:
                refusal = Refusal(Reason.TOO_LARGE, f"the line is longer than {LONGEST_LINE} bytes")
                yield Row(refusal, lines.at, line[:_KEPT])
            else:
                yield Row(_document(line) if self._documents else {}, lines.at, line)


class JsonDocument:
    """One JSON value a file, over as many lines as it likes; it is read at once. The place is 0 or the end."""

    appendable = False

    def rows(self, file: BinaryIO, at: int, whole: bool) -> Iterator[Row]:
        """See ``Format.rows``."""
        if at:
            return
        body = file.read(LONGEST_DOCUMENT + 1)
        if len(body) > LONGEST_DOCUMENT:
            raise BadFile(f"larger than {LONGEST_DOCUMENT} bytes; write JSON lines, one record a line")
        body = body.removeprefix(b"\xef\xbb\xbf")
        found = parsed(body)
        if isinstance(found, Refusal):
            raise BadFile(found.detail)
        records: list[object] = found if isinstance(found, list) else [found]
        for index, record in enumerate(records):
            # behind every row but the last the place is the beginning: half a document is read anew
            behind = len(body) if index == len(records) - 1 else 0
            raw = body if len(records) == 1 else b""
            yield Row(record if isinstance(record, dict) else _no_object(record), behind, raw)
        if not records:
            yield Row(Refusal(Reason.EMPTY, "the list holds no record"), max(len(body), 1), body[:_KEPT])


def _document(line: bytes) -> dict[str, object] | Refusal:
    found = parsed(line)
    return found if isinstance(found, dict | Refusal) else _no_object(found)


def _no_object(found: object) -> Refusal:
    return Refusal(Reason.WRONG_TYPE, f"{shortened(found)} is no object with fields")
