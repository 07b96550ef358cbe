"""Reception of a box within the test's own process: the real door, associations and intake, at a port of loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from appliance.box import Box
from appliance.config import Config
from appliance.dicom.association import Desk
from appliance.dicom.door import Door
from appliance.dicom.exchange import Tally
from appliance.dicom.listener import make_server
from appliance.ingest import Reception


def at_port(config: Config, listening: socket.socket) -> Config:
    """`config` of a box that receives at `listening`."""
    port = listening.getsockname()[1]
    return replace(config, dicom=replace(config.dicom, bind="127.0.0.1", port=port))


@contextmanager
def receiving(box: Box, listening: socket.socket) -> Iterator[tuple[Reception, Door, Tally]]:
    """Receive for `box` at `listening`: its intake, its door and what it has counted."""
    reception, door, tally = Reception(box, "dicom-0"), Door(box), Tally()
    desk = Desk(box.config.dicom, box.config.ae_title, reception, door, tally=tally)
    server = make_server(desk, listening.dup())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield reception, door, tally
    finally:
        desk.stopping.set()
        server.shutdown_accepting()
        thread.join(60)
        server.server_close()
        reception.close()
