"""What compressing a model came to, for people and machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table
from rich.text import Text

from models.manifest import StoredModel
from pipeline.durations import format_duration
from pipeline.model_desk import Desk
from pipeline.model_words import figure, share
from pipeline.training_data import TrainingData

MOST_GROWTH = 0.01
"""Of the loss; a version whose loss grows by more is not kept."""
_HONEST = (
    "bf16 and int8 make files smaller, not steps faster: steps are computed in float32, so their speeds differ by"
    " chance. A smaller H is faster."
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A form of a model, and what it costs and is worth."""

    name: str
    hidden: int
    size_bytes: int
    entity_steps_per_s: float
    crps: float
    growth: float
    """Of the CRPS beside the original's; 0.01 is 1 % worse."""
    gain_kept: float | None = None
    """Share of the original's gain over the linear forecast that is left; None where it has no gain to lose."""
    version: str | None = None
    """That it was kept as."""

    @property
    def holds(self) -> bool:
        """Return whether it is as good as the original, but for 1 %."""
        return self.growth <= MOST_GROWTH


def tell(desk: Desk, original: StoredModel, measured: Sequence[Measured], linear: float, data: TrainingData) -> None:
    """Write what compressing came to: a table and sentences, or JSON."""
    begins_us = (data.frames.step0 + data.frames.values.shape[1] - data.holdout) * desk.stream.step_us
    seen = original.manifest.data_to_us > begins_us
    if desk.args.json:
        rows = [asdict(each) | {"holds": each.holds} for each in measured]
        desk.tell({
            "stream": desk.name, "original": rows[0] | {"version": original.version}, "variants": rows[1:],
            "crps_linear": linear, "holdout_steps": data.holdout, "original_saw_holdout": seen,
        })  # fmt: skip
        return
    desk.say(_table(measured), "")
    length = format_duration(data.holdout * desk.stream.step)
    desk.say(f"CRPS in spreads on the newest {length} of the history; the linear forecast alone: {figure(linear)}")
    if seen:
        desk.say(f"{original.version} has learned from part of that, which favours it over students")
    desk.say("gain kept: what is left of the original's gain over the linear forecast")
    desk.say(_HONEST)
    for each in measured[1:]:
        if each.version is not None:
            desk.say(f"{each.name} is kept as {each.version}; vedette models promote puts it in charge")
        elif desk.args.keep:
            desk.say(f"{each.name} is not kept: its loss grew by more than {MOST_GROWTH:.0%}")
        elif each.holds:
            desk.say(f"{each.name} holds quality; --keep puts it into the registry")


def _table(measured: Sequence[Measured]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "hidden", "bytes", "", "entity-steps/s", "", "CRPS", "grows by", "gain kept"):
        table.add_column(column, justify="left" if not table.columns else "right", no_wrap=True)
    first = measured[0]
    for each in measured:
        cells = [each.name, str(each.hidden), f"{each.size_bytes:,}", f"{each.size_bytes / first.size_bytes:.2f} ×"]
        cells += [f"{each.entity_steps_per_s:,.0f}", f"{each.entity_steps_per_s / first.entity_steps_per_s:.2f} ×"]
        cells += [figure(each.crps), share(each.growth) if each is not first else ""]
        cells += ["–" if each.gain_kept is None else f"{each.gain_kept:.0%}".replace("%", " %")]
        table.add_row(*(Text(cell) for cell in cells))
    return table
