"""``vedette demo --site city``: stations that speak their own protocols, ``vedette ingest``, Kafka, and the daemon.

    cameras ─ Frigate ─ MQTT ─ mosquitto ─┐
    airRohr, NO2 monitors ─ HTTP push ────┼─ vedette ingest ─ Kafka ─ the daemon ─ alerts, report
    river gauge ─ USGS pages ─────────────┘

Only the stations and what they measure are simulated. On the last day a road is blocked: at one place vehicles fall,
NO2 falls and people come, which only all sources together show for what it is.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from connectors.errors import ConnectorError
from connectors.kafka_embedded import EmbeddedBroker
from connectors.kafka_topics import ensure_topics
from models.detection import WITNESSES
from pipeline.build import build_daemon
from pipeline.city_air import CityAir, PushFailed
from pipeline.city_broker import CityBroker, NoBroker
from pipeline.city_cameras import CAR, PERSON, CityCameras
from pipeline.city_findings import Findings, findings, show
from pipeline.city_ingest import SOURCES, TOPICS, CityIngest, IngestFailed, Places, config_text
from pipeline.city_river import CityRiver
from pipeline.city_scene import PLACES, STEP_S, STREAM, CityScene, city
from pipeline.city_stations import CityStations, StationsStuck
from pipeline.city_topics import CityTopics
from pipeline.config import Config, load
from pipeline.daemon import Daemon
from pipeline.demo import ConsoleSink
from pipeline.exit_codes import OK, SOFTWARE, UNAVAILABLE, USAGE
from pipeline.frigate_api import FrigateApi
from pipeline.frigate_simulation import SimulatedFrigate
from pipeline.incident import rfc3339
from pipeline.ingest.told_clock import ToldClock
from pipeline.logs import configure
from pipeline.recording import Recorder
from pipeline.report import render
from pipeline.retraining import InRunTraining

DAYS = 22
"""Three weeks to learn from, and the day of the event."""
_LOG_WIDTH = 160


@dataclass(slots=True)
class City:
    """Everything that runs, and what it shares."""

    scene: CityScene
    config: Config
    clock: ToldClock
    frigate: SimulatedFrigate
    cameras: CityCameras
    air: CityAir
    river: CityRiver
    ingest: CityIngest
    topics: CityTopics


def main(args: argparse.Namespace) -> int:
    """Run the demo; return the exit code, which is not 0 if the planted event is not found for what it is."""
    console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
    configure("error", "logfmt")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    # The broker forgets everything, so what a demo before this one kept belongs to nothing.
    shutil.rmtree(out / "state", ignore_errors=True)
    (out / "alerts.jsonl").unlink(missing_ok=True)
    try:
        scene = city(DAYS if args.days is None else args.days, args.seed)
    except ValueError as error:
        console.print(f"demo: {error}", style="red", markup=False, highlight=False)
        return USAGE
    try:
        _introduce(console, scene)
        with _running(out, scene, args.seed) as found:
            started = time.monotonic()
            recorder = Recorder()
            daemon = _play(console, found, recorder, args.seed)
            result = findings(scene, found.cameras, found.air, found.river, found.topics, recorder, daemon)
            result.seconds = time.monotonic() - started
    except (NoBroker, ConnectorError, IngestFailed, StationsStuck, PushFailed) as error:
        console.print(f"demo: {error}", style="red", markup=False, highlight=False)
        return UNAVAILABLE
    return _end(console, out, recorder, result)


def _end(console: Console, out: Path, recorder: Recorder, result: Findings) -> int:
    report = out / "report.html"
    page = render(recorder, result.rows, "Vedette demo: a city", verdicts=result.reckoning.verdicts)
    report.write_text(page, encoding="utf-8")
    show(console, result)
    console.print(f"report: {report}", markup=False, highlight=False, soft_wrap=True)
    return OK if result.complete and result.explained else SOFTWARE


@contextmanager
def _running(out: Path, scene: CityScene, seed: int) -> Iterator[City]:
    """Start the city and what listens to it; end all of it afterwards, the ingest process first."""
    with ExitStack() as stack:
        clock_path = out / "clock"
        clock = stack.enter_context(ToldClock(clock_path, scene.start_us))
        broker = stack.enter_context(EmbeddedBroker())
        mosquitto = stack.enter_context(CityBroker(out / "mosquitto"))
        streets = dict.fromkeys(PLACES, ())
        frigate = SimulatedFrigate(mosquitto.port, streets, (CAR, PERSON), now=clock.now_s, seed=seed)
        api = stack.enter_context(FrigateApi(frigate))
        river = stack.enter_context(CityRiver(scene, clock.now_us))
        places = Places(
            out, broker.bootstrap_servers, EmbeddedBroker.settings, mosquitto.port, api.url, river.url
        )  # fmt: skip
        places.config.write_text(config_text(places), encoding="utf-8")
        places.config.chmod(0o600)  # the senders' secrets are in it
        config = load(places.config)
        topics = [t for t in (*TOPICS, config.outputs.alerts_topic, config.outputs.dead_letter_topic) if t]
        ensure_topics(broker.bootstrap_servers, dict.fromkeys(topics, 1), settings=EmbeddedBroker.settings)
        stack.enter_context(frigate)
        watched = CityTopics(broker.bootstrap_servers, TOPICS, SOURCES)
        watched.start()
        stack.callback(watched.close)
        ingest = stack.enter_context(CityIngest(places))
        ingest.await_up()
        air = CityAir(places.push_port, scene, places.secrets)
        stack.callback(air.close)
        cameras = CityCameras(frigate, scene, seed)
        yield City(scene, config, clock, frigate, cameras, air, river, ingest, watched)


def _play(console: Console, found: City, recorder: Recorder, seed: int) -> Daemon:
    """Run the daemon until it has handled all that the stations had to say."""
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*parts, console=console, transient=True) as progress:
        daemon = build_daemon(
            found.config,
            recorder=recorder,
            trainings={
                stream.name: InRunTraining(
                    stream, seed=seed, first_after=found.scene.training_steps, progress=progress
                )
                for stream in found.config.streams
            },
            extra_alert_sinks=[ConsoleSink(progress.console)],
            embedded=True,
        )  # fmt: skip
        _describe(found.config, daemon, recorder)
        stations = CityStations(
            found.scene, found.clock, found.cameras, found.air, found.river, found.ingest, found.topics,
            lambda: sum(daemon.handled.values()),
        )  # fmt: skip
        task = progress.add_task("half hours", total=len(found.scene.times_us))
        stations.start()
        try:
            while stations.is_alive():
                daemon.turn()
                progress.update(task, completed=stations.steps)
            if stations.error is not None:
                raise stations.error
            daemon.finish()
        finally:
            stations.close()
            daemon.shut_down()
    return daemon


def _describe(config: Config, daemon: Daemon, recorder: Recorder) -> None:
    by_name = {stream.name: stream for stream in daemon.streams}
    for stream in config.streams:
        if stream.name == STREAM:
            # In a fixed order, not in that of arrival: then a seed gives the same run every time.
            by_name[stream.name].add_entities(PLACES)
        recorder.describe(
            stream.name,
            [channel.name for channel in stream.channels],
            [channel.unit for channel in stream.channels],
            round(STEP_S * 1e6),
            model="attention-LSTM on a linear forecaster",
            simulated=True,
            witnesses=WITNESSES,
        )


def _introduce(console: Console, scene: CityScene) -> None:
    days = len(scene.times_us) * STEP_S / 86_400
    for line in (
        f"city: {', '.join(PLACES)}; {days:.0f} days up to {rfc3339(scene.end_us)[:16]}; simulated, by real protocols",
        "cameras: Frigate over mosquitto, with its API for what was missed: car, person",
        "air: airRohr stations and an NO2 office push over HTTP: pm25, pm10, temperature, humidity, no2",
        "river: a gauge's pages as the USGS gives them: stage, discharge",
    ):
        console.print(line, markup=False, highlight=False)
