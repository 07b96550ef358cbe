"""Calls out of a network as another account: `python calling.py NUMBER tcp|udp|in SOURCE TARGET PORTS [tcp|udp|in …]`, PORTS with commas.

`tcp` sends the packet that would open a connection to each port, `udp` one packet, and neither waits for an answer: what has come is seen where it
goes. `in` waits for what it is told there, and says it, or with which error it ended.
"""

from __future__ import annotations

import os
import socket
import sys

WAITS_SECONDS = 30


def main(number: str, *asked: str) -> None:
    """Become the account, and call."""
    os.setegid(int(number))
    os.seteuid(int(number))
    for at in range(0, len(asked), 4):
        how, source, target, ports = asked[at : at + 4]
        for port in map(int, ports.split(",")):
            call(how, source, target, port)


def call(how: str, source: str, target: str, port: int) -> None:
    """Once."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if how == "udp" else socket.SOCK_STREAM) as calling:
        calling.bind((source, 0))
        calling.settimeout(WAITS_SECONDS if how == "in" else 0)
        try:
            calling.connect((target, port))
            if how == "udp":
                calling.send(b"x")
            elif how == "in":
                print(calling.recv(5).decode())
        except BlockingIOError:
            pass
        except OSError as error:  # the rules say so at once
            if how == "in":
                print(type(error).__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
