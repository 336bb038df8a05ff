"""The models page, from answers to what its template shows: the newest duel, training curves, what may be promoted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.wording import clean
from pipeline.console.rendering import number, percent
from pipeline.console.shapes import Models

_ROLES = ("challenger", "champion", "linear", "river")
_CURVES = 5
_VERSION_SHOWN = 16
"""Characters of a version in a legend: its time to the second."""
_TONES = {"promoted": "good", "shadowed": "other", "kept": "calm", "refused": "watch", "rolled_back": "alert"}
_FIGURES: Sequence[tuple[str, str, int, bool]] = (
    ("crps", "Loss (CRPS)", -1, False),
    ("calibration_error", "Calibration error", -1, True),
    ("coverage_90", "Within the central 90 %", 0, True),
    ("faults_found", "Planted faults found", 1, False),
    ("faults_found_by_alert", "… by an alert", 1, False),
    ("false_alerts", "False alerts", -1, False),
    ("false_watches", "False watches", -1, False),
    ("labels_right", "Operators' labels right", 1, False),
    ("targets", "Targets judged", 0, False),
)
"""Key, name, whether more (1) or less (-1) is better, and whether it is a share."""


def models_view(models: Models) -> dict[str, Any]:
    """Return what the template needs besides what the answer holds."""
    training = models["training"] or {}
    decision = _newest(models["decisions"])
    contenders = _contenders(decision)
    return {
        "models": models,
        "decision": decision,
        "contenders": contenders,
        "figures": _figures(contenders),
        "curves": _curves(models["versions"]),
        "promotable": _promotable(models),
        "running": training.get("running"),
        "last": training.get("last"),
        "next": training.get("next"),
        "drift": training.get("drift"),
    }


def _newest(decisions: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the newest decision that rests on a judgement, or else the newest one."""
    judged = [d for d in decisions if isinstance(d.get("evidence"), Mapping) and d["evidence"].get("contenders")]
    found = next(iter(judged or decisions), None)
    if found is None:
        return None
    against = found["evidence"].get("against") if isinstance(found.get("evidence"), Mapping) else None
    return {**found, "against": against, "tone": _TONES.get(str(found["action"]), "calm")}


def _contenders(decision: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    evidence = decision.get("evidence") if decision is not None else None
    there = evidence.get("contenders") if isinstance(evidence, Mapping) else None
    if not isinstance(there, Mapping):
        return []
    return [{"role": role, **there[role]} for role in _ROLES if isinstance(there.get(role), Mapping)]


def _figures(contenders: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for key, name, better, is_share in _FIGURES:
        values = [_number(contender.get(key)) for contender in contenders]
        known = [value for value in values if value is not None]
        if known:
            best = max(known) if better > 0 else min(known)
            marked = better != 0 and len(known) > 1 and known.count(best) < len(known)
            shown = percent if is_share else number
            cells = [{"text": shown(value), "best": marked and value == best} for value in values]
            rows.append({"name": name, "values": cells})
    return rows


def _curves(versions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the losses by epoch of the newest versions that have some."""
    lines: list[dict[str, Any]] = []
    for entry in versions:
        losses = entry.get("losses") or {}
        validation, train = _numbers(losses.get("validation")), _numbers(losses.get("train"))
        if validation and len(lines) < _CURVES:
            name = clean(str(entry["version"]))[:_VERSION_SHOWN]
            lines.append({"name": name, "validation": validation, "train": train})
    return {"lines": lines, "longest": max((len(line["validation"]) for line in lines), default=0)}


def _promotable(models: Models) -> list[tuple[str, str]]:
    """Return the versions that could be put in charge, and what they are now."""
    versions = [v for v in models["versions"] if not v.get("trouble") and v["version"] != models["champion"]]
    choices = [(str(v["version"]), ", ".join(v.get("roles", ()))) for v in versions]
    return choices + [("linear", "no network")] * (models["champion"] not in (None, "linear"))


def _numbers(values: object) -> list[float | None]:
    return [_number(value) for value in values] if isinstance(values, list) else []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
