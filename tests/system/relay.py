"""A line that carries so many bytes and no more: a transfer stands still in its middle until the test has looked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress


@contextmanager
def line_that_stalls(to: int, *, after_bytes: int) -> Iterator[int]:
    """The port of a line to port `to` of this machine; what is sent beyond `after_bytes` is lost on the way."""
    with ExitStack() as ends:
        listener = ends.enter_context(socket.create_server(("127.0.0.1", 0)))

        def carry(source: socket.socket, target: socket.socket, most: int) -> None:
            left = most
            with suppress(OSError):
                while piece := source.recv(65536):
                    target.sendall(piece[:left])
                    left -= min(left, len(piece))
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    far = socket.create_connection(("127.0.0.1", to))
                    ends.callback(_end, near)
                    ends.callback(_end, far)
                    threading.Thread(target=carry, args=(near, far, after_bytes), daemon=True).start()
                    threading.Thread(target=carry, args=(far, near, 1 << 40), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(
            socket.SHUT_RDWR
        )  # a close alone would leave a thread in `recv`, and the other side in doubt
    end.close()
