"""A real PostgreSQL for tests, where one is installed: its own folder, a Unix socket, nobody else's."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

_names = itertools.count()
_SETTINGS = ("fsync=off", "shared_buffers=16MB", "max_connections=30", "listen_addresses=''")
"""It holds nothing worth keeping, and is reached by its socket alone."""


class PostgresServer:
    """Runs from construction to ``close``; ``stop`` and ``start`` take it away and bring it back."""

    def __init__(self, tools: Path) -> None:
        self._tools = tools
        # A socket's path is short by law (107 bytes), so not beneath pytest's own folders.
        self.folder = Path(tempfile.mkdtemp(prefix="vedette-pg-"))
        # initdb refuses to work for root.
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        try:
            if self._account is not None:
                os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
            self._run(
                "initdb", "-D", str(self._data), "-U", "vedette", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"
            )
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it and return when it answers."""
        options = " ".join(f"-c {setting}" for setting in _SETTINGS) + f" -k {self.folder}"
        self._run(
            "pg_ctl", "-D", str(self._data), "-w", "-t", "100", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        """Stop it at once, connections or not."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    def fresh(self) -> str:
        """Return the URL of a new, empty schema: a database of its own is a thousand files."""
        name = f"test_{next(_names)}"
        self._do(f"CREATE SCHEMA {name}")
        return f"{self._url('postgres')}&options={quote(f'-csearch_path={name}', safe='')}"

    def database(self, options: str) -> str:
        """Return the URL of a new, empty database with these options."""
        name = f"test_{next(_names)}"
        self._do(f"CREATE DATABASE {name} {options}")
        return self._url(name)

    def close(self) -> None:
        """Stop it and remove all it had."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://vedette@/{name}?host={quote(str(self.folder), safe='')}"

    def _do(self, statement: str) -> None:
        url = self._url("postgres").replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _run(self, tool: str, *arguments: str) -> None:
        command = [str(self._tools / tool), *arguments]
        if self._account is not None:
            user = [f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}", "--clear-groups"]
            command = ["setpriv", *user, "--", *command]
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{tool} failed: {done.stdout}")


def postgres_tools() -> Path | None:
    """Return the folder with initdb and pg_ctl of the newest PostgreSQL here; None where there is none."""
    found = shutil.which("pg_ctl")
    beside = [Path(found).resolve().parent] if found else []
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((path for path in [*debian, *beside] if (path / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, started once; a test that stops it starts it again."""
    tools = postgres_tools()
    if tools is None:
        pytest.skip("needs PostgreSQL: no initdb on PATH or in /usr/lib/postgresql")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("needs PostgreSQL, which refuses to run for root, and there is no setpriv to be another user")
    server = PostgresServer(tools)
    yield server
    server.close()
