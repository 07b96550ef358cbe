"""What was set aside: acknowledged images that could not be accepted, kept sealed until they can be (`appliance.ingest.reception` tries at each start).

Each has a record `<object id>.record` in ``intake/held``: ``RootKey.seal(record, "held:<object id>")``, whose patient it names; its ciphertext lies
among the objects. It stands in no study of the catalog, so a study is not destroyed while one of its images is set aside: the certificate
would not know of it. One that is set aside later, because it was acknowledged and not settled when its study was destroyed, keeps the
certificate waiting until it is accepted, under another key, or given up: its record has the key that was destroyed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from appliance.box import Box
from appliance.catalog import study_keys
from appliance.errors import Corrupt
from appliance.ingest import records
from appliance.model import KeyId, ObjectId, Received, Uid
from appliance.store.disk import disk_error, read_error

_FOLDER = "held"
_DOING = "setting an instance aside"


def put(box: Box, received: Received) -> None:
    """Keep the record of an image whose ciphertext lies among the objects. Raises what the disk raises."""
    object_id, folder = received.stored.object_id, box.intake_folder / _FOLDER
    sealed, disk = box.root.seal(records.encode(received), _context(object_id)), box.objects.disk
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = disk.overwrite(folder / f"{object_id}.record")
        with open(descriptor, "wb", buffering=0) as file:
            file.write(sealed)
            disk.sync(file.fileno())
        disk.sync_directory(folder)
    except OSError as error:
        raise disk_error(error, _DOING) from error


def paths(box: Box) -> list[Path]:
    """The records that there are."""
    return sorted((box.intake_folder / _FOLDER).glob("*.record"))


def object_of(path: Path) -> ObjectId:
    """Which object a record is of."""
    return ObjectId(path.stem)


def read(box: Box, path: Path) -> Received:
    """What a record says. Raises FileNotFoundError once it is accepted, `Corrupt`, and what the disk raises."""
    try:
        sealed = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise read_error(error, "reading what was set aside") from error
    return records.decode(box.root.unseal(sealed, _context(object_of(path))))


def legible(box: Box) -> Iterator[Received]:
    """What each record says. One that is damaged gives nothing of anybody, and is passed over; one that the disk does not give back may be
    anybody's: raises `Unreadable` then, and whatever else the disk raises."""
    for path in paths(box):
        try:
            yield read(box, path)
        except (FileNotFoundError, Corrupt):
            continue


def has_image_of(box: Box, study: Uid) -> bool:
    """Whether an image of `study` is set aside. Raises as `legible` does."""
    return any(each.header.study_instance_uid == study for each in legible(box))


def under_destroyed_keys(box: Box) -> set[Uid]:
    """The studies of which an image is set aside under a key that was destroyed. Raises as `legible` does."""
    found: dict[KeyId, Uid] = {each.stored.key_id: each.header.study_instance_uid for each in legible(box)}
    with box.catalog.reading() as reading:
        return {found[each] for each in study_keys.destroyed_among(reading, list(found))}


def _context(object_id: ObjectId) -> bytes:
    return f"held:{object_id}".encode()
