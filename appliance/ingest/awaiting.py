"""An instance on its way from sealed to recorded."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.box import Box
from appliance.errors import Unknown
from appliance.model import ObjectId, Received
from appliance.store.intake_log import Slot
from appliance.store.objects import SealedReader


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
