"""Gives `update`, which has no network of its own, an address of this machine at which it asks the vendor's server.

    update_bridge.py ADDRESS PROCESS

Prints ``http://127.0.0.1:PORT``, and answers there for as long as PROCESS runs, in the network that it was started in. Each connection is joined, byte for byte,
to one of `update_way.py`, which learns ADDRESS before the first of them, and reads what the world says.

Chose the life of a process because nothing else is sure: whoever kills `update` leaves nothing behind that listens.
"""

import contextlib
import os
import select
import socket
import socketserver
import sys
import threading

WAY = "/run/update-way"
PIECE_BYTES = 1 << 16
NOWHERE = b"HTTP/1.0 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


class Crossing(socketserver.BaseRequestHandler):
    """One request."""

    def handle(self) -> None:
        """Join both ends, until either has said all."""
        with socket.socket(socket.AF_UNIX) as way:
            try:
                way.connect(WAY)
                way.sendall(f"{sys.argv[1]}\n".encode())
            except OSError as error:
                say(f"{WAY}: {error}: see what systemctl status update-way.socket update-way.service says")
                self.request.recv(PIECE_BYTES)
                self.request.sendall(NOWHERE)
                return
            other = {self.request: way, way: self.request}
            while True:
                for each in select.select(list(other), [], [])[0]:
                    if not (piece := each.recv(PIECE_BYTES)):
                        return
                    other[each].sendall(piece)


class Bridge(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """At a port of this machine's own network."""

    daemon_threads = True
    request_queue_size = 16

    def handle_error(self, request: object, client_address: object) -> None:
        """An end that has ended in the middle is nothing to say: its program does."""


def say(what: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{what}\n".encode())


def main() -> int:
    """Start, say where, and go on behind."""
    ends = os.pidfd_open(int(sys.argv[2]))
    with Bridge(("127.0.0.1", 0), Crossing) as bridge:
        print(f"http://127.0.0.1:{bridge.server_address[1]}", flush=True)
        if os.fork():
            return 0
        nothing = os.open(os.devnull, os.O_RDWR)
        for each in (0, 1):  # whoever reads what was printed waits for its end
            os.dup2(nothing, each)
        threading.Thread(target=bridge.serve_forever, daemon=True).start()
        select.select([ends], [], [])
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
