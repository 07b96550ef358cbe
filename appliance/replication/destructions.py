"""What one archive has not followed yet of the destructions on this box: which tombstones are due there, and which of them wait.

Two lists name them. A tombstone is *owed* to each archive that the box had when a study was destroyed, and is laid as soon as it is owed.
And every document of a key that is destroyed is *looked at*, once in each life of the box: an archive may have been away when the study was
destroyed, and the box burnt before it came back (`appliance.replication.burial`). Most documents are on both lists, and are looked at after
it was tried to lay their tombstone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final

from appliance.catalog import Reading, tombstones
from appliance.catalog.tombstones import Owed
from appliance.errors import Corrupt, OutOfResources, Resting
from appliance.replication import recall
from appliance.replication.batch import Errand
from appliance.replication.burial import Grave, NotYet, lay_tombstone, repeat_tombstone
from appliance.replication.destinations import Archive
from appliance.replication.tombstone import lives

log = logging.getLogger(__name__)

PER_TURN: Final = 32
"""So many tombstones are laid in one turn at most, and so many documents looked at."""

RESTING_SECONDS: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Unfollowed:
    """What to do in one turn: lay what is `owed`, and look at the documents `unseen`.

    `listed` are all on the list of `tombstones.unlooked`, up to its row `upto` and in this `life` of the box: also those that were
    looked at before, and those that wait.
    """

    owed: Sequence[Owed] = ()
    unseen: Sequence[str] = ()
    listed: Sequence[str] = ()
    upto: int = 0
    life: int = 0


NOTHING: Final = Unfollowed()


class Destructions:
    """The destructions that one archive is to follow. Used by one thread at a time."""

    def __init__(self, errand: Errand) -> None:
        self._box, self._settings, self._around = errand.box, errand.settings, errand.around
        self._stopping = errand.stopping
        self._waiting: dict[str, float] = {}
        self._looked: set[str] = set()

    def owed(self, conn: Reading) -> Unfollowed:
        """The tombstones to lay now: those that wait for what they spare hold up none of the others."""
        owed = tombstones.owed(conn, self._settings.id, PER_TURN + len(self._waiting) + len(self._looked))
        return Unfollowed([each for each in owed if not self._waits(each.manifest)])

    def due(self, conn: Reading) -> Unfollowed:
        """Likewise, and the documents to look at."""
        life, most = lives(conn), PER_TURN + len(self._waiting) + len(self._looked)
        upto, listed = tombstones.unlooked(conn, self._settings.id, life, most)
        unseen = [each for each in listed if each not in self._looked and not self._waits(each)]
        return Unfollowed(self.owed(conn).owed, unseen, listed, upto, life)

    def is_any(self, due: Unfollowed) -> bool:
        """Whether there is anything to do; also to write down that all was looked at."""
        return bool(due.owed or due.unseen) or self._all_looked(due)

    def follow(self, archive: Archive, due: Unfollowed, is_over: Callable[[], bool]) -> bool:
        """Destroy in the archive what was destroyed here; False where the time was over before all of it was tried.

        Raises what the archive and the catalog raise, and `Transient` while the ransomware guard holds.
        """
        now = self._around.now()
        grave = Grave(self._box, self._settings, archive, now, lambda: not self._stopping.is_set())
        for owed in due.owed:
            if is_over():
                return False
            if why := self._bury(owed.manifest, partial(lay_tombstone, grave, owed)):
                with self._box.catalog.transaction() as tx:
                    tombstones.say_why(tx, self._settings.id, owed.study, why, self._around.now())
        for name in due.unseen:
            if is_over():
                return False
            if not self._bury(name, partial(repeat_tombstone, grave, name)):
                self._looked.add(name)
        if self._all_looked(due):
            with self._box.catalog.transaction() as tx:
                if not recall.has_moved(tx, self._settings):
                    tombstones.looked(tx, self._settings.id, due.life, due.upto, self._around.now())
            self._looked.clear()
        return True

    def _bury(self, name: str, act: Callable[[], None]) -> str:
        """Lay a tombstone; why not yet, where what it spares is not in safety: that is no fault of the archive's."""
        try:
            act()
        except (NotYet, Resting, OutOfResources, Corrupt) as error:
            seconds = self._around.settle_seconds if isinstance(error, NotYet) else RESTING_SECONDS
            self._waiting[name] = monotonic() + seconds
            log.warning("%s: a destruction waits for what it spares: %s", self._settings.name, error)
            return error.message
        self._waiting.pop(name, None)
        return ""

    def _all_looked(self, due: Unfollowed) -> bool:
        return bool(due.listed) and self._looked.issuperset(due.listed)

    def _waits(self, name: str) -> bool:
        return self._waiting.get(name, 0.0) > monotonic()
