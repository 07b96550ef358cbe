"""A box whose vendor is entered, and whoever comes to the counter of its desk, without ssh: over the socket, as the counter does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType

from appliance import audit, settings
from appliance.box import Box, open_box
from appliance.config import Config
from appliance.fleet import support
from appliance.fleet.desk import place
from appliance.fleet.session import Scope, Session
from tests.web.conftest import fill

AUTHORITY = Ed25519PrivateKey.generate()
ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from contextlib import closing
from pathlib import Path
from appliance.box import open_box
from appliance.config import Config
with closing(open_box(Config(data=Path(sys.argv[1])))) as box, box.catalog.transaction():
    print("held", flush=True)
    sys.stdin.readline()
"""


def clinic(folder: Path) -> Box:
    """A box with some studies, and a vendor that nobody is behind."""
    opened = open_box(Config(data=folder))
    fill(opened)
    values = {
        "support.host": "192.0.2.1",
        "support.user": "boxes",
        "support.host_key": public(AUTHORITY),
        "support.authority": public(AUTHORITY),
        "plan.place": "derrière le poêle",
        "clinic.phone": "514 555-0142",
        "clinic.province": "ON",
    }
    with opened.catalog.transaction() as tx:
        settings.change(tx, opened.audit_key, values, actor="tests", now=datetime.now(UTC))
    return opened


def let_in(box: Box) -> Session:
    """The clinic opens a session for an hour."""
    with box.catalog.transaction() as tx:
        return support.open_session(
            tx, box, reason="r", scope=Scope.DIAGNOSE, hours=1, by="m", now=datetime.now(UTC)
        )


def public(key: Ed25519PrivateKey) -> str:
    """Its public half, as OpenSSH writes it."""
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(*openssh).decode()


def certificate(key_id: bytes = b"Ana Roy", *, lives_seconds: int = 3600) -> str:
    """A certificate of the vendor's authority, as the counter hands it over; it ends so many seconds from now."""
    now = int(time.time())
    made = (
        SSHCertificateBuilder()
        .public_key(Ed25519PrivateKey.generate().public_key())
        .serial(7)
        .type(SSHCertificateType.USER)
        .key_id(key_id)
        .valid_principals([b"appliance-diagnose"])
        .valid_after(now - 60)
        .valid_before(now + lives_seconds)
        .sign(AUTHORITY)
    )
    return made.public_bytes().decode()


@contextmanager
def talking(box: Box) -> Iterator[socket.socket]:
    """A connection to the desk."""
    with socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(120)
        talk.connect(str(place(box)))
        yield talk


def visit(box: Box, *lines: str, shown: str | None = None) -> str:
    """Come to the counter, type `lines`, and go; what was shown."""
    hello = json.dumps({"ask": "counter", "certificate": shown or certificate()})
    with talking(box) as talk:
        talk.sendall("".join(f"{line}\n" for line in (hello, *lines, "leave")).encode())
        return b"".join(iter(lambda: talk.recv(65536), b"")).decode()


def rows(box: Box, action: str) -> list[dict[str, Any]]:
    """The rows of the audit that say so."""
    with box.catalog.reading() as conn:
        return [each for each in audit.export(conn) if each["action"] == action]


@contextmanager
def held(box: Box) -> Iterator[None]:
    """Another process is in a transaction of the catalog, for the time of the block."""
    words = [sys.executable, "-c", HOLDER, str(box.config.data)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
            assert process.poll() is None, "it has had the lock all the time"
        finally:
            process.stdin.close()
