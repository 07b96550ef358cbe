"""A folder on a share by SMB 3.1.1: what Windows and every NAS lend out, without mounting it. What is in the folder is `share`'s.

Only 3.1.1 is spoken. The keys of a session are derived from the password and from every word by which they were agreed on, so
that nobody in between can talk the two sides down to less; with 3.0 that is asked afterwards, and before it not at all. It is ten years
old. SMB 1, SMB 2, guests and sessions without signature don't exist here. What is said is encrypted where the server knows how, and
signed where it doesn't; what it carries is ciphertext in any case.

Who answers is known by the password alone: from the answer to the log-in on, a server that does not know it can neither sign nor encrypt,
and is told from one that is only broken. What SMB cannot give, unlike SSH: a key of the server that could be compared before
anything is said of us. A stranger in its place gets an answer to its challenge, against which it can try passwords at home; therefore
the password has to be long, and the account for this box alone. What the server calls itself (`SmbConnection.calls_itself`) is recorded when the
password is given, and another one gets nothing at all, not even that answer. It is a name that anybody could claim: it tells of
a NAS that was replaced or of an address that was given away, and proves nothing.

Chose smbprotocol over the kernel's mounts (`vault` takes those), for the reasons in `share`, and over libsmbclient, which is
GPL and keeps what it has of us in one place for all threads. What the library lets through is closed here (`smb_connection`). Rejected: Kerberos, since
a clinic's NAS knows none, and a box that isn't in a domain has no tickets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from smbprotocol.connection import Dialects
from smbprotocol.exceptions import SMBAuthenticationError, SMBResponseException
from smbprotocol.file_info import FileAttributes, FileInformationClass, FileRenameInformation
from smbprotocol.header import NtStatus
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    DirectoryAccessMask,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    ShareAccess,
    SMB2SetInfoRequest,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from appliance.errors import ApplianceError, OperatorNeeded, OutOfResources, Transient
from appliance.model import DestinationSettings
from appliance.replication.destinations import options
from appliance.replication.destinations.share import Entry, not_given_back
from appliance.replication.destinations.smb_connection import NotOurs, SmbConnection

PORT: Final = 445
_PIECE_BYTES: Final = 1 << 20
_CREDIT_BYTES: Final = 64 << 10  # MS-SMB2 3.2.4.1.5: so much for each credit

# What the library has no name for: [MS-ERREF] 2.3.1.
_QUOTA_EXCEEDED: Final = 0xC0000044
_WRITE_PROTECTED: Final = 0xC00000A2
_LOGINS: Final = frozenset(
    {
        NtStatus.STATUS_ACCESS_DENIED,
        NtStatus.STATUS_LOGON_FAILURE,
        NtStatus.STATUS_WRONG_PASSWORD,
        NtStatus.STATUS_PASSWORD_EXPIRED,
        0xC0000064,  # no such user
        0xC000006E,  # account restriction
        0xC000006F,  # not at this hour
        0xC0000070,  # not from this machine
        0xC0000072,  # account disabled
        0xC000015B,  # not of the kind that may log in by network
        0xC0000193,  # account expired
        0xC0000224,  # password to be changed first
        0xC0000234,  # account locked
    }
)
_MISSING: Final = frozenset(
    {
        NtStatus.STATUS_OBJECT_NAME_NOT_FOUND,
        NtStatus.STATUS_OBJECT_PATH_NOT_FOUND,
        NtStatus.STATUS_NO_SUCH_FILE,
        NtStatus.STATUS_NOT_FOUND,
    }
)
_NO_RIGHT: Final = frozenset(
    {
        NtStatus.STATUS_ACCESS_DENIED,
        NtStatus.STATUS_CANNOT_DELETE,
        NtStatus.STATUS_PRIVILEGE_NOT_HELD,
    }
)
_NO_ROOM: Final = frozenset({NtStatus.STATUS_DISK_FULL, _QUOTA_EXCEEDED})
_NOT_GIVEN_BACK: Final = frozenset({0xC000003E, 0xC000003F, 0xC000009C, 0xC00000E9, 0xC0000185})
"""STATUS_DATA_ERROR, CRC_ERROR, DEVICE_DATA_ERROR, UNEXPECTED_IO_ERROR and IO_DEVICE_ERROR ([MS-ERREF] 2.3.1): Samba says the last for EIO."""

_READ: Final = FilePipePrinterAccessMask.FILE_READ_DATA | FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES
_WRITE: Final = FilePipePrinterAccessMask.FILE_WRITE_DATA | FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES
_LOOK: Final = FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES
_RENAME: Final = FilePipePrinterAccessMask.DELETE | FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES
_LIST: Final = DirectoryAccessMask.FILE_LIST_DIRECTORY | DirectoryAccessMask.FILE_READ_ATTRIBUTES
_ADD: Final = DirectoryAccessMask.FILE_ADD_FILE | DirectoryAccessMask.FILE_ADD_SUBDIRECTORY
_FOR_ALL: Final = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE


@dataclass(frozen=True, slots=True)
class SmbServer:
    """The folder at `folder` of a share, which is empty for the share itself, and `user` there, in a `domain` if it says one.

    `server_name` is what the server has called itself when the password was given; empty until then.
    """

    name: str
    address: str
    port: int
    share: str
    folder: str
    user: str
    domain: str = ""
    server_name: str = ""
    secret: str = field(default="", repr=False)

    @classmethod
    def from_settings(cls, settings: DestinationSettings) -> SmbServer:
        """Raises `OperatorNeeded` for options that are missing or cannot be right."""
        if not settings.secret:
            raise OperatorNeeded(
                f"the destination {settings.name} has no password",
                hint="type the password of this user",
                field="secret",
            )
        address = options.text(settings, "address").strip()
        if "\\" in address or "/" in address:
            raise OperatorNeeded(
                f"the destination {settings.name} has no valid address",
                hint="give the server alone; the share and the folder have fields of their own",
                field="address",
            )
        share = options.text(settings, "share").strip().strip("\\/")
        if not share or "\\" in share or "/" in share:
            raise OperatorNeeded(
                f"the destination {settings.name} has no valid share",
                hint="give the share alone, such as backup; what is below it is the folder",
                field="share",
            )
        parts = options.text(settings, "folder", "").strip().replace("/", "\\").strip("\\").split("\\")
        if ".." in parts:
            raise OperatorNeeded(
                f"the destination {settings.name} has no valid folder",
                hint="give the folder from the share on",
                field="folder",
            )
        return cls(
            name=settings.name,
            address=address,
            port=options.number(settings, "port", least=1, most=65535, default=PORT),
            share=share,
            folder="\\".join(parts),
            user=options.text(settings, "user").strip(),
            domain=options.text(settings, "domain", "").strip(),
            server_name=options.text(settings, "server_name", ""),
            secret=settings.secret,
        )

    @property
    def words(self) -> str:
        """See `share.Server`."""
        return "\\".join(("", "", self.address, self.share, *filter(None, [self.folder])))

    def dial(self) -> SmbLine:
        """See `share.Server`."""
        connection = self._greet()
        try:
            shown = connection.calls_itself
            if self.server_name and shown != self.server_name:
                raise OperatorNeeded(
                    f"another server answers at {self.address}: it was {self.server_name}, and now it is {shown}; nothing is sent",
                    hint="correct the address; if the server was replaced, type the password of this user again",
                )
            session = self._log_in(connection)
            return SmbLine(self, connection, self._enter(session))
        except BaseException:
            connection.hang_up()
            raise

    def _greet(self) -> SmbConnection:
        """A connection, before anything is said of us. Raises `Transient`, `OperatorNeeded`."""
        connection = SmbConnection(self.address, self.port)
        try:
            connection.greet()
        except SMBResponseException as error:
            connection.hang_up()
            raise OperatorNeeded(
                f"the server {self.address} speaks no SMB that is still safe",
                hint="switch on SMB 3.1.1 there, or bring its software up to date",
            ) from error
        except Exception as error:  # the library tells of a refused connection by ValueError, and lets through what a broken answer does
            connection.hang_up()
            if connection.was_made:
                raise Transient(
                    f"the server {self.address} does not speak SMB at port {self.port}",
                    hint="is file sharing switched on there, and is the port right?",
                ) from error
            raise Transient(
                f"the file server {self.address} does not answer",
                hint="is it switched on, and is its address right?",
            ) from error
        if connection.dialect != Dialects.SMB_3_1_1:
            connection.hang_up()
            raise OperatorNeeded(
                f"the server {self.address} speaks no SMB that is still safe",
                hint="switch on SMB 3.1.1 there, or bring its software up to date",
            )
        return connection

    def _log_in(self, connection: SmbConnection) -> Session:
        user = f"{self.domain}\\{self.user}" if self.domain else self.user
        session = Session(
            connection, user, self.secret, require_encryption=bool(connection.supports_encryption)
        )
        try:
            session.connect()
        except NotOurs as error:
            raise self._not_ours() from error
        except SMBResponseException as error:
            if error.status not in _LOGINS:
                raise Transient(
                    f"the file server {self.address} hung up while {self.user} came in"
                ) from error
            raise OperatorNeeded(
                f"the file server {self.address} does not let {self.user} in",
                hint="correct the user and the password",
            ) from error
        except SMBAuthenticationError as error:
            raise OperatorNeeded(
                f"the file server {self.address} does not let {self.user} in",
                hint="correct the user and the password",
            ) from error
        except Exception as error:
            if session.session_id is None:  # how the library leaves one that was let in as a guest
                raise OperatorNeeded(
                    f"the file server {self.address} takes {self.user} for a guest",
                    hint="correct the user and the password; switch off guests on the server",
                ) from error
            raise Transient(f"the file server {self.address} hung up while {self.user} came in") from error
        return session

    def _enter(self, session: Session) -> TreeConnect:
        tree = TreeConnect(session, f"\\\\{self.address}\\{self.share}")
        try:
            tree.connect()
        except NotOurs as error:
            raise self._not_ours() from error
        except SMBResponseException as error:
            match error.status:
                case NtStatus.STATUS_BAD_NETWORK_NAME:
                    raise OperatorNeeded(
                        f"there is no share {self.share} on {self.address}",
                        hint="make the share on the file server, or correct its name",
                    ) from error
                case NtStatus.STATUS_ACCESS_DENIED:
                    raise self._no_right() from error
            raise Transient(f"the file server {self.address} hung up while {self.user} came in") from error
        except Exception as error:
            raise Transient(f"the file server {self.address} hung up while {self.user} came in") from error
        return tree

    def _no_right(self) -> OperatorNeeded:
        return OperatorNeeded(
            f"{self.user} may not write in {self.words}",
            hint="give this user the right to read and write there",
        )

    def _not_ours(self) -> OperatorNeeded:
        return OperatorNeeded(
            f"whoever answers at {self.address} does not know the password of {self.user}, or somebody changes what it says",
            hint="ask who looks after the server and the network; change the password if it is short",
        )


@dataclass(frozen=True, slots=True)
class SmbLine:
    """A connection to the folder; see `share.Line`."""

    server: SmbServer
    connection: SmbConnection
    tree: TreeConnect

    def is_up(self) -> bool:
        """See `share.Line`."""
        return self.connection.is_up

    def size_bytes(self, name: str) -> int:
        """See `share.Line`."""
        with self._opened(name, _LOOK) as file:
            return int(file.end_of_file)

    def read(self, name: str) -> Iterator[bytes]:
        """See `share.Line`."""
        with self._opened(name, _READ, CreateOptions.FILE_NON_DIRECTORY_FILE) as file:
            at, length = 0, int(file.end_of_file)
            while at < length:
                with self._in_our_terms(), self._given():
                    piece = bytes(file.read(at, min(length - at, self._most(self.connection.max_read_size))))
                if not piece:
                    raise Transient(f"the connection to the file server {self.server.address} was cut")
                at += len(piece)
                yield piece

    def write(self, name: str, pieces: Iterator[bytes], *, after_bytes: int = 0) -> None:
        """See `share.Line`; nobody else can open the file meanwhile."""
        disposition = CreateDisposition.FILE_OPEN if after_bytes else CreateDisposition.FILE_OVERWRITE_IF
        with self._opened(
            name, _WRITE, CreateOptions.FILE_NON_DIRECTORY_FILE, disposition, sharing=0
        ) as file:
            at = after_bytes
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    most = self._most(self.connection.max_write_size)
                    with self._in_our_terms():
                        written = int(file.write(bytes(rest[:most]), at))
                    if not written:
                        raise Transient(f"the folder {self.server.words} failed")
                    at, rest = at + written, rest[written:]
            with self._in_our_terms():
                file.flush()

    def move(self, name: str, to: str) -> None:
        """See `share.Line`; in one step, and the names in the folder are synced too, where the server does that."""
        self._rename(name, to, over=True)
        above = to.rpartition("/")[0]
        try:
            with self._opened(above, _ADD) as folder, self._in_our_terms():
                folder.flush()
        except (OperatorNeeded, Transient, FileNotFoundError):
            if not self.is_up():  # of a folder only some servers will do it, and that is no harm
                raise

    def put_back(self, name: str, to: str) -> bool:
        """See `share.Line`."""
        try:
            self._rename(name, to, over=False)
        except FileExistsError:
            return False
        return True

    def remove(self, name: str) -> None:
        """See `share.Line`."""
        away = CreateOptions.FILE_NON_DIRECTORY_FILE | CreateOptions.FILE_DELETE_ON_CLOSE
        with self._opened(name, _RENAME, away):
            pass

    def make_folder(self, name: str) -> None:
        """See `share.Line`."""
        as_folder, unless_there = CreateOptions.FILE_DIRECTORY_FILE, CreateDisposition.FILE_OPEN_IF
        with self._opened(name, _LIST, as_folder, unless_there):
            pass

    def entries(self, folder: str) -> list[Entry]:
        """See `share.Line`."""
        told: list[Entry] = []
        with self._opened(folder, _LIST, CreateOptions.FILE_DIRECTORY_FILE) as opened, self._in_our_terms():
            while True:
                try:
                    found = opened.query_directory("*", FileInformationClass.FILE_DIRECTORY_INFORMATION)
                except SMBResponseException as error:
                    if error.status not in (NtStatus.STATUS_NO_MORE_FILES, NtStatus.STATUS_NO_SUCH_FILE):
                        raise
                    break
                told += [each for one in found if (each := _entry(one)) is not None]
        return sorted(told, key=lambda each: each.name)

    def close(self) -> None:
        """See `share.Line`."""
        self.connection.hang_up()

    def _most(self, agreed_bytes: int) -> int:
        """How much one request may carry: what was agreed on, and what the server has given credit for."""
        window = self.connection.sequence_window
        credit = max(1, window["high"] - window["low"])
        return int(min(_PIECE_BYTES, agreed_bytes, credit * _CREDIT_BYTES))

    def _rename(self, name: str, to: str, *, over: bool) -> None:
        """Raises `FileExistsError` where something is there and nothing may be moved over it."""
        told = FileRenameInformation()
        told["replace_if_exists"] = over
        told["file_name"] = self._path(to)
        request = SMB2SetInfoRequest()
        request["info_type"] = told.INFO_TYPE
        request["file_info_class"] = told.INFO_CLASS
        request["buffer"] = told
        with self._opened(name, _RENAME, CreateOptions.FILE_NON_DIRECTORY_FILE) as file, self._in_our_terms():
            request["file_id"] = file.file_id
            session = self.tree.session
            sent = self.connection.send(request, session.session_id, self.tree.tree_connect_id)
            try:
                self.connection.receive(sent)
            except SMBResponseException as error:
                if error.status == NtStatus.STATUS_OBJECT_NAME_COLLISION and not over:
                    raise FileExistsError from error
                raise

    @contextmanager
    def _opened(
        self,
        name: str,
        access: int,
        how: int = 0,
        disposition: int = CreateDisposition.FILE_OPEN,
        sharing: int = _FOR_ALL,
    ) -> Iterator[Open]:
        """A file or a folder, open."""
        opened = Open(self.tree, self._path(name))
        with self._in_our_terms():
            opened.create(
                ImpersonationLevel.Impersonation,
                access,
                FileAttributes.FILE_ATTRIBUTE_NORMAL,
                sharing,
                disposition,
                how,
            )
        try:
            yield opened
        except BaseException:
            with suppress(Exception):  # what went wrong is told already
                opened.close()
            raise
        with self._in_our_terms():
            opened.close()

    def _path(self, name: str) -> str:
        return "\\".join(filter(None, (self.server.folder, *name.split("/"))))

    @contextmanager
    def _in_our_terms(self) -> Iterator[None]:
        """Translate what is raised while the server is asked; a missing name is told as it is."""
        server = self.server
        try:
            yield
        except (ApplianceError, FileExistsError, FileNotFoundError):
            raise
        except NotOurs as error:
            raise server._not_ours() from error
        except SMBResponseException as error:
            if error.status in _MISSING:
                raise FileNotFoundError from error
            raise self._failure(error.status) from error
        except (
            Exception
        ) as error:  # SMBException, OSError, struct.error, …: a line that is cut, or an answer that is none
            raise Transient(f"the connection to the file server {server.address} was cut") from error

    @contextmanager
    def _given(self) -> Iterator[None]:
        """Raise `Unreadable` where the server's disk does not give back what it holds."""
        try:
            yield
        except SMBResponseException as error:
            if error.status in _NOT_GIVEN_BACK:
                raise not_given_back(self.server.words) from error
            raise

    def _failure(self, status: int) -> ApplianceError:
        """What a status means that isn't success."""
        words = self.server.words
        if status in _NO_ROOM:
            return OutOfResources(f"there is no room left in {words}", hint="make room on the file server")
        if status in _NO_RIGHT:
            return self.server._no_right()
        if status == _WRITE_PROTECTED:
            return OperatorNeeded(
                f"the folder {words} is read-only",
                hint="make it writable on the file server, or look at the health of its disks",
            )
        return Transient(f"the folder {words} failed", hint="if it lasts, look at the file server itself")


def prepare(settings: DestinationSettings) -> DestinationSettings:
    """With the name that the server gives itself, if it isn't there yet. Raises `OperatorNeeded`, `Transient`.

    `user` comes in for it, so that only a server that knows the password is recorded.
    """
    if settings.options.get("server_name"):
        return settings
    line = SmbServer.from_settings(settings).dial()
    try:
        return replace(settings, options={**settings.options, "server_name": line.connection.calls_itself})
    finally:
        line.close()


def anew(settings: DestinationSettings) -> DestinationSettings:
    """As if nobody had ever answered there: `prepare` asks again. Pure."""
    kept = {name: value for name, value in settings.options.items() if name != "server_name"}
    return replace(settings, options=kept)


def _entry(found: Any) -> Entry | None:
    """What a folder's list says of one name; nothing for itself, the folder above, and folders that lead elsewhere.

    A file that Windows has deduplicated or moved to a slower tier is marked like a link too, and is read like any other: to
    leave it out would show a part of the backups as all of them. A true link is refused when it is opened.
    """
    name = found["file_name"].get_value().decode("utf-16-le")
    attributes = found["file_attributes"]
    is_folder = attributes.has_flag(FileAttributes.FILE_ATTRIBUTE_DIRECTORY)
    leads_away = attributes.has_flag(FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT)
    if name in (".", "..") or (is_folder and leads_away):
        return None
    written: datetime = found["last_write_time"].get_value()
    return Entry(name, is_folder, written.replace(tzinfo=UTC))
