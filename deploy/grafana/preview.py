"""Draws a dashboard's file without Grafana: its panels, in its grid, from what a Prometheus answers to its queries.

    python -m deploy.grafana.preview deploy/grafana/dashboards/entity.json http://127.0.0.1:9090 out/entity.html \\
        --var entity=ring-road --minutes 5 --png out/entity.png

For whoever has no Grafana at hand, and for pictures. Titles, units, thresholds, mappings, annotations and repeated
panels are as the file says; the drawing is ours, and says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from deploy.grafana.preview_asking import Asking, Range
from deploy.grafana.preview_panels import annotation_marks, bands, curves, legend, spark, stat_html, table_html, targets
from pipeline.report import embedded_json

WIDTH = 1280
"""Pixels of the page."""
NOTE = "Preview drawn from the dashboard’s file and a real Prometheus; not Grafana itself."
_ROW_PX, _GAP_PX = 30, 8
_STYLE = """
* { box-sizing: border-box; } body { margin: 0; padding: 16px; background: #f4f5f7; color: #24292e; width: 1280px;
  font: 13px/1.4 Inter, "Segoe UI", "DejaVu Sans", sans-serif; }
header { display: flex; gap: 10px 14px; align-items: center; margin-bottom: 12px; flex-wrap: wrap; }
h1 { font-size: 18px; font-weight: 600; margin: 0 6px 0 0; } p { margin: 0; }
.choice { display: inline-flex; border: 1px solid #d5d9e0; border-radius: 3px; background: #fff; overflow: hidden; }
.choice b { font-weight: 500; color: #5a6270; background: #f4f5f7; padding: 4px 9px; border-right: 1px solid #d5d9e0; }
.choice span { padding: 4px 9px; } .note { margin-left: auto; color: #5a6270; font-size: 12px; }
main { display: grid; grid-template-columns: repeat(24, minmax(0, 1fr)); gap: 8px; grid-auto-rows: 30px; }
section { background: #fff; border: 1px solid #e1e4ea; border-radius: 3px; display: flex; flex-direction: column;
  overflow: hidden; position: relative; min-width: 0; }
h2 { font-size: 13.5px; font-weight: 500; margin: 0; padding: 7px 10px 3px; }
h2.row { font-size: 15px; align-self: end; padding: 0 2px; }
.big { font-size: 34px; font-weight: 500; padding: 4px 12px; line-height: 1.2; position: relative; z-index: 1; }
.narrow { font-size: 24px; white-space: nowrap; }
.faint, .none { color: #8a929f; } .none { padding: 10px; } .plot { flex: 1; min-height: 0; }
.spark { position: absolute; left: 0; right: 0; bottom: 0; height: 46%; }
.legend { display: flex; gap: 2px 16px; padding: 2px 12px 7px; font-size: 12px; flex-wrap: wrap; }
.legend i { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 6px; }
.legend span { display: inline-flex; align-items: center; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 5px 10px; border-top: 1px solid #eceef2; }
th { color: #3274d9; font-weight: 500; border-top: 0; } .num { text-align: right; } td.num { font-weight: 500; }
"""
_SCRIPT = """
const figures = JSON.parse(document.getElementById("figures").textContent);
Promise.all(Object.entries(figures).map(([id, figure]) =>
  Plotly.newPlot(id, figure.data, figure.layout, { displayModeBar: false, responsive: true })
)).then(() => { document.documentElement.dataset.ready = "yes"; });
"""


def page(board: Mapping[str, Any], asking: Asking, given: Mapping[str, str]) -> str:
    """Return a dashboard as one HTML page that loads nothing.

    Args:
        board: as it is in its file.
        asking: whom, about what time.
        given: values of variables; the others show all, or the first that there is.

    Raises:
        ValueError: if Prometheus refuses a query, or a variable has no value.
    """
    values = asking.variables(board, given)
    marks = annotation_marks(board, values, asking)
    figures: dict[str, Any] = {}
    body = []
    for i, (panel, scoped) in enumerate(_placed(board, values, asking)):
        at = panel["gridPos"]
        place = f"grid-column:{at['x'] + 1}/span {at['w']};grid-row:{at['y'] + 1}/span {at['h']}"
        if panel["type"] == "row":
            body.append(f'<h2 class="row" style="{place}">{escape(panel["title"])}</h2>')
            continue
        inner = _inner(panel, scoped, asking, f"plot-{i}", figures, marks)
        title = escape(_title(panel["title"], scoped))
        body.append(f'<section style="{place}"><h2>{title}</h2>{inner}</section>')
    shown = [v for v in board["templating"]["list"] if v["type"] == "query"]
    chosen = "".join(
        f'<span class="choice"><b>{escape(v["label"])}</b><span>{escape(_chosen(values[v["name"]]))}</span></span>'
        for v in shown
    )
    plotly = (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(board["title"])}</title>'
        f"<style>{_STYLE}</style><script>{plotly}</script></head><body><header><h1>{escape(board['title'])}</h1>{chosen}"
        f'<p class="note">{NOTE}</p></header><main>{"".join(body)}</main>'
        f'<script type="application/json" id="figures">{embedded_json(figures)}</script><script>{_SCRIPT}</script>'
        "</body></html>\n"
    )


def picture(page_file: Path, png: Path, width: int = WIDTH) -> None:
    """Take a picture of a whole page once it is drawn; raises RuntimeError where Chromium is missing."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise RuntimeError("a picture needs Chromium: install the package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": 400})
        shown.goto(page_file.resolve().as_uri())
        shown.wait_for_selector("html[data-ready]", state="attached")
        shown.screenshot(path=png, full_page=True)
        browser.close()


def main(arguments: Sequence[str]) -> int:
    """Write the page, and the picture if one is asked for."""
    parser = argparse.ArgumentParser(prog="deploy.grafana.preview", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("board", type=Path, help="a dashboard's file")
    parser.add_argument("prometheus", help="its address, such as http://127.0.0.1:9090")
    parser.add_argument("out", type=Path, help="the HTML file to write")
    parser.add_argument("--png", type=Path, help="a picture of it, by Chromium")
    parser.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="a variable's value")
    parser.add_argument("--minutes", type=float, default=60.0, help="how far it looks back")
    parser.add_argument("--scrape-interval", type=float, default=15.0, metavar="SECONDS", help="of that Prometheus")
    args = parser.parse_args(arguments)
    now_s = time.time()
    asking = Asking(args.prometheus, Range(now_s - args.minutes * 60.0, now_s, args.scrape_interval))
    board = json.loads(args.board.read_text(encoding="utf-8"))
    try:
        text = page(board, asking, dict(each.split("=", 1) for each in args.var))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")
    if args.png is not None:
        picture(args.out, args.png)
    return 0


def _placed(
    board: Mapping[str, Any], values: Mapping[str, str], asking: Asking
) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Yield each panel with its variables; one that is repeated for each value of a variable, once for each."""
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    down = 0
    for panel in board["panels"]:
        at = dict(panel["gridPos"])
        at["y"] += down
        repeated = panel.get("repeat")
        if not repeated:
            yield {**panel, "gridPos": at}, dict(values)
            continue
        all_values = values[repeated] == variables[repeated].get("allValue")
        wanted = asking.choices(variables[repeated], values) if all_values else values[repeated].split("|")
        for k, value in enumerate(wanted):
            yield {**panel, "gridPos": {**at, "y": at["y"] + k * at["h"]}}, {**values, repeated: value}
        down += (len(wanted) - 1) * at["h"]


def _inner(
    panel: Mapping[str, Any], values: Mapping[str, str], asking: Asking, name: str, figures: dict[str, Any],
    marks: Sequence[dict[str, Any]],
) -> str:  # fmt: skip
    """Return what is below a panel's title; its figure, if it has one, goes to ``figures``."""
    series, kind = targets(panel, values, asking), panel["type"]
    if kind == "table":
        return table_html(panel, series)
    if kind == "stat":
        figure = spark(panel, series, asking.shown)
        if figure is not None:
            figures[name] = figure
        return stat_html(panel, series) + (f'<div class="spark" id="{name}"></div>' if figure else "")
    if not series:
        return '<p class="none">No data</p>'
    if kind == "state-timeline":
        figures[name] = bands(panel, series, asking.shown)
        return f'<div class="plot" id="{name}"></div>'
    figures[name] = curves(panel, series, asking.shown, marks)
    return f'<div class="plot" id="{name}"></div>{legend(panel, figures[name])}'


def _title(title: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        title = title.replace(f"${name}", value)
    return title


def _chosen(value: str) -> str:
    return "All" if value == ".*" else value.replace("|", ", ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
