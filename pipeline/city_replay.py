"""The city's scene without its protocols: what is measured goes straight into the streams, for many seeds at once.

``python -m pipeline.city_replay --seeds 10-17`` prints for each seed whether the blocked road was found and by which
channels, and what was raised about nothing. It takes seconds, and finds what ``vedette demo --site city`` finds: the
protocols lose and change nothing, which the demo checks itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from connectors.reading import NO_TIME
from models.detection import WITNESSES
from pipeline.build import build_stream
from pipeline.city_demo import DAYS
from pipeline.city_findings import explains, shares_of
from pipeline.city_ingest import WANTED, stream_documents
from pipeline.city_scene import AIR_CHANNELS, GAUGE, PLACES, STREAM, CityScene, city
from pipeline.config import loads
from pipeline.config_streams import StreamConfig
from pipeline.demo import raised_in
from pipeline.exit_codes import OK, SOFTWARE
from pipeline.found import Reckoning, reckon
from pipeline.logs import configure
from pipeline.recording import Recorder
from pipeline.retraining import InRunTraining


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was found of a scene."""

    reckoning: Reckoning
    """Silence of the camera without a picture counts as false here."""
    shares: dict[str, float]
    """Of the incident that found the event, by channel, largest first; empty where it was missed."""
    models: dict[str, str]
    """Stream to who corrected its forecast at the end."""

    @property
    def alerted(self) -> bool:
        """Whether the event was found, by an alert."""
        by = self.reckoning.verdicts[0].by
        return by is not None and by.alert

    @property
    def explained(self) -> bool:
        """Whether vehicles and NO2 are among the channels that lead."""
        return explains(self.shares)


def replayed(scene: CityScene, seed: int = 0) -> Replayed:
    """Take a scene through streams as the demo configures them; the same seed gives the same result as the demo."""
    recorder, models = Recorder(), {}
    for config in loads(yaml.safe_dump({"streams": stream_documents()}), source="the city's demo").streams:
        entities, values = _measured(scene, config.name)
        models[config.name] = _run(scene, config, entities, values, seed, recorder)
    reckoning = reckon(raised_in(recorder), [scene.road_blocked()])
    return Replayed(reckoning, shares_of(recorder, reckoning.verdicts[0].by, scene), models)


def _measured(scene: CityScene, stream: str) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return a stream's E entities and what comes of them, [E, T, C]; NaN where nothing is known."""
    if stream != STREAM:
        return (GAUGE,), np.stack((scene.stage_ft, scene.discharge_ft3_s), axis=-1)[None]
    counts = np.stack((scene.cars, scene.people), axis=-1).astype(np.float64)
    counts[-1, scene.dark.first : scene.dark.end] = np.nan
    air = scene.air[:, :, [AIR_CHANNELS.index(name) for name in WANTED]]
    return PLACES, np.concatenate((counts, air), axis=-1)


def _run(
    scene: CityScene,
    config: StreamConfig,
    entities: Sequence[str],
    values: NDArray[np.float64],
    seed: int,
    recorder: Recorder,
) -> str:
    """Take ``values`` [E, T, C] through a stream; return who corrects its forecast in the end."""
    names, units = [c.name for c in config.channels], [c.unit for c in config.channels]
    recorder.describe(config.name, names, units, config.step_us, simulated=True, witnesses=WITNESSES)
    training = InRunTraining(config, seed=seed, first_after=scene.training_steps)
    stream = build_stream(config, training=training, recorder=recorder)
    stream.add_entities(entities)
    windows = stream.stages.windows
    for step, time_us in enumerate(scene.times_us.tolist()):
        row, channel = np.nonzero(~np.isnan(values[:, step]))
        n = len(row)
        windows.add(
            row.astype(np.int32), channel.astype(np.int32), np.full(n, time_us), values[row, step, channel],
            np.ones(n, np.bool_), np.full(n, NO_TIME, np.int64),
        )  # fmt: skip
        while frames := windows.close(time_us):
            for one in frames:
                stream.process(one, one.time_us)
    return stream.predictor.model_version


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a seed; return the exit code, which is not 0 if the event was missed at any."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.city_replay", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", default="0-7", help="such as 0-7")
    parser.add_argument("--days", type=int, default=DAYS)
    args = parser.parse_args(argv)
    first, _, last = args.seeds.partition("-")
    configure("error", "logfmt")
    table = Table(title=f"The blocked road, after {args.days - 1} days")
    for name in ("seed", "found", "after", "shares", "explained", "false alerts", "false watches", "model"):
        table.add_column(name)
    well = True
    for seed in range(int(first), int(last or first) + 1):
        result = replayed(city(args.days, seed), seed)
        table.add_row(str(seed), *_cells(result))
        well = well and result.alerted and result.explained
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return OK if well else SOFTWARE


def _cells(result: Replayed) -> tuple[str, ...]:
    verdict = result.reckoning.verdicts[0]
    found = "missed" if verdict.by is None else "alert" if verdict.by.alert else "watch"
    return (
        found,
        "" if verdict.delay_s is None else f"{verdict.delay_s / 60:.0f} min",
        ", ".join(f"{name} {share:.0%}" for name, share in result.shares.items()),
        "yes" if result.explained else "no",
        str(len(result.reckoning.false_alerts)),
        str(len(result.reckoning.false_watches)),
        result.models[STREAM],
    )


if __name__ == "__main__":
    raise SystemExit(main())
