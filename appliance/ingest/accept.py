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
from enum import Enum, auto

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
from appliance.ingest.elsewhere import is_data_set_of, is_lost
from appliance.ingest.resealing import under_living_keys
from appliance.model import InstanceId, Owed, Received, Uid
from appliance.routing import deliveries_for
from appliance.store.objects import SealedReader

log = logging.getLogger(__name__)

_TRIES = 8


class _Known(Enum):
    """What is to be done with an arrival of which nothing new is to be recorded."""

    IDENTICAL = auto()  # the same data set is kept: this file goes
    RECORDED = (
        auto()
    )  # this very object was accepted before a crash, or was identical then and its ciphertext is gone since


@dataclass(frozen=True, slots=True)
class _Fresh:
    """An arrival to record, as which version of its identity; one that `stands_in` for those before it, since all of them are lost."""

    arrival: Awaiting
    version: int = 0
    stands_in: bool = False

    @property
    def is_another(self) -> bool:
        """Whether it is kept beside other bytes of its identity."""
        return self.version > 0 and not self.stands_in


class _Kept(Enum):
    """What a version that is kept is to one that arrives."""

    SAME = auto()
    ANOTHER = auto()  # or can't be compared now
    LOST = auto()  # not here or damaged, and in no archive: it never can be compared


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
    bytes: both are kept and flagged (dicom-interop rule 4). One that is sent again because what the box had is lost, whole in no
    archive either, stands in for that, and is owed to whom the first was. A study that was destroyed and is sent again is a new study: what
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
    entries = [entry for each in arrivals for entry in _entries(each)]
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
    fresh: list[_Fresh] = []
    identical: list[Awaiting] = []
    with box.catalog.reading() as reading:
        known = instances.known_among(reading, [each.received.header.sop_instance_uid for each in arrivals])
    for arrival in arrivals:
        found = _found(box, arrival) if arrival.received.header.sop_instance_uid in known else _Fresh(arrival)
        if isinstance(found, _Fresh):
            fresh.append(found)
        elif found is _Known.IDENTICAL:
            identical.append(arrival)
    _adopt(box, [each.arrival for each in fresh])
    if fresh:
        with box.catalog.transaction() as tx:
            _record(tx, box, fresh, datetime.now(UTC))
    _name_parts(box, arrivals)  # their rows are there
    for arrival in identical:
        box.objects.remove(arrival.received.stored.object_id)
    for arrival in arrivals:
        if arrival.instead_of is not None:
            box.objects.remove(arrival.instead_of)
    return Accepted(len(fresh), sum(each.is_another for each in fresh), len(identical))


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


def _record(tx: Transaction, box: Box, fresh: Sequence[_Fresh], now: datetime) -> None:
    """All that is written of `fresh`, instances and their versions: rows, what they are owed, the audit. Raises `Conflict`."""
    arrivals = [each.arrival.received for each in fresh]
    keys = [each.stored.key_id for each in arrivals]
    if study_keys.destroyed_among(tx, keys):
        raise Conflict("a study was destroyed while more of it was on the way")
    back = tombstones.returning(tx, {each.header.study_instance_uid for each in arrivals})
    standing = rules.rules(tx)
    again = {each.arrival.received.stored.object_id for each in fresh if each.stands_in}
    recorded = instances.record_many(tx, [(each.arrival.received, each.version) for each in fresh], again)
    owed: list[tuple[InstanceId, tuple[Owed, ...]]] = []
    entries: list[Entry] = []
    for each, row in zip(fresh, recorded, strict=True):
        received = each.arrival.received
        to_whom = deliveries_for(received.header, received.origin, standing, duplicate=each.is_another)
        owed.append((row.instance_id, to_whom))
        entries.extend(_entries(received, each, conflict=row.patient_conflict))
    entries += [
        Entry("study:return", label, _actor_of(arrivals, uid), study=uid)
        for uid, label in sorted(back.items())
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
            _record(tx, box, [_Fresh(each) for each in arrivals], now)
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


def _found(box: Box, arrival: Awaiting) -> _Fresh | _Known:
    """What to record of `arrival`, whose UID is known: version 0 if its identity is new, else one after the last that is kept:
    a restore may have brought a later one alone, whose number is taken."""
    header, object_id = arrival.received.header, arrival.received.stored.object_id
    with box.catalog.reading() as reading:
        kept = instances.versions(reading, header)
    if any(each.object_id == object_id for each in kept):
        return _Known.RECORDED
    if not kept:
        return _Fresh(arrival)
    try:
        new = arrival.open(box)
    except Unknown:
        return _Known.RECORDED
    with new:
        compared = []
        for each in kept:
            compared.append(_compared(box, each, new))
            if compared[-1] is _Kept.SAME:
                return _Known.IDENTICAL
    stands_in = all(each is _Kept.LOST for each in compared)
    return _Fresh(arrival, kept[-1].version + 1, stands_in)


def _compared(box: Box, kept: InstanceRow, new: SealedReader) -> _Kept:
    """What `kept` is to the data set in `new`, which is read to its end: what can't be read must keep no good one out.

    One whose file is away, in an archive, is compared by the digest that was written down then. An old copy that is damaged must neither keep a good
    one out nor hold up the others. One on a bad sector may be read again, and is not given up.
    """
    try:
        with box.open_object(kept.object_id, kept.key_id) as old:
            return _Kept.SAME if same_data_set(old, new) else _Kept.ANOTHER
    except OutOfResources:
        raise
    except (Unknown, Corrupt) as error:
        new.verify()  # raises if it is the new one that cannot be read
        if isinstance(error, Unknown) and is_data_set_of(box, kept.object_id, new):
            return _Kept.SAME
        return _Kept.LOST if is_lost(box, kept.object_id) else _Kept.ANOTHER
    except Transient:
        new.verify()
        return _Kept.ANOTHER


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


def _actor_of(arrivals: Sequence[Received], study_instance_uid: Uid) -> str:
    """Who sent the first of these that belongs to a study."""
    first = next(each for each in arrivals if each.header.study_instance_uid == study_instance_uid)
    return f"{first.origin.intake}:{first.origin.name}"


def _entries(received: Received, fresh: _Fresh | None = None, *, conflict: bool = False) -> Iterator[Entry]:
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
    if fresh is not None and fresh.version:
        action = "instance:duplicate" if fresh.is_another else "instance:again"
        yield replace(entry, action=action, details={"version": fresh.version})
    if conflict:
        yield replace(entry, action="instance:patient_conflict")
