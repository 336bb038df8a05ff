"""Keeps trained networks: a folder per stream and version, and a file that names the one in charge.

    STREAM/VERSION/weights.safetensors    the arrays
    STREAM/VERSION/manifest.json          what they are, where they come from, their checksum
    STREAM/CHAMPION                       the version in charge; "linear": nobody, on purpose
    STREAM/CHALLENGER                     the version in shadow, and since when
    STREAM/barred/VERSION                 why it is never put in charge again but by a person
    STREAM/decisions/NUMBER-….json        what was decided, by whom and why

A version appears whole or not at all, and a pointer is changed in one stroke under a lock file: a kill at any moment
leaves the champion whole. In an object store (any fsspec URL) there is no lock: each pointer is a single put, a version
counts once its manifest is there, and compare-and-set is best effort. Nothing that is loaded is ever executed, and what
does not match its checksum is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType

from models.decisions import DECISIONS, OPERATOR, Action, Decision, DecisionFiles
from models.manifest import MANIFEST, WEIGHTS, DamagedModelError, Manifest, RegistryError, StoredModel, seal, unseal
from models.model_files import open_files
from models.pointers import BARRED, CHALLENGER, CHAMPION, NAME, DamagedPointerError, Pointers
from models.weights import Weights

# What a caller of the registry needs, in one place.
__all__ = [
    "LINEAR", "Action", "ChampionChangedError", "DamagedModelError", "Decision", "Manifest", "Registry",
    "RegistryError", "StoredModel",
]  # fmt: skip

LINEAR = "linear"
"""In charge where no network is, on purpose."""
_RESERVED = {CHAMPION, CHALLENGER, BARRED, DECISIONS, LINEAR}


class ChampionChangedError(RegistryError):
    """Somebody else has put another version in charge in the meantime."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Registry:
    """Versions of networks. Any number of readers; writers of a stream wait for each other, but in object stores."""

    def __init__(self, directory: str | Path, now: Callable[[], datetime] = _utc_now) -> None:
        """Use the directory or fsspec URL; it is made when something is saved.

        Args:
            directory: a path, or a URL such as s3://bucket/models.
            now: UTC, aware; the time of decisions that the registry records by itself.
        """
        self.directory = directory
        self._files = open_files(directory)
        self._pointers = Pointers(self._files)
        self._decisions = DecisionFiles(self._files)
        self._now = now
        self._damaged: dict[str, str] = {}

    # ---- versions ----

    def versions(self, stream: str) -> list[str]:
        """Return the whole versions of a stream, oldest first."""
        with _explained(f"list the versions of {stream!r}"):
            found = self._files.folders_with(self._folder(stream), MANIFEST)
        return [name for name in found if _fit(name)]

    def save(self, weights: Weights, manifest: Manifest) -> str:
        """Keep a network and return its version, which begins with the time it was created; not yet in charge.

        Raises:
            RegistryError: if the names are not fit for a directory, the manifest does not fit the weights or JSON, or
                the disk refuses.
        """
        folder = self._folder(manifest.stream)
        try:
            version, files = seal(weights, manifest)
        except (ValueError, TypeError) as error:
            raise RegistryError(f"cannot keep a network of {manifest.stream!r}: {error}") from error
        with _explained(f"keep version {version} of {manifest.stream!r}"), self._files.locked(folder):
            if version not in self.versions(manifest.stream):  # else the same weights of the same moment
                self._files.add_folder(f"{folder}/{version}", files)
        return version

    def load(self, stream: str, version: str) -> StoredModel:
        """Return a version.

        Raises:
            RegistryError: if there is no such version.
            DamagedModelError: if its files are incomplete, changed, or of another format.
        """
        folder = f"{self._folder(stream)}/{self._version(version)}"
        with _explained(f"read version {version} of {stream!r}"):
            try:
                raw, data = self._files.read(f"{folder}/{MANIFEST}"), self._files.read(f"{folder}/{WEIGHTS}")
            except (FileNotFoundError, NotADirectoryError) as error:
                known = ", ".join(self.versions(stream)) or "none"
                text = f"stream {stream!r} has no whole version {version!r}; there are: {known}"
                raise RegistryError(text) from error
        try:
            return unseal(stream, version, raw, data)
        except DamagedModelError as error:
            raise DamagedModelError(f"{self.directory}/{folder}: {error}; remove it and train again") from error

    def size(self, stream: str, version: str) -> int:
        """Return the bytes of a version's weights as stored."""
        with _explained(f"read version {version} of {stream!r}"):
            return self._files.size(f"{self._folder(stream)}/{version}/{WEIGHTS}")

    # ---- who is in charge, who is in shadow, who never again ----

    def champion(self, stream: str) -> StoredModel | None:
        """Return the network in charge; None if none ever was, or none is on purpose.

        Raises:
            RegistryError: if the one named is not there or damaged; the linear forecaster can go on alone.
        """
        version = self.champion_version(stream)
        return None if version in (None, LINEAR) else self.load(stream, str(version))

    def champion_version(self, stream: str) -> str | None:
        """Return who is in charge, perhaps "linear"; None if nobody ever was. Reads one small file.

        Raises:
            RegistryError: if that file cannot be read or names nobody.
        """
        with _explained(f"read who is in charge of {stream!r}"):
            return self._pointers.champion(self._folder(stream))

    def challenger_version(self, stream: str) -> str | None:
        """Return the version in shadow, None if there is none; raises RegistryError where that cannot be read.

        A damaged pointer counts as none: nobody is served by it, and what asks goes on. ``challenger_damage`` tells.
        """
        there = self._challenger(stream)
        return None if there is None else there[0]

    def challenger_since(self, stream: str) -> datetime | None:
        """Return since when there is this challenger, UTC and aware; None if there is none."""
        there = self._challenger(stream)
        return None if there is None else there[1]

    def challenger_damage(self, stream: str) -> str | None:
        """Return what was wrong with the pointer to the challenger when it was read last; None: nothing, or never."""
        return self._damaged.get(stream)

    def promote(
        self,
        stream: str,
        version: str,
        decision: Decision | None = None,
        only_if: str | EllipsisType | None = ...,
    ) -> None:
        """Put a version in charge, after checking that it can be loaded; it is the challenger no more.

        Args:
            stream: whose.
            version: of it; or "linear".
            decision: recorded with it, its version and champion before filled in; None: a bare one by a job.
            only_if: who must be in charge still; None: nobody ever. Left out: whoever is.

        Raises:
            ChampionChangedError: if another than ``only_if`` is in charge.
            RegistryError: if it cannot be loaded, or is barred and it is no operator who asks.
        """
        decision = decision or Decision(self._now(), Action.PROMOTED, version, None, ())
        with self._changing(stream, f"put {version} in charge of {stream!r}"):
            before = self._expected(stream, only_if)
            lifts = self._allowed(stream, version, decision.by)
            self._take_charge(stream, replace(decision, version=version, champion_before=before), lifts)

    def shadow(self, stream: str, version: str, decision: Decision | None = None) -> None:
        """Make a version the challenger, in place of any other, after checking that it can be loaded.

        Raises:
            RegistryError: if it cannot, is barred, or is the champion.
        """
        with self._changing(stream, f"put {version} in shadow of {stream!r}"):
            self._allowed(stream, version, by="")
            before = self._pointers.champion_if_known(stream)
            if version in (before, LINEAR):
                raise RegistryError(f"{version} cannot be the challenger of {stream!r}: it is in charge, or no version")
            decision = decision or Decision(self._now(), Action.SHADOWED, version, None, ())
            is_there = self._pointers.challenger_if_known(stream) == version
            self._record(stream, replace(decision, version=version, champion_before=before), anew=is_there)
            self._pointers.challenge(stream, version, decision.time)

    def dismiss(self, stream: str, decision: Decision | None = None) -> None:
        """Have no challenger any more; nothing happens where there is none, but that ``decision`` is recorded."""
        with self._changing(stream, f"dismiss the challenger of {stream!r}"):
            if decision is not None:
                is_gone = self._pointers.challenger_if_known(stream) != decision.version
                self._record(stream, decision, anew=is_gone)
            self._pointers.dismiss(stream)

    def rollback(self, stream: str, *, to: str | None = None, reason: str, by: str, only_if: str | None = None) -> str:
        """Give up the champion, bar it, and put its predecessor back in charge; return who is in charge now.

        Args:
            stream: whose.
            to: another version than the predecessor, or "linear"; None: the predecessor, or "linear" without one.
            reason: kept with the decision and the bar.
            by: "operator" or "daemon".
            only_if: who must be in charge still; None: whoever is.

        Raises:
            ChampionChangedError: if another than ``only_if`` is in charge.
            RegistryError: if no network is in charge, or ``to`` cannot be loaded, is in charge already, or is barred
                and it is no operator who asks.
        """
        with self._changing(stream, f"roll {stream!r} back"):
            given_up = self._expected(stream, ... if only_if is None else only_if)
            if given_up in (None, to) or (given_up == LINEAR and to is None):
                raise RegistryError(f"{given_up or 'nobody'} is in charge of {stream!r}: nothing to roll back to")
            target = to or self._loadable_predecessor(stream) or LINEAR
            lifts = self._allowed(stream, target, by)
            if given_up != LINEAR:  # first: killed right after it, the version given up cannot come back
                self._pointers.bar(stream, self._version(str(given_up)), reason)
            decision = Decision(self._now(), Action.ROLLED_BACK, target, given_up, (reason,), {}, by)
            self._take_charge(stream, decision, lifts)
        return target

    def bar(self, stream: str, version: str, reason: str) -> None:
        """Keep a version from being put in charge by anyone but an operator; it is the challenger no more."""
        with self._changing(stream, f"bar {version} of {stream!r}"):
            self._pointers.bar(stream, self._version(version), reason)
            self._pointers.dismiss(stream, only=version)

    def barred(self, stream: str) -> dict[str, str]:
        """Return the versions that failed in service or were given up, and why."""
        with _explained(f"read who is barred from {stream!r}"):
            return self._pointers.barred(self._folder(stream))

    # ---- decisions ----

    def record(self, stream: str, decision: Decision) -> None:
        """Keep a decision that changes nothing here, such as a refusal."""
        with self._changing(stream, f"record a decision about {stream!r}"):
            self._record(stream, decision)

    def decisions(self, stream: str) -> list[Decision]:
        """Return the decisions kept, newest last; files that are none are left out."""
        with _explained(f"read the decisions about {stream!r}"):
            return self._decisions.read(self._folder(stream))

    def predecessor(self, stream: str) -> str | None:
        """Return who was in charge before the champion and may be again: neither barred nor gone; None if nobody."""
        with _explained(f"read the decisions about {stream!r}"):
            return next(self._predecessors(self._folder(stream)), None)

    # ---- retention ----

    def prune(self, stream: str, keep: int, dry_run: bool = False) -> list[str]:
        """Remove all but the newest ``keep`` versions and return those removed, oldest first.

        The champion, its predecessor and the challenger stay besides. Old decisions go too.

        Raises:
            RegistryError: if it cannot be read who must stay (then nothing is removed), or the disk refuses.
        """
        if keep < 0:
            raise RegistryError(f"cannot keep {keep} versions")
        with self._changing(stream, f"remove old versions of {stream!r}"):
            versions = self.versions(stream)
            in_shadow = self._pointers.challenger(stream)  # damaged, it may name one that has to stay
            stay = {self.champion_version(stream), self.predecessor(stream), in_shadow and in_shadow[0]}
            others = [version for version in versions if version not in stay]
            gone = others[: max(0, len(others) - keep)]
            if not dry_run:
                for version in gone:
                    self._files.remove_folder(f"{stream}/{version}", MANIFEST)
                    self._pointers.lift(stream, version)
                self._decisions.prune(stream)
        return gone

    # ---- within ----

    def _folder(self, stream: str) -> str:
        if not NAME.fullmatch(stream):
            raise RegistryError(f"{stream!r} cannot name a directory; use letters, digits, '.', '_' and '-'")
        return stream

    def _version(self, version: str) -> str:
        if not _fit(version):
            raise RegistryError(f"{version!r} is no version")
        return version

    def _challenger(self, stream: str) -> tuple[str, datetime] | None:
        """Return who is in shadow and since when; None if nobody, or if the pointer is damaged, which is noted."""
        with _explained(f"read who is in shadow of {stream!r}"):
            try:
                there = self._pointers.challenger(self._folder(stream))
            except DamagedPointerError as error:
                self._damaged[stream] = str(error)
                return None
        self._damaged.pop(stream, None)
        return there

    @contextmanager
    def _changing(self, stream: str, what: str) -> Iterator[None]:
        with _explained(what), self._files.locked(self._folder(stream)):
            yield

    def _expected(self, stream: str, only_if: str | EllipsisType | None) -> str | None:
        """Return who is in charge, after comparing."""
        if only_if is ...:
            return self._pointers.champion_if_known(stream)
        before = self._pointers.champion(stream)
        if before != only_if:
            raise ChampionChangedError(
                f"{before or 'nobody'} is in charge of {stream!r} by now, not {only_if or 'nobody'}; look again"
            )
        return before

    def _allowed(self, stream: str, version: str, by: str) -> bool:
        """Return whether a bar is to be lifted from a version that may take charge; else raise RegistryError."""
        if version != LINEAR:
            self.load(stream, version)
        why = self._pointers.barred(stream).get(version)
        if why is not None and by != OPERATOR:
            raise RegistryError(
                f"version {version} of {stream!r} is barred ({why}); only an operator puts it in charge again:"
                f" vedette models promote {version}"
            )
        return why is not None

    def _take_charge(self, stream: str, decision: Decision, lifts: bool) -> None:
        """Record who takes charge and why, then let it.

        Killed between, the record tells of an attempt; it gives way to that of the next one to do the same.
        """
        self._record(stream, decision, anew=decision.version == decision.champion_before)
        self._pointers.crown(stream, decision.version)
        self._pointers.dismiss(stream, only=decision.version)
        if lifts:
            self._pointers.lift(stream, decision.version)

    def _record(self, stream: str, decision: Decision, anew: bool = True) -> None:
        """Record a decision; not ``anew``: one that says the same can only be an attempt that was killed."""
        try:
            (self._decisions.add if anew else self._decisions.add_once)(stream, decision)
        except TypeError as error:
            raise RegistryError(f"cannot record a decision about {stream!r}: {error}") from error

    def _predecessors(self, stream: str) -> Iterator[str]:
        """Yield who may be in charge in place of the champion, the best first: by promotions, back in time."""
        before = self._decisions.champions_before(stream)
        there, barred = set(self.versions(stream)), self._pointers.barred(stream)
        version, seen = self._pointers.champion_if_known(stream), {LINEAR}
        while version is not None and version not in seen:
            seen.add(version)
            version = before.get(version)
            if version is not None and version in there and version not in barred and version not in seen:
                yield version

    def _loadable_predecessor(self, stream: str) -> str | None:
        for version in self._predecessors(stream):
            try:
                return self.load(stream, version).version
            except RegistryError:  # damaged: the one before it, then
                continue
        return None


def _fit(version: str) -> bool:
    return NAME.fullmatch(version) is not None and version not in _RESERVED


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what the files' place refuses into a RegistryError that says what could not be done."""
    try:
        yield
    except OSError as error:
        raise RegistryError(f"cannot {what}: {error}") from error
