"""What is wrong at this moment, compared with what was, and everybody told: one transaction a judgement.

The deciding is `appliance.notify.alerts` and `appliance.notify.escalation`; here it meets the catalog. Nothing is written
when nothing has changed, so that this may run every few seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from appliance.catalog import Catalog, Reading, Transaction, alerts, notices, people, settings
from appliance.catalog.alerts import AlertState
from appliance.catalog.notices import NoticeState
from appliance.errors import Refused
from appliance.notify import escalation, personal
from appliance.notify.alerts import Condition, Judgement, Standing, judge
from appliance.notify.escalation import Step
from appliance.notify.hooks import News
from appliance.notify.kinds import AlertRule, Severity, rule_for, severity_of
from appliance.notify.preferences import digest_is_due
from appliance.notify.telling import digest, listeners, raise_notice, rule_of, spread, tell

ESCALATION = "notify.escalation"
AUDIT_SEEN = "notify.audit-seen"
"""Keys of `appliance.catalog.settings`: the clinic's chain; the last row of the audit that was looked at."""

TOLD_FROM_AUDIT: Mapping[str, str] = {
    "access:break-glass": "break-glass",
    "destruction:ask": "destruction-asked",
    "destruction:approve": "destruction-approved",
    "destruction:withdraw": "destruction-ended",
    "destruction:expire": "destruction-ended",
    "destruction:find": "destruction-found",
    "study:return": "study-returned",
}
"""What is told because the audit says so: action → kind. Whoever acts writes the audit, and can't forget to tell."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How much a judgement had to say."""

    raised: int = 0
    again: int = 0
    over: int = 0
    escalated: int = 0

    @property
    def said_anything(self) -> bool:
        return bool(self.raised or self.again or self.over or self.escalated)


def apply(catalog: Catalog, conditions: Iterable[Condition], now: datetime) -> Outcome:
    """Judge `conditions` at `now`, look at the audit and at what waits to be acknowledged, and tell."""
    found = tuple(conditions)
    with catalog.reading() as conn:
        idle = _is_idle(conn, found, now)
    if idle:
        return Outcome()
    with catalog.transaction() as tx:
        decided = _judged(tx, found, now)
        _write(tx, decided, now)
        happened = _from_audit(tx, now) + personal.tell_of_accounts(tx, now)
        return Outcome(
            raised=len(decided.raised) + happened,
            again=len(decided.again),
            over=len(decided.over),
            escalated=_escalate(tx, now),
        )


def send_digests(catalog: Catalog, now: datetime) -> int:
    """Write the letters of the day that are due. How many."""
    with catalog.reading() as conn:
        everybody = listeners(conn, _all_roles(conn))
        due = [
            each
            for each in everybody
            if digest_is_due(each.preferences.zone(), notices.last_digest(conn, each.person.id), now)
            and notices.for_digest(conn, each.person.id)
        ]
    written = 0
    for each in due:
        with catalog.transaction() as tx:
            written += bool(digest(tx, each, now))
    return written


def chain(conn: Reading) -> tuple[Step, ...]:
    """The clinic's escalation, or the delivered one."""
    kept: Any = settings.get(conn, ESCALATION)
    if kept is None:
        return escalation.CHAIN
    try:
        return escalation.parse(kept, roles=[role for each in kept for role in each["roles"]])
    except (Refused, KeyError, TypeError):
        return escalation.CHAIN


def change_chain(tx: Transaction, steps: Sequence[Step], now: datetime) -> None:
    """Keep another escalation."""
    settings.put(tx, ESCALATION, escalation.as_value(steps), now)


def _is_idle(conn: Reading, conditions: tuple[Condition, ...], now: datetime) -> bool:
    """Whether a judgement would write nothing."""
    decided = _judged(conn, conditions, now)
    changed = decided.raised or decided.again or decided.over or decided.dropped
    kept = {each.key: each for each in decided.kept}
    same = kept == {each.key: each for each in _remembered(conn)}
    last = settings.get(conn, AUDIT_SEEN, 0)
    steps = chain(conn)
    return (
        not changed
        and same
        and not notices.audited_since(conn, TOLD_FROM_AUDIT, last)
        and personal.is_idle(conn)
        and not any(_steps_due(steps, each, now) > each.escalated for each in notices.unacknowledged(conn))
    )


def _judged(conn: Reading, conditions: tuple[Condition, ...], now: datetime) -> Judgement:
    changes = alerts.changes(conn)

    def rule(kind: str) -> AlertRule:
        return rule_for(kind, changes.get(kind))

    return judge(rule, _remembered(conn), conditions, now)


def _remembered(conn: Reading) -> list[Standing]:
    return [
        Standing(each.kind, each.subject, each.since_utc, each.gone_utc, each.notice, each.told_utc)
        for each in alerts.states(conn)
    ]


def _write(tx: Transaction, decided: Judgement, now: datetime) -> None:
    for kind, subject in decided.dropped:
        alerts.forget(tx, kind, subject)
    for standing in decided.kept:
        _remember(tx, standing)
    for each in decided.raised:
        notice = raise_notice(
            tx,
            each.rule,
            subject=each.standing.subject,
            words=each.condition.words,
            fix=each.condition.fix,
            state=NoticeState.STANDING,
            now=now,
        )
        _remember(tx, replace(each.standing, notice=notice))
    for said in decided.again:
        _remember(tx, said.standing)
        assert said.standing.notice is not None
        notices.renew(
            tx,
            said.standing.notice,
            severity=said.rule.severity,
            words=said.condition.words,
            fix=said.condition.fix,
        )
        if not _is_taken_in_hand(tx, said.standing.notice):
            _spread(tx, "again", said.standing.notice, said.rule, now)
    for standing in decided.over:
        assert standing.notice is not None
        notices.end(tx, standing.notice, now)
        rule = rule_of(tx, standing.kind)
        if rule.severity is not Severity.INFORMATION:
            _spread(tx, "over", standing.notice, rule, now)


def _is_taken_in_hand(tx: Transaction, notice: int) -> bool:
    """Somebody who acknowledged is at it: saying it again would only be noise."""
    return notices.notice(tx, notice).acknowledged_utc is not None


def _spread(tx: Transaction, event: str, notice: int, rule: AlertRule, now: datetime) -> None:
    row = notices.notice(tx, notice)
    news = News(event, notice, row.kind, severity_of(row.severity), row.topic, row.subject)
    spread(tx, news, listeners(tx, rule.roles, rule.persons), rule.channels, now)


def _remember(tx: Transaction, standing: Standing) -> None:
    alerts.remember(
        tx,
        AlertState(
            standing.kind,
            standing.subject,
            standing.since_utc,
            standing.gone_utc,
            standing.notice,
            standing.told_utc,
        ),
    )


def _from_audit(tx: Transaction, now: datetime) -> int:
    last = int(settings.get(tx, AUDIT_SEEN, 0))
    found = notices.audited_since(tx, TOLD_FROM_AUDIT, last)
    for _, action, subject in found:
        tell(tx, TOLD_FROM_AUDIT[action], subject=subject, now=now)
    if found:
        settings.put(tx, AUDIT_SEEN, found[-1][0], now)
    return len(found)


def _escalate(tx: Transaction, now: datetime) -> int:
    """Tell the next people of what is critical and waits to be acknowledged. How many notices."""
    steps, said = chain(tx), 0
    for row in notices.unacknowledged(tx):
        due = _steps_due(steps, row, now)
        if due <= row.escalated:
            continue
        step = escalation.step_for(steps, due)
        news = News("escalated", row.id, row.kind, Severity.CRITICAL, row.topic, row.subject)
        spread(tx, news, listeners(tx, step.roles, step.persons), step.channels, now)
        notices.escalate(tx, row.id, due, now)
        said += 1
    return said


def _steps_due(steps: Sequence[Step], row: notices.NoticeRow, now: datetime) -> int:
    last = min(row.escalated_utc or row.raised_utc, now)
    return escalation.steps_due(steps, min(row.raised_utc, now), row.escalated, last, now)


def _all_roles(conn: Reading) -> set[str]:
    return {each.role for each in people.people(conn)}
