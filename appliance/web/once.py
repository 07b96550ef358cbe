"""What is shown once and kept nowhere: recovery codes and tokens, between the act that makes them and the next page."""

from __future__ import annotations

import threading
from collections import OrderedDict

MOST = 256


class ShownOnce:
    """Secrets waiting for the page of their session. In memory; what is lost is made anew."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, session: str, secrets: tuple[str, ...]) -> None:
        """Let the next page of `session` show `secrets`."""
        with self._lock:
            self._waiting[session] = secrets
            while len(self._waiting) > MOST:
                self._waiting.popitem(last=False)

    def has(self, session: str) -> bool:
        """Whether something waits for that session."""
        with self._lock:
            return session in self._waiting

    def take(self, session: str) -> tuple[str, ...]:
        """What waits, once."""
        with self._lock:
            return self._waiting.pop(session, ())

    def __repr__(self) -> str:
        return "<ShownOnce>"
