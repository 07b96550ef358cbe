"""Reports of the audit: what one patient's images went through, what one person did, and the year.

The yearly report is the one of R-22.1 s.103 and r.2 s.6: accesses, uses and communications counted, by whom, to whom,
with what failed, what was refused, and whether the log itself held. Everything is derived from the vocabulary, so a new
word is counted the day it is written.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from appliance.audit.vocabulary import VOCABULARY, Concerns, Kind, Outcome
from appliance.catalog import Reading, audit_search
from appliance.catalog.audit_log import AuditRow
from appliance.catalog.audit_search import Wanted
from appliance.catalog.columns import canonical_json

MOST_ROWS = 2000
"""Rows that a report spells out; the export has all."""

BREAK_GLASS = tuple(word for word in VOCABULARY if "glass" in word)
VERIFICATIONS = ("audit:verify", "store:verify")


@dataclass(frozen=True, slots=True)
class Report:
    """What a report says. `rows` are the newest first; counts by word, by actor, by recipient, the most frequent first."""

    wanted: Wanted
    made_utc: datetime
    kinds: Mapping[Kind, int]
    words: Sequence[tuple[str, str, int]]  # word, outcome, count
    actors: Sequence[tuple[str, str, int, int]]  # actor, kind, acts, of them not done
    recipients: Sequence[tuple[str, str, int]]  # word, to, count
    failures: int
    refusals: int
    break_glass: int
    verifications: int
    verifications_failed: int
    rows: Sequence[AuditRow]
    all_rows: int


def kind_of(action: object) -> Kind:
    """The kind of a recorded word; what the vocabulary of today does not know is about the machine."""
    word = VOCABULARY.get(str(action))
    return Kind.MACHINE if word is None else word.kind


def of(reading: Reading, wanted: Wanted, now: datetime) -> Report:
    """A report of whatever is wanted."""
    return _report(reading, wanted, now)


def of_study(
    reading: Reading, studies: tuple[str, ...], listed: tuple[int, ...], period: Wanted, now: datetime
) -> Report:
    """Who saw, got or changed the images of a patient, whose studies these are.

    `listed` are their row ids. That somebody had the name before their eyes in a list is an access too (P-39.1 s.27,
    R-22.1 s.103): the report has those lists, one row each. It goes to the patient, so of the studies that such a row
    names it has the patient's own; whole rows are in the export.
    """
    made = _report(reading, replace(period, studies=studies, listed=listed), now)
    return replace(made, rows=[_with_own(row, frozenset(listed)) for row in made.rows])


def _with_own(row: AuditRow, own: frozenset[int]) -> AuditRow:
    """`row` without the row ids of studies that are not among `own`."""
    try:
        details = json.loads(row.details)
    except (TypeError, ValueError):
        return row
    if not isinstance(details, dict) or not isinstance(details.get("studies"), list):
        return row
    kept = [each for each in details["studies"] if each in own]
    return replace(row, details=canonical_json(details | {"studies": kept}))


def of_actor(reading: Reading, actor: str, period: Wanted, now: datetime) -> Report:
    """What somebody did."""
    return _report(reading, replace(period, actor=actor), now)


def of_year(reading: Reading, period: Wanted, now: datetime) -> Report:
    """The yearly report; its rows are what did not end well, and emergency access."""
    return _report(
        reading, Wanted(since_utc=period.since_utc, until_utc=period.until_utc), now, anomalies=True
    )


def _report(reading: Reading, wanted: Wanted, now: datetime, *, anomalies: bool = False) -> Report:
    tallies = audit_search.tallies(reading, wanted)
    kinds: Counter[Kind] = Counter()
    words: Counter[tuple[str, str]] = Counter()
    acts: Counter[tuple[str, str]] = Counter()
    not_done: Counter[tuple[str, str]] = Counter()
    outcomes: Counter[str] = Counter()
    for each in tallies:
        who = (each.actor, each.actor_kind)
        kinds[kind_of(each.action)] += each.count
        words[each.action, each.outcome] += each.count
        acts[who] += each.count
        outcomes[each.outcome] += each.count
        if each.outcome not in (Outcome.DONE, ""):
            not_done[who] += each.count
    sent = tuple(word for word, meant in VOCABULARY.items() if meant.kind is Kind.COMMUNICATION)
    communications = Wanted(
        wanted.actor,
        sent,
        wanted.studies,
        wanted.listed,
        since_utc=wanted.since_utc,
        until_utc=wanted.until_utc,
    )
    return Report(
        wanted=wanted,
        made_utc=now,
        kinds={kind: kinds[kind] for kind in Kind},
        words=[(word, outcome, count) for (word, outcome), count in words.most_common()],
        actors=[(*who, count, not_done[who]) for who, count in acts.most_common()],
        recipients=audit_search.recipients(reading, communications),
        failures=outcomes[Outcome.FAILED],
        refusals=outcomes[Outcome.REFUSED],
        break_glass=sum(count for (word, _), count in words.items() if word in BREAK_GLASS),
        verifications=sum(count for (word, _), count in words.items() if word in VERIFICATIONS),
        verifications_failed=sum(
            count
            for (word, outcome), count in words.items()
            if word in VERIFICATIONS and outcome == Outcome.FAILED
        ),
        rows=_anomalies(reading, wanted)
        if anomalies
        else audit_search.find(reading, wanted, limit=MOST_ROWS),
        all_rows=sum(each.count for each in tallies),
    )


def _anomalies(reading: Reading, wanted: Wanted) -> list[AuditRow]:
    """What did not end well, and emergency access, the newest first."""
    period = Wanted(since_utc=wanted.since_utc, until_utc=wanted.until_utc)
    found = {
        row.id: row
        for outcome in (Outcome.REFUSED, Outcome.FAILED)
        for row in audit_search.find(reading, replace(period, outcome=outcome), limit=MOST_ROWS // 4)
    }
    if BREAK_GLASS:
        rows = audit_search.find(reading, replace(period, actions=BREAK_GLASS), limit=MOST_ROWS // 4)
        found |= {row.id: row for row in rows}
    return [found[number] for number in sorted(found, reverse=True)]


def as_document(report: Report) -> dict[str, object]:
    """The report as JSON-able values."""
    return {
        "made_utc": report.made_utc.isoformat(),
        "since_utc": report.wanted.since_utc.isoformat() if report.wanted.since_utc else None,
        "until_utc": report.wanted.until_utc.isoformat() if report.wanted.until_utc else None,
        "rows": report.all_rows,
        "by_kind": {str(kind): count for kind, count in report.kinds.items()},
        "by_action": [
            {"action": word, "outcome": outcome, "count": count} for word, outcome, count in report.words
        ],
        "by_actor": [
            {"actor": actor, "actor_kind": kind, "count": count, "not_done": bad}
            for actor, kind, count, bad in report.actors
        ],
        "by_recipient": [{"action": word, "to": to, "count": count} for word, to, count in report.recipients],
        "failures": report.failures,
        "refusals": report.refusals,
        "break_glass": report.break_glass,
        "verifications": report.verifications,
        "verifications_failed": report.verifications_failed,
    }


def concerns_study(action: str) -> bool:
    """Whether a word is about one study."""
    word = VOCABULARY.get(action)
    return word is not None and word.concerns is Concerns.STUDY
