"""The catalog as a file: opened with its key, brought up to date, read and written in whole transactions.

Chose SQLCipher 4 with a raw 256-bit key (0.4 ms to open, where a passphrase takes 142), in WAL mode so that readers
never wait, with ``synchronous=FULL`` because NORMAL loses commits in a power cut. Writers begin with ``BEGIN
IMMEDIATE``: a transaction that can start can finish, and two that read before they write cannot deadlock; they come in
turn (`appliance.catalog.turns`). Rejected: the driver's implicit transactions, which begin too late to keep that promise.

SQLCipher's locking of its own memory stays off: the keys of every study are in this process anyway, and swap is
encrypted on the image.

The key can be changed while everybody works (`rekey`): all pages are written anew in one transaction, so a crash leaves the
old key or the new one. Whoever has a connection under the old key is told so at its next transaction ("not a database"), and
connects anew with the keys there are by then, which is why every transaction begins with a read. Rejected: a copy under the
new key that takes the place of the file, since a process that still writes into the old file would write into nothing.

Open after forking. One `Catalog` may be shared by threads; a connection may not, and `transaction` and `reading` hand
out one for the time of a ``with`` block.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, NewType, Self

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, QueuePool
from sqlcipher3 import dbapi2 as sqlcipher

from appliance.catalog import migrations
from appliance.catalog.errors import Unanswered, ends_connection, result_code, translated
from appliance.catalog.schema import REVISION
from appliance.catalog.turns import Turns
from appliance.errors import Corrupt, OperatorNeeded

KEY_BYTES = 32
BUSY_SECONDS = 30
CACHE_KIB = 16 * 1024
CHECKPOINT_PAGES = 4000
IDLE_CONNECTIONS = 8
"""Kept open: a new one costs a millisecond, its statements and all it had decrypted. The latest used is used again first,
so a quiet process still has one or two."""
MOST_CONNECTIONS = 80

_NOT_A_DATABASE = 26
_FIRST_READ = "SELECT 1 FROM sqlite_schema LIMIT 1"

Keys = Callable[[], Sequence[bytes]]
"""The keys that a catalog may lie under, the most likely first: asked whenever a connection is made."""

_TIMES_ASKED = 2
"""The newest key is tried first, and a rotation moves the catalog to it: it may do so between two that are tried, and none fits then."""

Reading = Connection
"""A consistent view of the catalog. Nothing written through it stays."""

Transaction = NewType("Transaction", Connection)
"""A connection that holds the catalog's one write lock; it can also read. Only `Catalog.transaction` makes one."""


class Remains(Enum):
    """What may be left in the file of what was deleted from it."""

    NONE = "none"
    COPIES = "copies"  # in unused space, of rows that were moved before they were deleted: under the catalog's key, as all of the file
    LOG = "log"  # whole pages in the write-ahead log, since somebody is reading


class Catalog:
    """The catalog of one data folder. `close` it, or leave it to the end of the process."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self._path = path
        self._turns = Turns(path)
        self._writing = engine.execution_options(begin="BEGIN IMMEDIATE")

    @classmethod
    def open(cls, path: Path, key: bytes | Keys) -> Self:
        """Open the catalog at `path` with its 32-byte `key`, or one of those that `key` gives; made or migrated if need be.

        Several processes may do so at once: they take turns at ``<path>.lock``. Raises `OperatorNeeded` for a wrong
        key, for a catalog written by newer software, and for a place that cannot be used.
        """
        keys = key if callable(key) else lambda: [key]
        if any(len(each) != KEY_BYTES for each in keys()):
            raise ValueError("the key of a catalog is 32 bytes")
        catalog = cls(_engine(path, keys), path)
        try:
            with _turn(path):
                catalog._bring_up_to_date()
        except BaseException:
            catalog.close()
            raise
        return catalog

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Read and write; committed and durable when the block ends well, as if it never was when it raises.

        Raises `Unanswered` when others have kept the catalog busy for 30 s, `OutOfResources` when the disk is full.
        """
        with self._turns.turn(BUSY_SECONDS), self._begun(self._writing) as connection:
            yield Transaction(connection)
            connection.commit()

    def give_way(self) -> None:
        """Let transactions of others go before this process's own from now on: nobody waits for what it writes."""
        self._turns.give_way()

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Read, from first to last as of the same moment, without waiting for writers."""
        with self._begun(self._engine) as connection:
            yield connection

    def rekey(self, key: bytes, earlier: Keys) -> bool:
        """Write every page anew under `key`, while others work; whether that was needed. `earlier`: what it may lie under.

        Writers wait meanwhile. Durable on return; interrupted, nothing has happened. Raises what `transaction` raises.
        """
        with suppress(OperatorNeeded):
            _connect(self._path, lambda: [key]).close()
            return False
        with self._turns.turn(BUSY_SECONDS):
            connection = _connect(self._path, earlier)
            try:
                connection.execute(f"PRAGMA rekey = \"x'{key.hex()}'\"").fetchall()
                _connect(self._path, lambda: [key]).close()  # seen, and not believed
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlcipher.Error as error:
                raise translated(error) or error from error
            finally:
                connection.close()
        return True

    def question(self, statement: str) -> Question:
        """One query, asked again and again at the least cost; each answer is as of its own moment."""
        return Question(self._engine, statement)

    def forget_deleted(self, most_bytes: int) -> Remains:
        """Leave no remains of what was deleted, in the pages of the file and in its write-ahead log; what may be left all the same.

        What is deleted is overwritten at once (``secure_delete``), and a page that is given up with all that is on it. But a page that
        SQLite fills anew, as its neighbours are divided or joined, keeps in the space that no row uses copies of rows that lie on
        another page by then, and those are not overwritten when the row is deleted there. So the file is written anew as long
        as it has no more than `most_bytes`, since that takes as much memory and keeps other writers waiting. Then the log is emptied,
        which no reader may hold up: it may be tried again.
        """
        with self._turns.turn(BUSY_SECONDS), self._begun(self._engine) as connection:
            connection.rollback()  # neither of the two is done within a transaction
            driver = connection.connection.driver_connection
            assert driver is not None
            try:
                pages = int(driver.execute("PRAGMA page_count").fetchone()[0])
                size = int(driver.execute("PRAGMA page_size").fetchone()[0])  # SQLCipher says it as text
                if is_rewritten := pages * size <= most_bytes:
                    driver.execute("VACUUM")
                busy = int(driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            except sqlcipher.Error as error:
                raise translated(error) or error from error
        if busy:
            return Remains.LOG
        return Remains.NONE if is_rewritten else Remains.COPIES

    def close(self) -> None:
        """Close every connection. The last one to close folds the write-ahead log into the file."""
        self._engine.dispose()
        self._turns.close()

    def _begun(self, engine: Engine) -> Connection:
        """A connection in a transaction that has seen the catalog; under the key of now, if that was changed."""
        try:
            return _begun(engine)
        except Corrupt:
            self._engine.dispose()
            return _begun(engine)

    def _bring_up_to_date(self) -> None:
        """Compare revisions, migrate if needed; called while no other process does."""
        with self.reading() as reading:
            found = migrations.revision_of(reading)
        if found == REVISION:
            return
        with self.transaction() as tx:
            migrations.migrate(tx, found)


class Question:
    """A compiled query on a connection of its own, in the driver's autocommit mode. Threads take turns.

    For what every arrival asks: a connection from the pool with its transaction costs twenty times the query itself.
    """

    def __init__(self, engine: Engine, statement: str) -> None:
        self._engine = engine
        self._statement = statement
        self._lock = threading.Lock()
        self._connection: PoolProxiedConnection | None = None

    def first(self, parameters: tuple[object, ...]) -> tuple[Any, ...] | None:
        """The first row, or None."""
        with self._lock:
            try:
                return self._first(parameters)
            except sqlcipher.Error as error:
                if result_code(error) != _NOT_A_DATABASE:
                    raise translated(error) or error from error
            self._engine.dispose()  # its key was changed: see `Catalog.rekey`
            try:
                return self._first(parameters)
            except sqlcipher.Error as error:
                raise translated(error) or error from error

    def _first(self, parameters: tuple[object, ...]) -> tuple[Any, ...] | None:
        if self._connection is None:
            with _in_time():
                self._connection = self._engine.raw_connection()
        cursor = self._connection.cursor()
        try:
            row: tuple[Any, ...] | None = cursor.execute(self._statement, parameters).fetchone()
        except sqlcipher.Error:
            self._connection.invalidate()
            self._connection = None
            raise
        cursor.close()
        return row

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def cipher_version(reading: Reading) -> str:
    """The version of what seals the catalog."""
    return str(reading.exec_driver_sql("PRAGMA cipher_version").scalar_one())


@contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Unanswered("too many questions at once to the catalog") from error


def _begun(engine: Engine) -> Connection:
    with _in_time():
        connection = engine.connect()
    try:
        connection.begin()
        _begin(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _engine(path: Path, keys: Keys) -> Engine:
    engine = create_engine(
        "sqlite://",
        module=sqlcipher,
        creator=lambda: _connect(path, keys),
        poolclass=QueuePool,
        pool_size=IDLE_CONNECTIONS,
        max_overflow=MOST_CONNECTIONS - IDLE_CONNECTIONS,
        pool_timeout=BUSY_SECONDS,
        pool_use_lifo=True,
        hide_parameters=True,
    ).execution_options(begin="BEGIN")
    event.listen(engine, "handle_error", _translate)
    return engine


def _begin(connection: Connection) -> None:
    """Begin, and read at once: so the whole block is as of its beginning, and a changed key shows before it.

    Handed to the driver as it is: a picture takes four readings, and SQLAlchemy's way costs five times the work itself. And
    called, not listened for: an engine with listeners looks for more of them at every statement.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    try:
        driver.execute(connection.get_execution_options()["begin"])
        driver.execute(_FIRST_READ).fetchall()
    except sqlcipher.Error as error:
        if ends_connection(result_code(error)):
            connection.invalidate(error)
        raise translated(error) or error from error


def _translate(context: ExceptionContext) -> BaseException | None:
    code = result_code(context.original_exception)
    if ends_connection(code):
        context.is_disconnect = True
    return translated(context.original_exception)


def _unusable(path: Path, why: str | None) -> OperatorNeeded:
    return OperatorNeeded(
        f"the catalog {path} cannot be opened ({why})",
        hint="check that the data folder exists and that this user may write there",
    )


def _connect(path: Path, keys: Keys) -> Any:
    """A driver connection that has proven its key, one of `keys`. Raises `OperatorNeeded`, `Unanswered` or `Corrupt`."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError as error:
        # Asked, and not tried: to close any descriptor of the file drops every lock that this process has on it.
        if not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
            raise _unusable(path, "Permission denied") from error
    except OSError as error:
        raise _unusable(path, error.strerror) from error
    for _ in range(_TIMES_ASKED):
        for key in keys():
            if (connection := _opened(path, key)) is not None:
                return connection
    raise OperatorNeeded(
        "the catalog does not open with the key of this box",
        hint="put back the catalog.db and the keys folder that belong together, or restore from a backup",
    )


def _opened(path: Path, key: bytes) -> Any:
    """A connection with the pragmas of every connection; None if `key` is not the catalog's."""
    connection = sqlcipher.connect(
        str(path), timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        connection.execute("PRAGMA cipher_log_level = NONE")  # it would write to standard error
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "temp_store = MEMORY",
            "trusted_schema = OFF",
            "secure_delete = ON",  # what is deleted is overwritten: nobody's row outlives its destruction
            f"cache_size = -{CACHE_KIB}",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            f"journal_size_limit = {8 * CHECKPOINT_PAGES * 4096}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except sqlcipher.Error as error:
        connection.close()
        if result_code(error) == _NOT_A_DATABASE:
            return None
        raise translated(error) or error from error
    return connection


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    try:
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorNeeded(
            f"the folder of the catalog {path} cannot be used ({error.strerror})",
            hint="check that the data folder exists and that this user may write there",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
