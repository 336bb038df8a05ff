"""Writes the dashboards that Grafana is provisioned with: ``python -m deploy.grafana.generate [DIRECTORY]``.

They are made by code so that every panel looks alike, every link leads somewhere, and a test can ask every query.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.daemon import daemon
from deploy.grafana.entity import entity
from deploy.grafana.ingest import ingest
from deploy.grafana.model import model
from deploy.grafana.overview import overview

DASHBOARDS: dict[str, Callable[[], Dashboard]] = {
    "overview": overview,
    "entity": entity,
    "models": model,
    "daemon": daemon,
    "ingest": ingest,
}
HERE = Path(__file__).parent / "dashboards"


def text_of(make: Callable[[], Dashboard]) -> str:
    """Return a dashboard as JSON; the same for the same code, so that a difference is a change."""
    built = make().build()
    for i, panel in enumerate(built.panels or [], 1):
        panel.id_val = i  # links to a panel hold it
    return JSONEncoder(sort_keys=True, indent=1).encode(built) + "\n"


def main(directory: Path = HERE) -> None:
    """Write every dashboard to ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, make in DASHBOARDS.items():
        (directory / f"{name}.json").write_text(text_of(make), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
