"""When each archive was last read to its end: its study manifests, and on disks and file servers every copy.

A pass over everything (`appliance.lifecycle.scrub`) goes past what an archive that is away does not give: it is no finding, and nobody waits
for a disk in a drawer. But it was not read either, and a disk that is away whenever its turn comes would never be, unsaid. So what is passed over is
kept for each archive, tried again in the slices after, and once a pass ends with nothing left of it the archive was read through. One that was paused
meanwhile, that came midway, or of which too much was passed over, was not. `health` says when that is long ago.

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
"""So many copies, and so many manifests, that were passed over are tried again in the same pass; with more, the archive waits for the next."""


@dataclass(frozen=True, slots=True)
class Through:
    """An archive at `place`, last read to its end at `since_utc`, or known since then. `part_of` is the pass, by its beginning, in which it can't be
    any more; `manifests` (row ids of studies) and `copies` (objects) were passed over in it and are tried again."""

    place: str
    since_utc: str
    part_of: str = ""
    manifests: tuple[int, ...] = ()
    copies: tuple[str, ...] = ()


class ReadThrough:
    """For one slice of the pass that began at `begun_utc`; it `begins` with this slice, or is under way."""

    def __init__(self, reading: Reading, begun_utc: str, now: datetime, *, begins: bool) -> None:
        self._begun_utc = begun_utc
        self._before = _kept(reading)
        self._known: dict[DestinationId, Through] = {}
        today = known_clock.reckoned(reading, now).isoformat()
        for each in destinations.destinations(reading):
            if each.kind not in (*READ, *ASKED):
                continue
            where, known = place_of(each.options), self._before.get(each.id)
            if known is None or known.place != where:
                known = Through(where, today, "" if begins else begun_utc)
            if each.paused:
                known = replace(known, part_of=begun_utc, manifests=(), copies=())
            self._known[each.id] = replace(known, since_utc=min(known.since_utc, today))

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
            self._known[number] = self._cut(replace(each, manifests=left))

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
                each = replace(each, part_of=self._begun_utc)
            left = dict.fromkeys((*each.copies, *sorted(missed.get(number, ()))))
            stay = tuple(name for name in left if (number, name) not in met and name not in gone)
            self._known[number] = self._cut(replace(each, copies=stay))

    def note(self, tx: Transaction, now: datetime) -> None:
        """Write it down."""
        if self._known != self._before:
            _keep(tx, self._known, now)

    def _cut(self, each: Through) -> Through:
        if each.part_of == self._begun_utc or max(len(each.manifests), len(each.copies)) > MOST:
            return replace(each, part_of=self._begun_utc, manifests=(), copies=())
        return each


def finish(tx: Transaction, begun_utc: str, now: datetime) -> None:
    """The pass that began at `begun_utc` is at its end: whatever of an archive was passed over in it, its next one reads."""
    known, today = {}, known_clock.reckoned(tx, now).isoformat()
    for number, each in _kept(tx).items():
        is_through = each.part_of != begun_utc and not each.manifests and not each.copies
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
