"""A folder on a file server of the clinic's network: a NAS, or another machine. An archive, whichever protocol it speaks.

The layout is that of every archive (`archive`), each key a path below the folder, which must exist: one that is missing is a
volume that is not mounted there, or a mistyped name, and nothing is laid beside it. What is particular to a protocol is behind
`Server` and `Line`: `sftp`, `smb`.

A file is written beside its place (``.arriving``), synced as far as the server can, read back, and moved. An object that was cut
on its way goes on where it stopped, because the whole of it is read back in any case. What nobody came back for is removed a
day later by the connection test. It also puts back what was put aside for a successor that a cut kept from coming.

Chose a few connections that are kept and lent, because a restore reads thousands of small documents and a connection costs more
than a document. Each is used by one thread at a time, and one that has failed is not used again. Rejected: the kernel's own
mounts (`vault` takes those), because mounting needs rights over the machine that the console must not have.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final, Protocol
from urllib.parse import quote, unquote

from appliance.errors import OperatorNeeded, Refused, Transient, Unknown, Unreadable
from appliance.model import Takes
from appliance.replication.destinations.archive import (
    CONNECTION_TEST,
    CONNECTION_TEXT,
    Document,
    object_key,
    parts_of_key,
    verified_digest,
)
from appliance.replication.destinations.files import blocks, digest_of
from appliance.replication.destinations.parcel import Parcel, Receipt, Session, WouldReplace

_ARRIVING: Final = ".arriving"
_ASIDE: Final = "aside-"
_LEFT_BEHIND: Final = timedelta(days=1)
_IDLE_SECONDS: Final = 60.0
_KEPT_OPEN: Final = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder on the server holds: a file, or a folder."""

    name: str
    is_folder: bool
    written_utc: datetime


class Line(Protocol):
    """A connection to the folder, used by one thread at a time. Names are relative to the folder, with slashes.

    Everything raises what `Session.send` raises; `FileNotFoundError` where the name, or the folder that it is in, is not there.
    """

    def is_up(self) -> bool:
        """Whether it can still be used, as far as is known here."""

    def size_bytes(self, name: str) -> int:
        """How long a file is; the folder itself has the name ``""``, and any size."""

    def read(self, name: str) -> Iterator[bytes]:
        """A file, at most a megabyte at a time."""

    def write(self, name: str, pieces: Iterator[bytes], *, after_bytes: int = 0) -> None:
        """Write a file, or go on with one after so many bytes of it; durable on return, where the server knows how."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name, over what has it now."""

    def put_back(self, name: str, to: str) -> bool:
        """Give a file another name; False, and it is left where it is, if something has that now."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def make_folder(self, name: str) -> None:
        """Make a folder, unless it is there."""

    def entries(self, folder: str) -> list[Entry]:
        """What is in a folder, in order of name."""

    def close(self) -> None:
        """Hang up. Does not raise."""


class Server(Protocol):
    """Where the folder is, and how to get there."""

    @property
    def words(self) -> str:
        """The folder, for people: no secret is in it."""

    def dial(self) -> Line:
        """A new connection. Raises as `Session.send`."""


@dataclass(slots=True, weakref_slot=True)
class _Idle:
    """Connections that nobody uses now, and since when; hung up when the destination is forgotten."""

    lines: list[tuple[Line, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        weakref.finalize(self, _hang_up, self.lines)

    def take(self) -> Line | None:
        with self.lock:
            while self.lines:
                line, since = self.lines.pop()
                if time.monotonic() - since < _IDLE_SECONDS and line.is_up():
                    return line
                line.close()
        return None

    def give_back(self, line: Line) -> None:
        with self.lock:
            if len(self.lines) < _KEPT_OPEN:
                self.lines.append((line, time.monotonic()))
                return
        line.close()


def _hang_up(lines: list[tuple[Line, float]]) -> None:
    for line, _ in lines:
        line.close()


def not_given_back(words: str) -> Unreadable:
    """What is raised for a file of the folder `words` that the server's disk does not give back. Pure."""
    return Unreadable(
        f"a file in {words} cannot be read", hint="look at the health of the file server's disks"
    )


@dataclass(frozen=True)
class ShareDestination:
    """The folder at `server`. Shared by threads: each borrows a connection of its own."""

    server: Server
    takes: Takes = "ciphertext"
    reads_at_once: int = _KEPT_OPEN
    _idle: _Idle = field(default_factory=_Idle, repr=False, compare=False)

    def check(self) -> str:
        """Write and read back a small file, and clear away what was left half written."""
        self.put_document(CONNECTION_TEST, CONNECTION_TEXT)
        with self._line() as line:
            for each in line.entries(_ARRIVING):
                with suppress(FileNotFoundError):  # whoever was at it has ended, or its folder is not there
                    key = _put_aside(each.name)
                    if key and line.put_back(f"{_ARRIVING}/{each.name}", key):
                        continue
                    if datetime.now(UTC) - each.written_utc > _LEFT_BEHIND and not each.is_folder:
                        line.remove(f"{_ARRIVING}/{each.name}")
        return f"The folder {self.server.words} can be written and read."

    @contextmanager
    def open(self, parcels: Sequence[Parcel]) -> Iterator[Session]:  # noqa: ARG002
        """Connections are kept for all sessions; that one can be had is seen here."""
        with self._line():
            pass
        yield self

    def send(self, parcel: Parcel) -> Receipt:
        """Copy the ciphertext, unless it is there already, and read it back."""
        sha256 = verified_digest(parcel).hex()
        key = object_key(parcel.object_id)
        part = f"{_ARRIVING}/{parcel.object_id}"
        with self._line() as line:
            looks_first = parcel.tried_before or parcel.replaces == "nothing"
            if not (looks_first and _is_there(line, key, parcel.sealed_bytes, sha256)):
                if parcel.replaces == "nothing" and _size_bytes(line, key) is not None:
                    raise WouldReplace
                begun = (_size_bytes(line, part) or 0) if parcel.tried_before else 0
                try:
                    with parcel.sealed_path.open("rb") as source:
                        if not (begun and self._went_on(line, part, key, source, parcel, sha256, begun)):
                            source.seek(0)
                            self._keep(line, part, key, _while_wanted(blocks(source), parcel), sha256)
                except OSError as error:  # the server's own are told in our terms
                    raise Transient("a sealed object could not be read from this disk") from error
        return {
            "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "file": key,
            "bytes": parcel.sealed_bytes,
            "sha256": sha256,
            "proof": "read back",
        }

    def put_document(self, key: str, data: bytes) -> None:
        """See `Archive`."""
        parts_of_key(key)
        part = f"{_ARRIVING}/{_part_of(key)}-{secrets.token_hex(4)}"
        with self._line() as line:
            self._keep(line, part, key, iter([data]), hashlib.sha256(data).hexdigest())

    def document(self, key: str) -> bytes:
        """See `Archive`."""
        return b"".join(self.blocks(key))

    def documents(self, prefix: str) -> Iterator[Document]:
        """See `Archive`."""
        parts_of_key(prefix.rstrip("/"))
        with self._line() as line:
            _put_back(line, lambda key: key.startswith(prefix))
            try:
                top = line.entries(prefix.rstrip("/"))
            except FileNotFoundError:
                self._look(line)
                return
            try:
                yield from _below(line, prefix.rstrip("/"), top)
            except FileNotFoundError as error:  # part of a list would look like all of it
                raise Transient(
                    f"the folder {self.server.words} failed",
                    hint="if it lasts, look at the file server itself",
                ) from error

    def blocks(self, key: str) -> Iterator[bytes]:
        """See `Archive`."""
        parts_of_key(key)
        with self._line() as line:
            try:
                try:
                    yield from line.read(key)
                except FileNotFoundError:
                    _put_back(line, lambda waiting: waiting == key)
                    yield from line.read(key)
            except FileNotFoundError as error:
                self._look(line)
                raise Unknown("the file server does not hold that", hint="look in another archive") from error

    def remove(self, key: str) -> None:
        """See `Clearable`."""
        parts_of_key(key)
        with self._line() as line:
            try:
                line.remove(key)
            except FileNotFoundError:
                self._look(line)

    def remove_parts(self, keys: Sequence[str]) -> None:
        """See `Clearable`."""
        with self._line() as line:
            for each in _arriving(line):
                if any(_is_part_of(each.name, key) for key in keys):
                    with suppress(FileNotFoundError):
                        line.remove(f"{_ARRIVING}/{each.name}")

    @contextmanager
    def _line(self) -> Iterator[Line]:
        """A connection for the while; one that has failed is not lent again."""
        line = self._idle.take() or self.server.dial()
        try:
            yield line
        except (Unknown, WouldReplace):
            self._idle.give_back(line)
            raise
        except BaseException:
            line.close()
            raise
        self._idle.give_back(line)

    def _look(self, line: Line) -> None:
        """Raise `OperatorNeeded` if the folder is not there."""
        try:
            line.size_bytes("")
        except FileNotFoundError as error:
            raise OperatorNeeded(
                f"there is no folder {self.server.words}",
                hint="make the folder on the file server, or correct its name",
            ) from error

    def _went_on(
        self,
        line: Line,
        part: str,
        key: str,
        source: BinaryIO,
        parcel: Parcel,
        sha256: str,
        begun: int,
    ) -> bool:
        """Go on with what an earlier attempt has written; False, and it is gone, where that can't be gone on with."""
        if begun <= parcel.sealed_bytes:
            source.seek(begun)
            try:
                self._keep(line, part, key, _while_wanted(blocks(source), parcel), sha256, begun)
            except OperatorNeeded:  # some servers let nobody write in a file that is there
                pass
            else:
                return True
        line.remove(part)
        return False

    def _keep(
        self, line: Line, part: str, key: str, pieces: Iterator[bytes], sha256: str, begun: int = 0
    ) -> None:
        """Write a file whole under its key. Raises as `send`."""
        try:
            try:
                line.write(part, pieces, after_bytes=begun)
            except FileNotFoundError:
                self._look(line)
                line.make_folder(_ARRIVING)
                line.write(part, pieces, after_bytes=begun)
            if digest_of(line.read(part)) != sha256:
                line.remove(part)
                raise Transient("the file server did not keep what was written to it")
            try:
                line.move(part, key)
            except FileNotFoundError:
                above = key.split("/")[:-1]
                for depth in range(len(above)):
                    line.make_folder("/".join(above[: depth + 1]))
                line.move(part, key)
        except FileNotFoundError as error:
            self._look(line)
            raise Transient("the file server did not keep what was written to it") from error


def aside(key: str) -> str:
    """Where what is under `key` waits for its successor, on a server that moves nothing over a file."""
    return f"{_ARRIVING}/{_ASIDE}{quote(key, safe='')}-{secrets.token_hex(4)}"


def _put_aside(name: str) -> str:
    """The key of what was put `aside` under that name; nothing for other names. Pure."""
    key = unquote(name.removeprefix(_ASIDE).rpartition("-")[0]) if name.startswith(_ASIDE) else ""
    try:
        parts_of_key(key)
    except Refused:  # the name is not one of ours
        return ""
    return key


def _part_of(key: str) -> str:
    """What the name begins with under which a document arrives, before a hyphen and a number."""
    return key.rpartition("/")[2][:64]


def _is_part_of(name: str, key: str) -> bool:
    """Whether what is called `name` among what arrives is, or was, on its way to `key` or from there. Pure."""
    last = key.rpartition("/")[2]
    return (
        name.startswith(f"{_part_of(key)}-")
        or name == last.removesuffix(".sealed")  # an image's
        or _put_aside(name) == key
    )


def _arriving(line: Line) -> list[Entry]:
    """What is on its way, or was, if anything ever came."""
    try:
        return line.entries(_ARRIVING)
    except FileNotFoundError:
        return []


def _put_back(line: Line, wanted: Callable[[str], bool]) -> None:
    """Put back what was put `aside` of the keys `wanted`, and whose successor a cut has kept from coming."""
    for each in _arriving(line):
        if (key := _put_aside(each.name)) and wanted(key):
            with suppress(FileNotFoundError):  # whoever was at it has ended, or its folder is not there
                line.put_back(f"{_ARRIVING}/{each.name}", key)


def _size_bytes(line: Line, name: str) -> int | None:
    """How much of a file is there; None where there is no such file."""
    try:
        return line.size_bytes(name)
    except FileNotFoundError:
        return None


def _is_there(line: Line, key: str, size_bytes: int, sha256: str) -> bool:
    return _size_bytes(line, key) == size_bytes and digest_of(line.read(key)) == sha256


def _below(line: Line, folder: str, entries: Sequence[Entry]) -> Iterator[Document]:
    """What is in the folder and in those below it; FileNotFoundError where one of those has gone meanwhile."""
    for each in entries:
        if each.is_folder:
            below = f"{folder}/{each.name}"
            yield from _below(line, below, line.entries(below))
        else:
            yield Document(f"{folder}/{each.name}", each.written_utc)


def _while_wanted(pieces: Iterator[bytes], parcel: Parcel) -> Iterator[bytes]:
    for piece in pieces:
        if not parcel.keep_going():
            raise Transient("the courier is stopping")
        yield piece
