"""A server of updates on a port of this machine, which can stop in the middle of what it serves."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CUT_AFTER_BYTES = 8 << 20
"""So much of the root has left the server when the power is cut."""


@dataclass
class Shop:
    """What the box finds at its address: the files of `folder`, of which `holds` lets no more out than `cut_after` bytes of
    those whose names end in `cut_in`."""

    port: int = 0
    folder: Path = Path("/nonexistent")
    holds: bool = False
    cut_in: str = ".root.raw.gz"
    cut_after: int = CUT_AFTER_BYTES
    reached: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)


@contextmanager
def shop() -> Iterator[Shop]:
    """A server of updates on a port of this machine."""
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

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counter) as server:
        server.daemon_threads = True
        offers.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield offers
        finally:
            offers.closed.set()
            server.shutdown()
