"""A TCP relay that can be cut: what stands between the box and its cloud when an excavator finds the cable.

Chose a relay over stopping the S3 server, because the server keeps its objects in memory and must come back with them.
"""

import selectors
import socket
import threading
from contextlib import suppress


class Cable:
    """Relays connections from a port of 127.0.0.1 to another; `cut` breaks all of them and refuses new ones.

    Args:
        to: The port of 127.0.0.1 to relay to.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._listener)

    def cut(self) -> None:
        """Break every connection and stop listening."""
        with self._lock:
            if self._listener is not None:
                with suppress(OSError):
                    self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
                self._listener = None
            for pair in self._pairs:
                for end in pair:
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Listen again, on the same port."""
        with self._lock:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._start(self._listener)

    def _start(self, listener: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the listener is closed by `cut`
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to), timeout=10)
                except OSError:
                    near.close()
                    continue
                threading.Thread(target=self._relay, args=(near, far), daemon=True).start()

    def _relay(self, near: socket.socket, far: socket.socket) -> None:
        pair = (near, far)
        with self._lock:
            cut = self._listener is None
            if not cut:
                self._pairs.add(pair)
        try:
            with near, far, selectors.DefaultSelector() as both, suppress(OSError):
                far.settimeout(None)
                both.register(near, selectors.EVENT_READ, far)
                both.register(far, selectors.EVENT_READ, near)
                while not cut:
                    for key, _ in both.select():
                        assert isinstance(key.fileobj, socket.socket)
                        piece = key.fileobj.recv(1 << 18)
                        if not piece:
                            return
                        key.data.sendall(piece)
        finally:
            with self._lock:
                self._pairs.discard(pair)
