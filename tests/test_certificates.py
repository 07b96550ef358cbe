"""The clinic's authority: what it may vouch for, who believes it, when a certificate is made anew."""

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from appliance import certificates
from appliance.box import Box
from appliance.errors import Refused
from tests.boxes import box_in

NOW = datetime.now(UTC).replace(microsecond=0)
ADDRESSES = ("192.168.1.20", "127.0.0.1")


@pytest.fixture
def box(tmp_path: Path):
    with box_in(tmp_path / "data") as opened:
        yield opened


def install(box: Box, host_name: str = "clinicbox", now: datetime = NOW) -> certificates.Installed:
    with box.catalog.transaction() as tx:
        found = certificates.install(
            tx, box, host_name=host_name, clinic="Clinique Tremblay", addresses=ADDRESSES, now=now
        )
    certificates.write_files(box)
    return found


def renew(box: Box, addresses: tuple[str, ...], now: datetime) -> certificates.Installed | None:
    with box.catalog.transaction() as tx:
        renewed = certificates.renew(tx, box, addresses, now)
    certificates.write_files(box)
    return renewed


def shake_hands(folder: Path, authority: bytes, name: str) -> None:
    """A TLS handshake as a browser makes it: by `name`, believing `authority` alone. Raises `ssl.SSLError`."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / certificates.SERVER_FILE)
    client = ssl.create_default_context(cadata=authority.decode())
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listening.accept()
        try:
            server.wrap_socket(connection, server_side=True).close()
        except OSError:
            connection.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        with (
            socket.create_connection(listening.getsockname(), 10) as plain,
            client.wrap_socket(plain, server_hostname=name),
        ):
            pass
    finally:
        thread.join(10)
        listening.close()


@pytest.mark.parametrize("name", ["clinicbox", "clinicbox.local", "127.0.0.1"])
def test_a_browser_that_trusts_the_authority_believes_the_box_by_each_name(box: Box, name: str) -> None:
    found = install(box)
    shake_hands(certificates.folder_of(box), found.authority, name)


def test_a_browser_that_does_not_trust_it_refuses(box: Box, tmp_path: Path) -> None:
    install(box)
    with box_in(tmp_path / "other") as other:
        stranger = install(other).authority
    with pytest.raises(ssl.SSLError):
        shake_hands(certificates.folder_of(box), stranger, "clinicbox.local")


def test_the_authority_cannot_vouch_for_anybody_else(box: Box) -> None:
    """Its key would otherwise be worth stealing: every workstation of the clinic trusts it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority, key = certificates.new_authority("Clinique", "clinicbox", NOW)
    for name in ("bank.example.com", "clinicbox"):
        server, server_key = certificates.issue(authority, key, name, (), NOW)
        assert isinstance(server_key, ec.EllipticCurvePrivateKey)
        folder = certificates.folder_of(box)
        folder.mkdir(exist_ok=True)
        (folder / certificates.SERVER_FILE).write_bytes(
            server_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + server.public_bytes(serialization.Encoding.PEM)
        )
        pem = authority.public_bytes(serialization.Encoding.PEM)
        if name == "clinicbox":
            shake_hands(folder, pem, name)
        else:
            with pytest.raises(ssl.SSLError, match="permitted subtree"):
                shake_hands(folder, pem, name)


def test_no_private_key_of_the_authority_lies_in_clear_and_the_servers_is_the_proxys_alone(box: Box) -> None:
    install(box)
    folder = certificates.folder_of(box)
    assert stat.S_IMODE((folder / certificates.SERVER_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    public = (folder / certificates.AUTHORITY_FILE).read_bytes()
    assert b"PRIVATE" not in public
    assert (folder / certificates.SERVER_FILE).read_bytes().count(b"PRIVATE KEY") == 2
    x509.load_pem_x509_certificate(public)


def test_another_address_or_name_in_the_clinic_needs_no_new_trust(box: Box) -> None:
    first = install(box)
    second = install(box, "imagerie")
    assert second.host_name == "imagerie"
    assert second.fingerprint != first.fingerprint, "a bare name is permitted one by one"
    third = install(box, "autre.local")
    assert third.fingerprint == second.fingerprint


def test_it_is_renewed_before_its_end_and_for_a_new_address_and_not_otherwise(box: Box) -> None:
    found = install(box)
    assert renew(box, ADDRESSES, NOW + timedelta(days=1)) is None
    late = found.server_ends_utc - timedelta(days=certificates.RENEW_DAYS - 1)
    renewed = renew(box, ADDRESSES, late)
    assert renewed is not None
    assert renewed.fingerprint == found.fingerprint
    assert renewed.server_ends_utc > found.server_ends_utc
    moved = renew(box, ("192.168.1.99",), late)
    assert moved is not None
    assert {"192.168.1.99", "192.168.1.20"} <= set(moved.addresses)
    assert renew(box, (), late) is None, "a cable that is out is no reason"
    early = moved.server_begins_utc - timedelta(days=1)
    assert renew(box, (), early) is not None, "no browser takes one that begins at a moment to come"


@pytest.mark.parametrize(
    "dead", [datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)]
)
def test_a_dead_battery_makes_no_certificate_of_a_time_long_past(box: Box, dead: datetime) -> None:
    """Which would be over once the clock is right, and another authority to be trusted on each workstation."""
    found = install(box, now=dead)
    assert found.server_begins_utc == certificates.EARLIEST - certificates.BACKDATED
    assert not certificates.is_due(found, [], dead), (
        "nor one every few hours, as long as the clock stands there"
    )
    right = certificates.EARLIEST + timedelta(days=120)
    assert not certificates.is_due(found, [], right)
    with box.catalog.transaction() as tx:
        later = certificates.renew(tx, box, [], right + timedelta(days=300))
    assert later is not None
    assert later.fingerprint == found.fingerprint, "no other authority"


def test_an_authority_that_a_clock_years_ahead_has_made_is_made_anew_once_it_is_right(box: Box) -> None:
    """Until then no browser would take what it vouches for, however fresh that is."""
    ahead = install(box, now=NOW + timedelta(days=3650))
    with box.catalog.transaction() as tx:
        right = certificates.renew(tx, box, [], NOW)
    assert right is not None
    assert right.authority_begins_utc <= NOW < right.authority_ends_utc
    assert right.server_begins_utc <= NOW < right.server_ends_utc
    assert right.fingerprint != ahead.fingerprint
    assert right.host_name == ahead.host_name
    with box.catalog.transaction() as tx:
        assert certificates.renew(tx, box, [], NOW) is None


def test_files_that_were_lost_are_laid_out_again(box: Box) -> None:
    found = install(box)
    before = (certificates.folder_of(box) / certificates.SERVER_FILE).read_bytes()
    (certificates.folder_of(box) / certificates.SERVER_FILE).unlink()
    assert renew(box, ADDRESSES, NOW) is None
    assert (certificates.folder_of(box) / certificates.SERVER_FILE).read_bytes() == before
    with box.catalog.reading() as conn:
        assert certificates.installed(conn) == found


def test_a_box_without_a_network_step_keeps_nothing(box: Box) -> None:
    assert renew(box, ADDRESSES, NOW) is None
    assert not certificates.folder_of(box).exists()


@pytest.mark.parametrize(
    "text", ["", "clinique tremblay", "hélène", "-box", "a..b", "192.168.1.20", "x" * 300]
)
def test_what_is_no_host_name_is_refused_with_what_would_do(text: str) -> None:
    with pytest.raises(Refused) as refused:
        certificates.normal_host_name(text)
    assert refused.value.hint


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_fingerprint_in_words_tells_what_its_first_96_bits_tell(one: bytes, other: bytes) -> None:
    words = certificates.in_words(one)
    assert len(words.split()) == 6
    assert all(word.isascii() and word.isalpha() and len(word) == 5 for word in words.split())
    assert (words == certificates.in_words(other)) == (one[:12] == other[:12])
