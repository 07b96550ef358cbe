"""What a person may want now and takes its time: a backup, a restore drill, the whole store read, a new root key. Begun here, in
the background, as runs of one part that a page can watch.

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
from appliance.errors import Corrupt, Unknown
from appliance.lifecycle import rotation, verification
from appliance.lifecycle.verification import Depth
from appliance.model import DestinationSettings
from appliance.wizard import runs
from appliance.wizard.runs import Detail, Part, Run, Tell

BACKUP: Final = "backup"
DRILL: Final = "drill"
VERIFY: Final = "verify"
ROTATION: Final = "rotation"

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


def latest(box: Box, reading: Reading, name: str, destination_id: int | None = None) -> Part | None:
    """How far the latest of its kind is, at an archive or of the box; None when there was none."""
    run = runs.latest(box, reading, name if destination_id is None else f"{name}.{destination_id}")
    return None if run is None else run.parts[0]


def _begin(box: Box, name: str, act: runs.Act) -> Begun:
    return runs.begin(box, name, secrets.token_hex(8), {"act": act}).finish


def _in_percents(tell: Tell) -> Callable[[int, int], None]:
    """Each telling is a transaction: a hundred are enough."""

    def told(done: int, total: int) -> None:
        tell({"percent": 100 * done // max(total, 1)})  # `tell` writes only what has changed

    return told
