"""Parquet: rows of the wanted columns, a part of a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet

from connectors.file_formats import BadFile, Row, Wanted
from connectors.file_lines import check_columns

_ROWS = 8192


class ParquetFormat:
    """The place is a row's number, counted from 0 over all row groups."""

    appendable = False

    def __init__(self, wanted: Wanted) -> None:
        self._columns = wanted.columns

    def rows(self, file: BinaryIO, at: int, whole: bool) -> Iterator[Row]:
        """See ``Format.rows``."""
        try:
            parquet = pyarrow.parquet.ParquetFile(file)
            check_columns(self._columns, list(parquet.schema_arrow.names))
            begin = 0
            for group in range(parquet.num_row_groups):
                end = begin + parquet.metadata.row_group(group).num_rows
                if end > at:
                    yield from self._group(parquet, group, begin, at)
                begin = end
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk or the network, not the file
                raise
            raise BadFile(f"no Parquet: {error}") from error

    def _group(self, parquet: Any, group: int, begin: int, at: int) -> Iterator[Row]:
        """Yield the rows of one row group, whose first is number ``begin``, from number ``at`` on."""
        columns = list(self._columns) or None
        for batch in parquet.iter_batches(_ROWS, row_groups=[group], columns=columns):
            skipped = min(max(at - begin, 0), len(batch))
            rows = _plain(batch.slice(skipped)).to_pylist()
            for index, row in enumerate(rows, begin + skipped + 1):
                yield Row(row, index)
            begin += len(batch)


def _plain(batch: Any) -> Any:
    """Return the batch with times in microseconds: finer ones would become pandas' objects."""
    columns = [
        column.cast(pa.timestamp("us", column.type.tz), safe=False)
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns"
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)
