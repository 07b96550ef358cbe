"""The firewall with real packets: the box in one network, whoever knocks in another, and every port that there is.

`python -m tests.provisioning.walls RULES`, begun in a network of its own (`tests.networks.apart`): loads the rules, and says each promise
once it is seen to be kept. What passes the rules is written down by the kernel itself, in a chain after them, as what arrives is in
one before them; so nobody waits for an answer that does not come, and a packet that was lost on the way is sent again.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.config import DicomConfig
from tests.networks import Network, another, run

NFT = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") or "nft"
"""Debian's, which only root finds in its path."""

PROMISED = frozenset({443, DicomConfig().port})
"""The console by TLS, and DICOM."""
ICMP, ICMP6 = socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6
ALL = range(1, 65536)
SOME = sorted({*range(1, 1025), *PROMISED, DicomConfig().tls_port, 8080, 9000, 32768, 65535})

BOX, NEAR, FAR = ("192.168.77.1", "203.0.113.1"), "192.168.77.2", "203.0.113.2"
BOX6, NEAR6, FAR6 = ("fd77::1", "2001:db8:77::1"), "fd77::2", "2001:db8:77::2"
"""Addresses within the private ranges, and beyond them (RFC 5737, RFC 3849)."""

WATCH = """\
table inet watch {
  set arrived_tcp { type inet_service; flags dynamic; size 65535; }
  set arrived_udp { type inet_service; flags dynamic; size 65535; }
  set passed_tcp { type inet_service; flags dynamic; size 65535; }
  set passed_udp { type inet_service; flags dynamic; size 65535; }
  set arrived_ping { type inet_proto; flags dynamic; size 255; }
  set passed_ping { type inet_proto; flags dynamic; size 255; }
  chain before {
    type filter hook input priority -10;
    tcp flags syn / syn,ack,rst,fin add @arrived_tcp { tcp dport }
    meta l4proto udp add @arrived_udp { udp dport }
    icmp type echo-request add @arrived_ping { meta l4proto }
    icmpv6 type echo-request add @arrived_ping { meta l4proto }
  }
  chain after {
    type filter hook input priority 10;
    tcp flags syn / syn,ack,rst,fin add @passed_tcp { tcp dport }
    meta l4proto udp add @passed_udp { udp dport }
    icmp type echo-request add @passed_ping { meta l4proto }
    icmpv6 type echo-request add @passed_ping { meta l4proto }
  }
}
"""


@dataclass
class Street:
    """The network from which somebody knocks."""

    network: Network

    def passed(self, how: str, source: str, target: str, ports: Sequence[int]) -> set[int]:
        """Knock at `ports` until each knock has arrived; which of them the rules let in."""
        run(NFT, "flush", "set", "inet", "watch", f"arrived_{how}")
        run(NFT, "flush", "set", "inet", "watch", f"passed_{how}")
        while missing := set(ports) - members(f"arrived_{how}"):
            self.knock(how, source, target, missing)
        return members(f"passed_{how}")

    def stand_open(self, source: str, target: str, ports: Sequence[int]) -> set[int]:
        """To which of `ports` a connection stood; each is tried until it does."""
        return set(map(int, self.knock("in", source, target, set(ports)).split()))

    def knock(self, how: str, source: str, target: str, ports: set[int]) -> str:
        """Knock once at each."""
        program = [sys.executable, "-I", str(Path(__file__).with_name("knock.py"))]
        done = subprocess.run(
            [*self.network.inside, *program, source, target, how, *ranges(sorted(ports))],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout


def ranges(ports: Sequence[int]) -> Iterator[str]:
    """The same ports, those in a row together."""
    first = last = ports[0]
    for port in [*ports[1:], 0]:
        if port != last + 1:
            yield f"{first}-{last}"
            first = port
        last = port


def members(name: str) -> set[int]:
    """What the kernel has written down."""
    told = subprocess.run(
        [NFT, "--json", "--numeric", "list", "set", "inet", "watch", name],
        capture_output=True,
        text=True,
        check=True,
    )
    (found,) = (each["set"] for each in json.loads(told.stdout)["nftables"] if "set" in each)
    return set(found.get("elem", ()))


@contextmanager
def street() -> Iterator[Street]:
    """A street before the box, which has an address of either kind in it, for each protocol."""
    with another() as network:
        network.cable(ours=("box0", f"{BOX[0]}/24"), theirs=("street0", f"{NEAR}/24"))
        run("ip", "address", "add", f"{BOX[1]}/24", "dev", "box0")
        run(*network.inside, "ip", "address", "add", f"{FAR}/24", "dev", "street0")
        for ours, theirs in zip(BOX6, (NEAR6, FAR6), strict=True):
            run("ip", "address", "add", f"{ours}/64", "dev", "box0", "nodad")
            run(*network.inside, "ip", "address", "add", f"{theirs}/64", "dev", "street0", "nodad")
        yield Street(network)


def tell(rules: Path) -> None:
    """Load the rules, and knock."""
    run(NFT, "--file", rules)
    subprocess.run([NFT, "--file", "-"], input=WATCH, text=True, check=True)
    with street() as there, ExitStack() as open_doors:
        # What answers, and what must not be reached although it would.
        for port in (*PROMISED, DicomConfig().tls_port, 22, 8080):
            door = open_doors.enter_context(
                socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            )
            assert door.getsockname()[1] == port
        assert there.passed("tcp", NEAR, BOX[0], ALL) == PROMISED
        assert there.passed("tcp", NEAR6, BOX6[0], SOME) == PROMISED
        assert there.stand_open(NEAR, BOX[0], sorted(PROMISED)) == PROMISED
        assert there.stand_open(NEAR6, BOX6[0], sorted(PROMISED)) == PROMISED
        print("the clinic's network reaches DICOM and the console, and no other of 65535 ports")
        for source, target in ((NEAR, BOX[0]), (FAR, BOX[1])):
            assert not there.passed("udp", source, target, ALL)
        for source, target in ((NEAR6, BOX6[0]), (FAR6, BOX6[1])):
            assert not there.passed("udp", source, target, SOME)
        print("nobody reaches any by UDP")
        assert not there.passed("tcp", FAR, BOX[1], ALL)
        assert not there.passed("tcp", FAR, BOX[0], SOME), "nor by the address that it has in the clinic"
        assert not there.passed("tcp", FAR6, BOX6[1], SOME)
        print("from beyond the clinic's network nothing is reached")
        assert there.passed("ping", NEAR, BOX[0], [ICMP]) == {ICMP}
        assert there.passed("ping", NEAR6, BOX6[0], [ICMP6]) == {ICMP6}
        assert not there.passed("ping", FAR, BOX[1], [ICMP])
        assert not there.passed("ping", FAR6, BOX6[1], [ICMP6])
        print("and nobody there learns that there is a box")


if __name__ == "__main__":
    tell(Path(sys.argv[1]))
