"""What the box does by itself: each duty, how often, and how soon after the start.

No duty decides by age alone: a sweep removes only what it has itself seen twice, so a jumping clock deletes nothing. Who runs them, and
what becomes of one that fails, is `appliance.jobs`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from appliance import (
    alarm,
    anchor,
    audit,
    audit_feed,
    certificates,
    disk_pin,
    health,
    identity,
    witnesses,
)
from appliance.audit import Entry, Outcome
from appliance.backup.schedule import Schedule
from appliance.box import Box
from appliance.catalog import deliveries, destructions, settings
from appliance.fleet import pulse
from appliance.health import kernel_clock
from appliance.health.facts import Discipline
from appliance.health.sampling import Sampler
from appliance.ingest import OrphanSweep
from appliance.lifecycle import (
    acting,
    census,
    destruction,
    eviction,
    listing,
    purging,
    retention,
    returning,
    rotation,
    safeguards,
    scrub,
    tagging,
)
from appliance.lifecycle.staying import staying
from appliance.notify import sending
from appliance.updates import noting

log = logging.getLogger(__name__)

ALARM = "alarm"
"""The job by whose successes another process tells that this one lives (`appliance.watch`)."""

ACTOR = "jobs"
"""Who acts, in the audit."""

EVICTION_SECONDS: Final = 1200.0
"""After which a run of the eviction begins with no other study: what is wanted back waits for its end."""

Act = Callable[[Box, datetime], None]
LongAct = Callable[[Box, datetime, threading.Event], None]
"""One that is told when the process stops."""

Lane = Literal[
    "default",
    "alarm",
    "guard",
    "anchors",
    "audit-feed",
    "heartbeat",
    "sweeps",
    "reading",
    "listing",
    "backup",
    "drill",
    "destruction",
    "eviction",
    "recall",
    "tiers",
]

THREADS: Final[Mapping[Lane, int]] = {lane: 2 if lane == "default" else 1 for lane in get_args(Lane)}
"""How many threads a lane has. One that has nothing to do waits, and takes next to no memory."""


@dataclass(frozen=True, slots=True)
class Job:
    """One duty: its name in log and heartbeat, what it does, how often, and how long after the start at first.

    Those of one `lane` wait for each other. So what watches (the alarm, the census, the anchors of the audit) never shares one with what
    works, which may take hours: what waits for an archive, or goes through everything that is stored, has each a lane of its own. The default
    one is for what is done in a moment, on this box.
    `interrupt` asks it to come to an end when the process stops.
    """

    name: str
    act: Act
    every_seconds: int
    first_seconds: int = 0
    lane: Lane = "default"
    interrupt: Callable[[], None] = lambda: None


def return_expired_leases(box: Box, now: datetime) -> None:
    """Give deliveries whose courier has vanished back to the queue."""
    with box.catalog.transaction() as tx:
        returned = deliveries.release_expired(tx, now)
    if returned:
        log.info("%d deliveries returned to the queue: their courier is gone", returned)


def end_sessions(box: Box, now: datetime) -> None:
    """Forget sessions that are over."""
    with box.catalog.transaction() as tx:
        if ended := identity.end_expired(tx, now):
            entry = Entry("user:expire", "sessions", ACTOR, {"sessions": ended})
            audit.append(tx, box.audit_key, [entry], now)


def check_audit(box: Box, now: datetime) -> None:
    """Verify the chain of the audit against the anchor written last, then write a new one; keep the outcome."""
    findings = anchor.verify(box)
    with box.catalog.reading() as reading:
        rows = audit.witness(reading).count
    with box.catalog.transaction() as tx:
        settings.put(tx, health.AUDIT_CHECK, _outcome(now, rows, len(findings)), now)
        entry = Entry(
            "audit:verify",
            "audit",
            ACTOR,
            {"findings": len(findings)},
            outcome=Outcome.FAILED if findings else Outcome.DONE,
        )
        audit.append(tx, box.audit_key, [entry], now)
    if findings:
        log.error("the audit log has been altered: %d findings; see 'appliance audit verify'", len(findings))
    else:
        anchor.write(box, now)


def keep_certificates(box: Box, now: datetime) -> None:
    """Renew the server certificate before its end, and for an address that the box has gained.

    Not while the clock is in doubt: one that is years wrong would make a certificate that no browser takes, and by the end of
    its authority another authority, which every workstation would have to be told to trust.
    """
    with box.catalog.transaction() as tx:
        believed = retention.clock_of(tx, now).doubt is None
        renewed = certificates.renew(tx, box, certificates.own_addresses(), now) if believed else None
        if renewed is not None:
            details = {"ends_utc": renewed.server_ends_utc.isoformat(), "addresses": list(renewed.addresses)}
            entry = audit.Entry("certificate:renew", renewed.host_name, "jobs", details)
            audit.append(tx, box.audit_key, [entry], now)
    certificates.write_files(box)
    if renewed is not None:
        log.info("the certificate of %s was renewed", renewed.host_name)


def _outcome(now: datetime, rows: int, findings: int) -> dict[str, object]:
    return {"at_utc": now.isoformat(), "rows": rows, "findings": findings}


class ProblemLog:
    """Says in the log when a problem appears and when it is gone, once each; two destinations are two problems."""

    def __init__(self) -> None:
        self._standing: frozenset[tuple[str, str]] = frozenset()

    def __call__(self, box: Box, now: datetime) -> None:
        """Compare with the time before."""
        found = {(each.code, each.subject): each for each in health.status(box, now).problems}
        for key in sorted(found.keys() - self._standing):
            log.warning("%s — %s", found[key].words, found[key].fix)
        for key in sorted(self._standing - found.keys()):
            log.info("no longer: %s", " ".join(filter(None, key)))
        self._standing = frozenset(found)


class Orphans:
    """The sweep of ciphertexts that belong to nobody; it remembers what it saw the times before."""

    def __init__(self, box: Box) -> None:
        self._sweep = OrphanSweep(box)

    def __call__(self, box: Box, now: datetime) -> None:
        """Look once more. The hour doesn't matter: grace is counted by the monotonic clock."""
        if removed := self._sweep.sweep(time.monotonic()):
            box.record([Entry("object:remove", "objects", ACTOR, {"objects": removed})], now)
            log.info("%d objects that nothing refers to were removed", removed)


def watch_clock(box: Box, now: datetime) -> None:
    """Look whether the clock has moved as the box has lived: one that was set makes nothing due."""
    follows = kernel_clock.discipline() is Discipline.FOLLOWS
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, now, follows_time_server=follows, running=kernel_clock.running())


def look_after_messages(box: Box, now: datetime) -> None:
    """Give back what its sender has left; and end and forget what is too old, which a clock that is in doubt doesn't tell."""
    if _is_believed(box, now):
        sending.look_after(box, now)
    else:
        sending.give_back(box, now)


def forget_old_notices(box: Box, now: datetime) -> None:
    """Forget notices that were over long ago, by a clock that is believed."""
    if _is_believed(box, now):
        alarm.forget_old(box, now)


def _is_believed(box: Box, now: datetime) -> bool:
    with box.catalog.reading() as reading:
        return retention.clock_of(reading, now).doubt is None


def review_requests(box: Box, now: datetime) -> None:
    """Take out of requests to destroy what has changed since, and end those that are over their time."""
    act = acting.Act(ACTOR, now, box.audit_key)
    with box.catalog.transaction() as tx:
        if retention.clock_of(tx, now).doubt is not None:
            return  # neither what is due nor what is over can be told
        destruction.expire(tx, act)
        for request in destructions.standing(tx):
            destruction.look_again(tx, act, request)


def read_again(box: Box, now: datetime, stopping: threading.Event) -> None:
    """Read the next slice of everything again, here and in the archives."""
    rest = scrub.pace(stopping.wait).rest  # which ends when the process does
    scrub.scrub(box, now, keep_going=_until(stopping), rest=rest)


def look_through_buckets(box: Box, now: datetime, stopping: threading.Event) -> None:
    """Look through the next slice of each bucket by its list."""
    rest = scrub.pace(stopping.wait).rest
    listing.look_through(box, now, listing.Around(keep_going=_until(stopping), rest=rest))


def see_protections(box: Box, now: datetime, stopping: threading.Event) -> None:
    """Ask the buckets whether what protected them still does, where a week has gone since."""
    safeguards.look_where_due(box, now, _until(stopping))


def count(box: Box, now: datetime, stopping: threading.Event) -> None:
    """Count the sealed objects for the ransomware guard."""
    census.take(box, now, keep_going=_until(stopping))


def destroy(box: Box, now: datetime, stopping: threading.Event) -> None:
    """Carry out what was approved to be destroyed, here and in the archives; what is left is done at another time."""
    around = purging.Around(keep_going=_until(stopping))
    if destroyed := purging.carry_out(box, now, around):
        log.info("studies destroyed: count=%d", destroyed)


class MakingRoom:
    """Letting leave what may, as the clinic has chosen and if anything should, then bringing what is wanted.

    What has no room yet must not keep room from being made; and what is wanted, such as images that have come up from deep archive, waits for no
    more than one run, which is short. What stayed in one that had no time for all is tried after the others in the next.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._stayed: set[int] = set()

    def __call__(self, box: Box, now: datetime, stopping: threading.Event) -> None:  # noqa: ARG002 - a long run reads the clock anew
        """One run."""
        until = self._monotonic() + EVICTION_SECONDS
        around = eviction.Around(
            keep_going=_until(stopping), has_time=lambda: self._monotonic() < until, stayed=self._stayed
        )
        try:
            eviction.evict(box, lambda: datetime.now(UTC), around)
        except eviction.Taken:
            log.info("room is made later: somebody moves images already")
            return
        with suppress(eviction.Taken):
            returning.bring_wanted(box, around.keep_going)


class Tagging:
    """Telling the buckets how far away each study may lie, from where the last run ended."""

    def __init__(self) -> None:
        self._after = 0

    def __call__(self, box: Box, now: datetime, stopping: threading.Event) -> None:
        """The next studies."""
        around = tagging.Around(keep_going=_until(stopping))
        with suppress(eviction.Taken):
            self._after = tagging.run(box, retention.running_from(now), self._after, around).after


def finish_rotating(box: Box, now: datetime, stopping: threading.Event) -> None:
    """Go on with a rotation of the root key that was cut, and catch what came late; cheap when there is nothing."""
    rotation.finish(box, now, keep_going=_until(stopping))


def _until(stopping: threading.Event) -> Callable[[], bool]:
    return lambda: not stopping.is_set()


def _long(name: str, act: LongAct, every_seconds: int, first_seconds: int, lane: Lane = "default") -> Job:
    """A duty that may take long, and ends soon when the process stops."""
    stopping = threading.Event()
    return Job(
        name, lambda box, now: act(box, now, stopping), every_seconds, first_seconds, lane, stopping.set
    )


def duties(box: Box, wake: Callable[[], None] = lambda: None) -> tuple[Job, ...]:
    """Everything that runs, and how often. `wake` is called when there is something to send."""
    backups = Schedule(staying)
    dates = retention.Dates()
    return (
        Job(ALARM, alarm.Alarm(wake), alarm.JUDGED_EVERY_SECONDS, first_seconds=20, lane="alarm"),
        Job("messages", look_after_messages, 60),
        Job("digests", alarm.Digests(wake), 900, first_seconds=60),
        Job("old-notices", forget_old_notices, 86_400, first_seconds=600),
        Job("leases", return_expired_leases, 15),
        Job("health", ProblemLog(), 60, first_seconds=20),
        Job("samples", Sampler(), 60, first_seconds=10),
        Job("sessions", end_sessions, 300),
        Job("orphans", Orphans(box), 1800, lane="sweeps"),
        Job("audit", check_audit, 3600),
        Job("anchors", witnesses.write, witnesses.EVERY_SECONDS, first_seconds=60, lane="anchors"),
        Job("backup", backups.make, 900, 120, "backup", backups.interrupt),
        Job("drill", backups.drill, 3600, 900, "drill", backups.interrupt),
        _long("scrub", read_again, scrub.EVERY_SECONDS, 300, "reading"),
        _long("listing", look_through_buckets, scrub.EVERY_SECONDS, 420, "listing"),
        _long("census", count, census.EVERY_SECONDS, 15, "guard"),
        # As often as the kernel is asked: a clock that a time server has put right after a start is believed before anybody is written to.
        Job("retention-clock", watch_clock, 120),
        Job("retention", dates, 60, first_seconds=30, interrupt=dates.interrupt),
        Job("destruction-requests", review_requests, 3600, first_seconds=120),
        _long("destruction", destroy, 120, 180, "destruction"),
        _long("eviction", MakingRoom(), eviction.EVERY_SECONDS, 1200, "eviction"),
        _long("tiers", Tagging(), tagging.EVERY_SECONDS, 1500, "tiers"),
        Job("recall", backups.bring_home, 30, 10, "recall", backups.interrupt),
        Job("audit-feed", audit_feed.Feed(), 10, first_seconds=15, lane="audit-feed"),
        Job("heartbeat", pulse.beat, 60, first_seconds=30, lane="heartbeat"),
        Job("updates", noting.note, 60, first_seconds=20),
        Job("disk-pin", disk_pin.note, 20, first_seconds=20),
        _long("rotation", finish_rotating, rotation.EVERY_SECONDS, 30, "sweeps"),
        _long("protections", see_protections, safeguards.EVERY_SECONDS, 600, "sweeps"),
        Job("certificates", keep_certificates, 6 * 3600),
    )
