"""Files of the USGS's former service as a source: folders of kept answers, compressed or not, here or in a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from connectors.field_mapping import Outcome
from connectors.field_paths import Around
from connectors.file_formats import BadFile, Row
from connectors.file_places import Places
from connectors.reading import Reading, Rejected
from connectors.refusal import Refusal
from connectors.source import Outlet, Site
from connectors.table_files import TableFiles
from connectors.usgs_archive import read_archive

LONGEST_DOCUMENT = 512 << 20
"""Bytes: years of one site are some ten million."""
_READING = "reading"


class UsgsArchiveFiles:
    """Brings the readings of files; see ``connectors.source.ReadingSource`` and ``TableFiles``.

    Args:
        places: which files.
        follow: whether to go on looking for new ones; else it ends when all is read.
        every_s: from look to look.
        settle_s: what was changed more recently may not be whole, while following.
    """

    def __init__(self, places: Places, *, follow: bool = False, every_s: float = 10.0, settle_s: float = 60.0) -> None:
        self._places = places
        self._follow = follow
        self._every_s = every_s
        self._settle_s = settle_s

    def run(self, outlet: Outlet) -> None:
        """Read all files; following, go on until told to stop. Raises what ``TableFiles.run`` raises."""
        format_ = ArchiveFormat(outlet.describe)
        files = TableFiles(
            self._places,
            lambda path: format_,
            ArchiveRows(),
            follow=self._follow,
            every_s=self._every_s,
            settle_s=self._settle_s,
        )
        files.run(outlet)


class ArchiveFormat:
    """One document a file, read at once; the place is the number of readings and refusals before it.

    Args:
        described: is told the sites of each file.
    """

    appendable = False

    def __init__(self, described: Callable[[Sequence[Site]], None]) -> None:
        self._described = described

    def rows(self, file: BinaryIO, at: int, whole: bool) -> Iterator[Row]:
        """Yield a row for each reading, in the order of time, and for each refusal; see ``Format.rows``."""
        body = file.read(LONGEST_DOCUMENT + 1)
        if len(body) > LONGEST_DOCUMENT:
            raise BadFile(f"larger than {LONGEST_DOCUMENT} bytes; divide it by site or by year")
        archive = read_archive(body)
        del body
        if archive.broken:
            raise BadFile(archive.broken)
        self._described(list(archive.sites.values()))
        found: list[Reading | Rejected] = [*sorted(archive.readings, key=lambda one: one.time_us), *archive.rejected]
        for number, one in enumerate(found[at:], at + 1):
            if isinstance(one, Reading):
                yield Row({_READING: one}, number)
            else:
                yield Row(Refusal(one.reason, one.detail), number, one.raw)


class ArchiveRows:
    """Takes the readings out of the rows again."""

    def read(self, row: Row, around: Around) -> Outcome:
        """See ``RowReader.read``."""
        if isinstance(row.record, Refusal):
            return [], [row.record]
        reading = row.record[_READING]
        return ([reading], []) if isinstance(reading, Reading) else ([], [])
