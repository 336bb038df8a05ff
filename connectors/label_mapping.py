"""Labels of a series (tags, attributes) to its entity, and to what its channel's name has behind it.

Every label has a place, so that no two series become one: some make the entity, some are ignored because they tell no
two series apart, and the rest stands behind the channel, as in ``usage{cpu="cpu0"}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from connectors.codec_json import LONGEST_NAME
from connectors.reading import Reason
from connectors.refusal import Refusal, shortened


class Place(NamedTuple):
    """Where the readings of a series belong."""

    entity: str
    suffix: str
    """Behind the channel's name; often empty."""

    def channel(self, name: str) -> str:
        """Return the channel of what the series calls ``name``."""
        return name + self.suffix


@dataclass(frozen=True, slots=True)
class LabelMapping:
    """Which labels make the entity, and which are ignored."""

    entity: tuple[str, ...] = ()
    """Their values, joined by ``/`` in this order, are the entity; those that a series lacks are left out. Empty: all
    that are not ignored, in the order of their names."""
    ignore: tuple[str, ...] = ()

    def place(self, labels: Mapping[str, str], otherwise: str = "") -> Place | Refusal:
        """Return where a series with ``labels`` belongs; ``otherwise`` is the entity of one without labels.

        >>> LabelMapping(("site",), ("job",)).place({"site": "dock", "job": "x", "depth": "3"})
        Place(entity='dock', suffix='{depth="3"}')
        """
        names = self.entity or tuple(sorted(labels.keys() - set(self.ignore)))
        entity = "/".join(labels[name] for name in names if labels.get(name)) or ("" if self.entity else otherwise)
        if not entity:
            wanted = " or ".join(self.entity) or "any label"
            return Refusal(Reason.MISSING_KEY, f"no {wanted} to take the entity from; it has {_named(labels)}")
        if len(entity) > LONGEST_NAME:
            detail = f"the entity {shortened(entity)} has {len(entity)} characters; allowed: at most {LONGEST_NAME}"
            return Refusal(Reason.WRONG_TYPE, detail)
        used = {*names, *self.ignore}
        rest = ",".join(f'{name}="{labels[name]}"' for name in sorted(labels) if name not in used)
        return Place(entity, f"{{{rest}}}" if rest else "")


def _named(labels: Mapping[str, str]) -> str:
    return shortened(", ".join(sorted(labels)), 120) if labels else "no labels"
