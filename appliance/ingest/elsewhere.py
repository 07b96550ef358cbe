"""Whether an image that arrives is one whose file is away, in an archive: then there is nothing to keep twice.

Its bytes can't be compared, but the digest of its data set was written down when its file was removed, after it had been read
back from the archive. It counts only while an archive of this box that gave it back then has a receipt for it; else what came is kept.
"""

from __future__ import annotations

from appliance.box import Box
from appliance.catalog import evictions
from appliance.ingest.duplicates import Readable, data_set_digest
from appliance.model import ObjectId
from appliance.replication import recall


def is_data_set_of(box: Box, kept: ObjectId, new: Readable) -> bool:
    """Whether `new` has the data set of the object `kept`, which is not on this box."""
    with box.catalog.reading() as reading:
        digest = evictions.dataset_digest(reading, kept)
        proven = evictions.proven_in(reading, kept)
        if not digest or not any(each.id in proven for each in recall.holders(reading, kept)):
            return False
    return data_set_digest(new) == digest
