"""Writing an object over in an archive where it is damaged or gone: from here, or from another archive that has it whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from appliance.box import Box
from appliance.catalog import freezes, instances
from appliance.errors import Corrupt, Refused, Unknown
from appliance.model import KeyId, ObjectId
from appliance.replication import recall
from appliance.replication.destinations import Destination
from appliance.replication.destinations.parcel import parcel_of


def write_again(
    box: Box,
    place: Destination,
    object_id: ObjectId,
    key_id: KeyId,
    sealed_bytes: int,
    *,
    is_gone: bool = False,
    looks_first: bool = True,
) -> Mapping[str, Any]:
    """Write an object over where it is damaged, from here or, where it is not here, from another archive; the new receipt.

    Raises `Corrupt` if nobody has it whole, `Transient` while the ransomware guard holds, and what the archives raise. One that `is_gone`
    there is written again all the same, as what is new is, if nothing lies under its name. What is there is looked at first, and left
    where it is whole by now, but for what can't be read and is known to be something else.
    """
    with box.catalog.reading() as reading:
        is_held = freezes.in_force(reading) is not None
        if not is_gone:
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
    replaces: Literal["anything", "nothing"] = "nothing" if is_held else "anything"
    parcel = replace(parcel_of(box, row), tried_before=looks_first, replaces=replaces)
    with place.open([parcel]) as session:
        return session.send(parcel)
