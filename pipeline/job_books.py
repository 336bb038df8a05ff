"""The books of a training job, kept by its own process: the record, signs of life, loss curves for TensorBoard."""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import structlog

from pipeline.job_process import start_time
from pipeline.job_record import EVENTS, JobFolder, JobPhase, JobReason, JobRecord

log = structlog.get_logger("vedette.training_job")

BEAT_S = 20.0
"""A sign of life at least so often; thirty seconds are promised."""
_LEAST_CPU_S = 0.01
"""Of the working thread, between two signs of life."""


class JobBooks:
    """Writes one job's record; may be used from several threads, but begun in the one that works."""

    def __init__(
        self, folder: JobFolder, stream: str, judge: str | None, now_us: Callable[[], int], beat_s: float = BEAT_S
    ) -> None:
        """Go on with the folder's record, or begin one.

        Args:
            folder: the job's.
            stream: whose job it is.
            judge: the version to judge; None: one is trained.
            now_us: the wall clock.
            beat_s: how often the record is written when nothing else happens.
        """
        self.folder = folder
        self._now_us, self._beat_s = now_us, beat_s
        now = now_us()
        known = folder.read()
        fresh = JobRecord(folder.path.name, stream, JobReason.NOW, JobPhase.WAITING, now, now, judge=judge)
        self.record = fresh if known is None else known
        self.ended_before = self.record.phase.ended
        self._lock = threading.RLock()
        self._events: Any = None
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._cpu_s = time.clock_gettime(self._clock)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._beats, name="job-heartbeat", daemon=True)

    def begin(self) -> None:
        """Say that this process is at it."""
        pid = os.getpid()
        now = self._now_us()
        self.change(started_us=now, pid=pid, pid_started=start_time(pid), host=socket.gethostname(), message="")
        self._thread.start()

    def change(self, **fields: Any) -> None:
        """Change the record and write it; nothing changes any more once it has ended."""
        with self._lock:
            if self.record.phase.ended:
                return
            for name, value in fields.items():
                setattr(self.record, name, value)
            self.record.updated_us = self._now_us()
            self.folder.write(self.record)

    def phase(self, phase: JobPhase) -> None:
        """Say where the job is."""
        log.info("training job", stream=self.record.stream, job=self.record.id, phase=str(phase))
        self.change(phase=phase)

    def epoch(self, epoch: int, epochs: int, train_loss: float, validation_loss: float, baseline: float) -> None:
        """Note an epoch's losses, in the record, the log and the loss curves."""
        record = self.record
        self.change(
            epoch=epoch,
            epochs=epochs,
            train_losses=(*record.train_losses[: epoch - 1], train_loss),
            validation_losses=(*record.validation_losses[: epoch - 1], validation_loss),
        )
        log.info(
            "epoch", stream=record.stream, epoch=epoch, epochs=epochs, loss=round(train_loss, 5),
            validation=round(validation_loss, 5), linear=round(baseline, 5),
        )  # fmt: skip
        self._curves(epoch, {"train": train_loss, "validation": validation_loss, "linear": baseline})

    def end(self, phase: JobPhase, message: str, decision: str = "") -> None:
        """Say what came of it; the first end counts."""
        self.change(phase=phase, message=message, decision=decision, ended_us=self._now_us())

    def close(self) -> None:
        """Stop the signs of life and close the loss curves."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._events is not None:
            self._events.close()

    def _curves(self, epoch: int, losses: dict[str, float]) -> None:
        """Add a point to the curves; they are for looking at, so nothing that goes wrong with them ends a job."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of protobuf, about itself
                if self._events is None:
                    from tensorboardX import SummaryWriter

                    self._events = SummaryWriter(str(self.folder.path / EVENTS), purge_step=epoch, flush_secs=10)
                for name, loss in losses.items():
                    self._events.add_scalar(f"loss/{name}", loss, epoch)
        except Exception as error:
            log.warning("loss curves cannot be written", job=self.record.id, error=str(error))

    def beat(self) -> bool:
        """Sign if the working thread works, and return whether: one that is stuck uses no processor, and must be found.

        Never raises for what the disk refuses.
        """
        cpu_s = time.clock_gettime(self._clock)
        if cpu_s - self._cpu_s < _LEAST_CPU_S:
            return False
        self._cpu_s = cpu_s
        try:
            self.change()
        except OSError as error:
            log.warning("the job's record cannot be written", job=self.record.id, error=str(error))
        return True

    def _beats(self) -> None:
        while not self._closing.wait(self._beat_s):
            self.beat()
