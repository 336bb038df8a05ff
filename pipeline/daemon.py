"""The daemon: one loop, one thread, one direction.

    poll ► decode ► screen ► window ► predict ► score ► alert ► commit

Whole batches flow downstream; nothing calls upstream; the only feedback is the commit at the end.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import structlog

from connectors.base import Decoder, RecordBlock, Source, TopicPartition
from connectors.errors import ConnectorError, DamagedRecords, Misconfigured, SinkUnavailable, SourceUnavailable
from pipeline.config import Config
from pipeline.exit_codes import CONFIG, OK, UNAVAILABLE
from pipeline.frames import Frames
from pipeline.housekeeping import Housekeeping
from pipeline.keeping import Keeper
from pipeline.metrics import Metrics
from pipeline.outputs import Outputs
from pipeline.service_manager import ServiceManager
from pipeline.status import Status
from pipeline.stream import Stream

log = structlog.get_logger("vedette.daemon")

_POLL_S = 0.2
_BACKOFF_FIRST_S = 0.5
_BACKOFF_LAST_S = 10.0


class Daemon:
    """Runs streams over a source until told to stop.

    Delivery is at least once: offsets are committed after every output is durable, and a restart goes on from the
    newest checkpoint, whose offset is never ahead of its state. Messages that are said again carry the same ids.
    """

    def __init__(
        self,
        source: Source,
        decoder: Decoder,
        streams: Mapping[str, Stream],
        outputs: Outputs,
        keeper: Keeper,
        metrics: Metrics,
        *,
        housekeeping: Housekeeping | None = None,
        commit_every_s: float = 1.0,
        startup_timeout_s: float = 120.0,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the parts ready made; ``streams`` maps each topic to its stream.

        Args:
            housekeeping: what goes on beside the loop; nothing if None. It is started and closed by others.
            commit_every_s: longest time between what was handled and its commit.
            startup_timeout_s: how long the source may stay away before the first records; after it, exit 69.
            now_us: the wall clock, microseconds since 1970 UTC.
            monotonic: the clock for waiting.
            pause: waits that many seconds.
        """
        self.source = source
        self.decoder = decoder
        self.topics = dict(streams)
        self.streams = list(dict.fromkeys(streams.values()))
        self._shared = {topic for topic, stream in streams.items() if list(streams.values()).count(stream) > 1}
        self.outputs = outputs
        self.keeper = keeper
        self.metrics = metrics
        self.housekeeping = housekeeping or Housekeeping()
        self.commit_every_s = commit_every_s
        self.startup_timeout_s = startup_timeout_s
        self.now_us = now_us
        self.monotonic = monotonic
        self.pause = pause
        self.stopping = False
        self.reached = False
        self.handled: dict[TopicPartition, int] = {}
        self._awaited: set[TopicPartition] = set()
        self._committed: dict[TopicPartition, int] = {}
        self._last_commit_s = monotonic()
        self._backoff_s = _BACKOFF_FIRST_S
        self._away_since_s: float | None = None
        self._held_up = False
        source.on_rebalance(self._rebalanced)

    # ---- the way of a reading ----

    def turn(self) -> bool:
        """Take one turn of the loop; return whether anything came."""
        if self._held_up:
            self._try_again()
            return False
        blocks = self.poll()
        for block in blocks:
            stream = self.topics[block.topic]
            with self.stage("decode"):
                batch = self.decoder.decode(block)
            with self.stage("screen"):
                readings = stream.screen_batch(batch, block, self.now_us())
                self.outputs.dead_letters([*batch.rejected, *readings.rejected], self.now_us())
            with self.stage("window"):
                late = stream.window(readings, block.partition, self.now_us(), self._named(block.topic))
            self.handled[TopicPartition(block.topic, block.partition)] = block.next_offset
            self.metrics.saw(stream.name, block, batch, readings)
            self.metrics.late(stream.name, late)
        self._stop_waiting(blocks)
        self.housekeeping.labelled(self.streams)
        for stream in self.streams:
            self.step(stream)
        self.commit()
        return bool(blocks)

    def step(self, stream: Stream, to_the_end: bool = False) -> None:
        """Take every frame of ``stream`` that is complete now through prediction, scoring and alerting."""
        for frames in self._timed("window", stream.closed(self.now_us(), to_the_end)):
            with self.stage("predict"):
                expected = stream.expect(frames)
            with self.stage("score"):
                detection = stream.score(frames, expected)
            with self.stage("alert"):
                messages = stream.alert(frames, expected, detection, self.now_us())
                self.outputs.alerts(messages)
                self.outputs.scores(stream, frames, expected, detection)
            with self.stage("predict"):
                warnings = stream.observe(frames, detection)
                self.housekeeping.stepped(stream, frames, expected, detection)
            self.outputs.alerts(warnings)
            self.housekeeping.said(messages + warnings)
            self.metrics.stepped(stream, frames, detection, messages + warnings)
        news = stream.revise(self.now_us()) + stream.watch_data(self.now_us())
        self.housekeeping.boundary(stream)
        self.housekeeping.revised(stream, stream.revised)
        self.outputs.alerts(news)
        self.housekeeping.said(news)
        self.metrics.said(news)
        self.metrics.so_far(stream.name, stream.revised_steps, stream.suppressed(), self.outputs.holding_back())

    def poll(self) -> list[RecordBlock]:
        """Return what came; waits a moment when nothing does, longer and longer while the source is away."""
        try:
            with self.stage("poll"):
                blocks = self.source.poll(_POLL_S)
        except SourceUnavailable as error:
            self._away(error)
            return []
        except DamagedRecords as error:
            # The log itself is damaged there: going on silently would lose data, so a person has to decide.
            raise Misconfigured(
                f"{error}; to go on behind it, stop all replicas, commit the next offset for the group and remove this"
                " partition's checkpoints"
            ) from error
        if blocks or self.source.assignment():
            if self._away_since_s is not None:
                log.info("the source is back", after_s=round(self.monotonic() - self._away_since_s, 1))
            self.reached, self._away_since_s, self._backoff_s = True, None, _BACKOFF_FIRST_S
            self.metrics.source_reachable(True)
        self.metrics.ticked(self.now_us())
        return blocks

    def commit(self, force: bool = False) -> None:
        """Make outputs durable, then keep a checkpoint if one is due, then commit what was handled.

        In this order a kill at any moment loses nothing: a checkpoint is never ahead of the outputs, and a restart goes
        on from the checkpoint, wherever the committed offset is.
        """
        due = force or self._held_up or self.monotonic() - self._last_commit_s >= self.commit_every_s
        keep = self.keeper.due(self.handled)
        if not due or (self.handled == self._committed and not keep and not force):
            return
        try:
            with self.stage("commit"):
                self.outputs.flush()
                if force or keep:
                    with self.stage("checkpoint"):
                        self.housekeeping.flush()
                        self.keeper.keep(self.topics, self.handled)
                self.source.commit(self.handled)
        except (SinkUnavailable, SourceUnavailable) as error:
            # Nothing is lost: offsets stay where they are, and the outputs keep what was not acknowledged. Until that
            # is through nothing more is read, so that what waits stays bounded.
            log.warning("could not commit; will try again", error=str(error), in_s=self._backoff_s)
            self.metrics.source_reachable(False)
            self._last_commit_s = self.monotonic()
            self._held_up = True
            return
        if self._held_up:
            self._held_up, self._backoff_s = False, _BACKOFF_FIRST_S
            self.metrics.source_reachable(True)
        self._committed = dict(self.handled)
        self._last_commit_s = self.monotonic()
        self.metrics.lag(self.source.lag())

    # ---- life ----

    def run(self) -> int:
        """Run until ``stop`` is called or the source is exhausted; return the exit code."""
        started_s = self.monotonic()
        while not self.stopping:
            self.turn()
            if not self.reached and self.monotonic() - started_s > self.startup_timeout_s:
                log.error("gave up: the source could not be reached", timeout_s=self.startup_timeout_s)
                return UNAVAILABLE
            if self.source.exhausted():
                break
        return self.shut_down()

    def stop(self) -> None:
        """Ask the loop to end after its present turn; may be called from a signal handler."""
        self.stopping = True

    def finish(self) -> None:
        """Close all windows that hold readings, as if time went on: for sources that end."""
        for stream in self.streams:
            self.step(stream, to_the_end=True)

    def shut_down(self) -> int:
        """Flush, commit, keep a checkpoint and leave; open windows stay open in the checkpoint."""
        self.metrics.draining()
        code = OK
        try:
            self.commit(force=True)
            if self._committed != self.handled:
                log.error("stopped before everything was committed; it will be read again", handled=str(self.handled))
                code = UNAVAILABLE
            self.source.close()
            self.outputs.close()
        except ConnectorError as error:
            log.error("could not leave cleanly", error=str(error))
            code = UNAVAILABLE
        return code

    # ---- inner ----

    def _named(self, topic: str) -> str:
        """Return the topic where its stream has others beside it, for each keeps its own event time; else nothing."""
        return topic if topic in self._shared else ""

    def _rebalanced(self, revoked: set[TopicPartition], assigned: set[TopicPartition]) -> None:
        """Give up the state of revoked partitions and take up that of assigned ones, before their records come."""
        if revoked:
            self.commit(force=True)
        self._awaited -= revoked
        for partition in revoked:
            self.handled.pop(partition, None)
            self._committed.pop(partition, None)
            self.topics[partition.topic].release(partition.partition, self._named(partition.topic))
        for partition in sorted(assigned):
            stream = self.topics[partition.topic]
            offset = self.keeper.restore(stream, partition)
            if offset is None:
                self._awaited.add(partition)
            else:
                self.source.seek(partition, offset)
                # The clock moves this state on even if no record ever comes, so the next checkpoint must hold it too.
                self.handled[partition] = self._committed[partition] = offset
            stream.assign(partition.partition, self.now_us(), self._named(partition.topic))
        self.housekeeping.moved(self.streams)
        log.info("partitions changed", revoked=len(revoked), assigned=len(assigned))
        self.metrics.partitions(self.source.assignment())

    def _stop_waiting(self, blocks: list[RecordBlock]) -> None:
        """Let event time go on without the assigned partitions that turn out to be empty."""
        self._awaited -= {TopicPartition(block.topic, block.partition) for block in blocks}
        if not self._awaited:
            return
        lag = self.source.lag()
        for partition in [p for p in self._awaited if lag.get(p) == 0]:
            self._awaited.discard(partition)
            self.topics[partition.topic].leave_out(partition.partition, self._named(partition.topic))

    def _away(self, error: SourceUnavailable) -> None:
        if self._away_since_s is None:
            self._away_since_s = self.monotonic()
        log.warning("the source is away; trying again", error=str(error), in_s=self._backoff_s)
        self.metrics.source_reachable(False)
        self._back_off()

    def _try_again(self) -> None:
        """Wait a moment and try to get through what the outputs hold."""
        self._back_off()
        self.commit()

    def _back_off(self) -> None:
        self.metrics.ticked(self.now_us())
        self.pause(self._backoff_s)
        self._backoff_s = min(self._backoff_s * 2, _BACKOFF_LAST_S)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Account the time spent inside to stage ``name``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.metrics.stage(name, time.perf_counter() - started)

    def _timed(self, name: str, items: Iterator[Frames]) -> Iterator[Frames]:
        """Account the time it takes to make each item to stage ``name``."""
        while True:
            with self.stage(name):
                item = next(items, None)
            if item is None:
                return
            yield item


def run(config: Config, path: Path) -> int:
    """Run the daemon that ``config``, read from ``path``, describes until SIGTERM or SIGINT; return the exit code."""
    from pipeline.build import build_daemon, require_topics_of
    from pipeline.build_console import build_faces
    from pipeline.build_housekeeping import build_housekeeping
    from pipeline.garbage import settle
    from pipeline.live import Live

    metrics = Metrics(status=Status(config.stall_timeout.total_seconds()))
    host, port = config.http.host, config.http.port
    try:
        live = Live()
        beside = build_housekeeping(config, path, metrics, live=live)
        with closing(beside), build_faces(config, metrics, beside, live, undelivered=beside.undelivered) as faces:
            beside.listener = faces.said
            log.info("started", http=f"{host}:{faces.port}", streams=[s.name for s in config.streams])
            require_topics_of(config)
            daemon = build_daemon(config, metrics=metrics, housekeeping=beside)
            _act_on_signals(daemon, config.shutdown_timeout.total_seconds())
            beside.start()
            settle()
            with ServiceManager(metrics.status):
                return daemon.run()
    except Misconfigured as error:
        log.error("cannot work as configured", error=str(error))
        return CONFIG
    except ConnectorError as error:
        log.error("gave up", error=str(error))
        return UNAVAILABLE
    except OSError as error:
        log.error("cannot listen", http=f"{host}:{port}", error=str(error))
        return UNAVAILABLE


def _act_on_signals(daemon: Daemon, deadline_s: float) -> None:
    """Drain at the first SIGTERM or SIGINT; a second one, or the deadline, ends the process at once and without
    success. SIGUSR1 asks for a training of every stream."""

    def force(*_: object) -> None:
        log.error("stopped by force: not everything was drained", deadline_s=deadline_s)
        os._exit(UNAVAILABLE)

    def drain(*_: object) -> None:
        daemon.stop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, force)
        signal.signal(signal.SIGALRM, force)
        signal.alarm(max(1, round(deadline_s)))

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, drain)
    signal.signal(signal.SIGUSR1, lambda *_: daemon.housekeeping.train_soon())
