"""The audit reaches a real collector over TLS, once and in order, however often the line and the box go away."""

import base64
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance import audit, audit_feed, health
from appliance import settings as operator
from appliance.audit import Entry
from appliance.audit_feed import Feed
from appliance.box import Box, open_box
from appliance.catalog import settings, studies
from appliance.config import Config
from tests.audit.test_dicom_message import flaws
from tests.web.conftest import fill

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Paper:
    """A key with its certificate, in PEM."""

    certificate: bytes
    key: bytes

    @property
    def one_line(self) -> str:
        return "".join(self.key.decode().splitlines()[1:-1])

    def write(self, folder: Path, name: str) -> Path:
        path = folder / f"{name}.pem"
        path.write_bytes(self.certificate + self.key)
        return path


def _paper() -> Paper:
    """A certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    return Paper(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


@dataclass
class Collector:
    """A syslog server over TLS (RFC 5425) that keeps what it was sent; `stop` cuts every line."""

    paper: Paper
    folder: Path
    asks: Paper | None = None
    port: int = 0
    messages: list[bytes] = field(default_factory=list)
    lines: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)
    _server: socket.socket | None = None

    def start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.paper.write(self.folder, "collector"))
        if self.asks is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.asks.certificate.decode())
        server = socket.create_server(("127.0.0.1", self.port))
        self.port, self._server = server.getsockname()[1], server
        threading.Thread(target=self._accept, args=(server, context), daemon=True).start()

    def stop(self) -> None:
        assert self._server is not None
        for each in (self._server, *self._sockets):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()
        self._sockets.clear()

    def _accept(self, server: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            try:
                plain, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain, context), daemon=True).start()

    def _serve(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        try:
            with context.wrap_socket(plain, server_side=True) as connection:
                self._sockets.append(connection)
                self.lines += 1
                with connection.makefile("rb") as stream:
                    while length := self._length(stream):
                        self.messages.append(stream.read(length))
        except (OSError, ValueError):
            return

    @staticmethod
    def _length(stream) -> int:
        digits = b""
        while (octet := stream.read(1)).isdigit():
            digits += octet
        return int(digits) if octet == b" " and digits else 0

    def xml(self) -> list[Element]:
        return [fromstring(each.partition(b"\xef\xbb\xbf")[2]) for each in self.messages]

    def rows(self) -> list[int]:
        """Every row that was told, as the messages name them."""
        found: list[int] = []
        for each in self.xml():
            detail = each.find(".//ParticipantObjectDetail")
            assert detail is not None
            first, _, last = base64.b64decode(detail.get("value", "")).decode().partition("-")
            found += range(int(first), int(last or first) + 1)
        return found


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    running = Collector(_paper(), tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    opened = open_box(Config(data=tmp_path / "box"))
    yield opened
    opened.close()


def _point(box: Box, to: Collector, **more: object) -> None:
    with box.catalog.transaction() as tx:
        values = {
            "syslog.host": "127.0.0.1",
            "syslog.port": to.port,
            "syslog.ca": to.paper.certificate.decode(),
        }
        changes = values | {name.replace("_", "."): value for name, value in more.items()}
        operator.change(tx, box.audit_key, changes, actor="marie", now=NOW, root=box.root)


def _act(box: Box, times: int) -> None:
    box.record(
        [Entry("user:login", f"user:{number}", "marie", address="10.0.0.7") for number in range(times)], NOW
    )


def _last(box: Box) -> int:
    with box.catalog.reading() as conn:
        return audit.witness(conn).count


def test_every_row_arrives_once_and_in_order_on_one_line(
    box: Box, collector: Collector, eventually: Callable[..., object]
) -> None:
    _point(box, collector)
    feed = Feed()
    for _ in range(3):
        _act(box, 250)
        feed(box, NOW)
    eventually(lambda: len(collector.rows()) >= _last(box))
    assert collector.rows() == list(range(1, _last(box) + 1))
    assert collector.lines == 1
    assert [flaw for each in collector.xml() for flaw in flaws(each)] == []
    feed.close()


def test_nothing_is_lost_while_the_collector_is_away_or_the_box_restarts(
    box: Box, collector: Collector, eventually: Callable[..., object]
) -> None:
    _point(box, collector)
    clock = [0.0]
    feed = Feed(lambda: clock[0])
    _act(box, 10)
    feed(box, NOW)
    eventually(lambda: len(collector.rows()) >= _last(box))
    collector.stop()
    _act(box, 20)
    for _ in range(3):
        clock[0] += 1000
        feed(box, NOW)
    with box.catalog.reading() as conn:
        state = settings.get(conn, "syslog-state", {})
    assert state["behind_since"] and state["trouble"]
    codes = {each.code for each in health.status(box, NOW + timedelta(hours=2)).problems}
    assert "syslog-late" in codes
    collector.start()
    _act(box, 5)
    again = Feed()  # the process was restarted meanwhile
    again(box, NOW)
    eventually(lambda: set(collector.rows()) >= set(range(1, _last(box) + 1)))
    assert collector.rows() == list(range(1, _last(box) + 1))  # and nothing twice
    assert "syslog-late" not in {each.code for each in health.status(box, NOW + timedelta(hours=2)).problems}
    again.close()


def test_a_pause_grows_after_failures(box: Box, collector: Collector) -> None:
    _point(box, collector)
    collector.stop()
    clock = [0.0]
    feed = Feed(lambda: clock[0])
    pauses = []
    for _ in range(12):
        feed(box, NOW)
        pauses.append(feed._not_before - clock[0])
        clock[0] = feed._not_before
    assert pauses[:4] == [2, 4, 8, 16] and pauses[-1] == 300


def test_a_collector_that_the_authority_does_not_vouch_for_gets_nothing(
    box: Box, collector: Collector, tmp_path: Path
) -> None:
    _point(box, collector, syslog_ca=_paper().certificate.decode())
    Feed()(box, NOW)
    assert collector.messages == []
    with box.catalog.reading() as conn:
        assert settings.get(conn, "syslog-state", {})["trouble"] == "SSLCertVerificationError"


def test_a_collector_may_ask_who_sends(
    box: Box,
    collector: Collector,
    tmp_path: Path,
    eventually: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit_feed, "DRAIN_SECONDS", 2.0)  # a refusal in TLS 1.3 comes late, or never
    own, other = _paper(), _paper()
    asking = Collector(collector.paper, tmp_path, asks=own)
    asking.start()
    try:
        _point(box, asking, syslog_certificate=other.certificate.decode(), syslog_key=other.one_line)
        Feed()(box, NOW)
        assert asking.messages == []
        _point(box, asking, syslog_certificate=own.certificate.decode(), syslog_key=own.one_line)
        feed = Feed()
        feed(box, NOW)
        eventually(lambda: len(asking.rows()) >= _last(box))
        assert asking.rows() == list(range(1, _last(box) + 1))
        feed.close()
    finally:
        asking.stop()


@pytest.mark.parametrize("identified", [False, True])
def test_no_message_names_a_patient_and_numbers_only_when_they_are_wanted(
    box: Box, collector: Collector, identified: bool, eventually: Callable[..., object]
) -> None:
    fill(box)
    with box.catalog.reading() as conn:
        rows = studies.find(conn)
    for row in rows:
        box.record([Entry("study:view", f"study:{row.id}", "marie", study=row.study_instance_uid)], NOW)
    _point(box, collector, syslog_identified=identified)
    feed = Feed()
    feed(box, NOW)
    eventually(lambda: len(collector.rows()) >= _last(box))
    sent = b"\n".join(collector.messages).decode()
    for row in rows:
        family, _, given = row.patient_name.partition("^")
        assert family not in sent and given not in sent and row.birth_date not in sent
        assert (row.patient_id in sent) is identified
        assert row.study_instance_uid in sent
    patients = {
        each.get("ParticipantObjectID")
        for message in collector.xml()
        for each in message.iter("ParticipantObjectIdentification")
        if each.get("ParticipantObjectTypeCodeRole") == "1"
    }
    assert len(patients) == len({row.patient_id for row in rows})
    feed.close()


def test_without_a_collector_nothing_is_sent_and_nothing_is_wrong(box: Box) -> None:
    _act(box, 3)
    Feed()(box, NOW)
    assert "syslog-late" not in {each.code for each in health.status(box, NOW).problems}
