"""When backups are made, and images brought home: the duties that the jobs process runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from appliance import settings
from appliance.backup import asking, drill, homecoming, making, other_archives, unread
from appliance.box import Box
from appliance.errors import ApplianceError
from appliance.lifecycle import retention
from appliance.model import ObjectId

log = logging.getLogger(__name__)


Staying = Callable[[Box, datetime, Callable[[], bool]], Callable[[ObjectId], int]]


class Schedule:
    """A backup into every archive that is on, when the last that succeeded is old enough; and images brought home.

    Judged against what is recorded, not against when this process began: a restart makes no backup, and misses none.
    """

    def __init__(self, staying: Staying = lambda _box, _now, _keep_going: lambda _object: 0) -> None:
        """`staying` says for a run of the homecoming which images stay away (`appliance.lifecycle.staying`, which stands above)."""
        self._staying = staying
        self._stopping = threading.Event()

    def interrupt(self) -> None:
        """Come to an end soon: what is left is done at another time."""
        self._stopping.set()

    def make(self, box: Box, now: datetime) -> None:
        """Make what is due. One archive that fails keeps no other from its backup; the first failure is told.

        All bear `now`; the clock runs on from there, since the first may take hours.
        """
        clock = retention.running_from(now)
        with box.catalog.reading() as conn:
            places = [each for each in making.archives(conn) if not each.paused]
            every = timedelta(hours=int(settings.get(conn, "backup.every_hours")))
            keep = timedelta(days=int(settings.get(conn, "backup.keep_days")))
            due = [each for each in places if making.is_due(conn, each.name, now, every)]
        failure: ApplianceError | None = None
        for place in due:
            try:
                made = making.back_up(
                    box,
                    place,
                    now,
                    actor=making.BY_ITSELF,
                    keep=keep,
                    keep_going=lambda: not self._stopping.is_set(),
                    clock=clock,
                )
            except ApplianceError as error:
                failure = failure or error
            else:
                log.info("backup %s is in %s: bytes=%d", made.name, place.name, made.size_bytes)
        if failure is not None:
            raise failure

    def drill(self, box: Box, now: datetime) -> None:
        """Once a week, try out the newest backup of every archive that is on. One that fails keeps no other from it."""
        with box.catalog.reading() as conn:
            places = [each for each in making.archives(conn) if not each.paused]
            due = [each for each in places if drill.is_due(conn, box, each.name, now)]
        failure: ApplianceError | None = None
        for place in due:
            try:
                found = drill.drill(
                    box, place, now, actor="jobs", keep_going=lambda: not self._stopping.is_set()
                )
            except ApplianceError as error:
                failure = failure or error
            else:
                log.info("restore drill of %s: %s", place.name, "passed" if found.passed else "failed")
        if failure is not None:
            raise failure

    def bring_home(self, box: Box, now: datetime) -> None:
        """After a restore, bring back the next images, as far as this disk has room for them.

        What goes wrong while archives are asked for what nobody knows of, also a defect met at one document of theirs, keeps what is known from no
        homecoming: the first of it is told at the end.
        """

        def keep_going() -> bool:
            return not self._stopping.is_set()

        failure: Exception | None = None
        for search in (asking.ask, unread.try_again, other_archives.look_through):
            try:
                search(box, now, keep_going=keep_going)
            except Exception as error:  # noqa: BLE001 - raised below, once the images that are known have had their turn
                failure = failure or error
        stay = self._staying(box, now, keep_going)
        if came := homecoming.bringing_home(box, now, keep_going=keep_going, stay=stay):
            log.info("images brought back from the archive: count=%d", came)
        if failure is not None:
            raise failure
