"""Writing an object over in an archive where it is damaged or gone: from here, or from another archive that has it whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO, cast

from appliance.box import Box
from appliance.catalog import freezes, instances
from appliance.catalog.instances import InstanceRow
from appliance.errors import Corrupt, Refused, Unknown
from appliance.model import KeyId, ObjectId
from appliance.replication import recall
from appliance.replication.destinations import Destination, Parcel


def write_again(
    box: Box, place: Destination, object_id: ObjectId, key_id: KeyId, sealed_bytes: int
) -> Mapping[str, Any]:
    """Write an object over where it is damaged, from here or, where it is not here, from another archive; the new receipt.

    Raises `Corrupt` if nobody has it whole, `Transient` while the ransomware guard holds, and what the archives raise.
    """
    with box.catalog.reading() as reading:
        freezes.refuse(reading)
    if not recall.is_here(box, object_id):
        try:
            recall.recall(box, object_id, key_id, sealed_bytes)
        except (Unknown, Refused) as error:
            raise Corrupt("no archive has the image whole", hint="call support") from error
    with box.catalog.reading() as reading:
        row = instances.with_object(reading, object_id)
    if row is None:
        return {}  # it was destroyed meanwhile
    parcel = _parcel(box, row)
    with place.open([parcel]) as session:
        return session.send(parcel)


def _parcel(box: Box, row: InstanceRow) -> Parcel:
    return Parcel(
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        object_id=row.object_id,
        size_bytes=row.size_bytes,
        sealed_bytes=row.sealed_bytes,
        sealed_path=box.objects.path(row.object_id),
        open=lambda: cast("BinaryIO", box.open_object(row.object_id, row.key_id)),
        tried_before=True,
    )
