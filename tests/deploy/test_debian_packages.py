"""What fetches other people's programs: quiet where they are, one clear line where they cannot be had, no traces."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "debian_packages.py"
OFFLINE = ("Temporary failure resolving", "Could not connect", "Failed to fetch", "Unable to locate package")


def script() -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("debian_packages", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ran(
    arguments: Sequence[str], path: Path | None = None, where: Path = SCRIPT, account: pwd.struct_passwd | None = None
) -> tuple[int, str]:
    """Run the script with Python alone, as somebody else if ``account`` is given; return exit code and what it said."""
    python = sys.executable if account is None else str(shutil.which("python3", path="/usr/bin"))
    done = subprocess.run(
        [python, "-I", str(where), *arguments],
        cwd=where.parent,
        env={"PATH": os.environ["PATH"] if path is None else str(path), "HOME": str(where.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
        user=None if account is None else account.pw_uid,
        group=None if account is None else account.pw_gid,
        extra_groups=None if account is None else [],
    )
    return done.returncode, done.stdout


@pytest.fixture
def someone() -> Iterator[tuple[Path, pwd.struct_passwd | None]]:
    """Yield a folder of somebody's who is not root, and who that is; None: whoever runs this."""
    # Not below pytest's own folders: nobody else may enter those.
    folder = Path(tempfile.mkdtemp(prefix="vedette-packages-"))
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
        folder.chmod(0o755)
    yield folder, account
    shutil.rmtree(folder, ignore_errors=True)


def test_what_is_there_costs_nothing(tmp_path: Path) -> None:
    """Protects every run of the tests: a program on PATH is taken as it is, without a word and without apt."""
    program = tmp_path / "no-such-package"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert ran(["no-such-package"], path=tmp_path) == (0, "")


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--optional",), 0)])
def test_without_apt_one_line_says_so(tmp_path: Path, options: Sequence[str], code: int) -> None:
    """Protects people on other systems: the tests run all the same, and say what they do without."""
    found, said = ran([*options, "no-such-package"], path=tmp_path)
    assert found == code
    assert said == (
        "debian_packages: no-such-package cannot be had: this is no Debian (there is no apt-get); "
        "whatever needs it is skipped\n"
    )


def test_the_policy_against_services_is_taken_away_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the machine: a policy that somebody else has made stays, and ours goes, also after a failure."""
    packages, policy = script(), tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", policy)

    def fail() -> None:
        with packages._no_service_starts():
            assert subprocess.run([policy], check=False).returncode == 101
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not policy.exists()

    policy.write_text("#!/bin/sh\nexit 0\n")
    with packages._no_service_starts():
        assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert policy.exists()

    policy.write_text(packages.POLICY_TEXT)  # left behind by one that was killed
    with packages._no_service_starts():
        pass
    assert not policy.exists()


def test_without_root_a_program_is_unpacked_beside_the_repository(
    someone: tuple[Path, pwd.struct_passwd | None],
) -> None:
    """Protects whoever is not root: a real package is fetched and its program runs; the second time costs nothing."""
    if shutil.which("apt-get") is None or shutil.which("python3", path="/usr/bin") is None:
        pytest.skip("needs apt-get and the system's own python3")
    if shutil.which("hello") is not None:
        pytest.skip("needs a machine without Debian's smallest program, hello")
    folder, account = someone
    place = folder / "deploy" / "debian_packages.py"
    place.parent.mkdir()
    shutil.copy(SCRIPT, place)
    code, said = ran(["--optional", "hello"], where=place, account=account)
    if any(reason in said for reason in OFFLINE):
        pytest.skip(f"needs Debian's packages: {said}")
    assert (code, said.count("\n")) == (0, 1), said
    greeting = subprocess.run([folder / ".debian" / "bin" / "hello"], capture_output=True, text=True, check=True)
    assert greeting.stdout == "Hello, world!\n"
    assert ran(["hello"], where=place, account=account) == (0, "")
