"""Which archives are left alone for the rest of a run, by whoever recalls many images.

One that does not answer costs ten seconds an image, and a password that is wrong a failed login each, until the account is locked. A disk that has
not given back several images has more wrong with it than a sector, and each attempt costs what is left of it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from appliance.errors import ApplianceError, OutOfResources, Resting, Transient, Unreadable
from appliance.model import DestinationId, DestinationSettings

MOST_UNREAD: Final = 3
"""So many images a disk may fail to give back in a run; with the next it is silent."""


class Silence:
    """The archives that a run leaves alone."""

    def __init__(self) -> None:
        self._silent: dict[DestinationId, ApplianceError] = {}
        self._unread: Counter[DestinationId] = Counter()

    def of(self, place: DestinationSettings) -> ApplianceError | None:
        """Why an archive is left alone; None if it is not."""
        return self._silent.get(place.id)

    def heard(self, place: DestinationSettings, error: ApplianceError) -> ApplianceError:
        """Take note of what an archive has answered instead of an image; what is to be said of the image, which of a disk that is
        silent from now on is `Transient`."""
        if isinstance(error, Unreadable):
            self._unread[place.id] += 1
            if self._unread[place.id] > MOST_UNREAD:
                error = Transient(f"{place.name} does not give back several images: {error.message}")
                self._silent[place.id] = error
        elif not isinstance(error, (OutOfResources, Resting)):  # which say nothing of the archive
            self._silent[place.id] = Transient(f"{place.name} is left alone for now: {error.message}")
        return error
