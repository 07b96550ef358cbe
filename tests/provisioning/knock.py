"""Knocks at ports: `python knock.py SOURCE TARGET tcp|udp|ping|in PORTS…`, in whatever network it is run; a range is 1-65535.

`tcp` sends the packet that would open a connection to each port, `udp` one packet, and neither waits for an answer: what arrived and
what was let in is seen where it goes; nor does `ping`, whose "port" is the number of its protocol. `in` opens a connection to each port and says which of them stood open.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator

ECHO = {
    socket.AF_INET: bytes.fromhex("0800 f7ff 0000 0000"),
    socket.AF_INET6: bytes.fromhex("8000 0000 0000 0000"),  # the kernel puts in the checksum
}
"""Asks whether anybody is there (RFC 792, RFC 4443 4.1)."""


def main(source: str, target: str, how: str, *ports: str) -> None:
    """Knock."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    if how == "ping":
        with socket.socket(family, socket.SOCK_RAW, int(ports[0].partition("-")[0])) as knocking:
            knocking.bind((source, 0))
            knocking.sendto(ECHO[family], (target, 0))
        return
    if how == "udp":
        with socket.socket(family, socket.SOCK_DGRAM) as knocking:
            knocking.bind((source, 0))
            for port in numbers(ports):
                knocking.sendto(b"x", (target, port))
        return
    for port in numbers(ports):
        with socket.socket(family, socket.SOCK_STREAM) as knocking:
            knocking.bind((source, 0))
            if how == "in":
                knocking.settimeout(60)
                knocking.connect((target, port))
                print(port)
                continue
            knocking.setblocking(False)
            answer = knocking.connect_ex((target, port))
            assert answer in (0, errno.EINPROGRESS, errno.ECONNREFUSED), errno.errorcode[answer]


def numbers(ports: tuple[str, ...]) -> Iterator[int]:
    """The ports of each range."""
    for each in ports:
        first, _, last = each.partition("-")
        yield from range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
