"""What is written down about a network, how it is sealed, and how both are read back with suspicion.

A version is two files: the weights as safetensors, and a manifest in JSON with the checksum of the weights and one of
itself. So every flipped bit shows, and nothing that is read is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.json_values import json_ready
from models.weights import Weights

FORMAT = "vedette-network"
FORMAT_VERSION = 2
WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
_LIBRARIES = ("vedette", "torch", "numpy", "numba", "safetensors")
_DAMAGE = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError, MemoryError,
    SafetensorError,
)  # fmt: skip
"""What reading arbitrary bytes may raise."""


class RegistryError(Exception):
    """A version cannot be kept, loaded or put in charge; the message says which, why, and what to do."""


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
    """Filled in when it is saved."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The settings it was trained with."""
    data_hash: str = ""
    """Digest of the history it was trained on."""
    parent: str | None = None
    """The version it was made from, or that was in charge while it was trained."""
    device: str = ""
    seconds: float = 0.0
    """That its training took."""
    kind: str = "f32"
    """How its weights are stored; see ``models.storage_kinds``."""
    judgement: Mapping[str, Any] = field(default_factory=dict)
    """How it was judged, where that is known when it is saved."""


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


def seal(weights: Weights, manifest: Manifest) -> tuple[str, dict[str, bytes]]:
    """Return a network's version and its files by name, the manifest last.

    The version begins with the time of creation, to the millisecond, so that versions sort by age.

    Raises:
        ValueError: if the manifest's time is naive or its kind of storage unknown or unfit, or it does not fit the
            weights.
        TypeError: if it holds what JSON cannot.
    """
    if manifest.created.tzinfo is None:
        raise ValueError("a manifest's time of creation must be aware")
    _check_fit(manifest, weights)
    data = save(weights.to_arrays(manifest.kind))
    digest = hashlib.sha256(data).hexdigest()
    about = asdict(manifest) | {"created": manifest.created.astimezone(UTC).isoformat(), "libraries": _libraries()}
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "weights_sha256": digest,
        "weights_bytes": len(data),
        "network": weights.to_dict(),
        "about": about,
    }
    document = json_ready(document)
    document["sha256"] = _digest(document)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return version_of(manifest.created, digest), {WEIGHTS: data, MANIFEST: text.encode()}


def version_of(created: datetime, digest: str) -> str:
    """Return the name of the version created then whose weights have this checksum."""
    utc = created.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03d}-{digest[:8]}"


def unseal(stream: str, version: str, raw: bytes, data: bytes) -> StoredModel:
    """Return the model of two files, the manifest's first.

    Raises:
        DamagedModelError: saying the first thing that is wrong with them.
    """
    try:
        return _read(stream, version, raw, data)
    except _DAMAGE as error:
        why = str(error) or type(error).__name__
        raise DamagedModelError(why) from error


def _read(stream: str, version: str, raw: bytes, data: bytes) -> StoredModel:
    document = _document(raw)
    told, digest = document["weights_sha256"], hashlib.sha256(data).hexdigest()
    if digest != told:
        raise ValueError(
            f"{WEIGHTS} ({len(data)} bytes) has checksum {digest[:12]}…, the manifest says {str(told)[:12]}…"
            f" ({document.get('weights_bytes')} bytes)"
        )
    manifest = _manifest(document["about"])
    if manifest.stream != stream:
        raise ValueError(f"it was made for stream {manifest.stream!r}, not {stream!r}")
    if (named := version_of(manifest.created, digest)) != version:
        raise ValueError(f"these are the files of version {named}")
    weights = Weights.from_parts(document["network"], load(data), manifest.kind)
    _check_fit(manifest, weights)
    return StoredModel(version, weights, manifest)


def _document(raw: bytes) -> dict[str, Any]:
    """Return the manifest's JSON when it is one of ours, of a format known here, and unchanged."""
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise ValueError(f"{MANIFEST} is not JSON ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{MANIFEST} is not that of a network of ours")
    told = document.get("format_version")
    if told != FORMAT_VERSION:
        newer = isinstance(told, int) and told > FORMAT_VERSION
        advice = "a newer Vedette wrote it; update this one" if newer else "it is older; train again"
        raise ValueError(f"format version {told!r} is not {FORMAT_VERSION}, the one known here: {advice}")
    sealed = document.pop("sha256", None)
    if sealed != _digest(document):
        raise ValueError(f"{MANIFEST} was changed after it was written: its checksum is wrong")
    return document


def _digest(document: Mapping[str, Any]) -> str:
    """Return the checksum of a JSON object, however it is laid out."""
    plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(plain.encode()).hexdigest()


def _manifest(about: object) -> Manifest:
    if not isinstance(about, dict):
        raise ValueError(f"{MANIFEST} does not say what the network is about")
    missing = [name for name in _REQUIRED if name not in about]
    strange = sorted(set(about) - set(_READERS))
    if missing or strange:
        raise ValueError(f"{MANIFEST}: missing {', '.join(missing) or 'nothing'}; unknown {', '.join(strange) or '-'}")
    values = {}
    for name, value in about.items():
        try:
            values[name] = _READERS[name](value)
        except _DAMAGE as error:
            raise ValueError(f"{MANIFEST}: {name} cannot be {str(value)[:60]!r}") from error
    return Manifest(**values)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(each) for each in _list(value))


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _time(value: object) -> datetime:
    time = datetime.fromisoformat(_text(value))
    if time.tzinfo is None:
        raise ValueError
    return time


_READERS: dict[str, Any] = {
    "stream": _text, "channels": _texts, "units": _texts, "step_us": _whole, "entities": _texts,
    "horizons": lambda value: tuple(_whole(each) for each in _list(value)),
    "neighbours": lambda value: {name: list(_texts(others)) for name, others in _object(value).items()},
    "data_from_us": _whole, "data_to_us": _whole, "created": _time, "seed": _whole, "report": _object,
    "libraries": _object, "config": _object, "data_hash": _text, "device": _text, "seconds": _number,
    "parent": lambda value: None if value is None else _text(value), "kind": _text, "judgement": _object,
}  # fmt: skip
_REQUIRED = [f.name for f in fields(Manifest)][: [f.name for f in fields(Manifest)].index("report")]


def _check_fit(manifest: Manifest, weights: Weights) -> None:
    """Raise ValueError where the manifest and the weights say different things."""
    sizes = weights.sizes
    pairs = (
        ("entities", len(manifest.entities), sizes.entities),
        ("channels", len(manifest.channels), sizes.channels),
        ("units", len(manifest.units), sizes.channels),
        ("horizons", len(manifest.horizons), sizes.horizons),
    )
    for name, told, wanted in pairs:
        if told != wanted:
            raise ValueError(f"the manifest has {told} {name}, the weights {wanted}")
    if manifest.step_us < 1 or re.search(r"[/\\]", manifest.stream):
        raise ValueError(f"a step of {manifest.step_us} µs or the stream's name {manifest.stream!r} makes no sense")


def _libraries() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
