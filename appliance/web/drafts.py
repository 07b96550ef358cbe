"""Support files that wait to be looked at by whoever made them. In memory, for their session: one that is lost is made anew."""

from __future__ import annotations

import threading
from collections import OrderedDict

from appliance.fleet.bundle import Bundle

MOST = 4


class Drafts:
    """The latest of each session; the oldest is dropped first when there are too many."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Bundle] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, session: str, bundle: Bundle) -> None:
        """Keep a support file in place of the one before."""
        with self._lock:
            self._kept.pop(session, None)
            self._kept[session] = bundle
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)

    def find(self, session: str) -> Bundle | None:
        """The support file of that session."""
        with self._lock:
            return self._kept.get(session)
