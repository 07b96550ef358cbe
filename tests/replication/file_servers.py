"""Real file servers on loopback, as whoever runs the tests: OpenSSH's, and ProFTPD's, which lacks OpenSSH's extensions."""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from appliance.model import DestinationSettings
from appliance.replication.destinations import sftp
from tests.system.running import wait_for

PASSWORD = "a password that ProFTPD knows"


def me() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


@dataclass(frozen=True)
class FileServer:
    """A running server, what it lets in, and the folder that the tests look at."""

    port: int
    user: str
    login: str
    secret: str
    folder: Path

    def settings(self, folder: Path | str | None = None, **options: str | int | bool) -> DestinationSettings:
        """The destination in a folder of its own, which is made; nobody has trusted its key yet."""
        if folder is None:
            folder = self.folder / secrets.token_hex(4)
            folder.mkdir()
        told: dict[str, str | int | bool] = {
            "address": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "folder": str(folder),
            "login": self.login,
            **options,
        }
        return DestinationSettings("nas", "sftp", "ciphertext", told, self.secret)

    def trusted(self, folder: Path | str | None = None, **options: str | int | bool) -> DestinationSettings:
        """As `settings`, the key pinned."""
        settings = self.settings(folder, **options)
        shown = sftp.SftpServer.from_settings(settings).shown_key()
        return sftp.trust(settings, shown)


def private_key(kind: str = "ed25519") -> tuple[str, str]:
    """A new key as SSH keeps it, and its public half."""
    made: Any
    match kind:
        case "rsa":
            made = rsa.generate_private_key(65537, 2048)
        case "ecdsa":
            made = ec.generate_private_key(ec.SECP256R1())
        case _:
            made = ed25519.Ed25519PrivateKey.generate()
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = made.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), public.decode()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as trial:
        trial.settimeout(1)
        return trial.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: Sequence[str | Path], port: int, said: Path) -> Iterator[None]:
    with said.open("wb") as output:
        server = subprocess.Popen([str(each) for each in command], stdout=output, stderr=output)
    try:
        wait_for(lambda: _answers(port) or server.poll() is not None, "the file server answers")
        assert server.poll() is None, said.read_text("utf-8", "replace")
        yield
    finally:
        # Whoever is connected has a process of its own, which outlives the one that listens.
        for each in psutil.Process(server.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has gone with its connection
                each.kill()
        server.kill()
        server.wait()


def kept(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


@contextmanager
def openssh(
    home: Path, *, host_key: str = "", port: int = 0, begin: Sequence[str] = (), folder: Path | None = None
) -> Iterator[FileServer]:
    """OpenSSH, which lets in the key that it is given with; `begin` is what the command begins with."""
    home.mkdir(parents=True, exist_ok=True)
    data = folder or home / "data"
    data.mkdir(exist_ok=True)
    private, public = private_key()
    port = port or free_port()
    if os.getuid() == 0:  # where the package's own service would have it
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    configuration = f"""
        Port {port}
        ListenAddress 127.0.0.1
        HostKey {kept(home / "host_key", host_key or private_key()[0])}
        AuthorizedKeysFile {kept(home / "let_in", public)}
        PidFile none
        UsePAM no
        StrictModes no
        PasswordAuthentication no
        PermitRootLogin yes
        Subsystem sftp internal-sftp
    """
    sshd = shutil.which("sshd", path=f"/usr/sbin:{os.defpath}")
    assert sshd, "these tests need Debian's openssh-server: make setup"
    command: list[str | Path] = [*begin, sshd, "-D", "-e", "-f", kept(home / "sshd_config", configuration)]
    with running(command, port, home / "said"):
        yield FileServer(port, me(), "key", private, data)


@contextmanager
def proftpd(home: Path, *, port: int = 0) -> Iterator[FileServer]:
    """ProFTPD, with a password and without any of OpenSSH's extensions; in the same `home` again, with the same key."""
    home.mkdir(parents=True, exist_ok=True)
    data = home / "data"
    data.mkdir(exist_ok=True)
    port, user = port or free_port(), me()
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True, check=True
    ).stdout.strip()
    line = f"clinic:{hashed}:{os.getuid()}:{os.getgid()}::{data}:/bin/false\n"
    # Its key is an older type, as those of older machines are.
    if not (host_key := home / "host_key").exists():
        rsa_key = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        kept(host_key, rsa_key.decode())
    configuration = f"""
        ServerName tests
        ServerType standalone
        Port {port}
        DefaultAddress 127.0.0.1
        SocketBindTight on
        UseReverseDNS off
        WtmpLog off
        User {user}
        Group {grp.getgrgid(os.getgid()).gr_name}
        ModulePath /usr/lib/proftpd
        LoadModule mod_sftp.c
        ScoreboardFile none
        PidFile {home / "pid"}
        SystemLog {home / "log"}
        DelayEngine off
        AuthOrder mod_auth_file.c
        AuthUserFile {kept(home / "users", line)}
        RequireValidShell off
        RootLogin on
        SFTPEngine on
        SFTPHostKey {host_key}
        SFTPExtensions -fsync -posixRename -statvfs
        SFTPAuthMethods password
    """
    server = shutil.which("proftpd", path=f"/usr/sbin:{os.defpath}")
    assert server, "these tests need Debian's proftpd-core and proftpd-mod-crypto: make setup"
    command: list[str | Path] = [
        server,
        "--nodaemon",
        "--quiet",
        "--config",
        kept(home / "conf", configuration),
    ]
    with running(command, port, home / "said"):
        yield FileServer(port, "clinic", "password", PASSWORD, data)


def unreachable() -> DestinationSettings:
    """A server that is switched off."""
    options: dict[str, str | int | bool] = {
        "address": "127.0.0.1",
        "port": free_port(),
        "user": "clinic",
        "folder": "/volume1/backup",
        "host_key": f"ssh-ed25519 SHA256:{'x' * 43}",
    }
    return DestinationSettings("nas", "sftp", "ciphertext", options, "secret")


def with_wrong_secret(settings: DestinationSettings) -> DestinationSettings:
    """The same, with a password or a key that is not let in."""
    wrong = private_key()[0] if settings.options["login"] == "key" else "another password"
    return replace(settings, secret=wrong)
