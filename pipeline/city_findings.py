"""What the city's demo found: the planted event and the channels that explain it, and whether every count arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from pipeline.city_air import CityAir
from pipeline.city_cameras import CAR, PERSON, CityCameras
from pipeline.city_ingest import AIR, CAMERAS, RIVER, WANTED
from pipeline.city_river import CityRiver
from pipeline.city_scene import DAY_STEPS, PLACES, STEP_S, STREAM, CityScene, Spell
from pipeline.city_topics import CityTopics
from pipeline.daemon import Daemon
from pipeline.demo import raised_in
from pipeline.found import Raised, Reckoning, budget_use, reckon
from pipeline.incident import Kind, rfc3339
from pipeline.recording import Recorder
from pipeline.report import SummaryRow

LEADING = 3
"""So many channels, those with the largest shares, are what an alert is about at first sight."""
_MINUTE_US = 60_000_000
_SILENT_STEPS = 64
"""At first, in which the detector only learns; whatever it raises later counts, also before its network is trained."""
_BUDGET_S = 30 * 86_400.0
_HONEST = frozenset({Kind.SILENCE, Kind.DATA_QUALITY})
"""What may be said of a camera that has no picture."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One source: what it had to say, and what is on its topic."""

    source: str
    sent: int
    there: int
    wrong: int
    """Readings whose value is not what was sent."""


@dataclass(slots=True)
class Findings:
    """All that is shown at the end."""

    scene: CityScene
    reckoning: Reckoning
    shares: Mapping[str, float]
    """Of the incident that found the event, by channel, largest first; empty where it was missed."""
    arrivals: list[Arrival]
    dark_minutes: int
    """Readings of the camera without a picture in that time."""
    dark_values: int
    """Those of them that have a value, though nobody can know it."""
    dark_told: list[Raised]
    """Incidents that say that this camera is silent."""
    backfilled: int
    """Objects that passed while Frigate's link was cut, and are counted."""
    cut_objects: int
    """All of those."""
    rows: list[SummaryRow] = field(default_factory=list)
    readings: int = 0
    """On the topics."""
    unseen: int = 0
    """Records that the daemon did not read."""
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether all that was said at the sources is on the topics, as it was said, and nothing was made up."""
        all_there = all(one.sent == one.there and not one.wrong for one in self.arrivals)
        return all_there and not self.dark_values and not self.unseen

    @property
    def leading(self) -> list[str]:
        """Return the channels with the largest shares."""
        return leading(self.shares)

    @property
    def explained(self) -> bool:
        """Whether the event was found, with vehicles and NO2 among the leading channels."""
        return explains(self.shares)


def leading(shares: Mapping[str, float]) -> list[str]:
    """Return the channels with the largest ``shares``, which are in order, largest first."""
    return list(shares)[:LEADING]


def explains(shares: Mapping[str, float]) -> bool:
    """Return whether vehicles and NO2 are among the leading channels."""
    return {CAR, "no2"} <= set(leading(shares))


def findings(
    scene: CityScene,
    cameras: CityCameras,
    air: CityAir,
    river: CityRiver,
    topics: CityTopics,
    recorder: Recorder,
    daemon: Daemon,
) -> Findings:
    """Compare what was said with what was planted, and what is on the topics with what was sent."""
    raised = raised_in(recorder)
    dark_us = scene.span_us(scene.dark)
    told = [one for one in raised if one.entity == PLACES[-1] and one.kind in _HONEST and one.opened_us >= dark_us[0]]
    reckoning = reckon([one for one in raised if one not in told], [scene.road_blocked()])
    by = reckoning.verdicts[0].by
    seen = topics.of[CAMERAS].readings
    dark = [value for key, (_, value) in seen.items() if key[0] == PLACES[-1] and _within(scene, scene.dark, key[2])]
    passed = {key: n for key, n in cameras.seen.items() if _within(scene, scene.cut, key[2])}
    return Findings(
        scene=scene,
        reckoning=reckoning,
        shares=shares_of(recorder, by, scene),
        arrivals=[_of_cameras(cameras, topics), _of_air(scene, air, topics), _of_river(scene, river, topics)],
        dark_minutes=len(dark),
        dark_values=sum(value is not None for value in dark),
        dark_told=told,
        backfilled=round(sum(_value(topics, key) for key in passed)),
        cut_objects=sum(passed.values()),
        rows=_rows(scene, reckoning, daemon, topics),
        readings=topics.readings,
        unseen=topics.records - sum(daemon.handled.values()),
    )


def _within(scene: CityScene, spell: Spell, time_us: int) -> bool:
    """Return whether a minute that ends at ``time_us`` lies in a spell, as a whole."""
    first_us, last_us = scene.span_us(spell)
    return first_us - round(STEP_S * 1e6) < time_us <= last_us


def _value(topics: CityTopics, key: tuple[str, str, int]) -> float:
    _, value = topics.of[CAMERAS].readings.get(key, (0, None))
    return 0.0 if value is None else value


def _of_cameras(cameras: CityCameras, topics: CityTopics) -> Arrival:
    readings = topics.of[CAMERAS].readings
    there = sum(value for key, (_, value) in readings.items() if key[1] in (CAR, PERSON) and value is not None)
    wrong = sum(n != _value(topics, key) for key, n in cameras.seen.items())
    return Arrival(CAMERAS, sum(cameras.seen.values()), round(there), wrong)


def _of_air(scene: CityScene, air: CityAir, topics: CityTopics) -> Arrival:
    readings = topics.of[AIR].readings
    wrong = 0
    for (entity, channel, time_us), (_, value) in readings.items():
        place, step = PLACES.index(entity), int(scene.times_us.searchsorted(time_us))
        wrong += value != air.measured(channel, place, step) or int(scene.times_us[step]) != time_us
    return Arrival(AIR, sum(air.pushed[channel] for channel in WANTED), len(readings), wrong)


def _of_river(scene: CityScene, river: CityRiver, topics: CityTopics) -> Arrival:
    readings = topics.of[RIVER].readings
    measured = {"stage": scene.stage_ft, "discharge": scene.discharge_ft3_s}
    wrong = sum(
        value != float(f"{measured[channel][int(scene.times_us.searchsorted(time_us))]:g}")
        for (_, channel, time_us), (_, value) in readings.items()
    )
    return Arrival(RIVER, river.measured, len(readings), wrong)


def shares_of(recorder: Recorder, by: Raised | None, scene: CityScene) -> dict[str, float]:
    """Return each channel's mean share over what was said of an incident while the road was blocked, largest first."""
    if by is None:
        return {}
    first_us, last_us = scene.span_us(scene.blocked)
    said = [
        message["explanation"]["channels"]
        for message in recorder.messages
        if message["incident_id"] == by.id
        and first_us <= message["time_us"] <= last_us
        and message["explanation"].get("channels")
    ]
    total: dict[str, float] = {}
    for channels in said:
        for one in channels:
            total[one["channel"]] = total.get(one["channel"], 0.0) + (one["share"] or 0.0) / len(said)
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _rows(scene: CityScene, reckoning: Reckoning, daemon: Daemon, topics: CityTopics) -> list[SummaryRow]:
    rows = []
    for stream in daemon.streams:
        part = reckoning.of_stream(stream.name)
        entities = len(PLACES) if stream.name == STREAM else 1
        observed_s = (len(scene.times_us) - _SILENT_STEPS) * 86_400.0 / DAY_STEPS
        use = budget_use(len(part.false_alerts), 1.0, _BUDGET_S, entities, observed_s)
        rows.append(
            SummaryRow(
                stream=stream.name,
                incidents=stream.incidents_opened(),
                found=part.found,
                known=len(part.verdicts),
                false_alerts=len(part.false_alerts),
                promised=use.promised,
                model=stream.predictor.model_version,
                simulated=True,
            )
        )
    return rows


def show(console: Console, found: Findings) -> None:
    """Print the closing tables."""
    console.print(_events(found))
    console.print(_sources(found))
    quiet = found.dark_minutes and not found.dark_values
    for incident in (*found.reckoning.false_alerts, *found.reckoning.false_watches):
        tier = "alert" if incident.alert else "watch"
        where = f"{incident.stream}/{incident.entity}"
        _say(console, f"false {tier}: {rfc3339(incident.opened_us)[:16]} {where} {incident.kind}")
    kept = "none of them 0" if quiet else f"{found.dark_values} of them with a value"
    _say(console, f"camera without a picture: {found.dark_minutes:,} readings say that they are missing, {kept}")
    _say(console, f"broker cut: {found.backfilled:,} of {found.cut_objects:,} objects came from Frigate's database")
    if found.unseen:
        console.print(f"{found.unseen} records were never read by the daemon: please report this", style="red")
    if not found.explained:
        console.print(f"the event is not explained by car and no2; leading: {found.leading}", style="red", markup=False)
    _say(console, f"{found.readings:,} readings in {found.seconds:.0f} s, training included")


def _events(found: Findings) -> Table:
    table = Table(title="What was planted, and what was said")
    for name in ("what", "where", "from", "until", "found", "by", "shares"):
        table.add_column(name)
    verdict = found.reckoning.verdicts[0]
    by, fault = verdict.by, verdict.fault
    table.add_row(
        "road blocked", fault.entity, rfc3339(fault.start_us)[5:16], rfc3339(fault.end_us)[5:16],
        "missed" if by is None else f"within {((verdict.delay_s or 0.0) + STEP_S) / 60:.0f} min",
        "" if by is None else f"{by.kind} ({'alert' if by.alert else 'watch'})",
        ", ".join(f"{name} {share:.0%}" for name, share in list(found.shares.items())[:LEADING + 1]),
    )  # fmt: skip
    told = ", ".join(sorted({one.kind for one in found.dark_told})) or "nothing, as it should"
    for what, where, spell, said in (
        ("no picture", PLACES[-1], found.scene.dark, told),
        ("broker cut", "Frigate", found.scene.cut, ""),
    ):
        first_us, last_us = found.scene.span_us(spell)
        table.add_row(what, where, rfc3339(first_us)[5:16], rfc3339(last_us)[5:16], "no event", said, "")
    promised = sum(row.promised or 0.0 for row in found.rows)
    false = f"{len(found.reckoning.false_alerts)} alerts, {len(found.reckoning.false_watches)} watches"
    table.add_row("false", "everywhere", "", "", false, f"budget {promised:.1f}", "")
    return table


def _sources(found: Findings) -> Table:
    table = Table(title="What the sources said, and what is on their topics")
    for name in ("source", "said", "on the topic", "differ"):
        table.add_column(name, justify="left" if name == "source" else "right")
    for one in found.arrivals:
        what = {CAMERAS: "objects counted", AIR: "readings", RIVER: "readings"}[one.source]
        table.add_row(f"{one.source}: {what}", f"{one.sent:,}", f"{one.there:,}", f"{one.wrong:,}")
    return table


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
