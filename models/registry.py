"""Keeps trained networks: a directory per stream and version, and a file that names the one in charge.

    DIRECTORY/STREAM/VERSION/weights.safetensors    the arrays
    DIRECTORY/STREAM/VERSION/manifest.json          what they are, where they come from, their checksum
    DIRECTORY/STREAM/CHAMPION                       the version in charge

A version appears whole or not at all: it is written beside, flushed to the disk and renamed. Nothing that is loaded is
ever executed (safetensors and JSON, no pickle), and what does not match its checksum is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.weights import Weights

FORMAT = "vedette-network"
FORMAT_VERSION = 1
CHAMPION = "CHAMPION"
_WEIGHTS, _MANIFEST = "weights.safetensors", "manifest.json"
_LIBRARIES = ("vedette", "torch", "numpy", "numba", "safetensors")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class RegistryError(Exception):
    """A version cannot be kept or loaded; the message says which, why, and what to do."""


class DamagedModelError(RegistryError):
    """The files of a version are not what was written."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where a network comes from and what it expects."""

    stream: str
    channels: tuple[str, ...]
    units: tuple[str, ...]
    step_us: int
    horizons: tuple[int, ...]
    """Steps ahead."""
    entities: tuple[str, ...]
    """Names in the order of the embedding: entity i has row i + 1; all others have row 0."""
    neighbours: Mapping[str, Sequence[str]]
    """Entity to its neighbours, as the network was trained with."""
    data_from_us: int
    data_to_us: int
    """The history it was trained on, event time."""
    created: datetime
    """UTC, aware."""
    seed: int
    report: Mapping[str, Any] = field(default_factory=dict)
    """The training report."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Filled in by ``Registry.save``."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A version, loaded and checked."""

    version: str
    weights: Weights
    manifest: Manifest

    @property
    def embedding_ids(self) -> dict[str, int]:
        """Entity name to row of the embedding."""
        return {name: i + 1 for i, name in enumerate(self.manifest.entities)}

    def neighbours_of(self, entities: Sequence[str]) -> NDArray[np.int32]:
        """Return [n, K] the neighbours of each of ``entities`` as positions in it; -1 where one is not there."""
        at = {name: i for i, name in enumerate(entities)}
        K = self.weights.sizes.neighbours
        rows = np.full((len(entities), K), -1, np.int32)
        for i, name in enumerate(entities):
            for k, other in enumerate(list(self.manifest.neighbours.get(name, ()))[:K]):
                rows[i, k] = at.get(other, -1)
        return rows


class Registry:
    """Versions of networks in a directory. One writer at a time per stream; any number of readers."""

    def __init__(self, directory: Path) -> None:
        """Use ``directory``; it is made when something is saved."""
        self.directory = Path(directory)

    def versions(self, stream: str) -> list[str]:
        """Return the versions of a stream, oldest first."""
        folder = self._folder(stream)
        if not folder.is_dir():
            return []
        found = [p.name for p in folder.iterdir() if _NAME.fullmatch(p.name) and (p / _MANIFEST).is_file()]
        return sorted(found)

    def save(self, weights: Weights, manifest: Manifest) -> str:
        """Keep a network and return its version, which begins with the time it was created; not yet in charge.

        Raises:
            RegistryError: if the names are not fit for a directory, or the disk refuses.
        """
        data = save(weights.to_arrays())
        digest = hashlib.sha256(data).hexdigest()
        version = f"{manifest.created:%Y%m%dT%H%M%S}-{digest[:8]}"
        text = json.dumps(_to_json(weights, manifest, digest), indent=2, ensure_ascii=False, allow_nan=False)
        folder = self._folder(manifest.stream)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / version).is_dir():  # the same weights of the same second: already here
                return version
            beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
            try:
                _write(beside / _WEIGHTS, data)
                _write(beside / _MANIFEST, text.encode())
                _sync(beside)
                beside.rename(folder / version)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            _sync(folder)
        except OSError as error:
            raise RegistryError(f"cannot keep version {version} in {folder}: {error}") from error
        return version

    def load(self, stream: str, version: str) -> StoredModel:
        """Return a version.

        Raises:
            RegistryError: if there is no such version.
            DamagedModelError: if its files are incomplete, changed, or of another format.
        """
        if not _NAME.fullmatch(version):
            raise RegistryError(f"{version!r} is no version")
        folder = self._folder(stream) / version
        try:
            raw = (folder / _MANIFEST).read_bytes()
            data = (folder / _WEIGHTS).read_bytes()
        except FileNotFoundError as error:
            known = ", ".join(self.versions(stream)) or "none"
            raise RegistryError(f"stream {stream!r} has no whole version {version!r}; there are: {known}") from error
        except OSError as error:
            raise RegistryError(f"cannot read {folder}: {error}") from error
        try:
            return _from_files(version, raw, data)
        except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise DamagedModelError(f"{folder}: {error}; remove it and train again") from error

    def promote(self, stream: str, version: str) -> None:
        """Put a version in charge, after checking that it can be loaded.

        Raises:
            RegistryError: if it cannot.
        """
        self.load(stream, version)
        folder = self._folder(stream)
        beside = folder / f".{CHAMPION}-{os.getpid()}"
        try:
            _write(beside, version.encode())
            beside.replace(folder / CHAMPION)
            _sync(folder)
        except OSError as error:
            raise RegistryError(f"cannot put {version} in charge of {stream!r}: {error}") from error

    def champion(self, stream: str) -> StoredModel | None:
        """Return the network in charge; None if none ever was.

        Raises:
            RegistryError: if the one named is not there or damaged; the linear forecaster can go on alone.
        """
        try:
            version = (self._folder(stream) / CHAMPION).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryError(f"cannot read who is in charge of {stream!r}: {error}") from error
        return self.load(stream, version)

    def _folder(self, stream: str) -> Path:
        if not _NAME.fullmatch(stream):
            raise RegistryError(f"{stream!r} cannot name a directory; use letters, digits, '.', '_' and '-'")
        return self.directory / stream


def _to_json(weights: Weights, manifest: Manifest, digest: str) -> dict[str, Any]:
    about = asdict(manifest) | {"created": manifest.created.isoformat(), "libraries": _libraries()}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "weights_sha256": digest,
        "network": weights.to_dict(),
        "about": about,
    }


def _from_files(version: str, raw: bytes, data: bytes) -> StoredModel:
    """Return the model of two files, or raise what the first thing wrong with them raises."""
    document = json.loads(raw)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{_MANIFEST} is not that of a network of ours")
    if document["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format version {document['format_version']!r} is not {FORMAT_VERSION}, the one known here")
    digest = hashlib.sha256(data).hexdigest()
    if digest != document["weights_sha256"]:
        told = document["weights_sha256"]
        raise ValueError(f"{_WEIGHTS} has checksum {digest[:12]}…, the manifest says {told[:12]}…")
    about = dict(document["about"])
    for name in ("channels", "units", "horizons", "entities"):
        about[name] = tuple(about[name])
    about["created"] = datetime.fromisoformat(about["created"])
    manifest = Manifest(**about)
    weights = Weights.from_parts(document["network"], load(data))
    if weights.sizes.entities != len(manifest.entities) or weights.sizes.channels != len(manifest.channels):
        raise ValueError("entities or channels of the manifest do not fit the weights")
    return StoredModel(version, weights, manifest)


def _libraries() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _write(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Flush a directory's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
