"""An instance on its way from sealed to recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.box import Box
from appliance.errors import Unknown
from appliance.ingest import records
from appliance.model import ObjectId, Received
from appliance.store.intake_log import Slot
from appliance.store.objects import SealedReader

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Awaiting:
    """A received instance that has no row yet, and where it is until then.

    `slot` is its record in an intake log, if it came by one; with a body there, it has no file yet. `part_of` says
    whose part its file is, if it has not got its name yet. `instead_of` is the object that it takes the place of, if
    it was sealed anew.
    """

    received: Received
    slot: Slot | None = None
    part_of: str = ""
    instead_of: ObjectId | None = None

    @property
    def body(self) -> Slot | None:
        """Where in a log the ciphertext is, if it has no file."""
        return self.slot if self.slot is not None and self.slot.length else None

    def open(self, box: Box) -> SealedReader:
        """The Part 10 file inside; `Unknown` if the ciphertext is not there."""
        stored, header = self.received.stored, self.received.header
        key = box.study_keys.opened(stored.key_id, header.study_instance_uid, stored.wrapped_key)
        if self.body is not None:
            return self.body.open(stored.object_id, key)
        if self.part_of:
            try:
                return box.objects.open_part(stored.object_id, self.part_of, key)
            except Unknown:
                pass  # it has its name by now
        return box.objects.open(stored.object_id, key)


def recorded_parts(box: Box, worker: str) -> Iterator[Awaiting]:
    """The parts of `worker` that carry a record of this box: acknowledged and not settled, unless a crash cut one short."""
    key = AESGCM(box.intake_key)
    for object_id, sealed in box.objects.recorded_parts(worker):
        try:
            record = key.decrypt(sealed[:12], sealed[12:], object_id.encode("ascii"))
        except InvalidTag:
            log.error("a part carries a record that is not ours: left where it is")
            continue
        yield Awaiting(records.decode(record), part_of=worker)
