"""Samba from Debian on loopback, with everything that it keeps in a folder of its own, as whoever runs the tests."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.model import DestinationSettings
from tests.replication.file_servers import free_port, kept, me, running

PASSWORD = "a long password that Samba knows"
SHARE = "backup"
NAME = "testnas"
"""What the server calls itself."""


@dataclass(frozen=True)
class ShareServer:
    """A running server, whom it lets in, and the folder behind its share."""

    port: int
    user: str
    data: Path

    def settings(self, folder: str | None = None, **options: str | int | bool) -> DestinationSettings:
        """The destination in a folder of its own, which is made; nobody has asked yet what the server calls itself."""
        if folder is None:
            folder = secrets.token_hex(4)
            (self.data / folder).mkdir()
        told: dict[str, str | int | bool] = {
            "address": "127.0.0.1",
            "port": self.port,
            "share": SHARE,
            "folder": folder,
            "user": self.user,
            **options,
        }
        return DestinationSettings("share", "smb", "ciphertext", told, PASSWORD)

    def below(self, settings: DestinationSettings) -> Path:
        """Where on this disk the folder of a destination is."""
        return self.data / str(settings.options["folder"])


@contextmanager
def samba(
    home: Path,
    *,
    settings: str = "",
    of_the_share: str = "read only = no",
    password: str = PASSWORD,
    name: str = NAME,
    port: int = 0,
    begin: Sequence[str] = (),
    data: Path | None = None,
) -> Iterator[ShareServer]:
    """Samba, with more `settings` of the whole server, or others of the share; `begin` is what its command begins with."""
    data = data or home / "data"
    state = home / "state"
    for each in (home, data, state):
        each.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    configuration = f"""
        [global]
        server role = standalone server
        netbios name = {name}
        smb ports = {port}
        interfaces = 127.0.0.1/8
        bind interfaces only = yes
        disable netbios = yes
        private dir = {state}
        lock directory = {state}
        state directory = {state}
        cache directory = {state}
        pid directory = {state}
        ncalrpc dir = {state / "ncalrpc"}
        log file = {home / "log"}
        passdb backend = tdbsam:{state / "passdb.tdb"}
        load printers = no
        printcap name = /dev/null
        disable spoolss = yes
        {settings}
        [{SHARE}]
        path = {data}
        {of_the_share}
    """
    conf = kept(home / "smb.conf", configuration)
    found = {each: shutil.which(each, path=f"/usr/sbin:{os.defpath}") for each in ("smbd", "pdbedit")}
    assert all(found.values()), "these tests need Debian's samba: make setup"
    subprocess.run(
        [str(found["pdbedit"]), "-s", conf, "-a", "-t", "-u", me()],
        input=f"{password}\n{password}\n",
        text=True,
        capture_output=True,
        check=True,
    )
    command: list[str | Path] = [*begin, str(found["smbd"]), "--foreground", "--no-process-group", "-s", conf]
    with running(command, port, home / "said"):
        yield ShareServer(port, me(), data)


def unreachable() -> DestinationSettings:
    """A server that is switched off."""
    options: dict[str, str | int | bool] = {
        "address": "127.0.0.1",
        "port": free_port(),
        "share": SHARE,
        "folder": "clinic",
        "user": "clinic",
    }
    return DestinationSettings("share", "smb", "ciphertext", options, PASSWORD)
