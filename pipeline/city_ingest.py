"""The city's config, and ``vedette ingest`` with it, in a process of its own."""

from __future__ import annotations

import secrets
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from connectors.free_ports import free_port
from pipeline.city_air import CITIZENS, OFFICE
from pipeline.city_broker import listens
from pipeline.city_scene import GAUGE, STREAM
from pipeline.stack_servers import Server

CAMERAS, AIR, RIVER = "cameras", "air", "river"
SOURCES = (CAMERAS, AIR, RIVER)
TOPICS = (STREAM, RIVER)
"""Of the streams; cameras and air share one, so that what is at one place is one entity."""
WANTED = ("no2", "pm25")
"""What of the air belongs to a street's life; the stations push the weather too."""
AHEAD_S = 6 * 3600.0
"""What the stations may be ahead of a source: the stream's steps wait so long for the others."""
RIVER_AHEAD_S = 86_400.0
"""Nobody waits for the river, which has a stream of its own. Its pages are asked for once a second, for six hours each
until it has caught up, so a shorter time would be what the whole demo waits for."""
_START_S = 120.0
_LOOK_S = 0.05
_ASK_S = 5.0
GRACE_S = 1860.0
"""After a minute's end until it is told: a step longer than the clock's, so that all that was sent has come."""


class IngestFailed(Exception):
    """``vedette ingest`` ended, or did not start; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of the demo is."""

    out: Path
    bootstrap_servers: str
    kafka_settings: dict[str, Any]
    mqtt_port: int
    frigate_url: str
    river_url: str
    push_port: int = field(default_factory=free_port)
    health_port: int = field(default_factory=free_port)
    secrets: dict[str, str] = field(
        default_factory=lambda: {name: secrets.token_urlsafe(18) for name in (CITIZENS, OFFICE)}
    )

    @property
    def config(self) -> Path:
        """The YAML file that says everything."""
        return self.out / "vedette.yaml"

    @property
    def clock(self) -> Path:
        """What all stations, and the ingest process, take for the time."""
        return self.out / "clock"


def config_text(places: Places) -> str:
    """Return the one YAML file of the demo; a user's own looks like it."""
    out = places.out
    sources: list[dict[str, Any]] = [
        {
            "name": CAMERAS, "kind": "frigate", "topic": STREAM, "host": "127.0.0.1", "port": places.mqtt_port,
            "url": places.frigate_url, "reviews": False, "only": ["car", "person"], "grace": f"{GRACE_S:g}s",
            "every": "6h", "silent": "3h", "history": "1m",
        },
        {
            "name": AIR, "kind": "http", "topic": STREAM, "port": places.push_port, "only": list(WANTED),
            "senders": [{"name": name, "token": token} for name, token in places.secrets.items()],
        },
        {
            "name": RIVER, "kind": "usgs", "topic": RIVER, "url": places.river_url, "key": "demo", "sites": [GAUGE],
            # A key is good for 1000 requests an hour and 200 at once: the days pass before these are used up.
            "every": "1s", "history": "1h",
        },
    ]  # fmt: skip
    document = {
        "kafka": {"bootstrap_servers": places.bootstrap_servers, "group": "vedette-city", "settings": _plain(places)},
        "outputs": {"alerts_file": str(out / "alerts.jsonl")},
        "state": str(out / "state"),
        "http": {"port": 0},
        "ingest": {"http": {"port": places.health_port}, "spool": str(out / "state" / "spool.db"), "sources": sources},
        "streams": stream_documents(),
    }  # fmt: skip
    return "# Written by `vedette demo --site city`: two processes, one file.\n" + yaml.safe_dump(
        document, sort_keys=False
    )


def stream_documents() -> list[dict[str, Any]]:
    """Return the streams of the config."""
    common = {
        "step": "30m",
        "grace": f"{AHEAD_S:g}s",
        "idle_timeout": "10m",
        "silence_after": "3h",
        "budget": "1 per 30d",
    }
    return [
        {
            "name": STREAM, "topics": [STREAM], **common, "horizons": [1, 2, 4],
            "channels": [
                {"name": "car", "unit": "1", "aggregate": "sum"},
                {"name": "person", "unit": "1", "aggregate": "sum"},
                {"name": "no2", "unit": "ug/m3"},
                {"name": "pm25", "unit": "ug/m3"},
            ],
        },
        {
            "name": RIVER, "topics": [RIVER], **common, "horizons": [1, 2, 4],
            "channels": [{"name": "stage", "unit": "[ft_i]"}, {"name": "discharge", "unit": "[ft_i]3/s"}],
        },
    ]  # fmt: skip


def _plain(places: Places) -> dict[str, Any]:
    """Return kafka-python's settings as the config can say them."""
    return {n: ".".join(map(str, v)) if isinstance(v, tuple) else v for n, v in places.kafka_settings.items()}


class CityIngest:
    """``vedette ingest --config … --clock …`` from construction to ``close``; a context manager.

    Args:
        places: its config is there.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        log = places.out / "ingest.log"
        log.unlink(missing_ok=True)
        command = [
            sys.executable, "-m", "pipeline.cli", "ingest", "--config", str(places.config), "--clock", str(places.clock)
        ]  # fmt: skip
        self._address = f"http://127.0.0.1:{places.health_port}"
        self._server = Server("ingest", self._address, command, log, lambda: None)

    def await_up(self) -> None:
        """Return when all its sources have found their peers.

        Raises:
            IngestFailed: if it ends, or that takes too long.
        """
        deadline_s = time.monotonic() + _START_S
        while not all(self.metric(f'vedette_ingest_source_up{{source="{name}"}}') for name in SOURCES):
            self.check()
            if time.monotonic() > deadline_s:
                raise IngestFailed(f"vedette ingest does not find its peers within {_START_S:g} s")
            time.sleep(_LOOK_S)

    def check(self) -> None:
        """Raise ``IngestFailed`` if it has ended."""
        how = self._server.ended()
        if how is not None:
            raise IngestFailed(f"vedette ingest {how}")

    def metric(self, name: str) -> float:
        """Return a metric by its name and labels; 0 while it does not answer, or has none."""
        if not listens(self._places.health_port):
            return 0.0
        with urllib.request.urlopen(f"{self._address}/metrics", timeout=_ASK_S) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.rpartition(" ")[2])
        return 0.0

    def close(self) -> None:
        """Ask it to end, and wait until it has."""
        self._server.close()

    def __enter__(self) -> CityIngest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
