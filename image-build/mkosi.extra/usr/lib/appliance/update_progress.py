"""Runs sysupdate, and says beside when that began which version comes, how far it is, and how long it is.

    update_progress.py ADDRESS TOLD COMMAND...

The second line of TOLD is ``VERSION PERCENT BYTES`` as soon as all three are known, and is missing until then.

Chose what sysupdate tells of itself to whoever starts it (``X_SYSUPDATE_VERSION``, ``X_SYSUPDATE_PROGRESS``, ``X_SYSUPDATE_TRANSFERS_DONE``
by sd_notify(3), since 257), because it knows what was there already. To it each file is as long as the next; so the server is asked how
long each is (HEAD), which judges nothing. Rejected counting what the service receives, which has the protocol's own and
what came twice in it, and reading the journal's lines, which are for people. Each share is rounded down, so a figure is never ahead.
What isn't known isn't told, and the update goes on all the same: whatever fails here, sysupdate runs, what it says is taken (its sd_notify
waits for room, and the update's lock would be held for ever), and what counts is how it ends.
"""

import configparser
import contextlib
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator

TRANSFERS = "/run/sysupdate.d"
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.~^_-]{0,39}", re.ASCII)
LONGEST_LIST_BYTES = 1 << 20
ASK_SECONDS = 60
LONGEST_FILE_BYTES = 1 << 40
LOOK_SECONDS = 5
"""How often it is looked whether the server has answered, while sysupdate says nothing."""


def main() -> int:
    """The exit status is that of the command."""
    address, told, *command = sys.argv[1:]
    process: subprocess.Popen[bytes] | None = None
    is_ended = False

    def end(*_: object) -> None:
        nonlocal is_ended
        is_ended = True
        if process is not None:
            process.terminate()

    signal.signal(signal.SIGTERM, end)
    with heard(address, told) as environment:
        # What `update` has opened stays open in it: the update's lock is held for as long as anything of an update runs, whoever else ends.
        process = subprocess.Popen(command, env={**os.environ, **environment}, close_fds=False)
        if is_ended:  # before anything could be told of it
            process.terminate()
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def heard(address: str, told: str) -> Iterator[dict[str, str]]:
    """What a command's environment needs for this to hear it, for as long as it runs; nothing if that can't be had: then it runs unheard."""
    environment = {}
    with contextlib.ExitStack() as ends:
        try:
            folder = tempfile.mkdtemp(dir=os.path.dirname(told))
            ends.callback(shutil.rmtree, folder, ignore_errors=True)
            said = ends.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            said.bind(f"{folder}/said")
            said.settimeout(LOOK_SECONDS)
            fetch = Fetch(address, told, f"{folder}/told")
            hearing = threading.Thread(target=fetch.hear, args=(said,), daemon=True)
            hearing.start()
            ends.callback(fetch.end, said, hearing)
            environment = {"NOTIFY_SOCKET": f"{folder}/said"}
        except Exception as error:  # noqa: BLE001 - the update is worth more than its figure
            complain(error)
        yield environment


class Fetch:
    """One version that comes, in files of so many bytes: in the order of the transfers, unknown until the server has said it."""

    def __init__(self, address: str, told: str, aside: str) -> None:
        self.address, self.told, self.aside = address.rstrip("/"), told, aside
        with open(told, encoding="ascii") as began:
            self.since = began.readline()
        self.version = self.line = self.complaint = ""
        self.is_over = False
        self.sizes: list[int] = []
        self.overall = self.done = self.left = 0
        """As sysupdate says them last: what is there of all of it, how many files are, and how many aren't; of none before the first."""

    def hear(self, said: socket.socket) -> None:
        """Take what sysupdate says, until it ends; it never waits for this. Whoever no longer listens closes the socket: then it doesn't either."""
        with said:
            while not self.is_over:
                try:
                    words = said.recv(1 << 16).decode("utf-8", "replace").splitlines()
                except TimeoutError:
                    words = []
                except OSError:
                    return
                try:
                    self.take(dict(each.split("=", 1) for each in words if "=" in each))
                    self.tell()
                except Exception as error:  # noqa: BLE001 - a full /run, for one: the next may be told again
                    if str(error) != self.complaint:
                        self.complaint = str(error)
                        complain(error)

    def end(self, said: socket.socket, hearing: threading.Thread) -> None:
        """Nothing more is written once this is back."""
        self.is_over = True
        with contextlib.suppress(OSError):
            said.sendto(b"", said.getsockname())  # or it waits for a word
        hearing.join(2 * LOOK_SECONDS)

    def take(self, words: dict[str, str]) -> None:
        """Keep what one message says."""
        version = words.get("X_SYSUPDATE_VERSION", "")
        if version != self.version and VERSION.fullmatch(version):
            self.version = version
            threading.Thread(target=self.measure, daemon=True).start()
        figures = ("PROGRESS", "TRANSFERS_DONE", "TRANSFERS_LEFT")
        said = [words.get(f"X_SYSUPDATE_{each}", "") for each in figures]
        if all(each.isdecimal() for each in said) and int(said[2]):
            self.overall, self.done, self.left = map(int, said)

    def measure(self) -> None:
        """Ask the server how long each file of the version is."""
        try:
            self.sizes = sizes_of(self.address, self.version)
        except Exception as error:  # noqa: BLE001 - it is a server's answer
            complain(error)

    def tell(self) -> None:
        """Write down how far it is, if that is known and has changed: whole, or not at all."""
        sizes = self.sizes
        if not sum(sizes) or self.done + self.left not in (0, len(sizes)):
            return
        line = f"{self.version} {percent_of(sizes, self.overall, self.done)} {sum(sizes)}\n"
        if line == self.line:
            return
        with open(self.aside, "w", encoding="ascii") as file:
            file.write(self.since + line)
            os.fchmod(file.fileno(), 0o644)  # the appliance reads it
        os.replace(self.aside, self.told)
        self.line = line


def complain(error: Exception) -> None:
    """Not by `print`: a thread that is in the middle of one as all ends would have Python abort."""
    with contextlib.suppress(OSError):
        words = f"how far it is can't be told: {type(error).__name__}: {error}\n"
        os.write(2, words.encode("utf-8", "replace"))


def percent_of(sizes: list[int], overall: int, done: int) -> int:
    """The whole percents that are there at least; `overall` is sysupdate's figure, to which each of the files is as long as the next."""
    at = min(100, max(0, overall * len(sizes) - 100 * done))
    return (100 * sum(sizes[:done]) + at * sizes[done]) // sum(sizes)


def sizes_of(address: str, version: str) -> list[int]:
    """How long each file of a version is, in the order of the transfers. Raises `ValueError` if one is missing or can't be as long."""
    with ask("GET", f"{address}/SHA256SUMS") as answer:
        listed = answer.read(LONGEST_LIST_BYTES).decode("utf-8", "replace").splitlines()
    offered = [each.split(maxsplit=1)[1].lstrip("*") for each in listed if " " in each.strip()]
    found = []
    for path in sorted(glob.glob(f"{TRANSFERS}/*.transfer")):
        transfer = configparser.RawConfigParser(strict=False)
        transfer.read(path, encoding="utf-8")
        pattern = re.escape(transfer["Source"]["MatchPattern"])
        pattern = pattern.replace("@v", re.escape(version)).replace("@u", "[0-9a-fA-F-]+")
        (name,) = [each for each in offered if re.fullmatch(pattern, each)]
        with ask("HEAD", f"{address}/{name}") as answer:
            length = int(answer.headers["Content-Length"] or 0)
        if not 0 < length <= LONGEST_FILE_BYTES:
            raise ValueError(f"{name} can't be {length} bytes long")
        found.append(length)
    return found


def ask(method: str, address: str):
    """The answer of the server of updates; whoever calls has seen that the address begins with http."""
    return urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=ASK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
