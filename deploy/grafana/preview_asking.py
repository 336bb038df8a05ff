"""What a dashboard asks Prometheus: its variables filled in, and the answers as plain series."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_POINTS = 600
"""Of a curve, at most; more are not to be told apart."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One series of an answer."""

    name: str
    labels: Mapping[str, str]
    times_s: Sequence[float]
    """Seconds since 1970; one alone where the newest value was asked for."""
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Range:
    """The time that is shown, in seconds since 1970, and how often Prometheus scraped in it."""

    from_s: float
    to_s: float
    scrape_s: float

    @property
    def step_s(self) -> float:
        """Between two points of a curve."""
        return max(self.scrape_s, (self.to_s - self.from_s) / _POINTS)

    def variables(self) -> dict[str, str]:
        """Return what Grafana fills in by itself; a rate spans four scrapes at least."""
        return {
            "__rate_interval": f"{max(self.step_s + self.scrape_s, 4 * self.scrape_s):.0f}s",
            "__interval": f"{max(1.0, self.step_s):.0f}s",
            "__range": f"{max(1.0, self.to_s - self.from_s):.0f}s",
        }


class Asking:
    """Asks one Prometheus about one range of time."""

    def __init__(self, address: str, shown: Range) -> None:
        self._address = address.rstrip("/")
        self.shown = shown

    def curves(self, expr: str, legend: str = "") -> list[Drawn]:
        """Return the series over the range; raises ValueError with Prometheus' own words if it refuses."""
        told = self._ask(
            "query_range", query=expr, start=self.shown.from_s, end=self.shown.to_s, step=self.shown.step_s
        )
        return [_drawn(each["metric"], each["values"], legend) for each in told["result"]]

    def newest(self, expr: str, legend: str = "") -> list[Drawn]:
        """Return the series with their values at the end of the range."""
        told = self._ask("query", query=expr, time=self.shown.to_s)
        return [_drawn(each["metric"], [each["value"]], legend) for each in told["result"]]

    def variables(self, board: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
        """Return a value for each variable of a dashboard: what is given, else all, else the first that there is.

        Raises:
            ValueError: if a variable has no value that could be chosen.
        """
        values = self.shown.variables()
        for variable in board["templating"]["list"]:
            name = variable["name"]
            if name in given:
                values[name] = given[name]
            elif variable["type"] == "query":
                values[name] = variable.get("allValue") or self.choices(variable, values)[0]
            else:
                values[name] = str(variable.get("current", {}).get("value", ""))
        return values

    def choices(self, variable: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
        """Return the values that a variable may have; raises ValueError where it has none."""
        asked = _LABEL_VALUES.fullmatch(variable["query"])
        if asked is None:
            raise ValueError(f"variable {variable['name']}: {variable['query']!r} is no label_values(…)")
        told = self._ask(
            f"label/{asked[2]}/values",
            **{"match[]": filled(asked[1], values), "start": self.shown.from_s, "end": self.shown.to_s},
        )
        if not told:
            raise ValueError(f"variable {variable['name']}: Prometheus knows no value of {asked[2]} yet")
        return [str(value) for value in told]

    def _ask(self, path: str, **parameters: object) -> Any:
        url = f"{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            told = json.load(error)
        if told["status"] != "success":
            raise ValueError(f"{parameters.get('query', path)}: {told.get('error')}")
        return told["data"]


def filled(expr: str, values: Mapping[str, str]) -> str:
    """Return a query with its variables filled in; raises KeyError for one that has no value.

    >>> filled('up{job=~"$job"}[${__range}]', {"job": "a", "__range": "5m"})
    'up{job=~"a"}[5m]'
    """
    return _VARIABLE.sub(lambda match: _quoted(values[match[1]]), expr)


def _quoted(value: str) -> str:
    """Return a value as it stands between a query's quotation marks."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _drawn(labels: Mapping[str, str], points: Sequence[Sequence[Any]], legend: str) -> Drawn:
    name = _LEGEND.sub(lambda match: labels.get(match[1], ""), legend) if legend else _plain_name(labels)
    return Drawn(name, labels, [float(t) for t, _ in points], [float(v) for _, v in points])


def _plain_name(labels: Mapping[str, str]) -> str:
    told = ", ".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
    return f"{labels.get('__name__', '')}{{{told}}}" if told else labels.get("__name__", "value")
