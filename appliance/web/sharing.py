"""To whom a study is granted, as its page and the page of a person show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance import identity
from appliance.catalog import Reading, grants
from appliance.catalog.grants import Grant
from appliance.web.language import Words

TERMS: Mapping[str, timedelta] = {
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=31),
    "quarter": timedelta(days=92),
    "year": timedelta(days=366),
}
"""How long a grant may last, by the words of the form."""
USUAL_TERM = "month"


@dataclass(frozen=True, slots=True)
class GrantLine:
    """A grant; `until` says when it ends, or ended."""

    id: int
    study: int
    person_id: int
    person: str
    by: str
    reason: str
    until: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Sharing:
    """The grants of a study and the form for another; `people` are row id and name of those who may be chosen."""

    lines: tuple[GrantLine, ...]
    people: tuple[tuple[int, str], ...]
    terms: tuple[str, ...]
    usual_term: str


def sharing_of(conn: Reading, study_id: int, at: datetime, words: Words) -> Sharing:
    """The grants of a study."""
    eligible = identity.who_needs_grants(conn)
    return Sharing(
        lines=grant_lines(grants.of_study(conn, study_id), at, words),
        people=tuple((person.id, f"{person.name} · {words(f'role.{person.role}')}") for person in eligible),
        terms=tuple(TERMS),
        usual_term=USUAL_TERM,
    )


def grant_lines(found: Sequence[Grant], at: datetime, words: Words) -> tuple[GrantLine, ...]:
    """`found`, those that hold first."""
    lines = (
        GrantLine(
            id=each.id,
            study=each.study,
            person_id=each.user,
            person=each.name,
            by=each.by,
            reason=each.reason,
            until=words.moment(each.revoked_utc or each.expires_utc),
            holds=each.holds(at),
        )
        for each in found
    )
    return tuple(sorted(lines, key=lambda line: not line.holds))
