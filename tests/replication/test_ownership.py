"""Whose archive it is: what is another box's is left as it is, and where it may be ours nothing of what lay there is lost."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from appliance.backup import snapshot
from appliance.errors import OperatorNeeded, Unknown
from appliance.replication import manifest
from appliance.replication.destinations import Archive, Document
from appliance.replication.destinations.archive import RECOVERY_SLOT
from appliance.replication.ownership import Whose, refuse_another_box, whose_backup
from appliance.store.root_key import RootKey, seal_slot
from tests.rot import last_byte_changed


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
        return iter([Document(key, datetime.now(UTC)) for key in sorted(self.lies) if key.startswith(prefix)])

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


def backups(root: RootKey, slot: bytes, count: int = 1, *, days: int = 0) -> dict[str, bytes]:
    """Backups of a box as far as they say whose they are, made from `days` after a certain day on."""
    lies = {}
    for number in range(count):
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days + number)
        name = snapshot.new_name(moment, secrets.token_hex(4))
        lies[snapshot.index_key(name)] = root.seal(b"{}", snapshot.context(name))
        lies[snapshot.key_key(name)] = root.seal(b"K" * 32, snapshot.key_context(name))
        lies[snapshot.slot_key(name)] = slot
        lies[snapshot.piece_key(name, 0)] = b"pages"
    return lies


def damaged(shelf: Shelf, *ends: str) -> Shelf:
    """The same with every document of backups damaged whose name ends so."""
    return Shelf({key: b"rotten" if key.endswith(ends) else data for key, data in shelf.lies.items()})


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


def test_the_slot_of_a_paper_that_was_replaced_is_not_kept() -> None:
    """Whoever finds the lost one must not open with it what comes after: under the same root key, or a later one."""
    root, _ = a_box()
    lost, fresh = (seal_slot(root, b"R", secrets.token_bytes(32)) for _ in range(2))
    later = root.successor(secrets.token_bytes(32))
    for now, slot in ((root, fresh), (later, seal_slot(later, b"R", secrets.token_bytes(32)))):
        for what in ({}, dict([a_manifest(root)]), backups(root, lost)):
            shelf = Shelf({RECOVERY_SLOT: lost} | what)
            judge(shelf, now, slot)
            assert shelf.written == []


def test_a_box_whose_own_slot_is_damaged_lays_none_beside() -> None:
    """It leaves the one that lies there; a copy of it would outlive the paper."""
    root, slot = a_box(3)
    shelf = Shelf(dict([(RECOVERY_SLOT, slot), a_manifest(root)]))
    judge(shelf, root, b"")
    assert shelf.written == []


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


@pytest.mark.parametrize("has_slot", [True, False])
def test_nothing_is_written_where_another_box_has_its_backups_alone(has_slot: bool) -> None:
    """The courier has laid no manifest there yet, or no slot: a box that was lost on its first day."""
    theirs, their_slot = a_box()
    shelf = Shelf({RECOVERY_SLOT: their_slot} if has_slot else {})
    shelf.lies |= backups(theirs, their_slot, 3)
    for each in (shelf, damaged(shelf, "/key"), damaged(shelf, "/index", "/root.recovery")):
        with pytest.raises(OperatorNeeded, match="holds the backups of another box"):
            judge(each, *a_box())
        assert each.written == []


def test_backups_are_known_as_ours_by_their_index_their_key_or_their_paper() -> None:
    root, slot = a_box()
    shelf = Shelf(backups(root, slot))
    for each in (
        shelf,
        damaged(shelf, "/key", "/root.recovery"),
        damaged(shelf, "/index", "/root.recovery"),
        damaged(shelf, "/index", "/key"),
    ):
        judge(each, root, slot)
    with pytest.raises(OperatorNeeded, match="another box"):
        judge(damaged(shelf, "/index", "/key", "/root.recovery"), root, slot)


def test_backups_from_before_the_root_key_was_rotated_are_ours() -> None:
    first, first_slot = a_box()
    root = first.successor(secrets.token_bytes(32))
    slot = seal_slot(root, b"R", secrets.token_bytes(32))
    judge(Shelf(backups(first, first_slot, 7)), root, slot)


def test_a_box_that_came_back_with_an_earlier_paper_knows_its_archive() -> None:
    """All that lies there is under a root key that this box has not heard of."""
    root, slot = a_box()
    later = root.successor(secrets.token_bytes(32))
    later_slot = seal_slot(later, b"R", secrets.token_bytes(32))
    shelf = Shelf({RECOVERY_SLOT: later_slot} | backups(later, later_slot, 7))
    judge(shelf, root, slot)
    (beside,) = shelf.written
    assert shelf.lies[beside] == later_slot


@pytest.mark.parametrize("days", [0, 40])
def test_ours_are_found_beside_those_of_another_box(days: int) -> None:
    """Two boxes have laid backups on one disk before either looked whose it is: whichever came first."""
    root, slot = a_box()
    shelf = Shelf(backups(*a_box(), 30, days=5) | backups(root, slot, 2, days=days))
    judge(shelf, root, slot)


def test_an_image_that_is_ours_tells_more_than_backups_that_are_not() -> None:
    root, slot = a_box()
    shelf = Shelf(dict([a_manifest(root)]) | backups(*a_box(), 3))
    judge(shelf, root, slot)
    judge(damaged(Shelf(dict([a_manifest(root)]) | backups(root, slot)), "/key"), root, slot)


# --- one backup ------------------------------------------------------------------------------------------------------


def altered(shelf: Shelf, *ends: str) -> Shelf:
    """The same with the last byte of every document changed whose name ends so: it looks like what was sealed."""
    return Shelf(
        {key: last_byte_changed(data) if key.endswith(ends) else data for key, data in shelf.lies.items()}
    )


def whose(shelf: Shelf, root: RootKey, slot: bytes, *, is_recorded: bool = False) -> Whose:
    (name,) = {each.key.split("/")[1] for each in shelf.documents("snapshots/")}
    return whose_backup(cast("Archive", shelf), name, root, slot, {name} if is_recorded else ())


@pytest.mark.parametrize("spoilt", [damaged, altered])
def test_a_backup_is_ours_by_any_one_of_four_things(spoilt: Callable[..., Shelf]) -> None:
    root, slot = a_box()
    shelf = Shelf(backups(root, slot))
    for ends in (("/index", "/key"), ("/index", "/root.recovery"), ("/key", "/root.recovery")):
        assert whose(spoilt(shelf, *ends), root, slot) is Whose.OURS
    lost = spoilt(shelf, "/index", "/key", "/root.recovery")
    assert whose(lost, root, slot, is_recorded=True) is Whose.OURS
    assert whose(Shelf({snapshot.slot_key("x"): slot}), root, slot) is Whose.OURS, (
        "cut before its key was laid"
    )


def test_what_is_not_ours_is_told_from_what_nobody_could_open() -> None:
    root, slot = a_box()
    theirs = Shelf(backups(*a_box()))
    assert whose(theirs, root, slot) is Whose.ANOTHERS
    for ends in ("/index", "/key"):
        assert whose(damaged(theirs, ends), root, slot) is Whose.ANOTHERS
    assert whose(damaged(theirs, "/index", "/key"), root, slot) is Whose.NOBODYS
    assert whose(altered(Shelf(backups(root, b"")), "/index", "/key"), root, slot) is Whose.ANOTHERS
    assert whose(Shelf(backups(*a_box(2))), root, slot) is Whose.LATER
