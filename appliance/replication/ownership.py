"""Whose archive it is: another box's is that box's only way back, so nothing of ours is laid in it, and nothing taken out."""

from __future__ import annotations

from hashlib import sha256
from itertools import islice
from typing import Final

from appliance.errors import Corrupt, OperatorNeeded, Unknown
from appliance.replication import manifest
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import LATER_SLOT, RECOVERY_SLOT
from appliance.store.root_key import RootKey, newest_generation, split_slots

MANIFESTS: Final = "manifests/"
MANIFESTS_ASKED: Final = 5


def refuse_another_box(archive: Archive, name: str, root: RootKey, own: bytes) -> None:
    """Raise `OperatorNeeded` where the archive `name` is of another box than the one with `root` and the recovery slot `own`.

    It is ours where its slot is one of ours, or a manifest in it opens with our root key, or it holds no manifest at all. A slot
    there that is newer than ours, or shares nothing with it, is kept beside it once that is known: this box came back with a paper
    that was replaced since, or another box has laid backups here and nothing else. Raises what the archive raises.
    """
    try:
        found = archive.document(RECOVERY_SLOT)
    except Unknown:
        return
    is_shared = bool(set(split_slots(found)) & set(split_slots(own)))
    if not is_shared and _is_strange(archive, root):
        raise OperatorNeeded(
            f"{name} holds the images of another box",
            hint="restore that box from it, or give this one a bucket or a disk of its own",
        )
    if not is_shared or newest_generation(found) > newest_generation(own):
        beside = f"{LATER_SLOT}{sha256(found).hexdigest()[:16]}"
        try:
            archive.document(beside)
        except Unknown:
            archive.put_document(beside, found)


def _is_strange(archive: Archive, root: RootKey) -> bool:
    """Whether there are manifests, and none of the first few opens."""
    strange = False
    for each in islice(archive.documents(MANIFESTS), MANIFESTS_ASKED):
        try:
            manifest.unseal(root, each.key, archive.document(each.key))
        except (Corrupt, Unknown):
            strange = True
        else:
            return False
    return strange
