"""Files here or in an object store, by one glob: what is there, and how to open it."""

from __future__ import annotations

import errno
import gzip
from collections.abc import Mapping
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple, cast

import fsspec

from connectors.errors import Misconfigured, SourceUnavailable
from connectors.file_formats import GZIP

_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "modified", "created")
"""Where file systems keep what changes with a file; the first that is there counts."""
_MAGIC = frozenset("*?[")


class FoundFile(NamedTuple):
    """A file as a look at its folder shows it."""

    path: str
    size: int
    version: str
    """Changes whenever the file does."""
    inode: int
    """0 where there are none."""
    modified_s: float | None
    """Seconds since 1970; None where that is not told: such files come whole."""


class Places:
    """The files that fit one path, which may hold ``*``, ``?``, ``[…]`` and ``**``.

    Args:
        path: in a folder of this machine, or a URL that fsspec knows, as ``s3://bucket/2026/*.parquet``.
        storage: fsspec's own options for that file system, secrets in the clear.

    Raises:
        Misconfigured: if there is no such file system, a library for it is missing, or it refuses the options.
    """

    def __init__(self, path: str, storage: Mapping[str, object] | None = None) -> None:
        self.path = path
        try:
            files, pattern = fsspec.core.url_to_fs(path, **dict(storage or {}))
        except ImportError as error:
            raise Misconfigured(f"{path}: {error}; for s3:// it is pip install 'vedette[s3]'") from error
        except (ValueError, TypeError) as error:
            raise Misconfigured(f"{path}: {type(error).__name__}: {error}") from None  # the options may be secrets
        self._files: Any = files
        self._pattern: str = str(pattern)

    def look(self) -> list[FoundFile]:
        """Return the files that are there now, by name.

        Raises:
            SourceUnavailable: if the store does not answer, or the folder is not there.
            Misconfigured: if the path is a folder.
        """
        try:
            self._files.invalidate_cache()
            if not _MAGIC & set(self._pattern):
                info = self._files.info(self._pattern)
                if info["type"] == "directory":
                    raise Misconfigured(f"{self.path} is a folder; name its files, as {self.path.rstrip('/')}/*.csv")
                return [_found(info)]
            infos = self._files.glob(self._pattern, detail=True)
            if not infos and not self._files.exists(self._folder()):
                raise FileNotFoundError(errno.ENOENT, "there is no such folder", self._folder())
        except Misconfigured:
            raise
        except FileNotFoundError as error:
            raise SourceUnavailable(f"{self.path}: {error.strerror or 'there is no such file'}") from error
        except Exception as error:  # each store's library has errors of its own
            raise SourceUnavailable(f"{self.path}: {type(error).__name__}: {str(error)[:200]}") from error
        return sorted(_found(info) for info in infos.values() if info["type"] == "file")

    def open(self, path: str) -> tuple[BinaryIO, BinaryIO]:
        """Return a file's content and the file below it, which are one unless it is compressed; close both.

        Raises:
            OSError: if it is gone, or cannot be opened.
        """
        below = cast(BinaryIO, self._files.open(path, "rb"))
        if path.lower().endswith(GZIP):
            return cast(BinaryIO, gzip.GzipFile(fileobj=below)), below
        return below, below

    def _folder(self) -> str:
        parts: list[str] = []
        for part in self._pattern.split("/"):
            if _MAGIC & set(part):
                break
            parts.append(part)
        return "/".join(parts) or "/"


def _found(info: Mapping[str, Any]) -> FoundFile:
    version = next((info[name] for name in _VERSIONS if info.get(name) is not None), "")
    modified = info.get("mtime")
    if isinstance(version, datetime):
        version = version.isoformat()
    return FoundFile(
        path=str(info["name"]),
        size=int(info.get("size") or 0),
        version=f"{info.get('size')}:{version}",
        inode=int(info.get("ino") or 0),
        modified_s=float(modified) if isinstance(modified, int | float) else None,
    )
