"""Joins standard input and output with a port of this machine: what QEMU starts for each connection that leaves the box."""

from __future__ import annotations

import os
import socket
import sys
import threading


def main() -> None:
    """Until either side ends; the port is the one argument."""
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as line:

        def asked() -> None:
            while block := os.read(0, 1 << 16):
                line.sendall(block)
            line.shutdown(socket.SHUT_WR)

        threading.Thread(target=asked, daemon=True).start()
        while block := line.recv(1 << 16):
            while block:
                block = block[os.write(1, block) :]


if __name__ == "__main__":
    main()
