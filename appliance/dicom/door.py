"""Who may come in: devices by AE title and address together, and a note of everyone else.

A caller is looked up at every association, so that admitting a device, or removing one, holds at once; the answer is
kept for a second, so that a device which opens an association for each image does not cost a query each. Writing is
rationed: once a minute for a caller, whoever it is, or anybody on the LAN could fill the catalog and its audit.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from appliance import audit
from appliance.audit import Entry
from appliance.box import Box
from appliance.catalog import devices
from appliance.errors import Transient
from appliance.model import AETitle

log = logging.getLogger(__name__)

REMEMBERED_SECONDS: Final = 1.0
WRITTEN_EVERY_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 4096
_MOST_WRITTEN_A_MINUTE: Final = 60


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
        self._known: dict[tuple[AETitle, str], tuple[float, bool]] = {}
        self._written: dict[tuple[AETitle, str], float] = {}

    def admits(self, calling: AETitle, address: str) -> bool:
        """Whether `calling` at `address` is an admitted device. Raises `Transient` if the catalog is busy."""
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
        if self._may_write(caller, now):
            self._write(caller, known=known)
        return known

    def _may_write(self, caller: tuple[AETitle, str], now: float) -> bool:
        """Whether this call is to be noted: the first of a caller in a minute, and not one of too many callers."""
        with self._lock:
            if now - self._written.get(caller, -WRITTEN_EVERY_SECONDS) < WRITTEN_EVERY_SECONDS:
                return False
            self._written = {
                each: at for each, at in self._written.items() if now - at < WRITTEN_EVERY_SECONDS
            }
            if len(self._written) >= _MOST_WRITTEN_A_MINUTE:
                return False
            self._written[caller] = now
            return True

    def _write(self, caller: tuple[AETitle, str], *, known: bool) -> None:
        """Note the call. What cannot be noted now changes nothing for the caller."""
        calling, address = caller
        now = datetime.now(UTC)
        try:
            with self._box.catalog.transaction() as tx:
                if known:
                    devices.device_seen(tx, calling, address, now)
                    return
                devices.seen_at_door(tx, calling, address, now)
                entry = Entry("door:knock", f"device:{calling}", f"dicom:{calling}", {"address": address})
                audit.append(tx, self._box.audit_key, [entry], now)
        except Transient as error:
            log.warning("a call was not noted: device=%s address=%s %s", calling, address, error.message)
