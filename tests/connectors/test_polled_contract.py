"""Protects what every source owes, over each service that is polled for water."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.ingest.source_contract import CHECKS, Check
from tests.connectors.polled_peers import HubeauPeer, PolledPeer, UkFloodPeer, UsgsPeer


@pytest.mark.parametrize("peer", [UsgsPeer, UkFloodPeer, HubeauPeer])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_is_kept(check: Check, peer: type[PolledPeer], tmp_path: Path) -> None:
    """Protects readings from being lost, doubled or held up, whatever happens on either side."""
    with peer() as here:
        check(here, tmp_path)
