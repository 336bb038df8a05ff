"""The image is made of what there is, runs without root, and its install steps work."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PACKAGES = ("connectors", "models", "pipeline")
STATE = "/var/lib/vedette"


class Instruction(NamedTuple):
    """One instruction of a Dockerfile, its continued lines joined."""

    stage: int
    name: str
    text: str


def instructions() -> list[Instruction]:
    """Return the instructions in order; stages count from 1."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    found: list[Instruction] = []
    stage = 0
    for line in filter(str.strip, joined):
        name, _, text = line.strip().partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, text.strip()))
    return found


def of(name: str, stage: int | None = None) -> list[str]:
    """Return the arguments of all instructions of that name, of one stage or all."""
    return [i.text for i in instructions() if i.name == name and stage in (None, i.stage)]


def sent() -> list[str]:
    """Return the patterns of what is sent to the builder."""
    text = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    return [line[1:] for line in text.splitlines() if line.startswith("!")]


def test_what_is_copied_is_there_and_is_sent() -> None:
    """Protects the build from a COPY whose source was renamed, or is kept from the builder."""
    sources = [source for text in of("COPY", 1) for source in text.split()[:-1]]
    assert set(PACKAGES) < set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in sent()), f"{source} is not sent to the builder"
    assert all(text.startswith("--from=build ") for text in of("COPY", 2))


def test_it_needs_no_root_and_writes_only_its_state() -> None:
    """Protects hosts: a numeric user that is not 0, the compiled loops beside the state, nothing else to be written."""
    user = of("USER")[-1].split(":")[0]
    assert int(user) > 0
    assert of("WORKDIR", 2) == [STATE]
    assert json.loads(of("VOLUME")[-1]) == [STATE]
    environment = dict(re.findall(r"(\w+)=(\S+)", " ".join(of("ENV", 2))))
    for name in ("NUMBA_CACHE_DIR", "HOME"):
        assert environment[name].startswith(STATE)


def test_it_is_healthy_while_it_is_live_not_only_while_it_is_ready() -> None:
    """Protects from restarts for a broker that is away; and the check is one that Python can read."""
    command = json.loads(of("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "healthcheck", "exec")
    assert ":9464/livez" in command[2]
    assert of("EXPOSE") == ["9464"]


def test_the_health_check_tells_who_lives(tmp_path: Path) -> None:
    """Protects from a check that always says yes: against a port where nobody listens it fails."""
    code = json.loads(of("HEALTHCHECK")[0].partition("CMD ")[2])[2].replace("9464", "1")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120)
    assert done.returncode == 1


def test_it_is_for_the_processor_unless_told_otherwise() -> None:
    """Protects from gigabytes of CUDA where nobody asked for them."""
    assert "ACCELERATOR=cpu" in of("ARG", 1)
    assert "UV_TORCH_BACKEND=${ACCELERATOR}" in of("ENV", 1)[0]


@pytest.mark.soak
def test_the_package_holds_every_file_of_ours(tmp_path: Path) -> None:
    """Protects installed daemons from pages without their templates: the wheel holds what the folders hold."""
    tree = copied(tmp_path / "src")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(tree)]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("vedette-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.split("/")[0] in PACKAGES}
    ours = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".pyc", ".nbi", ".nbc")
    }
    assert ours <= inside, sorted(ours - inside)


@pytest.mark.soak
def test_the_install_steps_work_in_an_empty_environment(tmp_path: Path) -> None:
    """Protects the build: its RUN steps are run as they are, in other folders, and the result says its version.

    Torch comes from where this machine's pip finds it: the builder's own index is not for tests to download from.
    """
    tree, place, tools = copied(tmp_path / "src"), tmp_path / "vedette", tmp_path / "tools"
    subprocess.run([sys.executable, "-m", "venv", str(tools)], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "UV_TORCH_BACKEND"}
    environment |= {
        "PATH": f"{tools}/bin:{os.environ['PATH']}",
        "UV_NO_CACHE": "1",
        "UV_LINK_MODE": "copy",
        "UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", ""),
    }
    for step in of("RUN", 1):
        here = step.replace("/opt/vedette", str(place))
        done = subprocess.run(
            ["bash", "-euc", here], cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=1500
        )
        assert done.returncode == 0, f"{here}\n{done.stdout}\n{done.stderr}"
    said = subprocess.run([str(place / "bin/vedette"), "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("vedette ")
    example = ROOT / "deploy" / "examples" / "air.yaml"
    checked = [str(place / "bin/vedette"), "check", "--offline", "--config", str(example)]
    done = subprocess.run(checked, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def copied(tree: Path) -> Path:
    """Return a folder with what the build copies, and nothing else."""
    tree.mkdir()
    for text in of("COPY", 1):
        for source in text.split()[:-1]:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tree / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, tree / source)
    return tree
