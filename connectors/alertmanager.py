"""Alertmanager's API v2: alerts are told as a state, by their labels, and said again as long as they fire."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.errors import ReceiverRefused, ReceiverUnavailable
from connectors.http_post import Answer, HttpPoster

_PATH = "/api/v2/alerts"
_NOT_ABOUT_THE_ALERTS = (401, 403, 404, 405)
"""A wrong address, or a wall before it: a person can mend that, so giving up every alert for it would be wrong."""
_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as Alertmanager knows it. What has the same labels is the same alert.

    Times are RFC 3339. ``ends`` in the future: it fires until then, unless it is said again; in the past: it is over.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts: str
    ends: str
    link: str = ""


class Alertmanager:
    """One instance of an Alertmanager. For one thread; ``abort`` may be called from any.

    Args:
        url: where its web page is, without ``/api``.
        timeout_s: of a whole exchange.
        ca_file: PEM with the authorities that its certificate is checked against; None: the system's.

    Raises:
        Misconfigured: if the address or the file cannot be used.
    """

    def __init__(self, url: str, timeout_s: float, ca_file: Path | None = None) -> None:
        self._poster = HttpPoster(url.rstrip("/") + _PATH, timeout_s, ca_file)

    def post(self, alerts: Sequence[Alert]) -> Answer:
        """Tell it of alerts, in this order, and return the answer, which is a good one.

        Raises:
            ReceiverUnavailable: if they may be taken later.
            ReceiverRefused: if one of them never will be; which one is not said, and the others may have been taken.
        """
        answer = self._poster.post(encode_alerts(alerts), _HEADERS)
        if answer.status in _NOT_ABOUT_THE_ALERTS:
            raise ReceiverUnavailable(f"answers {answer.status}: {answer.text}", "failing", answer.retry_after_s)
        answer.check()
        return answer

    def post_each(self, alerts: Sequence[Alert]) -> dict[int, str]:
        """Tell it of alerts one by one; return those that it refuses, by their place, with what it said.

        Raises:
            ReceiverUnavailable: if one of them may be taken later.
        """
        refused: dict[int, str] = {}
        for place, alert in enumerate(alerts):
            try:
                self.post([alert])
            except ReceiverRefused as error:
                refused[place] = str(error)
        return refused

    def abort(self) -> None:
        """End an exchange that is under way, and let no other begin."""
        self._poster.abort()

    def close(self) -> None:
        """Let go of the connection; in the thread that posted."""
        self._poster.close()


def encode_alerts(alerts: Sequence[Alert]) -> bytes:
    """Return the body of a request; labels that are empty are left out, as Alertmanager would."""
    listed = [
        {
            "labels": {name: _text(value) for name, value in alert.labels.items() if value},
            "annotations": {name: _text(value) for name, value in alert.annotations.items() if value},
            "startsAt": alert.starts,
            "endsAt": alert.ends,
        }
        | ({"generatorURL": alert.link} if alert.link else {})
        for alert in alerts
    ]
    return json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode()


def _text(value: str) -> str:
    """Return what UTF-8 can say of a text: unpaired surrogates are written as question marks."""
    return value.encode("utf-8", "replace").decode()
