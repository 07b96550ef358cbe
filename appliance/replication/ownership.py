"""Whose archive it is: another box's is that box's only way back, so nothing of ours is laid in it, and nothing taken out."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from hashlib import sha256
from itertools import islice
from typing import Final

from appliance.errors import Corrupt, OperatorNeeded, Unknown, Unreadable
from appliance.replication import manifest
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import LATER_SLOT, MANIFESTS, RECOVERY_SLOT, SNAPSHOTS
from appliance.store.root_key import RootKey, newest_generation, sealed_generation, split_slots

MANIFESTS_ASKED: Final = 5
BACKUPS_ASKED: Final = 5
"""So many of the oldest, and of the newest: another box's may lie on either side of ours."""


class Whose(StrEnum):
    """Whose a backup in an archive is, as far as that can be told."""

    OURS = "ours"
    LATER = "later"  # sealed under a later root key than ours: of this box before it came back with an earlier paper, or another's
    ANOTHERS = "another's"
    NOBODYS = "nobody's"  # nothing is left of it that any root key could open


def refuse_another_box(archive: Archive, name: str, root: RootKey, own: bytes) -> None:
    """Raise `OperatorNeeded` where the archive `name` is of another box than the one with `root` and the recovery slot `own`.

    It is ours where its slot is one of ours, or a manifest in it opens with our root key; where it holds no manifest, if a backup
    does, or there is none. A slot there of a later root key than ours is kept beside ours: this box came back with a paper that was
    replaced since. Any other gives way to ours, for it may be that of a paper that was lost, and every backup has its own beside it.
    Without a slot of our own (`own` is empty: it is damaged) nothing there is written over. Raises what the archive raises.
    """
    found: bytes | None = None
    try:
        found = archive.document(RECOVERY_SLOT)
    except Unknown:
        pass
    is_shared = found is not None and _share(found, own)
    if not is_shared and (what := _strange(archive, root, own)):
        raise OperatorNeeded(
            f"{name} holds the {what} of another box",
            hint="restore that box from it, or give this one a bucket or a disk of its own",
        )
    if found is not None and own and newest_generation(found) > newest_generation(own):
        beside = f"{LATER_SLOT}{sha256(found).hexdigest()[:16]}"
        try:
            archive.document(beside)
        except Unknown:
            archive.put_document(beside, found)


def _share(one: bytes, other: bytes) -> bool:
    return bool(set(split_slots(one)) & set(split_slots(other)))


def _strange(archive: Archive, root: RootKey, own: bytes) -> str:
    """What there is of another box: manifests, or backups where there is no manifest, none of which is ours; empty for nothing.

    A bad spot under one of them says nothing: raises `Unreadable` where none of the others is ours either.
    """
    some, bad = False, None
    for each in islice(archive.documents(MANIFESTS), MANIFESTS_ASKED):
        some = True
        try:
            manifest.unseal(root, each.key, archive.document(each.key))
        except Unreadable as error:
            bad = error
            continue
        except (Corrupt, Unknown):
            continue
        return ""
    if bad is not None:
        raise bad
    if some:
        return "images"
    names = [
        name
        for each in archive.documents(SNAPSHOTS)
        for name, _, end in [each.key.removeprefix(SNAPSHOTS).rpartition("/")]
        if end == "index"
    ]
    asked = dict.fromkeys([*names[:BACKUPS_ASKED], *names[-BACKUPS_ASKED:]])
    for name in asked:
        try:
            if whose_backup(archive, name, root, own) in {Whose.OURS, Whose.LATER}:
                return ""
        except Unreadable as error:
            bad = error
    if bad is not None:
        raise bad
    return "backups" if asked else ""


def whose_backup(
    archive: Archive, name: str, root: RootKey, own: bytes, made: Collection[str] = frozenset()
) -> Whose:
    """Whose the backup `name` is, for a box with `root` and the recovery slot `own` that knows that it has `made` some.

    Ours by our own record of having made it, or by its index, its key or the paper beside it, whichever of them is damaged. Without a
    record, and beside a paper that was replaced since, one of ours whose index and key are both damaged can't be told from another
    box's, and is taken for that: to destroy another's is the worse error, since it may be that box's only way back to its images, and
    nothing brings it back. One of ours that is left so has a key that opens nothing as it stands, and whoever is told that it lies there
    can still destroy it. Where neither index nor key is anything that was sealed, no box loses what it could open: it is nobody's.
    Raises what the archive raises; `Unreadable` where what it gives back does not tell.
    """
    if name in made:
        return Whose.OURS
    newest, bad = 0, None
    for end, use in (("index", "snapshot"), ("key", "snapshot-key")):
        try:
            sealed = archive.document(f"{SNAPSHOTS}{name}/{end}")
        except Unknown:
            continue
        except Unreadable as error:
            bad = error
            continue
        try:
            root.unseal(sealed, f"{use}:{name}".encode())
        except Corrupt:
            newest = max(newest, sealed_generation(sealed))
        else:
            return Whose.OURS
    try:
        if _share(archive.document(f"{SNAPSHOTS}{name}/root.recovery"), own):
            return Whose.OURS
    except Unknown:
        pass
    if bad is not None:
        raise bad
    if newest > root.generation:
        return Whose.LATER
    return Whose.ANOTHERS if newest else Whose.NOBODYS
