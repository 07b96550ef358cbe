"""What the line of support says to whoever looks whether it still lives."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import Transient
from appliance.fleet import line

TOLD = {
    "seconds": 3600,
    "dialling": "a key",
    "own": "another",
    "authority": "a third",
    "principals": ["appliance-diagnose"],
    "host": "vendor.example",
    "port": 22,
    "host_key": "theirs",
    "user": "boxes",
    "forward_port": 2223,
}


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that systemd reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reads:
        reads.bind(str(tmp_path / "notify"))
        reads.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield reads


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[socket.socket]:
    """Where the desk listens."""
    with socket.socket(socket.AF_UNIX) as listens:
        listens.bind(str(tmp_path / "desk"))
        listens.listen()
        listens.settimeout(60)
        yield listens


def test_a_line_says_that_it_lives_each_time_that_it_comes_round(
    tmp_path: Path, desk: socket.socket, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that hangs is silent, and only so can systemd know it; and what the line starts speaks for nobody."""
    given: list[Mapping[str, str]] = []

    def stand_in(_: list[str], *, env: Mapping[str, str], **options: Any) -> subprocess.Popen[bytes]:
        given.append(env)
        return started(["sleep", "3600"], env=env, **options)

    started = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", stand_in)
    codes: list[int] = []
    runs = threading.Thread(target=lambda: codes.append(line.run(tmp_path / "desk")), daemon=True)
    runs.start()
    held, _ = desk.accept()
    with held:
        assert systemd.recv(4096).startswith(b"READY=1"), "before anything that may take long"
        assert json.loads(held.recv(4096)) == {"ask": "line"}
        held.sendall(json.dumps(TOLD).encode() + b"\n")
        assert [systemd.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    runs.join(60)
    assert codes == [0]
    assert given and not [each for each in given if "NOTIFY_SOCKET" in each]


def test_a_line_that_finds_no_session_has_begun_all_the_same(
    tmp_path: Path, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end before READY=1 would be a failure to its unit, which starts it again until there is a session."""
    monkeypatch.setattr(line, "WITHOUT_DESK_SECONDS", 0)
    with pytest.raises(Transient):
        line.run(tmp_path / "nobody")
    assert systemd.recv(4096).startswith(b"READY=1")
