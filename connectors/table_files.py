"""Files as a source of readings: tables and JSON lines, here or in an object store, read once or followed.

All that is there is read, by name, in parts that become durable with the place behind them. Then the source has
ended; or, following, it looks again: new files are read, and lines that were appended to old ones. Of other formats a
file that changed is read anew; what was in it before is known as repeated.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Protocol

import structlog

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.field_mapping import TIME, FieldMapping, Outcome
from connectors.field_paths import Around
from connectors.file_formats import BadFile, Format, Row, stem_of
from connectors.file_places import FoundFile, Places
from connectors.files_read import FilesRead, head_of
from connectors.json_documents import written
from connectors.progress_bar import ProgressBar
from connectors.reading import Reading, Reason, Rejected
from connectors.refusal import LONGEST_DETAIL, Refusal
from connectors.self_described import SelfDescribed
from connectors.source import Outlet

log = structlog.get_logger("vedette.ingest")

_PART = 10_000
"""Readings and refusals that are handed over at once."""


class RowReader(Protocol):
    """Makes readings of rows."""

    def read(self, row: Row, around: Around) -> Outcome:
        """Return the readings of a row, and why others of its values are none. Never raises for what is in it."""


class MappedRows:
    """Rows with fields, by a mapping."""

    def __init__(self, mapping: FieldMapping) -> None:
        self._mapping = mapping

    def read(self, row: Row, around: Around) -> Outcome:
        """See ``RowReader.read``."""
        if isinstance(row.record, Refusal):
            return [], [row.record]
        return self._mapping.read(row.record, around)


class DescribedRows:
    """Lines that say themselves what they hold: canonical JSON, SenML, CloudEvents around either."""

    def __init__(self, fixed_entity: str = "", now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._described = SelfDescribed()
        self._entity = fixed_entity
        self._now_us = now_us

    def read(self, row: Row, around: Around) -> Outcome:
        """See ``RowReader.read``."""
        if isinstance(row.record, Refusal):
            return [], [row.record]
        found = self._described.read(row.raw, self._now_us())
        if isinstance(found, Refusal):
            return [], [found]
        for reading in found:
            reading.entity = reading.entity or self._entity
            if not reading.entity:
                return [], [Refusal(Reason.MISSING_KEY, "the line names no entity, and no fixed_entity is configured")]
        return found, []


class TableFiles:
    """Brings the readings of files; see ``connectors.source.ReadingSource`` for what it promises.

    Args:
        places: which files.
        format_of: the format of a path; ``BadFile`` when there is none.
        reader: makes readings of their rows.
        follow: whether to go on looking; else it ends when all is read.
        every_s: from look to look.
        settle_s: what was changed more recently may not be whole, while following: a last line without an end, or a
            file that cannot be read, is left for later.
        progress: draws a bar on the terminal; None: where stderr is one. Never while following.
    """

    def __init__(
        self,
        places: Places,
        format_of: Callable[[str], Format],
        reader: RowReader,
        *,
        follow: bool = False,
        every_s: float = 10.0,
        settle_s: float = 60.0,
        progress: bool | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._places = places
        self._format_of = format_of
        self._reader = reader
        self._follow = follow
        self._every_s = every_s
        self._settle_s = settle_s
        self._progress = False if follow else progress
        self._now_s = now_s

    def run(self, outlet: Outlet) -> None:
        """Read all files; following, go on until told to stop.

        Raises:
            SourceUnavailable: if files cannot be read now; not while following, which says so and tries again.
            Misconfigured: if no file fits the path, or a file's kind is not known.
        """
        while True:
            trouble = self._pass(outlet)
            if not self._follow:
                if trouble:
                    raise SourceUnavailable(trouble)
                return
            if outlet.wait(self._every_s):
                return

    def _pass(self, outlet: Outlet) -> str:
        """Read what is new; return what could not be read, in words, or an empty text."""
        read = FilesRead(outlet.cursor())
        try:
            found = self._look(read)
        except SourceUnavailable as error:
            if not self._follow:
                raise
            outlet.failing(str(error))
            return str(error)
        trouble = self._read_all(found, read, outlet)
        if trouble:
            outlet.failing(trouble)
        else:
            outlet.working()
            read.forget_all_but(file.path for file in found)
        return trouble

    def _look(self, read: FilesRead) -> list[FoundFile]:
        try:
            found = self._places.look()
        except SourceUnavailable as error:
            if isinstance(error.__cause__, FileNotFoundError) and not self._follow and not read.files:
                raise Misconfigured(str(error)) from error
            raise
        if not found and not self._follow and not read.files:
            raise Misconfigured(f"{self._places.path}: no file has such a name")
        return found

    def _read_all(self, found: list[FoundFile], read: FilesRead, outlet: Outlet) -> str:
        trouble = ""
        todo = [file for file in found if not read.is_read(file)]
        total, done = sum(file.size for file in todo), 0
        with ProgressBar(self._places.path, shown=self._progress) as bar:
            for file in todo:
                if outlet.stopping:
                    break
                before = done

                def show(at: int, file: FoundFile = file, before: int = before) -> None:
                    bar.show(before + min(at, file.size), total, stem_of(file.path))

                show(0)
                try:
                    self._read_file(file, read, outlet, show)
                except FileNotFoundError:
                    outlet.count("vanished")  # between the look and now; if it comes back it is a new file
                except OSError as error:
                    trouble = trouble or f"{file.path}: {error.strerror or error}"
                done += file.size
        return trouble

    def _read_file(self, file: FoundFile, read: FilesRead, outlet: Outlet, show: Callable[[int], None]) -> None:
        whole = self._is_whole(file)
        try:
            format_ = self._format_of(file.path)
        except BadFile as error:
            part = _Part(file, 0, read, "", outlet)
            part.refuse(error, whole=True)
            part.hand_over(done=True)
            return
        content, below = self._places.open(file.path)
        with closing(below), closing(content):
            at = read.start(file, content, format_.appendable)
            part = _Part(file, at, read, head_of(content) if format_.appendable else "", outlet)
            content.seek(0)
            try:
                for row in format_.rows(content, at, whole):
                    if part.add(row, self._reader):
                        part.hand_over()
                        show(below.tell())
                        if outlet.stopping:
                            return
            except OSError as error:
                if error.errno is not None:  # the disk or the network, not the file
                    raise
                part.refuse(error, whole)
            except (BadFile, EOFError, zlib.error, ValueError, ArithmeticError, LookupError) as error:
                part.refuse(error, whole)
            if format_.appendable:
                part.head = head_of(content, at=part.at) or part.head
            part.hand_over(done=whole or not (format_.appendable or part.unfinished))

    def _is_whole(self, file: FoundFile) -> bool:
        """Return whether the file is complete: not while somebody may be writing it."""
        if not self._follow or file.modified_s is None:
            return True
        return self._now_s() - file.modified_s >= self._settle_s


class _Part:
    """What was read of one file and is not handed over yet."""

    def __init__(self, file: FoundFile, at: int, read: FilesRead, head: str, outlet: Outlet) -> None:
        self.at = at
        self.head = head
        self.unfinished = False
        self._file = file
        self._read = read
        self._outlet = outlet
        self._around: dict[str, object] = {"@file": file.path, "@stem": stem_of(file.path)}
        if file.modified_s is not None:
            self._around[TIME] = round(file.modified_s * 1e6)
        self._readings: list[Reading] = []
        self._rejected: list[Rejected] = []

    def add(self, row: Row, reader: RowReader) -> bool:
        """Take what comes of a row; return whether it is enough to be handed over."""
        readings, refused = reader.read(row, self._around)
        self._readings += readings
        for refusal in refused:
            self._reject(refusal.reason, f"behind {self.at}: {refusal.detail}", row)
        self.at = row.next_at
        return len(self._readings) + len(self._rejected) >= _PART

    def refuse(self, error: Exception, whole: bool) -> None:
        """Note that the file cannot be read on; nothing yet, if somebody may still be writing it."""
        if not whole:
            self.unfinished = True
            self._outlet.count("unfinished")
            return
        text = str(error) if isinstance(error, BadFile) else f"cannot be read on: {type(error).__name__}: {error}"
        log.warning("a file cannot be read", file=self._file.path, behind=self.at, error=text)
        self._reject(Reason.UNSUPPORTED, text, Row({}, self.at))

    def hand_over(self, done: bool = False) -> None:
        """Make durable what there is, with the place behind it.

        Raises:
            Stopping: if the process stops before that.
        """
        self._read.note(self._file, self.at, done, self.head)
        cursor = self._read.text()
        if self._readings or self._rejected or cursor != self._outlet.cursor():
            self._outlet.deliver(self._readings, cursor=cursor, rejected=self._rejected)
        self._readings, self._rejected = [], []

    def _reject(self, reason: Reason, detail: str, row: Row) -> None:
        raw = row.raw or (written(dict(row.record)) if isinstance(row.record, Mapping) and row.record else b"")
        where = f"{self._file.path}: {detail}"[-LONGEST_DETAIL:]
        self._rejected.append(Rejected(reason, where, raw, self._file.path, 0, self.at))
