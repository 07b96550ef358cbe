"""Notices written down, and everybody told who is to be: on the bell, by letter, by webhook, in one transaction.

What is told at once and what waits is decided here, from the rule, the severity and each person's choices: information
goes into the letter of the day; a warning waits for the end of somebody's quiet hours; what is critical waits for
nothing. The notice, the bells and the messages are one transaction, so a crash leaves all of them or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from appliance import settings
from appliance.catalog import Reading, Transaction, alerts, notice_preferences, notices, people, webhooks
from appliance.catalog import settings as box_settings
from appliance.catalog.notices import NoticeState
from appliance.catalog.people import Person
from appliance.errors import Refused
from appliance.notify import hooks, mail
from appliance.notify.hooks import News
from appliance.notify.kinds import RANK, AlertRule, Channel, Severity, rule_for, topic_of
from appliance.notify.preferences import Preferences, QuietHours, defaults, parse, quiet_until
from appliance.notify.texts import sentence, title

LETTER_OF = {"raised": "notice", "again": "again", "over": "over", "escalated": "escalation"}
"""Which letter says what."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A person with what that person has chosen to hear of."""

    person: Person
    preferences: Preferences


def preferences_of(conn: Reading, person: Person) -> Preferences:
    """What `person` has chosen, or the defaults of the role; choices that are no longer understood are left out."""
    return _preferences(person, notice_preferences.choices(conn).get(person.id), _clinic_quiet(conn))


def listeners(conn: Reading, roles: Iterable[str], persons: Iterable[str] = ()) -> list[Listener]:
    """Everybody who may sign in and has one of these roles, or one of these logins."""
    wanted_roles, wanted_logins = set(roles), set(persons)
    chosen, quiet = notice_preferences.choices(conn), _clinic_quiet(conn)
    return [
        Listener(each, _preferences(each, chosen.get(each.id), quiet))
        for each in people.people(conn)
        if each.active and (each.role in wanted_roles or each.login in wanted_logins)
    ]


def rule_of(conn: Reading, kind: str) -> AlertRule:
    """The rule of `kind` with what the clinic has changed."""
    return rule_for(kind, alerts.changes(conn).get(kind))


def tell(
    tx: Transaction, kind: str, *, now: datetime, subject: str = "", words: str = "", fix: str = ""
) -> int | None:
    """Tell of something that happened; the notice's id, None if the clinic has switched this kind off.

    `subject` is an identifier and leaves the box, `words` and `fix` are shown in the console only.
    """
    rule = rule_of(tx, kind)
    if not rule.enabled:
        return None
    return raise_notice(tx, rule, subject=subject, words=words, fix=fix, state=NoticeState.EVENT, now=now)


def raise_notice(
    tx: Transaction,
    rule: AlertRule,
    *,
    subject: str,
    words: str,
    fix: str,
    state: NoticeState,
    now: datetime,
) -> int:
    """Write a notice down and tell everybody of its rule; its id."""
    notice = notices.add(
        tx,
        kind=rule.kind,
        topic=rule.topic,
        severity=rule.severity,
        subject=subject,
        words=words,
        fix=fix,
        state=state,
        now=now,
    )
    news = News("raised", notice, rule.kind, rule.severity, rule.topic, subject)
    spread(tx, news, listeners(tx, rule.roles, rule.persons), rule.channels, now)
    return notice


def spread(
    tx: Transaction, news: News, audience: Sequence[Listener], channels: Sequence[Channel], now: datetime
) -> None:
    """Tell `news` to `audience` by those of `channels` that each has chosen, and to the clinic's webhooks.

    That something is over rings no bell: the notice there says so by itself.
    """
    critical = news.severity is Severity.CRITICAL
    by_letter = Channel.MAIL in channels
    bells: set[int] = set()
    daily: set[int] = set()
    for each in audience:
        chosen = each.preferences.by(topic_of(news.topic), news.severity)
        to_bell = Channel.BELL in channels and Channel.BELL in chosen
        address = each.preferences.mail_address if by_letter and Channel.MAIL in chosen else ""
        in_digest = bool(address) and news.severity is Severity.INFORMATION
        if to_bell:
            bells.add(each.person.id)
        if in_digest and each.preferences.digest:
            daily.add(each.person.id)
        elif address and not in_digest:
            waits = None if critical else quiet_until(each.preferences.quiet, each.preferences.zone(), now)
            _write(tx, news, each, address, waits, now)
    if news.event != "over":
        notices.tell(tx, news.notice, bells | daily, now, digest=daily)
        for person in daily - bells:  # it is known to the letter of the day, and rings nowhere
            notices.read(tx, news.notice, person, now)
    if Channel.WEBHOOK in channels:
        waits = None if critical else quiet_until(_clinic_quiet(tx), None, now)
        for hook in webhooks.webhooks(tx):
            if hooks.wants(hook, news.severity):
                hooks.enqueue(tx, hook, news, now, not_before=waits)


def digest(tx: Transaction, listener: Listener, now: datetime) -> int:
    """Write a person's letter of the day, if there is anything to say; how many notices are in it."""
    person, preferences = listener.person, listener.preferences
    rows = notices.for_digest(tx, person.id)
    if not rows or not preferences.mail_address:
        return 0
    language = _language(tx, person)
    lines = [f"• {title(language, row.kind, row.subject)}" for row in rows]
    mail.enqueue(
        tx,
        to=preferences.mail_address,
        letter="digest",
        language=language,
        now=now,
        values={"count": str(len(rows))},
        lines=lines,
        link=_notices(tx),
        urgency=RANK[Severity.INFORMATION],
    )
    notices.into_digest(tx, person.id, [row.id for row in rows], now)
    return len(rows)


def _write(
    tx: Transaction, news: News, to: Listener, address: str, waits: datetime | None, now: datetime
) -> None:
    language = _language(tx, to.person)
    mail.enqueue(
        tx,
        to=address,
        letter=LETTER_OF[news.event],
        language=language,
        now=now,
        values={
            "title": title(language, news.kind, news.subject),
            "severity": sentence(language, f"severity.{news.severity}"),
        },
        link=_notices(tx),
        urgency=RANK[news.severity],
        not_before=waits,
        notice=news.notice,
    )


def _notices(conn: Reading) -> str:
    """The address of the notices in the console; empty while nobody has given the box a name."""
    address = box_settings.get(conn, box_settings.CONSOLE, "")
    return f"{address}/notices" if address else ""


def _language(conn: Reading, person: Person) -> str:
    return person.language or str(settings.get(conn, "language.default"))


def _clinic_quiet(conn: Reading) -> QuietHours | None:
    return QuietHours.parse(settings.get(conn, "notify.quiet_hours"))


def _preferences(person: Person, value: object, quiet: QuietHours | None) -> Preferences:
    own = replace(defaults(person.role, person.login), quiet=quiet)
    if not isinstance(value, Mapping):
        return own
    try:
        return parse(value, own)
    except Refused:
        return own  # chosen under an older version: the defaults are better than nothing said
