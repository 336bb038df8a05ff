#!/usr/bin/env python3
"""Makes sure that programs out of Debian packages are there: ``python3 deploy/debian_packages.py mosquitto chromium``.

What is on PATH stays as it is. What is missing is installed where root runs this, without starting any service. Anybody
else gets it, with the libraries that are missing too, unpacked into ``.debian/`` beside this repository, with wrappers
in ``.debian/bin``; nothing outside of that folder changes. Needs nothing but Python and apt.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".debian"
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "chromium": ("chromium",),
    "influxdb": ("influxd",),
    "mosquitto": ("mosquitto",),
    "postgresql": ("initdb", "pg_ctl", "postgres"),
    "prometheus": ("prometheus", "promtool"),
    "prometheus-alertmanager": ("prometheus-alertmanager", "amtool"),
}
"""What a package is wanted for; a package that is not named here is wanted for the program of its own name."""
PLACES = ("usr/bin", "usr/sbin", "bin", "sbin", "usr/lib/chromium", "usr/lib/postgresql/*/bin")
"""Where Debian puts programs: not all of it is on everybody's PATH."""
SHIMS: Mapping[str, str] = {"chromium": "usr/lib/chromium/chromium"}
"""Programs whose entry in usr/bin is a script that looks for the rest at the system's own places."""
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Written by deploy/debian_packages.py while it installs: no service is to start.\nexit 101\n"
QUICK_TO_GIVE_UP = (
    *("-o", "Acquire::Retries=1"),
    *("-o", "Acquire::http::Timeout=20"),
    *("-o", "Acquire::https::Timeout=20"),
    *("-o", "DPkg::Lock::Timeout=120"),  # somebody else may be installing
)
LIMIT_S = 900.0
WRAPPER = """\
#!/bin/sh
# Written by deploy/debian_packages.py.
root=$(dirname "$(dirname "$(readlink -f "$0")")")/root
LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
FONTCONFIG_FILE=${{FONTCONFIG_FILE:-$(dirname "$root")/fonts.conf}}
export LD_LIBRARY_PATH FONTCONFIG_FILE
exec "$root/{program}" "$@"
"""
FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir>{folder}/root/usr/share/fonts</dir>
  <cachedir>{folder}/font-cache</cachedir>
  <include ignore_missing="yes">/etc/fonts/conf.d</include>
</fontconfig>
"""


class CannotBeHad(Exception):
    """Nothing can be installed here; the text says why, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the packages' programs available; return 0, or 1 where that did not work out and was not optional."""
    parser = argparse.ArgumentParser(description="Makes sure that programs out of Debian packages are there.")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="such as mosquitto")
    parser.add_argument("--optional", action="store_true", help="exit with 0 even where a package cannot be had")
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)  # so that what was begun is tidied up
    missing = [package for package in args.packages if not programs_there(package)]
    if not missing:
        return 0
    troubles = _fetch(missing)
    for package, why in troubles.items():
        _say(f"{package} cannot be had: {why}; whatever needs it is skipped")
    return 1 if troubles and not args.optional else 0


def programs_there(package: str) -> bool:
    """Return whether every program that the package is wanted for can be started."""
    return all(_program(name) is not None for name in PROGRAMS.get(package, (package,)))


def _program(name: str) -> str | None:
    """Return where a program is: on PATH, at Debian's own places, or among those that were unpacked."""
    beyond = [str(path) for place in PLACES for path in Path("/").glob(place)]
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *beyond, str(FOLDER / "bin")]))


def _fetch(packages: Sequence[str]) -> dict[str, str]:
    """Install or unpack the packages; return why those that are still missing cannot be had, in a line each."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return dict.fromkeys(packages, "this is no Debian (there is no apt-get)")
    try:
        troubles = _install(packages) if os.geteuid() == 0 else _unpack(packages)
    except CannotBeHad as error:
        return dict.fromkeys(packages, str(error))
    done = "apt-get is content, but the program is not there"
    return {package: troubles.get(package, done) for package in packages if not programs_there(package)}


# ---- for root ----


def _install(packages: Sequence[str]) -> dict[str, str]:
    """Install the packages; return what was in the way of those that could not be."""
    _say(f"installing {', '.join(packages)} from Debian")
    updated, troubles = False, {}
    with _no_service_starts():
        for package in packages:
            # One after the other: one that cannot be had does not take the others with it.
            install = ["apt-get", *QUICK_TO_GIVE_UP, "install", "-y", "--no-install-recommends", package]
            trouble = _run(install)
            if trouble is not None and not updated:
                # The lists may have been good, and asking for new ones takes longer than most packages.
                updated = True
                _run(["apt-get", *QUICK_TO_GIVE_UP, "update"])
                trouble = _run(install)
            if trouble is not None:
                troubles[package] = trouble
    return troubles


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep packages from starting their services; a policy that somebody else has made stands, ours goes again."""
    ours = not POLICY.exists() or POLICY.read_text(errors="replace") == POLICY_TEXT
    if ours:
        POLICY.write_text(POLICY_TEXT)
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


# ---- for anybody else ----


def _unpack(packages: Sequence[str]) -> dict[str, str]:
    """Unpack the packages, and what they need and the system lacks, into the folder; write their wrappers.

    Returns what was in the way of those that could not be.
    """
    _say(f"unpacking {', '.join(packages)} from Debian into {FOLDER}; nothing else is changed")
    lists, archives, root = FOLDER / "apt" / "lists", FOLDER / "apt" / "archives", FOLDER / "root"
    for folder in (lists / "partial", archives / "partial", root, FOLDER / "bin"):
        folder.mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", *QUICK_TO_GIVE_UP, "-o", "Debug::NoLocking=1", "-o", f"Dir::State::lists={lists}"]
    # Caches of its own as well; dpkg's status stays the system's, for it says what is there already.
    apt += ["-o", f"Dir::Cache={FOLDER / 'apt'}", "-o", f"Dir::Cache::archives={archives}"]
    _require([*apt, "update"])
    troubles = {}
    for package in packages:
        trouble = _run([*apt, "install", "-y", "--download-only", "--no-install-recommends", package])
        if trouble is not None:
            troubles[package] = trouble
            continue
        for archive in sorted(archives.glob("*.deb")):
            _require(["dpkg", "-x", str(archive), str(root)])
            archive.unlink()
    (FOLDER / "fonts.conf").write_text(FONTS.format(folder=FOLDER))
    for nobody_reads in (FOLDER / "apt", *(root / "usr" / "share" / name for name in ("doc", "locale", "man"))):
        shutil.rmtree(nobody_reads, ignore_errors=True)
    for package in packages:
        _write_wrappers(root, PROGRAMS.get(package, (package,)))
    return troubles


def _write_wrappers(root: Path, names: Sequence[str]) -> None:
    """Write what starts the programs with the unpacked libraries, of which LD_LIBRARY_PATH tells them."""
    libraries = sorted({path.parent for path in root.glob("**/*.so*")} & set(_library_folders(root)))
    joined = ":".join(f"$root/{path.relative_to(root)}" for path in libraries)
    for name in names:
        found = [path for place in PLACES for path in root.glob(f"{place}/{name}") if path.exists()]
        shim = root / SHIMS.get(name, "nowhere")
        program = shim if shim.is_file() else next(iter(found), None)
        if program is None:
            continue
        wrapper = FOLDER / "bin" / name
        wrapper.write_text(WRAPPER.format(libraries=joined, program=program.relative_to(root)))
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def _library_folders(root: Path) -> list[Path]:
    """Return where the linker would look if it were the system's, and where PulseAudio's own libraries find theirs."""
    return [
        path
        for place in ("lib", "usr/lib")
        for below in ("", "/*", "/*/pulseaudio")
        for path in root.glob(place + below)
    ]


# ---- running ----


def _run(command: Sequence[str]) -> str | None:
    """Run ``command``; return None if it went well, else what it complained about, in one line."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
    errors = [line.removeprefix("E:").strip() for line in said if line.startswith("E:")]
    return (errors or said[-1:])[0]


def _require(command: Sequence[str]) -> None:
    trouble = _run(command)
    if trouble is not None:
        raise CannotBeHad(f"{os.path.basename(command[0])} says: {trouble}")


def _say(text: str) -> None:
    sys.stderr.write(f"debian_packages: {text}\n")
    sys.stderr.flush()


def _leave(*_: object) -> None:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
