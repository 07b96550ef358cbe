"""When each archive was last read to its end: its study manifests, and on disks and file servers every copy.

A pass over everything (`appliance.lifecycle.scrub`) goes past what an archive that is away does not give: it is no finding, and nobody waits
for a disk in a drawer. But it was not read either, and a disk that is away whenever its turn comes would never be, unsaid. So what is passed over is
kept for each archive, tried again in the slices after, and once a pass ends with nothing left of it the archive was read through. One that was paused
meanwhile, that came midway, or of which too much was passed over, was not: it is read on from where it was lost, and was read through once the next
pass has come to that place. So a disk that comes back waits for as long as one pass takes, wherever the pass is at that moment, and not for up to two.
`health` says when an archive was last read through long ago.

Rejected: to let each archive go its own way from where it was lost, faster than the pass. Of two disks that take turns each week both would be read through;
but it reads a disk twice at once, needs the gaps in its way to be kept, and each of the two can be left in place for a pass.

Counted from when an archive is first seen here; one that goes to another place counts anew. A moment that is still to come, by a clock that was
ahead, counts as now; that the clock stands in the past for a slice, until a time server is reached, says nothing (`known_clock.reckoned`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from appliance.catalog import Reading, Transaction, destinations, known_clock, settings
from appliance.lifecycle.buckets import ASKED
from appliance.lifecycle.copies import READ
from appliance.model import DestinationId
from appliance.replication.place import place_of

ARCHIVES: Final = "scrub.archives"
"""By row id, what is kept of each archive, in `appliance.catalog.settings`."""

MOST: Final = 2000
"""So many copies, and so many manifests, that were passed over are tried again; with more, the archive is lost there."""


UNKNOWN: Final = -1


@dataclass(frozen=True, slots=True)
class Through:
    """An archive at `place`, last read to its end at `since_utc`, or known since then. `part_of` is the pass, by its beginning, in which it
    was lost; `after_row` and `after_study` are how far that one was then, `UNKNOWN` where earlier software has lost it. `manifests` (row ids of studies)
    and `copies` (objects) were passed over since and are tried again."""

    place: str
    since_utc: str
    part_of: str = ""
    after_row: int = UNKNOWN
    after_study: int = UNKNOWN
    manifests: tuple[int, ...] = ()
    copies: tuple[str, ...] = ()


class ReadThrough:
    """For one slice of the pass that began at `begun_utc`; it `begins` with this slice, or is under way."""

    def __init__(self, reading: Reading, begun_utc: str, now: datetime, *, begins: bool) -> None:
        self._begun_utc = begun_utc
        self._before = _kept(reading)
        self._known: dict[DestinationId, Through] = {}
        self._lost: set[DestinationId] = set()
        today = known_clock.reckoned(reading, now).isoformat()
        for each in destinations.destinations(reading):
            if each.kind not in (*READ, *ASKED):
                continue
            where, known = place_of(each.options), self._before.get(each.id)
            if known is None or known.place != where:
                known = Through(where, today)
                if not begins:
                    self._lost.add(each.id)
            known = replace(known, since_utc=min(known.since_utc, today))
            self._known[each.id] = self._lose(each.id, known) if each.paused else known

    def manifests_due(self, most: int) -> list[tuple[DestinationId, int]]:
        """The manifests that were passed over, `most` of each archive: those that wait longest first."""
        return [(number, study) for number, each in self._known.items() for study in each.manifests[:most]]

    def copies_due(self, most: int) -> list[tuple[DestinationId, str]]:
        """The copies that were passed over, in the same way."""
        return [(number, name) for number, each in self._known.items() for name in each.copies[:most]]

    def manifests(
        self, missed: Iterable[tuple[DestinationId, int]], met: Collection[tuple[DestinationId, int]]
    ) -> None:
        """Take note of the manifests that were passed over in this slice, which come last then and in this order, and of those that were not."""
        for number, each in self._known.items():
            last = [study for place, study in missed if place == number]
            seen = {*last, *(study for place, study in met if place == number)}
            left = (*(study for study in each.manifests if study not in seen), *last)
            self._known[number] = self._cut(number, replace(each, manifests=left))

    def copies(
        self,
        missed: Mapping[DestinationId, Collection[str]],
        met: Collection[tuple[DestinationId, str]],
        *,
        gone: Collection[str] = (),
        failing: Collection[DestinationId] = (),
    ) -> None:
        """Take note of the copies that were passed over in this slice, of those that were read, of objects that are `gone` everywhere, and of
        disks that are there and `failing`: what is left of those is not spent on trying again."""
        for number, each in self._known.items():
            if number in failing:
                self._known[number] = self._lose(number, each)
                continue
            left = dict.fromkeys((*each.copies, *sorted(missed.get(number, ()))))
            stay = tuple(name for name in left if (number, name) not in met and name not in gone)
            self._known[number] = self._cut(number, replace(each, copies=stay))

    def note(self, tx: Transaction, row: int, study: int, now: datetime) -> None:
        """Write it down, where the pass has come to that row of an image and that of a study."""
        today = known_clock.reckoned(tx, now).isoformat()
        for number, each in self._known.items():
            if number in self._lost:
                at = replace(each, part_of=self._begun_utc, after_row=row, after_study=study)
                self._known[number] = at
            elif self._has_come_round(each, row, study):
                self._known[number] = Through(each.place, today)
        if self._known != self._before:
            _keep(tx, self._known, now)

    def _has_come_round(self, each: Through, row: int, study: int) -> bool:
        """Whether the pass after the one in which an archive was lost has come to that place, with nothing passed over since."""
        if each.part_of in ("", self._begun_utc) or UNKNOWN in (each.after_row, each.after_study):
            return False
        return row >= each.after_row and study >= each.after_study and not (each.manifests or each.copies)

    def _cut(self, number: DestinationId, each: Through) -> Through:
        return self._lose(number, each) if max(len(each.manifests), len(each.copies)) > MOST else each

    def _lose(self, number: DestinationId, each: Through) -> Through:
        """An archive that can't be read through from where it was: it is read on from where this slice ends."""
        self._lost.add(number)
        return replace(each, manifests=(), copies=())


def finish(tx: Transaction, begun_utc: str, now: datetime) -> None:
    """The pass that began at `begun_utc` is at its end: whatever of an archive was passed over in it, its next one reads. One that was lost in it
    goes on until the next has come to that place."""
    known, today = {}, known_clock.reckoned(tx, now).isoformat()
    for number, each in _kept(tx).items():
        if each.part_of == begun_utc:
            known[number] = each
            continue
        is_through = not each.manifests and not each.copies
        known[number] = Through(each.place, today if is_through else each.since_utc)
    _keep(tx, known, now)


def _kept(reading: Reading) -> dict[DestinationId, Through]:
    told = settings.get(reading, ARCHIVES)
    return {DestinationId(int(number)): _read(each) for number, each in (told or {}).items()}


def _read(told: Mapping[str, Any]) -> Through:
    known = {name: value for name, value in told.items() if name in Through.__dataclass_fields__}
    lists = {name: tuple(known.get(name, ())) for name in ("manifests", "copies")}
    return Through(**{**known, **lists})


def _keep(tx: Transaction, known: Mapping[DestinationId, Through], now: datetime) -> None:
    settings.put(tx, ARCHIVES, {str(number): asdict(each) for number, each in known.items()}, now)
