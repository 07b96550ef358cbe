"""Where the archive of a clinic may be when the clinic's power fails: it goes on as it is, at every request that was under way.

A disk in the box's own USB port loses its power with the box, so it lies in the folder whose states `tests.campaigns.power` keeps. A
bucket and a file server do not: what they hold is laid beside each state as it is at that moment (`lay`), and put back before the box
is opened again (`become`). Each request that changes something is a step of its own, before it is sent and once it is done, when the
box has not heard of it; before and after the others the same is there as at the box's own steps around them.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import unquote

from paramiko import sftp as codes
from smbprotocol.open import (
    SMB2CloseRequest,
    SMB2CreateRequest,
    SMB2FlushRequest,
    SMB2SetInfoRequest,
    SMB2WriteRequest,
)

from appliance.model import DestinationSettings
from appliance.replication.destinations import prepare, sftp
from appliance.replication.destinations.smb_connection import SmbConnection
from tests.replication.cloud import Cloud, Fault, Line, Request, cloud, line, settings
from tests.replication.file_servers import openssh, proftpd
from tests.replication.shares import samba

Step = Callable[[str], None]


class RemotePlace(Protocol):
    """An archive, and what a test does to it behind the box's back."""

    @property
    def settings(self) -> DestinationSettings:
        """The destination that it is."""

    def lay(self, into: Path) -> None:
        """Copy all that it holds into a folder, which is made."""

    def become(self, folder: Path) -> None:
        """Hold what lies in `folder`, and nothing else."""

    def stepping(self, step: Step) -> AbstractContextManager[None]:
        """Tell `step` of each request, before and after."""

    def everything(self) -> Iterator[bytes]:
        """All that whoever takes it away can read, half written or not."""


@dataclass(frozen=True)
class Disk:
    """A disk that lies in the clinic's own folder, and loses its power when the box does."""

    settings: DestinationSettings

    @property
    def folder(self) -> Path:
        return Path(str(self.settings.options["path"]))

    def lay(self, into: Path) -> None:
        pass

    def become(self, folder: Path) -> None:
        pass

    @contextmanager
    def stepping(self, step: Step) -> Iterator[None]:
        yield

    def everything(self) -> Iterator[bytes]:
        yield from _files(self.folder)


@dataclass(frozen=True)
class Bucket:
    """A bucket of a real server, behind a line that can be broken; `held` is what the current versions are."""

    cloud: Cloud
    line: Line
    name: str
    client: Any
    held: dict[str, bytes] = field(default_factory=dict)

    @property
    def settings(self) -> DestinationSettings:
        return settings(self.line.url, self.name)

    def lay(self, into: Path) -> None:
        for key, data in self.held.items():
            (into / key).parent.mkdir(parents=True, exist_ok=True)
            (into / key).write_bytes(data)

    def become(self, folder: Path) -> None:
        client = self.client
        for page in client.get_paginator("list_object_versions").paginate(Bucket=self.name):
            gone = [
                {"Key": each["Key"], "VersionId": each["VersionId"]}
                for kind in ("Versions", "DeleteMarkers")
                for each in page.get(kind, [])
            ]
            if gone:
                client.delete_objects(Bucket=self.name, Delete={"Objects": gone})
        self.held.clear()
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            key, data = path.relative_to(folder).as_posix(), path.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            client.put_object(Bucket=self.name, Key=key, Body=data, Metadata={"sha256": sha256})
            self.held[key] = data

    def look(self) -> None:
        """Learn what lies there."""
        self.held.clear()
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        self.held.update({key: self.get(key) for key in keys})

    def get(self, key: str) -> bytes:
        """The current version of one, by no line."""
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    @contextmanager
    def stepping(self, step: Step) -> Iterator[None]:
        self.look()

        def before(request: Request) -> Fault | None:
            if request.method == "PUT":
                step(f"before {_words(request)}")
            return None

        def after(request: Request) -> None:
            if request.method == "PUT":
                key = self.key_of(request)
                self.held[key] = self.get(key)
                step(f"after {_words(request)}")

        self.line.fault, self.line.answered = before, after
        try:
            yield
        finally:
            self.line.fault, self.line.answered = lambda _: None, lambda _: None

    def key_of(self, request: Request) -> str:
        return unquote(request.path).removeprefix(f"/{self.name}").removeprefix("/")

    def everything(self) -> Iterator[bytes]:
        """The current versions: what was written over, a bucket keeps for its own days."""
        self.look()
        yield from self.held.values()


def _words(request: Request) -> str:
    end = unquote(request.path).split("/", 2)[-1]
    return f"{request.method} {end if '/' in end else 'a list'}"


@dataclass(frozen=True)
class FileServer:
    """A folder of a file server, which is on this machine's disk; `following` tells of what is asked of it."""

    settings: DestinationSettings
    folder: Path
    following: Callable[[Step], AbstractContextManager[None]]

    def lay(self, into: Path) -> None:
        shutil.copytree(self.folder, into)

    def become(self, folder: Path) -> None:
        for each in self.folder.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        shutil.copytree(folder, self.folder, dirs_exist_ok=True)

    def stepping(self, step: Step) -> AbstractContextManager[None]:
        return self.following(step)

    def everything(self) -> Iterator[bytes]:
        yield from _files(self.folder)


def _files(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.read_bytes()


# --- what is asked of a file server ----------------------------------------------------------------------------------

_CHANGING: Final = {
    getattr(codes, f"CMD_{name}"): name
    for name in ("OPEN", "WRITE", "CLOSE", "REMOVE", "RENAME", "MKDIR", "RMDIR", "SETSTAT", "EXTENDED")
}
_CHANGING_SMB: Final = (
    SMB2CreateRequest,
    SMB2WriteRequest,
    SMB2FlushRequest,
    SMB2SetInfoRequest,
    SMB2CloseRequest,
)


@contextmanager
def following_sftp(step: Step) -> Iterator[None]:
    """Around each request of the library's client that may change something: this thread's. Others read ahead."""
    client: Any = sftp._Client
    sent, heard = client._async_request, client._read_response
    pending: list[str] = []
    me = threading.get_ident()

    def ask(self: Any, whose: Any, kind: int, *told: Any) -> Any:
        if threading.get_ident() == me and (name := _CHANGING.get(kind)) is not None:
            step(f"before {name}")
            pending.append(name)
        return sent(self, whose, kind, *told)

    def hear(self: Any, *told: Any) -> Any:
        try:
            return heard(self, *told)
        finally:
            if threading.get_ident() == me and pending:
                step(f"after {pending.pop()}")

    client._async_request, client._read_response = ask, hear
    try:
        yield
    finally:
        client._async_request, client._read_response = sent, heard


@contextmanager
def following_smb(step: Step) -> Iterator[None]:
    """Around each request that may change something, as the other."""
    connection: Any = SmbConnection
    sent, heard = connection.send, connection.receive
    pending: list[str] = []
    me = threading.get_ident()

    def ask(self: Any, message: Any, *told: Any, **more: Any) -> Any:
        if threading.get_ident() == me and isinstance(message, _CHANGING_SMB):
            name = type(message).__name__
            step(f"before {name}")
            pending.append(name)
        return sent(self, message, *told, **more)

    def hear(self: Any, *told: Any, **more: Any) -> Any:
        try:
            return heard(self, *told, **more)
        finally:
            if threading.get_ident() == me and pending:
                step(f"after {pending.pop()}")

    connection.send, connection.receive = ask, hear
    try:
        yield
    finally:
        connection.send, connection.receive = sent, heard


# --- the places ------------------------------------------------------------------------------------------------------


@contextmanager
def on_a_disk(clinic: Path, servers: Path) -> Iterator[RemotePlace]:
    """A USB disk of the clinic in the folder `clinic`."""
    yield a_disk_in(clinic)


def a_disk_in(clinic: Path) -> Disk:
    """A USB disk that nobody has to serve."""
    (clinic / "usb").mkdir(parents=True)
    return Disk(prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(clinic / "usb")})))


@contextmanager
def in_a_bucket(clinic: Path, servers: Path) -> Iterator[Bucket]:
    """A bucket with versions of moto's."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the server would print a line for each request
    with cloud() as running, a_bucket_of(running) as bucket:
        yield bucket


@contextmanager
def a_bucket_of(server: Cloud) -> Iterator[Bucket]:
    """A new bucket with versions of a server that runs, behind a line of its own."""
    with line(server.port) as the_line:
        yield Bucket(server, the_line, server.new_bucket(versioned=True), server.client())


@contextmanager
def by_sftp(clinic: Path, servers: Path) -> Iterator[RemotePlace]:
    """OpenSSH."""
    with openssh(servers / "openssh") as server:
        found = server.trusted()
        yield FileServer(found, Path(str(found.options["folder"])), following_sftp)


@contextmanager
def by_plain_sftp(clinic: Path, servers: Path) -> Iterator[RemotePlace]:
    """ProFTPD, which moves nothing over a file, and syncs none."""
    with proftpd(servers / "proftpd") as server:
        found = server.trusted()
        yield FileServer(found, Path(str(found.options["folder"])), following_sftp)


@contextmanager
def by_smb(clinic: Path, servers: Path) -> Iterator[RemotePlace]:
    """Samba."""
    with samba(servers / "samba") as server:
        found = prepare(server.settings())
        yield FileServer(found, server.below(found), following_smb)


PLACES: Final[Mapping[str, Callable[[Path, Path], AbstractContextManager[RemotePlace]]]] = MappingProxyType(
    {
        "disk": on_a_disk,
        "bucket": in_a_bucket,
        "sftp": by_sftp,
        "plain-sftp": by_plain_sftp,
        "smb": by_smb,
    }
)
