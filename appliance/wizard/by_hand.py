"""What a person may want now and takes its time: a backup, a restore drill, the whole store read, a new root key, images that leave
this disk, come back to it or lie elsewhere in the cloud. Begun here, in the background, as runs of one part that a page can watch.

Each archive has runs of its own, so one that can't be reached keeps no other waiting. What came of them is where the
scheduled ones leave it, in the audit too; a run says only how far it is, and why it failed. One that was cut by a restart
shows as failed and begins anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from appliance import audit, settings
from appliance.backup import drill, making
from appliance.box import Box
from appliance.catalog import Reading
from appliance.errors import Corrupt, NotAskedFor, OperatorNeeded, Resting, Transient, Unknown
from appliance.lifecycle import eviction, returning, rotation, tagging, verification
from appliance.lifecycle.verification import Depth
from appliance.model import DestinationSettings
from appliance.wizard import runs
from appliance.wizard.runs import Detail, Part, Run, Tell

BACKUP: Final = "backup"
DRILL: Final = "drill"
VERIFY: Final = "verify"
ROTATION: Final = "rotation"
MOVE: Final = "tiers-move"
EVICT: Final = "tiers-evict"
RETURN: Final = "tiers-return"

LEFT: Final = "left"
LEFT_HINT: Final = "left_hint"
"""In the detail of what is done: what is still to come all the same, and what to do about it."""

Begun = Callable[[], Run]
"""Does the work that is on record as running already; in any thread."""


def archive(reading: Reading, destination_id: int) -> DestinationSettings:
    """The archive of that row id. Raises `Unknown`."""
    for each in making.archives(reading):
        if each.id == destination_id:
            return each
    raise Unknown("there is no such archive", hint="go back to the backups")


def begin_backup(box: Box, destination_id: int, actor: str) -> Begun:
    """A backup into one archive. Raises `Unknown`, and `Transient` when one is being made there already."""
    with box.catalog.reading() as reading:
        place = archive(reading, destination_id)
        keep = timedelta(days=int(settings.get(reading, "backup.keep_days")))

    def act(tell: Tell) -> Detail:
        made = making.back_up(box, place, datetime.now(UTC), actor=actor, keep=keep, tell=_in_percents(tell))
        return {"instances": made.contents.instances, "bytes": made.size_bytes}

    return _begin(box, f"{BACKUP}.{destination_id}", act)


def begin_drill(box: Box, destination_id: int, actor: str) -> Begun:
    """A restore drill of one archive; the certificate says what was found. Raises like `begin_backup`."""
    with box.catalog.reading() as reading:
        place = archive(reading, destination_id)

    def act(tell: Tell) -> Detail:
        tell({})
        found = drill.drill(box, place, datetime.now(UTC), actor=actor)
        if not found.passed:
            raise Corrupt("a backup is not as it should be", hint="make a new backup, and try that one out")
        return {"certificate": found.id}

    return _begin(box, f"{DRILL}.{destination_id}", act)


def begin_verification(box: Box, actor: str) -> Begun:
    """Every byte of every object. Raises `Transient` when that is under way already."""

    def act(tell: Tell) -> Detail:
        found = verification.verify(box, Depth.EVERY_BYTE, actor=actor, tell=_in_percents(tell))
        if found.findings:
            raise Corrupt(
                f"{len(found.findings)} of {found.checked} images are damaged or missing",
                hint="keep the disk as it is, and call support",
            )
        return {"checked": found.checked, "away": found.away}

    return _begin(box, VERIFY, act)


def begin_rotation(box: Box, recovery_key: str, entry: audit.Entry) -> Begun:
    """A new root key with the recovery key that somebody typed: drawn on return; what lies under the earlier one is left to do.

    `entry` says in the audit who does it. Raises as `rotation.rotate`, and `Transient` while one is under way; then no root key
    is drawn. What is cut is gone on with by the jobs (`rotation.finish`).
    """

    def act(tell: Tell) -> Detail:
        moved = rotation.finish(box, datetime.now(UTC), tell=_in_percents(tell))
        return {"generation": moved.generation, "study_keys": moved.study_keys}

    begun = runs.begin(box, ROTATION, secrets.token_hex(8), {"act": act})
    try:
        rotation.rotate(box, recovery_key, entry, datetime.now(UTC))
    except BaseException:
        begun.held.let_go()
        runs.forget(box, ROTATION)  # nothing was begun: a paper that is mistyped has failed of nothing
        raise
    return begun.finish


def begin_move(box: Box, actor: str) -> Begun:
    """Every bucket told how far away each study may lie. Raises `Refused` while nothing may be moved, and `Transient` as the others."""
    with box.catalog.reading() as reading:
        eviction.refuse_obstacle(reading, _now(), "nothing moves in the cloud now")

    def act(tell: Tell) -> Detail:
        done = tagging.run_through(
            box,
            _now,
            tagging.Around(actor=actor, asks_again=True),
            lambda each: tell({"studies": each.studies}),
        )
        for trouble in done.troubles.values():
            raise (OperatorNeeded if trouble.at else Transient)(trouble.message, hint=trouble.hint)
        return {"studies": done.studies}

    return _begin(box, MOVE, act)


def begin_eviction(box: Box, actor: str) -> Begun:
    """Images that leave this disk, as the clinic has chosen. Raises `Refused` if it has chosen none, or while nothing may leave, and
    `Transient` as the others.
    """
    with box.catalog.reading() as reading:
        eviction.refuse_idle(reading, _now())

    def act(tell: Tell) -> Detail:
        tell({})
        done = eviction.evict(box, _now, eviction.Around(actor=actor))
        return {"studies": done.studies, "instances": done.images, "bytes": done.bytes, "kept": done.kept}

    return _begin(box, EVICT, act)


def begin_return(box: Box, actor: str) -> Begun:
    """Everything that is away brought back. What lies in deep archive is asked for, and is what is left.

    Raises `Refused` where this disk has no room for it above its low water mark, and `Transient` as the others.
    """
    with box.catalog.reading() as reading:
        returning.refuse_without_room(box, reading)

    def act(tell: Tell) -> Detail:
        tell({})
        try:
            came = returning.bring_back(box, _now(), actor=actor)
        except NotAskedFor:
            raise
        except Resting as error:
            return {LEFT: error.message, LEFT_HINT: error.hint}
        return {"instances": came}

    return _begin(box, RETURN, act)


def latest(box: Box, reading: Reading, name: str, destination_id: int | None = None) -> Part | None:
    """How far the latest of its kind is, at an archive or of the box; None when there was none."""
    run = runs.latest(box, reading, name if destination_id is None else f"{name}.{destination_id}")
    return None if run is None else run.parts[0]


def _begin(box: Box, name: str, act: runs.Act) -> Begun:
    return runs.begin(box, name, secrets.token_hex(8), {"act": act}).finish


def _now() -> datetime:
    return datetime.now(UTC)


def _in_percents(tell: Tell) -> Callable[[int, int], None]:
    """Each telling is a transaction: a hundred are enough."""

    def told(done: int, total: int) -> None:
        tell({"percent": 100 * done // max(total, 1)})  # `tell` writes only what has changed

    return told
