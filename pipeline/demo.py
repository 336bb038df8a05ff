"""The demo: the real daemon against an embedded broker, on one real stream and two simulated ones.

It trains in the run, prints each alert with its reason as it comes, and ends with a table of what was found and a
report to look at.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_sink import KafkaSink
from connectors.kafka_topics import ensure_topics
from models.detection import WITNESSES
from pipeline.build import build_daemon
from pipeline.config import Config, load
from pipeline.daemon import Daemon
from pipeline.demo_data import DemoStream, demo_streams
from pipeline.exit_codes import OK, SOFTWARE
from pipeline.found import Raised, Reckoning, budget_use, reckon
from pipeline.incident import AlertMessage, Phase, Tier, decode, rfc3339
from pipeline.logs import configure
from pipeline.planted import FaultKind
from pipeline.recording import Recorder
from pipeline.report import SummaryRow, render
from pipeline.retraining import InRunTraining
from pipeline.simulation import Series
from pipeline.stream import Stream

_FEED_AHEAD_RECORDS = 3000
"""Never be further ahead: the embedded broker keeps 5 MB a partition and forgets what is older, read or not."""
_FEED_FLUSH_RECORDS = 500
_LOG_WIDTH = 160
"""Of the table where stdout is no terminal."""
_WATER_TRAINING_STEPS = 24 * 21
"""Water has no quiet fortnight to train on before its first event, so its network learns beside the scoring."""


@dataclass(slots=True)
class Result:
    """What the demo found, and how it went."""

    reckoning: Reckoning
    seconds: float
    readings: int


class ConsoleSink:
    """Prints alert messages as they come: the openings, in one line each."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def send(self, key: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Print the message if it opens an incident or raises it to an alert."""
        message = decode(value)
        grew = message.phase is Phase.UPDATED and message.tier is Tier.ALERT
        if message.phase is Phase.OPENED or grew:
            self._console.print(_line(message), markup=False, highlight=False, soft_wrap=True)

    def flush(self, timeout_s: float) -> None:
        """Do nothing: what was printed is printed."""

    def close(self) -> None:
        """Do nothing."""


def main(args: argparse.Namespace) -> int:
    """Run ``vedette demo``; return the exit code."""
    console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
    configure("error", "logfmt")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    # The broker forgets everything, so what a demo before this one kept belongs to nothing.
    shutil.rmtree(out / "state", ignore_errors=True)
    (out / "alerts.jsonl").unlink(missing_ok=True)
    streams = demo_streams(days=args.days, seed=args.seed)
    _introduce(console, streams)
    with EmbeddedBroker() as broker:
        path = out / "vedette.yaml"
        path.write_text(_config_text(broker.bootstrap_servers, out, streams), encoding="utf-8")
        config = load(path)
        topics = [s.series.stream for s in streams]
        topics += [t for t in (config.outputs.alerts_topic, config.outputs.dead_letter_topic) if t]
        ensure_topics(broker.bootstrap_servers, dict.fromkeys(topics, 1), settings=EmbeddedBroker.settings)
        recorder = Recorder()
        daemon, result = run(console, config, broker, streams, recorder, args.seed)
    report = out / "report.html"
    rows = _summary(config, streams, daemon, result)
    report.write_text(render(recorder, rows, "Vedette demo", verdicts=result.reckoning.verdicts), encoding="utf-8")
    _show(console, rows, result, report)
    lost = result.readings - daemon.metrics.readings_seen()
    if lost:
        console.print(f"{lost} readings were fed but never seen: please report this", style="red")
    return OK if not lost and not result.reckoning.missed_kinds else SOFTWARE


def run(
    console: Console,
    config: Config,
    broker: EmbeddedBroker,
    streams: Sequence[DemoStream],
    recorder: Recorder,
    seed: int,
) -> tuple[Daemon, Result]:
    """Feed the streams into the broker, run the daemon until it has handled all of it, and reckon."""
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*parts, console=console, transient=True) as progress:
        trainings = {
            s.series.stream: InRunTraining(
                config.stream(s.series.stream),
                seed=seed,
                first_after=_WATER_TRAINING_STEPS if s.series.stream == "water" else s.first_scored_step,
                progress=progress,
            )
            for s in streams
        }
        daemon = build_daemon(
            config,
            recorder=recorder,
            trainings=trainings,
            extra_alert_sinks=[ConsoleSink(progress.console)],
            embedded=True,
        )
        by_name = {stream.name: stream for stream in daemon.streams}
        for s in streams:
            # In a fixed order, not in that of arrival: then a seed gives the same run every time.
            by_name[s.series.stream].add_entities(s.series.entities)
            recorder.describe(
                s.series.stream,
                s.series.channels,
                s.series.units,
                round(s.series.step_s * 1e6),
                model="attention-LSTM on a linear forecaster",
                simulated=s.series.simulated,
                witnesses=WITNESSES,
            )
        feeder = Feeder(broker, streams, lambda: sum(daemon.handled.values()))
        task = progress.add_task("readings", total=feeder.records)
        feeder.start()
        while not _done(daemon, feeder):
            daemon.turn()
            progress.update(task, completed=sum(daemon.handled.values()))
        if feeder.error is not None:
            raise feeder.error
        daemon.finish()
        daemon.shut_down()
    truths = [fault for s in streams for fault in s.truths]
    reckoning = reckon(raised_in(recorder), truths)
    return daemon, Result(reckoning, time.monotonic() - started, feeder.readings)


class Feeder(threading.Thread):
    """Writes the streams' readings to their topics in time order, as stations would: a list of readings a record."""

    def __init__(self, broker: EmbeddedBroker, streams: Sequence[DemoStream], handled: Callable[[], int]) -> None:
        """Prepare; ``handled`` tells how many records the daemon has read by now."""
        super().__init__(name="feeder", daemon=True)
        self._handled = handled
        self._sent = 0
        self._broker = broker
        self._streams = streams
        present = [~np.isnan(s.series.values) for s in streams]
        self.readings = int(sum(p.sum() for p in present))
        self.records = int(sum(p.any(axis=2).sum() for p in present))
        self.error: Exception | None = None

    def run(self) -> None:
        """Send everything; an error is kept for whoever waits."""
        try:
            for s in self._streams:
                self._feed(s)
        except Exception as error:  # a thread cannot raise to its starter
            self.error = error

    def _wait(self) -> None:
        """Wait until the daemon has caught up."""
        while self._sent - self._handled() > _FEED_AHEAD_RECORDS:
            time.sleep(0.01)

    def _feed(self, demo: DemoStream) -> None:
        series = demo.series
        sink = KafkaSink(self._broker.bootstrap_servers, series.stream, settings=EmbeddedBroker.settings)
        for step in range(len(series.times_us)):
            values = series.values[:, step]  # [E, C]
            for e in np.flatnonzero(~np.isnan(values).all(axis=1)).tolist():
                sink.send(series.entities[e], _record(series, step, e))
                self._sent += 1
                if self._sent % _FEED_FLUSH_RECORDS == 0:
                    sink.flush(30.0)
                    self._wait()
        sink.flush(30.0)
        sink.close()


def _record(series: Series, step: int, e: int) -> bytes:
    """Return one entity's readings of a step as a canonical JSON list."""
    time = rfc3339(int(series.times_us[step]))
    readings = [
        {"entity": series.entities[e], "channel": channel, "time": time, "value": value, "unit": unit}
        for channel, unit, value in zip(series.channels, series.units, series.values[e, step].tolist(), strict=True)
        if value == value  # NaN: nothing was measured, so nothing is sent
    ]
    return msgspec.json.encode(readings)


def _done(daemon: Daemon, feeder: Feeder) -> bool:
    if feeder.error is not None:
        return True
    return not feeder.is_alive() and sum(daemon.handled.values()) >= feeder.records


def raised_in(recorder: Recorder) -> list[Raised]:
    """Return the incidents of a run as far as the reckoning needs them."""
    messages: dict[str, list[dict[str, Any]]] = {}
    for message in recorder.messages:
        messages.setdefault(message["incident_id"], []).append(message)
    return [
        Raised(
            id=incident,
            stream=said[0]["stream"],
            entity=said[0]["entity"],
            kind=str(said[0]["kind"]),
            opened_us=said[0]["opened_us"],
            alert=any(message["tier"] == Tier.ALERT for message in said),
            told_us=tuple(m["time_us"] for m in said if m["phase"] == Phase.UPDATED),
        )
        for incident, said in messages.items()
    ]


def _config_text(bootstrap_servers: str, out: Path, streams: Sequence[DemoStream]) -> str:
    """Return the one YAML file of the demo; a user's own looks like it."""
    lines = [
        "# Written by `vedette demo`: one daemon, one file.",
        "kafka:",
        f"  bootstrap_servers: {bootstrap_servers}",
        "  group: vedette-demo",
        "outputs:",
        f"  alerts_file: {out / 'alerts.jsonl'}",
        f"state: {out / 'state'}",
        "http: {port: 0}",
        "streams:",
    ]
    for s in streams:
        series = s.series
        lines += [
            f"  - name: {series.stream}",
            f"    topics: [{series.stream}]",
            f"    step: {round(series.step_s / 60)}m",
            "    grace: 1m",
            "    idle_timeout: 10m",
            f"    silence_after: {'3h' if series.step_s >= 3600 else '1h'}",
            "    budget: 1 per 30d",
            "    horizons: [1, 2, 3, 6]",
            "    channels:",
        ]
        for channel, unit in zip(series.channels, series.units, strict=True):
            limit = s.limits.get(channel)
            limits = f", limits: [{{name: {channel}-limit, above: {limit:g}}}]" if limit is not None else ""
            lines.append(f"      - {{name: {channel}, unit: '{unit}'{limits}}}")
        if len(series.entities) > 2:
            lines.append("    model: {neighbours: {k: 3}}")
    return "\n".join(lines) + "\n"


def _introduce(console: Console, streams: Sequence[DemoStream]) -> None:
    for s in streams:
        series = s.series
        what = "simulated" if series.simulated else "real, from the river package"
        days = len(series.times_us) * series.step_s / 86_400
        console.print(
            f"{series.stream}: {len(series.entities)} × {', '.join(series.channels)}; {days:.0f} days; {what}",
            markup=False,
            highlight=False,
        )


def _line(message: AlertMessage) -> str:
    tier = "ALERT" if message.tier is Tier.ALERT else "watch"
    where = f"{message.stream}/{message.entity}"
    return f"{rfc3339(message.time_us)[:16]}  {tier:5}  {message.kind:14}  {where:22}  {message.reason}"


def _summary(config: Config, streams: Sequence[DemoStream], daemon: Daemon, result: Result) -> list[SummaryRow]:
    """Return the rows of the closing table."""
    rows = []
    by_name: dict[str, Stream] = {s.name: s for s in daemon.streams}
    for s in streams:
        name = s.series.stream
        part = result.reckoning.of_stream(name)
        budget = config.stream(name).budget
        observed_s = (len(s.series.times_us) - s.first_scored_step) * s.series.step_s
        use = budget_use(len(part.false_alerts), budget.events, budget.period_s, len(s.series.entities), observed_s)
        rows.append(
            SummaryRow(
                stream=name,
                incidents=by_name[name].incidents_opened(),
                found=part.found,
                known=len(part.verdicts),
                false_alerts=len(part.false_alerts),
                promised=use.promised,
                model=by_name[name].predictor.model_version,
                readings_per_s=result.readings / result.seconds,
                simulated=s.series.simulated,
            )
        )
    return rows


def _cells(row: SummaryRow, part: Reckoning) -> dict[str, str]:
    origin = "simulated" if row.simulated else "real"
    found = f"{row.found} of {row.known} planted"
    if not row.simulated:
        events = [v.found for v in part.verdicts if v.fault.kind is FaultKind.DOCUMENTED]
        gaps = [v.found for v in part.verdicts if v.fault.kind is FaultKind.GAP]
        found = f"{sum(events)} of {len(events)} documented, {sum(gaps)} of {len(gaps)} gaps"
    return {
        "stream": f"{row.stream} ({origin})",
        "incidents": str(row.incidents),
        "found": found,
        "false alerts": f"{row.false_alerts} (budget {row.promised:.1f})",
        "false watches": str(len(part.false_watches)),
        "model": row.model,
        "readings/s": f"{row.readings_per_s:,.0f}",
    }


def _show(console: Console, rows: Sequence[SummaryRow], result: Result, report: Path) -> None:
    table = Table(title="What was found")
    lines = [_cells(row, result.reckoning.of_stream(row.stream)) for row in rows]
    for name in lines[0]:
        table.add_column(name)
    for line in lines:
        table.add_row(*line.values())
    console.print(table)
    for verdict in result.reckoning.verdicts:
        if not verdict.found:
            fault = verdict.fault
            console.print(
                f"missed: {fault.stream}/{fault.entity} {fault.kind} {rfc3339(fault.start_us)[:16]} {fault.note}",
                markup=False,
                highlight=False,
            )
    console.print(f"{result.readings:,} readings in {result.seconds:.0f} s, training included", highlight=False)
    console.print(f"report: {report}", markup=False, highlight=False, soft_wrap=True)
