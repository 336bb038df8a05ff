"""Sources of kind ``files``: tables and JSON lines, in folders and object stores."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr, StrictBool, model_validator

from connectors.source import ReadingSource
from pipeline.config_fields import Count, Duration, Name, PositiveDuration, Secret, Section
from pipeline.ingest.kind import SourceKind, SourceOptions, SourcePlace
from pipeline.ingest.record_options import RecordOptions


class CsvOptions(Section):
    """How the CSV files are written."""

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', max_length=1)
    encoding: Literal["utf-8", "latin-1", "cp1252", "iso-8859-15"] = "utf-8"
    skip_lines: Count = 0
    """Before the header."""
    comment: str = Field(default="", max_length=10)
    """Lines that begin so are no rows."""
    header: tuple[Name, ...] = ()
    """The columns' names, where the files do not tell them."""


class FilesOptions(SourceOptions):
    """Which files, and what their fields mean."""

    kind: Literal["files"]
    path: Name = Field(examples=["data/*.csv.gz"])
    """``*``, ``?``, ``[…]`` and ``**`` stand for names; a URL that fsspec knows, as ``s3://bucket/2026/*.parquet``."""
    format: Literal["auto", "csv", "json_lines", "json", "parquet", "hdf5"] = "auto"
    """``auto``: told by each file's name. NetCDF 4 is HDF5."""
    mapping: RecordOptions | None = None
    """None: the files hold JSON lines that say themselves what they are: canonical readings, SenML, CloudEvents."""
    fixed_entity: str = Field(default="", max_length=200)
    """Without a mapping, of lines that name no entity."""
    csv: CsvOptions = Field(default_factory=CsvOptions)
    table: str = Field(default="", max_length=200)
    """In HDF5, a compound dataset that holds the columns; empty: each column is a dataset."""
    follow: bool = False
    """Whether to wait for new files and appended lines; else the source ends when all is read."""
    every: PositiveDuration = timedelta(seconds=10)
    """From look to look, while following."""
    settle: Duration = timedelta(minutes=1)
    """While following, files left alone for so long are complete."""
    storage: dict[Name, StrictBool | Secret] = Field(default_factory=dict)
    """fsspec's own options for the object store, as ``endpoint_url``, ``key`` and ``secret``."""

    @model_validator(mode="after")
    def _can_be_read(self) -> FilesOptions:
        if self.mapping is None and self.format not in ("auto", "json_lines"):
            raise ValueError(f"mapping is missing | a mapping from the fields of {self.format} to readings")
        return self


def _build(options: FilesOptions, place: SourcePlace) -> ReadingSource:
    from connectors.errors import Misconfigured
    from connectors.file_formats import BadFile, CsvStyle, Format, FormatName, Wanted, make_format, told_by_name
    from connectors.file_places import Places
    from connectors.table_files import DescribedRows, MappedRows, TableFiles

    mapping = None if options.mapping is None else options.mapping.mapping()
    style = options.csv
    wanted = Wanted(
        columns=() if mapping is None else tuple(mapping.fields()),
        documents=mapping is not None,
        csv=CsvStyle(
            delimiter=style.delimiter,
            quote=style.quote,
            encoding=style.encoding,
            skip_lines=style.skip_lines,
            comment=style.comment,
            header=style.header,
        ),
        table=options.table,
    )
    storage = {
        name: word.get_secret_value() if isinstance(word, SecretStr) else word for name, word in options.storage.items()
    }
    formats: dict[FormatName, Format] = {}

    def format_of(path: str) -> Format:
        name = told_by_name(path) if options.format == "auto" else options.format
        if name is None:
            raise BadFile("its name tells no format; set one of csv, json_lines, json, parquet, hdf5")
        if mapping is None and name != "json_lines":
            raise Misconfigured(f"{path}: a mapping from its fields to readings is missing")
        if name not in formats:
            formats[name] = make_format(name, wanted)
        return formats[name]

    return TableFiles(
        Places(options.path, storage),
        format_of,
        DescribedRows(options.fixed_entity) if mapping is None else MappedRows(mapping),
        follow=options.follow,
        every_s=options.every.total_seconds(),
        settle_s=options.settle.total_seconds(),
    )


KIND = SourceKind(FilesOptions, _build, "CSV, Parquet, JSON, HDF5 and NetCDF files, here or in an object store")
