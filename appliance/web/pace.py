"""How often one may ask for something that costs. In memory, bounded, by the monotonic clock."""

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
        return self.wait(key, moment) <= 0

    def wait(self, key: str, moment: float | None = None) -> float:
        """In how many seconds `key` may ask; 0 for now, and then it has."""
        now = time.monotonic() if moment is None else moment
        with self._lock:
            asked = self._asked.setdefault(key, deque())
            self._asked.move_to_end(key)
            while asked and now - asked[0] >= self._seconds:
                asked.popleft()
            if len(asked) >= self._most:
                return self._seconds - (now - asked[0])
            asked.append(now)
            while len(self._asked) > _REMEMBERED:
                self._asked.popitem(last=False)
            return 0.0
