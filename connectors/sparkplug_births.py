"""What the births of one Sparkplug edge node said: its metrics and those of its devices, by name and by alias."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Born:
    """What a birth said of a metric."""

    name: str
    datatype: int | None
    unit: str
    alias: int | None = None


@dataclass(slots=True)
class Node:
    """One edge node; births by device, the node itself being the device ""."""

    next_seq: int | None = None
    bd_seq: float | None = None
    missed: bool = True
    """Whether something was missed since its birth, or the birth itself: aliases may mean something else."""
    asked_us: int | None = None
    by_name: dict[str, dict[str, Born]] = field(default_factory=dict)
    by_alias: dict[int, Born] = field(default_factory=dict)
    size: int = 0
    """Devices and metrics."""

    def learn(self, device: str, born: Born) -> None:
        """Learn a metric of a device; what was known under its name is forgotten."""
        names = self.by_name[device]
        self._forget_alias(names.get(born.name))
        self.size += born.name not in names
        names[born.name] = born
        if born.alias is not None:
            self.by_alias[born.alias] = born

    def begin(self, device: str) -> None:
        """Know a device, and none of its metrics yet."""
        self.by_name[device] = {}
        self.size += 1

    def forget(self, device: str) -> dict[str, Born]:
        """Forget a device, and return what its birth had said."""
        names = self.by_name.pop(device, None)
        if names is None:
            return {}
        self.size -= 1 + len(names)
        for born in names.values():
            self._forget_alias(born)
        return names

    def forget_all(self) -> None:
        """Forget all devices, and the node's own metrics."""
        self.by_name.clear()
        self.by_alias.clear()
        self.size = 0

    def _forget_alias(self, born: Born | None) -> None:
        if born is not None and born.alias is not None and self.by_alias.get(born.alias) is born:
            del self.by_alias[born.alias]
