"""The audit to a collector: DICOM audit messages by syslog over TLS (RFC 5425), as settings ``syslog.*`` say.

The log itself is the queue: what is kept is the number of the last row that has left (`SENT` of
`appliance.catalog.settings`). It moves on only when every byte of a batch was acknowledged by the collector's TCP, so
nothing is lost while the collector is away or the box restarts; at most the batch that was under way is sent again, and
each message names its rows. Syslog has no receipts of its own: what a collector has acknowledged and then loses in its
memory nobody here can know, so batches are small, and a line that the collector has closed is noticed before the next.

Chose to hold the line open between batches, because a TLS handshake for each message costs both sides more than the
message; rejected a queue of its own, which would be a second truth beside the log.
"""

from __future__ import annotations

import array
import fcntl
import hmac
import json
import logging
import os
import socket
import ssl
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from appliance import __version__, tls
from appliance import settings as operator
from appliance.audit.dicom_message import Origin, Told, folded, line, message
from appliance.box import Box
from appliance.catalog import Reading, audit_log, settings, studies
from appliance.catalog.audit_log import AuditRow
from appliance.errors import OperatorNeeded, Transient
from appliance.model import Uid

log = logging.getLogger(__name__)

SENT = "syslog-sent"
STATE = "syslog-state"
BATCH_ROWS = 200
CONNECT_SECONDS = 10.0
DRAIN_SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 300.0
RUN_SECONDS = 20.0
"""How long one run of the job goes on sending before others have their turn."""


@dataclass(frozen=True, slots=True)
class Collector:
    """Where messages go. `certificate` and `key` are this box's own, if the collector asks for them.

    The key is PKCS#8 in base64 on one line, as a secret of the settings is.
    """

    host: str
    port: int
    ca: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)
    identified: bool = False


def collector(conn: Reading, box: Box) -> Collector | None:
    """The collector that the settings name; None if there is none."""
    host = str(operator.get(conn, "syslog.host") or "")
    if not host:
        return None
    return Collector(
        host=host,
        port=int(operator.get(conn, "syslog.port")),
        ca=str(operator.get(conn, "syslog.ca") or ""),
        certificate=str(operator.get(conn, "syslog.certificate") or ""),
        key=operator.secret(conn, box.root, "syslog.key"),
        identified=bool(operator.get(conn, "syslog.identified")),
    )


class Feed:
    """The job: sends what has not left yet. Remembers the open line and the pause after failures."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._line: ssl.SSLSocket | None = None
        self._where: Collector | None = None
        self._failures = 0
        self._not_before = 0.0

    def __call__(self, box: Box, now: datetime) -> None:
        """One run: everything that waits, or as much as fits into `RUN_SECONDS`."""
        with box.catalog.reading() as conn:
            where = collector(conn, box)
        if where != self._where:
            self.close()
            self._where, self._failures, self._not_before = where, 0, 0.0
        if where is None or self._monotonic() < self._not_before:
            return
        end = self._monotonic() + RUN_SECONDS
        try:
            while self._send_batch(box, where, now) and self._monotonic() < end:
                pass
        except (OSError, Transient, OperatorNeeded) as error:
            self.close()
            self._failures += 1
            self._not_before = self._monotonic() + min(2.0**self._failures, LONGEST_PAUSE_SECONDS)
            log.warning("audit messages wait: %s", type(error).__name__)
            self._tell(box, now, type(error).__name__)
        else:
            if self._failures:
                log.info("audit messages go to %s again", where.host)
            self._failures = 0
            self._tell(box, now, "")

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _send_batch(self, box: Box, where: Collector, now: datetime) -> bool:
        """Send the next rows and remember that they have left; whether there may be more."""
        with box.catalog.reading() as conn:
            sent = min(_sent(conn), audit_log.last_id(conn))
            rows = audit_log.after(conn, sent, limit=BATCH_ROWS)
            if not rows:
                return False
            content = b"".join(self._frame(box, conn, told, where) for told in folded(rows))
        connection = self._open(where)
        connection.sendall(content)
        self._drain(connection)
        with box.catalog.transaction() as tx:
            settings.put(tx, SENT, rows[-1].id, now)
        return len(rows) == BATCH_ROWS

    def _frame(self, box: Box, conn: Reading, told: Told, where: Collector) -> bytes:
        name = box.config.ae_title
        origin = Origin(name, str(operator.get(conn, "clinic.name") or ""), __version__)
        xml = message(
            told, origin, _patient(box, conn, told.first, identified=where.identified), _to(told.first)
        )
        return line(xml, str(told.first.at_utc), socket.gethostname())

    def _open(self, where: Collector) -> ssl.SSLSocket:
        if self._line is not None and _is_open(self._line):
            return self._line
        self.close()
        context = _context(where)
        plain = socket.create_connection((where.host, where.port), timeout=CONNECT_SECONDS)
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._line = context.wrap_socket(plain, server_hostname=where.host)
        except BaseException:
            plain.close()
            raise
        return self._line

    def _drain(self, connection: ssl.SSLSocket) -> None:
        """Wait until the other side's TCP has acknowledged every byte. Raises `Transient`."""
        end = time.monotonic() + DRAIN_SECONDS
        while _unacknowledged(connection):
            if time.monotonic() > end:
                raise Transient("the collector does not take what is sent to it")
            time.sleep(0.005)
        if not _is_open(connection):
            raise Transient("the collector hung up")

    def _tell(self, box: Box, now: datetime, trouble: str) -> None:
        """Keep how the feed stands, if that has changed, for the judgement of the box."""
        with box.catalog.reading() as conn:
            waiting = audit_log.after(conn, _sent(conn), limit=1)
            before = settings.get(conn, STATE, {})
        state = {"behind_since": str(waiting[0].at_utc) if waiting and trouble else "", "trouble": trouble}
        if state != before:
            with box.catalog.transaction() as tx:
                settings.put(tx, STATE, state, now)


def _sent(conn: Reading) -> int:
    found = settings.get(conn, SENT, 0)
    return found if isinstance(found, int) else 0


def _context(where: Collector) -> ssl.SSLContext:
    """TLS 1.2 or newer, the collector's name and authority checked, our own certificate if there is one."""
    try:
        context = tls.forward_secret(ssl.create_default_context(cadata=where.ca or None))
        if where.certificate and where.key:
            # OpenSSL reads files only; this one is memory, so the key never touches the disk.
            descriptor = os.memfd_create("syslog", os.MFD_CLOEXEC)
            with os.fdopen(descriptor, "w+") as file:
                file.write(f"{where.certificate.strip()}\n{_pem(where.key)}\n")
                file.flush()
                context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except (ssl.SSLError, ValueError) as error:
        raise OperatorNeeded(
            "the certificates for audit messages cannot be used",
            hint="check them in the settings, under syslog",
        ) from error
    return context


def _pem(key: str) -> str:
    """A key given as one line of base64 (PKCS#8), as OpenSSL reads it."""
    return f"-----BEGIN PRIVATE KEY-----\n{key.strip()}\n-----END PRIVATE KEY-----"


def _is_open(connection: ssl.SSLSocket) -> bool:
    """Whether the other side has not hung up: nothing is ever received, so what arrives is an end."""
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        return connection.recv(1) != b""
    except (ssl.SSLWantReadError, BlockingIOError):
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(timeout)


def _unacknowledged(connection: ssl.SSLSocket) -> int:
    """Bytes in the kernel that the other side has not acknowledged (SIOCOUTQ, which is TIOCOUTQ)."""
    count = array.array("i", [0])
    fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, count)
    return count[0]


def _patient(box: Box, conn: Reading, row: AuditRow, *, identified: bool) -> str:
    """The patient of the row's study: the number, or a pseudonym that only this box can make."""
    found = studies.study(conn, Uid(str(row.study))) if row.study else None
    if found is None or not found.patient_id:
        return ""
    if identified:
        return found.patient_id
    key = box.root.derive("audit pseudonyms")
    text = f"{found.issuer_of_patient_id}\0{found.patient_id}".encode()
    return f"P{hmac.digest(key, text, 'sha256')[:8].hex()}"


def _to(row: AuditRow) -> str:
    """The recipient that the row's details name."""
    try:
        details: Any = json.loads(row.details)
    except (TypeError, ValueError):
        return ""
    return str(details.get("to", "")) if isinstance(details, dict) else ""
