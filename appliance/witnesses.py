"""The audit's anchors away from this box: its state, sealed, in every archive, under a name that is never used again.

The anchor in the data folder goes back with the folder when somebody puts the whole box back to last week; these do
not. Before one is written, the newest one in the archive is fetched, and the log must still contain the row that it
names. If it doesn't, nothing is written, and the finding stands in `appliance.health` until a person has looked.

Object ``anchors/<moment>-<count>.sealed``: as the file ``audit.anchor`` (`appliance.anchor`), the moment as
``20261122T014900.123456Z`` so that names sort as time does. A bucket is asked to refuse a name that exists, and ends old ones by
its own rule. On a disk, a file server and a share the box keeps the newest `KEPT_HERE`, by moment and by rows: what it may write there it
could remove as well, so those hold good against whoever puts the data folder back, and not against whoever has all of the box, as
long as the disk is in it. There the log is compared with two: the newest, and that of most rows since the last restore. A clock that was
ahead has named the first of them for years to come.

A restore is a roll-back that somebody meant: rows after the backup are gone, and the audit says so itself with
``backup:restore``. An anchor older than such a row is history and not a finding.

Chose a full look at one row over verifying the whole chain again, because the chain was verified from end to end by
the check of the hour (`appliance.anchor.verify`), and what matters here is only that it is *that* chain.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from appliance import audit
from appliance.anchor import sealed, unsealed
from appliance.audit import Entry
from appliance.box import Box
from appliance.catalog import Reading, audit_search, destinations, freezes, settings
from appliance.catalog.audit_search import Wanted
from appliance.catalog.columns import utc_moment
from appliance.errors import ApplianceError, Corrupt, Refused, Transient, Unknown
from appliance.model import DestinationSettings
from appliance.replication.destinations import build
from appliance.replication.destinations.archive import Clearable
from appliance.replication.destinations.s3 import S3Destination
from appliance.replication.place import place_of

log = logging.getLogger(__name__)

KEPT = "audit-anchors"
"""Key of `appliance.catalog.settings`: for each destination when and of how many rows its newest anchor is."""
PREFIX = "anchors/"
EVERY_SECONDS = 3000
"""Less than an hour, with room for a slow line: no more than an hour of the audit has only this box as its witness."""
ACTOR = "jobs"
KEPT_HERE = 48
"""Anchors where the box itself removes what is old: two days of them."""


class Shelf(Protocol):
    """What an anchor is kept on."""

    def put_new(self, key: str, data: bytes) -> None:
        """Keep `data` under a name that isn't taken."""

    def newest(self, prefix: str, after: str) -> str:
        """The last of the names that begin with `prefix`, of those after `after`; empty if there is none."""

    def document(self, key: str) -> bytes:
        """What is kept under a name."""


@dataclass(frozen=True, slots=True)
class Files:
    """A `Shelf` on a disk, a file server or a share."""

    archive: Clearable

    def put_new(self, key: str, data: bytes) -> None:
        """See `Shelf`."""
        if key in self._names():
            raise Refused("an anchor of that name is there", hint="nothing was written over; try again")
        self.archive.put_document(key, data)

    def rotate(self) -> None:
        """Remove all but the newest `KEPT_HERE`, by their moment and by how many rows they name: a clock may have been ahead, and a restore goes back."""
        names = self._names()
        kept = {*names[-KEPT_HERE:], *sorted(names, key=_rows_of)[-KEPT_HERE:]}
        for each in names:
            if each not in kept:
                self.archive.remove(each)

    def newest(self, prefix: str, after: str) -> str:
        """See `Shelf`."""
        return max((each for each in self._names(prefix) if each > after), default="")

    def most(self, since: datetime | None) -> str:
        """The one that names most rows, of those that were written after `since`; empty if there is none."""
        after = "" if since is None else f"{PREFIX}{_moment(since)}"
        return max((each for each in self._names() if each > after), key=_rows_of, default="")

    def document(self, key: str) -> bytes:
        """See `Shelf`."""
        return self.archive.document(key)

    def _names(self, prefix: str = PREFIX) -> list[str]:
        return sorted(each.key for each in self.archive.documents(prefix))


def _moment(at_utc: datetime) -> str:
    return f"{at_utc.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"


def _rows_of(key: str) -> int:
    """How many rows an anchor names, by its key; none for a file that somebody has put there."""
    told = key.removesuffix(".sealed").rpartition("-")[2]
    return int(told) if told.isdecimal() else 0


def shelf_of(place: DestinationSettings, box: Box) -> Shelf:
    """Where the anchors of an archive are. Raises as its destination."""
    if place.kind == "s3":
        return S3Destination.from_settings(place)
    archive = build(place, box)
    assert isinstance(archive, Clearable), place.kind
    return Files(archive)


@dataclass(frozen=True, slots=True)
class Anchored:
    """What is known of the anchors at one destination. `trouble` is why the last attempt failed, if it did, and `where` which place it was."""

    name: str
    at_utc: datetime | None
    count: int
    key: str = ""
    rolled_back: bool = False
    offline: bool = False
    trouble: str = ""
    where: str = ""

    def as_value(self) -> dict[str, Any]:
        """As it is kept in the catalog."""
        return {
            "at_utc": self.at_utc.isoformat() if self.at_utc else "",
            "count": self.count,
            "key": self.key,
            "rolled_back": self.rolled_back,
            "offline": self.offline,
            "trouble": self.trouble,
            "where": self.where,
        }


def kept(conn: Reading) -> dict[str, Anchored]:
    """What is known of the anchors, by destination."""
    found = settings.get(conn, KEPT, {})
    values = found if isinstance(found, dict) else {}
    return {
        name: Anchored(
            name=name,
            at_utc=datetime.fromisoformat(each["at_utc"]) if each.get("at_utc") else None,
            count=int(each.get("count", 0)),
            key=str(each.get("key", "")),
            rolled_back=bool(each.get("rolled_back")),
            offline=bool(each.get("offline")),
            trouble=str(each.get("trouble", "")),
            where=str(each.get("where", "")),
        )
        for name, each in values.items()
    }


def write(box: Box, now: datetime) -> None:
    """Compare with the newest anchor in every archive, then write one there. What fails is kept for the judgement.

    Archives that are paused get theirs too: an anchor holds no image.
    """
    with box.catalog.reading() as conn:
        before = kept(conn)
        places = [each for each in destinations.destinations(conn) if each.takes == "ciphertext"]
    outcomes = {each.name: _anchor(box, each, before.get(each.name), now) for each in places}
    if not places and not before:
        return
    entries = [
        Entry(
            "audit:anchor",
            f"destination:{each.name}",
            ACTOR,
            {"to": each.name, "rows": each.count},
            outcome=audit.Outcome.FAILED if each.rolled_back else audit.Outcome.DONE,
        )
        for each in outcomes.values()
        if each.rolled_back or not each.trouble
    ]
    with box.catalog.transaction() as tx:
        settings.put(tx, KEPT, {name: each.as_value() for name, each in outcomes.items()}, now)
        audit.append(tx, box.audit_key, entries, now)


def _anchor(
    box: Box,
    place: DestinationSettings,
    before: Anchored | None,
    now: datetime,
) -> Anchored:
    where = place_of(place.options)
    # Of another place than before, such as a new disk under the old name, nothing is known.
    last = before if before and before.where in ("", where) else Anchored(place.name, None, 0)
    last = replace(last, where=where, offline=False, trouble="")
    try:
        shelf = shelf_of(place, box)
        with box.catalog.reading() as conn:
            restored_utc = _restored(conn)
        for found in _to_compare(shelf, last.key, restored_utc):
            anchored_utc, witness = unsealed(box, found)
            if restored_utc is not None and restored_utc > anchored_utc:
                continue
            with box.catalog.reading() as conn:
                if not audit.holds(conn, witness):
                    log.error("the audit was rolled back: %s holds an anchor that it lacks", place.name)
                    words = f"row {witness.count} was witnessed and is not there"
                    return replace(last, rolled_back=True, trouble=words)
        with box.catalog.reading() as conn:
            witness = audit.witness(conn)
            is_frozen = freezes.in_force(conn) is not None
        key = f"{PREFIX}{_moment(now)}-{witness.count:012d}.sealed"
        shelf.put_new(key, sealed(box, witness, now))
        if isinstance(shelf, Files) and not is_frozen:
            shelf.rotate()
        return Anchored(place.name, now, witness.count, key, where=where)
    except Corrupt as error:
        return replace(last, rolled_back=True, trouble=error.message)
    except ApplianceError as error:
        log.warning("no anchor of the audit could be written to %s: %s", place.name, error)
        offline = isinstance(error, Transient)
        return replace(last, offline=offline, trouble=error.message)


def _to_compare(shelf: Shelf, known: str, restored_utc: datetime | None) -> list[bytes]:
    """The anchors that the log must hold; none where nothing is kept any more, not even the `known` one: where all was erased, one begins anew."""
    names = {shelf.newest(PREFIX, known) or known}
    if isinstance(shelf, Files):
        names.add(shelf.most(restored_utc))
    found = []
    for name in sorted(names - {""}):
        try:
            found.append(shelf.document(name))
        except Unknown:
            log.warning("the anchors of the audit that were written are gone")
    return found


def _restored(conn: Reading) -> datetime | None:
    """When the box was restored last, by the log itself; None if it never was."""
    rows = audit_search.find(conn, Wanted(actions=("backup:restore",), outcome="done"), limit=1)
    try:
        return utc_moment(rows[0].at_utc) if rows else None
    except (TypeError, ValueError):
        return None
