"""A folder on a file server by SFTP: SSH, which every NAS speaks, with its key pinned. What is in the folder is `share`'s.

Whoever answers is known by the key of the server, never by its name: a person compares the key's fingerprint with the one that
the server shows itself, once (``host_key``, *trust*). Until then nothing is said of us, least of all a password: only the exchange
of keys is made. A key that has changed afterwards is an alarm and not a question, for nobody can tell a new NAS from a thief
between the box and the old one by asking again; it is trusted by typing its fingerprint.

The box shows who it is by a password, or by a key made here: its public half is copied to the server, and the private one is
the destination's secret, kept as sealed as the others and never shown.

Chose paramiko over asyncssh: this code is threads, and the licence is the LGPL. Rejected: Debian's ``sftp`` as a process, since what it
complains of is prose for people. Writes are acknowledged one by one: pipelined, paramiko loses which of them failed, and a server
that is full would look like one that is broken. SFTP version 3 has one word for that, a read-only disk, one that fails and anything
else (*Failure*), so the file system is asked about itself. Extensions that a server does not announce are done without: a sync is
then the server's own affair, and a rename over another file is two.
"""

from __future__ import annotations

import io
import logging
import re
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paramiko.message import Message
from paramiko.sftp import CMD_EXTENDED, CMD_EXTENDED_REPLY, CMD_INIT, CMD_VERSION
from paramiko.ssh_exception import IncompatiblePeer

from appliance.errors import ApplianceError, OperatorNeeded, OutOfResources, Refused, Transient
from appliance.model import DestinationSettings
from appliance.replication.destinations import options
from appliance.replication.destinations.share import Entry, aside, not_given_back

PORT: Final = 22
CONNECT_SECONDS: Final = 10
LOGIN_SECONDS: Final = 30
ANSWER_SECONDS: Final = 60
_REQUEST_BYTES: Final = 32 << 10
_AHEAD_BYTES: Final = 1 << 20
_SCARCE_BYTES: Final = 16 << 20
_READ_ONLY: Final = 1  # SSH_FXE_STATVFS_ST_RDONLY
_FSYNC: Final = "fsync@openssh.com"
_RENAME: Final = "posix-rename@openssh.com"
_STATVFS: Final = "statvfs@openssh.com"
_KINDS: Final = frozenset(
    {"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"}
)
_FINGERPRINT: Final = re.compile("SHA256:[A-Za-z0-9+/]{43}")
_SIGNED_BY: Final = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
"""How a server signs with a key of that type, where it isn't called like the type."""

# It reports through what it raises; what it logs besides is the same again, with whole tracebacks.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class SftpServer:
    """The folder at `folder` of the server at `address`, from the root or from where `user` comes in."""

    name: str
    address: str
    port: int
    user: str
    folder: str
    login: str
    host_key: str = ""
    secret: str = field(default="", repr=False)

    @classmethod
    def from_settings(cls, settings: DestinationSettings) -> SftpServer:
        """Raises `OperatorNeeded` for options that are missing or cannot be right."""
        login = options.text(settings, "login", "password")
        if login not in ("password", "key"):
            raise OperatorNeeded(
                f"the destination {settings.name} has no valid login",
                hint="choose a password or a key",
                field="login",
            )
        if not settings.secret:
            raise OperatorNeeded(
                f"the destination {settings.name} has no password and no key",
                hint="type the password of this user",
                field="secret",
            )
        host_key = options.text(settings, "host_key", "")
        if host_key and not _is_key(host_key):
            raise OperatorNeeded(
                f"the destination {settings.name} has no valid server key",
                hint="trust the key of the server again",
                field="host_key",
            )
        return cls(
            name=settings.name,
            address=options.text(settings, "address").strip(),
            port=options.number(settings, "port", least=1, most=65535, default=PORT),
            user=options.text(settings, "user").strip(),
            folder=options.text(settings, "folder").strip().rstrip("/") or "/",
            login=login,
            host_key=host_key,
            secret=settings.secret,
        )

    @property
    def words(self) -> str:
        """See `share.Server`."""
        return f"{self.folder} on {self.address}"

    def dial(self) -> SftpLine:
        """See `share.Server`."""
        if not self.host_key:
            raise OperatorNeeded(
                f"the server {self.address} shows the key {self.shown_key()}, which nobody has compared yet",
                hint="compare it with the key that the server shows itself, and trust it",
            )
        transport = self._greet(self.host_key.partition(" ")[0])
        try:
            shown = _words_of(transport.get_remote_server_key())
            if shown != self.host_key:
                raise self._changed(shown)
            self._log_in(transport)
            return SftpLine(self, _Client.over(transport))
        except BaseException:
            transport.close()
            raise

    def shown_key(self) -> str:
        """The key that the server shows now: its type and its fingerprint. Nothing is said of us. Raises `Transient`."""
        transport = self._greet()
        try:
            return _words_of(transport.get_remote_server_key())
        finally:
            transport.close()

    def _greet(self, kind: str = "") -> paramiko.Transport:
        """A connection with keys exchanged, by a key of that `kind` where it is said. Raises `Transient`, `OperatorNeeded`."""
        try:
            way = socket.create_connection((self.address, self.port), CONNECT_SECONDS)
            way.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # else each answer waits for the next request
        except (OSError, UnicodeError) as error:
            raise Transient(
                f"the file server {self.address} does not answer",
                hint="is it switched on, and is its address right?",
            ) from error
        try:
            transport = paramiko.Transport(way)
        except BaseException:
            way.close()
            raise
        transport.daemon = True
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = LOGIN_SECONDS
        if kind:
            transport.get_security_options().key_types = _SIGNED_BY.get(kind, (kind,))
        try:
            transport.start_client(timeout=LOGIN_SECONDS)
        except IncompatiblePeer as error:
            transport.close()
            if kind:
                raise self._changed("of another type") from error
            raise OperatorNeeded(
                f"the file server {self.address} knows no way to encrypt that is still safe",
                hint="bring its software up to date",
            ) from error
        except Exception as error:  # paramiko lets through what a broken answer does to it
            transport.close()
            raise Transient(
                f"the file server {self.address} does not speak SFTP at port {self.port}",
                hint="is SFTP switched on there, and is the port right?",
            ) from error
        transport.set_keepalive(CONNECT_SECONDS)
        return transport

    def _log_in(self, transport: paramiko.Transport) -> None:
        try:
            if self.login == "key":
                transport.auth_publickey(self.user, _private(self.secret))
            else:
                transport.auth_password(self.user, self.secret)
        except paramiko.AuthenticationException as error:
            hint = (
                "copy the public key of this destination to the server, for this user"
                if self.login == "key"
                else "correct the user and the password"
            )
            raise OperatorNeeded(
                f"the file server {self.address} does not let {self.user} in", hint=hint
            ) from error
        except ApplianceError:
            raise
        except Exception as error:
            raise Transient(f"the file server {self.address} hung up while {self.user} came in") from error

    def _changed(self, shown: str) -> OperatorNeeded:
        return OperatorNeeded(
            f"the key of the server {self.address} has changed: it was {self.host_key}, and now it is {shown}; nothing is sent",
            hint="ask who looks after the server; trust the new key only if they say its fingerprint themselves",
        )


@dataclass(frozen=True, slots=True)
class SftpLine:
    """A connection to the folder; see `share.Line`."""

    server: SftpServer
    client: _Client

    def is_up(self) -> bool:
        """See `share.Line`."""
        transport = self.client.get_channel().get_transport()  # type: ignore[union-attr]
        return bool(transport.is_active())

    def size_bytes(self, name: str) -> int:
        """See `share.Line`."""
        with self._in_our_terms():
            return int(self.client.stat(self._path(name)).st_size or 0)

    def read(self, name: str) -> Iterator[bytes]:
        """See `share.Line`; a megabyte is asked for ahead, and no more is held."""
        with self._in_our_terms(), self.client.open(self._path(name), "rb") as file:
            length, at = int(file.stat().st_size or 0), 0
            while at < length:
                to = at + min(_AHEAD_BYTES, length - at)
                asked = [(begin, min(_REQUEST_BYTES, to - begin)) for begin in range(at, to, _REQUEST_BYTES)]
                piece = b"".join(self._given(file, asked))
                if len(piece) != to - at:
                    raise EOFError("a file is shorter than it was")
                at = to
                yield piece

    def _given(self, file: paramiko.SFTPFile, asked: list[tuple[int, int]]) -> list[bytes]:
        """Stretches of an open file. Raises `Unreadable` for a bare *Failure* on a connection that stands: the server's disk fails there."""
        try:
            return list(file.readv(asked))
        except OSError as error:
            if type(error) is OSError and error.errno is None:
                file.stat()  # raises where the connection was cut
                raise not_given_back(self.server.words) from error
            raise

    def write(self, name: str, pieces: Iterator[bytes], *, after_bytes: int = 0) -> None:
        """See `share.Line`."""
        with (
            self._in_our_terms(),
            self.client.open(self._path(name), "r+b" if after_bytes else "wb") as file,
        ):
            file.seek(after_bytes)
            for piece in pieces:
                file.write(piece)
            self.client.sync(file)

    def move(self, name: str, to: str) -> None:
        """See `share.Line`; the names in the folder are synced too, where the server does that."""
        source, final = self._path(name), self._path(to)
        with self._in_our_terms():
            if _RENAME in self.client.extensions:
                self.client.posix_rename(source, final)
            else:
                self._move_in_two(name, to)
            # Of a folder only some servers will do it.
            with suppress(OSError), self.client.open(final.rpartition("/")[0] or "/", "r") as folder:
                self.client.sync(folder)

    def put_back(self, name: str, to: str) -> bool:
        """See `share.Line`."""
        with self._in_our_terms():
            try:
                self.client.stat(self._path(to))
            except FileNotFoundError:
                self.client.rename(self._path(name), self._path(to))  # never over what has come meanwhile
                return True
            return False

    def remove(self, name: str) -> None:
        """See `share.Line`."""
        with self._in_our_terms():
            self.client.remove(self._path(name))

    def make_folder(self, name: str) -> None:
        """See `share.Line`."""
        with self._in_our_terms():
            try:
                self.client.mkdir(self._path(name), 0o700)
            except FileNotFoundError:
                raise
            except OSError:
                if not stat.S_ISDIR(self.client.stat(self._path(name)).st_mode or 0):
                    raise

    def entries(self, folder: str) -> list[Entry]:
        """See `share.Line`."""
        with self._in_our_terms():
            found = self.client.listdir_attr(self._path(folder))
        told = [
            Entry(
                each.filename,
                stat.S_ISDIR(each.st_mode or 0),
                datetime.fromtimestamp(each.st_mtime or 0, UTC),
            )
            for each in found
            if stat.S_ISDIR(each.st_mode or 0) or stat.S_ISREG(each.st_mode or 0)
        ]
        return sorted(told, key=lambda each: each.name)

    def close(self) -> None:
        """See `share.Line`."""
        with suppress(Exception):  # whatever is still said on the way out is of no use to anybody
            self.client.get_channel().get_transport().close()  # type: ignore[union-attr]

    def _move_in_two(self, name: str, to: str) -> None:
        """For a server that renames over nothing: what was there is put aside first, and back where the new one doesn't come."""
        source, final, waiting = self._path(name), self._path(to), aside(to)
        try:
            self.client.rename(final, self._path(waiting))
        except FileNotFoundError:
            self.client.rename(source, final)
            return
        try:
            self.client.rename(source, final)
        except BaseException:
            self._return(waiting, to)
            raise
        with suppress(FileNotFoundError):  # a connection test has cleared it away
            self.client.remove(self._path(waiting))

    def _return(self, waiting: str, to: str) -> None:
        """Put back what was put aside, by another connection where this one was cut; else the connection test does it."""
        try:
            self.client.rename(self._path(waiting), self._path(to))
        except Exception:  # noqa: BLE001 - whatever cut this connection, another one tries
            with suppress(Exception), closing(self.server.dial()) as line:
                line.put_back(waiting, to)

    def _path(self, name: str) -> str:
        return f"{self.server.folder.rstrip('/')}/{name}" if name else self.server.folder

    @contextmanager
    def _in_our_terms(self) -> Iterator[None]:
        """Translate what is raised while the server is asked; a missing name is told as it is."""
        address = self.server.address
        try:
            yield
        except FileNotFoundError:
            raise
        except ApplianceError:
            raise
        except PermissionError as error:
            raise OperatorNeeded(
                f"{self.server.user} may not write in {self.server.words}",
                hint="give this user the right to read and write there",
            ) from error
        except (TimeoutError, EOFError, ConnectionError, paramiko.SSHException) as error:
            raise Transient(f"the connection to the file server {address} was cut") from error
        except OSError as error:
            raise self._failure() from error
        except Exception as error:  # SFTPError, struct.error, …: an answer that is none
            raise Transient(f"the connection to the file server {address} was cut") from error

    def _failure(self) -> ApplianceError:
        """What a bare *Failure* means, by what the server's file system says of itself."""
        try:
            room = self.client.room(self.server.folder)
        except Exception:  # noqa: BLE001 - whatever it answers, it doesn't say
            room = None
        return failure(self.server.words, room)


@dataclass(frozen=True, slots=True)
class Room:
    """What a server says of the file system that a folder is on."""

    free_bytes: int
    is_read_only: bool


def failure(words: str, room: Room | None) -> ApplianceError:
    """What a server means that says no more than *Failure* of the folder `words`, on a file system with `room`. Pure."""
    if room is not None and room.is_read_only:
        return OperatorNeeded(
            f"the folder {words} is read-only",
            hint="make it writable on the file server, or look at the health of its disks",
        )
    if room is not None and room.free_bytes < _SCARCE_BYTES:
        return OutOfResources(f"there is no room left in {words}", hint="make room on the file server")
    return Transient(f"the folder {words} failed", hint="if it lasts, look at the file server itself")


def prepare(settings: DestinationSettings) -> DestinationSettings:
    """With a key of its own, where the box is to come in by a key and has none yet. Nothing is connected."""
    if settings.options.get("login") != "key" or settings.secret:
        return settings
    made = Ed25519PrivateKey.generate()
    public = made.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    told = f"{public.decode()} clinicbox"
    return replace(settings, options={**settings.options, "public_key": told}, secret=private.decode())


def by_key(settings: DestinationSettings, private: str) -> DestinationSettings:
    """Coming in by a private key that a person has made, which is kept as if made here. Raises `Refused`. Nothing is connected."""
    try:
        key = paramiko.Ed25519Key.from_private_key(io.StringIO(private))
    except (paramiko.SSHException, ValueError) as error:
        raise Refused(
            "that is no Ed25519 key that opens without a passphrase",
            hint="make one: ssh-keygen -t ed25519 -N '' -f nas-key, and copy nas-key.pub to the server",
        ) from error
    told = f"{key.get_name()} {key.get_base64()} clinicbox"
    return replace(settings, options={**settings.options, "login": "key", "public_key": told}, secret=private)


def trust(settings: DestinationSettings, fingerprint: str) -> DestinationSettings:
    """With the server's key pinned, if it is the one that a person has read on the server itself.

    Raises `Refused` if the server shows another one, and `Transient` if it does not answer.
    """
    server = SftpServer.from_settings(settings)
    shown = server.shown_key()
    told = fingerprint.rsplit(maxsplit=1)[-1] if fingerprint.split() else ""
    if told.rstrip("=") != shown.partition(" ")[2]:
        raise Refused(
            f"the server shows the key {shown}, which is not the one that was typed",
            hint="if the server itself shows this one, type it as it stands there; else somebody is in between",
            field="fingerprint",
        )
    return replace(settings, options={**settings.options, "host_key": shown})


class _Client(paramiko.SFTPClient):
    """paramiko's, which also keeps what the server announces, and speaks three of OpenSSH's extensions."""

    extensions: frozenset[str]

    @classmethod
    def over(cls, transport: paramiko.Transport) -> _Client:
        """Raises `OperatorNeeded`, `Transient`."""
        try:
            channel = transport.open_session(timeout=LOGIN_SECONDS)
            channel.settimeout(ANSWER_SECONDS)
            channel.invoke_subsystem("sftp")
            return cls(channel)
        except (paramiko.ChannelException, paramiko.SFTPError) as error:
            raise OperatorNeeded(
                "the file server lets us in but offers no SFTP", hint="allow SFTP for this user there"
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not transport.is_active():
                raise Transient("the file server hung up") from error
            raise OperatorNeeded(
                "the file server lets us in but offers no SFTP", hint="allow SFTP for this user there"
            ) from error
        except Exception as error:
            raise Transient("the file server hung up") from error

    def _send_version(self) -> int:
        hello = Message()
        hello.add_int(3)
        self._send_packet(CMD_INIT, hello)  # type: ignore[attr-defined]
        kind, data = self._read_packet()  # type: ignore[attr-defined]
        if kind != CMD_VERSION:
            raise paramiko.SFTPError("no SFTP is spoken there")
        told = Message(data[4:])
        announced = set()
        while told.get_remainder():
            announced.add(told.get_string().decode("utf-8", "replace"))
            told.get_string()  # its version
        self.extensions = frozenset(announced)
        return int(struct.unpack(">I", data[:4])[0])

    def sync(self, file: paramiko.SFTPFile) -> None:
        """What was written to an open file is on the server's disk; nothing where the server does not know how."""
        if _FSYNC in self.extensions:
            self._request(CMD_EXTENDED, _FSYNC, file.handle)

    def room(self, folder: str) -> Room | None:
        """See `Room`; nothing where the server does not know how."""
        if _STATVFS not in self.extensions:
            return None
        kind, answer = self._request(CMD_EXTENDED, _STATVFS, folder)
        if kind != CMD_EXTENDED_REPLY:
            return None
        fields = [answer.get_int64() for _ in range(11)]
        return Room(free_bytes=fields[1] * fields[4], is_read_only=bool(fields[9] & _READ_ONLY))

    def _request(self, kind: int, *told: Any) -> Any:
        return super()._request(kind, *told)  # type: ignore[misc]


def _is_key(told: str) -> bool:
    """Whether `told` may be the words of a key that a server could show: its type, and its SHA-256. Pure."""
    kind, _, fingerprint = told.partition(" ")
    return kind in _KINDS and bool(_FINGERPRINT.fullmatch(fingerprint))


def _words_of(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"


def _private(text: str) -> paramiko.Ed25519Key:
    try:
        return paramiko.Ed25519Key.from_private_key(io.StringIO(text))
    except (paramiko.SSHException, ValueError) as error:
        raise OperatorNeeded(
            "the key of this destination cannot be used",
            hint="take the destination away and add it again",
        ) from error
