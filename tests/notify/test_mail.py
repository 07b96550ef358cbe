"""Letters: in their reader's language, escaped, the same bytes at every attempt, forgotten once they are sent."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes, policy

import pytest

from appliance.box import Box
from appliance.catalog import outbox
from appliance.errors import OperatorNeeded, Refused
from appliance.notify import mail
from appliance.notify.hooks import Attachment
from appliance.notify.kinds import Channel
from appliance.notify.mail import LETTERS
from appliance.notify.sending import Messenger, Surroundings
from appliance.notify.smtp import MailServer, Step
from tests.notify.conftest import NOW, SENDER
from tests.notify.mail_room import MailRoom

SERVER = MailServer("localhost", 25, "none", SENDER, "Clinique du Parc")
LINK = "https://box.clinique.example/invitation#k=Zm9v"


def enqueue(box: Box, **others: object) -> int:
    with box.catalog.transaction() as tx:
        asked = {
            "to": "ana@clinique.example",
            "letter": "invitation",
            "language": "fr",
            "now": NOW,
            "link": LINK,
        }
        return mail.enqueue(tx, **(asked | others))  # type: ignore[arg-type]


def kept(box: Box, number: int) -> outbox.Message:
    with box.catalog.reading() as conn:
        found = outbox.message(conn, number)
    assert found is not None
    return found


@pytest.mark.parametrize("language", ["en", "fr", "xx"])
@pytest.mark.parametrize("letter", LETTERS)
def test_every_letter_is_written_whole_in_both_languages(box: Box, letter: str, language: str) -> None:
    values = {"title": "Titre <b>", "severity": "critical", "count": "3", "reference": "support-1"}
    number = enqueue(box, letter=letter, language=language, values=values, lines=["une ligne"])
    raw = mail.as_bytes(kept(box, number), SERVER)
    parsed = message_from_bytes(raw, policy=policy.default)
    text, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
    assert text is not None
    assert html is not None
    for part in (text.get_content(), html.get_content()):
        assert "{" not in part
        assert "une ligne" in part
        assert LINK in part
    assert "<b>" not in html.get_content()
    assert parsed["Subject"]
    assert parsed["Auto-Submitted"] == "auto-generated"
    assert "\n" not in parsed["Subject"]


def test_what_others_give_stays_text(box: Box) -> None:
    nasty = 'Clinique "A&B" <script>alert(1)</script>\r\nBcc: all@example.ca'
    number = enqueue(box, values={"clinic": nasty}, lines=[nasty])
    parsed = message_from_bytes(
        mail.as_bytes(kept(box, number), replace(SERVER, sender_name=nasty)), policy=policy.default
    )
    html = parsed.get_body(("html",))
    assert html is not None
    assert "<script>" not in html.get_content()
    assert "&lt;script&gt;" in html.get_content()
    assert parsed["Bcc"] is None


def test_two_attempts_send_the_same_bytes(box: Box) -> None:
    message = kept(box, enqueue(box))
    assert mail.as_bytes(message, SERVER) == mail.as_bytes(message, SERVER)
    assert mail.as_bytes(message, SERVER).count(message.message_id.encode()) == 1


def test_no_boundary_begins_with_another_one(box: Box) -> None:
    """RFC 2046 5.1.1: a reader that compares beginnings would end the letter where only its inner part ends."""
    file = Attachment("f.tar.gz", 4, "-", base64.b64encode(b"file").decode())
    parsed = message_from_bytes(mail.as_bytes(kept(box, enqueue(box, attachment=file)), SERVER))
    outer, inner = (str(part.get_boundary()) for part in parsed.walk() if part.is_multipart())
    assert not outer.startswith(inner)
    assert not inner.startswith(outer)


def test_a_letter_to_no_address_is_refused(box: Box) -> None:
    with pytest.raises(Refused):
        enqueue(box, to="ana")
    with pytest.raises(ValueError, match="no letter"):
        enqueue(box, letter="poem")


def test_it_is_sent_once_and_what_it_said_is_forgotten(box: Box, room: MailRoom) -> None:
    number = enqueue(box)
    assert LINK in str(kept(box, number).content)
    assert LINK not in repr(kept(box, number))
    messenger = Messenger(box, Surroundings(now=lambda: NOW))
    assert messenger.send_next(Channel.MAIL)
    assert not messenger.send_next(Channel.MAIL)
    assert [each["To"] for each in room.letters] == ["ana@clinique.example"]
    sent = kept(box, number)
    assert (sent.state, sent.content, sent.attempts) == ("SENT", None, 1)
    assert room.letters[0]["Message-ID"] == sent.message_id
    assert sent.message_id.endswith("@clinique.example>")


def test_a_letter_with_an_end_is_not_sent_after_it(box: Box, room: MailRoom) -> None:
    from appliance.notify import sending

    number = enqueue(box, expires_utc=NOW + timedelta(hours=1))
    sending.look_after(box, NOW + timedelta(hours=2))
    assert kept(box, number).state == "EXPIRED"
    assert kept(box, number).content is None
    assert not Messenger(box, Surroundings(now=lambda: NOW + timedelta(hours=2))).send_next(Channel.MAIL)


def test_a_letter_can_be_tried_at_once_step_by_step_and_what_waits_goes_too(box: Box, room: MailRoom) -> None:
    number = enqueue(box)
    with box.catalog.transaction() as tx:
        message = outbox.claim(tx, Channel.MAIL, NOW, 300)
        assert message is not None
        outbox.postpone(tx, number, "away", NOW + timedelta(hours=1), NOW)
    steps: list[Step] = []
    answer = mail.try_out(box.catalog, box.root, "luc@clinique.example", "fr", NOW, steps.append)
    assert answer == "taken"
    assert steps == [Step.CONNECTED, Step.TAKEN]
    assert room.letters[0]["Subject"] == "Essai du boîtier d’imagerie"
    assert kept(box, number).next_attempt_utc == NOW


def test_trying_without_a_server_says_where_to_set_one(box: Box) -> None:
    with pytest.raises(OperatorNeeded, match="no mail server"):
        mail.try_out(box.catalog, box.root, "luc@clinique.example", "fr", NOW)
