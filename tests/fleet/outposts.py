"""An outpost of the vendor, on loopback if not said otherwise: heartbeats come by HTTPS, and lie in a folder as a bucket would hold them."""

from __future__ import annotations

import io
import json
import ssl
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from appliance import settings
from appliance.box import Box
from appliance.fleet import consent
from tests.notify.mail_room import Authority, authority


@dataclass
class Vendor:
    """What came, in order; `status` is what every heartbeat is answered with. Boxes call it `host`, those on this machine `here`."""

    folder: Path
    authority: Authority
    host: str = "localhost"
    here: str = "localhost"
    port: int = 0
    status: int = 200
    came: list[bytes] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"https://{self.host}:{self.port}/heartbeats"

    def settings(self, host: str = "") -> dict[str, object]:
        """What a clinic enters, whose box calls it `host`."""
        return {
            "heartbeat.address": f"https://{host or self.host}:{self.port}/heartbeats",
            "heartbeat.ca": self.authority.ca,
            "heartbeat.on_lan": True,
        }


@contextmanager
def vendor(folder: Path, host: str = "localhost", listens_at: str = "") -> Iterator[Vendor]:
    """An outpost that boxes call `host`; it listens at that address, or at another by which they come to it."""
    boxes = folder / "boxes"
    boxes.mkdir(parents=True, exist_ok=True)
    here = listens_at or ("127.0.0.1" if host == "localhost" else host)
    found = Vendor(folder, authority(folder, host, here), host, here)

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.came.append(body)
            if found.status < 300:
                part = boxes / f".{self.headers['X-Box']}.part"
                part.write_bytes(body)
                part.replace(boxes / f"{self.headers['X-Box']}.json")
            wanted = folder / "wanted" / f"{self.headers['X-Box']}.json"
            answer = wanted.read_bytes() if wanted.exists() else b""
            self.send_response(found.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer((here, 0), Taking)
    context: ssl.SSLContext = found.authority.context()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    found.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def choose(box: Box, values: Mapping[str, object], now: datetime) -> None:
    """Enter where heartbeats go."""
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, values, actor="tests", now=now, root=box.root)


def agree(box: Box, now: datetime) -> None:
    """Somebody of the clinic agrees to what there is to agree to."""
    with box.catalog.transaction() as tx:
        consent.agree(tx, consent.terms(tx), "tests", now)


def said_in(came: bytes) -> str:
    """All that a heartbeat says and what it comes with, in the clear: as JSON without the escapes of either."""
    envelope = json.loads(came)
    return json.dumps(envelope | {"document": json.loads(envelope["document"])}, ensure_ascii=False)


def unpacked(support_file: bytes) -> dict[str, str]:
    """What is in a support file, by the names within its archive."""
    with tarfile.open(fileobj=io.BytesIO(support_file)) as archive:
        return {
            each.name: stream.read().decode()
            for each in archive
            if (stream := archive.extractfile(each)) is not None
        }
