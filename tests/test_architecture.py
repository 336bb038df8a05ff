"""The house keeps its shape: who may import whom, and what lies where."""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("connectors", "models", "pipeline")
LAYERS = {
    "connectors": {"connectors"},
    "models": {"models"},
    "pipeline": {"connectors", "models", "pipeline"},
}
FENCES = {
    "kafka": ("connectors/kafka_*.py",),
    "confluent_kafka": ("connectors/kafka_*.py", "pipeline/city_topics.py"),  # the demo's own eyes
    "paho": ("connectors/mqtt_*.py", "pipeline/bench_ingest*.py", "pipeline/frigate_link.py"),  # it plays a peer
    "torch": ("models/*.py",),
    "river": ("models/*.py",),
    "apscheduler": ("pipeline/scheduling_clock.py", "pipeline/scheduling_triggers.py"),
    "prometheus_client": (
        "pipeline/metrics*.py",
        "pipeline/health.py",
        "pipeline/ingest/metrics.py",
        "pipeline/ingest/process.py",  # a registry is made where its process begins
    ),
    "sqlalchemy": (
        "connectors/alert_store*.py",
        "connectors/site_store.py",
        "connectors/migrations/*.py",
        "connectors/migrations/versions/*.py",
    ),
    "alembic": ("connectors/alert_store*.py", "connectors/migrations/*.py", "connectors/migrations/versions/*.py"),
    "pandas": ("connectors/replay.py", "pipeline/replay.py", "pipeline/history*.py", "pipeline/backtest.py"),
    "numba": (
        "connectors/kafka_batches.py",
        "connectors/json_scanner.py",
        "connectors/known_names.py",
        "pipeline/window_cells.py",
        "pipeline/window_counters.py",
        "models/streaming.py",
        "models/streaming_loops.py",
        "models/streaming_tiles.py",
        "models/linear.py",
        "models/innovation.py",
        "models/level.py",
        "models/scale.py",
        "models/whitening.py",
        "models/tails.py",
        "models/tiers.py",
        "models/novelty.py",
        "models/state_novelty.py",
    ),
}
TOP_LEVEL = {
    "pyproject.toml", "pipeline", "models", "connectors", "deploy", "tests", "README.md",
    "Makefile", "LICENSE", "CHANGELOG.md", "constraints.txt",
}  # fmt: skip
NOT_OURS = ("out", "state", "build", "dist", "shared", "*.egg-info", ".*", "__pycache__")
"""Made by running things; git ignores them."""
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "shared"}


def sources() -> Iterator[Path]:
    """Yield the files of the packages, relative to the root."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT)


def imported(path: Path) -> set[str]:
    """Return the modules that the file imports anywhere in it, late imports and those for types included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(node.module or "")
    return names


def test_layers_are_kept() -> None:
    """Protects connectors and models from knowing the pipeline or each other."""
    wrong = [
        f"{path} imports {name}"
        for path in sources()
        for name in imported(path)
        if (top := name.partition(".")[0]) in (*PACKAGES, "tests") and top not in LAYERS[path.parts[0]]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", FENCES)
def test_third_parties_stay_within_their_fences(library: str) -> None:
    """Protects from a library that spreads until it cannot be replaced."""
    wrong = [
        str(path)
        for path in sources()
        if library in {name.partition(".")[0] for name in imported(path)}
        and not any(fnmatch.fnmatch(str(path), pattern) for pattern in FENCES[library])
    ]
    assert not wrong, f"{library} is imported by {', '.join(wrong)}"


def loaded_by(module: str) -> set[str]:
    """Return the modules that are there once ``module`` of ours is imported, those of others by their first name."""
    found, left = set[str](), [module]
    while left:
        name = left.pop()
        path = Path(*name.split("."))
        if name in found or not (ROOT / path.with_suffix(".py")).is_file():
            found.add(name if name.partition(".")[0] in PACKAGES else name.partition(".")[0])
            continue
        found.add(name)
        for node in ast.parse((ROOT / path.with_suffix(".py")).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                left += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                left += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def test_a_daemon_loads_no_torch() -> None:
    """Protects every start of a daemon, and its memory, from what only trainings need: seconds, and 180 MB."""
    parts = ("build", "build_console", "build_housekeeping", "daemon", "garbage", "live", "stack")
    loaded = set().union(*(loaded_by(f"pipeline.{part}") for part in parts))
    assert {"pipeline.stream", "pipeline.scheduling", "numba"} <= loaded
    assert "torch" not in loaded
    assert "torch" in loaded_by("pipeline.training_job")


def test_nothing_has_a_vague_name() -> None:
    """Protects from drawers for everything: files are named by their noun."""
    wrong = [str(path) for path in sources() if {part.removesuffix(".py") for part in path.parts} & VAGUE]
    assert not wrong


def test_packages_export_nothing() -> None:
    """Protects from import cycles: an __init__ is a paragraph of meaning."""
    for path in sources():
        if path.name == "__init__.py":
            body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
            assert len(body) == 1, f"{path} holds more than its docstring"
            assert isinstance(body[0], ast.Expr)


def test_every_file_says_what_it_is() -> None:
    """Protects the newcomer: each file begins with its purpose."""
    wrong = [str(p) for p in sources() if not ast.get_docstring(ast.parse((ROOT / p).read_text(encoding="utf-8")))]
    assert not wrong


def test_the_top_level_holds_only_what_was_fixed() -> None:
    """Protects the shape of the house that the user fixed."""
    names = {path.name for path in ROOT.iterdir()}
    strangers = {name for name in names - TOP_LEVEL if not any(fnmatch.fnmatch(name, ours) for ours in NOT_OURS)}
    assert not strangers


def test_no_pickle_is_loaded() -> None:
    """Protects from code in data: nothing of ours reads pickles."""
    wrong = [str(path) for path in sources() if {"pickle", "cloudpickle", "dill", "joblib"} & imported(path)]
    assert not wrong
