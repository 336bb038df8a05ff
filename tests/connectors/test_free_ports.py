"""Free ports: nobody listens there, and the system gives them to nobody else before whoever is told has started."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from connectors import free_ports
from connectors.free_ports import free_port


def test_each_call_gives_another_port_that_can_be_listened_on() -> None:
    """Protects two servers of one process from each other, though neither listens yet when the second asks."""
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    for port in ports:
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))


def test_the_system_gives_none_of_them_away() -> None:
    """Protects a server that starts slowly: whoever listens on port 0, or connects, gets another port meanwhile."""
    begins = free_ports._system_begins()
    if begins - free_ports._FIRST < free_ports._FEWEST:
        pytest.skip("this system gives away nearly all ports by itself")
    assert all(port < begins for port in (free_port() for _ in range(50)))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        assert server.getsockname()[1] >= begins


def test_a_port_where_somebody_listens_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects whoever listens already: the next free one is given."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setattr(free_ports, "_given", {})  # so that the same candidates come again
        assert taken not in [free_port() for _ in range(200)]


def test_processes_that_ask_at_the_same_time_get_different_ports() -> None:
    """Protects tests that run side by side."""
    command = [sys.executable, "-c", "from connectors.free_ports import free_port; print(free_port(), free_port())"]
    root = Path(__file__).parents[2]
    both = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    ports = [port for process in both for port in process.communicate()[0].split()]
    assert len(set(ports)) == 6


def test_where_the_system_takes_all_it_chooses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects systems that are set up otherwise, or say nothing: a port is found there too."""
    (tmp_path / "range").write_text("1024\t65000\n", encoding="ascii")
    for path in (tmp_path / "range", tmp_path / "nothing"):
        monkeypatch.setattr(free_ports, "_RANGE", path)
        with socket.socket() as server:
            server.bind(("127.0.0.1", free_port()))
