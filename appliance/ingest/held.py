"""What was set aside: an acknowledged image that could not be accepted, as `appliance.ingest.reception` keeps it and tries it again at each start.

Its record lies sealed under the root key in ``intake/held`` and names the patient; its image is in no study of the catalog. So a study is
not destroyed while one of its images is set aside: the certificate would not know of it.
"""

from __future__ import annotations

from typing import Final

from appliance.box import Box
from appliance.errors import Corrupt
from appliance.ingest import records
from appliance.model import Uid

HELD: Final = "held"
"""The folder, in that of the intake; each image has `<object id>.record` there."""


def is_held(box: Box, study: Uid) -> bool:
    """Whether an image of `study` is set aside. A record that is damaged gives nothing of anybody, and belongs to none."""
    for path in sorted((box.intake_folder / HELD).glob("*.record")):
        try:
            record = box.root.unseal(path.read_bytes(), f"held:{path.stem}".encode())
            found = records.decode(record).header.study_instance_uid
        except FileNotFoundError:  # accepted meanwhile
            continue
        except Corrupt:
            continue
        if found == study:
            return True
    return False
