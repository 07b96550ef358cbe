"""The PIN that the box's own disk asks for at each start, if the clinic wants that: asked for here, set by root.

By itself the TPM2 opens the disk for whoever switches the box on. That shuts a stolen disk, and not a stolen box; a PIN shuts
both, at the price of a person with a keyboard at each start. The appliance may not touch the disk. What it wants it lays into
a folder of its own that lies in memory (`FOLDER`), as `ASKED`:

====  =======================================================================
line  what
====  =======================================================================
1     the number of the attempt: 16 hexadecimal digits, drawn for it
2     ``choose`` or ``remove``
3     the disk's recovery key, as systemd writes it; empty for ``remove``
4     the PIN; empty for ``remove``
====  =======================================================================

The image's `disk-pin.path` waits for that file; its `disk-pin` removes it before anything else, changes the disk, and says in
`TOLD` what is: a word of `State` on the first line, then the number of the latest attempt and a word of `Ended`. The image lays
another word there before that: a disk of which nothing is known is held to ask for somebody (`wants_somebody`).

Chose to ask for the disk's recovery key with each PIN, and to let root compare it: a forgotten PIN is then never the end of a disk.
Chose digits: at a start keyboards are American, whatever is printed on their keys, and the digits above the letters are where they
are on nearly all. Rejected: the console's password, which is no PIN; and a socket, since a file in memory is gone with its reading too.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from appliance import audit
from appliance.audit import Entry, Outcome
from appliance.box import Box
from appliance.catalog import settings
from appliance.errors import OperatorNeeded, Refused
from appliance.system import DISK_TOLD

FOLDER = Path("/run/appliance-pin")
TOLD = DISK_TOLD
ASKED: Final = "asked"
LOCK: Final = "lock"
"""Held by whoever is laying `ASKED`, in the console or on the command line."""
FEWEST, MOST = 6, 12
"""Digits of a PIN. The TPM2 counts wrong ones and shuts for a while, so that six are enough; `disk-pin` holds both, too."""

KEPT: Final = "disk.pin"
SUBJECT: Final = "disk"
ACTOR: Final = "jobs"

_IN_ORDER: Final = "01234567890", "09876543210"
_LETTERS: Final = re.compile(r"[bcdefghijklnrtuv]{64}", re.ASCII)
_ATTEMPT: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)


class State(StrEnum):
    """What the disk wants at a start."""

    NONE = "none"
    WANTED = "wanted"
    UNFINISHED = "unfinished"
    """A change was cut: what opened the disk before still does, beside what was chosen."""


class Ended(StrEnum):
    """What became of an attempt."""

    RUNNING = "running"
    DONE = "done"
    KEY = "key"
    """What was typed is not the disk's recovery key."""
    CHIP = "chip"
    """The TPM2 or the disk did not take it."""
    REFUSED = "refused"
    """Root did not understand what was asked, or has no recovery key of the disk."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What root says: `attempt` is empty and `ended` None before anything was asked at this start."""

    state: State
    attempt: str = ""
    ended: Ended | None = None

    @property
    def wants_somebody(self) -> bool:
        """Whether nobody may let the box start who isn't there to type a PIN."""
        return self.state is not State.NONE


def seen() -> Seen | None:
    """What root says of the disk; None on a machine that has no such disk, and before it has been said at this start."""
    try:
        first, _, second = TOLD.read_text("ascii").partition("\n")
        state = State(first.strip())
    except (OSError, ValueError):
        return None
    attempt, _, word = second.strip().partition(" ")
    if not _ATTEMPT.fullmatch(attempt) or word not in tuple(Ended):
        return Seen(state)
    return Seen(state, attempt, Ended(word))


def wants_somebody() -> bool:
    """Whether nobody may let the box start who isn't there to type something.

    So it is, too, while the image has not said it at this start, or can't: without its TPM2 the disk asks for its recovery key.
    """
    found = seen()
    return TOLD.exists() if found is None else found.wants_somebody


def is_under_way(found: Seen | None) -> bool:
    """Whether something that was asked for has not come to its end yet."""
    return (FOLDER / ASKED).exists() or (found is not None and found.ended is Ended.RUNNING)


def checked(pin: str) -> str:
    """The PIN, if it is one. Raises `Refused`."""
    hint = f"choose {FEWEST} to {MOST} digits that are neither all the same nor a run"
    if not re.fullmatch(rf"[0-9]{{{FEWEST},{MOST}}}", pin, re.ASCII):
        raise Refused("that is no PIN", hint=hint, field="pin")
    if len(set(pin)) == 1 or any(pin in each for each in _IN_ORDER):
        raise Refused("that PIN is among the first that anybody tries", hint=hint, field="pin")
    return pin


def recovery_key(typed: str) -> str:
    """The disk's recovery key as systemd writes it, of what somebody has typed with or without dashes. Raises `Refused`."""
    letters = re.sub(r"[\s\-–—]+", "", typed).lower()
    if not _LETTERS.fullmatch(letters):
        raise Refused(
            "that is no recovery key of a disk",
            hint="it is eight groups of eight letters, which the box's screen showed until the box had an owner",
            field="disk_key",
        )
    return "-".join(letters[at : at + 8] for at in range(0, 64, 8))


def choose(box: Box, entry: Entry, pin: str, typed_key: str, now: datetime) -> None:
    """Ask that the disk wants `pin` from the next start on; `entry` says in the audit who asks.

    Raises `Refused` for what is no PIN or no recovery key, and as `remove`.
    """
    _ask(box, entry, ("choose", recovery_key(typed_key), checked(pin)), now)


def remove(box: Box, entry: Entry, now: datetime) -> None:
    """Ask that the disk opens by this machine's TPM2 alone again.

    Raises `Refused` on a machine without such a disk and while another change is under way, `OperatorNeeded` if it can't be asked for.
    """
    _ask(box, entry, ("remove", "", ""), now)


def _ask(box: Box, entry: Entry, lines: tuple[str, ...], now: datetime) -> None:
    if seen() is None:
        raise Refused(
            "this machine has no disk that could ask for a PIN",
            hint="the box's own image has one, on a machine with a TPM2",
        )
    try:
        with _alone():
            _lay(box, entry, lines, now)
    except OSError as error:
        box.record([replace(entry, outcome=Outcome.FAILED)], now)
        raise OperatorNeeded(
            f"the disk cannot be asked ({error.strerror})", hint="try again; if it stays, call support"
        ) from error


@contextmanager
def _alone() -> Iterator[None]:
    """For as long as this lasts nobody else asks. Raises `Refused` while somebody does or a change is under way, `OSError`."""
    lock = os.open(FOLDER / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = not is_under_way(seen())
        except BlockingIOError:
            is_free = False
        if not is_free:
            raise Refused("the PIN is just being changed", hint="wait until this page says that it is done")
        yield
    finally:
        os.close(lock)


def _lay(box: Box, entry: Entry, lines: tuple[str, ...], now: datetime) -> None:
    """Write what is asked for, put it on record, and only then let root see it. Raises `OSError`.

    Where it cannot be written nothing is said to have been asked; and nothing that root does was asked for by nobody.
    """
    new = FOLDER / f"{ASKED}.new"
    new.unlink(missing_ok=True)
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write("\n".join((secrets.token_hex(8), *lines, "")))
        box.record([entry], now)
        new.rename(FOLDER / ASKED)
    finally:
        new.unlink(missing_ok=True)


def note(box: Box, now: datetime) -> None:
    """Put on record what root has done since the last look; the duty of the jobs process."""
    found = seen()
    if found is None or found.ended is Ended.RUNNING:
        return
    now_kept = {"state": str(found.state), "attempt": found.attempt}
    with box.catalog.transaction() as tx:
        kept = settings.get(tx, KEPT, None)
        if kept == now_kept:
            return
        settings.put(tx, KEPT, now_kept, now)
        was = kept["state"] if kept else State.NONE
        is_news = bool(found.attempt) and (not kept or kept["attempt"] != found.attempt)
        if found.state == was and not is_news:
            return
        failed = is_news and found.ended is not Ended.DONE
        details = {"state": str(found.state)} | ({"why": str(found.ended)} if failed else {})
        outcome = Outcome.FAILED if failed else Outcome.DONE
        audit.append(tx, box.audit_key, [Entry("pin:change", SUBJECT, ACTOR, details, outcome=outcome)], now)
