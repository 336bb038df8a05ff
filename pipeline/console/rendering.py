"""Pages as HTML: templates, and how numbers, names and times are written in them.

Every text in a page goes through Jinja2's escaping; what comes from sensors is cleaned of control and format characters
before. A time is written in UTC, and the page's script shows it in the viewer's zone with UTC in the title.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from models.wording import channel_text, clean, duration_text, moment_text, number_text, unit_text
from pipeline.console.site_box import around, coordinates_text
from pipeline.console.static_files import StaticFiles
from pipeline.incident import WHOLE_STREAM
from pipeline.report import embedded_json

_KINDS = {
    "anomaly": "Anomaly",
    "limit": "Limit crossed",
    "forecast_limit": "Limit ahead",
    "silence": "Silence",
    "stuck": "Stuck",
    "data_quality": "Data quality",
}
_LABELS = {"true": "confirmed", "false_alarm": "false alarm", "expected": "expected"}
_LONGEST_NAME = 300
"""Characters of a name in a title; beyond it, it is no name that anybody reads."""


class Rendering:
    """Turns answers into pages. May be used from several threads."""

    def __init__(self, files: StaticFiles) -> None:
        """Link to ``files`` for styles and scripts."""
        self._files = files
        self._environment = Environment(
            loader=PackageLoader("pipeline.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "moment": moment,
            "number": number,
            "score": score,
            "percent": percent,
            "channel": lambda name: channel_text(str(name)),
            "unit": lambda unit: unit_text(str(unit or "")),
            "entity": lambda name: "the whole stream" if name == WHOLE_STREAM else clean(str(name)),
            "clean": lambda text: clean(str(text)),
            "whole": whole,
            "span": lambda seconds: duration_text(float(seconds)),
            "kind": lambda kind: _KINDS.get(str(kind), str(kind).replace("_", " ")),
            "label": lambda kind: _LABELS.get(str(kind), str(kind).replace("_", " ")),
            "tone": tone,
            "words": lambda text: clean(str(text).replace("_", " ")),
            "address": lambda text: quote(str(text), safe="", errors="replace"),
            "position": lambda site: coordinates_text(site["latitude"], site["longitude"]),
            "map_address": lambda site: f"/sites?box={around(site['latitude'], site['longitude'])}",
            "embedded": lambda data: Markup(embedded_json(data)),  # it holds no markup, see there
        }
        self._environment.globals["file"] = files.address
        for name in self._environment.list_templates():  # compiled now: later it would take time from scoring
            self._environment.get_template(name)

    def page(self, name: str, request: Request, context: Mapping[str, Any], status: int = 200) -> Response:
        """Return the page of a template, never kept by caches: it tells of now."""
        shared = {"nonce": getattr(request.state, "nonce", ""), "path": request.url.path}
        text = self.text(name, {**shared, **context})
        # Names may hold unpaired surrogates, which UTF-8 cannot.
        return Response(
            text.encode("utf-8", "replace"), status, {"Cache-Control": "no-store"}, "text/html; charset=utf-8"
        )

    def text(self, name: str, context: Mapping[str, Any]) -> str:
        """Return a template filled in; ``context`` holds ``nonce`` and ``path`` too."""
        return self._environment.get_template(name).render(context)


def moment(time: object, form: str = "full") -> Markup:
    """Return a time element; a dash where no time is known.

    Args:
        time: RFC 3339, or microseconds since 1970 UTC.
        form: how the page's script writes it: ``full``, ``short`` (without the year) or ``ago``.

    >>> str(moment("2026-03-03T04:00:00Z"))[:41]
    '<time datetime="2026-03-03T04:00:00+00:00'
    """
    at = _aware(time)
    if at is None:
        return Markup('<span class="faint">–</span>')
    text = moment_text(round(at.timestamp() * 1e6))
    return Markup('<time datetime="{}" title="{}" data-form="{}">{}</time>').format(
        at.isoformat(timespec="seconds"), text, form, text
    )


def microseconds(time: object) -> int | None:
    """Return microseconds since 1970 UTC of a time as answers tell it; None where it is none."""
    at = _aware(time)
    return None if at is None else round(at.timestamp() * 1e6)


def _aware(time: object) -> datetime | None:
    try:
        if isinstance(time, int | float) and not isinstance(time, bool):
            return datetime.fromtimestamp(time / 1e6, UTC)
        at = datetime.fromisoformat(str(time))
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def number(value: object) -> str:
    """Return a number with four significant digits; a dash where it is none."""
    return number_text(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else "–"


def score(value: object) -> str:
    """Return a score as people compare it with 1; a dash where there is none."""
    return f"{float(value):.2f}" if isinstance(value, int | float) and not isinstance(value, bool) else "–"


def percent(value: object, digits: int = 0) -> str:
    """Return a share of one as percent; a dash where it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    return f"{100 * float(value):.{digits}f} %"


def whole(text: object) -> str:
    """Return a text as it may stand in a title or a long line: cleaned, cut only where nobody reads on."""
    visible = "".join(c if c.isprintable() else " " for c in str(text)[: _LONGEST_NAME + 1])
    return visible if len(visible) <= _LONGEST_NAME else f"{visible[: _LONGEST_NAME - 1]}…"


def tone(incident: Mapping[str, Any]) -> str:
    """Return the colour's name of an incident, as in reports."""
    if incident.get("kind") == "anomaly":
        return "alert" if incident.get("tier") == "alert" else "watch"
    urgent = incident.get("tier") == "alert" and incident.get("severity") == "critical"
    return "alert" if urgent else "other"
