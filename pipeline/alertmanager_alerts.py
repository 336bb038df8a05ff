"""What Alertmanager is told of an incident: labels that people route and group by, annotations that they read.

Names come from other people's sensors: they are label values and text, never label names or templates, and are cut
where they are absurdly long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from connectors.alertmanager import Alert
from models.wording import channel_text, number_text, unit_text
from pipeline.incident import AlertMessage, Incident, Json, Phase, rfc3339

_LONGEST_LABEL = 500
_LONGEST_TEXT = 2_000
_LONGEST_SUMMARY = 300
_MOST_CHANNELS = 5
_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z\d])")


@dataclass(frozen=True, slots=True)
class AlertWriter:
    """Writes messages as alerts.

    Args:
        public_url: where people reach the console.
        fires_for_us: how long an alert fires if nothing more is heard of it; longer than the pauses between tellings.
    """

    public_url: str
    fires_for_us: int

    def write(self, message: AlertMessage, now_us: int) -> Alert:
        """Return the alert that says what the message does; an event time in the future becomes now."""
        ended = message.phase in (Phase.RESOLVED, Phase.CORRECTED)
        starts_us = min(message.started_us, now_us)
        until_us = now_us + self.fires_for_us
        if ended:
            over_us = message.time_us if message.resolved_us is None else message.resolved_us
            until_us = max(min(over_us, now_us), starts_us)
        link = incident_link(self.public_url, message.incident_id)
        return Alert(labels(message), _annotations(message, link), rfc3339(starts_us), rfc3339(until_us), link)

    def over(self, message: AlertMessage, now_us: int) -> Alert:
        """Return the alert that ends the one which ``message`` made, for its labels are no longer so."""
        starts_us = min(message.started_us, now_us)
        link = incident_link(self.public_url, message.incident_id)
        return Alert(labels(message), _annotations(message, link), rfc3339(starts_us), rfc3339(now_us), link)


def incident_link(public_url: str, incident: str) -> str:
    """Return where the console shows an incident."""
    return f"{public_url.rstrip('/')}/incidents/{incident}"


def labels(message: AlertMessage) -> dict[str, str]:
    """Return the labels that make the alert what it is; all values are text, cut where too long.

    ``incident`` alone would be enough to tell two of them apart; ``tier`` and ``severity`` may change in an
    incident's life, and the alert with the labels before must be ended then.
    """
    return {
        "alertname": f"Vedette{''.join(part.capitalize() for part in message.kind.split('_'))}",
        "stream": _cut(message.stream, _LONGEST_LABEL),
        "entity": _cut(message.entity, _LONGEST_LABEL),
        "site": _cut(message.site, _LONGEST_LABEL),
        "kind": str(message.kind),
        "name": _cut(message.name, _LONGEST_LABEL),
        "tier": message.tier.name.lower(),
        "severity": str(message.severity),
        "incident": message.incident_id,
    }


def as_message(incident: Incident, now_us: int) -> AlertMessage:
    """Return the newest message of an open incident, as whoever said it would: with its sequence."""
    return AlertMessage(
        incident_id=incident.id,
        phase=Phase.UPDATED if incident.sequence > 1 else Phase.OPENED,
        sequence=max(incident.sequence - 1, 0),
        stream=incident.stream,
        entity=incident.entity,
        kind=incident.kind,
        name=incident.name,
        site=incident.site,
        tier=incident.tier,
        severity=incident.severity,
        time_us=now_us,
        first_step=incident.first_step,
        started_us=incident.started_us,
        opened_us=incident.opened_us,
        resolved_us=None,
        score=incident.score,
        alpha=None,
        reason=incident.reason,
        explanation=incident.explanation,
        model_version="",
        flapping=incident.flapping,
        note="",
        told_us=now_us,
    )


def summary(reason: str) -> str:
    """Return the first sentence of a reason.

    >>> summary("PM2.5 is 182 µg/m³, expected 41 to 77. It looked at 2 h before.")
    'PM2.5 is 182 µg/m³, expected 41 to 77.'
    """
    return _cut(_SENTENCE_END.split(reason, maxsplit=1)[0], _LONGEST_SUMMARY)


def _annotations(message: AlertMessage, link: str) -> dict[str, str]:
    observed, expected = _observed(message.explanation)
    description = f"{message.reason} ({message.note})" if message.note else message.reason
    found = {
        "summary": summary(message.reason),
        "description": _cut(description, _LONGEST_TEXT),
        "link": link,
        "observed": _cut(observed, _LONGEST_TEXT),
        "expected": _cut(expected, _LONGEST_TEXT),
        "score": "" if message.score is None else number_text(message.score),
        "model": message.model_version,
    }
    return {name: text for name, text in found.items() if text}


def _observed(explanation: Mapping[str, Json]) -> tuple[str, str]:
    """Return what was observed and what was expected, in words; empty where the incident is not about values."""
    listed = explanation.get("channels")
    channels = [c for c in listed if isinstance(c, Mapping)] if isinstance(listed, list | tuple) else [explanation]
    telling = [c for c in channels if isinstance(c.get("channel"), str)][:_MOST_CHANNELS]
    observed = [f"{_name(c)} {_value(c, 'observed')}{_unit(c)}" for c in telling if _value(c, "observed")]
    expected = [
        f"{_name(c)} {_value(c, 'lower')} to {_value(c, 'upper')}{_unit(c)}"
        for c in telling
        if _value(c, "lower") and _value(c, "upper")
    ]
    return ", ".join(observed), ", ".join(expected)


def _value(channel: Mapping[str, Json], name: str) -> str:
    """Return one of a channel's numbers in words; empty where there is none."""
    value = channel.get(name)
    return number_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _name(channel: Mapping[str, Json]) -> str:
    return channel_text(str(channel.get("channel")))


def _unit(channel: Mapping[str, Json]) -> str:
    return unit_text(str(channel.get("unit") or ""))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
