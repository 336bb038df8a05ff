"""Previews of dashboards: panels, variables and colours as the file says, from what a real Prometheus answers."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.preview import main, page
from deploy.grafana.preview_asking import Asking, Range
from tests.deploy.board_queries import DASHBOARDS, FOLDER, load, panels
from tests.deploy.prometheus_server import PrometheusServer, binary

POINTS, EVERY_S = 60, 10
HOSTILE = '<img src=x onerror="alert(1)">{{7*7}}</script>'
ENTITY = FOLDER / "dashboards" / "entity.json"


@dataclass(frozen=True)
class Told:
    """A Prometheus that knows one entity's last ten minutes, of four hours ago."""

    address: str
    shown: Range

    @property
    def asking(self) -> Asking:
        """Ask it about them."""
        return Asking(self.address, self.shown)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """The entity's value leaves its band, and an alert opens, in the last twenty of sixty points."""
    folder = tmp_path_factory.mktemp("preview")
    first_s = int(time.time()) - 4 * 3600
    (folder / "past.txt").write_text(openmetrics(first_s), encoding="utf-8")
    command = [binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", "past.txt", "prometheus"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    config = folder / "prometheus.yml"
    config.write_text("scrape_configs: []\n", encoding="utf-8")
    with PrometheusServer(folder, config) as prometheus:
        yield Told(prometheus.address, Range(first_s, first_s + (POINTS - 1) * EVERY_S, EVERY_S))


def openmetrics(first_s: int) -> str:
    """Return the past as promtool takes it."""
    name = HOSTILE.replace('"', '\\"')
    one = f'stream="air",entity="{name}"'
    lines: list[str] = []
    series: list[tuple[str, str, Callable[[int], float]]] = [
        ("vedette_observed", f'{one},channel="no2"', lambda t: 10.0 if t < 40 else 30.0),
        ("vedette_expected", f'{one},channel="no2"', lambda t: 10.0),
        ("vedette_expected_lower", f'{one},channel="no2"', lambda t: 8.0),
        ("vedette_expected_upper", f'{one},channel="no2"', lambda t: 12.0),
        ("vedette_score", one, lambda t: 0.2 if t < 40 else 1.7),
        ("vedette_incident", one, lambda t: 0.0 if t < 40 else 2.0),
    ]
    for metric, labels, value in series:
        lines.append(f"# TYPE {metric} gauge")
        lines += [f"{metric}{{{labels}}} {value(t)} {first_s + t * EVERY_S}" for t in range(POINTS)]
    return "\n".join([*lines, "# EOF", ""])


def figures_of(text: str) -> dict[str, Any]:
    """Return what a page draws."""
    told = text.partition('id="figures">')[2].partition("</script>")[0]
    figures: dict[str, Any] = json.loads(told)
    return figures


def test_an_entity_is_drawn_as_its_dashboard_says(told: Told) -> None:
    """The channel fills the repeated panel's title, the band lies between its edges, states have words and colours."""
    text = page(load(ENTITY), told.asking, {})
    assert "<h2>no2</h2>" in text
    assert ">1.70</p>" in text  # two decimals, as the file says
    assert ">alert</p>" in text
    assert "not Grafana itself" in text
    figures = list(figures_of(text).values())
    band = next(figure for figure in figures if "upper" in [line.get("name") for line in figure["data"]])
    names = [line["name"] for line in band["data"]]
    assert names.index("upper") == names.index("lower") + 1, "Plotly fills to the curve before"
    assert band["data"][names.index("upper")]["fill"] == "tonexty"
    assert max(band["data"][names.index("observed")]["y"]) == 30.0
    states = next(figure for figure in figures if figure["data"][0].get("orientation") == "h")
    assert [bar["text"] for bar in states["data"]] == ["none", "alert"]
    assert sum(bar["x"][0] for bar in states["data"]) == pytest.approx(POINTS * EVERY_S * 1000)


def test_hostile_names_are_text(told: Told) -> None:
    """Protects whoever opens a preview from the names of their sensors."""
    text = page(load(ENTITY), told.asking, {})
    after = text.partition("<header>")[2]
    assert "<img" not in after
    assert escape(HOSTILE) in after


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_dashboard_can_be_previewed(told: Told, path: Path) -> None:
    """No panel is left out, whatever its kind, also where there is nothing to draw yet."""
    given = {"stream": "air"} if path.stem != "entity" else {}
    text = page(load(path), told.asking, given)
    titles = [panel["title"] for panel in panels(load(path)) if "$" not in panel["title"]]
    assert titles
    for title in titles:
        assert f"<h2>{escape(title)}</h2>" in text


def test_what_prometheus_refuses_is_told(told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects from a preview that hides a broken query behind an empty panel."""
    broken = ENTITY.read_text(encoding="utf-8").replace("max(vedette_score", "maximum(vedette_score")
    board = tmp_path / "board.json"
    board.write_text(broken, encoding="utf-8")
    code = main([str(board), told.address, str(tmp_path / "out.html"), "--minutes", "300", "--var", "channel=no2"])
    assert code == 1
    assert "unknown function" in capsys.readouterr().err
    assert not (tmp_path / "out.html").exists()
