"""Runs sysupdate, and says beside when that began which version comes, how far it is, and how long it is.

    update_progress.py ADDRESS TOLD COMMAND...

The second line of TOLD is ``VERSION PERCENT BYTES`` as soon as all three are known, and is missing until then.

Chose what sysupdate tells of itself to whoever starts it (``X_SYSUPDATE_VERSION``, ``X_SYSUPDATE_PROGRESS``, ``X_SYSUPDATE_TRANSFERS_DONE``
by sd_notify(3), since 257), because it knows what was there already. To it each file is as long as the next; so the server is asked how
long each is (HEAD), which judges nothing. Rejected counting what the service receives, which has the protocol's own and
what came twice in it, and reading the journal's lines, which are for people. Each share is rounded down, so a figure is never ahead.
What isn't known isn't told, and the update goes on all the same.
"""

import configparser
import glob
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request

TRANSFERS = "/run/sysupdate.d"
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.~^_-]{0,39}", re.ASCII)
LONGEST_LIST_BYTES = 1 << 20
ASK_SECONDS = 60
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
    with (
        tempfile.TemporaryDirectory(dir=os.path.dirname(told)) as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said,
    ):
        said.bind(f"{folder}/said")
        said.settimeout(LOOK_SECONDS)
        fetch = Fetch(address, told, f"{folder}/told")
        threading.Thread(target=fetch.hear, args=(said,), daemon=True).start()
        environment = {**os.environ, "NOTIFY_SOCKET": f"{folder}/said"}
        process = subprocess.Popen(command, env=environment)
        if is_ended:  # before anything could be told of it
            process.terminate()
        code = process.wait()
        return code if code >= 0 else 128 - code


class Fetch:
    """One version that comes, in files of so many bytes: in the order of the transfers, unknown until the server has said it."""

    def __init__(self, address: str, told: str, aside: str) -> None:
        self.address, self.told, self.aside = address.rstrip("/"), told, aside
        with open(told, encoding="ascii") as began:
            self.since = began.readline()
        self.version = self.line = ""
        self.sizes: list[int] = []
        self.overall = self.done = self.left = 0
        """As sysupdate says them last: what is there of all of it, how many files are, and how many aren't; of none before the first."""

    def hear(self, said: socket.socket) -> None:
        """Take what sysupdate says, until it ends; it never waits for this."""
        while True:
            try:
                words = said.recv(1 << 16).decode("utf-8", "replace").splitlines()
            except TimeoutError:
                words = []
            except OSError:
                return
            self.take(dict(each.split("=", 1) for each in words if "=" in each))
            self.tell()

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
        except (OSError, ValueError, TypeError, configparser.Error) as error:
            print(f"how far it is can't be told: {error}", file=sys.stderr)

    def tell(self) -> None:
        """Write down how far it is, if that is known and has changed: whole, or not at all."""
        sizes = self.sizes
        if not sum(sizes) or self.done + self.left not in (0, len(sizes)):
            return
        line = f"{self.version} {percent_of(sizes, self.overall, self.done)} {sum(sizes)}\n"
        if line == self.line:
            return
        self.line = line
        with open(self.aside, "w", encoding="ascii") as file:
            file.write(self.since + line)
        os.replace(self.aside, self.told)


def percent_of(sizes: list[int], overall: int, done: int) -> int:
    """The whole percents that are there at least; `overall` is sysupdate's figure, to which each of the files is as long as the next."""
    at = min(100, max(0, overall * len(sizes) - 100 * done))
    return (100 * sum(sizes[:done]) + at * sizes[done]) // sum(sizes)


def sizes_of(address: str, version: str) -> list[int]:
    """How long each file of a version is, in the order of the transfers. Raises `ValueError` if one is missing, `TypeError` if it isn't said."""
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
            found.append(int(answer.headers["Content-Length"]))
    return found


def ask(method: str, address: str):
    """The answer of the server of updates; whoever calls has seen that the address begins with http."""
    return urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=ASK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
