"""The deep examination: a tiny object of our own is sealed, written, synced, read back and decrypted, and the catalog is
written to and asked. Nothing of it stays but one setting.

Bounded: 64 KiB, one transaction. Asked again within `AGAIN_SECONDS`, it gives the answer that it gave, so that nobody
can make the disk work by asking.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from appliance.box import Box
from appliance.catalog import settings, totals
from appliance.errors import ApplianceError, Corrupt
from appliance.store import envelope
from appliance.store.objects import new_object_id

AGAIN_SECONDS = 10.0
OBJECT_BYTES = 64 * 1024
EXAMINED = "health.deep"
WHO = "examination"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `cause` is why it failed, empty if it didn't."""

    name: str
    seconds: float
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """What came of it."""

    at_utc: datetime
    steps: tuple[Step, ...]

    @property
    def is_sound(self) -> bool:
        return not any(step.cause for step in self.steps)


class Examiner:
    """Examines one box, at most so often. Safe to share between threads: they wait for one another."""

    def __init__(self, box: Box, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._box = box
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: tuple[float, Examination] | None = None

    def examine(self, now: datetime) -> Examination:
        """The examination of now, or that of a moment ago."""
        with self._lock:
            moment = self._monotonic()
            if self._last is not None and moment - self._last[0] < AGAIN_SECONDS:
                return self._last[1]
            steps = (self._step("store", self._object), self._step("catalog", lambda: self._catalog(now)))
            made = Examination(now, steps)
            self._last = (moment, made)
            return made

    def _step(self, name: str, act: Callable[[], None]) -> Step:
        began = self._monotonic()
        cause = ""
        try:
            act()
        except ApplianceError as error:
            cause = error.message
        except OSError as error:
            cause = error.strerror or type(error).__name__
        return Step(name, self._monotonic() - began, cause)

    def _object(self) -> None:
        """Seal, write, sync, read, decrypt, compare; then leave nothing behind."""
        self._box.guard.admit(OBJECT_BYTES)
        object_id, key, wrote = new_object_id(), secrets.token_bytes(32), secrets.token_bytes(OBJECT_BYTES)
        sealer = envelope.Sealer(key, object_id.encode("ascii"))
        sealed = bytearray(envelope.sealed_size(len(wrote)))
        sealed[: envelope.HEADER_BYTES] = sealer.header
        sealer.seal_into(wrote, memoryview(sealed)[envelope.HEADER_BYTES :], last=True)
        writer = self._box.objects.create(object_id, WHO, past_cache=False)
        try:
            writer.write([sealed])
            writer.secure(b"")
            with writer.open_part(key) as reader:
                if reader.read() != wrote:
                    raise Corrupt("what was read back is not what was written")
        finally:
            writer.abandon()

    def _catalog(self, now: datetime) -> None:
        """Write, and ask what the figures are made of."""
        with self._box.catalog.transaction() as tx:
            settings.put(tx, EXAMINED, {"at_utc": now.isoformat()}, now)
        with self._box.catalog.reading() as conn:
            totals.totals(conn)
            if settings.get(conn, EXAMINED) != {"at_utc": now.isoformat()}:
                raise Corrupt("what the catalog holds is not what was written")
