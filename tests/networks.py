"""Networks of one's own on one machine: processes that are each in another network, joined by cables.

As root, or by a namespace of users in which whoever runs the tests may do as much; where neither is to be had, that is said and
nothing is passed over.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.running import wait_for

_WAYS = (
    ("unshare", "--net", "--"),
    ("unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--"),
)


def apart() -> list[str]:
    """The beginning of a command that runs in a network of its own, where it may do as root does."""
    for way in _WAYS:
        done = subprocess.run([*way, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
        if done.returncode == 0:
            return list(way)
    raise AssertionError(
        "nobody may make a network here: run the tests as root, in a container with --privileged (or CAP_SYS_ADMIN and"
        " CAP_NET_ADMIN), or allow namespaces of users (kernel.unprivileged_userns_clone,"
        " kernel.apparmor_restrict_unprivileged_userns); iproute2 is needed too"
    )


@dataclass(frozen=True)
class Network:
    """A network beside this process's own. `inside` begins a command that runs in it."""

    holder: int
    inside: Sequence[str]

    def cable(self, *, ours: tuple[str, str], theirs: tuple[str, str]) -> None:
        """Join it with this process's network; each end has a name, and an address with its prefix."""
        run("ip", "link", "add", "name", ours[0], "type", "veth", "peer", "name", theirs[0])
        run("ip", "link", "set", theirs[0], "netns", self.holder)
        for (name, address), enter in ((ours, ()), (theirs, self.inside)):
            run(*enter, "ip", "address", "add", address, "dev", name)
            if Path("/proc/net/if_inet6").exists():  # so that the kernel says nothing on it by itself
                run(*enter, "ip", "link", "set", "dev", name, "addrgenmode", "none")
            for each in ("lo", name):
                run(*enter, "ip", "link", "set", each, "up")


@contextmanager
def another() -> Iterator[Network]:
    """A network beside this process's own, which must be one made for the purpose (`apart`)."""
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as holder:
        try:
            there = Path(f"/proc/{holder.pid}/ns/net")
            ours = os.readlink("/proc/self/ns/net")
            wait_for(lambda: os.readlink(there) != ours, "the other network is there")
            yield Network(holder.pid, ("nsenter", f"--net={there}", "--"))
        finally:
            holder.kill()


def run(*words: object) -> None:
    """Run a command that must succeed."""
    subprocess.run(
        [str(each) for each in words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
