"""A server of updates on two ports of this machine, which can stop in the middle of what it serves: by HTTP, and by HTTPS under a name."""

from __future__ import annotations

import http.server
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.notify.mail_room import authority

NAME = "updates.example"
CUT_AFTER_BYTES = 8 << 20
"""So much of the root has left the server when the power is cut."""


@dataclass
class Shop:
    """What the box finds at its address: the files of `folder`, of which `holds` lets no more out than `cut_after` bytes of
    those whose names end in `cut_in`."""

    port: int = 0
    named_port: int = 0
    """By HTTPS, for who calls it `NAME` and believes `authority`."""
    authority: str = ""
    hosts: set[str] = field(default_factory=set)
    """What it was called by those who came that way."""
    folder: Path = Path("/nonexistent")
    holds: bool = False
    cut_in: str = ".root.raw.gz"
    cut_after: int = CUT_AFTER_BYTES
    reached: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)


@contextmanager
def shop() -> Iterator[Shop]:
    """A server of updates on two ports of this machine."""
    offers = Shop()

    class Counter(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(offers.folder))

        def copyfile(self, source: Any, outputfile: Any) -> None:
            if offers.holds and self.path.endswith(offers.cut_in):
                outputfile.write(source.read(offers.cut_after))
                outputfile.flush()
                offers.reached.set()
                offers.closed.wait()
                return
            with suppress(ConnectionError):  # who fetches may be cut at any moment
                super().copyfile(source, outputfile)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Nobody asks."""

    class Named(Counter):
        def do_GET(self) -> None:
            offers.hosts.add(str(self.headers["Host"]))
            super().do_GET()

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Who believes no certificate is no error here."""

    with (
        tempfile.TemporaryDirectory() as folder,
        Server(("127.0.0.1", 0), Counter) as plain,
        Server(("127.0.0.1", 0), Named) as named,
    ):
        vouching = authority(Path(folder), NAME)
        offers.authority = vouching.ca
        # The handshake is at the first reading, in the thread of who asks.
        named.socket = vouching.context().wrap_socket(
            named.socket, server_side=True, do_handshake_on_connect=False
        )
        offers.port, offers.named_port = plain.server_port, named.server_port
        for server in (plain, named):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield offers
        finally:
            offers.closed.set()
            for server in (plain, named):
                server.shutdown()
