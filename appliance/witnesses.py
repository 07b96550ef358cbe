"""The audit's anchors away from this box: its state, sealed, in every bucket, under a name that is never used again.

The anchor in the data folder goes back with the folder when somebody puts the whole box back to last week; these do
not. Before one is written, the newest one in the bucket is fetched, and the log must still contain the row that it
names. If it doesn't, nothing is written, and the finding stands in `appliance.health` until a person has looked.

Object ``anchors/<moment>-<count>.sealed``: as the file ``audit.anchor`` (`appliance.anchor`), the moment as
``20261122T014900.123456Z`` so that names sort as time does. The store is asked to refuse a name that exists.

A restore is a roll-back that somebody meant: rows after the backup are gone, and the audit says so itself with
``backup:restore``. An anchor older than such a row is history and not a finding.

Chose a full look at one row over verifying the whole chain again, because the chain was verified from end to end by
the check of the hour (`appliance.anchor.verify`), and what matters here is only that it is *that* chain.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from appliance import audit
from appliance.anchor import sealed, unsealed
from appliance.audit import Entry, Witness
from appliance.box import Box
from appliance.catalog import Reading, audit_search, destinations, settings
from appliance.catalog.audit_search import Wanted
from appliance.catalog.columns import utc_moment
from appliance.errors import ApplianceError, Corrupt, Transient
from appliance.model import DestinationSettings
from appliance.replication.destinations.s3 import S3Destination

log = logging.getLogger(__name__)

KEPT = "audit-anchors"
"""Key of `appliance.catalog.settings`: for each destination when and of how many rows its newest anchor is."""
PREFIX = "anchors/"
EVERY_SECONDS = 3000
"""Less than an hour, with room for a slow line: no more than an hour of the audit has only this box as its witness."""
ACTOR = "jobs"


class Shelf(Protocol):
    """What an anchor is kept on."""

    def put_new(self, key: str, data: bytes) -> None:
        """Keep `data` under a name that isn't taken."""

    def newest(self, prefix: str, after: str) -> str:
        """The last of the names that begin with `prefix`, of those after `after`; empty if there is none."""

    def document(self, key: str) -> bytes:
        """What is kept under a name."""


@dataclass(frozen=True, slots=True)
class Anchored:
    """What is known of the anchors at one destination. `trouble` is why the last attempt failed, if it did."""

    name: str
    at_utc: datetime | None
    count: int
    key: str = ""
    rolled_back: bool = False
    offline: bool = False
    trouble: str = ""

    def as_value(self) -> dict[str, Any]:
        """As it is kept in the catalog."""
        return {
            "at_utc": self.at_utc.isoformat() if self.at_utc else "",
            "count": self.count,
            "key": self.key,
            "rolled_back": self.rolled_back,
            "offline": self.offline,
            "trouble": self.trouble,
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
        )
        for name, each in values.items()
    }


def write(box: Box, now: datetime, shelf_of: Callable[[DestinationSettings], Shelf] | None = None) -> None:
    """Compare with the newest anchor in every bucket, then write one there. What fails is kept for the judgement.

    Buckets that are paused get theirs too: an anchor holds no image.
    """
    with box.catalog.reading() as conn:
        before = kept(conn)
        buckets = [each for each in destinations.destinations(conn) if each.kind == "s3"]
    outcomes = {
        each.name: _anchor(box, each, before.get(each.name), now, shelf_of or S3Destination.from_settings)
        for each in buckets
    }
    if not buckets and not before:
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
    bucket: DestinationSettings,
    before: Anchored | None,
    now: datetime,
    shelf_of: Callable[[DestinationSettings], Shelf],
) -> Anchored:
    last = before or Anchored(bucket.name, None, 0)
    try:
        shelf = shelf_of(bucket)
        newest = shelf.newest(PREFIX, last.key)
        if newest or last.key:
            anchored_utc, witness = unsealed(box, shelf.document(newest or last.key))
            with box.catalog.reading() as conn:
                if not holds(conn, witness) and not _restored_since(conn, anchored_utc):
                    log.error("the audit was rolled back: %s holds an anchor that it lacks", bucket.name)
                    words = f"row {witness.count} was witnessed and is not there"
                    return Anchored(bucket.name, last.at_utc, last.count, last.key, True, trouble=words)
        with box.catalog.reading() as conn:
            witness = audit.witness(conn)
        key = f"{PREFIX}{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{witness.count:012d}.sealed"
        shelf.put_new(key, sealed(box, witness, now))
        return Anchored(bucket.name, now, witness.count, key)
    except Corrupt as error:
        return Anchored(bucket.name, last.at_utc, last.count, last.key, True, trouble=error.message)
    except ApplianceError as error:
        log.warning("no anchor of the audit could be written to %s: %s", bucket.name, error)
        offline = isinstance(error, Transient)
        return Anchored(
            bucket.name, last.at_utc, last.count, last.key, offline=offline, trouble=error.message
        )


def holds(conn: Reading, witness: Witness) -> bool:
    """Whether the log still contains the row that `witness` names."""
    if witness.count == 0:
        return True
    row = audit.row(conn, witness.count)
    return row is not None and row.chain == witness.chain


def _restored_since(conn: Reading, moment: datetime) -> bool:
    """Whether the log itself says that the box was restored after `moment`."""
    rows = audit_search.find(conn, Wanted(actions=("backup:restore",), outcome="done"), limit=1)
    try:
        return bool(rows) and utc_moment(rows[0].at_utc) > moment
    except (TypeError, ValueError):
        return False
