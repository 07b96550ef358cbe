"""What must hold in a world of random histories, after every step and at the end: the box against the model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import audit
from appliance.backup import snapshot, standing
from appliance.catalog import Catalog, study_keys, totals
from appliance.errors import ApplianceError, Corrupt, Unknown
from appliance.model import DestinationSettings, KeyId, ObjectId, Stored
from appliance.replication import manifest
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import KEYS, object_key
from appliance.store import keys
from appliance.store.envelope import HEADER_BYTES, Opener
from appliance.store.recovery import RecoveryKey
from appliance.store.root_key import RootKey
from tests.campaigns.clinic_places import Image
from tests.instances import Instance

if TYPE_CHECKING:
    from tests.campaigns.clinic_world import World


@dataclass(frozen=True, slots=True)
class Row:
    """What the catalog says of an image."""

    object_id: ObjectId
    key_id: KeyId
    study: int


_HOLDERS = (
    "SELECT i.object_id, p.name FROM deliveries AS d JOIN instances AS i ON i.id = d.instance"
    " JOIN destinations AS p ON p.id = d.destination AND p.takes = 'ciphertext' AND NOT p.removed"
    " WHERE d.state = 'CONFIRMED'"
)
_ROWS = "SELECT i.object_id, i.key_id, s.study FROM instances AS i JOIN series AS s ON s.id = i.series"


def check(world: World) -> None:
    """The box against the model, all of it. Raises AssertionError."""
    with world.box.catalog.reading() as conn:
        rows = {each[0]: Row(*each) for each in conn.exec_driver_sql(_ROWS)}
        kept = totals.totals(conn)
    _held_to(world, rows, world.alive, world.limbo)
    studies = len({each.study for each in rows.values()})
    assert (kept.instances, kept.studies) == (len(rows), studies), "the totals are not what is there"


def check_chain(world: World) -> None:
    """The audit, from its first row on. Raises AssertionError."""
    with world.box.catalog.reading() as conn:
        assert audit.verify(conn, world.box.audit_key, None) == []


def check_study(world: World, study: int) -> None:
    """The box against the model, as far as one study goes. Raises AssertionError."""
    uid = Instance(0, study=study).study_instance_uid
    with world.box.catalog.reading() as conn:
        wanted = " WHERE s.study = (SELECT id FROM studies WHERE study_instance_uid = ?)"
        rows = {each[0]: Row(*each) for each in conn.exec_driver_sql(_ROWS + wanted, (uid,))}
    _held_to(world, rows, _of(study, world.alive), _of(study, world.limbo))


def recorded_as(world: World, stored: Stored) -> tuple[ObjectId, KeyId]:
    """How what was recorded last lies in the end: sealed anew if a destruction that was cut had left its key at hand, and only then."""
    with world.box.catalog.reading() as conn:
        newest = "SELECT object_id, key_id FROM instances ORDER BY id DESC LIMIT 1"
        object_id, key_id = conn.exec_driver_sql(newest).one()
    assert object_id == stored.object_id or stored.key_id in world.ever_destroyed, (
        "it was sealed anew, and its key lives"
    )
    return object_id, key_id


def _of(study: int, images: Mapping[ObjectId, Image]) -> dict[ObjectId, Image]:
    return {each: image for each, image in images.items() if image.study == study}


def _held_to(
    world: World,
    rows: Mapping[ObjectId, Row],
    alive: Mapping[ObjectId, Image],
    limbo: Mapping[ObjectId, Image],
) -> None:
    unknown = set(rows) - set(alive) - set(limbo)
    assert not unknown, (
        f"{sorted(unknown)} has a row: {'destroyed' if unknown & set(world.gone) else 'never sent'}"
    )
    looking = Looking(world)
    for object_id, image in alive.items():
        assert object_id in rows, f"the acknowledged image {object_id} of study {image.study} has no row"
        if object_id not in world.rotten:
            assert looking.is_as_sent(rows[object_id], image), (
                f"{object_id} of study {image.study} cannot be read"
            )
    for object_id, image in limbo.items():
        if object_id in rows:
            assert looking.shows_no_other(rows[object_id], image), f"{object_id} shows other bytes"


class Looking:
    """One look at images: each from its file here, or from an archive that the box names as its holder at this moment.

    A file that nobody has touched since it opened byte for byte is not opened once more.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._holders: Mapping[ObjectId, list[str]] | None = None

    def is_as_sent(self, row: Row, image: Image) -> bool:
        """Whether an image opens byte for byte."""
        return any(is_so for is_so in self._found(row, image))

    def shows_no_other(self, row: Row, image: Image) -> bool:
        """Whether an image that may be nowhere shows what was sent wherever it opens first."""
        return next(self._found(row, image), True)

    def _found(self, row: Row, image: Image) -> Iterator[bool]:
        """For the first of its files that opens: whether it shows what was sent."""
        for path in self._files(row.object_id):
            try:
                now = os.stat(path)
                seen = (path, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
                if self._world.seen.get(row.object_id) == seen:
                    yield True
                    return
                is_so = opened(self._world, Path(path).read_bytes(), row) == image.data_set
            except (FileNotFoundError, Corrupt):
                continue
            if is_so:
                self._world.seen[row.object_id] = seen
            yield is_so
            return

    def _files(self, object_id: ObjectId) -> Iterator[str]:
        """Where to look, the nearest first; by the store itself last, which gives a part its name and costs ten times as much."""
        objects = self._world.box.objects
        yield f"{objects.root}/{object_id[:2]}/{object_id}.sealed"
        if self._holders is None:
            self._holders = self._asked()
        for name in self._holders.get(object_id, ()):
            yield f"{where(self._world, name)}/{object_key(object_id)}"
        yield str(objects.path(object_id))

    def _asked(self) -> Mapping[ObjectId, list[str]]:
        found: dict[ObjectId, list[str]] = {}
        with self._world.box.catalog.reading() as conn:
            for object_id, name in conn.exec_driver_sql(_HOLDERS):
                found.setdefault(object_id, []).append(name)
        return found


def where(world: World, name: str) -> Path:
    """Where a disk is: it may be away, and whoever finds it has it."""
    return world.here / (name if world.shelves[name].plugged else f"{name}.away")


def archive_there(world: World, name: str) -> Archive:
    """A disk, wherever it is."""
    place = DestinationSettings(name, "vault", "ciphertext", {"path": str(where(world, name))})
    archive = build(place, None)  # type: ignore[arg-type]
    assert isinstance(archive, Archive)
    return archive


def opened(world: World, sealed: bytes, row: Row | Image) -> bytes:
    """The data set in a sealed file, as it was sent. Raises `Corrupt`."""
    opener = Opener(
        world.box.study_keys.key(row.key_id), row.object_id.encode("ascii"), sealed[:HEADER_BYTES]
    )
    part10 = bytes(opener.open_segment(0, sealed[HEADER_BYTES:], last=True))
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


def check_to_the_bottom(world: World) -> None:
    """What was destroyed, in every place and under every paper, and each image once more from its bytes. Raises AssertionError."""
    world.seen.clear()
    check(world)
    check_chain(world)
    with world.box.catalog.reading() as conn:
        destroyed = {each.key_id for each in world.gone.values()}
        alive = {each.key_id for each in world.here_by_account()}
        for key_id in destroyed - alive:
            found = study_keys.wrapped(conn, key_id)
            assert found is None or not found[1], "the key of a destroyed study is in the catalog"
    for name, shelf in world.shelves.items():
        done = shelf.ended | shelf.done - {each.key_id for each in world.here_by_account()}
        if done:
            _check_shelf(world, name, done)


def _check_shelf(world: World, name: str, done: set[KeyId]) -> None:
    archive = archive_there(world, name)
    roots = list(roots_of(archive, world.papers))
    for document in [*archive.documents("manifests/"), *archive.documents("kept/")]:
        digits = document.key.rpartition("/")[2].partition(".")[0].partition("-")[0]
        for root in roots:
            try:
                told = manifest.unseal(root, f"manifests/{digits}.sealed", archive.document(document.key))
            except Corrupt:
                continue
            there = {row["id"] for row in told["study_keys"]} | {row["key_id"] for row in told["instances"]}
            assert not there & done, f"{name} is done, and a manifest there has the key"
    for index, backup in enumerate(standing.look(archive).names):
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


def opens_with(archive: Archive, paper: RecoveryKey) -> bool:
    """Whether a paper opens any slot of an archive."""
    return any(True for _ in roots_of(archive, [paper]))


def roots_of(archive: Archive, papers: list[RecoveryKey]) -> Iterator[RootKey]:
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
