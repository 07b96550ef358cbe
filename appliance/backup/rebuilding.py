"""From study manifests back into the catalog: what came after the newest snapshot, or everything when there is none.

A manifest (`appliance.replication.manifest`) says of each instance that an archive holds all that the catalog would. What is not
known yet by its object id is recorded as if it arrived now, by the same function, with what it is owed by the rules of the
snapshot; its receipt is the archive itself. What
a manifest says of a person is what the images say: the catalog's own rules about contradictions apply again.

An archive may also hold manifests that were *kept* (`appliance.replication.documents`): a box that was restored from another
archive found there a manifest that named images it did not know, and put it aside before it wrote its own. They are read
after the others, whatever their hour: each says of images that no other document speaks of, and holds their keys.

Tombstones come first: what an archive knows as destroyed is taken out of the catalog that an older backup has brought back,
and an image under a destroyed key is never recorded.

A bucket may be read as it stood at an earlier moment (`destinations.past`), when somebody who had the box's key has written over what
lies there; `catching_up` then reads what was written since.

From a bucket or a file server many documents are asked for at once (`appliance.backup.ahead`); they are recorded one by one, in the order of
the list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from appliance import audit
from appliance.backup import ahead
from appliance.box import Box
from appliance.catalog import Transaction, deliveries, instances, manifests, rules, study_keys
from appliance.errors import Corrupt, OperatorNeeded, Unknown, Unreadable
from appliance.model import ANONYMISED, DestinationSettings, InstanceId, ObjectId
from appliance.replication import manifest, retold
from appliance.replication.destinations import Archive, Document
from appliance.replication.destinations.archive import KEPT, MANIFESTS, object_key
from appliance.replication.destinations.past import Past
from appliance.replication.tombstone import obey_tombstones
from appliance.routing import deliveries_for

log = logging.getLogger(__name__)

MOST_IN_A_ROW: Final = 20
"""A disk that does not give back so many manifests one after the other has more than bad spots."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many manifests were read, how many instances were new by them, and which did not open: the keys of those that are damaged, that their
    disk has `kept_back`, and that only a `later_paper` opens; and how many studies
    that the snapshot remembered were destroyed here, as they had been since."""

    manifests: int = 0
    instances: int = 0
    spoilt: tuple[str, ...] = ()
    kept_back: tuple[str, ...] = ()
    later_paper: tuple[str, ...] = ()
    destroyed: int = 0

    @property
    def damaged(self) -> int:
        """How many are not what was written."""
        return len(self.spoilt)

    @property
    def opened(self) -> int:
        """How many manifests did open."""
        return self.manifests - len(self.unread)

    @property
    def unread(self) -> tuple[str, ...]:
        """All that did not open."""
        return (*self.kept_back, *self.spoilt, *self.later_paper)

    def __add__(self, more: Rebuilt) -> Rebuilt:
        return Rebuilt(
            self.manifests + more.manifests,
            self.instances + more.instances,
            self.spoilt + more.spoilt,
            self.kept_back + more.kept_back,
            self.later_paper + more.later_paper,
            self.destroyed + more.destroyed,
        )


def rebuild(
    box: Box,
    archive: Archive,
    place: DestinationSettings,
    *,
    since: datetime | None,
    tell: Callable[[int], None],
    actor: str,
) -> Rebuilt:
    """Record what the manifests of `archive` say and the catalog does not know; those written before `since` are passed over.

    May be repeated. Raises what the archive raises, and `OperatorNeeded` for a manifest that newer software has written. One that is damaged, or that a disk does not give back, holds up nothing;
    `MOST_IN_A_ROW` that are not given back do: then the disk is to be looked at first.
    """
    read = new = destroyed = in_a_row = 0
    spoilt, kept_back = list[str](), list[str]()
    with ahead.reading(archive, _documents(archive, since), lambda named: named[0].key) as found:
        for (named, key), document in found:
            try:
                told = manifest.unseal(box.root, key, document())
                destroyed += obey_tombstones(box, place.name, key, told, datetime.now(UTC), restoring=True)
                over = versions_over(archive, told) if isinstance(archive, Past) else {}
                with box.catalog.transaction() as tx:
                    new += record(tx, box, place, told, actor, over)
                in_a_row = 0
            except manifest.OfNewerSoftware as error:
                raise OperatorNeeded(
                    error.message, hint="install the newest version, and restore again"
                ) from error
            except (Corrupt, Unknown):
                spoilt.append(named.key)
                log.error("a study manifest is damaged: its images stay in the archive")
            except Unreadable:
                kept_back.append(named.key)
                in_a_row += 1
                log.error("a study manifest is not given back: its images stay in the archive")
                if in_a_row == MOST_IN_A_ROW:
                    raise
            read += 1
            tell(read)
    return Rebuilt(read, new, tuple(spoilt), tuple(kept_back), destroyed=destroyed)


def _documents(archive: Archive, since: datetime | None) -> Iterator[tuple[Document, str]]:
    """The manifests to read, each with the key that it was sealed for."""
    for document in archive.documents(MANIFESTS):
        if since is None or document.written_utc >= since:
            yield document, document.key
    for document in archive.documents(KEPT):
        yield document, sealed_for(document.key)


def sealed_for(key: str) -> str:
    """The key that the manifest under `key` was sealed for: its own, or that in whose place it was kept. Pure."""
    if not key.startswith(KEPT):
        return key
    name, _, _ = key.removeprefix(KEPT).partition("-")
    return f"{MANIFESTS}{name}.sealed"


def versions_over(moment: Past, told: dict[str, Any]) -> dict[ObjectId, str]:
    """Which version of each object that a manifest names is ours, where another lies over it by now.

    Asks the bucket, which answers late: never in a transaction, for which every reception would wait. Raises `Corrupt`.
    """
    objects = (received.stored.object_id for received, _ in retold.instances(told))
    return {each: version for each in objects if (version := moment.version_over(object_key(each)))}


def record(
    tx: Transaction,
    box: Box,
    place: DestinationSettings,
    told: dict[str, Any],
    actor: str,
    over: Mapping[ObjectId, str],
    proven: Collection[ObjectId] | None = None,
) -> int:
    """Record the unknown instances of one manifest; how many. `over` says which version of an object is ours, if not the latest.

    All that it names get a receipt, or those of `proven` alone. Where this box does not know the manifest yet, it writes its own there by and by, and from
    then on the manifest is read again, sealed anew and believed as any other.
    """
    now = datetime.now(UTC)
    held: list[tuple[InstanceId, ObjectId]] = []
    new = 0
    standing = rules.rules(tx)
    sealed = [each for each in standing if each.takes == "ciphertext"]
    told_of = list(retold.instances(told))
    gone = study_keys.destroyed_among(tx, [received.stored.key_id for received, _ in told_of])
    for received, version in told_of:
        if received.stored.key_id in gone:
            continue  # an old manifest, in an archive that the tombstone has not reached
        kept = instances.versions(tx, received.header)
        ours = next((each for each in kept if each.object_id == received.stored.object_id), None)
        if ours is not None:
            held.append((ours.id, ours.object_id))
            continue
        taken = {each.version for each in kept}
        row = instances.record(tx, received, version=version if version not in taken else max(taken) + 1)
        held.append((row.instance_id, received.stored.object_id))
        # A copy without whoever it is of was given to archives alone.
        theirs = sealed if received.origin == ANONYMISED else standing
        owed = deliveries_for(received.header, received.origin, theirs, duplicate=row.version > 0)
        deliveries.owe(tx, row.instance_id, owed, now)
        new += 1
        entry = audit.Entry(
            "instance:recover",
            f"instance:{received.stored.object_id}",
            actor,
            {"from": place.name},
            study=received.header.study_instance_uid,
        )
        audit.append(tx, box.audit_key, [entry], now)
    for instance_id, object_id in held:
        if proven is not None and object_id not in proven:
            continue
        proof = {
            "at_utc": now.isoformat(timespec="seconds"),
            "key": object_key(object_id),
            "proof": "manifest",
        }
        if version_id := over.get(object_id):
            proof["version_id"] = version_id
        deliveries.hold(tx, place.id, instance_id, proof, now)
    if held and (study := instances.study_row_of(tx, held[0][1])) is not None:
        manifests.mark_unwritten(tx, place.id, study, now)
    return new
