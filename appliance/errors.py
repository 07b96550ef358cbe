"""Every error the appliance raises on purpose, sorted by one question: who acts next?

::

    ApplianceError
    ├── Refused              the sender: do not send this again unchanged
    │   ├── NotUnderstood    ... the bytes are not what they claim to be
    │   ├── Mismatch         ... the data set is not of the SOP class it was announced as
    │   ├── NotAuthorised    ... this peer or person may not do this
    │   └── Unknown          ... there is nothing by that name
    ├── Transient            the machine: try again later, nothing was kept
    │   ├── OutOfResources   ... when there is space again
    │   ├── Unreadable       ... or never: a disk does not give back what was written there
    │   └── Resting          ... when it has been fetched from deep archive, in hours
    │       └── NotAskedFor  ... which it could not be asked for; the hint says what that needs
    ├── Corrupt              stop, quarantine, alert: bytes at rest are not what was written
    └── OperatorNeeded       a person; the hint says what to do, and is mandatory
        └── SealedElsewhere  ... whoever has the recovery key: this machine can't open the root key

Foreign exceptions are translated into these in the adapter that met them (``raise ... from``), and these are
translated outward in three tables only: DIMSE status (`appliance.dicom.status`), HTTP status
(`appliance.web.problems`) and exit code (here). They are logged once, at the edge. A message never carries patient
data or a secret: it may end up in a journal.
"""

from __future__ import annotations


class ApplianceError(Exception):
    """An error with a cause and, where one is known, a remedy.

    `message` says what went wrong in one clause; `hint` what to do about it. `str()` joins them on one line. `field`
    names the value that is wrong, where it is one: a form points at it.
    """

    exit_code = 70  # EX_SOFTWARE, sysexits(3)

    def __init__(self, message: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field

    def __str__(self) -> str:
        return f"{self.message} — {self.hint}" if self.hint else self.message


class Refused(ApplianceError):
    """What was asked is wrong and will stay wrong: the sender must change it."""

    exit_code = 65  # EX_DATAERR


class NotUnderstood(Refused):
    """The bytes cannot be read as what they claim to be (PS3.4 B.2.3: C000)."""


class Mismatch(Refused):
    """The data set does not match the SOP class or instance it was announced as (PS3.4 B.2.3: A900)."""


class NotAuthorised(Refused):
    """This peer or person may not do this (PS3.7 C.4.2: 0124)."""

    exit_code = 77  # EX_NOPERM


class Unknown(Refused):
    """There is nothing by that name here."""

    exit_code = 66  # EX_NOINPUT


class Transient(ApplianceError):
    """It may well work later: the machine retries, and nothing was kept of this attempt."""

    exit_code = 75  # EX_TEMPFAIL


class OutOfResources(Transient):
    """No space, no inodes, or too much at once (PS3.4 B.2.3: A700)."""


class Unreadable(Transient):
    """A disk does not give back bytes that it holds, as where a sector dies. Reading again may help; who has a copy need not wait."""


class Resting(Transient):
    """It lies in deep archive, whole: it has to be asked for, and can be read `wait_hours` later at the latest."""

    def __init__(self, message: str, *, wait_hours: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.wait_hours = wait_hours


class NotAskedFor(Resting):
    """It lies in deep archive, and could not be asked for: the hours begin when it is."""


class Corrupt(ApplianceError):
    """Bytes at rest are not the bytes that were written: stop, quarantine, alert; never retry into success."""

    exit_code = 76  # EX_PROTOCOL: the nearest of sysexits(3)


class OperatorNeeded(ApplianceError):
    """Only a person can mend this; the hint tells them how."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, message: str, *, hint: str, field: str = "") -> None:
        super().__init__(message, hint=hint, field=field)


class SealedElsewhere(OperatorNeeded):
    """This machine can't open the root key any more, and the recovery key can: nothing is lost, and nothing is open."""
