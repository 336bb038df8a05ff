"""Models and decisions as tables and text for whoever reads a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.table import Table
from rich.text import Text

from models.registry import Decision
from pipeline.alert_words import clean
from pipeline.durations import format_duration
from pipeline.model_shelf import Entry, Shelf, met

_DASH = "–"
_METRICS = (
    ("crps", "CRPS"), ("calibration_error", "calibration error"), ("coverage_90", "coverage of 90 %"),
    ("faults_found", "faults found"), ("false_alerts", "false alerts"), ("false_watches", "false watches"),
    ("labels_right", "labels right"), ("targets", "targets"),
)  # fmt: skip
"""Of a contender, and how they are called."""


def list_table(shelf: Shelf, now: datetime) -> Table:
    """Return all versions, newest first."""
    table = _table("version", "role", "kind", "hidden", "over linear", "CRPS", "KiB", "age", "created (UTC)")
    for entry in reversed(shelf.entries):
        table.add_row(*(Text(clean(cell)) for cell in _list_cells(entry, now)))
    return table


def _list_cells(entry: Entry, now: datetime) -> list[str]:
    roles = ", ".join(entry.roles)
    if entry.model is None:
        return [entry.version, ", ".join(filter(None, (roles, "damaged"))), *[_DASH] * 7]
    told = entry.model.manifest
    return [
        entry.version,
        roles,
        told.kind,
        str(entry.model.weights.sizes.hidden),
        share(entry.over_linear),
        figure(entry.crps),
        _DASH if entry.size_bytes is None else f"{entry.size_bytes / 1024:,.1f}",
        age(now - told.created),
        moment(told.created),
    ]


def standing(shelf: Shelf, now: datetime) -> list[str]:
    """Return who has which role, in sentences, and what is wrong."""
    if shelf.champion is None:
        lines = ["in charge: nobody yet, so the linear forecast alone"]
    elif shelf.champion == "linear":
        lines = ["in charge: the linear forecast alone, on purpose"]
    else:
        lines = [f"in charge: {shelf.champion}; before it {shelf.previous or 'nobody that may be again'}"]
    if shelf.challenger is not None and shelf.challenger_since is not None:
        lines.append(f"in shadow: {shelf.challenger}, for {age(now - shelf.challenger_since)}")
    lines += [f"barred: {version}: {reason}" for version, reason in sorted(shelf.barred.items())]
    lines += [f"damaged: {entry.trouble}" for entry in shelf.entries if entry.trouble]
    return [clean(line) for line in (*lines, *(f"damaged: {trouble}" for trouble in shelf.trouble))]


def show_text(shelf: Shelf, entry: Entry, now: datetime) -> Iterator[Table | Text]:
    """Yield everything known of a version, part by part."""
    yield Text(f"version {entry.version}", "bold")
    yield _pairs(facts(shelf, entry, now))
    if entry.model is not None and entry.model.manifest.config:
        yield _heading("settings it was trained with")
        yield _pairs(flat(entry.model.manifest.config))
    yield _heading("how it was judged")
    yield from _judged(entry)
    yield _heading("decisions")
    concerned = [decision for decision in shelf.decisions if decision.concerns(entry.version)]
    if not concerned:
        yield Text("none")
    for decision in reversed(concerned):
        yield Text(clean(decision_line(decision)))
        for reason in decision.reasons:
            yield Text(f"    {clean(reason)}")


def facts(shelf: Shelf, entry: Entry, now: datetime) -> dict[str, str]:
    """Return what a version is and where it comes from, as names and values."""
    found = {"stream": shelf.stream, "role": ", ".join(entry.roles) or "none"}
    if entry.version in shelf.barred:
        found["barred because"] = shelf.barred[entry.version]
    if entry.model is None:
        return found | {"damaged": entry.trouble}
    told, sizes = entry.model.manifest, entry.model.weights.sizes
    report = told.report
    children = [e.version for e in shelf.entries if e.model and e.model.manifest.parent == entry.version]
    found |= {
        "created": f"{moment(told.created)} UTC, {age(now - told.created)} ago",
        "made from": told.parent or _DASH,
        "made of it": ", ".join(children) or _DASH,
        "weights": f"{told.kind}, {entry.size_bytes or 0:,} bytes",
        "network": (
            f"{sizes.hidden} hidden, {sizes.heads} heads of {sizes.kind}, window {sizes.window},"
            f" {sizes.neighbours} neighbours, {sizes.representatives} examples"
        ),
        "channels": ", ".join(f"{c} ({u})" if u else c for c, u in zip(told.channels, told.units, strict=True)),
        "grid": format_duration(timedelta(microseconds=told.step_us)),
        "horizons": ", ".join(f"{h} steps" for h in told.horizons),
        "entities": f"{len(told.entities)}: {', '.join(told.entities[:8])}{' …' if len(told.entities) > 8 else ''}",
        "data": f"{moment(_utc(told.data_from_us))} to {moment(_utc(told.data_to_us))} UTC",
        "data digest": told.data_hash or _DASH,
        "trained": f"in {told.seconds or _seconds(report):.0f} s on {told.device or report.get('device') or 'unknown'}",
        "seed": str(told.seed),
        "libraries": ", ".join(f"{name} {version}" for name, version in told.libraries.items()),
    }
    if "epochs" in report:
        found["training"] = f"{report['epochs']} epochs, {share(report.get('gain'))} against the linear forecast"
    return found


def _judged(entry: Entry) -> Iterator[Table | Text]:
    if not entry.judged:
        yield Text("never, or not any more: vedette train --judge VERSION does it")
        return
    yield Text(clean(judged_line(entry.judged)))
    contenders = entry.judged.get("contenders")
    if isinstance(contenders, Mapping) and contenders:
        table = _table("", *(str(role) for role in contenders))
        for key, name in _METRICS:
            values = [c.get(key) if isinstance(c, Mapping) else None for c in contenders.values()]
            table.add_row(name, *(figure(value) for value in values))
        yield table


def judged_line(judged: Mapping[str, Any]) -> str:
    """Return the outcome of a judgement in one line."""
    interval = ""
    if judged.get("gain_low") is not None:
        interval = f" (95 %: {share(judged.get('gain_low'))} to {share(judged.get('gain_high'))})"
    return (
        f"{share(judged.get('gain'))}{interval} against {judged.get('against', 'linear')},"
        f" {share(judged.get('gain_over_linear'))} against the linear forecast, on {judged.get('holdout_steps')} steps"
    )


def decision_line(decision: Decision) -> str:
    """Return a decision in one line, without its reasons."""
    action = str(decision.action).replace("_", " ")
    before = f", before it {decision.champion_before}" if decision.champion_before else ""
    who = decision.evidence.get("user")
    by = f"{decision.by} {who}" if isinstance(who, str) else decision.by
    return f"{moment(decision.time)} UTC  {action}: {decision.version}{before} (by {by})"


def compare_table(shelf: Shelf, first: Entry, second: Entry, now: datetime) -> Iterator[Table | Text]:
    """Yield two versions side by side: figures, then what differs."""
    yield _side_by_side(first, second, metrics(first), metrics(second))
    together = met(first.version, second.version, shelf.decisions)
    if together:
        challenger = together["contenders"]["challenger"]["version"]
        yield Text(clean(f"\nthey met: {challenger} {judged_line(together)}"))
    else:
        yield Text("\nthey were not judged on the same steps; vedette train --judge VERSION compares with the champion")
    differ = differences(shelf, first, second, now)
    yield _heading("what differs" if differ else "nothing else differs")
    if differ:
        mine, theirs = ({name: pair[i] for name, pair in differ.items()} for i in (0, 1))
        yield _side_by_side(first, second, mine, theirs)


def metrics(entry: Entry) -> dict[str, str]:
    """Return a version's figures."""
    contenders = entry.judged.get("contenders")
    own = contenders.get("challenger", {}) if isinstance(contenders, Mapping) else {}
    figures = {name: figure(own.get(key)) for key, name in _METRICS}
    return {"over linear": share(entry.over_linear), "over its champion": share(entry.over_champion)} | figures


def differences(shelf: Shelf, first: Entry, second: Entry, now: datetime) -> dict[str, tuple[str, str]]:
    """Return facts and settings that two versions do not share."""
    pair = []
    for entry in (first, second):
        settings = {} if entry.model is None else flat(entry.model.manifest.config)
        pair.append(facts(shelf, entry, now) | settings)
    mine, theirs = pair
    names = [*mine, *(name for name in theirs if name not in mine)]
    both = {name: (mine.get(name, _DASH), theirs.get(name, _DASH)) for name in names}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings by dotted name.

    >>> flat({"train": {"epochs": 20}, "hidden": 32})
    {'train.epochs': '20', 'hidden': '32'}
    """
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = str(value)
    return found


def _side_by_side(first: Entry, second: Entry, mine: Mapping[str, str], theirs: Mapping[str, str]) -> Table:
    table = _table("", first.version, second.version)
    for name, value in mine.items():
        table.add_row(Text(clean(name)), Text(clean(value)), Text(clean(theirs[name])))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column in ("version", ""), overflow="fold")
    return table


def _pairs(values: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(Text(clean(name)), Text(clean(value)))
    return table


def _heading(text: str) -> Text:
    return Text(f"\n{text}", "bold")


def share(value: object) -> str:
    """Return a share as a signed percentage; a dash for none.

    >>> share(0.0123)
    '+1.2 %'
    """
    return f"{value:+.1%}".replace("%", " %") if isinstance(value, int | float) else _DASH


def figure(value: object) -> str:
    """Return a figure with four digits, or whole; a dash for none."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return _DASH if value is None else str(value)


def age(duration: timedelta) -> str:
    """Return how long something is ago, in its largest unit.

    >>> age(timedelta(hours=50))
    '2 d'
    """
    seconds = max(0.0, duration.total_seconds())
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(time: datetime) -> str:
    """Return a time in UTC, to the minute."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"


def _utc(time_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)


def _seconds(report: Mapping[str, Any]) -> float:
    seconds = report.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0
