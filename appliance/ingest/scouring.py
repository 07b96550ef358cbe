"""Up to which destroyed study each intake log holds nothing of any; and writing over the logs of processes that don't run.

A settled record stays in its log until the file's next turn (`appliance.store.intake_log`): a patient's name and number, and the study's key
as it is wrapped, under a key of the box that no destruction ends. So a destruction is not done on this box before each log was
written over since. The process that has a log open does that itself (`appliance.ingest.reception`): when it starts, when it is quiet, or
in a pause when it never is.

An image whose sealing had begun before its study was destroyed brings that study's key into a log that may have been written over by then:
all of them owe it anew (`begin_anew`), and a certificate waits again.

A log that nobody has open is written over here, if it holds no record of its present epoch: such a one may be acknowledged and not settled,
and the process that owns the log accepts it when it starts. Rejected: to take a process that doesn't run for one that holds nothing.

A large image carries its record itself, in its part, until it is settled: while one lies under a destroyed key, the logs are not done
either. It is settled when its process starts, or set aside; what is set aside is looked at by `appliance.lifecycle.purging`.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime
from typing import Final

from appliance.box import Box
from appliance.catalog import Reading, Transaction, settings, study_keys
from appliance.errors import ApplianceError
from appliance.ingest.awaiting import recorded_parts
from appliance.store.intake_log import IntakeLog

log = logging.getLogger(__name__)

SCOURED: Final = "intake.scoured."
"""Before the name of a worker, in `appliance.catalog.settings`: up to which destroyed study (row id) its log holds nothing of any."""

LOGS: Final = "destruction.intake-logs"
"""Up to which destroyed study no intake log on this disk holds anything of any (`appliance.lifecycle.purging`)."""

_LOG_NAME: Final = re.compile(r"(.+)-[ab]\.log")


def scoured(reading: Reading, worker: str) -> int:
    """Up to which destroyed study the log of `worker` holds nothing of any; 0 if it was never written over."""
    return int(settings.get(reading, SCOURED + worker, 0))


def note_scoured(tx: Transaction, worker: str, last: int, now: datetime) -> None:
    """Note that the log of `worker` was written over when `last` was the study destroyed last."""
    settings.put(tx, SCOURED + worker, max(last, scoured(tx, worker)), now)


def begin_anew(tx: Transaction, box: Box) -> None:
    """Let every log owe it again: one of them holds the key of a destroyed study."""
    settings.remove(tx, LOGS)
    for worker in _workers(box):
        settings.remove(tx, SCOURED + worker)


def scour_idle(box: Box, last: int, now: datetime) -> bool:
    """Write over the logs that nobody has open; whether neither a log on this disk nor a part that waits as a record of one does holds
    anything of the studies destroyed up to `last`."""
    with box.catalog.reading() as reading:
        waiting = [each for each in _workers(box) if scoured(reading, each) < last]
    done = [each for each in waiting if _scour(box, each)]
    if done:
        with box.catalog.transaction() as tx:
            for each in done:
                note_scoured(tx, each, last, now)
    return done == waiting and not _is_part_left(box)


def _is_part_left(box: Box) -> bool:
    """Whether a part that was acknowledged and is not settled lies under a destroyed key: its record has that key, and a name."""
    keys = [
        each.received.stored.key_id
        for folder in sorted(box.objects.parts.iterdir())
        for each in recorded_parts(box, folder.name)
    ]
    with box.catalog.reading() as reading:
        return bool(study_keys.destroyed_among(reading, keys))


def _workers(box: Box) -> list[str]:
    """Who has a log on this disk."""
    found = (_LOG_NAME.fullmatch(each.name) for each in box.intake_folder.glob("*.log"))
    return sorted({match[1] for match in found if match})


def _scour(box: Box, worker: str) -> bool:
    """Write over the log of `worker`; False if a process has it open, or it holds what may not be settled yet, or the disk fails."""
    try:
        opened = IntakeLog(
            box.intake_folder, worker, box.intake_key, box.config.store.log_bytes, disk=box.disk
        )
    except ApplianceError as error:
        log.info("the intake log of %s is written over later: %s", worker, error.message)
        return False
    try:
        for file in opened.files:
            for _ in file.records():
                return False
        return opened.scour()
    except ApplianceError as error:
        log.warning("the intake log of %s is written over later: %s", worker, error.message)
        return False
    finally:
        opened.close()
