"""The report: one self-contained HTML page that shows what was seen, what was expected and what was said about it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from pipeline.found import Verdict
from pipeline.recording import Recorder
from pipeline.report_data import report_data

_PLACEHOLDER = re.compile(r"<!--(title|style|data|script)-->")
# Inside a script element only these could end it, open a comment or mark an entity; \u2028 and \u2029 once ended lines.
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One line of the table at the end of a run: a stream and how it went."""

    stream: str
    incidents: int
    found: int | None = None
    """Planted or documented faults that were found; None where none are known."""
    known: int | None = None
    false_alerts: int | None = None
    promised: float | None = None
    """The false alerts that the budget allows."""
    model: str = ""
    readings_per_s: float | None = None
    simulated: bool = False


def render(
    recorder: Recorder,
    summary: Sequence[SummaryRow] = (),
    title: str = "Vedette report",
    *,
    subtitle: str = "",
    verdicts: Sequence[Verdict] = (),
) -> str:
    """Return the page as text; it loads nothing from anywhere, and any name or text in it is shown, never run.

    Args:
        recorder: what a run left; nothing of it is changed.
        summary: the table's lines; without them the table is left out.
        title: heading and window title.
        subtitle: a line under the heading.
        verdicts: what became of planted or documented faults, drawn under the series.
    """
    data = report_data(recorder, verdicts)
    data |= {"title": title, "subtitle": subtitle, "summary": [asdict(row) for row in summary]}
    parts = {
        "title": html.escape(title),
        "style": _part("report.css"),
        "data": embedded_json(data),
        "script": _part("report_charts.js") + "\n" + _part("report.js"),
    }
    # One pass, so that a placeholder's name inside the data stays what it is.
    return _PLACEHOLDER.sub(lambda match: parts[match[1]], _part("report.html"))


def embedded_json(data: Any) -> str:
    """Return ``data`` as JSON that is safe inside a script element: pure ASCII, no angle bracket, no ampersand.

    >>> embedded_json({"a": "</script><!--"})
    '{"a":"\\\\u003c/script\\\\u003e\\\\u003c!--"}'
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return re.sub("[<>&]", lambda match: _UNSAFE[match[0]], text)


def _part(name: str) -> str:
    return resources.files("pipeline").joinpath(name).read_text(encoding="utf-8")
