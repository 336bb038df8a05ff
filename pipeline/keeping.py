"""Keeping: when checkpoints are written, and how a partition's state is taken up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog

from connectors.base import TopicPartition
from pipeline.checkpointing import CheckpointError, CheckpointStore
from pipeline.metrics import Metrics
from pipeline.stream import Stream

log = structlog.get_logger("vedette.keeping")


class Keeper:
    """Writes one checkpoint per stream and partition, tied to the offset up to which its state has read.

    A failed write is reported and counted, the older checkpoint stays, and processing goes on.

    The partitions of a stream share its event time, so readings of one whose state is older come too late there:
    where a kill came between two of them, those that are ahead go back to the checkpoint before, which all have.
    """

    def __init__(
        self,
        store: CheckpointStore | None,
        config_hashes: Mapping[str, str],
        metrics: Metrics,
        every_s: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """Keep in ``store`` (None: nowhere) every ``every_s`` seconds; ``config_hashes`` maps stream to the hash of
        the part of its configuration that shapes its state."""
        self._store = store
        self._config_hashes = config_hashes
        self._metrics = metrics
        self._every_s = every_s
        self._monotonic = monotonic
        self._now_us = now_us
        self._last_s = monotonic()
        self._known: set[TopicPartition] = set()
        """Partitions that a checkpoint was read or written of; those that could not be written wait their turn too."""

    def due(self, partitions: Collection[TopicPartition]) -> bool:
        """Return True when the newest checkpoint is older than it should be, or one of ``partitions`` has none yet.

        A committed offset without a checkpoint would lose, at a kill, what is in open windows.
        """
        if self._store is None:
            return False
        return self._monotonic() - self._last_s >= self._every_s or not self._known.issuperset(partitions)

    def keep(self, topics: Mapping[str, Stream], offsets: Mapping[TopicPartition, int]) -> None:
        """Write the state of every partition in ``offsets``."""
        if self._store is None:
            return
        self._last_s = started_s = self._monotonic()
        written, begun_us = 0, self._now_us()
        self._known.update(offsets)
        for partition, offset in offsets.items():
            stream = topics[partition.topic]
            meta, arrays = stream.snapshot(partition.partition)
            meta |= {"topic": partition.topic, "partition": partition.partition, "offset": offset}
            meta |= {"config_hash": self._config_hashes[stream.name]}
            others = [other for other in offsets if topics[other.topic] is stream and other != partition]
            meta |= {"begun_us": begun_us, "together": [_key(stream, other) for other in others]}
            try:
                written += self._store.write(_key(stream, partition), meta, arrays)
            except CheckpointError as error:
                self._metrics.checkpoint_failed()
                log.error("checkpoint not written; the older one stays", stream=stream.name, error=str(error))
                return
        self._metrics.checkpointed(written, self._monotonic() - started_s)

    def restore(self, stream: Stream, partition: TopicPartition) -> int | None:
        """Take up the state of ``partition``; return the offset to read on from, None to go by the committed offset."""
        if self._store is None:
            return None
        key, config_hash = _key(stream, partition), self._config_hashes[stream.name]
        checkpoint = self._store.read(key, config_hash=config_hash, accept=self._whole)
        if checkpoint is None:
            checkpoint = self._store.read(key, config_hash=config_hash)  # none that all have: better than a cold start
            if checkpoint is not None:
                log.warning("a state is ahead of other partitions, which may come late", path=str(checkpoint.path))
        if checkpoint is None:
            log.info("no checkpoint; starting cold", stream=stream.name, partition=partition.partition)
            return None
        stream.restore(partition.partition, checkpoint.meta, checkpoint.arrays)
        self._known.add(partition)
        offset = int(checkpoint.meta["offset"])
        log.info("state restored", stream=stream.name, partition=partition.partition, offset=offset)
        return offset


    def _whole(self, meta: Mapping[str, Any]) -> bool:
        """Return whether all partitions that were to be kept with this one were, then or since."""
        assert self._store is not None
        begun_us = meta.get("begun_us", 0)
        for key in meta.get("together", ()):
            newest = self._store.newest_meta(key)
            if newest is None or newest.get("begun_us", 0) < begun_us:
                return False
        return True


def _key(stream: Stream, partition: TopicPartition) -> str:
    return f"{stream.name}/{partition.topic}/{partition.partition}"
