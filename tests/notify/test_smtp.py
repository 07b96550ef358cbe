"""A letter handed to a real mail server: in clear, by STARTTLS, by TLS, signed in; and each complaint in our terms."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import ApplianceError, OperatorNeeded, Refused, Transient
from appliance.notify import smtp
from appliance.notify.smtp import MailServer, Step
from tests.notify.mail_room import PASSWORD, USER, authority, mail_room

READER = "marie@clinique.example"
LETTER = b"Subject: essai\r\n\r\n.une ligne qui commence par un point\r\n"


def server_at(port: int, **others: object) -> MailServer:
    server = MailServer("localhost", port, "none", "boitier@clinique.example")
    return replace(server, **others)  # type: ignore[arg-type]


def test_a_letter_arrives_as_it_was_written() -> None:
    with mail_room() as room:
        smtp.hand_over(server_at(room.port), READER, LETTER)
        assert room.raw[0] == LETTER
        assert room.readers == [READER]
        assert room.encrypted == [False]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_it_is_encrypted_and_signed_in_before_anything_is_said(tmp_path: Path, security: str) -> None:
    ours = authority(tmp_path)
    context = ours.context()
    options = {"starttls": context} if security == "starttls" else {"tls": context}
    steps: list[Step] = []
    with mail_room(sign_in=True, **options) as room:
        server = server_at(room.port, security=security, ca=ours.ca, user=USER, password=PASSWORD)
        smtp.hand_over(server, READER, LETTER, reached=steps.append)
        assert room.encrypted == [True]
        assert room.users == [USER]
    assert steps == [Step.CONNECTED, Step.ENCRYPTED, Step.SIGNED_IN, Step.TAKEN]


def test_a_certificate_of_nobody_we_know_is_for_the_operator(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ours, other = authority(tmp_path), authority(tmp_path / "other")
    with mail_room(starttls=ours.context()) as room:
        for ca in ("", other.ca):
            with pytest.raises(OperatorNeeded, match="cannot be trusted"):
                smtp.hand_over(server_at(room.port, security="starttls", ca=ca), READER, LETTER)
        assert room.letters == []


def test_a_certificate_of_another_name_is_for_the_operator(tmp_path: Path) -> None:
    ours = authority(tmp_path, "mail.example")
    with mail_room(tls=ours.context()) as room, pytest.raises(OperatorNeeded, match="cannot be trusted"):
        smtp.hand_over(server_at(room.port, security="tls", ca=ours.ca), READER, LETTER)


def test_encryption_that_is_not_offered_is_not_done_without() -> None:
    with mail_room() as room:
        with pytest.raises(OperatorNeeded, match="does not offer"):
            smtp.hand_over(server_at(room.port, security="starttls"), READER, LETTER)
        assert room.letters == []


def test_a_password_never_goes_in_clear() -> None:
    with mail_room() as room, pytest.raises(OperatorNeeded, match="not encrypted"):
        smtp.hand_over(server_at(room.port, user=USER, password=PASSWORD), READER, LETTER)


def test_a_wrong_password_is_for_the_operator_and_not_in_the_words(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    with mail_room(starttls=ours.context(), sign_in=True) as room:
        server = server_at(room.port, security="starttls", ca=ours.ca, user=USER, password="faux secret")
        with pytest.raises(OperatorNeeded, match="user or the password") as caught:
            smtp.hand_over(server, READER, LETTER)
    assert "faux secret" not in f"{caught.value} {server!r}"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("451 try later", Transient),
        ("rcpt 450 greylisted", Transient),
        ("421 closing", Transient),
        ("rcpt 550 no such mailbox", Refused),
        ("554 looks like junk", Refused),
        ("drop", Transient),
    ],
)
def test_who_acts_next_is_read_from_the_answer(answer: str, kind: type[ApplianceError]) -> None:
    with mail_room() as room:
        room.answers = [answer]
        with pytest.raises(kind):
            smtp.hand_over(server_at(room.port), READER, LETTER)
        assert room.letters == []
        smtp.hand_over(server_at(room.port), READER, LETTER)
        assert len(room.letters) == 1


def test_a_server_that_is_away_or_speaks_something_else(free_port: Callable[[], int]) -> None:
    with pytest.raises(Transient, match="cannot be reached"):
        smtp.hand_over(server_at(free_port()), READER, LETTER)
    with pytest.raises(Transient, match="not known"):
        smtp.hand_over(server_at(25, host="mail.invalid"), READER, LETTER)
    with mail_room() as room, pytest.raises(OperatorNeeded, match="does not speak TLS"):
        smtp.hand_over(server_at(room.port, security="tls"), READER, LETTER)


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smtp, "TIMEOUT_SECONDS", 0.2)
    silent = pytest.raises(Transient, match="does not answer")
    with socket.create_server(("127.0.0.1", 0)) as mute, silent:
        smtp.hand_over(server_at(mute.getsockname()[1]), READER, LETTER)


def test_a_letter_with_a_file_is_waited_for_while_it_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """By order: the impatient one comes second and gives up first; only then the server takes what it looked into."""
    monkeypatch.setattr(smtp, "TIMEOUT_SECONDS", 1.0)
    with mail_room() as room, ThreadPoolExecutor(1) as threads:
        room.answers = ["scan", "scan"]
        patient = threads.submit(
            smtp.hand_over, server_at(room.port), READER, LETTER, patience_seconds=smtp.PATIENCE_SECONDS
        )
        assert room.scanning.acquire(timeout=60)
        with pytest.raises(Transient, match="does not answer"):
            smtp.hand_over(server_at(room.port), READER, LETTER)
        room.scanned.set()
        assert patient.result(60) == "taken"


def test_the_patience_is_what_the_standard_asks_for() -> None:
    """RFC 5321 4.5.3.2.6: ten minutes at least."""
    assert smtp.PATIENCE_SECONDS >= 600
