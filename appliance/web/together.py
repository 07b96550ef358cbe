"""What many requests write at once, written together: whoever comes first writes for all who wait meanwhile.

What is seen leaves a row in the audit before it is shown, and a session its last use; each would cost the catalog's one
write lock and one sync of the disk. When fifty people open a list at once, that is a hundred turns at the lock by which
images arrive. So each waits in a line; the first of the line takes the whole of it into one transaction, and everybody goes
on once that is committed, or is told that it was not. Nobody's answer leaves before its own row is on the disk. Rejected:
to write behind the answer, which a power cut would lose; a thread that gathers for some milliseconds, which makes everybody
wait for nobody.

For what stands alone. What changes something writes its row of the audit in the transaction that changes it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from appliance.catalog.errors import PASSES, Unanswered
from appliance.errors import ApplianceError

T = TypeVar("T")


class _Waiting(Generic[T]):
    """One in the line; `error` is why it is not written, None once it is committed.

    `called` is set when it goes on: committed, refused, or to write for all, which `leads` says.
    """

    __slots__ = ("called", "entry", "error", "leads")

    def __init__(self, entry: T, *, leads: bool) -> None:
        self.entry = entry
        self.called = threading.Event()
        self.error: Exception | None = Unanswered("the catalog is busy", hint=PASSES)
        self.leads = leads


class Together(Generic[T]):
    """The line. `write` writes entries, in order, in a transaction of their own."""

    def __init__(self, write: Callable[[Sequence[T]], None]) -> None:
        self._write = write
        self._line: list[_Waiting[T]] = []
        self._is_led = False
        self._lock = threading.Lock()

    def append(self, entry: T) -> None:
        """Return when it is committed. Raises what writing it raised."""
        with self._lock:
            mine = _Waiting(entry, leads=not self._is_led)
            self._line.append(mine)
            self._is_led = True
        if not mine.leads:
            mine.called.wait()
        if mine.leads:
            self._lead()
        if mine.error is not None:
            raise mine.error

    def _lead(self) -> None:
        """Write for all who wait, and let the first of those who came meanwhile write next."""
        with self._lock:
            line, self._line = self._line, []
        try:
            self._write_all(line)
        finally:
            for each in line:
                each.called.set()
            with self._lock:
                self._is_led = bool(self._line)
                if self._line:
                    self._line[0].leads = True
                    self._line[0].called.set()

    def _write_all(self, line: Sequence[_Waiting[T]]) -> None:
        try:
            self._write([each.entry for each in line])
        except Exception as error:  # noqa: BLE001 - raised by everybody whom it concerns
            if len(line) > 1 and not isinstance(error, ApplianceError):
                for each in line:  # a mistake in one of them: the others go on
                    self._write_all([each])
                return
            for each in line:
                each.error = error
        else:
            for each in line:
                each.error = None
