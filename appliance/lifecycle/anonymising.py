"""Keeping a study's images without whoever they are of: sealed first, recorded in the transaction that destroys the study.

::

    each image of the study ──▶ a copy without the person (lifecycle.anonymous), sealed under a new study's key
                                   └──▶ one transaction: copies recorded, study out of the catalog, its keys destroyed

Until the commit the copies are objects that no row speaks of, which `ingest.orphans` removes; after it the study is gone. So there is
never a moment with both, and none with neither: whoever destroys calls `refuse_unless_whole` in that transaction, because the sweep
may have removed the first copies of a study that took long.

An image whose copy can't be made, whatever the reason that lies in the image, is left out; it keeps no other from its copy.
 New UIDs are drawn at random and forgotten with
this function. The audit has the rows of both at the same moment, as it has for everything that comes and goes: whoever reads it learns
the number of a study that is destroyed, and on this box nothing is left that says whose it was. Somebody who has the
original elsewhere needs no audit to know the picture again.

Rejected: UIDs derived from the old ones, which whoever has the key could derive again; copies recorded before the destruction,
which stay when the destruction is refused.
"""

from __future__ import annotations

import io
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.box import Box
from appliance.catalog import Reading, instances, studies
from appliance.catalog.instances import InstanceRow
from appliance.catalog.veil import is_clear
from appliance.errors import ApplianceError, Corrupt, OutOfResources, Refused, Transient, Unknown
from appliance.ingest.importing import seal_file
from appliance.lifecycle.anonymous import anonymous
from appliance.model import ANONYMISED, Received, Uid
from appliance.replication import recall
from appliance.store.disk import disk_error

log = logging.getLogger(__name__)

MOST_BYTES: Final = 96 << 20
"""Of an image that is copied: on its way it is in memory some eight times, and the process has 1.2 GB (`systemd/`)."""


@dataclass(frozen=True, slots=True)
class Copies:
    """What is sealed and waits to be recorded, and how many images were left out because they may say whose they are."""

    sealed: tuple[Received, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Stays:
    """How many images of some studies could be kept, by their kinds, and how many there are."""

    kept: int
    images: int


def kept_of(conn: Reading, study_ids: Sequence[int]) -> Stays:
    """What whoever asks and whoever approves is told before; studies that are not here any more count for nothing."""
    rows = [row for each in study_ids for row in _rows(conn, each)]
    return Stays(sum(_may_stay(each) for each in rows), len(rows))


def refuse_unless_some_stay(conn: Reading, study_ids: Sequence[int]) -> None:
    """Raise `Refused` if one of the studies has no image that may be kept: it would be destroyed under another word."""
    for each in study_ids:
        if not kept_of(conn, [each]).kept:
            raise _nothing_stays()


def copies_of(box: Box, study_id: int, keep_going: Callable[[], bool]) -> Copies:
    """Seal a copy of each image that can be anonymous. An image that can't be read is not left out: the study waits.

    Raises `Refused` when none can be kept or the time is over, and what reading, recalling and sealing raise; what was sealed
    until then is removed.
    """
    with box.catalog.reading() as conn:
        rows = _rows(conn, study_id)
    if not rows:
        raise Refused("the study is not here any more", hint="look at the request again")
    uids: defaultdict[str, Uid] = defaultdict(_new_uid)
    sealed: list[Received] = []
    try:
        for row in rows:
            if not keep_going():
                raise Refused("the box has something else to do", hint="it goes on later")
            copy = _copy(box, row, uids.__getitem__) if _may_stay(row) else None
            if copy is not None:
                sealed.append(seal_file(box, io.BytesIO(copy), ANONYMISED))
    except BaseException:
        discard(box, sealed)
        raise
    if not sealed:
        raise _nothing_stays()
    return Copies(tuple(sealed), len(rows) - len(sealed))


def refuse_unless_whole(box: Box, sealed: Sequence[Received]) -> None:
    """Raise `Transient` unless the file of each copy is here, as long as it was sealed.

    For whoever destroys the original, in the transaction that does: what is removed as an orphan is removed in one, too.
    """
    for each in sealed:
        try:
            found_bytes = box.objects.path(each.stored.object_id).stat().st_size
        except FileNotFoundError:
            found_bytes = None
        except OSError as error:
            raise disk_error(error, "looking at an anonymous copy") from error
        if found_bytes != each.stored.sealed_bytes:
            raise Transient("an anonymous copy is not here any more", hint="the copies are made again later")


def discard(box: Box, sealed: list[Received] | tuple[Received, ...]) -> None:
    """Remove copies that are not going to be recorded."""
    for each in sealed:
        box.objects.remove(each.stored.object_id)


def _nothing_stays() -> Refused:
    return Refused(
        "none of the study's images can be kept without saying whose they are",
        hint="ask for its destruction instead",
    )


def _rows(conn: Reading, study_id: int) -> list[InstanceRow]:
    study = studies.study_by_id(conn, study_id)
    if study is None:
        return []
    return instances.instances_of_study(conn, study.study_instance_uid)


def _may_stay(row: InstanceRow) -> bool:
    """Of two versions of one image the first, and none that names another patient than its study."""
    if row.version or row.patient_conflict or not row.rows or _pixels_bytes(row) > MOST_BYTES:
        return False
    return is_clear(row.modality, row.sop_class_uid, row.burned_in_annotation)


def _pixels_bytes(row: InstanceRow) -> int:
    """What its pixels may take once they are decoded, at two bytes each: a compressed file says little of that."""
    return max(row.size_bytes, 2 * row.rows * row.columns * max(1, row.number_of_frames))


def _copy(box: Box, row: InstanceRow, uid_of: Callable[[str], Uid]) -> bytes | None:
    """The anonymous copy; None where none can be made of this image: the pixels can't be decoded, or it is not as it says.

    What pydicom and numpy raise of a value that is none quotes the value, so only its kind is told. A machine without memory
    or disk says nothing of the image, which waits then.
    """
    with recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes) as reader:
        original = reader.read()
    try:
        return anonymous(original or b"", uid_of)
    except (Corrupt, Unknown):
        raise
    except Refused as error:
        log.info("an image is left out of the anonymous study: %s", error.message)
        return None
    except ApplianceError:
        raise
    except MemoryError as error:
        raise OutOfResources("no memory to copy an image", hint="it goes on later") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # decoders raise it too, without a number
            raise disk_error(error, "copying an image") from error
        log.warning("an image is left out of the anonymous study: %s", type(error).__name__)
        return None


def _new_uid() -> Uid:
    """PS3.5 B.2: a UUID as a whole number, drawn from the operating system's source."""
    return Uid(f"2.25.{secrets.randbits(128)}")
