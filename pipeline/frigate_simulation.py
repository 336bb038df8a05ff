"""A Frigate that never was: cameras, objects and reviews over MQTT and HTTP as the real one tells them, and the truth.

Shapes and habits of its messages are from Frigate's documentation of its MQTT topics and its HTTP API. They are sent at
QoS 0 and dropped while the link to the broker is cut; the database keeps everything.
"""

from __future__ import annotations

import json
import random
import string
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.frigate_link import FrigateLink


@dataclass(slots=True)
class Thing:
    """An object that is followed; times in epoch seconds."""

    id: str
    camera: str
    label: str
    start: float
    end: float | None = None
    told: float = 0.0
    """The frame of the newest message."""
    entered: list[str] = field(default_factory=list)
    states: list[tuple[float, bool, tuple[str, ...]]] = field(default_factory=list)
    """From when on, whether it moved, and in which zones."""
    stored: bool = True
    """Whether it has a clip or a snapshot: only then the database knows it."""

    @property
    def active(self) -> bool:
        """Whether it moves now."""
        return self.states[-1][1]

    @property
    def zones(self) -> tuple[str, ...]:
        """In which it is now."""
        return self.states[-1][2]

    def state_at(self, moment: float) -> tuple[bool, tuple[str, ...]]:
        """Return whether it moved at a moment, and in which zones it was."""
        return next(((active, zones) for since, active, zones in reversed(self.states) if since <= moment), (False, ()))


@dataclass(slots=True)
class Activity:
    """A review."""

    id: str
    camera: str
    start: float
    severity: str
    end: float | None = None


class SimulatedFrigate:
    """Does what it is told, tells the broker, and remembers. Thread-safe. A context manager.

    Args:
        port: of the broker.
        cameras: each with its zones.
        labels: that are followed at all cameras.
        host: of the broker.
        prefix: before all topics.
        now: the wall clock, epoch seconds.
        seed: of ids.
    """

    def __init__(
        self,
        port: int,
        cameras: Mapping[str, Sequence[str]],
        labels: Sequence[str],
        *,
        host: str = "127.0.0.1",
        prefix: str = "frigate",
        now: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.cameras = {camera: tuple(zones) for camera, zones in cameras.items()}
        self.labels = tuple(labels)
        self.now = now
        self.started = now()
        self.things: dict[str, Thing] = {}
        self.activities: dict[str, Activity] = {}
        self.dark: set[str] = set()
        """Cameras without a picture."""
        self.turn = threading.RLock()
        self._random = random.Random(seed)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._here: dict[tuple[str, str], dict[str, Thing]] = {}
        """By camera and label, those that have not gone."""
        self.link = FrigateLink(host, port, prefix, self._greet)

    def __enter__(self) -> SimulatedFrigate:
        self.link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()

    # ---- objects ----

    def begin(
        self, camera: str, label: str, at: float | None = None, *, lost: bool = False, stored: bool = True
    ) -> str:
        """Let an object appear, and return its id; ``lost``: the message does not arrive."""
        with self.turn:
            start = round(self.now() if at is None else at, 6)
            thing = Thing(f"{start:.6f}-{self._suffix()}", camera, label, start, stored=stored)
            thing.states.append((start, True, ()))
            self.things[thing.id] = thing
            self._here.setdefault((camera, label), {})[thing.id] = thing
            self._tell("new", thing, start, lost=lost)
            self._tell_counts(camera, label, lost)
            return thing.id

    def move(
        self, name: str, zones: Sequence[str] | None = None, active: bool | None = None, at: float | None = None
    ) -> None:
        """Let an object go into zones (and out of all others), park, or set off again."""
        with self.turn:
            thing, moment = self.things[name], self.now() if at is None else at
            now_in = thing.zones if zones is None else tuple(zones)
            thing.entered += [zone for zone in now_in if zone not in thing.entered]
            thing.states.append((moment, thing.active if active is None else active, now_in))
            self._tell("update", thing, moment)

    def tell(self, name: str, times: int = 1, at: float | None = None) -> None:
        """Send updates of an object that say nothing new."""
        with self.turn:
            for _ in range(times):
                self._tell("update", self.things[name], self.now() if at is None else at)

    def end(self, name: str, at: float | None = None, *, lost: bool = False) -> None:
        """Let an object go; ``lost``: neither the message nor the count arrives."""
        with self.turn:
            thing = self.things[name]
            thing.end = round(self.now() if at is None else at, 6)
            self._here[thing.camera, thing.label].pop(name, None)
            self._tell("end", thing, thing.end, lost=lost)
            self._tell_counts(thing.camera, thing.label, lost)

    def review(self, camera: str, severity: str, at: float | None = None) -> str:
        """Let a review begin, and return its id."""
        with self.turn:
            start = round(self.now() if at is None else at, 6)
            one = Activity(f"{start:.6f}-{self._suffix()}", camera, start, severity)
            self.activities[one.id] = one
            self._tell_review("new", one)
            return one.id

    def escalate(self, name: str) -> None:
        """Let a review become an alert."""
        with self.turn:
            self.activities[name].severity = "alert"
            self._tell_review("update", self.activities[name])

    # ---- what goes wrong ----

    def camera_status(self, camera: str, online: bool) -> None:
        """Let a camera lose its picture, or have it again."""
        with self.turn:
            (self.dark.discard if online else self.dark.add)(camera)
            self.link.send(f"{camera}/status/detect", "online" if online else "offline")

    def heartbeat(self) -> None:
        """Say of each camera how it is; the real one does so every ten seconds."""
        with self.turn:
            for camera in self.cameras:
                self.link.send(f"{camera}/status/detect", "offline" if camera in self.dark else "online")

    @property
    def to_hear(self) -> int:
        """How many messages there were for whoever listens as ``connectors.frigate`` does, reviews left out."""
        return sum(n for last, n in self.link.sent.items() if last not in ("active", "reviews"))

    def say(self, topic: str, payload: bytes) -> None:
        """Send anything."""
        self.link.send(topic, payload)

    def forget(self, before: float) -> None:
        """Let go of what ended before a moment, as the real one does after some days; of objects the oldest first."""
        with self.turn:
            while self.things:
                oldest = next(iter(self.things.values()))
                if oldest.end is None or oldest.end >= before:
                    return
                del self.things[oldest.id]

    # ---- the truth ----

    def truth(self, minute: int) -> dict[tuple[str, str], float]:
        """Return what really was in a minute since 1970: entity and channel to value; dwell only where some left."""
        since, until = minute * 60.0, minute * 60.0 + 60.0
        found: dict[tuple[str, str], float] = {}
        stays: dict[tuple[str, str], list[float]] = {}
        for camera, zones in self.cameras.items():
            for entity in (camera, *(f"{camera}/{zone}" for zone in zones)):
                for label in self.labels:
                    found[entity, label] = found[entity, f"{label}.active"] = 0.0
        with self.turn:
            for thing in self.things.values():
                entities = [thing.camera, *(f"{thing.camera}/{zone}" for zone in thing.entered)]
                if since <= thing.start < until:
                    for entity in entities:
                        found[entity, thing.label] += 1
                if thing.end is not None and since <= thing.end < until:
                    for entity in entities:
                        stays.setdefault((entity, f"{thing.label}.dwell"), []).append(thing.end - thing.start)
                active, zones = thing.state_at(until)
                if thing.start < until and (thing.end is None or thing.end > until) and active:
                    for entity in (thing.camera, *(f"{thing.camera}/{zone}" for zone in zones)):
                        found[entity, f"{thing.label}.active"] += 1
            for camera in self.cameras:
                for severity in ("alert", "detection"):
                    found[camera, f"review.{severity}"] = sum(
                        one.camera == camera and one.severity == severity and since <= one.start < until
                        for one in self.activities.values()
                    )
        return found | {key: sum(every) / len(every) for key, every in stays.items()}

    # ---- messages ----

    def _greet(self) -> None:
        """Say what a Frigate says when it has found its broker."""
        for camera in self.cameras:
            self.link.send(f"{camera}/enabled/state", "ON", retain=True)
            self.link.send(f"{camera}/detect/state", "ON", retain=True)
        self.link.send("available", "online", retain=True)

    def _tell(self, kind: str, thing: Thing, frame: float, lost: bool = False) -> None:
        before = self._said_of(thing, thing.told)
        thing.told = frame
        if not lost:
            self.link.send("events", json.dumps({"type": kind, "before": before, "after": self._said_of(thing, frame)}))

    def _said_of(self, thing: Thing, frame: float) -> dict[str, object]:
        return {
            "id": thing.id, "camera": thing.camera, "label": thing.label, "frame_time": frame,
            "sub_label": ["Ada Lovelace", 0.93] if thing.label == "person" else None,
            "recognized_license_plate": ["B-XY 1234", 0.9] if thing.label == "car" else None,
            "top_score": 0.89, "score": 0.83, "false_positive": False, "start_time": thing.start, "end_time": thing.end,
            "box": [424, 500, 536, 712], "area": 23744, "ratio": 0.53, "region": [264, 450, 667, 853],
            "current_zones": [] if thing.end is not None else list(thing.zones), "entered_zones": list(thing.entered),
            "active": thing.active, "stationary": not thing.active, "motionless_count": 0, "position_changes": 1,
            "has_clip": thing.stored, "has_snapshot": thing.stored, "attributes": {}, "current_estimated_speed": 0,
        }  # fmt: skip

    def _tell_counts(self, camera: str, label: str, lost: bool) -> None:
        """Say how many there are, if that has changed."""
        here = self._here.get((camera, label), {}).values()
        for topic, n in ((label, len(here)), (f"{label}/active", sum(one.active for one in here))):
            if self._counts[camera, topic] != n and not lost:
                self._counts[camera, topic] = n
                self.link.send(f"{camera}/{topic}", str(n))

    def _tell_review(self, kind: str, one: Activity) -> None:
        said = {
            "id": one.id, "camera": one.camera, "start_time": one.start, "end_time": one.end, "severity": one.severity,
            "thumb_path": f"/media/frigate/clips/review/thumb-{one.camera}-{one.id}.webp",
            "data": {"detections": [], "objects": ["person"], "sub_labels": ["Ada Lovelace"], "zones": [], "audio": []},
        }  # fmt: skip
        self.link.send("reviews", json.dumps({"type": kind, "before": said, "after": said}))

    def _suffix(self) -> str:
        return "".join(self._random.choices(string.ascii_lowercase + string.digits, k=6))
