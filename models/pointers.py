"""Who is in charge of a stream, who is in shadow, and who never again: one small file each, so each change is one put.

STREAM/CHAMPION          the version in charge, or "linear"
STREAM/CHALLENGER        the version in shadow, and on the second line since when
STREAM/barred/VERSION    why
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime

from models.manifest import RegistryError
from models.model_files import ModelFiles

CHAMPION, CHALLENGER, BARRED = "CHAMPION", "CHALLENGER", "barred"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What may name a stream or version: nothing that leads out of the directory."""


class DamagedPointerError(RegistryError):
    """A pointer's file names nobody, or no time."""


class Pointers:
    """The pointers of all streams. All raise OSError where the files' place refuses; changes only under the lock."""

    def __init__(self, files: ModelFiles) -> None:
        """Keep them among ``files``."""
        self._files = files

    def champion(self, stream: str) -> str | None:
        """Return who is in charge; None if nobody ever was.

        Raises:
            DamagedPointerError: if the file names nobody.
        """
        lines = self._lines(stream, CHAMPION)
        return None if lines is None else lines[0]

    def champion_if_known(self, stream: str) -> str | None:
        """Return who is in charge; None too if the file is damaged: whoever takes charge next repairs it."""
        try:
            return self.champion(stream)
        except RegistryError:
            return None

    def crown(self, stream: str, version: str) -> None:
        """Put a version, or "linear", in charge."""
        self._files.put(f"{stream}/{CHAMPION}", f"{version}\n".encode())

    def challenger(self, stream: str) -> tuple[str, datetime] | None:
        """Return who is in shadow and since when, UTC and aware; None if nobody.

        Raises:
            DamagedPointerError: if the file names nobody or no time.
        """
        lines = self._lines(stream, CHALLENGER)
        if lines is None:
            return None
        try:
            since = datetime.fromisoformat(lines[1])
        except (IndexError, ValueError) as error:
            raise DamagedPointerError(
                f"{stream}/{CHALLENGER} is damaged: it says no time; vedette models promote VERSION repairs it"
            ) from error
        return lines[0], since if since.tzinfo is not None else since.replace(tzinfo=UTC)

    def challenger_if_known(self, stream: str) -> str | None:
        """Return who is in shadow; None if nobody, or if the file is damaged."""
        try:
            there = self.challenger(stream)
        except RegistryError:
            return None
        return None if there is None else there[0]

    def challenge(self, stream: str, version: str, since: datetime) -> None:
        """Put a version in shadow."""
        self._files.put(f"{stream}/{CHALLENGER}", f"{version}\n{since.astimezone(UTC).isoformat()}\n".encode())

    def dismiss(self, stream: str, only: str | None = None) -> None:
        """Have nobody in shadow, or not ``only``; a damaged pointer goes in any case."""
        try:
            there = self.challenger(stream)
        except RegistryError:
            there = None
            only = None
        if only is None or (there is not None and there[0] == only):
            self._files.remove(f"{stream}/{CHALLENGER}")

    def barred(self, stream: str) -> dict[str, str]:
        """Return who is barred, and why."""
        folder = f"{stream}/{BARRED}"
        reasons = {}
        for name in self._files.names(folder):
            if NAME.fullmatch(name):
                with suppress(FileNotFoundError):  # lifted just now
                    reasons[name] = self._files.read(f"{folder}/{name}").decode(errors="replace").strip()
        return reasons

    def bar(self, stream: str, version: str, reason: str) -> None:
        """Bar a version."""
        self._files.put(f"{stream}/{BARRED}/{version}", (reason or "no reason given").encode())

    def lift(self, stream: str, version: str) -> None:
        """Bar a version no more."""
        self._files.remove(f"{stream}/{BARRED}/{version}")

    def _lines(self, stream: str, name: str) -> list[str] | None:
        """Return the lines of a file, the first of which names a version; None if there is no file."""
        try:
            text = self._files.read(f"{stream}/{name}").decode(errors="replace")
        except FileNotFoundError:
            return None
        lines = [line.strip() for line in text.split("\n")]
        if not NAME.fullmatch(lines[0]):
            raise DamagedPointerError(
                f"{stream}/{name} is damaged: it names {lines[0][:40]!r}; vedette models promote VERSION repairs it"
            )
        return lines
