"""A consistent copy of the catalog while everybody works on it, and whether such a copy is whole.

By SQLite's backup interface, from within one reading transaction: the copy is the catalog as of one moment, writers go on
beside it, and nothing that they do makes the copying start again. The copy is encrypted under the same key; SQLCipher
draws new initialisation vectors for every page it writes, so two copies have no bytes in common, and a backup by
differences would find none: each copy is whole.

A page keeps, in the space that no row uses, remains of rows that were deleted or moved long ago. Where a copy is to hold
nothing but what the catalog says, it is written anew, row by row (`rewrite`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlcipher3 import dbapi2 as sqlcipher

from appliance.catalog.database import Catalog, Reading
from appliance.catalog.errors import translated
from appliance.errors import Corrupt, Transient

T = TypeVar("T")

_PAGES = 256
_REST_SECONDS = 0.002
"""Between two pieces of a megabyte: reception is not to feel a backup."""


def copy(
    catalog: Catalog, path: Path, key: bytes, look: Callable[[Reading], T], between: Callable[[], None]
) -> T:
    """Copy the catalog to the new file `path`, under a 32-byte `key`, durable on return; what `look` found in it.

    `look` sees the very moment that is copied; `between` is called between two pieces and may raise. Raises what the
    catalog raises; what there is of the copy then is the caller's to remove.
    """

    def rest(status: int, remaining: int, total: int) -> None:
        del status, remaining, total
        between()
        time.sleep(_REST_SECONDS)

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
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return found


def rewrite(path: Path, key: bytes, target: Path) -> None:
    """Write the copy at `path` anew to `target`, durable on return: the same rows, and no remains of any other.

    Chose ``VACUUM INTO`` because its target is encrypted under the same key, where a plain ``VACUUM`` goes through a temporary
    file that isn't, or through as much memory as the catalog is large. Raises what the disk raises.
    """
    try:
        database = _open(path, key)
        try:
            database.execute("VACUUM INTO ?", (str(target),))
        finally:
            database.close()
    except sqlcipher.Error as error:
        raise translated(error) or error from error
    target.chmod(0o600)
    with target.open("rb") as file:
        os.fsync(file.fileno())


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
    return database
