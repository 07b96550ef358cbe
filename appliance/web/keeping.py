"""What the pages of retention share: who acts, days and rules in words, and the holds of a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from appliance.catalog import Reading, holds, sight, visits
from appliance.catalog.holds import Hold, HoldKind
from appliance.errors import Refused
from appliance.lifecycle import retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.policy import Entry
from appliance.web import access, forms, security
from appliance.web.console import console, now
from appliance.web.language import Words

KINDS = tuple(HoldKind)


@dataclass(frozen=True, slots=True)
class HoldLine:
    """A hold ready to show. `study` is the row id that it was placed on, None for a whole patient."""

    id: int
    kind: str
    whole_patient: bool
    study: int | None
    patient: str
    reason: str
    placed: str
    released: str
    in_force: bool


@dataclass(frozen=True, slots=True)
class EntryLine:
    """From which day the years are counted and why; `study` is another one whose day that is, 0 if it can't be opened.

    `doubts` are what speaks against that it is of the same patient.
    """

    said: str
    study: int
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VisitLine:
    """A visit that somebody has entered, ready to show."""

    id: int
    day: str
    entered: str


@dataclass(frozen=True, slots=True)
class Keeping:
    """The part of a study's page that says until when it is kept: the rule that decides, and what else applies."""

    said: str
    entry: EntryLine
    rules: tuple[str, ...]
    visits: tuple[VisitLine, ...]
    today: str
    holds: tuple[HoldLine, ...]
    kinds: tuple[HoldKind, ...]


def act() -> Act:
    """Whoever asks, now."""
    return Act(forms.actor(), now(), console().box.audit_key, security.address())


def day(at: date, words: Words) -> str:
    """A day as people read it."""
    return words.manner.day(at)


def typed_day(text: str) -> date:
    """A day as a form or a program gives it. Raises `Refused`."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Refused("that is not a date", hint="write it as year-month-day, such as 2026-03-01") from error


def sees_visit(conn: Reading, visit_id: int) -> bool:
    """Whether whoever asks may see a study of whom a visit is."""
    sees = access.sight()
    return sees.all_studies or any(
        sight.study(conn, sees, each) is not None for each in visits.studies_of(conn, visit_id)
    )


def rule_words(rule: Mapping[str, Any], words: Words) -> str:
    """One rule of a decision as a sentence: how long, from when, and by which law."""
    period = words(f"retention.counts.{rule['starts']}", years=int(rule["years"]))
    if rule["basis"] == "clinic" and rule["source"]:
        return words("retention.own_line", period=period, source=words.cause(rule["source"]))
    source = rule["source"] or words("retention.own_figure")
    confirmed = "" if rule["verified"] or rule["basis"] == "clinic" else f" ({words('retention.unverified')})"
    basis = words(f"retention.basis.{rule['basis']}")
    return words("retention.rule_line", period=period, basis=basis, source=f"{source}{confirmed}")


def hold_lines(conn: Reading, found: Iterable[Hold], words: Words) -> tuple[HoldLine, ...]:
    """`found` as people read them."""
    return tuple(
        HoldLine(
            id=each.id,
            kind=words(f"hold.kind.{each.kind}"),
            whole_patient=each.study is None,
            study=each.study,
            patient=_whose(conn, each, words),
            reason=each.reason,
            placed=words("hold.placed", by=each.placed_by, at=words.moment(each.placed_utc)),
            released=words(
                "hold.released_by",
                by=each.released_by,
                at=words.moment(each.released_utc),
                reason=each.release_reason,
            )
            if each.released_utc is not None
            else "",
            in_force=each.is_in_force,
        )
        for each in found
    )


def _whose(conn: Reading, hold: Hold, words: Words) -> str:
    number = hold.study or holds.a_study_of(conn, hold.patient)
    row = None if number is None else sight.study(conn, access.sight(), number)
    if row is None:
        return words("hold.gone")
    return " · ".join(filter(None, (words.person(row.patient_name), row.patient_id)))


def entry_line(conn: Reading, study_id: int, entry: Entry, words: Words) -> EntryLine:
    """What the years of a study are counted from, so that a wrong patient number or date is seen."""
    counted = day(entry.day, words)
    if entry.study is None or entry.study == study_id:
        return EntryLine(words(f"retention.entry.{entry.told}", day=counted), 0, ())
    said = words(f"retention.entry.other.{entry.told}", day=counted)
    own, other = (sight.study(conn, access.sight(), each) for each in (study_id, entry.study))
    if own is None or other is None:
        return EntryLine(said, 0, ())
    doubts = []
    if (own.patient_name, own.birth_date) != (other.patient_name, other.birth_date):
        doubts.append(words("retention.entry.stranger"))
    if own.patient_conflict or other.patient_conflict:
        doubts.append(words("retention.entry.conflict"))
    return EntryLine(said, entry.study, tuple(doubts))


def keeping_of(conn: Reading, study_id: int, words: Words) -> Keeping | None:
    """Until when a study is kept, worked out at this moment; None if it is gone."""
    found = retention.decided(conn, [study_id], now()).get(study_id)
    if found is None:
        return None
    decision = found.decision
    return Keeping(
        said=words(f"retention.status.{decision.status}", day=day(decision.keep_until, words)),
        entry=entry_line(conn, study_id, decision.entry, words),
        rules=tuple(rule_words(each, words) for each in retention.as_json(decision)["rules"]),
        visits=tuple(
            VisitLine(
                each.id,
                day(each.day, words),
                words("visit.entered", by=each.entered_by, at=words.moment(each.entered_utc)),
            )
            for each in visits.of_study(conn, study_id)
            if each.counts
        ),
        today=now().date().isoformat(),
        holds=hold_lines(conn, holds.of_study(conn, study_id), words),
        kinds=KINDS,
    )
