"""A consistent copy of the catalog while everybody works on it, and whether such a copy is whole.

By SQLite's backup interface, from within one reading transaction: the copy is the catalog as of one moment, writers go on
beside it, and nothing that they do makes the copying start again. The copy is encrypted under the same key; SQLCipher
draws new initialisation vectors for every page it writes, so two copies have no bytes in common, and nothing is to be gained from
comparing them: each copy is whole (`appliance.backup.snapshot` says why that is also what is sent).

Neither a copy nor what it is rewritten to is synced: it is read again at once and then removed, and after a crash nobody wants
it. To push it through the disk would only keep waiting whoever syncs an image.

A page keeps, in the space that no row uses, remains of rows that were deleted or moved long ago. Where a copy is to hold
nothing but what the catalog says, it is written anew, row by row (`rewrite`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlcipher3 import dbapi2 as sqlcipher

from appliance.catalog.database import Catalog, Reading
from appliance.catalog.errors import translated
from appliance.errors import Corrupt, Transient

T = TypeVar("T")

_PAGES = 256
"""A piece of the copy: a megabyte."""
_STEPS = 10_000
"""A piece of the rewriting, in steps of SQLite's machine: some milliseconds."""

Between = Callable[[], None]
"""Called between two pieces. It may take its time, so that whoever receives images doesn't feel this, and raise to stop."""


def copy(catalog: Catalog, path: Path, key: bytes, look: Callable[[Reading], T], between: Between) -> T:
    """Copy the catalog to the new file `path`, under a 32-byte `key`; what `look` found in it.

    `look` sees the very moment that is copied. Raises what the catalog and `between` raise; what there is of the copy then is
    the caller's to remove.
    """

    def rest(status: int, remaining: int, total: int) -> None:
        del status, remaining, total
        between()

    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with catalog.reading() as reading:
        reading.exec_driver_sql(
            "SELECT count(*) FROM sqlite_master"
        ).scalar()  # the moment, whatever `look` reads
        found = look(reading)
        source = reading.connection.driver_connection
        assert source is not None
        target = _open(path, key)
        try:
            source.backup(target, pages=_PAGES, progress=rest)
            target.execute("PRAGMA journal_mode = DELETE").fetchall()
        except sqlcipher.Error as error:
            raise translated(error) or error from error
        finally:
            target.close()
    return found


def rewrite(path: Path, key: bytes, target: Path, between: Between) -> None:
    """Write the copy at `path` anew to `target`: the same rows, and no remains of any other.

    Chose ``VACUUM INTO`` because its target is encrypted under the same key, where a plain ``VACUUM`` goes through a temporary
    file that isn't, or through as much memory as the catalog is large. Raises what the disk and `between` raise.
    """
    stopped: list[Exception] = []

    def go_on() -> int:
        """What is raised in here would get lost in SQLite: anything but 0 stops it."""
        try:
            between()
        except Exception as error:  # noqa: BLE001 - raised again, below
            stopped.append(error)
        return len(stopped)

    try:
        database = _open(path, key)
        try:
            database.set_progress_handler(go_on, _STEPS)
            database.execute("VACUUM INTO ?", (str(target),))
        finally:
            database.close()
    except sqlcipher.Error as error:
        if stopped:
            raise stopped[0] from error
        raise translated(error) or error from error
    target.chmod(0o600)


def change_key(path: Path, key: bytes, target: Path, new_key: bytes) -> None:
    """Copy the copy at `path`, which opens with `key`, to `target`, which opens with `new_key`; durable on return."""
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        source, copied = _open(path, key), _open(target, new_key)
        try:
            source.backup(copied, pages=-1)
            copied.execute("PRAGMA journal_mode = DELETE").fetchall()
        finally:
            copied.close()
            source.close()
    except sqlcipher.Error as error:
        raise translated(error) or error from error
    with target.open("rb") as file:
        os.fsync(file.fileno())


def verify(path: Path, key: bytes) -> None:
    """Return if every page of the copy at `path` is what was written, and the tables hold together; else `Corrupt`."""
    try:
        database = _open(path, key)
        try:
            found = [*database.execute("PRAGMA cipher_integrity_check"), *_faults(database)]
        finally:
            database.close()
    except sqlcipher.Error as error:
        told = translated(error)
        if isinstance(told, Transient):  # the disk, and not the copy
            raise told from error
        raise Corrupt("the copy of the catalog does not open", hint="use another backup") from error
    if found:
        raise Corrupt("the copy of the catalog is damaged", hint="use another backup")


def _faults(database: sqlcipher.Connection) -> list[tuple[str]]:
    rows: list[tuple[str]] = database.execute("PRAGMA quick_check").fetchall()
    return [row for row in rows if row[0] != "ok"]


def _open(path: Path, key: bytes) -> sqlcipher.Connection:
    database = sqlcipher.connect(str(path), isolation_level=None)
    database.execute("PRAGMA cipher_log_level = NONE")
    database.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    database.execute("PRAGMA temp_store = MEMORY")
    database.execute("PRAGMA synchronous = OFF")
    return database
