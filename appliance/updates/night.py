"""Whether the night's restart, which starts the version that waits, may take place now. Pure.

The image's timer looks `TRIES_A_NIGHT` times a night and is put off while the box is in use, or while its clock is in doubt: what it
takes for half past four may be noon. It is not put off for ever. A box that is busy every night gets no security update otherwise,
and a restart loses nothing: what is coming in may finish, and whoever sends or is sent to begins again with the rest.

Chose to count how often a version was put off; because a count of nights is read off the very clock that may be in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

TRIES_A_NIGHT = 9
"""Every ten minutes from half past four on (`update-restart.timer`)."""

PATIENT_TRIES = 7 * TRIES_A_NIGHT
"""So often anything holds it; after that only a machine that is sending."""

MOST_TRIES = 14 * TRIES_A_NIGHT
"""So often a machine that is sending holds it; after that nothing does. The image's `update-restart-condition` knows it too, for a box
whose appliance can't say anything any more."""


class Hold(StrEnum):
    """What the restart waits for, the most pressing first."""

    RECEIVING = "receiving"
    DELIVERING = "delivering"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Doing:
    """What the box does at this moment: associations that are open or images that have just come, deliveries under way, and whether
    its clock is in doubt."""

    receives: bool = False
    delivers: bool = False
    doubts_clock: bool = False

    @property
    def hold(self) -> Hold | None:
        """The most pressing reason to wait, if there is one."""
        if self.receives:
            return Hold.RECEIVING
        if self.delivers:
            return Hold.DELIVERING
        return Hold.CLOCK if self.doubts_clock else None


def hold(doing: Doing, put_off: int) -> Hold | None:
    """Why the restart waits once more, having been put off so often for this version; None if it may take place."""
    if put_off >= MOST_TRIES:
        return None
    found = doing.hold
    return found if put_off < PATIENT_TRIES or found is Hold.RECEIVING else None
