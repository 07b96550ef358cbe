"""The process that looks after the box: its duties (`appliance.duties`), on APScheduler.

Every job may run late and never twice at once: `coalesce` folds the runs that were missed into one, and
`misfire_grace_time` is explicitly None, because the library's default of one second silently drops a late job. How long one may be late is a matter of
its lane (`duties.Job`): one that watches waits for none that works.

The scheduler plans by the wall clock, so a clock that is set back would leave every job waiting for the old hour.
The main thread compares wall clock and monotonic clock at each beat and, when they part, plans all jobs anew; where it
was set forward, nothing counts the times that were missed (`appliance.rhythm`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from appliance import duties, local_time, supervision, watch
from appliance import settings as choices
from appliance.box import Box
from appliance.catalog import processes
from appliance.duties import ALARM, Job
from appliance.errors import ApplianceError
from appliance.fleet import desk as support_desk
from appliance.notify import sending
from appliance.rhythm import Every
from appliance.store import scratch

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
CLOCK_JUMP_SECONDS = 10.0
MISFIRE_GRACE_SECONDS: int | None = None
"""A job that is late runs, however late it is."""


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
        self.jobs = self.jobs or duties.duties(self.box)
        self.started_utc = self.wall()
        self._offset = self._difference()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={lane: ThreadPoolExecutor(threads) for lane, threads in duties.THREADS.items()},
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
    try:
        scratch.sweep(box.config.data.absolute())
    except ApplianceError as error:
        log.warning("copies of the catalog that a cut has left stay for now: %s", error.message)
    messenger = sending.Messenger(box)
    upkeep = Upkeep(box, duties.duties(box, messenger.wake))
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
