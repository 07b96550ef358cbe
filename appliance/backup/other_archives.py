"""After a restore: what only another archive knows is read there, and comes.

A box comes back from one archive, and knows what that one knows. What was sent to another alone (the disk lay in a drawer, the line was
down for a week) is named by no backup and no manifest that was read: nobody would miss it. So every other archive is looked through once, as soon as it is there:
each manifest, and each that was put aside, is read, and what this box does not know by it comes and is recorded (`late_manifests`). How far that is stands in the
catalog's settings, and health says of which archive it was not done. One that is added later is looked through too, which costs nothing where it is empty.

What an archive knows as destroyed is destroyed here then; for a day nothing of before goes where it would stay, unless all were read (`replication.embargo`).

A backup that was made before that is done does not know of it either. So a restore from it reads all manifests, and not only
those that were written since (`knows`).

Chose to read all manifests over comparing their names with those of the studies that are known: a study that is known may have images there that are not.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.backup import asking, homecoming, unread
from appliance.backup.late_manifests import Trial, put_aside
from appliance.backup.rebuilding import sealed_for
from appliance.box import Box
from appliance.catalog import Reading, Transaction, deliveries, destinations, settings
from appliance.errors import Corrupt, OperatorNeeded, OutOfResources, Refused, Transient
from appliance.model import DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import KEPT, MANIFESTS
from appliance.replication.ownership import refuse_another_box
from appliance.replication.place import place_of
from appliance.store.keys import whole_recovery_slot

log = logging.getLogger(__name__)

OTHERS: Final = settings.OTHER_ARCHIVES
"""In `appliance.catalog.settings`: ``of`` is when the restore was, and ``places`` by row id of an archive how far it is (`_Standing`)."""

MOST: Final = 500
"""So many manifests are read at once: those who wait for images of the first archive wait half a minute for it, over a long line."""

AGAIN: Final = timedelta(days=1)
"""How long after it was tried a manifest is tried again that did not open."""

REST: Final = timedelta(hours=1)
"""How long an archive is left alone that was of no use: its disk has not given back several in a row, this one is full, or it is another box's."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """How far an archive was looked through: up to which manifest (``after``), or to the end; which did not open (``keys``), which name images that lie deep
    (``deep``), and how many ``more`` there are of both, of which only that is known. ``since_utc`` is since when that is owed, ``where`` the
    archive was then, ``tried_utc`` when it was of no use last. It `was_known` to the restored box from the beginning."""

    where: str
    since_utc: str
    after: str = ""
    is_through: bool = False
    keys: tuple[str, ...] = ()
    deep: tuple[str, ...] = ()
    more: int = 0
    tried_utc: str = ""
    was_known: bool = False

    @property
    def knows_all(self) -> bool:
        return self.is_through and not (self.keys or self.deep or self.more)

    def is_time(self, now: datetime) -> bool:
        """Whether there is something to read by now; a clock that was set back since keeps nothing waiting."""
        rest = AGAIN if self.is_through else REST
        return not self.knows_all and (
            not self.tried_utc or abs(now - datetime.fromisoformat(self.tried_utc)) >= rest
        )


def note(tx: Transaction, place: DestinationSettings, of: str, now: datetime) -> None:
    """The box came back from `place`, whose manifests were read (what did not open `unread` keeps); `of` that moment as `homecoming.LAST` has it."""
    owed = {
        str(each.id): _Standing(
            place_of(each.options), now.isoformat(), is_through=each.id == place.id, was_known=True
        )
        for each in _archives(tx)
    }
    settings.put(tx, OTHERS, _told(of, owed), now)


def knows(box: Box, place: DestinationSettings) -> bool:
    """Whether the box has known all that an archive tells, at some time since it came back last; one that never did has written it itself.

    Software from before this looked through no other archive and did not say which one it came from.
    """
    with box.catalog.reading() as reading:
        last = settings.get(reading, homecoming.LAST)
        if not isinstance(last, dict):
            return True
        standing = _standings(reading, last).get(str(place.id))
        is_there = standing is not None and standing.where == place_of(place.options)
        return bool(is_there and standing and standing.knows_all) and not unread.of_place(reading, place.id)


def refuse_if_needed(reading: Reading, place: DestinationSettings) -> None:
    """Keep an archive that a restored box knew from being taken off it before it was looked through, and one whose disk holds back what nobody
    else has given. Raises `Refused`.

    Not one that somebody has paused first: a disk that burnt with the box is never looked through. One that is found after all
    is looked through when it is added again.
    """
    if place.paused:
        return
    last = settings.get(reading, homecoming.LAST)
    standing = _standings(reading, last).get(str(place.id)) if isinstance(last, dict) else None
    if asking.are_kept_back(reading, place):
        raise Refused(
            "this archive holds images and does not give them back, and no other archive has given them back",
            hint="look at that disk and its cable; one that is gone for good: pause it first",
        )
    if standing is not None and standing.was_known and not standing.knows_all:
        raise Refused(
            "since the restore this archive was not looked through for images that only it knows of",
            hint="connect it and wait until that is done, then remove it; one that is gone for good: pause it first",
        )


def look_through(box: Box, now: datetime, *, keep_going: Callable[[], bool], most: int = MOST) -> int:
    """Read the next manifests of each archive that was not looked through since the last restore, and again those that did not open; how many images
    this box knows by that. Cheap once there is nothing to read.

    Raises what the catalog and this disk raise; an archive that can't be reached is asked next time.
    """
    with box.catalog.reading() as reading:
        last = settings.get(reading, homecoming.LAST)
        if not isinstance(last, dict):
            return 0
        known, places = _standings(reading, last), _archives(reading)
    came = 0
    for place in places:
        before = known.get(str(place.id))
        begun = _now_at(place, before, now)
        if begun != before:
            _keep(box, place, last["at_utc"], begun, now)
        if not place.paused and begun.is_time(now) and keep_going():
            came += _Reader(box, place, last["at_utc"], begun, now, keep_going).tries(most)
    if came:
        log.info("images that only another archive knew of: count=%d", came)
    return came


class _Reader:
    """One archive, for one run: `standing` is how far it is by then, and `images` how many came."""

    def __init__(
        self,
        box: Box,
        place: DestinationSettings,
        of: str,
        standing: _Standing,
        now: datetime,
        keep_going: Callable[[], bool],
    ) -> None:
        self._box, self._place, self._now, self._keep_going = box, place, now, keep_going
        self._of = of
        self.standing = standing
        self.images = 0

    def tries(self, most: int) -> int:
        """Read as `read` does, and keep how far the archive is then, whatever it raises; how many images came. Raises what the catalog raises."""
        begun = self.standing
        try:
            self.read(most)
        except (Corrupt, OperatorNeeded, Refused, OutOfResources) as error:
            log.warning("%s is looked through later: %s", self._place.name, error.message)
            self.standing = replace(self.standing, tried_utc=self._now.isoformat())
        except Transient as error:
            log.info("%s is looked through another time: %s", self._place.name, error.message)
        if self.standing != begun:
            _keep(self._box, self._place, self._of, self.standing, self._now)
        return self.images

    def read(self, most: int) -> None:
        """Read the next, or again those that did not open. Raises what the archive and this disk raise."""
        archive = build(self._place, self._box)
        assert isinstance(archive, Archive)
        try:
            own = whole_recovery_slot(self._box.config.data.absolute() / "keys")
        except Corrupt:
            own = b""  # this disk's own trouble, which the courier tells: what lies there opens without it
        # Who does not answer is not one where nothing lies; and what lies in another box's does not open, and is none of ours.
        refuse_another_box(archive, self._place.name, self._box.root, own)
        trial = Trial(self._box, archive, self._place, self._now, has_moved=False, keep_going=self._goes_on)
        try:
            if not self.standing.is_through:
                self._on(archive, trial, most)
            elif self.standing.more:
                self.standing = _Standing(
                    self.standing.where,
                    self.standing.since_utc,
                    was_known=self.standing.was_known,
                )  # some of which nothing is known but that: from the beginning once more
            else:
                self._again(archive, trial)
        finally:
            self.images = trial.images

    def _goes_on(self) -> bool:
        """Whether nobody has told the box to stop, or paused the archive meanwhile."""
        if not self._keep_going():
            return False
        with self._box.catalog.reading() as reading:
            return any(each.id == self._place.id and not each.paused for each in _archives(reading))

    def _on(self, archive: Archive, trial: Trial, most: int) -> None:
        """What was put aside comes last: what it was put aside for may be read before."""
        found = heapq.nsmallest(most, _after(archive, self.standing.after), key=_order)
        for key in found:
            if trial.is_to_stop or not self._goes_on():
                break
            trial.read(key)
            self._note(key, trial)
        else:
            if len(found) < most:
                self.standing = replace(self.standing, is_through=True, tried_utc=self._now.isoformat())
                self._let_go()
                log.info("%s was looked through for what this box does not know", self._place.name)
                return
        if trial.is_to_stop:
            self.standing = replace(self.standing, tried_utc=self._now.isoformat())

    def _let_go(self) -> None:
        """What was held back from a PACS because of this archive is looked at again at once."""
        with self._box.catalog.transaction() as tx:
            for each in destinations.destinations(tx):
                if each.takes != "ciphertext":
                    deliveries.wake(tx, each.id, now=self._now, jitter=lambda: 0.0)

    def _note(self, after: str, trial: Trial) -> None:
        keys, deep = (*self.standing.keys, *trial.unread), (*self.standing.deep, *trial.resting)
        trial.unread.clear()
        trial.resting.clear()
        most = unread.MOST_NOTED
        beyond = len(keys[most:]) + len(deep[most:])
        self.standing = replace(
            self.standing,
            after=after,
            keys=keys[:most],
            deep=deep[:most],
            more=self.standing.more + beyond,
            tried_utc="",
        )

    def _again(self, archive: Archive, trial: Trial) -> None:
        there = {each.key for prefix in (MANIFESTS, KEPT) for each in archive.documents(prefix)}
        known = [*self.standing.deep, *self.standing.keys]
        # One that somebody has removed since opens no more; where nothing is named at all, it is the archive that is not there.
        waiting = [each for each in known if each in there or not there]
        if len(waiting) < len(known):
            log.warning(
                "manifests that did not open are in %s no more: %d",
                self._place.name,
                len(known) - len(waiting),
            )
        aside = put_aside(archive, waiting)
        try:
            while waiting and self._goes_on() and not trial.is_to_stop:
                trial.read(waiting[0], aside.get(sealed_for(waiting[0]), ()))
                waiting.pop(0)
        finally:
            is_done = trial.is_to_stop or not waiting
            left, deep = {*waiting}, {*self.standing.deep}
            # Those that were not come to are the first of the next time.
            self.standing = replace(
                self.standing,
                keys=(*(each for each in waiting if each not in deep), *trial.unread),
                deep=(*(each for each in self.standing.deep if each in left), *trial.resting),
                tried_utc=self._now.isoformat() if is_done else self.standing.tried_utc,
            )


def _archives(reading: Reading) -> list[DestinationSettings]:
    return [each for each in destinations.destinations(reading) if each.takes == "ciphertext"]


def _now_at(place: DestinationSettings, standing: _Standing | None, now: datetime) -> _Standing:
    """How far an archive is where it is now: one that was moved since, or is new, is looked through from the beginning."""
    where = place_of(place.options)
    if standing is not None and standing.where == where:
        return standing
    return _Standing(where, now.isoformat(), was_known=standing is not None and standing.was_known)


def _after(archive: Archive, after: str) -> Iterator[str]:
    last = _order(after) if after else (False, "")
    for prefix in (MANIFESTS, KEPT):
        for document in archive.documents(prefix):
            if _order(document.key) > last:
                yield document.key


def _order(key: str) -> tuple[bool, str]:
    return key.startswith(KEPT), key


def _told(of: str, standings: Mapping[str, _Standing]) -> dict[str, Any]:
    return {"of": of, "places": {number: asdict(each) for number, each in standings.items()}}


def _standings(reading: Reading, last: Mapping[str, Any]) -> dict[str, _Standing]:
    """How far each archive is since the restore that `last` is of, by row id."""
    told = settings.get(reading, OTHERS)
    if not isinstance(told, dict) or told["of"] != last["at_utc"]:
        return {}
    return {
        number: _Standing(**{**each, "keys": tuple(each["keys"]), "deep": tuple(each["deep"])})
        for number, each in told["places"].items()
    }


def _keep(box: Box, place: DestinationSettings, of: str, standing: _Standing, now: datetime) -> None:
    with box.catalog.transaction() as tx:
        last = settings.get(tx, homecoming.LAST)
        if recall.has_moved(tx, place) or not isinstance(last, dict) or last["at_utc"] != of:
            return
        settings.put(tx, OTHERS, _told(of, {**_standings(tx, last), str(place.id): standing}), now)
