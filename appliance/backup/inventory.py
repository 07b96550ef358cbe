"""Which backups an archive holds, as the archive itself says, and whether each was ever tried out.

Chose to ask the archive over keeping a list of what was laid there: a list would still name what a disk has lost, what a bucket's
own rule has removed, and what somebody else has done away with.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Final

from appliance.backup import drill, snapshot, standing
from appliance.backup.drill import Certificate
from appliance.backup.fetching import ages_of, snapshot_key
from appliance.backup.making import archive_at
from appliance.backup.snapshot import Index
from appliance.box import Box
from appliance.errors import Corrupt, Unknown
from appliance.model import DestinationId, DestinationSettings
from appliance.replication.destinations import Archive

MOST: Final = 60
"""So many are shown at once: a daily backup that is kept for 35 days, and some made by hand."""

MOST_KEPT: Final = 400
MOST_BYTES: Final = 16 << 10
"""Of the documents that are kept in memory, as they are sealed: how many, and how large one is at most."""

_Which = tuple[DestinationId, str, datetime]


class Proof(StrEnum):
    """What is known of a backup."""

    PASSED = "passed"  # its latest drill brought it back
    FAILED = "failed"  # its latest drill did not
    UNTRIED = "untried"
    DAMAGED = "damaged"  # its index is not what was written


@dataclass(frozen=True, slots=True)
class Held:
    """A backup in an archive. `index` is None for a damaged one, `drilled` its latest drill."""

    name: str
    made_utc: datetime
    index: Index | None
    drilled: Certificate | None

    @property
    def proof(self) -> Proof:
        """What is known of it."""
        if self.index is None:
            return Proof.DAMAGED
        if self.drilled is None:
            return Proof.UNTRIED
        return Proof.PASSED if self.drilled.passed else Proof.FAILED


@dataclass(frozen=True, slots=True)
class Inventory:
    """The newest backups of an archive, the newest first, and how many older ones there are."""

    held: tuple[Held, ...]
    older: int


class _Read:
    """Sealed indexes that were read, and the keys of what is marked as destroyed: the latest few, by archive, key and the moment at which
    they were written there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Which, bytes] = OrderedDict()

    def document(self, archive: Archive, which: _Which) -> bytes:
        """As `Archive.document`, from memory if it was read before. What is too large to be kept is read each time."""
        with self._lock:
            if (known := self._kept.get(which)) is not None:
                self._kept.move_to_end(which)
                return known
        found = archive.document(which[1])
        if len(found) <= MOST_BYTES:
            with self._lock:
                self._kept[which] = found
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
        return found


_READ: Final = _Read()


def take(box: Box, place: DestinationSettings, *, most: int = MOST, now: datetime | None = None) -> Inventory:
    """Read what `place` holds, in the order in which a restore would try. Raises what the archive raises; a backup that is damaged is
    in the list. `now` is what the clock says, unless another moment is given.

    Every index counts, however many there are: which are the newest, no name says. One that was read before, and was not written
    since, is not read again: a bucket takes a request for each.
    """
    archive = archive_at(box, place)
    written = {each.key: each.written_utc for each in archive.documents(snapshot.PREFIX)}

    def read(key: str) -> bytes:
        return _READ.document(archive, (place.id, key, written[key]))

    marked = [(name, partial(read, snapshot.key_key(name))) for name in standing.to_ask(written)]
    names = standing.judge(written, marked).names
    with box.catalog.reading() as reading:
        drills = [each for each in drill.certificates(reading, box) if each.archive == place.name]
    found: list[Held] = []
    for name in names:
        moment = snapshot.moment_of(name)
        assert moment is not None, "names_in gives no others"
        try:
            index = snapshot.decode(
                name, box.root.unseal(read(snapshot.index_key(name)), snapshot.context(name))
            )
        except Corrupt:
            index = None
        except Unknown:  # a rotation has removed it meanwhile
            continue
        drilled = next((each for each in drills if each.snapshot == name), None)
        found.append(Held(name, moment if index is None else index.made_utc, index, drilled))
    found = in_order(found, now or datetime.now(UTC))
    return Inventory(tuple(found[:most]), max(len(found) - most, 0))


def key_opens(box: Box, archive: Archive, name: str) -> bool:
    """Whether the key of the backup `name` opens, without which nobody restores it. Raises what the archive raises."""
    try:
        snapshot_key(archive, box.root, name)
    except (Corrupt, Unknown):
        return False
    return True


def in_order(found: Sequence[Held], now: datetime) -> list[Held]:
    """Backups of one box, in whichever archives they lie, the newest first, whatever the clock was that has named them. Pure."""
    ages = ages_of({each.name: each.index for each in found if each.index is not None})
    by_name = {each.name: each for each in found}
    return [by_name[name] for name in snapshot.in_order([*by_name], ages, now)]
