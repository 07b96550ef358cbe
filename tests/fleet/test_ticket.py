"""A ticket to the vendor: in the clinic's words, with its file, by letter and webhook; late without a line, never with a name."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from appliance import settings
from appliance.box import Box, open_box
from appliance.catalog import outbox, webhooks
from appliance.catalog.webhooks import Webhook
from appliance.config import Config
from appliance.errors import OperatorNeeded, Refused
from appliance.fleet import bundle, ticket
from appliance.fleet.bundle import Bundle
from appliance.fleet.ticket import Sent
from appliance.notify import hooks, sending, signing
from appliance.notify.kinds import Channel, Severity
from appliance.notify.sending import Messenger, Surroundings
from tests.age_reader import READER, opened
from tests.notify.conftest import use_mail
from tests.notify.mail_room import mail_room
from tests.notify.receiver import receiver
from tests.synthetic.patients import HELENE
from tests.web.conftest import fill

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADDRESS = "aide@fournisseur.example"
REASON = "Depuis lundi, les sauvegardes échouent.\nLe disque clignote."


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    opened_box = open_box(Config(data=tmp_path_factory.mktemp("box")))
    fill(opened_box)
    choose(
        opened_box,
        {"clinic.name": "Clinique du Lac", "clinic.phone": "514 555-0142", "language.default": "fr"},
    )
    yield opened_box
    opened_box.close()


@pytest.fixture(scope="module")
def made(box: Box) -> Bundle:
    folder = box.config.data / "logs"
    folder.mkdir(exist_ok=True)
    (folder / "web.log").write_text(f"found {HELENE.family_name} as {HELENE.id}\nan ordinary event\n")
    return bundle.make(box, NOW)


@pytest.fixture(autouse=True)
def nobody_to_write_to(box: Box) -> Iterator[None]:
    """Each test sets up its own way."""
    yield
    choose(box, {"support.mail": "", "support.reader_key": "", "mail.host": ""})
    with box.catalog.transaction() as tx:
        for each in webhooks.webhooks(tx):
            hooks.remove(tx, each.name, NOW)
        outbox.cancel(tx, Channel.MAIL, ADDRESS, NOW)


def choose(box: Box, values: dict[str, object]) -> None:
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, values, actor="tests", now=NOW)


def sent(box: Box, made: Bundle, reason: str = REASON) -> Sent:
    said = ticket.looked_through(box, reason)
    with box.catalog.transaction() as tx:
        return ticket.send(tx, made, said, NOW)


def hook_to(box: Box, url: str, **others: str) -> Webhook:
    with box.catalog.transaction() as tx:
        return hooks.add(tx, name="vendor", url=url, on_lan=True, now=NOW, hears="tickets", **others)


def state(box: Box, number: int) -> str:
    with box.catalog.reading() as conn:
        found = outbox.message(conn, number)
    assert found is not None
    return found.state


def waiting(box: Box) -> int:
    with box.catalog.reading() as conn:
        return sum(each.state in outbox.OPEN_STATES for each in outbox.messages(conn))


def test_nothing_leaves_before_a_way_is_set_up(box: Box, made: Bundle) -> None:
    """Neither with a mail server alone, nor with an address alone, nor by a webhook for notices."""
    with mail_room() as room, receiver() as other:
        use_mail(box, room.port, security="none")
        with box.catalog.transaction() as tx:
            hook = hooks.add(tx, name="chat", url=other.url(), on_lan=True, now=NOW)
        assert hooks.wants(hook, Severity.CRITICAL)
        with pytest.raises(OperatorNeeded, match="no way to send a ticket is set up"):
            sent(box, made)
        choose(box, {"mail.host": "", "support.mail": ADDRESS})
        with pytest.raises(OperatorNeeded, match="no way to send a ticket is set up"):
            sent(box, made)
    assert not waiting(box)


def test_a_letter_waits_for_the_line_and_brings_words_and_file(box: Box, made: Bundle) -> None:
    clock = [NOW]
    messenger = Messenger(box, Surroundings(now=lambda: clock[0], jitter=lambda: 0.0))
    choose(box, {"support.mail": ADDRESS})
    use_mail(box, 1, security="none")  # nobody is there
    (number,) = sent(box, made).messages
    for _ in range(3):
        assert messenger.send_next(Channel.MAIL)
        assert state(box, number) == "WAITING"
        clock[0] += timedelta(days=9)
        sending.look_after(box, clock[0])
    with mail_room() as room:
        use_mail(box, room.port, security="none")
        room.answers = ["451 later"]
        for _ in range(2):
            assert messenger.send_next(Channel.MAIL)
            clock[0] += timedelta(hours=1)
        (letter,), (reader,) = room.letters, room.readers
    assert state(box, number) == "SENT"
    assert reader == ADDRESS
    assert letter["Subject"] == f"[{made.name}] Clinique du Lac demande de l’aide"
    body = letter.get_body(("plain",))
    assert body is not None
    text = body.get_content()
    for said in (*REASON.split("\n"), "514 555-0142", made.name, "personne ne lit les réponses"):
        assert said in text
    (file,) = letter.iter_attachments()
    data = file.get_content()
    assert (file.get_filename(), data) == (f"{made.name}.tar.gz", made.data)
    assert sha256(data).hexdigest() in text
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.extractfile(f"{made.name}/logs/web.log")
        assert member is not None
        log = member.read().decode()
    assert "an ordinary event" in log and HELENE.family_name not in log


def test_every_attempt_is_the_same_letter(box: Box, made: Bundle) -> None:
    from appliance.notify import mail, smtp

    choose(box, {"support.mail": ADDRESS})
    use_mail(box, 1, security="none")
    (number,) = sent(box, made).messages
    with box.catalog.reading() as conn:
        message, server = outbox.message(conn, number), smtp.mail_server(conn, box.root)
    assert message is not None and server is not None
    assert mail.as_bytes(message, server) == mail.as_bytes(message, server)


def test_what_nobody_took_in_a_month_ends_and_somebody_is_told(box: Box, made: Bundle) -> None:
    choose(box, {"support.mail": ADDRESS})
    use_mail(box, 1, security="none")
    (number,) = sent(box, made).messages
    sending.look_after(box, NOW + timedelta(days=30))
    assert state(box, number) == "WAITING"
    sending.look_after(box, NOW + timedelta(days=32))
    assert state(box, number) == "EXPIRED"


def test_a_webhook_for_tickets_gets_the_file_signed_and_hears_of_nothing_else(box: Box, made: Bundle) -> None:
    messenger = Messenger(box, Surroundings(now=lambda: NOW, jitter=lambda: 0.0))
    with receiver() as there:
        hook = hook_to(box, there.url())
        assert not any(hooks.wants(hook, each) for each in Severity)
        made_ticket = sent(box, made)
        assert messenger.send_next(Channel.WEBHOOK)
        (body,), (headers,) = there.bodies, there.headers
    told = json.loads(body)
    expected = signing.headers(hook.secret, told["id"], body, NOW)
    assert {name: headers[name] for name in expected} == expected
    assert (told["event"], told["clinic"]) == ("ticket", "Clinique du Lac")
    assert told["ticket"]["reason"] == REASON
    assert told["ticket"]["reference"] == made_ticket.reference == made.name
    data = base64.b64decode(told["ticket"]["file"]["base64"])
    assert data == made.data
    assert told["ticket"]["file"]["sha256"] == sha256(data).hexdigest()


@pytest.mark.parametrize("form", ["slack", "teams", "sms"])
def test_a_chat_gets_the_words_and_the_reference(box: Box, made: Bundle, form: str) -> None:
    messenger = Messenger(box, Surroundings(now=lambda: NOW, jitter=lambda: 0.0))
    with receiver() as there:
        hook_to(box, there.url(), format=form, to="+15145550123")
        sent(box, made)
        assert messenger.send_next(Channel.WEBHOOK)
        (body,) = there.bodies
    said = json.loads(body)
    line = said["attachments"][0]["content"]["body"][0]["text"] if form == "teams" else said["text"]
    assert f"Clinique du Lac\u00a0: demande {made.name}\u00a0: Depuis lundi, les" in line


def test_each_way_is_listed_with_its_own_message(box: Box, made: Bundle) -> None:
    messenger = Messenger(box, Surroundings(now=lambda: NOW, jitter=lambda: 0.0))
    choose(box, {"support.mail": ADDRESS})
    use_mail(box, 1, security="none")  # nobody is there
    with receiver() as there:
        hook_to(box, there.url())
        numbers = sent(box, made).messages
        assert messenger.send_next(Channel.WEBHOOK)
        assert messenger.send_next(Channel.MAIL)
    with box.catalog.reading() as conn:
        to = ticket.ways(conn)
    assert to.names == (ADDRESS, "vendor")
    assert to.places == (ADDRESS, "vendor (127.0.0.1)"), "a name says nothing of where it leads"
    assert [state(box, each) for each in numbers] == ["WAITING", "SENT"]


def test_a_file_that_nobody_has_looked_at_leaves_sealed_or_not_at_all(box: Box, made: Bundle) -> None:
    choose(box, {"support.mail": ADDRESS})
    use_mail(box, 1, security="none")
    said = ticket.looked_through(box, REASON)
    with box.catalog.transaction() as tx, pytest.raises(OperatorNeeded, match="sent only sealed") as refused:
        ticket.send_unseen(tx, made, said, NOW)
    assert "on the page Support" in refused.value.hint
    assert not waiting(box)
    choose(box, {"support.reader_key": READER})
    with box.catalog.transaction() as tx:
        (number,) = ticket.send_unseen(tx, made, said, NOW).messages
        letter = outbox.message(tx, number)
    assert letter is not None and letter.content is not None
    assert opened(base64.b64decode(letter.content["file_base64"])) == made.data


def test_words_that_name_a_patient_are_given_back_without_and_do_not_leave(box: Box, made: Bundle) -> None:
    choose(box, {"support.mail": ADDRESS})
    use_mail(box, 1, security="none")
    said = ticket.looked_through(box, f"Les images de {HELENE.family_name} ({HELENE.id}) manquent.")
    assert said.text == "Les images de [cut: name] ([cut: health_number]) manquent."
    with box.catalog.transaction() as tx, pytest.raises(Refused, match="may name a patient"):
        ticket.send(tx, made, said, NOW)
    assert not waiting(box)
    assert sent(box, made, said.text).messages, "as it was given back, it may go"


@pytest.mark.parametrize("nothing", ["", " \n\t", "x" * 2001, "a\x1b[2Jb"])
def test_a_ticket_says_something_that_can_be_read(box: Box, nothing: str) -> None:
    with pytest.raises(Refused, match="nothing was said"):
        ticket.looked_through(box, nothing)


def test_the_file_is_sealed_where_the_vendor_has_a_key(box: Box, made: Bundle) -> None:
    choose(box, {"support.reader_key": READER})
    with receiver() as there:
        hook_to(box, there.url())
        sent(box, made)
        Messenger(box, Surroundings(now=lambda: NOW)).send_next(Channel.WEBHOOK)
        (body,) = there.bodies
    file = json.loads(body)["ticket"]["file"]
    assert file["name"] == f"{made.name}.tar.gz.age"
    assert opened(base64.b64decode(file["base64"])) == made.data


def test_a_file_is_too_large_by_what_would_leave(
    box: Box, made: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticket, "MOST_FILE_BYTES", len(made.data))
    with box.catalog.reading() as conn:
        assert not ticket.is_too_large(conn, made)
    choose(box, {"support.reader_key": READER})
    with box.catalog.reading() as conn:
        assert ticket.is_too_large(conn, made), "sealed it is longer"


def test_a_file_that_is_too_large_stays_and_is_named(
    box: Box, made: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticket, "MOST_FILE_BYTES", len(made.data) - 1)
    choose(box, {"support.mail": ADDRESS})
    with mail_room() as room:
        use_mail(box, room.port, security="none")
        assert not sent(box, made).attached
        Messenger(box, Surroundings(now=lambda: NOW)).send_next(Channel.MAIL)
        (letter,) = room.letters
    assert not list(letter.iter_attachments())
    body = letter.get_body(("plain",))
    assert body is not None
    assert "Trop gros pour être joint" in body.get_content()
    assert sha256(made.data).hexdigest() in body.get_content()
