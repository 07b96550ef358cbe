"""The list of studies that no rule keeps on a day: for a page, a sheet of paper, a spreadsheet or a script.

It names patients, because whoever decides must know whom; so each way out of the box leaves its row in the audit.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta

from appliance.audit.exports import inert
from appliance.catalog import Reading, retention_dates
from appliance.catalog.retention_dates import Kept
from appliance.catalog.studies import StudyRow
from appliance.lifecycle import retention
from appliance.lifecycle.policy import Rule

AT_ONCE = 500

RowOf = Callable[[Reading, int], StudyRow | None]
"""How a study is read: whoever asks may not see them all."""


@dataclass(frozen=True, slots=True)
class DueLine:
    """A study of the list. `state` is empty, or says what keeps it back: ``held`` or ``asked``."""

    study: int
    study_instance_uid: str
    patient_name: str
    patient_id: str
    birth_date: str
    study_date: str
    modalities: str
    description: str
    images: int
    keep_until: date
    due_since: date
    rule: str
    years: int
    source: str
    verified: str
    state: str


def page(
    reading: Reading, on: date, row_of: RowOf, *, limit: int, after: Kept | None = None
) -> tuple[list[DueLine], Kept | None]:
    """The next lines, the longest due first, and where the page after them begins; None if this is the last."""
    found = retention_dates.due(reading, on, limit=limit + 1, after=after)
    shown = found[:limit]
    return _lines(reading, shown, row_of), shown[-1] if len(found) > limit else None


def every(reading: Reading, on: date) -> list[Kept]:
    """What is due, all of it, as it was worked out: which studies `lines` tells of."""
    return retention_dates.due(reading, on)


def lines(reading: Reading, wanted: Sequence[Kept], row_of: RowOf) -> Iterator[DueLine]:
    """A line for each of `wanted` that whoever asks may see, some hundred in memory at a time."""
    for start in range(0, len(wanted), AT_ONCE):
        yield from _lines(reading, wanted[start : start + AT_ONCE], row_of)


def csv_lines(wanted: Iterable[DueLine]) -> Iterator[str]:
    """A header and one line for each, nothing of which a spreadsheet takes for a formula."""
    names = [field.name for field in fields(DueLine)]
    yield ",".join(names) + "\r\n"
    for line in wanted:
        out = io.StringIO()
        csv.writer(out).writerow([inert(str(getattr(line, name))) for name in names])
        yield out.getvalue()


def _lines(reading: Reading, found: Sequence[Kept], row_of: RowOf) -> list[DueLine]:
    rules = {rule.id: rule for rule in retention.book_of(reading).rules}
    held, asked = retention_dates.kept_back(reading, (each.study_id for each in found))
    made = []
    for each in found:
        row = row_of(reading, each.study_id)
        if row is not None:
            state = "held" if each.study_id in held else "asked" if each.study_id in asked else ""
            made.append(_line(row, each, rules.get(each.rule), state))
    return made


def _line(row: StudyRow, kept: Kept, rule: Rule | None, state: str) -> DueLine:
    return DueLine(
        study=row.id,
        study_instance_uid=row.study_instance_uid,
        patient_name=row.patient_name,
        patient_id=row.patient_id,
        birth_date=row.birth_date,
        study_date=row.study_date,
        modalities="\\".join(row.modalities),
        description=row.description,
        images=row.instances,
        keep_until=kept.keep_until,
        due_since=kept.keep_until + timedelta(days=1),
        rule=kept.rule,
        years=0 if rule is None else rule.years,
        source="" if rule is None else rule.source,
        verified="" if rule is None or rule.verified is None else rule.verified.isoformat(),
        state=state,
    )
