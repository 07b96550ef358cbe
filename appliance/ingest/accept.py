"""From sealed and durable to recorded: the one function that every intake ends in.

Nothing here may acknowledge anything: a caller that has `accept`ed, or holds the instance in an intake log, may.
A crash before the commit leaves a ciphertext without a row, which `orphans` removes, or a log record, which is
accepted again at the next start; accepting again what was recorded changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from appliance import audit
from appliance.audit import Entry
from appliance.box import Box
from appliance.catalog import Transaction, deliveries, instances, rules, study_keys, tombstones
from appliance.catalog.errors import Conflict
from appliance.catalog.instances import InstanceRow
from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, OutOfResources, Transient, Unknown
from appliance.ingest import rehearsal
from appliance.ingest.awaiting import Awaiting
from appliance.ingest.duplicates import same_data_set
from appliance.ingest.elsewhere import is_data_set_of
from appliance.ingest.resealing import under_living_keys
from appliance.model import InstanceId, Owed, Received, Uid
from appliance.routing import deliveries_for
from appliance.store.objects import SealedReader

log = logging.getLogger(__name__)

_TRIES = 8


@dataclass(frozen=True, slots=True)
class Accepted:
    """What came of a batch: how many were recorded, how many of those under a known identity, how many were not
    recorded because the very same data set is already here."""

    recorded: int = 0
    duplicates: int = 0
    identical: int = 0


def accept(box: Box, arrivals: Sequence[Awaiting]) -> Accepted:
    """Record `arrivals` with all they are owed; when this returns they are durable, visible and audited.

    Same identity (study, series and SOP Instance UID) and same data set: nothing is kept twice. Same identity, other
    bytes: both are kept and flagged (dicom-interop rule 4). A study that was destroyed and is sent again is a new study: what
    was acknowledged is never refused afterwards, but the audit says so and the privacy officer is told. What the box has sent
    itself, to see whether images would be received, is recorded and taken back, and counts for nothing. Raises what catalog and
    store raise; nothing of the batch is recorded then, and it may be accepted again.
    """
    own = [each for each in arrivals if rehearsal.is_rehearsed(box, each.received)]
    if own:
        _rehearse(box, own)
        arrivals = [each for each in arrivals if each not in own]
    done = [_accept_in_turn(box, batch) for batch in _without_repeats(arrivals)]
    return Accepted(
        sum(each.recorded for each in done),
        sum(each.duplicates for each in done),
        sum(each.identical for each in done),
    )


def accept_within(tx: Transaction, box: Box, arrivals: Sequence[Received], now: datetime) -> None:
    """Record instances whose identities nobody else can have, as a part of `tx`: with it, or not at all.

    They are owed to archives only. Their objects are durable by `ObjectWriter.keep`, and orphans until the commit.
    """
    archives = [each for each in rules.rules(tx) if each.takes == "ciphertext"]
    recorded = instances.record_many(tx, [(each, 0) for each in arrivals])
    owed = [
        (row.instance_id, deliveries_for(each.header, each.origin, archives))
        for each, row in zip(arrivals, recorded, strict=True)
    ]
    deliveries.owe_many(tx, owed, now)
    entries = [entry for each in arrivals for entry in _entries(each, 0, conflict=False)]
    audit.append(tx, box.audit_key, entries, now)


def _accept_in_turn(box: Box, arrivals: Sequence[Awaiting]) -> Accepted:
    """`_accept_distinct`, again when another process has recorded one of these identities in between."""
    for _ in range(_TRIES - 1):
        try:
            return _accept_distinct(box, arrivals)
        except Conflict:
            continue
    return _accept_distinct(box, arrivals)


def _accept_distinct(box: Box, arrivals: Sequence[Awaiting]) -> Accepted:
    """`accept` for instances of which no two have the same identity."""
    arrivals = under_living_keys(box, arrivals)
    fresh: list[tuple[Awaiting, int]] = []
    identical: list[Awaiting] = []
    with box.catalog.reading() as reading:
        known = instances.known_among(reading, [each.received.header.sop_instance_uid for each in arrivals])
    for arrival in arrivals:
        version = _version(box, arrival) if arrival.received.header.sop_instance_uid in known else 0
        if version is None:
            identical.append(arrival)
        elif version >= 0:
            fresh.append((arrival, version))
    _adopt(box, [each for each, _ in fresh])
    if fresh:
        with box.catalog.transaction() as tx:
            _record(tx, box, fresh, datetime.now(UTC))
    _name_parts(box, arrivals)  # their rows are there
    for arrival in identical:
        box.objects.remove(arrival.received.stored.object_id)
    for arrival in arrivals:
        if arrival.instead_of is not None:
            box.objects.remove(arrival.instead_of)
    return Accepted(len(fresh), sum(1 for _, version in fresh if version), len(identical))


def _adopt(box: Box, arrivals: Sequence[Awaiting]) -> None:
    """Give those of `arrivals` a file of their own that have none yet, durable on return."""
    in_log = [(each.received.stored.object_id, each.body) for each in arrivals if each.body is not None]
    for file in {body.file for _, body in in_log}:
        box.objects.adopt(
            file.descriptor,
            [(object_id, body.offset, body.length) for object_id, body in in_log if body.file is file],
        )


def _name_parts(box: Box, arrivals: Sequence[Awaiting]) -> None:
    """Let those of `arrivals` that are parts have their names."""
    for arrival in arrivals:
        if arrival.part_of:
            box.objects.path(arrival.received.stored.object_id)


def _record(tx: Transaction, box: Box, fresh: Sequence[tuple[Awaiting, int]], now: datetime) -> None:
    """All that is written of `fresh`, instances and their versions: rows, what they are owed, the audit. Raises `Conflict`."""
    keys = [each.received.stored.key_id for each, _ in fresh]
    if study_keys.destroyed_among(tx, keys):
        raise Conflict("a study was destroyed while more of it was on the way")
    back = tombstones.returning(tx, {each.received.header.study_instance_uid for each, _ in fresh})
    standing = rules.rules(tx)
    recorded = instances.record_many(tx, [(each.received, version) for each, version in fresh])
    owed: list[tuple[InstanceId, tuple[Owed, ...]]] = []
    entries: list[Entry] = []
    for (arrival, version), row in zip(fresh, recorded, strict=True):
        header, origin = arrival.received.header, arrival.received.origin
        owed.append((row.instance_id, deliveries_for(header, origin, standing, duplicate=version > 0)))
        entries.extend(_entries(arrival.received, version, conflict=row.patient_conflict))
    entries += [
        Entry("study:return", label, _actor_of(fresh, uid), study=uid) for uid, label in sorted(back.items())
    ]
    deliveries.owe_many(tx, owed, now)
    audit.append(tx, box.audit_key, entries, now)


class _TakenBackError(Exception):
    """Nothing went wrong: what was recorded must not stay."""


def _rehearse(box: Box, arrivals: Sequence[Awaiting]) -> None:
    """Do for `arrivals` all that is done for a clinic's, take their rows back, and leave a note for who has sent them.

    They never are set aside, whatever hinders them: the note says it. Raises what is to be waited for, as `accept` does.
    """
    _adopt(box, arrivals)
    cause = ""
    now = datetime.now(UTC)
    try:
        with box.catalog.transaction() as tx:
            _record(tx, box, [(each, 0) for each in arrivals], now)
            wanted = {each.received.stored.object_id for each in arrivals}
            if {each for each, _, _ in instances.objects_named(tx, sorted(wanted))} != wanted:
                raise Corrupt("what was recorded is not in the catalog")
            raise _TakenBackError
    except _TakenBackError:
        pass
    except (Transient, OperatorNeeded, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, a clinic's image could not be recorded either
        cause = error.message if isinstance(error, ApplianceError) else type(error).__name__
        log.error("an image of the box's own could not be recorded: %s", type(error).__name__)
    _name_parts(box, arrivals)
    with box.catalog.transaction() as tx:
        rehearsal.note(tx, [each.received for each in arrivals], cause, now)


_ALREADY_RECORDED = -1


def _version(box: Box, arrival: Awaiting) -> int | None:
    """The version to record `arrival` as, whose UID is known: 0 if its identity is new, else one after the last that is kept:
    a restore may have brought a later one alone, whose number is taken.

    None if one of those has the same data set; `_ALREADY_RECORDED` if it is this very object (accepted before a
    crash), or was identical then and its ciphertext is gone since.
    """
    header, object_id = arrival.received.header, arrival.received.stored.object_id
    with box.catalog.reading() as reading:
        kept = instances.versions(reading, header)
    if any(each.object_id == object_id for each in kept):
        return _ALREADY_RECORDED
    if not kept:
        return 0
    try:
        new = arrival.open(box)
    except Unknown:
        return _ALREADY_RECORDED
    with new:
        return None if any(_holds(box, each, new) for each in kept) else kept[-1].version + 1


def _holds(box: Box, kept: InstanceRow, new: SealedReader) -> bool:
    """Whether `kept` is the data set in `new`; not if it cannot be read: missing, damaged, or on a bad sector.

    One whose file is away, in an archive, is compared by the digest that was written down then. An old copy that is damaged must neither keep a good one out nor hold up the others.
    """
    try:
        with box.open_object(kept.object_id, kept.key_id) as old:
            return same_data_set(old, new)
    except OutOfResources:
        raise
    except Unknown:
        new.verify()
        return is_data_set_of(box, kept.object_id, new)
    except (Corrupt, Transient):
        new.verify()  # raises if it is the new one that cannot be read
        return False


def _without_repeats(arrivals: Sequence[Awaiting]) -> Iterator[list[Awaiting]]:
    """`arrivals` in as few batches as keep each identity once per batch, in order."""
    rest = list(arrivals)
    while rest:
        seen: set[tuple[str, str, str]] = set()
        batch: list[Awaiting] = []
        later: list[Awaiting] = []
        for each in rest:
            header = each.received.header
            identity = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
            (later if identity in seen else batch).append(each)
            seen.add(identity)
        yield batch
        rest = later


def _actor_of(fresh: Sequence[tuple[Awaiting, int]], study_instance_uid: Uid) -> str:
    """Who sent the first of these that belongs to a study."""
    first = next(
        each.received for each, _ in fresh if each.received.header.study_instance_uid == study_instance_uid
    )
    return f"{first.origin.intake}:{first.origin.name}"


def _entries(received: Received, version: int, *, conflict: bool) -> Iterator[Entry]:
    subject = f"instance:{received.stored.object_id}"
    actor = f"{received.origin.intake}:{received.origin.name}"
    entry = Entry(
        "instance:receive",
        subject,
        actor,
        study=received.header.study_instance_uid,
        address=received.origin.address,
    )
    yield entry
    if version:
        yield replace(entry, action="instance:duplicate", details={"version": version})
    if conflict:
        yield replace(entry, action="instance:patient_conflict")
