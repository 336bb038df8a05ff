"""The city's air: airRohr stations push as their firmware does, and an office pushes for the NO2 monitors."""

from __future__ import annotations

import base64
import http.client
import json
from collections import Counter

from pipeline.city_scene import AIR_CHANNELS, PLACES, CityScene
from pipeline.incident import rfc3339

CITIZENS, OFFICE = "citizens", "office"
_PATIENCE_S = 60.0
_SENT_AS = {
    "pm25": "SDS_P2", "pm10": "SDS_P1", "temperature": "BME280_temperature", "humidity": "BME280_humidity",
}  # fmt: skip
"""What the firmware calls them."""
_TRIES = 5


class PushFailed(Exception):
    """A station was not listened to; the text says what the answer was."""


class CityAir:
    """Pushes a scene step by step over two connections that are kept. Not for use from two threads at once.

    Args:
        port: where ``vedette ingest`` listens on this machine.
        scene: what there is to measure.
        secrets: of ``CITIZENS`` and of ``OFFICE``.
    """

    def __init__(self, port: int, scene: CityScene, secrets: dict[str, str]) -> None:
        self._scene = scene
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
        basic = base64.b64encode(f"{CITIZENS}:{secrets[CITIZENS]}".encode()).decode()
        self._as_citizens = {"Content-Type": "application/json", "Authorization": f"Basic {basic}"}
        self._as_office = {"Content-Type": "application/json", "Authorization": f"Bearer {secrets[OFFICE]}"}
        self.pushed: Counter[str] = Counter()
        """Readings that were taken, by channel."""

    def push(self, step: int) -> None:
        """Push what all stations measured in a step; the time is that of whoever takes it, or said.

        Raises:
            PushFailed: if that is refused, or nobody listens.
        """
        values = dict(zip(AIR_CHANNELS, self._scene.air[:, step].T.tolist(), strict=True))  # channel to [P]
        for place, name in enumerate(PLACES):
            sent = [{"value_type": _SENT_AS[c], "value": f"{values[c][place]:.1f}"} for c in _SENT_AS]
            document = {"raspiid": name, "software_version": "NRZ-2024-135", "sensordatavalues": sent}
            self._post("/airrohr", document, self._as_citizens)
            self.pushed.update(list(_SENT_AS))
        time = rfc3339(int(self._scene.times_us[step]))
        readings = [
            {"entity": name, "channel": "no2", "time": time, "value": value, "unit": "ug/m3"}
            for name, value in zip(PLACES, values["no2"], strict=True)
        ]
        self._post("/api/readings", readings, self._as_office)
        self.pushed["no2"] += len(readings)

    def measured(self, channel: str, place: int, step: int) -> float:
        """Return what a place's station measured in a step."""
        return float(self._scene.air[place, step, AIR_CHANNELS.index(channel)])

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _post(self, path: str, document: object, headers: dict[str, str]) -> None:
        body = json.dumps(document)
        for _ in range(_TRIES):
            try:
                self._connection.request("POST", path, body, headers)
                answer = self._connection.getresponse()
                said = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()  # a kept connection that was hung up: the next try opens another
                failure = str(error)
                continue
            if 200 <= answer.status < 300:
                return
            raise PushFailed(f"POST {path} is answered {answer.status}: {said[:300].decode('utf-8', 'replace')}")
        raise PushFailed(f"POST {path}: nobody listens: {failure}")
