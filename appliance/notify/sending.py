"""Carrying messages out of the box, by threads of the jobs process, until each has arrived or is known not to.

A message is claimed with a lease, sent, and recorded: three steps, of which the process may die in any. Claimed and not
sent, it goes back to the queue; sent and not recorded, it goes a second time under the same id, which a receiver can
tell. So nothing is lost, and what can double is marked as the same.

Chosen: two threads for letters, because a mail server wants few conversations, but may look into the file of one letter for
minutes, and no alarm waits for that; and three for webhooks. No two serve the same receiver: one that is slow holds up no
other. The threads are woken by the judgement that wrote the messages, so that the first attempt follows within one turn of
a lock. Messages that another process has written (an invitation), and those whose hour comes, are found within
`Surroundings.poll_seconds` by one thread more, which looks for all: five that looked each for itself were the most that an
idle box did.

A receiver that is away is left alone for longer and longer (`appliance.replication.delivery.Breaker`); a letter with a file
says nothing of that, because its file may be what the mail server is slow with. Messages never end silently: what was
refused, or not taken until its time was over, is itself a notice.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from appliance.box import Box
from appliance.catalog import Transaction, outbox, webhooks
from appliance.catalog.outbox import Message
from appliance.catalog.webhooks import Webhook
from appliance.errors import ApplianceError, OperatorNeeded, Refused, Transient
from appliance.notify import hooks, mail, smtp
from appliance.notify.kinds import Channel
from appliance.notify.telling import tell
from appliance.replication.delivery import Breaker, after_failure, back_off, is_over

LEASE_SECONDS = 300.0
FILE_LEASE_SECONDS = 3600.0
"""Of a letter with a file: three times `smtp.PATIENCE_SECONDS` (to begin, to be read, to be answered), and to spare."""
LETTER_THREADS = 2
WEBHOOK_THREADS = 3
KEPT = timedelta(days=90)
"""How long the list of messages that ended is kept."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What a test may replace: the clock, chance, the pace, and a word at each step (``claimed``, ``sent``, ``recorded``)."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jitter: Callable[[], float] = random.random
    poll_seconds: float = 1.0
    reached: Callable[[str], None] = lambda _: None


@dataclass
class Messenger:
    """The threads, and one step of each as a method. `patience_seconds` is for letters with a file."""

    box: Box
    surroundings: Surroundings = field(default_factory=Surroundings)
    patience_seconds: float = smtp.PATIENCE_SECONDS

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._news = threading.Condition()
        self._turn = 0
        self._threads: list[threading.Thread] = []
        self._due = outbox.Due(self.box.catalog)
        self._mail_breaker = Breaker()

    def start(self) -> None:
        """Begin. What a process that died was sending goes back to the queue."""
        with self.box.catalog.transaction() as tx:
            outbox.release_all(tx, self.surroundings.now())
        lanes = [
            *((Channel.MAIL, f"letters-{n}") for n in range(LETTER_THREADS)),
            *((Channel.WEBHOOK, f"hooks-{n}") for n in range(WEBHOOK_THREADS)),
        ]
        for channel, name in lanes:
            thread = threading.Thread(target=self._run, args=(channel,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        thread = threading.Thread(target=self._watch, name="messages", daemon=True)
        thread.start()
        self._threads.append(thread)

    def wake(self) -> None:
        """There may be something to send: look now."""
        with self._news:
            self._turn += 1
            self._news.notify_all()

    def stop(self) -> None:
        """End; what is being sent is sent first, unless its receiver is slow: that goes back to the queue."""
        self._stop.set()
        self.wake()
        for thread in self._threads:
            thread.join(smtp.TIMEOUT_SECONDS)
        self._due.close()

    def _run(self, channel: Channel) -> None:
        while not self._stop.is_set():
            with self._news:
                turn = self._turn
            try:
                busy = self.send_next(channel)
            except ApplianceError as error:  # the catalog is busy or away; the message keeps its lease
                log.error("a message could not be sent: %s", error)
                busy = False
            if busy:
                continue
            with self._news:
                while self._turn == turn and not self._stop.is_set():
                    self._news.wait()

    def _watch(self) -> None:
        while not self._stop.wait(self.surroundings.poll_seconds):
            try:
                is_due = self._due.at(self.surroundings.now())
            except ApplianceError as error:  # it is asked again
                log.error("nobody could see whether a message is due: %s", error)
                is_due = False
            if is_due:
                self.wake()

    def send_next(self, channel: Channel) -> bool:
        """Send one message of `channel` that is due, if there is one."""
        now = self.surroundings.now()
        if channel is Channel.MAIL and not _may_try(self._mail_breaker, now):
            return False
        with self.box.catalog.reading() as conn:
            resting = {str(each.id) for each in webhooks.webhooks(conn) if not _may_try(each.breaker, now)}
            due = outbox.is_due(conn, channel, now, without=resting)
        if not due:
            return False
        with self.box.catalog.transaction() as tx:
            message = outbox.claim(tx, channel, now, LEASE_SECONDS, without=resting)
            if message is not None and mail.has_file(message):
                outbox.hold(tx, message.id, now + timedelta(seconds=FILE_LEASE_SECONDS))
        if message is None:
            return False
        self.surroundings.reached("claimed")
        if channel is Channel.MAIL:
            self._send_letter(message)
        else:
            self._post(message)
        self.surroundings.reached("recorded")
        return True

    # --- letters -----------------------------------------------------------------------------------------------------

    def _send_letter(self, message: Message) -> None:
        try:
            with self.box.catalog.reading() as conn:
                server = smtp.mail_server(conn, self.box.root)
            if server is None:
                raise smtp.no_server()
            patience = self.patience_seconds if mail.has_file(message) else smtp.TIMEOUT_SECONDS
            letter = mail.as_bytes(message, server)
            receipt = smtp.hand_over(server, message.address, letter, patience_seconds=patience)
        except Refused as error:
            refusal = error.message
            self._record(lambda tx, now: self._refused(tx, message, refusal, now))
        except (Transient, OperatorNeeded) as error:
            reason = error.message
            moment = self.surroundings.now()
            of_this_letter = reason.startswith("the mail server asks to wait") or mail.has_file(message)
            if not of_this_letter:  # the server is away
                self._mail_breaker = after_failure(
                    self._mail_breaker, reason, moment, self.surroundings.jitter()
                )
            self._record(lambda tx, now: self._postponed(tx, message, reason, now))
        else:
            self._mail_breaker = Breaker()
            self.surroundings.reached("sent")
            self._record(lambda tx, now: outbox.sent(tx, message.id, now, receipt))

    # --- webhooks ----------------------------------------------------------------------------------------------------

    def _post(self, message: Message) -> None:
        with self.box.catalog.reading() as conn:
            hook = webhooks.webhook(conn, int(message.address))
        if hook is None:
            self._record(lambda tx, now: outbox.cancel(tx, Channel.WEBHOOK, message.address, now))
            return
        known: Webhook = hook
        try:
            status = hooks.send(known, message, self.surroundings.now())
        except Refused as error:
            refusal = error.message
            self._record(lambda tx, now: self._refused(tx, message, refusal, now))
        except (Transient, OperatorNeeded) as error:
            reason = error.message
            breaker = after_failure(
                known.breaker, reason, self.surroundings.now(), self.surroundings.jitter()
            )

            def postpone(tx: Transaction, now: datetime) -> None:
                self._postponed(tx, message, reason, now)
                webhooks.set_breaker(tx, known.id, breaker)

            self._record(postpone)
        else:
            self.surroundings.reached("sent")

            def sent(tx: Transaction, now: datetime) -> None:
                outbox.sent(tx, message.id, now, f"status {status}")
                webhooks.succeeded(tx, known.id, now)
                if known.breaker.failures:
                    outbox.wake(tx, Channel.WEBHOOK, message.address, now)

            self._record(sent)

    # --- what came of it ---------------------------------------------------------------------------------------------

    def _record(self, write: Callable[[Transaction, datetime], object]) -> None:
        with self.box.catalog.transaction() as tx:
            write(tx, self.surroundings.now())

    def _refused(self, tx: Transaction, message: Message, reason: str, now: datetime) -> None:
        outbox.refused(tx, message.id, reason, now)
        log.warning("message %d was refused: %s", message.id, reason)
        _tell_of_failure(tx, message, reason, now)

    def _postponed(self, tx: Transaction, message: Message, reason: str, now: datetime) -> None:
        seconds = back_off(message.attempts, self.surroundings.jitter())
        outbox.postpone(tx, message.id, reason, now + timedelta(seconds=seconds), now)
        log.warning("message %d waits %.0f s: %s", message.id, seconds, reason)


def give_back(box: Box, now: datetime) -> None:
    """Give back what its sender has left, which it then tries again."""
    with box.catalog.transaction() as tx:
        outbox.release_expired(tx, now)


def look_after(box: Box, now: datetime) -> None:
    """Give back what its sender has left, end what has waited too long and say so, forget what ended long ago."""
    with box.catalog.transaction() as tx:
        outbox.release_expired(tx, now)
        for message in outbox.expire(tx, now):
            log.warning("message %d was not taken until its time was over: %s", message.id, message.reason)
            _tell_of_failure(tx, message, message.reason or "it was never tried", now)
        outbox.forget(tx, now - KEPT)


def _tell_of_failure(tx: Transaction, message: Message, reason: str, now: datetime) -> None:
    """A message that ends without having arrived is itself something to know; on the bell, which needs no message."""
    channel = "a letter" if message.channel == Channel.MAIL else "a message to a webhook"
    tell(
        tx,
        "message-failed",
        subject=f"message {message.id}",
        words=f"{channel} has not arrived: {reason}",
        fix="see the messages under Notices, Channels; correct the address or the settings",
        now=now,
    )


def _may_try(breaker: Breaker, now: datetime) -> bool:
    return breaker.open_until_utc is None or is_over(breaker.open_until_utc, now)
