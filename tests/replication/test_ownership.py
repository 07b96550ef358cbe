"""Whose archive it is: what is another box's is left as it is, and where it may be ours nothing of what lay there is lost."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

import pytest

from appliance.errors import OperatorNeeded, Unknown
from appliance.replication import manifest
from appliance.replication.destinations import Archive, Document
from appliance.replication.destinations.archive import LATER_SLOT, RECOVERY_SLOT
from appliance.replication.ownership import refuse_another_box
from appliance.store.root_key import RootKey, seal_slot


class Shelf:
    """An archive in memory that knows what was written."""

    def __init__(self, documents: dict[str, bytes]) -> None:
        self.lies = dict(documents)
        self.written: list[str] = []

    def document(self, key: str) -> bytes:
        if key not in self.lies:
            raise Unknown("it is not there")
        return self.lies[key]

    def documents(self, prefix: str) -> Iterator[Document]:
        return iter([Document(key, datetime.now(UTC)) for key in self.lies if key.startswith(prefix)])

    def put_document(self, key: str, data: bytes) -> None:
        self.written.append(key)
        self.lies[key] = data


def a_box(generation: int = 1) -> tuple[RootKey, bytes]:
    """A root key and its recovery slot."""
    root = RootKey(secrets.token_bytes(32), generation)
    return root, seal_slot(root, b"R", secrets.token_bytes(32))


def a_manifest(root: RootKey) -> tuple[str, bytes]:
    name = f"manifests/{secrets.token_hex(16)}.sealed"
    return name, manifest.seal_tombstone(root, name, None, [])


def judge(shelf: Shelf, root: RootKey, slot: bytes) -> None:
    refuse_another_box(cast("Archive", shelf), "usb", root, slot)


@pytest.mark.parametrize("generation", [1, 2])
def test_nothing_is_written_where_another_box_has_its_images(generation: int) -> None:
    theirs, their_slot = a_box(generation)
    shelf = Shelf(dict([(RECOVERY_SLOT, their_slot), a_manifest(theirs)]))
    for _ in range(3):
        with pytest.raises(OperatorNeeded, match="another box"):
            judge(shelf, *a_box())
    assert shelf.written == []


def test_a_slot_that_shares_nothing_with_ours_is_kept_beside_it_once() -> None:
    """There is no manifest, but there may be backups that only this slot opens."""
    _, their_slot = a_box()
    root, slot = a_box()
    shelf = Shelf({RECOVERY_SLOT: their_slot})
    judge(shelf, root, slot)
    judge(shelf, root, slot)
    (beside,) = shelf.written
    assert beside.startswith(LATER_SLOT)
    assert shelf.lies[beside] == their_slot


def test_ours_is_known_by_its_slot_or_by_a_manifest_and_an_empty_one_is_nobody_s() -> None:
    root, slot = a_box()
    by_slot = Shelf(dict([(RECOVERY_SLOT, slot), a_manifest(a_box()[0])]))
    judge(by_slot, root, slot)
    empty = Shelf({})
    judge(empty, root, slot)
    assert by_slot.written == empty.written == []
    later = Shelf(dict([(RECOVERY_SLOT, a_box(2)[1]), a_manifest(root)]))
    judge(later, root, slot)
    assert len(later.written) == 1, "the paper of a box that came back was replaced since"
