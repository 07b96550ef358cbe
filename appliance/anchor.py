"""The audit's anchor: count and last link of the chain at an earlier hour, kept outside the catalog.

A chain shows by itself any edit, deletion or reordering, but not that the whole catalog was put back to last week's.
Whoever holds an anchor sees it: the log must still contain that link at that place. The anchor here lies in the data
folder, sealed under the root key; `appliance.witnesses` takes it off the box within the hour.

File ``audit.anchor``: the JSON object ``{"at_utc", "witness"}`` (the text form of a `Witness`), sealed as one piece by
`RootKey.seal` with the context ``audit-anchor``. Written by temporary name, fsync, rename, fsync of the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from appliance import audit
from appliance.box import Box
from appliance.errors import Corrupt, OperatorNeeded, OutOfResources, Refused

_CONTEXT = b"audit-anchor"


def path(box: Box) -> Path:
    """Where the anchor is."""
    return box.config.data.absolute() / "audit.anchor"


def read(box: Box) -> audit.Witness | None:
    """The anchor written last; None if there is none yet. Raises `Corrupt` if it isn't what was written."""
    try:
        found = path(box).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorNeeded(
            f"the audit's anchor cannot be read ({error.strerror})",
            hint=f"check the permissions of {path(box)}",
        ) from error
    return unsealed(box, found)[1]


def sealed(box: Box, witness: audit.Witness, now: datetime) -> bytes:
    """An anchor as it is kept, here or elsewhere."""
    text = json.dumps({"at_utc": now.isoformat(), "witness": str(witness)})
    return box.root.seal(text.encode(), _CONTEXT)


def unsealed(box: Box, data: bytes) -> tuple[datetime, audit.Witness]:
    """When an anchor was made, and what of. Raises `Corrupt` if it isn't what was written."""
    try:
        values = json.loads(box.root.unseal(data, _CONTEXT))
        return datetime.fromisoformat(values["at_utc"]), audit.Witness.parse(values["witness"])
    except (ValueError, KeyError, TypeError, Refused) as error:
        raise Corrupt("the audit's anchor is not what was written") from error


def write(box: Box, now: datetime) -> None:
    """Anchor the chain as it is now. Call it only when `verify` finds nothing."""
    with box.catalog.reading() as conn:
        witness = audit.witness(conn)
    final = path(box)
    part = final.with_name(f".{final.name}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(sealed(box, witness, now))
            file.flush()
            os.fsync(file.fileno())
        part.replace(final)
        folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OutOfResources(f"the audit's anchor cannot be written ({error.strerror})") from error


def verify(box: Box) -> Sequence[audit.Finding]:
    """Everything wrong with the audit, the anchor included; empty when nothing is."""
    witness = read(box)
    with box.catalog.reading() as conn:
        return audit.verify(conn, box.audit_key, witness)
