"""Until when studies are kept: the rules in force, decisions, the clinic's own figures, and the rows that lists are made of.

The rows are kept up to date by a job (`Dates`): what changed since, with every study of the same patients, and everything
once the rules did. It works in short transactions, because an image that arrives waits for each of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from appliance import settings as operator_settings
from appliance.box import Box
from appliance.catalog import (
    Reading,
    Transaction,
    instances,
    retention_dates,
    retention_rules,
    settings,
)
from appliance.catalog import studies as study_rows
from appliance.catalog.columns import canonical_json
from appliance.catalog.known_clock import Judged, KnownClock, Running, keep, known_clock
from appliance.catalog.retention_dates import Kept, KnownStudy
from appliance.errors import Refused
from appliance.lifecycle import laws, memory
from appliance.lifecycle.acting import Act
from appliance.lifecycle.laws import OwnFigure
from appliance.lifecycle.policy import (
    BACK,
    Basis,
    Clock,
    Decision,
    Doubt,
    Facts,
    Reason,
    RecordType,
    RuleBook,
    Starts,
    decide,
    keep_until,
)

PROGRESS = "retention-dates"
"""A key of `appliance.catalog.settings`: how far the rows are worked out."""
WORKED_OUT = 3
"""Another number, whenever the same facts give other days."""
STILL_RECEIVED = timedelta(minutes=10)
"""For less than that a process that receives goes on by what it knew of the clock."""

AT_ONCE = 100
GIVE_WAY_SECONDS = 0.05
LEAST_CHARACTERS, MOST_CHARACTERS = 3, 200


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about a study, and a digest over that and over what the study holds."""

    study: KnownStudy
    decision: Decision
    digest: str


# --- deciding --------------------------------------------------------------------------------------------------------


def book_of(reading: Reading) -> RuleBook:
    """The rules that hold here now."""
    return laws.book(province_of(reading), retention_rules.own(reading))


def province_of(reading: Reading) -> str:
    """The province whose rules hold; empty while nobody has chosen one since a restore that brought no settings."""
    if memory.lacks_a_province(reading):
        return ""
    return str(operator_settings.get(reading, "clinic.province"))


def practice_of(reading: Reading) -> str:
    """What the clinic practises: dental, medical, or both."""
    return str(operator_settings.get(reading, "retention.practice"))


def decided(reading: Reading, study_ids: Iterable[int], now: datetime) -> dict[int, Decided]:
    """What may become of each of `study_ids` that is here, worked out from what is recorded at this moment."""
    book, clock = book_of(reading), clock_of(reading, now)
    found = retention_dates.facts_of(reading, study_ids, practice_of(reading))
    return {number: _decided(reading, study, book, clock) for number, study in found.items()}


def _decided(reading: Reading, study: KnownStudy, book: RuleBook, clock: Clock) -> Decided:
    decision = decide(study.facts, book, clock)
    objects = [row.object_id for row in instances.instances_of_study(reading, study.study_instance_uid)]
    # Who gave the clinic's figure, and why, decides nothing: an update that words it otherwise leaves no study out of a request.
    rules = [
        _reason_as_json(each) | ({"source": ""} if each.rule.basis is Basis.CLINIC else {})
        for each in decision.reasons
    ]
    content = {
        "study": study.study_instance_uid,
        "objects": sorted(objects),
        "decision": {"keep_until": decision.keep_until.isoformat(), "rules": rules},
    }
    return Decided(study, decision, sha256(canonical_json(content).encode()).hexdigest())


def as_json(decision: Decision) -> dict[str, Any]:
    """A decision as it is frozen in a request: until when, each rule with its source, and the entry that the years count from."""
    entry = decision.entry
    return {
        "keep_until": decision.keep_until.isoformat(),
        "rules": [_reason_as_json(each) for each in decision.reasons],
        "last_entry": {"day": entry.day.isoformat(), "told": str(entry.told), "study": entry.study},
    }


def _reason_as_json(reason: Reason) -> dict[str, Any]:
    rule = reason.rule
    return {
        "rule": rule.id,
        "until": reason.until.isoformat(),
        "years": rule.years,
        "starts": str(rule.starts),
        "basis": str(rule.basis),
        "source": rule.source,
        "verified": None if rule.verified is None else rule.verified.isoformat(),
    }


# --- the clock -------------------------------------------------------------------------------------------------------


def clock_of(reading: Reading, now: datetime) -> Clock:
    """The clock as it is judged at `now`.

    What was received by a clock that was ahead, up to when a person said that it is right, says nothing against it: else one image would
    keep it in doubt for years, with no backup rotated and no certificate renewed.
    """
    return _clock(reading, known_clock(reading), now)


def _clock(reading: Reading, kept: KnownClock, now: datetime) -> Clock:
    newest, false = retention_dates.newest_receipt(reading), kept.receipts_utc
    return Clock(
        now=now,
        newest_receipt_utc=None if newest is not None and false is not None and newest <= false else newest,
        noted_utc=kept.noted_utc,
        set_utc=kept.set_utc,
    )


def running_from(
    now: datetime, monotonic_seconds: Callable[[], float] = time.monotonic
) -> Callable[[], datetime]:
    """A clock that says `now` at this moment and goes on from there: for a run that decides more than once.

    The moment of its start won't do: an image that arrives meanwhile would be of a moment to come, and the clock `BEHIND`.
    Rejected: the box's clock, read again and again, which may be set in the middle, and make due what was not.
    """
    begun = monotonic_seconds()
    return lambda: now + timedelta(seconds=monotonic_seconds() - begun)


def watch_clock(
    tx: Transaction, now: datetime, *, follows_time_server: bool, running: Running | None = None
) -> None:
    """Note that the clock says `now`. One that has moved further than the box can have lived is doubted until a person has looked, or
    until a time server has put it right again (`appliance.catalog.known_clock`, which also counts what is received)."""
    now = now.astimezone(UTC)
    kept, newest = known_clock(tx), retention_dates.newest_receipt(tx)
    match kept.judged(now, running, follows_time_server=follows_time_server, has_received=newest is not None):
        case Judged.SET:
            # What a start has moved may be right, if it was long off: a server will say.
            seen_ahead = (
                kept.settled(running) is not None and kept.noted_utc is not None and now > kept.noted_utc
            )
            kept = replace(kept, set_utc=kept.set_utc or now, ahead_utc=now if seen_ahead else kept.ahead_utc)
        case Judged.RIGHT_AGAIN:
            kept = _right_again(kept, newest, now, running)
        case Judged.WELL if kept.ahead_utc is not None:
            kept = replace(kept, ahead_utc=max(now, kept.ahead_utc))
    clock = _clock(tx, replace(kept, noted_utc=now), now)
    if kept.known_utc is None and clock.doubt is Doubt.BEHIND:  # of an index from before it was kept
        kept = replace(kept, known_utc=clock.newest_receipt_utc)
    is_vouched = follows_time_server and kept.set_utc is None
    is_doubted = clock.doubt is not None
    keep(tx, kept.looked_at(now, is_vouched=is_vouched, is_doubted=is_doubted, running=running), now)


def _right_again(
    kept: KnownClock, newest: datetime | None, now: datetime, running: Running | None
) -> KnownClock:
    """What is kept of a clock that a time server has put right: what bears a later moment was received while it was wrong.

    It goes on from where it was settled before, so that no server that is wrong now and then moves it ahead little by little.
    """
    false, said = kept.receipts_utc, kept.noted_utc
    if newest is not None and said is not None and newest > now + BACK:
        false = max(newest, said + (kept.run(running) or timedelta())) + STILL_RECEIVED
    return replace(kept, set_utc=None, ahead_utc=None, receipts_utc=false)


def trust_clock(tx: Transaction, act: Act) -> None:
    """A person has compared the clock with another one and says that it is right, and so that what bears a later moment was received
    while it was wrong. That goes for what is being received at this moment, too."""
    now = act.now.astimezone(UTC)
    newest = retention_dates.newest_receipt(tx) or now
    later = max(newest.astimezone(UTC), known_clock(tx).reckoned(now))
    trusted = KnownClock(receipts_utc=later + STILL_RECEIVED if later > now else None)
    keep(tx, trusted.looked_at(now, is_vouched=True, is_doubted=False), now)
    act.record(tx, "retention:clock", "clock", {"at_utc": now.isoformat()})


# --- the clinic's own figures ----------------------------------------------------------------------------------------


def choose(
    tx: Transaction, act: Act, record_type: RecordType, starts: Starts, years: int | None, *, reason: str
) -> None:
    """Give the clinic a figure of its own, or with None take it back.

    Raises `Refused` for one that is shorter than the law of the province asks for, with its source; or without a reason. The figure that
    it has already may be given again where it was given for another province: somebody has looked up what holds in this one.
    """
    reason = " ".join(reason.split())
    if not LEAST_CHARACTERS <= len(reason) <= MOST_CHARACTERS:
        raise Refused("a figure has a reason", hint="say in a few words who decided it, or where it stands")
    own = {(each.record_type, each.starts): each for each in retention_rules.own(tx)}
    standing, province = own.get((record_type, starts)), province_of(tx)
    before = None if standing is None else standing.years
    if years is not None:
        laws.check_own(province, OwnFigure(record_type, starts, years))
    if years == before and (standing is None or standing.province == province):
        raise Refused("the clinic has that figure already", hint="nothing needs to be changed")
    retention_rules.put(
        tx, record_type, starts, years, province=province, reason=reason, by=act.by, now=act.now
    )
    memory.decided(tx, act.now)
    act.record(tx, "retention:change", f"{record_type}:{starts}", {"old": before, "new": years})


# --- the rows --------------------------------------------------------------------------------------------------------


def is_current(reading: Reading) -> bool:
    """Whether the rows say what the rules and the studies of this moment say."""
    kept = settings.get(reading, PROGRESS, {})
    return (
        kept.get("basis") == _basis(reading)
        and kept.get("walk") is None
        and int(kept.get("change", -1)) >= study_rows.latest_change(reading)
    )


def _basis(reading: Reading) -> str:
    """A word for the rules in force, and for how days are worked out: another one, and everything is worked out again."""
    book = book_of(reading)
    return sha256(f"{book!r} {practice_of(reading)} {WORKED_OUT}".encode()).hexdigest()[:16]


class Dates:
    """The job that keeps the rows up to date; a part at a time, so that it can be stopped between two.

    A part is worked out on a reading, for which nobody waits, and only written in a transaction; then it gives way, so that
    the images of a whole morning never wait for a walk through all studies.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()

    def interrupt(self) -> None:
        """Stop after the part that runs."""
        self._stop.set()

    def __call__(self, box: Box, now: datetime) -> None:
        """Work out whatever is not up to date."""
        while not self._stop.is_set():
            with box.catalog.reading() as conn:
                if is_current(conn):
                    return
                part = work_out(conn)
            with box.catalog.transaction() as tx:
                part.write(tx, now)
            self._stop.wait(GIVE_WAY_SECONDS)


@dataclass(frozen=True, slots=True)
class Part:
    """Dates worked out, and how far that is: from `before` to `after`."""

    dates: tuple[Kept, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def write(self, tx: Transaction, now: datetime) -> None:
        """Write them down, unless somebody else has got further meanwhile; what has changed since is worked out next."""
        if settings.get(tx, PROGRESS, {}) == self.before:
            retention_dates.write(tx, self.dates)
            settings.put(tx, PROGRESS, dict(self.after), now)


def advance(tx: Transaction, now: datetime, *, most: int = AT_ONCE) -> None:
    """Work out the next part and write it down, in one transaction."""
    work_out(tx, most=most).write(tx, now)


def work_out(reading: Reading, *, most: int = AT_ONCE) -> Part:
    """The next part: of everything if the rules have changed, else of what changed since."""
    before = settings.get(reading, PROGRESS, {})
    kept = dict(before)
    basis = _basis(reading)
    if kept.get("basis") != basis:
        # What changes during the walk is looked at after it, from here on.
        kept = {"basis": basis, "walk": 0, "change": study_rows.latest_change(reading)}
    if kept.get("walk") is not None:
        wanted = retention_dates.ids_after(reading, int(kept["walk"]), most)
        kept["walk"] = wanted[-1] if wanted else None
        touched: Iterable[int] = wanted
    else:
        changed, last = retention_dates.changed_after(reading, int(kept["change"]), most)
        kept["change"] = last if changed else study_rows.latest_change(reading)
        touched = retention_dates.of_same_patients(reading, changed)
    book = book_of(reading)
    found = retention_dates.facts_of(reading, touched, practice_of(reading))
    return Part(tuple(_kept(study.id, study.facts, book) for study in found.values()), before, kept)


def _kept(study_id: int, facts: Facts, book: RuleBook) -> Kept:
    until, reasons = keep_until(facts, book)
    return Kept(study_id, until, reasons[0].rule.id if reasons else "")
