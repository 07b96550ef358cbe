"""Forms that wait until their sender has said who it is. In memory, for their session and once, and never shown."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from werkzeug.datastructures import ImmutableMultiDict

MOST = 256


@dataclass(frozen=True, slots=True)
class Held:
    """What was asked for, by which method, where, and with which form, in the session of that id."""

    session: str
    method: str
    path: str
    form: ImmutableMultiDict[str, str]


class HeldForms:
    """The oldest is dropped first when there are too many."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, held: Held) -> str:
        """Hold a form; returns its ticket."""
        ticket = secrets.token_urlsafe(18)
        with self._lock:
            self._held[ticket] = held
            while len(self._held) > MOST:
                self._held.popitem(last=False)
        return ticket

    def find(self, ticket: str, session: str) -> Held | None:
        """What waits under that ticket, if it is of that session."""
        with self._lock:
            held = self._held.get(ticket)
        return held if held is not None and held.session == session else None

    def drop(self, ticket: str) -> None:
        """Let go of a form: its act goes on, once."""
        with self._lock:
            self._held.pop(ticket, None)

    def __repr__(self) -> str:
        return "<HeldForms>"
