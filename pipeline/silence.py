"""Silence: entities, single channels and whole streams that say nothing any more.

Legend: n entities in use, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.state import RowState
from models.wording import channel_text, clean, duration_text, moment_text
from pipeline.casebook import Casebook, Finding, Moment, StreamFacts
from pipeline.frames import Frames
from pipeline.incident import WHOLE_STREAM, AlertMessage, Incident, Json, Kind, Phase, Severity, rfc3339
from pipeline.lifecycle import LifePolicy

_NEVER = np.iinfo(np.int64).min // 4
_LEAST_GROUP = 2
"""Entities that make a whole stream: the silence of a single one is its own."""


class Silence:
    """Tells which entities and which single channels have gone silent, and since when.

    An entity that never sent anything is not silent. When all entities of a stream fall silent together that is one
    incident about the stream, not one for each: then it is the way to them that is broken.
    """

    def __init__(
        self,
        facts: StreamFacts,
        channels: Sequence[str],
        after_steps: int,
        channel_after_steps: int | None = None,
        life: LifePolicy | None = None,
        severity: Severity = Severity.WARNING,
        capacity: int = 64,
    ) -> None:
        """Tell of silences.

        Args:
            facts: about the stream.
            channels: names of the C channels.
            after_steps: an entity is silent after so many empty steps.
            channel_after_steps: a channel is, while others of its entity come; three times as many if None, because
                single channels have calibration pauses and slower rates of their own.
            life: ends at the first sign of life by default.
            severity: of all its incidents.
            capacity: entity slots to begin with.
        """
        if after_steps < 1:
            raise ValueError(f"after_steps must be 1 or more, not {after_steps}")
        self.facts = facts
        self.channels = tuple(channels)
        self.after_steps = after_steps
        self.channel_after_steps = 3 * after_steps if channel_after_steps is None else channel_after_steps
        self.severity = severity
        life = life or LifePolicy()
        self.state = RowState(capacity)
        self.state.add("seen_step", (), np.int64, _NEVER)
        self.state.add("channel_step", (len(channels),), np.int64, _NEVER)
        self._book = Casebook(Kind.SILENCE, ("", *channels), facts, life, self.state)
        # The stream as a whole is one more "entity", in a row of its own.
        self._stream = RowState(1)
        self._stream.add("resumed_step", (), np.int64, _NEVER)
        whole = StreamFacts(
            facts.name, facts.step_us, lambda _: WHOLE_STREAM, lambda _: facts.name, facts.maintenance,
            facts.model_version,
        )  # fmt: skip
        self._stream_book = Casebook(Kind.SILENCE, ("",), whole, life, self._stream)

    @property
    def books(self) -> tuple[Casebook, Casebook]:
        """The books of single entities and of the stream as a whole."""
        return self._book, self._stream_book

    def grow(self, capacity: int) -> None:
        """Make room for more entities."""
        self.state.grow(capacity)

    def open_incidents(self) -> list[Incident]:
        """Return all open silences."""
        return self._stream_book.open_incidents() + self._book.open_incidents()

    def step(self, frames: Frames, now_us: int) -> list[AlertMessage]:
        """Take one step, also one that the clock closed empty; return who fell silent and who is back."""
        n = len(frames.values)
        moment = Moment(frames.step, frames.time_us, now_us)
        came = frames.count.sum(axis=1) > 0  # [n]
        present = ~np.isnan(frames.values)  # [n, C]
        seen, channel_seen = self.state["seen_step"][:n], self.state["channel_step"][:n]
        seen[came] = frames.step
        channel_seen[present] = frames.step
        messages = self._whole_stream(moment, came, seen)
        silent, mute = self._silent(moment, came, seen, channel_seen)
        evidence = np.column_stack([silent, mute])  # [n, 1 + C]
        held = np.column_stack([~came, ~present])
        observed = np.column_stack([np.ones(n, np.bool_), np.repeat(came[:, None], len(self.channels), axis=1)])

        def describe(row: int, lane: int, phase: Phase, incident: Incident | None, _note: str) -> Finding:
            last = int(seen[row]) if lane == 0 else int(channel_seen[row, lane - 1])
            return self._describe(clean(self.facts.entity(row)), lane, phase, incident, last, moment)

        return messages + self._book.advance(moment, evidence, held, observed, describe)

    def revise(self, new: Frames, now_us: int) -> list[AlertMessage]:
        """Return the corrections that late readings bring: whoever spoke within its silence was not silent.

        Args:
            new: a revised frame; its ``rows`` say whose.
            now_us: the wall clock.
        """
        assert new.rows is not None
        moment = Moment(new.step, new.time_us, now_us)
        messages: list[AlertMessage] = []
        for i in np.flatnonzero(new.count.sum(axis=1) > 0).tolist():
            row = int(new.rows[i])
            if new.step <= self.state["seen_step"][row]:
                continue
            self.state["seen_step"][row] = new.step
            if (incident := self._book.get(row)) is not None and new.time_us <= incident.opened_us:
                reason = (
                    f"{clean(incident.entity)} was not silent: its readings for {moment_text(new.time_us)} came late."
                )
                messages += self._book.withdraw(moment, row, 0, reason)
        return messages

    def rows_shared(self, slots: NDArray[np.intp]) -> Json:
        """Return the open silences of ``slots``, and what is known of the stream as a whole, for a checkpoint."""
        whole: dict[str, Json] = {name: array.tolist() for name, array in self._stream.arrays.items()}
        stream: Json = {"state": whole, "incident": self._stream_book.rows_shared(np.zeros(1, np.intp))}
        return {"rows": self._book.rows_shared(slots), "stream": stream}

    def restore_rows_shared(self, slots: NDArray[np.intp], saved: Any) -> None:
        """Take up what ``rows_shared`` gave, in the same order."""
        self._book.restore_rows_shared(np.asarray(slots), saved["rows"])
        for name, values in saved["stream"]["state"].items():
            self._stream[name][...] = values
        self._stream_book.restore_rows_shared(np.zeros(1, np.intp), saved["stream"]["incident"])

    def clear(self) -> None:
        """Forget all open silences and say nothing: they live on elsewhere."""
        self._book.clear()
        self._stream_book.clear()
        self._stream.reset(np.zeros(1, np.intp))

    # ---- inner ----

    def _whole_stream(self, moment: Moment, came: NDArray[np.bool_], seen: NDArray[np.int64]) -> list[AlertMessage]:
        """Open the stream's own incident when all that were alive fell silent together; end it at any sign of life."""
        alive = (seen > _NEVER) & ~self._book.life.open(len(seen))[:, 0]
        last = int(seen[alive].max()) if alive.any() else _NEVER
        enough = np.count_nonzero(alive) >= _LEAST_GROUP
        quiet = not came.any()
        silent = np.array([[quiet and enough and moment.step - last >= self.after_steps]])

        def describe(_row: int, _lane: int, phase: Phase, incident: Incident | None, _note: str) -> Finding:
            if phase is Phase.RESOLVED:
                assert incident is not None
                lasted = duration_text((moment.time_us - incident.started_us) / 1e6)
                return Finding(f"The stream is back, {lasted} after its silence was noticed.", incident.explanation)
            return self._describe_stream(moment, last, int(np.count_nonzero(alive)))

        ended = self._stream_book.life.open(1)[0, 0] and not quiet
        if ended:
            self._stream["resumed_step"][0] = moment.step
        return self._stream_book.advance(moment, silent, np.array([[quiet]]), np.ones((1, 1), np.bool_), describe)

    def _silent(
        self, moment: Moment, came: NDArray[np.bool_], seen: NDArray[np.int64], channel_seen: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return [n] silent entities and [n, C] mute channels of those that speak."""
        # While nobody speaks the stream may be what is silent, and after it came back everyone gets time to follow.
        since = np.maximum(seen, self._stream["resumed_step"][0])
        alone = came.any() or np.count_nonzero(seen > _NEVER) < _LEAST_GROUP
        silent = (seen > _NEVER) & (moment.step - since >= self.after_steps) & alone & ~came
        mute = (channel_seen > _NEVER) & (moment.step - channel_seen >= self.channel_after_steps) & came[:, None]
        return silent, mute

    def _describe(
        self, entity: str, lane: int, phase: Phase, incident: Incident | None, last: int, moment: Moment
    ) -> Finding:
        who = entity if lane == 0 else f"{channel_text(self.channels[lane - 1])} of {entity}"
        if phase is Phase.RESOLVED:
            assert incident is not None
            since = incident.explanation.get("silent_since_us")
            begun_us = since if isinstance(since, int) else incident.started_us
            lasted = duration_text((moment.time_us - begun_us) / 1e6)
            return Finding(f"{who} is back after {lasted} of silence.", incident.explanation)
        last_us = last * self.facts.step_us
        lasted = duration_text((moment.time_us - last_us) / 1e6)
        others = "" if lane == 0 else ", while its other channels come"
        reason = f"{who} has been silent for {lasted}, since {moment_text(last_us)}{others}."
        return Finding(reason, self._since(last_us, lane), severity=self.severity)

    def _describe_stream(self, moment: Moment, last: int, entities: int) -> Finding:
        last_us = last * self.facts.step_us
        lasted = duration_text((moment.time_us - last_us) / 1e6)
        reason = (
            f"The whole stream {clean(self.facts.name)}, {entities} entities, has been silent for {lasted}, "
            f"since {moment_text(last_us)}."
        )
        return Finding(reason, {**self._since(last_us, 0), "entities": entities}, severity=self.severity)

    def _since(self, last_us: int, lane: int) -> dict[str, Json]:
        channel = None if lane == 0 else self.channels[lane - 1]
        return {"silent_since": rfc3339(last_us), "silent_since_us": last_us, "channel": channel}
