"""Whether the box is ready, and what to do where it isn't: the one judgement behind ``appliance status``,
``/health/ready``, ``/metrics`` and the console's dashboard.

Everything is read, nothing written, and no judgement is remembered: what is mended disappears at the next question.
A problem has a code for scripts, words and a fix for people, and *blocks* when images can't be received, kept or
delivered because of it. No text here names a patient, a study or an object.

A heartbeat is fresh when it is near the present in either direction, because a clock that was set back must not turn
every process into one that has just reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from appliance import __version__
from appliance.catalog import Reading, deliveries, destinations, devices, processes, rules, settings, totals
from appliance.errors import ApplianceError
from appliance.ingest.reception import HELD
from appliance.replication.delivery import OPEN_STATES, State
from appliance.store import keys

if TYPE_CHECKING:
    from appliance.box import Box
    from appliance.catalog.processes import ProcessRow

FRESH = timedelta(seconds=30)
LATE = timedelta(hours=1)
LOW_SPACE_RESERVES = 4
"""Space is low when less than this many times the reserve is free."""

PROCESSES = {
    "dicom": "images cannot be received",
    "courier": "nothing is delivered",
    "jobs": "upkeep stands still",
}
VERIFICATION = "verification"
AUDIT_CHECK = "audit-check"
"""Keys of `appliance.catalog.settings` under which the last outcome of each is kept, for the judgement here."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person should know of. `blocks`: the box isn't ready while it lasts.

    `subject` is the destination or the job concerned, where several may have the same problem.
    """

    code: str
    words: str
    fix: str
    blocks: bool = False
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Queue:
    """What is owed to one destination; `waiting` counts all that is not yet delivered and not given up."""

    destination: str
    state: str
    waiting: int
    confirmed: int
    failed: int
    oldest_utc: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """The box at one moment. Figures are None when the box can't be opened. Sizes in bytes."""

    ready: bool
    at_utc: datetime
    version: str
    problems: tuple[Problem, ...]
    studies: int | None = None
    instances: int | None = None
    bytes: int | None = None
    free_bytes: int | None = None
    processes: Mapping[str, bool] | None = None
    queues: tuple[Queue, ...] = ()


def closed(error: ApplianceError, now: datetime) -> Status:
    """The status of a box that couldn't be opened because of `error`."""
    problem = Problem(
        "box", f"the box cannot be opened: {error.message}", error.hint or "call support", blocks=True
    )
    return Status(ready=False, at_utc=now, version=__version__, problems=(problem,))


def status(box: Box, now: datetime) -> Status:
    """The status of `box` at `now`. Doesn't raise for what it judges: a catalog that fails is a problem found."""
    problems = [*_space(box), *_keys(box), *_set_aside(box)]
    try:
        with box.catalog.reading() as conn:
            kept = totals.totals(conn)
            beating = _processes(conn, box.config.dicom.workers, now)
            queues = tuple(_queues(conn))
            problems += _stopped(beating)
            problems += _jobs(conn)
            problems += _deliveries(queues, now)
            problems += _contents(conn, kept)
            problems += _setup(conn)
    except ApplianceError as error:
        words = f"the catalog does not answer: {error.message}"
        problems.append(Problem("catalog", words, error.hint or "restart the appliance", blocks=True))
        return Status(False, now, __version__, _ordered(problems), free_bytes=_free(box))
    return Status(
        ready=not any(problem.blocks for problem in problems),
        at_utc=now,
        version=__version__,
        problems=_ordered(problems),
        studies=kept.studies,
        instances=kept.instances,
        bytes=kept.bytes,
        free_bytes=_free(box),
        processes=beating,
        queues=queues,
    )


def recovery_is_pending(box: Box) -> bool:
    """Whether nobody has yet proved to have written down the recovery key."""
    return not keys.recovery_confirmed(keys_folder(box))


def keys_folder(box: Box) -> Path:
    """Where the wrapped root key is."""
    return box.config.data.absolute() / "keys"


def metrics_text(box: Box, now: datetime) -> str:
    """The status in Prometheus' text format: numbers, names of destinations and processes, nothing of a patient."""
    found = status(box, now)
    registry = CollectorRegistry()

    def gauge(name: str, words: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"appliance_{name}", words, labels, registry=registry)

    gauge("info", "Version of the software.", ("version",)).labels(__version__).set(1)
    gauge("ready", "1 when the box is ready.").set(found.ready)
    problem = gauge("problem", "1 for each kind of problem that stands.", ("code",))
    for each in found.problems:
        problem.labels(each.code).set(1)
    for name, words, value in (
        ("studies", "Studies kept.", found.studies),
        ("instances", "Instances kept.", found.instances),
        ("instance_bytes", "Bytes of the instances kept, before sealing.", found.bytes),
        ("free_bytes", "Bytes free on the data disk.", found.free_bytes),
    ):
        if value is not None:
            gauge(name, words).set(value)
    up = gauge("process_up", "1 when the process has reported lately.", ("process",))
    for name, fresh in (found.processes or {}).items():
        up.labels(name).set(fresh)
    _queue_metrics(found.queues, now, gauge)
    _reported_metrics(box, gauge)
    return generate_latest(registry).decode()


def _queue_metrics(queues: tuple[Queue, ...], now: datetime, gauge: Any) -> None:
    waiting = gauge("deliveries_waiting", "Deliveries owed and not yet confirmed.", ("destination",))
    confirmed = gauge("deliveries_confirmed", "Deliveries with a receipt.", ("destination",))
    failed = gauge("deliveries_failed", "Deliveries that the receiver refused.", ("destination",))
    oldest = gauge("oldest_delivery_seconds", "Age of the oldest delivery that waits.", ("destination",))
    for queue in queues:
        waiting.labels(queue.destination).set(queue.waiting)
        confirmed.labels(queue.destination).set(queue.confirmed)
        failed.labels(queue.destination).set(queue.failed)
        age = (now - queue.oldest_utc).total_seconds() if queue.oldest_utc else 0
        oldest.labels(queue.destination).set(max(age, 0))


def _reported_metrics(box: Box, gauge: Any) -> None:
    """The numbers that the processes put beside their heartbeats, by process."""
    try:
        with box.catalog.reading() as conn:
            rows = processes.processes(conn)
    except ApplianceError:
        return  # the catalog's problem is among the problems already
    reported = gauge("process_reported", "A count that a process reports.", ("process", "count"))
    for row in rows:
        for name, value in sorted(row.detail.items()):
            if isinstance(value, int | float):
                reported.labels(row.name, name).set(value)


# --- what is judged --------------------------------------------------------------------------------------------------


def _space(box: Box) -> Iterator[Problem]:
    try:
        box.guard.admit()
    except ApplianceError as error:
        yield Problem("disk-full", error.message, error.hint or "make space", blocks=True)
        return
    free = _free(box)
    if free is not None and free < LOW_SPACE_RESERVES * box.guard.reserve_bytes:
        yield Problem(
            "disk-low", "the data disk is nearly full", "make space, or add a disk, before it refuses images"
        )


def _free(box: Box) -> int | None:
    try:
        return box.guard.space().free_bytes
    except OSError:
        return None


def _set_aside(box: Box) -> Iterator[Problem]:
    held = sum(1 for _ in (box.intake_folder / HELD).glob("*.record"))
    if held:
        yield Problem(
            "set-aside",
            f"{held} received images could not be recorded and are set aside, sealed",
            "restart the appliance, which tries them again; if they stay, call support before anything is removed",
        )


def _keys(box: Box) -> Iterator[Problem]:
    if recovery_is_pending(box):
        yield Problem(
            "recovery-key",
            "nobody has written down the recovery key yet: without it a lost machine is lost for good",
            "run 'appliance key show-recovery', print it, then 'appliance key check-recovery'",
        )
    try:
        seal = keys.machine_seal(keys_folder(box))
    except ApplianceError as error:
        words = f"the box will not start again by itself: {error.message}"
        yield Problem("machine-seal", words, error.hint)
        return
    if seal.kind == "file":
        yield Problem(
            "machine-seal",
            "the root key lies in a file on the same disk: a stolen disk can be read",
            "on a machine with a TPM, seal it there; for trying things out it is fine",
        )


def _processes(conn: Reading, dicom_workers: int, now: datetime) -> dict[str, bool]:
    """Whether each process has reported lately; one that has left a row long ago and isn't expected is not listed."""
    rows = {row.name: _is_fresh(row, now) for row in processes.processes(conn)}
    expected = [*(f"dicom-{number}" for number in range(dicom_workers)), "courier", "jobs"]
    return {name: rows.get(name, False) for name in expected}


def _is_fresh(row: ProcessRow, now: datetime) -> bool:
    return abs(now - row.beat_utc) <= FRESH and _exists(row.pid)


def _exists(pid: int) -> bool:
    """Whether a process has this id. One id space is assumed: a container runs the whole appliance or none of it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _stopped(beating: Mapping[str, bool]) -> Iterator[Problem]:
    for name, consequence in PROCESSES.items():
        mine = [fresh for each, fresh in beating.items() if each.split("-")[0] == name]
        fix = f"start it ('appliance run', or systemctl restart appliance-{name}) and look at its log"
        if not any(mine):
            yield Problem(
                f"{name}-stopped", f"the {name} process does not run: {consequence}", fix, blocks=True
            )
        elif not all(mine):
            yield Problem(f"{name}-weak", f"only {sum(mine)} of {len(mine)} {name} workers run", fix)


def _jobs(conn: Reading) -> Iterator[Problem]:
    row = next((row for row in processes.processes(conn) if row.name == "jobs"), None)
    failing: object = row.detail.get("failing") if row else None
    if isinstance(failing, list):
        for name in failing:
            yield Problem(
                "job", f"the upkeep job '{name}' fails", "look at the log of the jobs process", subject=name
            )


def _queues(conn: Reading) -> Iterator[Queue]:
    owed = totals.obligations(conn)
    summaries = {each.destination_id: each for each in deliveries.waiting_summary(conn)}
    for place in destinations.health(conn):
        summary = summaries[place.id]
        reached = place.breaker.lets_send()
        yield Queue(
            destination=place.name,
            state="paused" if place.paused else "on" if reached else f"not reached ({place.breaker.reason})",
            waiting=sum(summary.counts.get(each, 0) for each in OPEN_STATES),
            confirmed=owed.get(place.id, 0) - sum(summary.counts.values()),
            failed=summary.counts.get(State.FAILED, 0),
            oldest_utc=summary.oldest_utc,
        )


def _deliveries(queues: tuple[Queue, ...], now: datetime) -> Iterator[Problem]:
    for queue in queues:
        name = queue.destination
        if queue.state.startswith("not reached"):
            yield Problem(
                "destination-down",
                f"{name} is {queue.state}; {queue.waiting} deliveries wait",
                f"nothing is lost, they go by themselves once it answers; 'appliance destination test {name}' tries it",
                subject=name,
            )
        if queue.failed:
            yield Problem(
                "delivery-failed",
                f"{name} refused {queue.failed} images",
                f"see why with 'appliance deliveries list --destination {name} --state FAILED', then retry or cancel",
                subject=name,
            )
        if queue.oldest_utc and now - queue.oldest_utc > LATE and queue.state != "paused":
            hours = (now - queue.oldest_utc) / timedelta(hours=1)
            yield Problem(
                "delivery-late",
                f"the oldest delivery to {name} has waited {hours:.0f} h",
                "check the connection; nothing is lost meanwhile",
                subject=name,
            )
        if queue.state == "paused" and queue.waiting:
            yield Problem(
                "destination-paused",
                f"{name} is paused and {queue.waiting} deliveries wait",
                f"'appliance destination resume {name}' when it may go on",
                subject=name,
            )


def _contents(conn: Reading, kept: totals.Totals) -> Iterator[Problem]:
    if kept.duplicates:
        yield Problem(
            "duplicates",
            f"{kept.duplicates} images came twice with different content; both are kept",
            "look at the studies marked in the console and decide which is right",
        )
    if kept.patient_conflicts:
        yield Problem(
            "patient-conflict",
            f"{kept.patient_conflicts} studies hold images that name another patient",
            "look at the studies marked in the console before anyone relies on them",
        )
    if damaged := _figure(settings.get(conn, VERIFICATION, {}), "damaged"):
        yield Problem(
            "damaged",
            f"{damaged} stored images were found damaged or missing",
            "run 'appliance verify --all', and bring them back from a replica",
        )
    if _figure(settings.get(conn, AUDIT_CHECK, {}), "findings"):
        yield Problem(
            "audit",
            "the audit log has been altered",
            "run 'appliance audit verify', keep the disk as it is, and tell the person in charge of privacy",
        )


def _setup(conn: Reading) -> Iterator[Problem]:
    if not devices.devices(conn):
        yield Problem("no-devices", "no machine may send yet", "admit one: 'appliance device add --help'")
    if not rules.rules(conn):
        yield Problem("no-rules", "nothing is copied anywhere yet", "add a destination and a rule for it")


def _figure(outcome: object, name: str) -> int:
    value = outcome.get(name, 0) if isinstance(outcome, Mapping) else 0
    return value if isinstance(value, int) else 0


def _ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    """Those that block come first."""
    return tuple(sorted(problems, key=lambda problem: not problem.blocks))
