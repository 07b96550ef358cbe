"""What must hold in a world of random histories, after every step and at the end: the box against the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import audit
from appliance.backup import snapshot
from appliance.catalog import Catalog, study_keys, totals
from appliance.catalog.instances import InstanceRow
from appliance.errors import ApplianceError, Corrupt, Unknown
from appliance.model import DestinationSettings, KeyId
from appliance.replication import manifest, recall
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import KEYS, object_key
from appliance.store import keys
from appliance.store.envelope import HEADER_BYTES, Opener
from appliance.store.recovery import RecoveryKey
from appliance.store.root_key import RootKey
from tests.boxes import data_set_of, recorded
from tests.campaigns.clinic_places import Image
from tests.instances import Instance

if TYPE_CHECKING:
    from tests.campaigns.clinic_world import World


def check(world: World) -> None:
    """The box against the model. Raises AssertionError."""
    rows = {each.object_id: each for each in recorded(world.box)}
    unknown = set(rows) - set(world.alive) - set(world.limbo)
    assert not unknown, (
        f"{sorted(unknown)} has a row: {'destroyed' if unknown & set(world.gone) else 'never sent'}"
    )
    for object_id, image in world.alive.items():
        assert object_id in rows, f"the acknowledged image {object_id} of study {image.study} has no row"
        if object_id not in world.rotten:
            assert _read(world, rows[object_id]) == image.sent.data_set, f"{object_id} cannot be read"
    for object_id, image in world.limbo.items():
        if object_id in rows:
            found = _read(world, rows[object_id])
            assert found in {None, image.sent.data_set}, f"{object_id} shows other bytes"
    with world.box.catalog.reading() as conn:
        kept = totals.totals(conn)
        assert (kept.instances, kept.studies) == (
            len(rows),
            len({each.study_id for each in rows.values()}),
        ), "the totals are not what is there"
        assert audit.verify(conn, world.box.audit_key, None) == []


def _read(world: World, row: InstanceRow) -> bytes | None:
    """The data set of a recorded image, from here or from an archive that the box names; None if it is nowhere whole."""
    try:
        return data_set_of(world.box, row)
    except (Unknown, Corrupt):
        pass
    with world.box.catalog.reading() as conn:
        places = recall.holders(conn, row.object_id)
    for place in places:
        path = _where(world, place.name) / object_key(row.object_id)
        if path.exists():
            image = Image(row.object_id, row.key_id, Instance(0))
            if (found := opened(world, path.read_bytes(), image)) is not None:
                return found
    return None


def _where(world: World, name: str) -> Path:
    return world.here / (name if world.shelves[name].plugged else f"{name}.away")


def opened(world: World, sealed: bytes, image: Image) -> bytes | None:
    try:
        key = world.box.study_keys.key(image.key_id)
        opener = Opener(key, image.object_id.encode("ascii"), sealed[:HEADER_BYTES])
        part10 = bytes(opener.open_segment(0, sealed[HEADER_BYTES:], last=True))
    except Corrupt:
        return None
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


def check_to_the_bottom(world: World) -> None:
    """What was destroyed, in every place and under every paper. Raises AssertionError."""
    check(world)
    with world.box.catalog.reading() as conn:
        destroyed = {each.key_id for each in world.gone.values()}
        alive = {each.key_id for each in world.here_by_account()}
        for key_id in destroyed - alive:
            found = study_keys.wrapped(conn, key_id)
            assert found is None or not found[1], "the key of a destroyed study is in the catalog"
    for name, shelf in world.shelves.items():
        if shelf.done:
            _check_shelf(world, name, shelf.done - {each.key_id for each in world.here_by_account()})


def _check_shelf(world: World, name: str, done: set[KeyId]) -> None:
    archive = build(  # it may be away: whoever finds it has it
        DestinationSettings(name, "vault", "ciphertext", {"path": str(_where(world, name))}),
        None,  # type: ignore[arg-type]
    )
    assert isinstance(archive, Archive)
    roots = list(_roots(archive, world.papers))
    for document in [*archive.documents("manifests/"), *archive.documents("kept/")]:
        digits = document.key.rpartition("/")[2].partition(".")[0].partition("-")[0]
        for root in roots:
            try:
                told = manifest.unseal(root, f"manifests/{digits}.sealed", archive.document(document.key))
            except Corrupt:
                continue
            there = {row["id"] for row in told["study_keys"]} | {row["key_id"] for row in told["instances"]}
            assert not there & done, f"{name} is done, and a manifest there has the key"
    for index, backup in enumerate(
        snapshot.names_in([each.key for each in archive.documents(snapshot.PREFIX)])
    ):
        for root in roots:
            _check_backup(world, archive, backup, root, done, world.here / f"looked-{index}.db")


def _check_backup(self, archive: Archive, name: str, root: RootKey, done: set[KeyId], scratch: Path) -> None:
    try:
        key = root.unseal(archive.document(snapshot.key_key(name)), snapshot.key_context(name))
    except (Corrupt, Unknown):
        return
    pieces = [each.key for each in archive.documents(f"{snapshot.PREFIX}{name}/") if each.key[-6:].isdigit()]
    scratch.write_bytes(b"".join(archive.document(each) for each in pieces))
    catalog = Catalog.open(scratch, key)
    try:
        with catalog.reading() as conn:
            for key_id in done:
                found = study_keys.wrapped(conn, key_id)
                assert found is None or not found[1], (
                    f"the archive is done, and its backup {name} has the key"
                )
    finally:
        catalog.close()
        scratch.unlink()


def _roots(archive: Archive, papers: list[RecoveryKey]) -> Iterator[RootKey]:
    """Every root key that any paper opens with any slot of an archive."""
    slots = [archive.document(each.key) for each in archive.documents(KEYS) if "connection" not in each.key]
    for each in archive.documents(snapshot.PREFIX):
        if each.key.endswith("/root.recovery"):
            slots.append(archive.document(each.key))
    for paper in papers:
        for slot in slots:
            try:
                yield keys.open_with_recovery(slot, paper)
            except ApplianceError:
                continue
