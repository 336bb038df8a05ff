"""The page of sites, from answers to what its template draws: two maps, one for narrow screens, and a list beside them.

Maps are SVG made here: nothing is loaded from outside, and they work without a script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from models.wording import clean
from pipeline.console.answers import Answers
from pipeline.console.site_answers import Map, Sheet, SiteQuery
from pipeline.console.site_box import box_of, coordinates_text
from pipeline.console.site_index import STATES
from pipeline.console.site_map import Mark, View, graticule, labels, scale_bar
from pipeline.console.site_shapes import SiteLine

TONES = {"unknown": "calm", "ok": "good", "silent": "other", "watch": "watch", "alert": "alert"}
_WORDS = {"alert": "Alert", "watch": "Watch", "silent": "Silent", "ok": "OK", "unknown": "Not measured"}
_WIDE, _NARROW = Sheet(1000, 660, 420), Sheet(360, 430, 90)
_LINES = 20
_LONGEST_LABEL = 26
_LEAST_ARC = 14.0
"""Percent of a ring: one alert among a thousand sites has to be seen."""
_MOVES = (("Left", "←", -0.4, 0.0), ("Right", "→", 0.4, 0.0), ("Up", "↑", 0.0, 0.4), ("Down", "↓", 0.0, -0.4))


def sites_view(answers: Answers, chosen: Mapping[str, str], offset: int) -> dict[str, Any]:
    """Return what the template needs.

    Args:
        answers: who is asked.
        chosen: what the address asks for: ``search``, ``state``, ``source``, ``box``; empty where it asks for nothing.
        offset: so many of the list's first are left out.

    Raises:
        Trouble: if there is no answer.
    """
    box = box_of(chosen["box"]) if chosen["box"] else None
    query = SiteQuery(chosen["search"], chosen["state"], chosen["source"], box, offset, _LINES)
    page, maps = answers.site_maps(query, (_WIDE, _NARROW))
    streams = list(answers.sources.streams)
    drawn = [_drawn(each, chosen, streams) for each in maps if each is not None]
    return {
        **page,
        "lines": [_line(line, streams) for line in page["sites"]],
        "chosen": chosen,
        "asked": any(chosen.values()),
        "address": f"{_address(chosen)}&",
        "states": _states(page["counts"], chosen),
        "maps": dict(zip(("wide", "narrow"), drawn, strict=False)),
        "moves": [] if maps[0] is None else _moves(maps[0].view, chosen),
    }


def _states(counts: Mapping[str, int], chosen: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the filters by state, which are the map's legend too."""
    every = {"key": "", "words": "All", "tone": "calm", "count": sum(counts.values())}
    listed = [every] + [
        {"key": state, "words": _WORDS[state], "tone": TONES[state], "count": counts[state]}
        for state in reversed(STATES)
    ]
    return [
        each | {"address": _address(chosen, state=str(each["key"])), "current": each["key"] == chosen["state"]}
        for each in listed
    ]


def _moves(view: View, chosen: Mapping[str, str]) -> list[dict[str, str]]:
    nearer, farther = str(view.box(2.0)), str(view.box(0.5))
    moves = [("Nearer", "+", nearer), ("Farther", "−", farther)]
    moves += [(words, sign, str(view.box(1.0, right, up))) for words, sign, right, up in _MOVES]
    return [{"words": w, "sign": s, "address": _address(chosen, box=box)} for w, s, box in moves]


def _drawn(shown: Map, chosen: Mapping[str, str], streams: Sequence[str]) -> dict[str, Any]:
    view = shown.view
    meridians, parallels = graticule(view)
    names = [_label(line) if mark.count == 1 else "" for mark, line in zip(shown.marks, shown.lines, strict=True)]
    bar_px, bar_text = scale_bar(view, 0.25 * view.width)
    return {
        "width": view.width, "height": view.height, "meridians": meridians, "parallels": parallels,
        "marks": [_mark(mark, line, chosen, streams) for mark, line in zip(shown.marks, shown.lines, strict=True)],
        "labels": labels(view, shown.marks, names), "bar_px": bar_px, "bar_text": bar_text,
    }  # fmt: skip


def _mark(mark: Mark, line: SiteLine, chosen: Mapping[str, str], streams: Sequence[str]) -> dict[str, Any]:
    state = STATES[mark.worst]
    known: dict[str, Any] = {"x": mark.x, "y": mark.y, "count": mark.count, "state": state, "tone": TONES[state]}
    if mark.count == 1:
        title = f"{_title(line)}: {_WORDS[state].lower()}"
        return known | {"title": title, "address": _entity_address(line, streams)}
    told = ", ".join(
        f"{mark.counts[i]} {_WORDS[STATES[i]].lower()}" for i in reversed(range(len(STATES))) if mark.counts[i]
    )
    return known | {
        "title": f"{mark.count} sites: {told}", "address": _address(chosen, box=str(mark.box)),
        "radius": mark.radius, "arcs": _arcs(mark), "words": _short(mark.count),
    }  # fmt: skip


def _arcs(mark: Mark) -> list[dict[str, Any]]:
    """Return the share of each state of a ring, in percent; the rarest is still seen."""
    shares = [max(100 * n / mark.count, _LEAST_ARC) if n else 0.0 for n in mark.counts]
    scale, begins, arcs = 100 / sum(shares), 0.0, []
    for i in reversed(range(len(STATES))):
        if shares[i]:
            arcs.append({"tone": TONES[STATES[i]], "share": round(shares[i] * scale, 1), "begins": round(-begins, 1)})
            begins += shares[i] * scale
    return arcs


def _line(line: SiteLine, streams: Sequence[str]) -> dict[str, Any]:
    return {
        **line, "tone": TONES[line["state"]], "words": _WORDS[line["state"]].lower(),
        "address": _entity_address(line, streams), "where": coordinates_text(line["latitude"], line["longitude"]),
    }  # fmt: skip


def _title(line: SiteLine) -> str:
    name, entity = clean(line["name"]), clean(line["entity"])
    return f"{name} ({entity})" if name and name != entity else entity


def _label(line: SiteLine) -> str:
    text = clean(line["name"] or line["entity"])
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


def _short(count: int) -> str:
    """Return a number as it fits into a mark.

    >>> _short(999), _short(1_250), _short(26_400)
    ('999', '1.2k', '26k')
    """
    if count < 1_000:
        return str(count)
    return f"{count / 1_000:.1f}k" if count < 10_000 else f"{count // 1_000}k"


def _entity_address(line: SiteLine, streams: Sequence[str]) -> str:
    """Return the address of an entity's page; of the first stream where none measures it, for it may have a past."""
    stream = line["stream"] or next(iter(streams), "")
    if not stream:
        return f"/sites?{urlencode({'search': line['entity']}, errors='replace')}"
    return f"/entities?{urlencode({'stream': stream, 'entity': line['entity']}, errors='replace')}"


def _address(chosen: Mapping[str, str], **other: str) -> str:
    asked = {name: text for name, text in {**chosen, **other}.items() if text}
    return f"/sites?{urlencode(asked, errors='replace')}"
