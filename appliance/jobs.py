"""The process that looks after the box: what runs when, on APScheduler.

Every job may run late and never twice at once: `coalesce` folds the runs that were missed into one, and
`misfire_grace_time` is explicitly None, because the library's default of one second silently drops a late job.

The scheduler plans by the wall clock, so a clock that is set back would leave every job waiting for the old hour.
The main thread compares wall clock and monotonic clock at each beat and, when they part, plans all jobs anew; where it
was set forward, nothing counts the times that were missed (`appliance.rhythm`). No job decides by age alone: a sweep removes only
what it has itself seen twice, so a jumping clock deletes nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from appliance import (
    alarm,
    anchor,
    audit,
    audit_feed,
    certificates,
    disk_pin,
    health,
    identity,
    local_time,
    supervision,
    watch,
    witnesses,
)
from appliance import settings as choices
from appliance.audit import Entry, Outcome
from appliance.backup.schedule import Schedule
from appliance.box import Box
from appliance.catalog import deliveries, destructions, processes, settings
from appliance.errors import ApplianceError
from appliance.fleet import desk as support_desk
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
    scrub,
    tagging,
)
from appliance.lifecycle.staying import staying
from appliance.notify import sending
from appliance.rhythm import Every
from appliance.updates import noting

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
CLOCK_JUMP_SECONDS = 10.0
MISFIRE_GRACE_SECONDS: int | None = None
"""A job that is late runs, however late it is."""

ALARM = "alarm"
"""The job by whose successes another process tells that this one lives (`appliance.watch`)."""

ACTOR = "jobs"
"""Who acts, in the audit."""

Act = Callable[[Box, datetime], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One duty: its name in log and heartbeat, what it does, how often, and how long after the start at first.

    Those of one `lane` wait for each other; the alarm has one of its own, because no long sweep may hold it up, and what calls
    outside has others, because it must hold up nothing.
    `interrupt` asks it to come to an end when the process stops.
    """

    name: str
    act: Act
    every_seconds: int
    first_seconds: int = 0
    lane: Literal["default", "alarm", "audit-feed", "heartbeat", "tiers"] = "default"
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


class Reading:
    """Reading everything again and looking through the buckets, slice by slice, until the process stops."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def interrupt(self) -> None:
        """Come to an end soon."""
        self._stopping.set()

    def __call__(self, box: Box, now: datetime) -> None:
        """The next slice of both."""
        rest = scrub.pace(self._stopping.wait).rest  # which ends when the process does
        scrub.scrub(box, now, keep_going=lambda: not self._stopping.is_set(), rest=rest)
        around = listing.Around(keep_going=lambda: not self._stopping.is_set(), rest=rest)
        listing.look_through(box, now, around)


class Counting:
    """Counting the sealed objects for the ransomware guard, until the process stops."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def interrupt(self) -> None:
        """Come to an end soon."""
        self._stopping.set()

    def __call__(self, box: Box, now: datetime) -> None:
        """Count once."""
        census.take(box, now, keep_going=lambda: not self._stopping.is_set())


class Destroying:
    """Carrying out what was approved to be destroyed, here and in the archives, until the process stops."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def interrupt(self) -> None:
        """Come to an end soon: what is left is done at another time."""
        self._stopping.set()

    def __call__(self, box: Box, now: datetime) -> None:
        """Do what can be done now."""
        around = purging.Around(keep_going=lambda: not self._stopping.is_set())
        if destroyed := purging.carry_out(box, now, around):
            log.info("studies destroyed: count=%d", destroyed)


class Evicting:
    """Making room, as the clinic has chosen, until the process stops."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def interrupt(self) -> None:
        """Come to an end soon: the study at work stays."""
        self._stopping.set()

    def __call__(self, box: Box, now: datetime) -> None:  # noqa: ARG002 - a long run reads the clock anew
        """Let leave what may, if anything should, then bring what is wanted: what has no room yet must not keep room from being made."""
        around = eviction.Around(keep_going=lambda: not self._stopping.is_set())
        try:
            eviction.evict(box, lambda: datetime.now(UTC), around)
        except eviction.Taken:
            log.info("room is made later: somebody moves images already")
            return
        with suppress(eviction.Taken):
            returning.bring_wanted(box, around.keep_going)


class Tagging:
    """Telling the buckets how far away each study may lie, from where the last run ended, until the process stops."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._after = 0

    def interrupt(self) -> None:
        """Come to an end soon."""
        self._stopping.set()

    def __call__(self, box: Box, now: datetime) -> None:
        """The next studies."""
        around = tagging.Around(keep_going=lambda: not self._stopping.is_set())
        with suppress(eviction.Taken):
            self._after = tagging.run(box, retention.running_from(now), self._after, around).after


class Rotation:
    """Going on with a rotation of the root key that was cut, and catching what came late; cheap when there is nothing."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def interrupt(self) -> None:
        """Come to an end soon."""
        self._stopping.set()

    def __call__(self, box: Box, now: datetime) -> None:
        """Whatever still lies under an earlier root key."""
        rotation.finish(box, now, keep_going=lambda: not self._stopping.is_set())


def duties(box: Box, wake: Callable[[], None] = lambda: None) -> tuple[Job, ...]:
    """Everything that runs, and how often. `wake` is called when there is something to send."""
    backups = Schedule(staying)
    reading = Reading()
    counting = Counting()
    rotating = Rotation()
    dates = retention.Dates()
    destroying = Destroying()
    evicting = Evicting()
    sinking = Tagging()
    return (
        Job(ALARM, alarm.Alarm(wake), alarm.JUDGED_EVERY_SECONDS, first_seconds=20, lane="alarm"),
        Job("messages", look_after_messages, 60),
        Job("digests", alarm.Digests(wake), 900, first_seconds=60),
        Job("old-notices", forget_old_notices, 86_400, first_seconds=600),
        Job("leases", return_expired_leases, 15),
        Job("health", ProblemLog(), 60, first_seconds=20),
        Job("samples", Sampler(), 60, first_seconds=10),
        Job("sessions", end_sessions, 300),
        Job("orphans", Orphans(box), 1800),
        Job("audit", check_audit, 3600),
        Job("anchors", witnesses.write, witnesses.EVERY_SECONDS, first_seconds=60),
        Job("backup", backups.make, 900, first_seconds=120, interrupt=backups.interrupt),
        Job("drill", backups.drill, 3600, first_seconds=900, interrupt=backups.interrupt),
        Job("scrub", reading, scrub.EVERY_SECONDS, first_seconds=300, interrupt=reading.interrupt),
        Job("census", counting, census.EVERY_SECONDS, first_seconds=15, interrupt=counting.interrupt),
        Job("retention-clock", watch_clock, 600),
        Job("retention", dates, 60, first_seconds=30, interrupt=dates.interrupt),
        Job("destruction-requests", review_requests, 3600, first_seconds=120),
        Job("destruction", destroying, 120, first_seconds=180, interrupt=destroying.interrupt),
        Job(
            "eviction",
            evicting,
            eviction.EVERY_SECONDS,
            first_seconds=1200,
            interrupt=evicting.interrupt,
        ),
        Job(
            "tiers",
            sinking,
            tagging.EVERY_SECONDS,
            first_seconds=1500,
            lane="tiers",
            interrupt=sinking.interrupt,
        ),
        Job("recall", backups.bring_home, 30, first_seconds=10, interrupt=backups.interrupt),
        Job("audit-feed", audit_feed.Feed(), 10, first_seconds=15, lane="audit-feed"),
        Job("heartbeat", pulse.beat, 60, first_seconds=30, lane="heartbeat"),
        Job("updates", noting.note, 60, first_seconds=20),
        Job("disk-pin", disk_pin.note, 20, first_seconds=20),
        Job("rotation", rotating, rotation.EVERY_SECONDS, first_seconds=30, interrupt=rotating.interrupt),
        Job("certificates", keep_certificates, 6 * 3600),
    )


@dataclass
class Upkeep:
    """The scheduler with its jobs, and what came of each.

    `wall` and `monotonic` are the two clocks, as arguments so that a test can let them part. `judged` counts how often the alarm
    has come to its end.
    """

    box: Box
    jobs: tuple[Job, ...] = ()
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    failing: set[str] = field(default_factory=set)
    clock_set: dict[str, object] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    judged: int = 0

    def __post_init__(self) -> None:
        self.jobs = self.jobs or duties(self.box)
        self.started_utc = self.wall()
        self._offset = self._difference()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={
                "default": ThreadPoolExecutor(2),
                "alarm": ThreadPoolExecutor(1),
                "audit-feed": ThreadPoolExecutor(1),
                "heartbeat": ThreadPoolExecutor(1),
                "tiers": ThreadPoolExecutor(1),
            },
            job_defaults={"coalesce": True, "misfire_grace_time": MISFIRE_GRACE_SECONDS, "max_instances": 1},
        )
        for job in self.jobs:
            self._scheduler.add_job(self._do, Every(job.every_seconds), [job], id=job.name, executor=job.lane)

    def start(self) -> None:
        """Start, with a first run of every job now or as soon as it says."""
        self._scheduler.start()
        self._plan_anew()
        log.info("upkeep begins: jobs=%d", len(self.jobs))

    def stop(self) -> None:
        """Stop; a job that runs is finished first."""
        for job in self.jobs:
            job.interrupt()
        self._scheduler.shutdown(wait=True)

    def beat(self) -> None:
        """Record that this process lives, and plan anew if the clock was set."""
        with self.box.catalog.reading() as conn:
            local_time.follow(str(choices.get(conn, local_time.SETTING)))
        difference = self._difference()
        moved = difference - self._offset
        if abs(moved) > CLOCK_JUMP_SECONDS:
            log.warning("the clock was set by %+.0f s: all jobs are planned anew", moved)
            self._offset = difference
            self.clock_set = {"seconds": round(moved), "at_utc": self.wall().isoformat()}
            self._plan_anew()
        detail: dict[str, object] = {
            "failing": sorted(self.failing),
            "runs": sum(self.runs.values()),
            watch.JUDGED: self.judged,
        }
        if (discipline := kernel_clock.discipline()) is not Discipline.UNKNOWN:
            detail["discipline"] = str(discipline)  # for processes that may not ask the kernel
        if self.clock_set:
            detail["clock_set"] = self.clock_set
        with self.box.catalog.transaction() as tx:
            processes.beat(tx, "jobs", os.getpid(), self.started_utc, self.wall(), detail)

    def next_runs(self) -> dict[str, datetime]:
        """When each job runs next."""
        return {job.id: job.next_run_time for job in self._scheduler.get_jobs()}

    def _difference(self) -> float:
        return self.wall().timestamp() - self.monotonic()

    def _plan_anew(self) -> None:
        for job in self.jobs:
            first = self.wall() + timedelta(seconds=job.first_seconds)
            self._scheduler.modify_job(job.name, next_run_time=first)

    def _do(self, job: Job) -> None:
        """Run one job; its failure is logged here, kept for the heartbeat, and ends with its next success."""
        try:
            job.act(self.box, self.wall())
        except ApplianceError as error:
            self.failing.add(job.name)
            log.error("the job %s failed: %s", job.name, error)
        except Exception as error:  # noqa: BLE001 - an edge: a defect is told too, but not in its own words
            self.failing.add(job.name)
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno}"
            log.error("the job %s failed: %s in %s", job.name, type(error).__name__, where)
        else:
            self.failing.discard(job.name)
            self.judged += job.name == ALARM
        self.runs[job.name] = self.runs.get(job.name, 0) + 1


def run(box: Box, stop: threading.Event) -> None:
    """Look after `box` until `stop` is set."""
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    messenger = sending.Messenger(box)
    upkeep = Upkeep(box, duties(box, messenger.wake))
    desk = support_desk.Desk(box)
    messenger.start()
    upkeep.start()
    desk.start()
    supervision.ready("looking after the box")
    try:
        while True:
            supervision.alive()
            try:
                upkeep.beat()
            except ApplianceError as error:
                log.error("the heartbeat was not recorded: %s", error)
            if stop.wait(BEAT_SECONDS):
                return
    finally:
        supervision.stopping("the duties at work may finish")
        desk.stop()
        upkeep.stop()
        messenger.stop()
