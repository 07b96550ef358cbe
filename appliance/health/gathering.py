"""The facts, read once: disk, keys, clock, and the catalog in one reading transaction. Writes nothing.

A heartbeat is fresh when it is near the present in either direction, because a clock that was set back must not turn
every process into one that has just reported.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

from appliance import certificates, disk_pin, firmware, local_time
from appliance import settings as operator_settings
from appliance.box import Box
from appliance.catalog import (
    Reading,
    alterations,
    deliveries,
    destinations,
    devices,
    freezes,
    instances,
    people,
    processes,
    rules,
    samples,
    settings,
    tombstones,
    totals,
)
from appliance.catalog.processes import ProcessRow
from appliance.errors import ApplianceError
from appliance.health import attempts, kernel_clock, looks, restored
from appliance.health.attempts import moment
from appliance.health.checks.clock import BEHIND
from appliance.health.facts import (
    Altered,
    Anchor,
    Certificate,
    Clock,
    Contents,
    Disk,
    Facts,
    Forgotten,
    Frozen,
    Keys,
    Limits,
    LookedThrough,
    Queue,
    ReadAgain,
    Sender,
    Trouble,
    Unprotected,
)
from appliance.health.forecast import Forecast, Outlook, forecast
from appliance.health.kept import figure, part, words
from appliance.health.sampling import free_by_day
from appliance.ingest import set_aside
from appliance.lifecycle import memory, policy, retention
from appliance.model import DestinationId
from appliance.replication.delivery import OPEN_STATES, State
from appliance.replication.place import place_of
from appliance.store import keys

FRESH = timedelta(seconds=30)
UPDATES = Path("/run/appliance-update")
LEFT, WAITING, CHOSEN = "left", "waiting", "chosen"
"""Where `update-outcome` of the image says which versions were tried and left again, which one waits for the next start, and which
the firmware keeps for every start: one version a line. Elsewhere there are no such files."""
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.~^_-]{0,39}", re.ASCII)

FAILURES_WITHIN = timedelta(hours=1)
LIMITS = tuple(each.name for each in fields(Limits))

VERIFICATION = "verification"
SCRUB = "scrub.finished"
SCRUB_STOPPED = "scrub.stopped"
SCRUB_UNCHECKED = "scrub.unchecked"
SCRUB_COPIES_UNREAD = "scrub.copies-unread"
SCRUB_STANDING = "scrub.pass"
SCRUB_FAR = "scrub.far"
SCRUB_FAR_LOST = "scrub.far-lost"
SCRUB_ARCHIVES = "scrub.archives"
BUCKET_LISTS = "bucket.lists"
RESTORE_ASKED = settings.ASKED
RESTORE_MANIFESTS = settings.UNREAD_MANIFESTS
RESTORE_OTHERS = settings.OTHER_ARCHIVES
AUDIT_CHECK = "audit-check"
AUDIT_ANCHORS = "audit-anchors"
AUDIT_FEED = "syslog-state"
"""Keys of `appliance.catalog.settings` under which the last outcome of each is kept, for the judgement here."""


def gather(box: Box, now: datetime) -> Facts:
    """What is known of `box` at `now`. Doesn't raise for what it looks at: that something fails is a fact."""
    facts = Facts(
        at_utc=now,
        today=local_time.here(now).date(),
        keys=_keys(box),
        disk=_disk(box),
        left_versions=versions(UPDATES / LEFT),
        waiting_versions=versions(UPDATES / WAITING),
        chosen_version=chosen_version(),
        versions_are_told=(UPDATES / WAITING).is_file() or not running_version(),
        asks_pin=disk_pin.wants_somebody(),
        secure_boot=firmware.secure_boot(),
        runs_for=running.lasted if (running := kernel_clock.running()) else None,
        contents=Contents(set_aside=len(set_aside.paths(box))),
    )
    try:
        with box.catalog.reading() as conn:
            return _from_catalog(conn, facts, box)
    except ApplianceError as error:
        return replace(facts, catalog=Trouble(error.message, error.hint))


def recovery_is_pending(box: Box) -> bool:
    """Whether nobody has yet proved to have written down the recovery key."""
    return not keys.recovery_confirmed(keys_folder(box))


def keys_folder(box: Box) -> Path:
    """Where the wrapped root key is."""
    return box.config.data.absolute() / "keys"


# --- outside the catalog ---------------------------------------------------------------------------------------------


def _keys(box: Box) -> Keys:
    seal: str | Trouble
    try:
        seal = keys.guard(keys_folder(box))
    except ApplianceError as error:
        seal = Trouble(error.message, error.hint)
    damage = ""
    try:
        keys.whole_recovery_slot(keys_folder(box))
    except ApplianceError as error:
        damage = error.message
    return Keys(recovery_confirmed=not recovery_is_pending(box), seal=seal, slot_damage=damage)


def versions(told: Path) -> tuple[str, ...]:
    """The versions that the image names in the file `told`."""
    try:
        return tuple(told.read_text(encoding="utf-8").split())
    except OSError:
        return ()


def chosen_version() -> str:
    """What the firmware keeps for every start, because somebody has chosen it in the loader's menu; empty if nothing."""
    return next((each[:40] for each in versions(UPDATES / CHOSEN)), "")


def running_version() -> str:
    """The version of the image that runs; empty on a Debian that was provisioned."""
    try:
        version = platform.freedesktop_os_release().get("IMAGE_VERSION", "")
    except OSError:
        return ""
    return version if VERSION.fullmatch(version) else ""


def _disk(box: Box) -> Disk | None:
    try:
        space = box.guard.space()
    except OSError:
        return None
    disk = Disk(space.total_bytes, space.free_bytes, box.guard.reserve_bytes)
    try:
        box.guard.admit()
    except ApplianceError as error:
        return replace(disk, refusal=Trouble(error.message, error.hint))
    return disk


# --- from the catalog ------------------------------------------------------------------------------------------------


def _from_catalog(conn: Reading, facts: Facts, box: Box) -> Facts:
    now = facts.at_utc
    kept = totals.totals(conn)
    outcomes = settings.several(
        conn,
        (
            VERIFICATION,
            SCRUB,
            SCRUB_STOPPED,
            SCRUB_UNCHECKED,
            SCRUB_COPIES_UNREAD,
            SCRUB_STANDING,
            SCRUB_FAR,
            SCRUB_FAR_LOST,
            SCRUB_ARCHIVES,
            BUCKET_LISTS,
            settings.PROTECTIONS,
            RESTORE_ASKED,
            RESTORE_MANIFESTS,
            RESTORE_OTHERS,
            AUDIT_CHECK,
            AUDIT_FEED,
            AUDIT_ANCHORS,
            settings.RESTORED,
            looks.KEPT,
            settings.VENDOR_ORDER,
            settings.HEARTBEAT_CONSENT,
            settings.HEARTBEATS_STOPPED,
        ),
    )
    days = _days(conn)
    queues = tuple(_queues(conn))
    backups = attempts.backups(conn)
    drills = attempts.drills(conn, backups, box.audit_key, now)
    rows = {row.name: row for row in processes.processes(conn)}
    jobs = rows["jobs"].detail if "jobs" in rows else {}
    chosen = operator_settings.get_several(conn, ("tiers.eviction", *(f"health.{name}" for name in LIMITS)))
    held = facts.contents.set_aside if facts.contents else 0
    return replace(
        facts,
        contents=Contents(
            studies=kept.studies,
            instances=kept.instances,
            bytes=kept.bytes,
            duplicates=kept.duplicates,
            patient_conflicts=kept.patient_conflicts,
            damaged=figure(outcomes.get(VERIFICATION), "damaged"),
            set_aside=held,
            set_aside_damaged=min(held, figure(outcomes.get(VERIFICATION), "set_aside")),
            catalog_damage=words(outcomes.get(SCRUB), "catalog"),
            unread_in_a_row=figure(outcomes.get(SCRUB_STOPPED), "in_a_row"),
            unread_disks=tuple(
                each.destination
                for each in queues
                if words(part(outcomes.get(SCRUB_COPIES_UNREAD), str(each.id)), "object")
            ),
            kept_back=tuple(
                restored.kept_back(queues, outcomes.get(RESTORE_ASKED), outcomes.get(settings.RESTORED))
            ),
            unread_manifests=tuple(
                chain(
                    restored.unread_manifests(
                        queues, outcomes.get(RESTORE_MANIFESTS), outcomes.get(settings.RESTORED)
                    ),
                    restored.unread_elsewhere(
                        queues, outcomes.get(RESTORE_OTHERS), outcomes.get(settings.RESTORED)
                    ),
                )
            ),
            not_looked_through=tuple(
                restored.not_looked_through(
                    queues, outcomes.get(RESTORE_OTHERS), outcomes.get(settings.RESTORED), now
                )
            ),
            lying_deep=tuple(
                restored.lying_deep(
                    queues, outcomes.get(RESTORE_OTHERS), outcomes.get(settings.RESTORED), now
                )
            ),
            lost_in=tuple(
                (each.destination, len(lost))
                for each in queues
                if isinstance(lost := part(outcomes.get(SCRUB_FAR_LOST), str(each.id)), Mapping) and lost
            ),
            altered_in=tuple(_altered(conn, queues, now)),
        ),
        processes=_beating(rows, box.config.dicom.workers, now),
        failing_jobs=_names(jobs.get("failing")),
        queues=queues,
        senders=tuple(_senders(conn, days, facts.today)),
        received_today=sum(each.get(facts.today, 0) for each in days.values()),
        rules=len(rules.rules(conn)),
        audit_findings=figure(outcomes.get(AUDIT_CHECK), "findings"),
        audit_feed_behind_utc=_behind(outcomes.get(AUDIT_FEED)),
        anchors=tuple(_anchors(outcomes.get(AUDIT_ANCHORS))),
        backup=attempts.standing(backups),
        drill=attempts.drills_standing(drills),
        drills=drills,
        read_again=_read_again(conn, outcomes),
        looked_through=tuple(_looked_through(queues, outcomes.get(BUCKET_LISTS))),
        read_through=tuple(_looked_through(queues, outcomes.get(SCRUB_ARCHIVES))),
        unprotected=tuple(_unprotected(queues, outcomes.get(settings.PROTECTIONS))),
        looked=looks.from_kept(outcomes.get(looks.KEPT)) if running_version() else None,
        held_to=_held_to(conn, outcomes),
        heartbeats_stopped={settings.HEARTBEAT_CONSENT, settings.HEARTBEATS_STOPPED} <= set(outcomes),
        frozen=_frozen(conn),
        forgotten=_forgotten(conn),
        too_small_for=restored.too_small_for(outcomes.get(settings.RESTORED)),
        lets_leave=chosen["tiers.eviction"] != "off",
        clock=_clock(jobs, instances.latest_received(conn), retention.clock_of(conn, now)),
        certificates=tuple(_certificates(conn)),
        destructions_since=tuple(tombstones.unfinished_since(conn)),
        forecast=_forecast(conn, facts),
        limits=Limits(**{name: chosen[f"health.{name}"] for name in LIMITS}),
        sign_in_failures=people.failures_between(conn, after=now - FAILURES_WITHIN, before=now),
    )


def _altered(conn: Reading, queues: Sequence[Queue], now: datetime) -> Iterator[Altered]:
    found = alterations.of(conn, [DestinationId(each.id) for each in queues], now)
    for queue in queues:
        if (each := found.get(DestinationId(queue.id))) is not None:
            days = (local_time.here(moment).date() for moment in (each.first_utc, each.last_utc))
            yield Altered(queue.destination, f"{each.count}{'+' if each.are_more else ''}", *days)


def _read_again(conn: Reading, kept: Mapping[str, Any]) -> ReadAgain | None:
    """When the last complete pass of `appliance.lifecycle.scrub` ended; where none has, since when one is owed."""
    unchecked = words(kept.get(SCRUB_UNCHECKED), "why")
    finished = moment(words(kept.get(SCRUB), "finished_utc"))
    unasked = figure(kept.get(SCRUB_FAR), "unasked")
    owed = moment(words(kept.get(SCRUB_FAR), "since_utc"))
    if finished is not None:
        return ReadAgain(finished, unchecked=unchecked, unasked=unasked, asked_utc=owed)
    begun = moment(words(kept.get(SCRUB_UNCHECKED), "since_utc")) or moment(
        words(kept.get(SCRUB_STANDING), "begun_utc")
    )
    owed = begun or instances.first_received(conn)
    return None if owed is None else ReadAgain(owed, never=True, unchecked=unchecked)


def _held_to(conn: Reading, outcomes: Mapping[str, Any]) -> tuple[str, datetime] | None:
    """As `appliance.fleet.taking` has kept it; None once the clinic has withdrawn or taken the vendor's key away, which lets the box go."""
    order = outcomes.get(settings.VENDOR_ORDER) or {}
    if (
        not outcomes.get(settings.HEARTBEAT_CONSENT)
        or not order.get("software")
        or not order.get("until_utc")
        or not operator_settings.get(conn, "heartbeat.authority")
    ):
        return None
    return str(order["software"]), datetime.fromisoformat(order["until_utc"])


def _looked_through(queues: Sequence[Queue], kept: object) -> Iterator[LookedThrough]:
    """When each bucket was last looked through, as `appliance.lifecycle.listing` has kept it, or each archive read, as
    `appliance.lifecycle.read_through` has."""
    for queue in queues:
        if (since := moment(words(part(kept, str(queue.id)), "since_utc"))) is not None:
            yield LookedThrough(queue.destination, since)


def _unprotected(queues: Sequence[Queue], kept: object) -> Iterator[Unprotected]:
    """What buckets have lost of their protections, as `appliance.lifecycle.safeguards` has kept it of where they are now."""
    for queue in queues:
        told = part(kept, str(queue.id))
        found = part(told, "found")
        if queue.is_paused or words(told, "place") != queue.place or not isinstance(found, list):
            continue
        lost, untold = (
            tuple(words(each, "lacks") for each in found if words(each, "standing") == standing)
            for standing in ("lost", "untold")
        )
        if lost or untold:
            yield Unprotected(queue.destination, lost, untold, queue.id)


def _frozen(conn: Reading) -> Frozen | None:
    found = freezes.in_force(conn)
    return None if found is None else Frozen(str(found.why), found.begun_utc)


def _forgotten(conn: Reading) -> Forgotten | None:
    found = memory.gap(conn)
    return (
        None if found is None else Forgotten(found.since_utc, found.until_utc, memory.lacks_a_province(conn))
    )


def _behind(kept: object) -> datetime | None:
    """Since when audit messages wait, as `appliance.audit_feed` has kept it."""
    since = kept.get("behind_since") if isinstance(kept, dict) else None
    return datetime.fromisoformat(since) if isinstance(since, str) and since else None


def _anchors(kept: object) -> Iterator[Anchor]:
    """What `appliance.witnesses` has kept of each archive."""
    for name, each in kept.items() if isinstance(kept, dict) else ():
        yield Anchor(
            destination=name,
            at_utc=datetime.fromisoformat(each["at_utc"]) if each.get("at_utc") else None,
            rolled_back=bool(each.get("rolled_back")),
            offline=bool(each.get("offline")),
        )


def _beating(rows: Mapping[str, ProcessRow], dicom_workers: int, now: datetime) -> dict[str, bool]:
    """Whether each process has reported lately; one that has left a row long ago and isn't expected is not listed."""
    expected = [*(f"dicom-{number}" for number in range(dicom_workers)), "courier", "jobs", "web"]
    return {name: name in rows and is_fresh(rows[name], now) for name in expected}


def is_fresh(row: ProcessRow, now: datetime) -> bool:
    """Whether a process has reported lately, and is there."""
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


def _queues(conn: Reading) -> Iterator[Queue]:
    confirmed = totals.confirmed(conn)
    known = {each.id: each for each in destinations.destinations(conn)}
    summaries = {each.destination_id: each for each in deliveries.waiting_summary(conn)}
    for place in destinations.health(conn):
        summary = summaries[place.id]
        trouble = "" if place.paused or place.breaker.lets_send() else place.breaker.reason or "no answer"
        yield Queue(
            destination=place.name,
            state="paused" if place.paused else f"not reached ({trouble})" if trouble else "on",
            waiting=sum(summary.counts.get(each, 0) for each in OPEN_STATES),
            confirmed=confirmed.get(place.id, 0),
            failed=summary.counts.get(State.FAILED, 0),
            oldest_utc=summary.oldest_utc,
            id=int(place.id),
            trouble=trouble,
            takes=str(known[place.id].takes) if place.id in known else "",
            place=place_of(known[place.id].options) if place.id in known else "",
        )


def _days(conn: Reading) -> dict[tuple[str, str], dict[date, int]]:
    """How much each sender sent on its last days: as counted up to the last minute, and what has come since."""
    counted = samples.days_of_senders(conn)
    since = samples.arrived(conn, samples.cursor(conn), samples.end(conn), local_time.zone()).by_sender
    for (name, address, day), count in since.items():
        mine = counted.setdefault((name, address), {})
        mine[day] = mine.get(day, 0) + count
    return counted


def _senders(
    conn: Reading, days: Mapping[tuple[str, str], Mapping[date, int]], today: date
) -> Iterator[Sender]:
    seen = devices.last_seen(conn)
    for each in devices.devices(conn):
        mine = days.get((each.ae_title, each.address), {})
        yield Sender(
            each.name or str(each.ae_title),
            days=tuple(sorted(mine)),
            last_seen_utc=seen.get(each.id),
            id=each.id,
            received_today=mine.get(today, 0),
        )


def _forecast(conn: Reading, facts: Facts) -> Forecast:
    if facts.disk is None:
        return Forecast(Outlook.UNKNOWN)
    days = free_by_day(conn)
    return forecast(days, facts.today, facts.disk.free_bytes, facts.disk.reserve_bytes)


def _certificates(conn: Reading) -> Iterator[Certificate]:
    found = certificates.installed(conn)
    if found is not None:
        yield Certificate(found.host_name, found.server_ends_utc)
        yield Certificate("clinic CA", found.authority_ends_utc)


def _clock(jobs: Mapping[str, Any], latest_record: datetime | None, judged: policy.Clock) -> Clock:
    noted = jobs.get("clock_set")
    seconds = noted.get("seconds") if isinstance(noted, Mapping) else None
    ahead = judged.newest_receipt_utc - judged.now if judged.newest_receipt_utc else timedelta(0)
    return Clock(
        discipline=kernel_clock.discipline(),
        set_seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        set_utc=moment(noted.get("at_utc")) if isinstance(noted, Mapping) else None,
        latest_record_utc=None if judged.newest_receipt_utc is None else latest_record,
        is_doubted=judged.set_utc is not None or ahead > BEHIND,
    )


def _names(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()
