"""Messages go out, or wait, or end with somebody knowing; one receiver in trouble holds up no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from appliance.box import Box
from appliance.catalog import notices, outbox, webhooks
from appliance.catalog.notices import Wanted
from appliance.notify import hooks, judging, mail, sending, smtp
from appliance.notify.hooks import Attachment, News
from appliance.notify.kinds import Channel, Severity
from appliance.notify.sending import Messenger, Surroundings
from tests.notify.conftest import NOW, use_mail
from tests.notify.mail_room import MailRoom
from tests.notify.receiver import receiver
from tests.notify.test_telling import FULL

READER = "ana@clinique.example"
VENDOR = "aide@fournisseur.example"
FILE = Attachment("support.tar.gz", 4, "-", "ZmlsZQ==")


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def later(self, **spans: float) -> datetime:
        self.now += timedelta(**spans)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def messenger(box: Box, clock: Clock) -> Messenger:
    """One that is asked step by step."""
    return Messenger(box, Surroundings(now=clock, jitter=lambda: 0.0))


@pytest.fixture
def running(box: Box) -> Iterator[Messenger]:
    """One with its threads, that looks by itself once an hour: what it does sooner, it does because it was woken."""
    messenger = Messenger(box, Surroundings(poll_seconds=3600))
    messenger.start()
    yield messenger
    messenger.stop()


def letter(box: Box, now: datetime = NOW, **others: object) -> int:
    with box.catalog.transaction() as tx:
        asked = {"to": READER, "letter": "test", "language": "en", "now": now}
        return mail.enqueue(tx, **(asked | others))  # type: ignore[arg-type]


def hook_to(box: Box, url: str, name: str = "chat") -> webhooks.Webhook:
    with box.catalog.transaction() as tx:
        return hooks.add(tx, name=name, url=url, on_lan=True, now=NOW)


def news_for(box: Box, hook: webhooks.Webhook, now: datetime = NOW) -> int:
    with box.catalog.transaction() as tx:
        return hooks.enqueue(tx, hook, News("raised", 0, "test", Severity.WARNING, "machine", ""), now)


def state(box: Box, number: int) -> tuple[str, int, str]:
    with box.catalog.reading() as conn:
        found = outbox.message(conn, number)
    assert found is not None
    return found.state, found.attempts, found.reason


def failures(box: Box) -> list[str]:
    with box.catalog.reading() as conn:
        rows = notices.history(conn, 0, Wanted(), everything=True, limit=100)
    return [row.subject for row in rows if row.kind == "message-failed"]


# --- letters ---------------------------------------------------------------------------------------------------------


def test_a_letter_waits_longer_after_each_failure_and_goes_under_the_same_id(
    box: Box, room: MailRoom, messenger: Messenger, clock: Clock
) -> None:
    number = letter(box)
    room.answers = ["451 later", "rcpt 450 greylisted", "drop"]
    for attempts, wait in ((1, 2), (2, 4), (3, 8)):
        assert messenger.send_next(Channel.MAIL)
        assert state(box, number)[:2] == ("WAITING", attempts)
        clock.later(seconds=wait - 0.5)
        assert not messenger.send_next(Channel.MAIL)
        clock.later(seconds=0.5)
    assert messenger.send_next(Channel.MAIL)
    assert state(box, number)[:2] == ("SENT", 4)
    assert len(room.letters) == 1
    assert failures(box) == []


def test_a_letter_that_is_refused_ends_with_a_notice(box: Box, room: MailRoom, messenger: Messenger) -> None:
    number = letter(box)
    room.answers = ["rcpt 550 no such mailbox"]
    messenger.send_next(Channel.MAIL)
    assert state(box, number)[0] == "REFUSED"
    assert failures(box) == [f"message {number}"]
    assert not messenger.send_next(Channel.MAIL)


def test_a_letter_that_nobody_took_in_days_ends_with_a_notice(
    box: Box, messenger: Messenger, clock: Clock
) -> None:
    number = letter(box)
    assert messenger.send_next(Channel.MAIL)
    assert state(box, number)[2] == "no mail server is set"
    sending.look_after(box, clock.later(days=4.9))
    assert state(box, number)[0] == "WAITING"
    sending.look_after(box, clock.later(days=0.2))
    assert state(box, number)[0] == "EXPIRED"
    assert failures(box) == [f"message {number}"]


def test_a_server_that_is_away_is_left_alone_and_found_again(
    box: Box, messenger: Messenger, clock: Clock, free_port: Callable[[], int]
) -> None:
    from tests.notify.mail_room import mail_room

    use_mail(box, free_port(), security="none")
    numbers = [letter(box) for _ in range(5)]
    assert messenger.send_next(Channel.MAIL)
    assert not messenger.send_next(Channel.MAIL), "the others are not tried while the server is away"
    with mail_room() as room:
        use_mail(box, room.port, security="none")
        clock.later(minutes=1)
        while messenger.send_next(Channel.MAIL):
            pass
        assert {state(box, number)[0] for number in numbers} == {"SENT"}
        assert len({each["Message-ID"] for each in room.letters}) == 5


def test_what_is_critical_leaves_first(box: Box, room: MailRoom, messenger: Messenger) -> None:
    letter(box, urgency=0, to="c@clinique.example")
    letter(box, urgency=1, to="b@clinique.example")
    letter(box, urgency=2, to="a@clinique.example")
    while messenger.send_next(Channel.MAIL):
        pass
    assert [reader[0] for reader in room.readers] == ["a", "b", "c"]


def test_a_clock_that_was_put_back_holds_no_letter(
    box: Box, room: MailRoom, messenger: Messenger, clock: Clock
) -> None:
    number = letter(box, now=NOW + timedelta(days=30))
    assert messenger.send_next(Channel.MAIL)
    assert state(box, number)[0] == "SENT"


# --- letters with a file ---------------------------------------------------------------------------------------------


def test_a_letter_with_a_file_that_the_server_chokes_on_holds_up_no_alarm(
    box: Box, room: MailRoom, messenger: Messenger
) -> None:
    ticket, alarm = letter(box, to=VENDOR, attachment=FILE, urgency=2), letter(box)
    room.answers = ["drop"]
    assert messenger.send_next(Channel.MAIL)
    assert state(box, ticket)[:2] == ("WAITING", 1)
    assert messenger.send_next(Channel.MAIL)
    assert state(box, alarm)[0] == "SENT"


def test_an_alarm_leaves_while_the_server_looks_into_a_file(
    box: Box, room: MailRoom, running: Messenger, eventually: Callable[..., None]
) -> None:
    room.answers = ["scan"]
    ticket = letter(box, to=VENDOR, attachment=FILE)
    running.wake()
    assert room.scanning.acquire(timeout=60)
    letter(box)
    running.wake()
    eventually(lambda: room.readers == [READER], within_seconds=60)
    assert state(box, ticket)[0] == "SENDING"
    room.scanned.set()
    eventually(lambda: state(box, ticket)[0] == "SENT", within_seconds=60)


def test_what_another_process_wrote_is_found_without_a_word(
    box: Box, room: MailRoom, eventually: Callable[..., None]
) -> None:
    messenger = Messenger(box, Surroundings(poll_seconds=0.01))
    messenger.start()
    try:
        number = letter(box)
        eventually(lambda: state(box, number)[0] == "SENT", within_seconds=60)
    finally:
        messenger.stop()


def test_nobody_but_one_looks_while_there_is_nothing_to_send(
    box: Box, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    looks: dict[str, list[str]] = {"at": [], "is_due": []}
    for place, name in ((outbox.Due, "at"), (outbox, "is_due")):
        real = getattr(place, name)

        def look(
            *asked: object,
            _real: Callable[..., bool] = real,
            _whose: list[str] = looks[name],
            **more: object,
        ) -> bool:
            _whose.append(threading.current_thread().name)
            return _real(*asked, **more)

        monkeypatch.setattr(place, name, look)
    messenger = Messenger(box, Surroundings(poll_seconds=0.01))
    messenger.start()
    eventually(lambda: len(looks["at"]) > 30, within_seconds=60)
    messenger.stop()
    assert set(looks["at"]) == {"messages"}
    assert "messages" not in looks["is_due"]
    assert sorted(looks["is_due"]) == sorted(set(looks["is_due"])), "again, with nothing to do"


def test_the_cheap_question_is_about_the_hour_alone(box: Box) -> None:
    due = outbox.Due(box.catalog)
    asked = due.at
    assert not asked(NOW)
    number = letter(box, now=NOW + timedelta(hours=1))
    assert not asked(NOW)
    assert asked(NOW + timedelta(hours=1))
    assert asked(NOW - outbox.FURTHEST), "a clock that was set back far"
    with box.catalog.transaction() as tx:
        assert outbox.claim(tx, Channel.MAIL, NOW + timedelta(hours=1), 60) is not None
    assert not asked(NOW + timedelta(hours=1)), "somebody sends it"
    with box.catalog.transaction() as tx:
        outbox.sent(tx, number, NOW)
    assert not asked(NOW + timedelta(hours=1))
    due.close()


def test_a_letter_with_a_file_is_nobody_elses_while_its_server_may_look_into_it(
    box: Box, room: MailRoom, clock: Clock
) -> None:
    number, seen = letter(box, attachment=FILE), list[str]()

    def look_after(step: str) -> None:
        if step == "claimed":  # to begin, to read it, to answer
            sending.give_back(box, clock.later(seconds=3 * smtp.PATIENCE_SECONDS))
            seen.append(state(box, number)[0])

    Messenger(box, Surroundings(now=clock, reached=look_after)).send_next(Channel.MAIL)
    assert seen == ["SENDING"]
    assert state(box, number)[0] == "SENT"


# --- webhooks --------------------------------------------------------------------------------------------------------


def test_a_webhook_is_retried_with_the_same_body_and_id_then_seen_to_work(
    box: Box, messenger: Messenger, clock: Clock
) -> None:
    with receiver() as found:
        hook = hook_to(box, found.url())
        number = news_for(box, hook)
        found.answers = [500, 503]
        while state(box, number)[0] != "SENT":
            messenger.send_next(Channel.WEBHOOK)
            clock.later(seconds=10)
        assert len(found.bodies) == 3
        assert len(set(found.bodies)) == 1
        assert len({each["X-Appliance-Delivery"] for each in found.headers}) == 1
        assert len({each["X-Appliance-Timestamp"] for each in found.headers}) == 3, (
            "each attempt is signed anew"
        )
    with box.catalog.reading() as conn:
        kept = webhooks.webhook(conn, hook.id)
    assert kept is not None
    assert kept.breaker.failures == 0
    assert kept.last_success_utc is not None


def test_the_breaker_of_one_webhook_holds_up_no_other(
    box: Box, messenger: Messenger, clock: Clock, free_port: Callable[[], int]
) -> None:
    with receiver() as found:
        away, here = (
            hook_to(box, f"http://127.0.0.1:{free_port()}/", "away"),
            hook_to(box, found.url(), "here"),
        )
        for _ in range(3):
            news_for(box, away)
        mine = news_for(box, here)
        done = [messenger.send_next(Channel.WEBHOOK) for _ in range(4)]
        assert done == [True, True, False, False], "one try of the one that is away, one delivery"
        assert state(box, mine)[0] == "SENT"
    with box.catalog.reading() as conn:
        kept = webhooks.webhook(conn, away.id)
    assert kept is not None
    assert kept.breaker.failures == 1
    assert "cannot be reached" in kept.breaker.reason


def test_a_webhook_that_was_removed_gets_nothing_more(box: Box, messenger: Messenger) -> None:
    with receiver() as found:
        number = news_for(box, hook_to(box, found.url()))
        with box.catalog.transaction() as tx:
            hooks.remove(tx, "chat", NOW)
        assert not messenger.send_next(Channel.WEBHOOK)
        assert state(box, number)[0] == "CANCELLED"
        assert found.bodies == []


def test_a_slow_webhook_holds_up_no_other(box: Box, running: Messenger) -> None:
    with receiver() as slow, receiver() as quick:
        one, other = hook_to(box, slow.url(path="/slow"), "slow"), hook_to(box, quick.url(), "quick")
        for _ in range(5):
            news_for(box, one)
        news_for(box, other)
        running.wake()
        assert quick.arrived.acquire(timeout=60)
        assert slow.arrived.acquire(timeout=60)
        assert len(slow.bodies) == 1, "no second message to a receiver that has not answered the first"
        slow.gate.set()


def test_a_judgement_wakes_the_threads_that_send(
    box: Box, room: MailRoom, running: Messenger, eventually
) -> None:
    """By structure: the threads look by themselves once an hour only, so it is the wake that makes them send."""
    with receiver() as found:
        hook_to(box, found.url())
        judging.apply(box.catalog, [FULL], NOW)
        running.wake()
        assert found.arrived.acquire(timeout=60)
        eventually(lambda: len(room.letters) == 2, within_seconds=60)


def test_messages_of_a_process_that_died_go_back_to_the_queue(box: Box, clock: Clock) -> None:
    number = letter(box)
    with box.catalog.transaction() as tx:
        assert outbox.claim(tx, Channel.MAIL, NOW, 300) is not None
        assert outbox.claim(tx, Channel.MAIL, NOW, 300) is None
    sending.look_after(box, clock.later(seconds=299))
    assert state(box, number)[0] == "SENDING"
    sending.look_after(box, clock.later(seconds=2))
    assert state(box, number)[0] == "WAITING"


def test_the_list_of_messages_does_not_grow_for_ever(
    box: Box, room: MailRoom, messenger: Messenger, clock: Clock
) -> None:
    number = letter(box)
    messenger.send_next(Channel.MAIL)
    sending.look_after(box, clock.later(days=91))
    with box.catalog.reading() as conn:
        assert outbox.message(conn, number) is None


def test_nothing_secret_is_in_the_log(
    box: Box, room: MailRoom, messenger: Messenger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with receiver() as found:
        hook = hook_to(box, found.url(path="/hook?token=geheim"))
        news_for(box, hook)
        found.answers = [500]
        letter(box, link="https://box.example/reset#geheim")
        room.answers = ["rcpt 550 no"]
        messenger.send_next(Channel.MAIL)
        messenger.send_next(Channel.WEBHOOK)
    said = " ".join(each.getMessage() for each in caplog.records if each.name.startswith("appliance"))
    assert "was refused" in said
    assert "asks to wait" in said
    for secret in ("geheim", hook.secret, READER):
        assert secret not in said
