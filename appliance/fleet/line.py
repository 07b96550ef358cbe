"""The line to the vendor: an ssh that dials out, and an sshd for each caller who comes back through it.

It runs only while a session is open, under an account that has nothing of the box (`support-line.service`): what it needs it
gets from the desk (`appliance.fleet.desk`) over a socket, and when the desk closes that, or is gone, everything here is
killed. Beside that, each child is under ``timeout``, a process of its own, which kills it at the end of the session even
if this process hangs; and of a line that hangs systemd's watchdog makes an end before. Of a session that was closed early the line
hears by the desk alone: where the jobs process hangs, whose the desk is, the tunnel stays until its watchdog ends that process
(``WatchdogSec=`` of `appliance-jobs.service`, two minutes), and where no systemd is (a container, `appliance run`) until the end
that the session was opened with.

Nothing listens on the network: ssh forwards what comes through the tunnel to a socket in a folder of ours, and for each
caller sshd is started on that connection alone (``sshd -i``). Its host key, the vendor's authority and the principals are
those of this session, in a folder in memory that goes with it. There is no terminal, no forwarding and no other command
than the counter.

Chose OpenSSH over a tunnel of our own, because its certificates, its refusals and its bugs are known; over WireGuard,
because it needs no rights and brings only this, not a network.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance import supervision
from appliance.errors import OperatorNeeded, Transient

log = logging.getLogger(__name__)

MOST_CALLERS = 3
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
TICK_SECONDS = 0.5
WITHOUT_DESK_SECONDS = 2.0
"""How long the line stays when no desk answers. To end so is no failure to its unit, which would not wait before it starts the
line again where the socket of a desk is still there and nobody behind it, as when the jobs process cannot start."""
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = ("ssh", "sshd", "setpriv", "timeout")
"""What the line is made of."""

SSHD = """\
HostKey {folder}/own
PidFile none
UsePAM no
StrictModes no
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile none
TrustedUserCAKeys {folder}/authority.pub
AuthorizedPrincipalsFile {folder}/principals
ExposeAuthInfo yes
DisableForwarding yes
PermitTTY no
PermitTunnel no
PermitUserRC no
PermitUserEnvironment no
PrintMotd no
MaxAuthTries 3
MaxSessions 1
LoginGraceTime 30
ClientAliveInterval 15
ClientAliveCountMax 3
ForceCommand {counter}
"""
"""StrictModes is off because the folder is ours alone and was made for this session."""


@dataclass
class Line:
    """One session's processes. `folder` is empty, private, and in memory where the machine has such a place."""

    desk: Path
    told: Mapping[str, Any]
    folder: Path
    ends: float = 0.0
    pause_seconds: float = FIRST_PAUSE_SECONDS
    dial_at: float = 0.0
    dialled: float = 0.0
    ssh: subprocess.Popen[bytes] | None = None
    callers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ends = time.monotonic() + float(self.told["seconds"])
        _write(self.folder / "dialling", self.told["dialling"])
        _write(self.folder / "own", self.told["own"])
        _write(self.folder / "authority.pub", self.told["authority"] + "\n")
        _write(self.folder / "principals", "\n".join(self.told["principals"]) + "\n")
        port = int(self.told["port"])
        name = self.told["host"] if port == 22 else f"[{self.told['host']}]:{port}"
        _write(self.folder / "known_hosts", f"{name} {self.told['host_key']}\n")
        ours = Path(__file__).parents[2]  # the counter of this installation, whatever else there is
        counter = f'PYTHONPATH="{ours}" "{sys.executable}" -m appliance support counter --desk "{self.desk}"'
        _write(self.folder / "sshd_config", SSHD.format(folder=self.folder, counter=counter))

    def run(self, held: socket.socket) -> None:
        """Keep the line up until the desk lets go of `held`, or the time is over; then kill whatever runs."""
        inner = self.folder / "inner"
        with socket.socket(socket.AF_UNIX) as listening, selectors.DefaultSelector() as waiting:
            listening.bind(str(inner))
            listening.listen(MOST_CALLERS)
            waiting.register(held, selectors.EVENT_READ)
            waiting.register(listening, selectors.EVENT_READ)
            try:
                while time.monotonic() < self.ends:
                    supervision.alive()
                    self._look_after()
                    for key, _ in waiting.select(TICK_SECONDS):
                        if key.fileobj is held:
                            return
                        self._let_in(listening)
            finally:
                self._kill()

    def _look_after(self) -> None:
        """Dial, or dial again; forget callers who have left."""
        self.callers = [each for each in self.callers if each.poll() is None]
        now = time.monotonic()
        if self.ssh is not None and self.ssh.poll() is not None:
            log.info("the line to the vendor ended: code=%d", self.ssh.returncode)
            if now - self.dialled > LONGEST_PAUSE_SECONDS:
                self.pause_seconds = FIRST_PAUSE_SECONDS
            self.ssh, self.dial_at = None, now + self.pause_seconds
            self.pause_seconds = min(2 * self.pause_seconds, LONGEST_PAUSE_SECONDS)
        if self.ssh is None and now >= self.dial_at:
            self.ssh, self.dialled = self._start(self._dialling(), stdin=subprocess.DEVNULL), now

    def _dialling(self) -> list[str]:
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": f"{self.folder}/known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "IdentityFile": f"{self.folder}/dialling",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "ExitOnForwardFailure": "yes",
            "ConnectTimeout": "20",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "3",
            "ForwardAgent": "no",
            "LogLevel": "ERROR",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        forward = f"{self.told['forward_port']}:{self.folder}/inner"
        there = f"{self.told['user']}@{self.told['host']}"
        return ["ssh", "-N", "-T", "-F", "none", *words, "-p", str(self.told["port"]), "-R", forward, there]

    def _let_in(self, listening: socket.socket) -> None:
        caller, _ = listening.accept()
        with caller:
            if len(self.callers) < MOST_CALLERS:
                command = [_sshd(), "-i", "-f", f"{self.folder}/sshd_config"]
                self.callers.append(self._start(command, stdin=caller.fileno(), stdout=caller.fileno()))

    def _start(
        self, command: Sequence[str], *, stdin: int, stdout: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """A child in a group of its own, which ends with this process, and with the session whatever this process does."""
        left = max(1.0, self.ends - time.monotonic())
        guarded = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            "--",
            "timeout",
            "--signal=KILL",
            f"{left:.1f}",
            *command,
        ]
        environment = {"PATH": _PATH, "LANG": "C.UTF-8"}
        return subprocess.Popen(
            guarded, stdin=stdin, stdout=stdout, env=environment, start_new_session=True, close_fds=True
        )

    def _kill(self) -> None:
        for child in filter(None, (self.ssh, *self.callers)):
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def run(desk: Path) -> int:
    """Take part in the session that is open; until it is over. Raises `Transient` when there is none.

    That it has begun is said before it is known whether there is one: a unit that ends earlier has failed, and is started again.
    """
    supervision.ready("taking part in a session of support")
    with socket.socket(socket.AF_UNIX) as held:
        try:
            held.connect(str(desk))
            held.sendall(b'{"ask": "line"}\n')
            told = json.loads(_line(held))
        except (OSError, ValueError) as error:
            time.sleep(WITHOUT_DESK_SECONDS)
            raise Transient(
                "no session of support is open", hint="the clinic opens one in the console"
            ) from error
        with _folder() as folder:
            if os.geteuid() == 0:  # in a container: sshd as root wants its own empty folder
                Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
            Line(desk, told, folder).run(held)
    return 0


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for the keys of a session: in memory if there is such a place."""
    places = (os.environ.get("RUNTIME_DIRECTORY", ""), "/dev/shm", tempfile.gettempdir())
    place = next(each for each in places if each and os.access(each, os.W_OK))
    folder = Path(tempfile.mkdtemp(prefix="support-line-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_possible() -> bool:
    """Whether this system has what the line is made of; a machine that somebody has set up by hand may lack sshd."""
    return all(shutil.which(program, path=_PATH) for program in PROGRAMS)


def _sshd() -> str:
    found = shutil.which("sshd", path=_PATH)
    if found is None:
        raise OperatorNeeded("there is no sshd on this machine", hint="install openssh-server")
    return found


def _line(stream: socket.socket) -> bytes:
    """The first line that comes; empty if the other side leaves before."""
    kept = b""
    while not kept.endswith(b"\n"):
        piece = stream.recv(65536)
        if not piece:
            return b""
        kept += piece
    return kept


def _write(path: Path, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w") as stream:
        stream.write(text)
