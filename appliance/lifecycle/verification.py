"""The whole store, looked at now because a person asks: every object that the catalog knows is here, and opens to what was
stored. What the upkeep does by and by is `appliance.lifecycle.scrub`; this mends nothing, it says.

An image that is in an archive and not here, because it has left this disk or comes home by and by after a restore, counts apart and is no
damage. One that should be here and is not is missing, whoever else has it.

It takes hours, and the box goes on meanwhile: what is wrong with an image is asked of the catalog once more before it is said. One that was
destroyed since with its study is no finding, and one that came back while it was looked for is looked at again. So is, at the end, what has
another file by then, since it was mended: of the others, a disk that dies is spared the second attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum, auto

from appliance import audit
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import instances
from appliance.errors import ApplianceError, Corrupt, Unknown
from appliance.lifecycle import aside, passes
from appliance.model import KeyId, ObjectId
from appliance.replication import recall
from appliance.store.envelope import plain_size

Tell = Callable[[int, int], None]
"""Told how many objects of how many were looked at."""

_Sealed = tuple[ObjectId, KeyId, int]
"""An object, its key, and its sealed size in bytes."""

_File = tuple[int, int, int]
"""A file, by what changes when another takes its place: inode, size in bytes, and time of its content in nanoseconds."""

TOLD_EVERY = 100
"""So many objects, or a hundredth of all where that is fewer: a volume of a gigabyte takes as long as many films."""


class Depth(StrEnum):
    """How far a verification looks."""

    OPENED = "opened"  # each is here, has its length, and opens with its key
    EVERY_BYTE = "every-byte"


class Elsewhere(Enum):
    """Where an object is that is not on this box, and not meant to be."""

    AWAY = auto()  # in an archive
    DESTROYED = auto()  # nowhere, with its study, since the verification began


class Kind(StrEnum):
    """What is wrong with an object."""

    MISSING = "missing"
    CORRUPT = "corrupt"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """An object that is not as it should be; `words` say why."""

    object_id: ObjectId
    kind: Kind
    words: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found. `checked` objects were looked at; `away` are in an archive, and not on this box.

    What was destroyed before it was looked at is in neither.
    """

    checked: int
    away: int
    findings: tuple[Finding, ...]


def _silent(done: int, total: int) -> None:
    del done, total


def verify(box: Box, depth: Depth, *, actor: str, tell: Tell = _silent) -> Verified:
    """Look at every object, also at those that are set aside. The outcome is in the audit; that of every byte is what `health` tells of until the next."""
    with box.catalog.reading() as reading:
        recorded = list(instances.all_objects(reading))
        under_way = passes.standing(reading, datetime.now(UTC))
    said = {*under_way.lost, *under_way.lost_before}  # of which it is told anew what they are
    whole: list[str] = []
    wrong: list[tuple[_Sealed, _File | None, Finding]] = []
    elsewhere: Counter[Elsewhere] = Counter()
    told_every = max(1, min(TOLD_EVERY, len(recorded) // 100))

    def look(sealed: _Sealed) -> None:
        file = _file(box, sealed[0])
        found_so = _looked_at(box, *sealed, depth)
        if isinstance(found_so, Elsewhere):
            elsewhere[found_so] += 1
        elif found_so is not None:
            wrong.append((sealed, file, found_so))
        elif sealed[0] in said:
            whole.append(sealed[0])

    for number, sealed in enumerate(recorded):
        if number % told_every == 0:
            tell(number, len(recorded))
        look(sealed)
    tell(len(recorded), len(recorded))
    held, damaged_aside = _looked_at_aside(box, depth)
    once_more, wrong = wrong, []
    for sealed, file, finding in once_more:
        if finding.kind is Kind.MISSING or _file(box, sealed[0]) != file:
            look(sealed)
        else:
            wrong.append((sealed, file, finding))
    findings = [finding for _, _, finding in wrong]
    looked_at = len(recorded) - elsewhere.total() + held
    found = Verified(looked_at, elsewhere[Elsewhere.AWAY], (*findings, *damaged_aside))
    moment = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        if depth is Depth.EVERY_BYTE:
            damaged = [each.object_id for each in findings]
            held_so = [each.object_id for each in damaged_aside]
            passes.verified(tx, found.checked, damaged, whole, moment, aside=held_so)
        details = {
            "checked": found.checked,
            "damaged": len(found.findings),
            "every_byte": depth is Depth.EVERY_BYTE,
        }
        entry = audit.Entry(
            "store:verify",
            "objects",
            actor,
            details,
            outcome=audit.Outcome.FAILED if found.findings else audit.Outcome.DONE,
        )
        audit.append(tx, box.audit_key, [entry], moment)
    return found


def _file(box: Box, object_id: ObjectId) -> _File | None:
    """Which file an object has now; None if none, or none that the disk tells of."""
    try:
        found = box.objects.path(object_id).stat()
    except (OSError, ApplianceError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _looked_at(
    box: Box, object_id: ObjectId, key_id: KeyId, sealed_bytes: int, depth: Depth
) -> Finding | Elsewhere | None:
    """What is wrong with an object, or why it is not here to be looked at; None if nothing is."""
    while True:
        finding = _finding(box, object_id, key_id, sealed_bytes, depth)
        if finding is None:
            return None
        with box.catalog.reading() as reading:
            if instances.row_of(reading, object_id) is None:
                return Elsewhere.DESTROYED
            is_missing = finding.kind is Kind.MISSING
            if is_missing and not homecoming.is_expected(reading, object_id):
                return Elsewhere.AWAY if recall.holders(reading, object_id) else finding
        if not (is_missing and recall.is_here(box, object_id)):
            return finding
        # It was away when it was looked for, and has come since.


def _looked_at_aside(box: Box, depth: Depth) -> tuple[int, list[Finding]]:
    """How many images are set aside, and what is wrong with them."""
    looked_at = list(aside.look_through(box, every_byte=depth is Depth.EVERY_BYTE))
    return len(looked_at), [_told(object_id, wrong) for object_id, wrong in looked_at if wrong is not None]


def _told(object_id: ObjectId, error: ApplianceError) -> Finding:
    if isinstance(error, Unknown):
        return Finding(object_id, Kind.MISSING, "it is not on this box")
    kind = Kind.CORRUPT if isinstance(error, Corrupt) else Kind.UNREADABLE
    return Finding(object_id, kind, error.message)


def _finding(box: Box, object_id: ObjectId, key_id: KeyId, sealed_bytes: int, depth: Depth) -> Finding | None:
    """What is wrong with an object; None if nothing is."""
    try:
        with box.open_object(object_id, key_id) as reader:
            if reader.size != plain_size(sealed_bytes):
                return Finding(object_id, Kind.CORRUPT, "its length is not the recorded one")
            if depth is Depth.EVERY_BYTE:
                reader.verify()
            else:
                reader.read(1)
    except ApplianceError as error:
        return _told(object_id, error)
    return None
