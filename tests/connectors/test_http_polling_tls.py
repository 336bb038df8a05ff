"""TLS to services that are polled: a private authority is trusted where it is named, and keys go to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.errors import SourceUnavailable
from connectors.http_polling import Poller
from connectors.http_service import HttpService
from connectors.rate_limiting import RateLimiter
from tests.connectors.polled_outlet import QuickOutlet
from tests.connectors.test_http_post_tls import Authority
from tests.replay_server import ReplayServer, json_reply


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the service's certificate is from."""
    return Authority(tmp_path_factory.mktemp("ours") / "ca")


@pytest.fixture
def service(ours: Authority) -> Iterator[ReplayServer]:
    """A service that speaks TLS, and only that."""
    made = ReplayServer(ours.server())
    made.on("/items", json_reply({"next": f"http://127.0.0.1:{made.port}/items"}))
    made.start()
    yield made
    made.close()


def ask(service: ReplayServer, ca_file: Path | None, links: list[str]) -> None:
    """Ask for each link, with a key."""
    http = HttpService(base_url=service.url, key="a-key", ca_file=ca_file, tries=1)
    with Poller(http, QuickOutlet(), RateLimiter()) as poller:
        for link in links:
            assert isinstance(poller.get(link).document(), dict)


def test_the_named_authority_is_trusted(service: ReplayServer, ours: Authority) -> None:
    """Protects mirrors of one's own; a link that forgets TLS is asked with it all the same."""
    ask(service, ours.file, ["items", f"http://127.0.0.1:{service.port}/items"])
    assert [one.headers["x-api-key"] for one in service.asked] == ["a-key"] * 2


def test_nobody_else_is(service: ReplayServer) -> None:
    """Protects the key: it is not sent to whom nobody vouches for, and people are told why."""
    with pytest.raises(SourceUnavailable, match=r"certificate is not trusted: .*ca_file names who else is"):
        ask(service, None, ["items"])
    assert service.asked == []
