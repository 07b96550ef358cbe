"""How often one may ask for what costs a write before anybody has said who they are. In memory, bounded, monotonic."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque

_REMEMBERED = 4096


class Pace:
    """At most `most` times in `seconds` for each key; the key unused the longest is forgotten first."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._asked: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def allows(self, key: str, moment: float | None = None) -> bool:
        """Whether `key` may ask now; if so, it has."""
        now = time.monotonic() if moment is None else moment
        with self._lock:
            asked = self._asked.setdefault(key, deque())
            self._asked.move_to_end(key)
            while asked and now - asked[0] >= self._seconds:
                asked.popleft()
            if len(asked) >= self._most:
                return False
            asked.append(now)
            while len(self._asked) > _REMEMBERED:
                self._asked.popitem(last=False)
            return True
