"""Until when a study must be kept: the longest of all rules that apply, each with its source. Pure.

Chosen: every doubt lengthens. A birth date that is missing, impossible or after the images is that of a newborn; a record
that may be of two kinds is of both; a province without a known rule keeps for ever, until the clinic says otherwise; a
clock that was set, or that lags behind what was received, makes nothing due. But a date that cannot be true is no doubt: an
image comes after the day on which it was made (`entry_of`). Because: what is kept a year too long can
still be destroyed, what was destroyed a day too early can't be brought back. Rejected: asking the machine that sent the
images whether they are dental; a date of destruction written down on arrival, which no later visit would move.

Days, not moments: *keep until* is the last day, and a study is due from the day after. The day is the one that it is in
the west of Canada, the day of what was received the one that it is in Greenwich, so neither the zone of the clinic nor
summer time ever makes something due a day early.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

WEST = timedelta(hours=8)
"""By how much the westernmost clock in Canada may be behind UTC."""
OLDEST_YEARS = 115
"""Whoever would have been older when the images were made has a birth date that stands for "not known"."""
UNWATCHED = timedelta(days=2)
"""A clock that has moved this far since it was last looked at was set, or the box was off: a person must look."""
OFF_AT_MOST = timedelta(days=200)
"""For so long a box may have been off, if a time server says so; longer, and a person must look (`appliance.catalog.known_clock`)."""
BACK = timedelta(hours=1)
"""A clock may be corrected backwards by this much."""
FOR_EVER = date.max
LATE_YEARS = 2
"""So many years after its receipt a study may have been made, by what it says itself.

It is never made later, but a receipt may be too early: a clock that is behind counts on from the last moment that was known, and
misses for how long the box was off (`appliance.catalog.known_clock`). Chosen: two years for every receipt, by which a wrong date
keeps a patient's studies that much longer and not for centuries. Rejected: a few days, by which a box that lay unplugged with a dead
battery would count true dates too early.
"""
FIRST_DAY = date(2026, 1, 1)
"""No receipt is older. One that is was made by a clock that nobody had set yet, so it says nothing against any date."""


class RecordType(StrEnum):
    """What kind of record a study belongs to, as the rules tell them apart. A study may be of several."""

    DENTAL = "dental"
    MEDICAL = "medical"
    MAMMOGRAPHY = "mammography"  # of a medical record, too


class Starts(StrEnum):
    """From when a rule counts its years."""

    LAST_ENTRY = "last-entry"  # the latest study, image or visit of the patient
    MAJORITY = "majority"  # of who was a minor when the images were made


class Basis(StrEnum):
    """What a rule rests on."""

    LAW = "law"  # a law, a regulation, or what the profession's order demands: nobody may go below
    ADVICE = "advice"  # prudence: holds until the clinic chooses a figure of its own
    CLINIC = "clinic"  # the clinic's own


@dataclass(frozen=True, slots=True)
class Rule:
    """Keep records of a type for `years` after what `starts` it.

    `source` is the law and its article, or who of the clinic chose it and why, `verified` the day on which somebody compared the figure with the text, None if
    it must still be confirmed. `entries_before` limits a rule to records whose last entry is before that day, and
    `not_beyond` is a day on which it lets go in any case.
    """

    id: str
    record_type: RecordType
    starts: Starts
    years: int
    basis: Basis
    source: str
    verified: date | None = None
    entries_before: date | None = None
    not_beyond: date | None = None


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The rules of one province with those of one clinic; `majority_years` is the age of majority there."""

    majority_years: int
    rules: tuple[Rule, ...]


class Told(StrEnum):
    """By what the day of an entry is known."""

    MADE = "made"  # the date of the study
    RECEIVED = "received"
    SEEN = "seen"  # a visit that somebody has entered, for all studies of the patient
    LATE = "late"  # its date is so long after its receipt that it cannot be true: the latest that it may be


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry in the record of a patient: the row id of its `study`, None for a visit and for the study that is asked about."""

    day: date
    told: Told
    study: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a study. Dates are DA as received: anything may stand in them.

    `birth_dates` are of everybody whom the study names, and the latest that is given of each under the same number; `latest` is the last entry over all studies and visits of the
    same patient, this study included. `holds` names the holds that fall on it.
    """

    record_types: frozenset[RecordType]
    study_date: str
    first_received_utc: datetime
    last_received_utc: datetime
    birth_dates: tuple[str, ...] = ()
    latest: Entry | None = None
    holds: tuple[int, ...] = ()


class Doubt(StrEnum):
    """Why the clock is not believed."""

    BEHIND = "behind"  # it is earlier than something that was received, or than it was itself
    SET = "set"  # it was set, and nobody has said since that it is right
    UNWATCHED = "unwatched"  # it has moved further than the box has lived


@dataclass(frozen=True, slots=True)
class Clock:
    """What the clock says, and what it is judged by.

    `newest_receipt_utc` is the latest moment of anything received; `noted_utc` when the box last looked at the clock;
    `set_utc` when it found it set, until a person has said that it is right.
    """

    now: datetime
    newest_receipt_utc: datetime | None = None
    noted_utc: datetime | None = None
    set_utc: datetime | None = None

    @property
    def doubt(self) -> Doubt | None:
        """Why it is not believed; None if it is."""
        if self.newest_receipt_utc is not None and self.now < self.newest_receipt_utc:
            return Doubt.BEHIND
        if self.set_utc is not None:
            return Doubt.SET
        if self.noted_utc is None or self.now - self.noted_utc > UNWATCHED:
            return Doubt.UNWATCHED
        return Doubt.BEHIND if self.noted_utc - self.now > BACK else None

    @property
    def today(self) -> date:
        """The day that it is everywhere in Canada."""
        return (self.now.astimezone(UTC) - WEST).date()


class Status(StrEnum):
    """What may become of a study."""

    KEEP = "keep"  # a rule still runs
    NO_RULE = "no-rule"  # none is known for its kind of record: the clinic must choose
    HELD = "held"
    CLOCK = "clock"  # it would be due, but the clock is not believed
    DUE = "due"


@dataclass(frozen=True, slots=True)
class Reason:
    """A rule that applies, and until when."""

    rule: Rule
    until: date


@dataclass(frozen=True, slots=True)
class Decision:
    """`keep_until` is the last day; `reasons` are all rules that apply, the one that decides first.

    `entry` is the last one of the patient: what the years are counted from.
    """

    status: Status
    keep_until: date
    reasons: tuple[Reason, ...]
    entry: Entry
    holds: tuple[int, ...] = ()
    doubt: Doubt | None = None

    @property
    def due_since(self) -> date | None:
        """The first day on which it need not be kept any more; None while there is no such day."""
        return None if self.keep_until == FOR_EVER else self.keep_until + timedelta(days=1)


def keep_until(facts: Facts, book: RuleBook) -> tuple[date, tuple[Reason, ...]]:
    """The last day on which the study must be kept, and every rule that applies, the longest first.

    The day is `FOR_EVER` where no rule is known for a kind of record that the study may be.
    """
    entry = last_entry(facts).day
    majority = _majority(facts, book.majority_years)
    found = [
        Reason(rule, until)
        for rule in book.rules
        if rule.record_type in facts.record_types
        and (until := _until(rule, entry=entry, majority=majority)) is not None
    ]
    found.sort(key=lambda each: (-each.until.toordinal(), each.rule.id))
    ruled = {each.record_type for each in book.rules if each.starts is Starts.LAST_ENTRY}
    unruled = facts.record_types - {RecordType.MAMMOGRAPHY} - ruled
    if unruled or not found:
        return FOR_EVER, tuple(found)
    return found[0].until, tuple(found)


def decide(facts: Facts, book: RuleBook, clock: Clock) -> Decision:
    """What may become of a study now."""
    last_day, reasons = keep_until(facts, book)
    doubt = clock.doubt
    if facts.holds:
        status = Status.HELD
    elif last_day == FOR_EVER:
        status = Status.NO_RULE
    elif clock.today <= last_day:
        status = Status.KEEP
    else:
        status = Status.DUE if doubt is None else Status.CLOCK
    return Decision(status, last_day, reasons, last_entry(facts), facts.holds, doubt)


def record_types(practice: str, modalities: Iterable[str]) -> frozenset[RecordType]:
    """What kinds of record a study may be: by what the clinic practises (dental, medical or both), and its modalities.

    A clinic that hasn't said practises both, and then every study is of both kinds: the longer rule holds.
    """
    types = {
        "dental": {RecordType.DENTAL},
        "medical": {RecordType.MEDICAL},
    }.get(practice, {RecordType.DENTAL, RecordType.MEDICAL})
    if "MG" in set(modalities):
        types = types | {RecordType.MEDICAL, RecordType.MAMMOGRAPHY}
    return frozenset(types)


def years_after(day: date, years: int) -> date:
    """The same day some years later; the 29th of February becomes the 1st of March. Never beyond the last day there is."""
    year = day.year + years
    if year > FOR_EVER.year:
        return FOR_EVER
    try:
        return day.replace(year=year)
    except ValueError:
        return date(year, 3, 1)


def day_of(text: str) -> date | None:
    """A DA value as a day (PS3.5 6.2: YYYYMMDD, or with points as before 1993); None for anything else."""
    digits = text.strip().replace(".", "")
    if len(digits) != 8 or not (digits.isascii() and digits.isdecimal()):
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def _until(rule: Rule, *, entry: date, majority: date | None) -> date | None:
    """Until when a rule keeps; None if it doesn't apply."""
    if rule.entries_before is not None and entry >= rule.entries_before:
        return None
    start = entry if rule.starts is Starts.LAST_ENTRY else majority
    if start is None:
        return None
    until = years_after(start, rule.years)
    return until if rule.not_beyond is None else min(until, rule.not_beyond)


def entry_of(study_date: str, received_utc: datetime, study: int | None = None) -> Entry:
    """The entry that a study is: when it was made, but never long after it was received, or when it was received if that is later."""
    received, made = _received_on(received_utc), day_of(study_date)
    if made is None or made < received:
        return Entry(received, Told.RECEIVED, study)
    if received < FIRST_DAY or made <= (latest := years_after(received, LATE_YEARS)):
        return Entry(made, Told.MADE, study)
    return Entry(latest, Told.LATE, study)


def last_entry(facts: Facts) -> Entry:
    """The last entry of the patient; of two on one day, the study itself."""
    own = entry_of(facts.study_date, max(facts.first_received_utc, facts.last_received_utc))
    return own if facts.latest is None or facts.latest.day <= own.day else facts.latest


def _majority(facts: Facts, majority_years: int) -> date | None:
    """When the youngest whom the study names came of age; None if nobody was a minor when the images were made."""
    received = [_received_on(each) for each in (facts.first_received_utc, facts.last_received_utc)]
    made = day_of(facts.study_date)
    own = entry_of(facts.study_date, max(facts.first_received_utc, facts.last_received_utc)).day
    days = received if made is None else [*received, min(made, own)]
    first, last = min(days), max(days)
    of_age = [
        years_after(birth if birth is not None else last, majority_years)
        for birth in (_birth(text, first, last) for text in facts.birth_dates or ("",))
    ]
    latest = max(of_age)
    return latest if latest > first else None


def _birth(text: str, first: date, last: date) -> date | None:
    """A birth date that can be true of somebody whose images were made between two days; else None."""
    born = day_of(text)
    if born is None or born > last or years_after(born, OLDEST_YEARS) < first:
        return None
    return born


def _received_on(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
