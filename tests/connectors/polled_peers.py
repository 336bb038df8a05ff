"""Services that are polled, held in a test's hands: for the contract that all sources keep."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from connectors.http_service import HttpService
from connectors.hubeau import HubeauSource
from connectors.source import ReadingSource
from connectors.timestamps import to_text
from connectors.uk_flood import UkFloodSource
from connectors.usgs import UsgsSource
from tests import hubeau_service, uk_flood_service, usgs_service
from tests.replay_server import ReplayServer

EVERY_S = 0.05
_BEGIN_US = time.time_ns() // 1_000_000_000 * 1_000_000 - 6 * 3_600_000_000


class PolledPeer(ABC):
    """A service at a replay server; what it is given are readings a second apart, six hours ago."""

    keeps = True

    def __init__(self) -> None:
        self.server = ReplayServer()
        self.server.start()
        self._given = 0

    @abstractmethod
    def source(self) -> ReadingSource:
        """Return a new source on this service."""

    @abstractmethod
    def put(self, time_us: int, value: object) -> tuple[str, str]:
        """Have a row; return the entity and the channel that it belongs to."""

    def give(self, count: int) -> Sequence[tuple[str, str, int]]:
        """Have further rows."""
        found = []
        for _ in range(count):
            self._given += 1
            time_us = _BEGIN_US + self._given * 1_000_000
            found.append((*self.put(time_us, self._given), time_us))
        return found

    def give_bad(self) -> None:
        """Have a row whose value is none."""
        self._given += 1
        self.put(_BEGIN_US + self._given * 1_000_000, "a lot")

    def go_away(self) -> None:
        """Refuse connections."""
        self.server.stop()

    def come_back(self) -> None:
        """Take them again."""
        self.server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.close()

    def service(self, url: str) -> HttpService:
        """Return the service at an address of the server."""
        return HttpService(base_url=url, tries=2, timeout_s=10.0)


class UsgsPeer(PolledPeer):
    """The USGS's, in pages of seven."""

    def __init__(self) -> None:
        super().__init__()
        self._usgs = usgs_service.UsgsService(self.server, page_size=7)

    def source(self) -> ReadingSource:
        """See ``PolledPeer.source``."""
        service = self.service(self._usgs.url)
        return UsgsSource(service, [usgs_service.SITE], ["00065"], every_s=EVERY_S, overlap_s=60.0, limits=())

    def put(self, time_us: int, value: object) -> tuple[str, str]:
        """See ``PolledPeer.put``."""
        modified = to_text(time.time_ns() // 1000).rstrip("Z")
        self._usgs.rows.append(usgs_service.value(to_text(time_us).rstrip("Z"), str(value), modified))
        return usgs_service.SITE, "stage"


class UkFloodPeer(PolledPeer):
    """The Environment Agency's."""

    def __init__(self) -> None:
        super().__init__()
        self._flood = uk_flood_service.UkFloodService(self.server)

    def source(self) -> ReadingSource:
        """See ``PolledPeer.source``."""
        return UkFloodSource(self.service(self._flood.url), [uk_flood_service.STATION], every_s=EVERY_S)

    def put(self, time_us: int, value: object) -> tuple[str, str]:
        """See ``PolledPeer.put``."""
        self._flood.rows.append(uk_flood_service.reading(to_text(time_us), value))
        return uk_flood_service.STATION, "stage"


class HubeauPeer(PolledPeer):
    """Hub'Eau, in pages of seven."""

    def __init__(self) -> None:
        super().__init__()
        self._hubeau = hubeau_service.HubeauService(self.server, page_size=7)

    def source(self) -> ReadingSource:
        """See ``PolledPeer.source``."""
        return HubeauSource(self.service(self._hubeau.url), [hubeau_service.STATION], every_s=EVERY_S)

    def put(self, time_us: int, value: object) -> tuple[str, str]:
        """See ``PolledPeer.put``."""
        self._hubeau.rows.append(hubeau_service.observation(to_text(time_us), value))
        return hubeau_service.STATION, "stage"
