"""Who may come in: devices by AE title and address together, and a note of everyone else.

A caller is looked up at every association, so that admitting a device, or removing one, holds at once; the answer is
kept for a second, so that a device which opens an association for each image does not cost a query each. Calls are
noted apart, by whoever has the time, because no association may wait for the catalog's write lock; and once a minute
for each caller, or anybody on the LAN could fill the catalog and its audit.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from appliance import audit
from appliance.audit import Entry
from appliance.box import Box
from appliance.catalog import Transaction, devices
from appliance.ingest import rehearsal
from appliance.model import AETitle

REMEMBERED_SECONDS: Final = 1.0
WRITTEN_EVERY_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 4096
_MOST_WRITTEN_A_MINUTE: Final = 60

_Caller = tuple[AETitle, str]


def plain_address(address: str) -> str:
    """`address` as devices are listed by: IPv4 where it is IPv4 mapped into IPv6, no zone, shortest form."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


class Door:
    """The list of devices, as one process sees it. Safe to share between threads."""

    def __init__(self, box: Box, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._box = box
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[_Caller, tuple[float, bool]] = {}
        self._noted: dict[tuple[_Caller, bool], float] = {}
        self._notes: list[tuple[_Caller, bool]] = []
        self._refusals: dict[tuple[_Caller, int], float] = {}
        self._unwritten: list[tuple[_Caller, int]] = []

    def rehearses(self, calling: AETitle, address: str) -> bool:
        """Whether it is the box itself that calls, to see whether images would be received."""
        return rehearsal.calls(self._box, calling, plain_address(address))

    def admits(self, calling: AETitle, address: str) -> bool:
        """Whether `calling` at `address` is an admitted device, or the box itself. Raises `Transient` if the catalog is busy."""
        if self.rehearses(calling, address):
            return True
        caller = (calling, plain_address(address))
        now = self._monotonic()
        with self._lock:
            asked, known = self._known.get(caller, (-REMEMBERED_SECONDS, False))
        if now - asked >= REMEMBERED_SECONDS:
            with self._box.catalog.reading() as reading:
                known = devices.is_known(reading, *caller)
            with self._lock:
                if len(self._known) >= _MOST_REMEMBERED:
                    self._known.clear()
                self._known[caller] = (now, known)
        self._note(caller, now, known=known)
        return known

    def _note(self, caller: _Caller, now: float, *, known: bool) -> None:
        """Remember the call for `write_notes`: the first of a caller in a minute, and not one of too many callers."""
        with self._lock:
            if now - self._noted.get((caller, known), -WRITTEN_EVERY_SECONDS) < WRITTEN_EVERY_SECONDS:
                return
            self._noted = {each: at for each, at in self._noted.items() if now - at < WRITTEN_EVERY_SECONDS}
            if len(self._noted) < _MOST_WRITTEN_A_MINUTE:
                self._noted[caller, known] = now
                self._notes.append((caller, known))

    def note_refusal(self, calling: AETitle, address: str, code: int) -> None:
        """Remember for `write_notes` that a device was answered with `code`: the first of that kind in a minute."""
        if self.rehearses(calling, address):
            return  # the examination says it
        now, key = self._monotonic(), ((calling, plain_address(address)), code)
        with self._lock:
            if now - self._refusals.get(key, -WRITTEN_EVERY_SECONDS) < WRITTEN_EVERY_SECONDS:
                return
            if len(self._refusals) >= _MOST_REMEMBERED:
                self._refusals.clear()
            self._refusals[key] = now
            self._unwritten.append(key)

    def has_notes(self) -> bool:
        """Whether there is anything for `write_notes` to write."""
        return bool(self._notes or self._unwritten)

    def write_notes(self, tx: Transaction, now: datetime) -> None:
        """Write who called since the last time."""
        with self._lock:
            notes, self._notes = self._notes, []
            refusals, self._unwritten = self._unwritten, []
        for (calling, address), known in notes:
            if known:
                devices.device_seen(tx, calling, address, now)
                continue
            devices.seen_at_door(tx, calling, address, now)
            entry = Entry("door:knock", f"device:{calling}", f"dicom:{calling}", address=address)
            audit.append(tx, self._box.audit_key, [entry], now)
        entries = [
            Entry(
                "instance:refuse",
                f"device:{calling}",
                f"dicom:{calling}",
                {"status": f"0x{code:04X}"},
                address=address,
            )
            for (calling, address), code in refusals
        ]
        audit.append(tx, self._box.audit_key, entries, now)
