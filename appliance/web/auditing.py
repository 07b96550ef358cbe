"""What the pages of the audit show: rows as sentences, the search that led to them, and whether the log holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from appliance import audit, health, local_time
from appliance.audit.reports import kind_of
from appliance.catalog import Reading, settings, sight
from appliance.catalog.audit_log import AuditRow
from appliance.catalog.audit_search import Wanted
from appliance.catalog.columns import utc_moment
from appliance.errors import Refused
from appliance.web import access, forms
from appliance.web.language import Words

MOST_STUDIES = 500
TONES = {"refused": "bad", "failed": "wait"}
_SHOWN = ("to", "reason", "status", "rows", "instances", "findings", "needs", "as", "via")
"""Details that say something to a person; the export has all."""


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A row ready to show. `study` is the row id of its study, if that is still here."""

    id: int
    at: str
    actor: str
    actor_kind: str
    address: str
    said: str
    more: str
    kind: str
    outcome: str
    tone: str
    study: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """The search as it was typed; `study` is a row id."""

    actor: str = ""
    patient: str = ""
    study: str = ""
    kind: str = ""
    outcome: str = ""
    address: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def read(cls) -> Asked:
        """From the form of this request, and the study from its address."""
        typed = {name: forms.text(name) for name in cls.__slots__}
        study = typed["study"] or forms.asked("study")
        return cls(**(typed | {"study": study if study.isascii() and study.isdecimal() else ""}))

    def used(self) -> list[str]:
        """The names of the fields that hold something: what a search was by, not for whom."""
        return [name for name in self.__slots__ if getattr(self, name)]

    def wanted(self, conn: Reading) -> Wanted:
        """What to look for. A patient becomes studies here, so no name goes any further. Raises `Refused`."""
        found: tuple[str, ...] | None = None
        listed: tuple[int, ...] = ()
        if self.patient:
            rows = sight.find(conn, access.sight(), self.patient, limit=MOST_STUDIES)
            found, listed = tuple(row.study_instance_uid for row in rows), tuple(row.id for row in rows)
        if self.study:
            row = sight.study(conn, access.sight(), int(self.study)) if len(self.study) < 19 else None
            found = (row.study_instance_uid,) if row is not None else ()
            listed = (row.id,) if row is not None else ()
        return Wanted(
            actor=self.actor,
            actions=tuple(word for word, meant in audit.VOCABULARY.items() if meant.kind == self.kind),
            studies=found,
            listed=listed,
            address=self.address,
            outcome=self.outcome if self.outcome in list(audit.Outcome) else "",
            since_utc=_midnight(self.since),
            until_utc=_midnight(self.until, days=1),
        )


@dataclass(frozen=True, slots=True)
class ChainState:
    """Whether the log holds, in words; `tone` is good, wait or bad."""

    tone: str
    verified: str
    anchors: tuple[str, ...]


def period(since: str, until: str) -> Wanted:
    """From the beginning of one day to the end of another, each as typed and empty for none. Raises `Refused`."""
    found = Wanted(
        since_utc=_midnight(since, field="since"), until_utc=_midnight(until, days=1, field="until")
    )
    if found.since_utc is not None and found.until_utc is not None and found.since_utc >= found.until_utc:
        raise Refused("this period ends before it begins", hint="exchange the two days", field="until")
    return found


def year(number: int) -> Wanted:
    """The period of a calendar year, in the box's own time zone."""
    return Wanted(
        since_utc=local_time.midnight(date(number, 1, 1)),
        until_utc=local_time.midnight(date(number + 1, 1, 1)),
    )


def _midnight(typed: str, *, days: int = 0, field: str = "") -> datetime | None:
    """The beginning of the day `typed` in the box's own time zone, or of one some days later."""
    if not typed:
        return None
    try:
        day = date.fromisoformat(typed) + timedelta(days=days)
        return local_time.midnight(day)
    except (ValueError, OverflowError) as error:
        raise Refused(
            "that is not a date", hint="write it as year-month-day, such as 2026-03-01", field=field
        ) from error


def lines_of(conn: Reading, rows: Sequence[AuditRow], words: Words) -> tuple[AuditLine, ...]:
    """`rows` as a person reads them."""
    uids = sorted({row.study for row in rows if isinstance(row.study, str) and row.study})
    known = sight.numbers(conn, access.sight(), uids)
    return tuple(_line(row, known, words) for row in rows)


def _line(row: AuditRow, known: dict[str, int], words: Words) -> AuditLine:
    outcome = str(row.outcome or "done")
    kind = str(row.actor_kind or "")
    return AuditLine(
        id=row.id,
        at=_at(row.at_utc, words),
        actor=str(row.actor),
        actor_kind=words(f"audit.actor.{kind}") if words.has(f"audit.actor.{kind}") else "",
        address=str(row.address),
        said=said(str(row.action), words),
        more=_more(row),
        kind=words(f"audit.kind.{kind_of(row.action)}"),
        outcome=words(f"audit.outcome.{outcome}") if words.has(f"audit.outcome.{outcome}") else outcome,
        tone=TONES.get(outcome, ""),
        study=known.get(str(row.study)),
    )


def said(action: str, words: Words) -> str:
    """A word of the vocabulary as a sentence."""
    return words(f"audit.said.{action}") if words.has(f"audit.said.{action}") else action


def _at(recorded: object, words: Words) -> str:
    """The moment with its seconds; what is none, as recorded: a row that was tampered with is shown too."""
    try:
        moment = utc_moment(str(recorded))
    except ValueError:
        return str(recorded)
    return words.moment(moment)


def _more(row: AuditRow) -> str:
    """The subject, and what of the details says something to a person."""
    try:
        details = json.loads(row.details)
    except (TypeError, ValueError):
        details = {}
    found = details if isinstance(details, dict) else {}
    parts = [f"{name}: {found[name]}" for name in _SHOWN if found.get(name) not in (None, "")]
    return " · ".join([str(row.subject), *parts])


def chain_state(conn: Reading, words: Words) -> ChainState:
    """What the last check of the chain found, and where its state is kept away from this box."""
    checked = settings.get(conn, health.AUDIT_CHECK, {})
    found = checked if isinstance(checked, dict) else {}
    if not found.get("at_utc"):
        return ChainState("wait", words("audit.never_verified"), ())
    at = words.moment(datetime.fromisoformat(found["at_utc"]))
    if found.get("findings"):
        return ChainState("bad", words("audit.altered", at=at), ())
    anchors = settings.get(conn, "audit-anchors", {})
    found_there = anchors if isinstance(anchors, dict) else {}
    kept = {name: each for name, each in found_there.items() if each.get("at_utc")}
    return ChainState(
        "good" if kept else "wait",
        words("audit.verified", rows=int(found.get("rows", 0)), at=at),
        tuple(
            words(
                "audit.anchored",
                name=name,
                rows=int(each["count"]),
                at=words.moment(datetime.fromisoformat(each["at_utc"])),
            )
            for name, each in sorted(kept.items())
        )
        or (words("audit.not_anchored"),),
    )
