"""Who tells a machine in QEMU the time: a server of the clinic's own, on a cable of its own, whose word is this machine's clock.

QEMU's own network lets no datagram out that it was not told of, and a container has no clock to set.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from tests.image.promises import kept
from tests.provisioning.machine import Machine, run, running

CABLE = "box-time"
HERE, THERE = "192.0.2.1", "192.0.2.2"
PORT = 123
CLIENT, SERVER = 3, 4
"""Modes of a datagram (RFC 5905, 7.3)."""
SLOW_SECONDS = 90
"""How far its clock is behind when it is switched on: more than chrony slews, and less than a start takes here."""

_SINCE_1900 = 2_208_988_800
"""Seconds from NTP's first second to that of Unix (RFC 5905, 6)."""


def behind() -> str:
    """The hour that its clock begins with, as QEMU's `-rtc` has it."""
    return (datetime.now(UTC) - timedelta(seconds=SLOW_SECONDS)).strftime("%Y-%m-%dT%H:%M:%S")


@contextmanager
def told() -> Iterator[None]:
    """The cable, and who answers on it."""
    run("ip", "link", "delete", CABLE, check=False, stderr=subprocess.DEVNULL)  # of a run that was killed
    run("ip", "tuntap", "add", CABLE, "mode", "tap")
    try:
        run("ip", "addr", "add", f"{HERE}/24", "dev", CABLE)
        run("ip", "link", "set", CABLE, "up")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((HERE, PORT))
            server.settimeout(1)
            over = threading.Event()
            thread = threading.Thread(target=_serve, args=(server, over))
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join()
    finally:
        run("ip", "link", "delete", CABLE, check=False)


def _serve(server: socket.socket, over: threading.Event) -> None:
    while not over.is_set():
        try:
            asked, who = server.recvfrom(1024)
        except TimeoutError:
            continue
        if len(asked) >= 48 and asked[0] & 7 == CLIENT:
            with suppress(OSError):  # it may have gone down; it asks again
                server.sendto(answer(asked, time.time()), who)


def answer(asked: bytes, now: float) -> bytes:
    """What a server of stratum 1 says at `now` (seconds of Unix) to a client's 48 octets (RFC 5905, 7.3)."""
    stamp = struct.pack(">II", int(now) + _SINCE_1900, int(now % 1 * (1 << 32)))
    its_version = asked[0] & 0b111000
    return (
        struct.pack(">BBbbII4s", its_version | SERVER, 1, asked[2] & 0x3F, -20, 0, 1 << 4, b"TEST")
        + stamp  # when it was set
        + asked[40:48]  # when the client sent
        + stamp  # when that came
        + stamp  # when this goes
    )


def difference_seconds(box: Machine) -> tuple[float, float]:
    """By how much the machine's clock is ahead of this one's, at least and at most: asking takes a while."""
    early = time.time()
    there = float(box.inside("date +%s.%N"))
    return there - time.time(), there - early


def begins_slow(box: Machine) -> None:
    least, most = difference_seconds(box)
    kept(
        f"its clock is {-most:.0f} to {-least:.0f} s slow, and nobody tells it",
        most < -SLOW_SECONDS / 2,
        f"{least} {most}",
    )


def keeps_time(box: Machine) -> None:
    """chrony runs where there is a clock to keep, and follows the server that was named."""
    kept("chrony runs", running(box, "chrony.service"))
    box.wait_until("chronyc -n tracking | grep -q 'Leap status *: Normal'")
    sources = box.inside("chronyc -n sources")
    kept("and follows the server that was named, and no other", followed(sources) == [HERE], sources)
    least, most = difference_seconds(box)
    kept("its clock tells the server's hour", least < 1 and most > -1, f"{least} {most}")
    kept("from a clock of its own", "rtc" in box.inside("cat /sys/class/rtc/rtc0/name"))


def followed(sources: str) -> list[str]:
    """Of what chronyc tells: who is asked, where one of them is followed; otherwise nobody."""
    asked = [line.split()[:2] for line in sources.splitlines() if line.startswith("^")]
    return [who for _, who in asked] if any(mark == "^*" for mark, _ in asked) else []
