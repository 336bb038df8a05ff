"""What the ingest benchmark measures: our sources with the whole way behind them, and bare servers and clients.

Each runs in a process of its own, on one core, and is talked to over a pipe.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from connectors.errors import ConnectorError
from connectors.http_push import HttpPush
from connectors.mqtt import MqttSource
from connectors.mqtt_mapping import MappingRule, ValueRule
from connectors.mqtt_messages import Broker
from connectors.source import ReadingSource
from connectors.spool import Message
from pipeline.ingest.delivering import Delivering
from pipeline.ingest.lanes import Delivery
from pipeline.ingest.outlet import Rules, SourceOutlet

TOPIC = "readings"
MQTT_RULE = MappingRule(topic="air/{entity}/{channel}", values=(ValueRule(value="$.value", time="$.time"),))
MQTT_FILTER = "air/+/+"
_PATIENCE_S = 120.0
_LOOK_S = 0.002


@dataclass(frozen=True, slots=True)
class Kafka:
    """Where readings go: to brokers, or nowhere if there are none."""

    servers: str = ""
    settings: tuple[tuple[str, Any], ...] = ()

    def delivery(self) -> Delivery:
        """Return what delivers there."""
        from connectors.kafka_delivery import KafkaDelivery

        return KafkaDelivery(self.servers, settings=dict(self.settings)) if self.servers else Nowhere()


class Nowhere:
    """Acknowledges everything at once: what is left is the cost of our own way."""

    def deliver(self, messages: Sequence[Message]) -> Mapping[str, ConnectorError]:
        """Forget messages."""
        return {}

    def close(self) -> None:
        """Nothing is open."""


Subject = Callable[[Connection, int, Any], None]


def http_push(pipe: Connection, core: int, kafka: Kafka) -> None:
    """Serve pushed readings; say the port, then answer each question with the CPU seconds used so far."""
    pin(core)
    source = HttpPush()
    with _running(source, kafka):
        pipe.send(source.port)
        _answer(pipe)


def http_bare(pipe: Connection, core: int, _: Any) -> None:
    """Serve the same framework and server, which read bodies and do nothing with them."""
    pin(core)
    app = FastAPI(openapi_url=None)

    @app.post("/{path:path}")
    async def take(request: Request) -> Response:
        await request.body()
        return Response(status_code=204)

    config = uvicorn.Config(app, "127.0.0.1", 0, http="h11", ws="none", lifespan="off", access_log=False,
                            log_level="critical", timeout_graceful_shutdown=1)  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    pipe.send(server.servers[0].sockets[0].getsockname()[1])
    _answer(pipe)
    server.should_exit = True
    thread.join(10.0)


def mqtt(pipe: Connection, core: int, asked: tuple[int, Kafka, int]) -> None:
    """Subscribe, leave, and when told bring what waits at the broker; answer with (readings, seconds, CPU seconds)."""
    port, kafka, _ = asked
    pin(core)
    broker = Broker("127.0.0.1", "bench-ours", port)
    with _running(MqttSource(broker, [MQTT_RULE]), kafka):
        pass
    pipe.send("subscribed")
    while (messages := pipe.recv()) is not None:
        with _running(MqttSource(broker, [MQTT_RULE]), kafka) as delivered:
            pipe.send(_timed(delivered, messages))


def mqtt_bare(pipe: Connection, core: int, asked: tuple[int, Kafka, int]) -> None:
    """Do the same with a client that only counts."""
    pin(core)
    from paho.mqtt.client import Client, MQTTv5
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    connecting = Properties(PacketTypes.CONNECT)
    connecting.SessionExpiryInterval = 3600
    connecting.ReceiveMaximum = asked[2]

    came = [0]

    def counted(*_: object) -> None:
        came[0] += 1

    def connected() -> Any:
        ready = threading.Event()
        client = Client(CallbackAPIVersion.VERSION2, "bench-bare", protocol=MQTTv5)
        client.on_message = counted
        client.on_subscribe = lambda *_: ready.set()
        client.on_connect = lambda c, *_: c.subscribe(MQTT_FILTER, 1)
        client.connect("127.0.0.1", asked[0], clean_start=False, properties=connecting)
        client.loop_start()
        if not ready.wait(_PATIENCE_S):
            raise RuntimeError("the broker does not answer")
        return client

    def leave(client: Any) -> None:
        client.disconnect()
        client.loop_stop()

    leave(connected())
    pipe.send("subscribed")
    while (messages := pipe.recv()) is not None:
        came[0] = 0
        client = connected()
        pipe.send(_timed(lambda: came[0], messages))
        leave(client)


def pin(core: int) -> None:
    """Keep this process on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition; RuntimeError when it does not come."""
    end = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {_PATIENCE_S:g} s in vain")
        time.sleep(_LOOK_S)


def _answer(pipe: Connection) -> None:
    while pipe.recv() is not None:
        pipe.send(time.process_time())


def _timed(count: Callable[[], int], wanted: int) -> tuple[int, float, float]:
    """Return how many came from the first look at which some had to the last, in how many seconds, CPU and not."""
    wait_until(count)
    first, started, cpu = count(), time.perf_counter(), time.process_time()
    if first >= wanted:
        raise RuntimeError(f"all {wanted} came at once: too few to time")
    wait_until(lambda: count() >= wanted)
    return count() - first, time.perf_counter() - started, time.process_time() - cpu


@contextmanager
def _running(source: ReadingSource, kafka: Kafka) -> Iterator[Callable[[], int]]:
    """Run a source with the whole way behind it; yields what says how many readings Kafka has acknowledged."""
    from connectors.spool import Spool
    from pipeline.ingest.metrics import IngestMetrics

    metrics = IngestMetrics()
    stop, ready = threading.Event(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as folder:
        spool = Spool(Path(folder) / "spool.db", 1 << 28)
        delivering = Delivering(kafka.delivery(), spool, metrics)
        delivering.register("bench")
        outlet = SourceOutlet("bench", Rules(TOPIC), delivering, metrics, stop, report=lambda reason: ready.set())
        thread = threading.Thread(target=source.run, args=(outlet,), daemon=True)
        delivering.start()
        thread.start()
        try:
            if not ready.wait(_PATIENCE_S):
                raise RuntimeError("the source does not get to work")
            yield lambda: int(metrics.registry.get_sample_value("vedette_ingest_delivered_readings_total") or 0)
            if spool.readings:
                raise RuntimeError("readings went to the spool: Kafka did not keep up")
        finally:
            stop.set()
            thread.join(10.0)
            delivering.close()
            spool.close()
