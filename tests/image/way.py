"""The way that an update asks by, on this machine: `update_way.py` at a socket that is handed to it, and `update_bridge.py` before it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parents[2] / "image-build/mkosi.extra/usr/lib/appliance"
RELAY, BRIDGE = PROGRAMS / "update_way.py", PROGRAMS / "update_bridge.py"
SOCKET = "/run/update-way"


@dataclass
class Way:
    """A relay that runs, its socket, and what it says."""

    process: subprocess.Popen[bytes]
    place: Path
    journal: Path
    first: socket.socket

    def said(self) -> list[str]:
        """Its lines of the journal."""
        return self.journal.read_text().splitlines()

    def most_bytes(self) -> int:
        """The most memory that it has had at once."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (each for each in status.splitlines() if each.startswith("VmHWM:"))
        return int(line.split()[1]) << 10


@contextmanager
def relay(
    altered: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    asks: str = "",
) -> Iterator[Way]:
    """As systemd starts it, with a socket; `altered` are constants of its own that shall be otherwise. `asks` is said at it before, by `first`.

    Nobody here starts it again: so it waits for the next who asks, however long a test takes between two, unless that is altered.
    """
    with (
        tempfile.TemporaryDirectory(prefix="way") as folder,
        socket.socket(socket.AF_UNIX) as listening,
        socket.socket(socket.AF_UNIX) as first,
    ):
        place, journal = Path(folder) / "way", Path(folder) / "journal"
        listening.bind(str(place))
        listening.listen()
        if asks:
            first.connect(str(place))
            first.sendall(asks.encode())
        text = RELAY.read_text()
        constants = {"IDLE_SECONDS": 86_400, **(altered or {}), "HANDED_OVER": listening.fileno()}
        for name, value in constants.items():
            (line,) = (each for each in text.splitlines() if each.startswith(f"{name} = "))
            text = text.replace(f"{line}\n", f"{name} = {value}\n", 1)
        with (
            journal.open("wb") as says,
            subprocess.Popen(
                [sys.executable, "-I", "-c", text],
                pass_fds=[listening.fileno()],
                env={**os.environ, **(environment or {})},
                stderr=says,
            ) as process,
        ):
            try:
                yield Way(process, place, journal, first)
            finally:
                process.kill()


def bridge_to(place: Path) -> str:
    """The text of the bridge that leads there."""
    text = BRIDGE.read_text()
    assert text.count(f'"{SOCKET}"') == 1
    return text.replace(SOCKET, str(place))


@contextmanager
def bridge(place: Path, address: str, under: Sequence[str] = ()) -> Iterator[str]:
    """The address at which `address` is asked by the relay at `place`. `under` are the words that begin its command."""
    with subprocess.Popen(["sleep", "infinity"]) as life:
        try:
            command = [*under, sys.executable, "-I", "-c", bridge_to(place), address, str(life.pid)]
            yield subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        finally:
            life.kill()


@contextmanager
def way(address: str) -> Iterator[str]:
    """Both."""
    with relay() as found, bridge(found.place, address) as asked:
        yield asked
