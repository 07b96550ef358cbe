"""Backups, drills and the reading of everything, begun by hand; the root key; the ransomware guard; the disaster recovery plan.

What takes minutes is begun and goes on when it is answered (202): `progress` says how far it is. Rejected: an answer at the
end, which no proxy and few programs wait for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from appliance.backup import disaster_plan, inventory
from appliance.backup.inventory import Held, Proof
from appliance.catalog import Reading, freezes
from appliance.catalog.freezes import Why
from appliance.identity.permissions import Permission
from appliance.lifecycle import freezing, rotation
from appliance.web import forms, keeping
from appliance.web.api.operation import operation
from appliance.web.api.other_side import of_the_other_side
from appliance.web.api.shape import Shape
from appliance.web.api.work import Work, begin, work_of
from appliance.web.console import console, now
from appliance.web.plan_words import worded
from appliance.wizard import by_hand

Reason = Annotated[
    str, Shape("In a few words, for those who read it later.", example="a disk has died", longest=200)
]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup in an archive; of a damaged one only its name and moment are known. `tried_utc` is of its latest drill."""

    name: str
    made_utc: datetime
    software: str | None
    studies: int | None
    instances: int | None
    bytes: Annotated[int | None, Shape("Of the index, the keys and the settings; images are kept beside it.")]
    proof: Proof
    tried_utc: str | None


@dataclass(frozen=True, slots=True)
class Backups:
    """What one archive holds, the newest first; `older` were not read."""

    items: tuple[Backup, ...]
    older: int


@dataclass(frozen=True, slots=True)
class WorkOnArchive:
    """The latest backup and the latest drill that were begun by hand at one archive."""

    backup: Work
    drill: Work


@dataclass(frozen=True, slots=True)
class RootKey:
    """The key that the recovery key opens, and above all others of the box."""

    number: Annotated[
        int, Shape("Of the root keys that this box has had; 1 is that of its first start.", least=1)
    ]
    study_keys: int
    under_earlier: Annotated[int, Shape("Of the study keys; they follow by themselves.", least=0)]
    index_under: Annotated[int, Shape("The number of the root key under which the index lies.", least=1)]
    work: Annotated[Work, Shape("How far the latest is that was begun by hand.")]


@dataclass(frozen=True, slots=True)
class NewRootKey:
    """The recovery key, typed from the paper."""

    recovery_key: Annotated[str, Shape("Nine groups of five.", longest=200, is_secret=True)]


@dataclass(frozen=True, slots=True)
class Freeze:
    """A time in which nothing that is kept was overwritten or removed; `released_utc` is null while it lasts."""

    why: Why
    reason: str
    begun_by: str
    begun_utc: datetime
    released_by: str
    released_utc: datetime | None
    release_reason: str


@dataclass(frozen=True, slots=True)
class Guard:
    """Whether the guard holds, and its latest freezes, the latest first."""

    holds: bool
    freezes: tuple[Freeze, ...]


@dataclass(frozen=True, slots=True)
class GuardAct:
    """Why the guard is to hold, or what its cause was."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class PlanQuery:
    """In which language."""

    language: Literal["en", "fr", "es", "zh"] = "en"


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One line of the plan."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class PlanSection:
    """A part of the plan."""

    title: str
    lines: tuple[PlanLine, ...]


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """The plan in words; `verdict` says whether the box could be brought back today."""

    title: str
    made: str
    verdict: str
    sections: tuple[PlanSection, ...]


@operation(
    "GET", "/backups/{destination_id}", Permission.VIEW_DESTINATIONS, gives=Backups, refuses=(422, 507)
)
def list_backups(destination_id: int) -> Backups:
    """List the backups that an archive holds, read from the archive now. It waits for the other side.

    422 if that can't be read now; the detail says why.
    """
    box = console().box
    with box.catalog.reading() as conn:
        place = by_hand.archive(conn, destination_id)
    with of_the_other_side():
        found = inventory.take(box, place)
    return Backups(tuple(_backup(each) for each in found.held), found.older)


@operation("GET", "/backups/{destination_id}/progress", Permission.VIEW_DESTINATIONS, gives=WorkOnArchive)
def get_backup_progress(destination_id: int) -> WorkOnArchive:
    """Get how far the backup and the drill are that were begun by hand at an archive."""
    return _work_on(destination_id)


@operation(
    "POST",
    "/backups/{destination_id}/make",
    Permission.MANAGE_BACKUPS,
    gives=WorkOnArchive,
    status=202,
    refuses=(409,),
)
def make_backup(destination_id: int) -> WorkOnArchive:
    """Begin a backup into an archive; 409 while one is being made there."""
    box, actor = console().box, forms.actor()
    begin("backup-by-hand", lambda: by_hand.begin_backup(box, destination_id, actor))
    return _work_on(destination_id)


@operation(
    "POST",
    "/backups/{destination_id}/drill",
    Permission.MANAGE_BACKUPS,
    gives=WorkOnArchive,
    status=202,
    refuses=(409,),
)
def drill_backup(destination_id: int) -> WorkOnArchive:
    """Begin to try out the newest backup of an archive; 409 while one is being tried. Nothing on this box is touched."""
    box, actor = console().box, forms.actor()
    begin("drill-by-hand", lambda: by_hand.begin_drill(box, destination_id, actor))
    return _work_on(destination_id)


@operation("GET", "/verification", Permission.VIEW_DESTINATIONS, gives=Work)
def get_verification() -> Work:
    """Get how far the reading of everything is that was begun by hand."""
    return _verification()


@operation("POST", "/verification", Permission.MANAGE_BACKUPS, gives=Work, status=202, refuses=(409,))
def verify_everything() -> Work:
    """Begin to read every byte of everything that is kept; 409 while that is under way."""
    box, actor = console().box, forms.actor()
    begin("verify-by-hand", lambda: by_hand.begin_verification(box, actor))
    return _verification()


@operation("GET", "/root-key", Permission.MANAGE_KEYS, gives=RootKey)
def get_root_key() -> RootKey:
    """Get which root key the box has, and how much lies under it. No key is told; no token may ask."""
    return _root_key()


@operation(
    "POST",
    "/root-key",
    Permission.MANAGE_KEYS,
    gives=RootKey,
    status=202,
    takes=NewRootKey,
    refuses=(409, 422),
    is_careful=True,
)
def replace_root_key(body: NewRootKey) -> RootKey:
    """Begin to replace the root key with the recovery key from the paper; 409 while that is under way.

    Everybody goes on working. Images are not encrypted again; study keys and index are moved under the new root key.
    """
    box, entry = console().box, console().entry("key:rotate-root", "root key", forms.actor())
    begin("new-root-key", lambda: by_hand.begin_rotation(box, body.recovery_key, entry))
    return _root_key()


@operation("GET", "/guard", Permission.VIEW_HEALTH, gives=Guard)
def get_guard() -> Guard:
    """Get whether the ransomware guard holds, since when and why."""
    with console().box.catalog.reading() as conn:
        return _guard(conn)


@operation(
    "POST",
    "/guard/freeze",
    Permission.MANAGE_BACKUPS,
    gives=Guard,
    takes=GuardAct,
    refuses=(422,),
    is_careful=True,
)
def freeze_box(body: GuardAct) -> Guard:
    """Let nothing be overwritten or removed from now on, here and in the archives."""
    with console().box.catalog.transaction() as tx:
        freezing.freeze(tx, keeping.act(), reason=body.reason)
        return _guard(tx)


@operation(
    "POST",
    "/guard/release",
    Permission.MANAGE_BACKUPS,
    gives=Guard,
    takes=GuardAct,
    refuses=(422,),
    is_careful=True,
)
def release_guard(body: GuardAct) -> Guard:
    """Let everything go on, once the cause is known."""
    with console().box.catalog.transaction() as tx:
        freezing.release(tx, keeping.act(), reason=body.reason)
        return _guard(tx)


@operation("GET", "/plan", Permission.READ_PLAN, gives=RecoveryPlan, asks=PlanQuery)
def get_plan(query: PlanQuery) -> RecoveryPlan:
    """Get the disaster recovery plan, made from how the box is now. No secret, nothing of patients."""
    box, actor = console().box, forms.actor()
    paper = worded(disaster_plan.gather(box, actor, now()), console().languages.words(query.language))
    with box.catalog.transaction() as tx:
        console().record(tx, "plan:print", "plan", actor, {"language": query.language})
    return RecoveryPlan(
        paper.title,
        paper.made,
        paper.verdict,
        tuple(
            PlanSection(each.title, tuple(PlanLine(line.label, line.text) for line in each.lines))
            for each in paper.sections
        ),
    )


OPERATIONS = (
    list_backups,
    get_backup_progress,
    make_backup,
    drill_backup,
    get_verification,
    verify_everything,
    get_root_key,
    replace_root_key,
    get_guard,
    freeze_box,
    release_guard,
    get_plan,
)


def _work_on(destination_id: int) -> WorkOnArchive:
    box = console().box
    with box.catalog.reading() as conn:
        by_hand.archive(conn, destination_id)
        return WorkOnArchive(
            work_of(by_hand.latest(box, conn, by_hand.BACKUP, destination_id)),
            work_of(by_hand.latest(box, conn, by_hand.DRILL, destination_id)),
        )


def _verification() -> Work:
    box = console().box
    with box.catalog.reading() as conn:
        return work_of(by_hand.latest(box, conn, by_hand.VERIFY))


def _root_key() -> RootKey:
    box = console().box
    with box.catalog.reading() as conn:
        standing = rotation.standing(box, conn)
        work = work_of(by_hand.latest(box, conn, by_hand.ROTATION))
    return RootKey(
        standing.generation, standing.study_keys, standing.earlier, standing.catalog_generation, work
    )


def _backup(held: Held) -> Backup:
    index = held.index
    return Backup(
        name=held.name,
        made_utc=held.made_utc,
        software=None if index is None else index.software,
        studies=None if index is None else index.contents.studies,
        instances=None if index is None else index.contents.instances,
        bytes=None if index is None else index.size_bytes,
        proof=held.proof,
        tried_utc=None if held.drilled is None else held.drilled.at_utc,
    )


def _guard(conn: Reading) -> Guard:
    return Guard(
        freezes.in_force(conn) is not None,
        tuple(
            Freeze(
                each.why,
                each.reason,
                each.begun_by,
                each.begun_utc,
                each.released_by,
                each.released_utc,
                each.release_reason,
            )
            for each in freezes.latest(conn)
        ),
    )
