"""One data folder, another box: a restored box takes the place of the blank one in which it was prepared.

A running process holds the catalog open, so no file can be exchanged under it. The restored box is therefore prepared whole
in a folder beside the blank one's files, and *announced* by one rename. From then on every process that sees the
announcement comes to its end (exit code 75: try again), whoever keeps the processes up starts them again, and the first of
them that finds nobody else in the folder makes the exchange before it opens anything. `appliance run` does that for its
children; under systemd each unit has ``Restart=always`` and `RESTART_CODE` needs no line of its own.

======================  ======================================  ==========================================
in the data folder      means                                   whoever opens the folder next
======================  ======================================  ==========================================
``arriving/``           being prepared                          opens the box that there is
``incoming/``           announced                               moves the old box into ``replaced/``,
                                                                then names it ``entering/``
``entering/``           the old one is out                      moves each file to its place
``replaced/`` alone     done                                    removes it
======================  ======================================  ==========================================

Every line begins with one rename that is synced, and what follows may be done again: a power cut leaves the blank box, or
one that becomes the restored one the next time it is opened.

Chose a lock that every opened box holds together (``.occupied``, shared) over counting processes, because the kernel lets
go of it however a process dies. Rejected: exchanging one symbolic link (the data folder is a mount point, and its files
are known by name), and telling the processes to open their catalogs anew (each of a hundred places would have to forget the old
one, and an image acknowledged by one that forgot to is lost).

An old box that turns out not to be blank, because an image came to it after all, is never moved: the restored one waits.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import Transient
from appliance.store.disk import Disk, disk_error

log = logging.getLogger(__name__)

RESTART_CODE: Final = Transient.exit_code
"""What a process ends with to be started again in the restored box."""

ARRIVING: Final = "arriving"
INCOMING: Final = "incoming"
_ENTERING: Final = "entering"
_REPLACED: Final = "replaced"
_OCCUPIED: Final = ".occupied"
_OF_A_BOX: Final = (
    "keys",
    "catalog.db*",
    "objects",
    "intake",
    "audit.anchor",
    "backups",
    "restoring",
    "tls",
    ".setup-*.lock",
)
"""What of a data folder belongs to the box in it, and goes with it."""


@dataclass(slots=True)
class Occupancy:
    """A box is open here. `release` it, or leave it to the end of the process."""

    _descriptor: int

    def release(self) -> None:
        """The box is closed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_announced(data: Path) -> bool:
    """Whether a restored box is to take the place of the one in `data`: whoever works on that must come to an end."""
    return (data / INCOMING).exists() or (data / _ENTERING).exists()


def announce(data: Path, disk: Disk) -> None:
    """The box prepared in ``arriving/`` is whole: from now on it is to take the place of the one in `data`.

    Raises `Transient` when the disk fails; then it is announced or it isn't, and `is_announced` says which.
    """
    try:
        if (data / _REPLACED).exists():  # of an earlier exchange; what is in it later must be of this one
            shutil.rmtree(data / _REPLACED)
        disk.sync_directory(data / ARRIVING)
        disk.rename(data / ARRIVING, data / INCOMING)
        disk.sync_directory(data)
    except OSError as error:
        raise disk_error(error, "announcing the restored box") from error


def occupy(data: Path, disk: Disk) -> Occupancy:
    """Be one of those who have the box in `data` open, once a box that was announced has taken its place there.

    Call it while holding the lock under which the folder is opened. Raises `Transient` when somebody still has the old
    box open, or the disk fails.
    """
    try:
        descriptor = os.open(data / _OCCUPIED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_error(error, "opening the data folder") from error
    try:
        if is_announced(data):
            with _nobody_else(descriptor):
                _exchange(data, disk)
        _remove_replaced(data)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError as error:
        os.close(descriptor)
        raise disk_error(error, "putting the restored box in its place") from error
    except BaseException:
        os.close(descriptor)
        raise
    return Occupancy(descriptor)


@contextmanager
def _nobody_else(descriptor: int) -> Iterator[None]:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Transient(
            "a restored box is taking the place of this one", hint="wait until every process has started anew"
        ) from error
    yield


def _exchange(data: Path, disk: Disk) -> None:
    incoming, entering, replaced = data / INCOMING, data / _ENTERING, data / _REPLACED
    if incoming.exists():
        if any(True for _ in (data / "objects").glob("??/*")) and not replaced.exists():
            log.error("an image came while a backup was restored: the box is not blank, and stays")
            disk.rename(incoming, data / ARRIVING)
            disk.sync_directory(data)
            return
        replaced.mkdir(mode=0o700, exist_ok=True)
        for path in _belongings(data):
            if path.is_dir() and _is_within(path, replaced / path.name):
                shutil.rmtree(path)  # moved before a power cut that has forgotten from where
                continue
            disk.rename(path, replaced / path.name)
        disk.sync_directory(replaced)
        disk.sync_directory(data)
        disk.rename(incoming, entering)
        disk.sync_directory(data)
    for path in sorted(entering.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and _is_within(path, data / path.name):
            continue  # moved before a power cut that has forgotten from where
        disk.rename(path, data / path.name)
    disk.sync_directory(data)
    shutil.rmtree(entering)
    disk.sync_directory(data)
    log.info("the restored box has taken its place")


def _is_within(folder: Path, other: Path) -> bool:
    """Whether all that is below a folder is below another one too: its folders by name, its files with the same bytes."""
    return other.is_dir() and all(
        _is_same(each, other / each.relative_to(folder)) for each in folder.rglob("*")
    )


def _is_same(path: Path, other: Path) -> bool:
    if path.is_dir():
        return other.is_dir()
    return other.is_file() and other.read_bytes() == path.read_bytes()


def _belongings(data: Path) -> list[Path]:
    return sorted(path for pattern in _OF_A_BOX for path in data.glob(pattern))


def _remove_replaced(data: Path) -> None:
    """The blank box that was here is not needed any more; what can't be removed now is removed another time."""
    try:
        shutil.rmtree(data / _REPLACED)
    except OSError as error:
        if error.errno != errno.ENOENT:
            log.warning("what is left of the replaced box cannot be removed: %s", error.strerror)
