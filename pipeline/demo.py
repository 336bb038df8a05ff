"""The demo: the real daemon against an embedded broker, on one real stream and two simulated ones.

It trains in the run, prints each alert with its reason as it comes, and ends with a table of what was found and a
report to look at.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from connectors.codec_json import encode_lists
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_sink import KafkaSink
from pipeline.build import build_daemon
from pipeline.config import Config, load
from pipeline.daemon import Daemon
from pipeline.demo_data import DemoStream, demo_streams
from pipeline.exit_codes import OK, SOFTWARE
from pipeline.found import Raised, Reckoning, budget_use, reckon
from pipeline.incident import AlertMessage, Phase, Tier, decode, rfc3339
from pipeline.logs import configure
from pipeline.recording import Recorder
from pipeline.report import render
from pipeline.retraining import InRunTraining
from pipeline.stream import Stream

_FEED_AHEAD_RECORDS = 4000
_WATER_TRAINING_STEPS = 24 * 14
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
    console = Console(stderr=False)
    configure("error", "logfmt")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    streams = demo_streams(days=args.days, seed=args.seed)
    _introduce(console, streams)
    with EmbeddedBroker() as broker:
        path = out / "vedette.yaml"
        path.write_text(_config_text(broker.bootstrap_servers, out, streams), encoding="utf-8")
        config = load(path)
        recorder = Recorder()
        daemon, result = run(console, config, broker, streams, recorder, args.seed)
    report = out / "report.html"
    rows = _summary(config, streams, daemon, result)
    report.write_text(render(recorder, rows, "Vedette demo", result.reckoning.verdicts), encoding="utf-8")
    _show(console, rows, result, report)
    return OK if not result.reckoning.missed_kinds else SOFTWARE


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
                config.stream(s.series.stream).model,
                seed=seed,
                first_after=_WATER_TRAINING_STEPS if s.series.stream == "water" else s.first_scored_step,
                progress=progress,
            )
            for s in streams
        }
        daemon = build_daemon(
            config, recorder=recorder, trainings=trainings, extra_alert_sinks=[ConsoleSink(progress.console)]
        )
        for s in streams:
            recorder.describe(
                s.series.stream,
                s.series.channels,
                s.series.units,
                round(s.series.step_s * 1e6),
                model="attention-LSTM on a linear forecaster",
                simulated=s.series.simulated,
            )
        feeder = Feeder(broker, streams)
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
    reckoning = reckon(_raised(recorder), truths)
    return daemon, Result(reckoning, time.monotonic() - started, feeder.readings)


class Feeder(threading.Thread):
    """Writes the streams' readings to their topics in time order, as stations would: a list of readings a record."""

    def __init__(self, broker: EmbeddedBroker, streams: Sequence[DemoStream]) -> None:
        super().__init__(name="feeder", daemon=True)
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

    def _feed(self, demo: DemoStream) -> None:
        series = demo.series
        sink = KafkaSink(self._broker.bootstrap_servers, series.stream, api_version=(2, 3))
        waiting = 0
        for step in range(len(series.times_us)):
            values = series.values[:, step]  # [E, C]
            for e in np.flatnonzero(~np.isnan(values).all(axis=1)).tolist():
                record = encode_lists(
                    series.entities[e], series.channels, series.units, int(series.times_us[step]), values[e]
                )
                sink.send(series.entities[e], record)
                waiting += 1
            if waiting >= _FEED_AHEAD_RECORDS:
                sink.flush(30.0)
                waiting = 0
        sink.flush(30.0)
        sink.close()


def _done(daemon: Daemon, feeder: Feeder) -> bool:
    if feeder.error is not None:
        return True
    return not feeder.is_alive() and sum(daemon.handled.values()) >= feeder.records


def _raised(recorder: Recorder) -> list[Raised]:
    """Return the incidents of a run as far as the reckoning needs them."""
    raised: dict[str, dict[str, object]] = {}
    for message in recorder.messages:
        incident = raised.setdefault(
            message["incident_id"],
            {
                "id": message["incident_id"],
                "stream": message["stream"],
                "entity": message["entity"],
                "kind": str(message["kind"]),
                "opened_us": message["opened_us"],
                "alert": False,
                "alerted_us": None,
            },
        )
        if message["tier"] == Tier.ALERT and not incident["alert"]:
            incident["alert"] = True
            incident["alerted_us"] = message["time_us"]
    return [Raised(**incident) for incident in raised.values()]  # type: ignore[arg-type]  # fields as named above


def _config_text(bootstrap_servers: str, out: Path, streams: Sequence[DemoStream]) -> str:
    """Return the one YAML file of the demo; a user's own looks like it."""
    lines = [
        "# Written by `vedette demo`: one daemon, one file.",
        "kafka:",
        f"  bootstrap_servers: {bootstrap_servers}",
        "  group: vedette-demo",
        "outputs:",
        f"  alerts_file: {out / 'alerts.jsonl'}",
        "checkpoints:",
        f"  directory: {out / 'checkpoints'}",
        "models:",
        f"  directory: {out / 'models'}",
        "http: {port: 0}",
        "streams:",
    ]
    for s in streams:
        series = s.series
        lines += [
            f"  - name: {series.stream}",
            f"    topics: [{series.stream}]",
            f"    step: {round(series.step_s / 60)}m",
            "    grace: 0s",
            "    idle_timeout: 10m",
            f"    silence_after: {'3h' if series.step_s >= 3600 else '1h'}",
            "    budget: 1 per 30d",
            "    horizons: [1, 2, 3, 6]",
            "    channels:",
        ]
        for channel, unit in zip(series.channels, series.units, strict=True):
            limit = s.limits.get(channel)
            limits = f", limits: [{{name: {channel}-legal, above: {limit:g}}}]" if limit is not None else ""
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


def _summary(
    config: Config, streams: Sequence[DemoStream], daemon: Daemon, result: Result
) -> list[dict[str, str]]:
    """Return the rows of the closing table."""
    rows = []
    by_name: dict[str, Stream] = {s.name: s for s in daemon.streams}
    for s in streams:
        name = s.series.stream
        part = result.reckoning.of_stream(name)
        counts = by_name[name].incident_count()
        budget = config.stream(name).budget
        observed_s = (len(s.series.times_us) - s.first_scored_step) * s.series.step_s
        use = budget_use(len(part.false_alerts), budget.events, budget.period_s, len(s.series.entities), observed_s)
        known = "planted" if s.series.simulated else "documented"
        rows.append(
            {
                "stream": name + (" (simulated)" if s.series.simulated else " (real)"),
                "incidents": str(counts),
                "found": f"{part.found} of {len(part.verdicts)} {known}",
                "false alerts": f"{len(part.false_alerts)} (budget {use.promised:.1f})",
                "false watches": str(len(part.false_watches)),
                "model": by_name[name].predictor.model_version,
                "readings/s": f"{result.readings / result.seconds:,.0f} in all",
            }
        )
    return rows


def _show(console: Console, rows: Sequence[dict[str, str]], result: Result, report: Path) -> None:
    table = Table(title="What was found")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*row.values())
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
