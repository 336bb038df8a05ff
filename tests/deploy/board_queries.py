"""The queries of Grafana's dashboards as Grafana would send them, with every variable filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
INGEST = FOLDER / "dashboards" / "ingest.json"
"""The one that asks of another process than the others."""
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")
_OURS = re.compile(r"\b(vedette[a-z0-9_:]*|process_[a-z_]+|ALERTS)\b")
_LABELS_AFTER = re.compile(r"\b(?:by|on) \(([\w, ]+)\)|(\w+)(?:=~|!~|!=|=)\"")


@dataclass(frozen=True, slots=True)
class BoardQuery:
    """One query: of a panel, a variable or an annotation."""

    board: str
    kind: str
    """"panel", "variable" or "annotation"."""
    title: str
    ref: str
    expr: str
    """As it is written, with Grafana's variables."""
    label: str | None = None
    """Of a variable: the label whose values are asked for."""

    @property
    def name(self) -> str:
        """Whose query it is, for messages and lists."""
        return f"{self.board}/{self.kind}/{self.title}/{self.ref}"

    def filled(self, values: Mapping[str, str]) -> str:
        """Return it as Prometheus gets it; raises KeyError for a variable that ``values`` does not have."""
        return re.sub(r"\$\{?(\w+)\}?", lambda match: values[match[1]], self.expr)

    def without_zeros(self) -> BoardQuery:
        """Return it without what answers zero where there is nothing: ``or on (…) 0 * …`` and ``or vector(0)``."""
        return replace(self, expr=re.sub(r" or (on \(\w+\) 0 \* .*|vector\(0\))$", "", self.expr))

    def metrics(self) -> set[str]:
        """Return the names of the metrics in it."""
        return set(_OURS.findall(re.sub(r'"[^"]*"', '""', self.expr)))

    def labels(self) -> set[str]:
        """Return every label that it matches, groups or joins by."""
        found = {name.strip() for by, one in _LABELS_AFTER.findall(self.expr) for name in (by or one).split(",")}
        return found | ({self.label} if self.label else set())


def load(path: Path) -> dict[str, Any]:
    """Return a dashboard as it is on the disk."""
    board: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return board


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels, without rows."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


def queries(path: Path) -> Iterator[BoardQuery]:
    """Yield every query of a dashboard."""
    board = load(path)
    for panel in panels(board):
        for target in panel["targets"]:
            yield BoardQuery(path.stem, "panel", panel["title"], target["refId"], target["expr"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            found = _LABEL_VALUES.fullmatch(variable["query"])
            assert found is not None, f"{path.name}: {variable['query']} is no label_values(…)"
            yield BoardQuery(path.stem, "variable", variable["name"], "", found[1], found[2])
    for annotation in board["annotations"]["list"]:
        yield BoardQuery(path.stem, "annotation", annotation["name"], "", annotation["expr"])
