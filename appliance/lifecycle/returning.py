"""Bringing images back to this disk: at once, because a person said so, or as soon as it can be, because they are wanted here.

What is wanted stands in the catalog. A job brings it: what an archive has at hand in its next run, what lies in deep archive
hours later, when it has come up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from appliance import audit
from appliance.box import Box
from appliance.catalog import Reading, Transaction, evictions, instances, studies
from appliance.catalog.evictions import Away
from appliance.errors import ApplianceError, Corrupt, OutOfResources, Refused, Resting, Unknown
from appliance.lifecycle.eviction import ACTOR, AT_ONCE, alone, choices
from appliance.replication import recall

log = logging.getLogger(__name__)


def room(box: Box, reading: Reading) -> int:
    """How many bytes may come home at once, above the low water mark of this disk (``tiers.low_percent``) and its reserve.

    Below that mark the next eviction would send them away again, or find that too much was used of late and the disk fills up.
    """
    space = box.guard.space()
    mark = choices(reading).low_percent * space.total_bytes // 100
    return max(0, space.free_bytes - max(mark, box.guard.reserve_bytes))


def refuse_without_room(box: Box, reading: Reading) -> None:
    """Raise `Refused` where this disk has no `room` for everything that is away."""
    away, may = evictions.tally(reading).away_bytes, room(box, reading)
    if away > may:
        percent = choices(reading).low_percent
        raise Refused(
            f"this disk has no room for everything: {_gigabytes(away)} GB would come and {_gigabytes(may)} GB may,"
            f" since {percent} % of it stay free",
            hint="bring back the studies that are needed, one by one; or choose a lower tiers.low_percent",
        )


def _gigabytes(count: int) -> str:
    return f"{count / 10**9:.3g}"


def bring_back(
    box: Box,
    now: datetime,
    study: int | None = None,
    *,
    actor: str = ACTOR,
    keep_going: Callable[[], bool] = lambda: True,
) -> int:
    """Recall every image of a study that is away, or with None of all studies; how many came.

    Whoever brings a study back wants it here: that counts as a use. One that no archive has whole, or that lies in deep archive, is
    passed over, and told at the end. Raises `Taken` while another process moves images, and what `recall.recall` raises; what came stays.
    """
    came = 0
    lost: list[ApplianceError] = []
    deep: list[Resting] = []
    recorded, after = 0, (0, 0)
    with alone(box):
        while True:
            with box.catalog.reading() as reading:
                waiting = evictions.away_images(reading, study, after, AT_ONCE)
            if not waiting:
                break
            for each in waiting:
                if not keep_going():
                    return came
                if each.study != recorded:
                    _record_recall(box, each.study, now, actor)
                    recorded = each.study
                after = (each.study, each.instance)
                try:
                    _bring_image(box, each)
                    came += 1
                except (Unknown, Corrupt) as error:
                    if _is_recorded(box, each):  # else its study was destroyed meanwhile
                        lost.append(error)
                except Resting as error:
                    deep.append(error)
    if deep and not lost:
        raise deep[0]
    if lost:
        log.error("images that are whole in no archive any more: %d; brought back: %d", len(lost), came)
        raise lost[0]
    return came


def want(tx: Transaction, study: int, now: datetime) -> None:
    """Have a study (row id) here, as soon as it can be: the next run of `bring_wanted` begins with it.

    The seam for whoever knows today what is opened tomorrow, such as a list of appointments. That it came is a use of it, in the audit:
    it stays for as long as what was opened (`tiers.unused_days`), or the next run would send it away before anybody has looked.
    """
    evictions.want_study(tx, study, now)


def bring_wanted(box: Box, keep_going: Callable[[], bool] = lambda: True) -> int:
    """Recall what is wanted here; how many images came. What lies in deep archive is asked for, and waited for till another run.

    Raises `Taken` while another process moves images, and what the catalog and this disk raise; an archive that can't be
    reached is asked another time.
    """
    came, after = 0, (0, 0)
    recorded = 0
    with alone(box):
        while keep_going():
            with box.catalog.reading() as reading:
                waiting = evictions.wanted(reading, after, AT_ONCE)
            if not waiting:
                break
            for each in waiting:
                if not keep_going():
                    return came
                after = (each.study, each.instance)
                try:
                    _bring_image(box, each)
                    came += 1
                    if each.study != recorded:
                        _record_recall(box, each.study, datetime.now(UTC), ACTOR)
                        recorded = each.study
                except OutOfResources:
                    raise
                except Resting:
                    log.debug("an image is still on its way from deep archive")
                except ApplianceError as error:
                    log.warning("a wanted image did not come: %s", error.message)
    if came:
        log.info("images that were wanted are back: %d", came)
    return came


def _is_recorded(box: Box, image: Away) -> bool:
    with box.catalog.reading() as reading:
        return instances.row_of(reading, image.object_id) is not None


def _bring_image(box: Box, image: Away) -> None:
    with box.catalog.transaction() as tx:
        if recall.is_here(box, image.object_id):
            evictions.here(tx, [image.object_id])
            return
    recall.recall(box, image.object_id, image.key_id, image.sealed_bytes)


def _record_recall(box: Box, study: int, now: datetime, actor: str) -> None:
    with box.catalog.transaction() as tx:
        found = studies.study_by_id(tx, study)
        uid = found.study_instance_uid if found else ""
        details = {"instances": evictions.away_of_study(tx, study)}
        audit.append(
            tx, box.audit_key, [audit.Entry("study:recall", f"study:{study}", actor, details, study=uid)], now
        )
