"""What every `vedette models` command works on, and how it speaks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType

from models.json_values import json_ready
from models.registry import Registry
from pipeline.alert_words import clean
from pipeline.config import Config
from pipeline.config_streams import StreamConfig
from pipeline.model_shelf import Shelf, look_at

_LEAST_WIDTH = 120
_UNBROKEN = 10_000
"""Columns for what no terminal shows: one line a version, for grep and awk."""


class RefusedError(Exception):
    """What was asked for cannot be done; the text says why, and what can be."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What every command works on."""

    args: argparse.Namespace
    config: Config
    stream: StreamConfig
    registry: Registry
    now: Callable[[], datetime]

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.stream.name

    def shelf(self) -> Shelf:
        """Return what there is now."""
        return look_at(self.registry, self.name)

    def say(self, *parts: RenderableType) -> None:
        """Write to stdout as people read it."""
        width = max(Console().width, _LEAST_WIDTH) if sys.stdout.isatty() else _UNBROKEN
        console = Console(width=width, highlight=False, markup=False)
        for part in parts:
            console.print(part)

    def tell(self, document: dict[str, Any], *lines: str) -> None:
        """Write what was done: JSON where it was asked for, else sentences."""
        if self.args.json:
            sys.stdout.write(json.dumps(json_ready(document), indent=2) + "\n")
        else:
            self.say(*(clean(line) for line in lines))
