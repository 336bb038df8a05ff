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

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType

from models.decisions import CHANGES, OPERATOR, Action, Decision
from models.manifest import MANIFEST, WEIGHTS, DamagedModelError, Manifest, RegistryError, StoredModel, seal, unseal
from models.model_files import open_files
from models.weights import Weights

# What a caller of the registry needs, in one place.
__all__ = [
    "LINEAR", "Action", "ChampionChangedError", "DamagedModelError", "Decision", "Manifest", "Registry",
    "RegistryError", "StoredModel",
]  # fmt: skip

CHAMPION, CHALLENGER = "CHAMPION", "CHALLENGER"
BARRED, DECISIONS = "barred", "decisions"
LINEAR = "linear"
"""In charge where no network is, on purpose."""
DECISIONS_KEPT = 1000
"""Of those that changed who is in charge, and as many of the others."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
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
        self._now = now

    # ---- versions ----

    def versions(self, stream: str) -> list[str]:
        """Return the whole versions of a stream, oldest first."""
        with _explained(f"list the versions of {stream!r}"):
            found = self._files.folders_with(self._folder(stream), MANIFEST)
        return [name for name in found if _NAME.fullmatch(name) and name not in _RESERVED]

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
        if not _NAME.fullmatch(version) or version in _RESERVED:
            raise RegistryError(f"{version!r} is no version")
        folder = f"{self._folder(stream)}/{version}"
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
        lines = self._pointer(stream, CHAMPION)
        return None if lines is None else lines[0]

    def challenger_version(self, stream: str) -> str | None:
        """Return the version in shadow, None if there is none; raises RegistryError as ``champion_version`` does."""
        lines = self._pointer(stream, CHALLENGER)
        return None if lines is None else lines[0]

    def challenger_since(self, stream: str) -> datetime | None:
        """Return since when there is this challenger, UTC and aware; None if there is none."""
        lines = self._pointer(stream, CHALLENGER)
        if lines is None:
            return None
        try:
            since = datetime.fromisoformat(lines[1])
        except (IndexError, ValueError) as error:
            raise RegistryError(f"{CHALLENGER} of {stream!r} is damaged: it does not say since when") from error
        return since if since.tzinfo is not None else since.replace(tzinfo=UTC)

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
        if version != LINEAR:
            self.load(stream, version)
        with self._changing(stream, f"put {version} in charge of {stream!r}"):
            before = self._expected(stream, only_if)
            why = self.barred(stream).get(version)
            if why is not None and decision.by != OPERATOR:
                raise RegistryError(
                    f"version {version} of {stream!r} is barred ({why}); only an operator puts it in charge again:"
                    f" vedette models promote {version}"
                )
            self._take_charge(stream, replace(decision, version=version, champion_before=before))
            if why is not None:
                self._files.remove(f"{self._folder(stream)}/{BARRED}/{version}")

    def shadow(self, stream: str, version: str, decision: Decision | None = None) -> None:
        """Make a version the challenger, in place of any other, after checking that it can be loaded.

        Raises:
            RegistryError: if it cannot, is barred, or is the champion.
        """
        self.load(stream, version)
        with self._changing(stream, f"put {version} in shadow"):
            if version in self.barred(stream):
                raise RegistryError(f"version {version} of {stream!r} is barred ({self.barred(stream)[version]})")
            before = self._champion_if_known(stream)
            if version == before:
                raise RegistryError(f"version {version} of {stream!r} is in charge already")
            decision = decision or Decision(self._now(), Action.SHADOWED, version, None, ())
            self._record(stream, replace(decision, version=version, champion_before=before))
            text = f"{version}\n{decision.time.astimezone(UTC).isoformat()}\n"
            self._files.put(f"{self._folder(stream)}/{CHALLENGER}", text.encode())

    def dismiss(self, stream: str, decision: Decision | None = None) -> None:
        """Have no challenger any more; nothing happens where there is none, but that ``decision`` is recorded."""
        with self._changing(stream, f"dismiss the challenger of {stream!r}"):
            if decision is not None:
                self._record(stream, decision)
            self._files.remove(f"{self._folder(stream)}/{CHALLENGER}")

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
        if to is not None and to != LINEAR:
            self.load(stream, to)
        with self._changing(stream, f"roll {stream!r} back"):
            given_up = self._expected(stream, ... if only_if is None else only_if, needed=True)
            if given_up in (None, to) or (given_up == LINEAR and to is None):
                raise RegistryError(f"{given_up or 'no version'} is in charge of {stream!r}: nothing to roll back")
            barred = self.barred(stream)
            if to in barred and by != OPERATOR:
                raise RegistryError(f"version {to} of {stream!r} is barred ({barred[str(to)]})")
            target = to or self._loadable_predecessor(stream) or LINEAR
            if given_up != LINEAR:
                self._bar(stream, str(given_up), reason)
            self._take_charge(stream, Decision(self._now(), Action.ROLLED_BACK, target, given_up, (reason,), {}, by))
            if target in barred:
                self._files.remove(f"{self._folder(stream)}/{BARRED}/{target}")
        return target

    def bar(self, stream: str, version: str, reason: str) -> None:
        """Keep a version from being put in charge by anyone but an operator; it is the challenger no more."""
        with self._changing(stream, f"bar {version} of {stream!r}"):
            self._bar(stream, version, reason)
            self._dismiss_if(stream, version)

    def barred(self, stream: str) -> dict[str, str]:
        """Return the versions that failed in service, and why."""
        folder = f"{self._folder(stream)}/{BARRED}"
        reasons = {}
        with _explained(f"read who is barred from {stream!r}"):
            for name in self._files.names(folder):
                if _NAME.fullmatch(name):
                    reasons[name] = self._files.read(f"{folder}/{name}").decode(errors="replace").strip()
        return reasons

    # ---- decisions ----

    def record(self, stream: str, decision: Decision) -> None:
        """Keep a decision that changes nothing here, such as a refusal."""
        with self._changing(stream, f"record a decision about {stream!r}"):
            self._record(stream, decision)

    def decisions(self, stream: str) -> list[Decision]:
        """Return the decisions kept, newest last; files that are none are left out."""
        with _explained(f"read the decisions about {stream!r}"):
            return self._read_decisions(stream, self._decision_names(stream))

    def predecessor(self, stream: str) -> str | None:
        """Return who was in charge before the champion and may be again: neither barred nor gone; None if nobody."""
        with _explained(f"read the decisions about {stream!r}"):
            return next(self._predecessors(stream), None)

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
            stay = {self.champion_version(stream), self.challenger_version(stream), self.predecessor(stream)}
            others = [version for version in versions if version not in stay]
            gone = others[: max(0, len(others) - keep)]
            if not dry_run:
                for version in gone:
                    self._files.remove_folder(f"{self._folder(stream)}/{version}", MANIFEST)
                    self._files.remove(f"{self._folder(stream)}/{BARRED}/{version}")
                self._prune_decisions(stream)
        return gone

    # ---- within ----

    def _folder(self, stream: str) -> str:
        if not _NAME.fullmatch(stream):
            raise RegistryError(f"{stream!r} cannot name a directory; use letters, digits, '.', '_' and '-'")
        return stream

    @contextmanager
    def _changing(self, stream: str, what: str) -> Iterator[None]:
        with _explained(what), self._files.locked(self._folder(stream)):
            yield

    def _pointer(self, stream: str, name: str) -> list[str] | None:
        """Return the lines of a pointer's file, the first of which names a version; None if there is no file."""
        with _explained(f"read {name} of {stream!r}"):
            try:
                lines = self._files.read(f"{self._folder(stream)}/{name}").decode(errors="replace").split("\n")
            except FileNotFoundError:
                return None
        lines[0] = lines[0].strip()
        if not _NAME.fullmatch(lines[0]):
            raise RegistryError(
                f"{self.directory}/{stream}/{name} is damaged: it names {lines[0][:40]!r}; put a version in charge with"
                " vedette models promote VERSION"
            )
        return lines

    def _champion_if_known(self, stream: str) -> str | None:
        try:
            return self.champion_version(stream)
        except RegistryError:  # damaged: whoever is put in charge now repairs it
            return None

    def _expected(self, stream: str, only_if: str | EllipsisType | None, needed: bool = False) -> str | None:
        """Return who is in charge, after comparing."""
        before = self.champion_version(stream) if needed or only_if is not ... else self._champion_if_known(stream)
        if only_if is not ... and before != only_if:
            raise ChampionChangedError(
                f"{before or 'nobody'} is in charge of {stream!r} by now, not {only_if or 'nobody'}; look again"
            )
        return before

    def _take_charge(self, stream: str, decision: Decision) -> None:
        """Record who takes charge and why, then let it; killed between, the record tells of an attempt."""
        self._record(stream, decision)
        self._files.put(f"{self._folder(stream)}/{CHAMPION}", f"{decision.version}\n".encode())
        self._dismiss_if(stream, decision.version)

    def _dismiss_if(self, stream: str, version: str) -> None:
        try:
            if self.challenger_version(stream) != version:
                return
        except RegistryError:  # a damaged pointer leads nowhere; it is cleared away
            pass
        self._files.remove(f"{self._folder(stream)}/{CHALLENGER}")

    def _bar(self, stream: str, version: str, reason: str) -> None:
        if not _NAME.fullmatch(version) or version in _RESERVED:
            raise RegistryError(f"{version!r} is no version")
        self._files.put(f"{self._folder(stream)}/{BARRED}/{version}", (reason or "no reason given").encode())

    def _decision_names(self, stream: str) -> list[str]:
        names = self._files.names(f"{self._folder(stream)}/{DECISIONS}")
        return [name for name in names if _DECISION.fullmatch(name)]

    def _record(self, stream: str, decision: Decision) -> None:
        names = self._decision_names(stream)
        number = int(names[-1].partition("-")[0]) + 1 if names else 1
        name = f"{number:08d}-{decision.time.astimezone(UTC):%Y%m%dT%H%M%S}-{decision.action}.json"
        try:
            data = decision.to_bytes()
        except TypeError as error:
            raise RegistryError(f"cannot record a decision about {stream!r}: {error}") from error
        self._files.put(f"{self._folder(stream)}/{DECISIONS}/{name}", data)

    def _read_decisions(self, stream: str, names: list[str]) -> list[Decision]:
        found = []
        for name in names:
            try:
                found.append(Decision.from_bytes(self._files.read(f"{self._folder(stream)}/{DECISIONS}/{name}")))
            except (ValueError, FileNotFoundError):  # not ours, damaged, or just pruned: no ground to stop for
                continue
        return found

    def _predecessors(self, stream: str) -> Iterator[str]:
        """Yield who may be in charge in place of the champion, the best first: by promotions, back in time."""
        promotions = [name for name in self._decision_names(stream) if name.endswith(f"-{Action.PROMOTED}.json")]
        before = {d.version: d.champion_before for d in self._read_decisions(stream, promotions)}  # the newest counts
        there, barred = set(self.versions(stream)), self.barred(stream)
        version, seen = self._champion_if_known(stream), {LINEAR}
        while version is not None and version not in seen:
            seen.add(version)
            version = before.get(version)
            if version in there and version not in barred and version not in seen:
                yield str(version)

    def _loadable_predecessor(self, stream: str) -> str | None:
        for version in self._predecessors(stream):
            try:
                return self.load(stream, version).version
            except RegistryError:  # damaged: the one before it, then
                continue
        return None

    def _prune_decisions(self, stream: str) -> None:
        names = self._decision_names(stream)
        endings = tuple(f"-{action}.json" for action in CHANGES)
        changes = [name for name in names if name.endswith(endings)]
        others = [name for name in names if not name.endswith(endings)]
        for name in changes[:-DECISIONS_KEPT] + others[:-DECISIONS_KEPT]:
            self._files.remove(f"{self._folder(stream)}/{DECISIONS}/{name}")


_DECISION = re.compile(rf"\d{{8}}-\d{{8}}T\d{{6}}-({'|'.join(Action)})\.json")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what the files' place refuses into a RegistryError that says what could not be done."""
    try:
        yield
    except OSError as error:
        raise RegistryError(f"cannot {what}: {error}") from error
