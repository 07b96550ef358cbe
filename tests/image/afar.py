"""The box as the clinic's network sees it: a cable that leads into a network of its own, in which somebody asks every port (R15).

What the box says of itself, of its sockets and its rules, its other tests hold; here nobody asks it. The network has a router that
gives addresses (dnsmasq), and a stranger with nmap.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.image.machine import Hardware, Machine, switched_on
from tests.image.promises import PROMISED_PORTS, image, kept, running

NAMESPACE, CABLE = "box-lan", "lan0"
ROUTER, FIRST, LAST = "192.168.77.1", "192.168.77.50", "192.168.77.99"
STRANGER = "203.0.113.9"
"""Who has come from beyond the clinic's network (RFC 5737): his answers go by way of the router."""

LEASE_SECONDS = 600.0
PORTS_BY_IPV6 = (443,)
"""The console alone: machines that send DICOM are given the box's address of IPv4, and its socket listens there only."""

PROGRAMS = {"nmap": "nmap", "dnsmasq": "dnsmasq-base", "ip": "iproute2"}

ALL_PORTS = ("-sS", "-p-", "--min-rate", "1000", "--max-retries", "2")
ALL = 65_535
UDP_PORTS = (
    "-sU",
    "--top-ports",
    "200",
    "-p",
    "U:67,68,123,137,161,1900,3702,5353,5355,11112",
    "--max-retries",
    "1",
)
"""What machines of a clinic's network usually answer to."""


@dataclass(frozen=True)
class Lan:
    """A network with one socket free."""

    leases: Path

    def run(self, *words: str) -> str:
        """What a program of this network prints."""
        done = subprocess.run(
            ["ip", "netns", "exec", NAMESPACE, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words[0]}: {done.stderr}"
        return done.stdout

    def address(self) -> str:
        """The address that the router has given, once it has."""
        deadline = time.monotonic() + LEASE_SECONDS
        while time.monotonic() < deadline:
            for line in self.leases.read_text().splitlines() if self.leases.exists() else ():
                fields = line.split()
                if len(fields) > 2 and fields[2].startswith("192.168.77."):
                    return fields[2]
            time.sleep(2)
        raise SystemExit("the box has asked for no address")

    def knows(self, address: str) -> None:
        """Keep the hardware address of a machine that has answered: nmap asks twice for it, and goes where a slow one is late."""
        told = self.run("ip", "neigh", "show", address, "dev", CABLE).split()
        own = told[told.index("lladdr") + 1]
        self.run("ip", "neigh", "replace", address, "lladdr", own, "dev", CABLE, "nud", "permanent")

    def open_at(self, address: str, *how: str) -> set[tuple[str, int]]:
        """Protocol and port of all that answers at `address` to who asks so."""
        told = self.run("nmap", "-n", "-Pn", "-oX", "-", *how, address)
        found = set()
        for port in ET.fromstring(told).iter("port"):
            state = port.find("state")
            if state is not None and state.get("state") == "open":
                found.add((str(port.get("protocol")), int(str(port.get("portid")))))
        return found


@contextmanager
def lan(folder: Path) -> Iterator[Lan]:
    """A network apart from this machine's, with a router."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], check=True)
    leases = folder / "leases"
    subprocess.run(["ip", "netns", "delete", NAMESPACE], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    router: subprocess.Popen[bytes] | None = None
    try:
        found = Lan(leases)
        for words in (
            f"ip tuntap add {CABLE} mode tap",
            f"ip address add {ROUTER}/24 dev {CABLE}",
            f"ip address add {STRANGER}/32 dev {CABLE}",
            f"ip link set {CABLE} up",
            "ip link set lo up",
        ):
            found.run(*words.split())
        router = subprocess.Popen(
            [
                *(
                    "ip",
                    "netns",
                    "exec",
                    NAMESPACE,
                    "dnsmasq",
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                ),
                *(
                    "--port=0",
                    f"--interface={CABLE}",
                    f"--dhcp-range={FIRST},{LAST},1h",
                    "--dhcp-authoritative",
                ),
                *(f"--dhcp-leasefile={leases}", "--user=root", "--pid-file="),
            ],
            stderr=(folder / "router.log").open("wb"),
        )
        yield found
    finally:
        if router is not None:
            router.terminate()
            router.wait(30)
        subprocess.run(["ip", "netns", "delete", NAMESPACE], check=False)


def afar(hardware: Hardware) -> None:
    """A box from its carton, on a network of a clinic."""
    hardware.assemble(image(".test"))
    with (
        lan(hardware.folder) as network,
        switched_on(hardware, wired_to=(NAMESPACE, CABLE)) as machine,
    ):
        running(machine)
        given = network.address()
        own = machine.inside("ip -4 -o address show scope global")
        kept(f"the network's router gives it an address, {given}", given in own, own)
        wanted = {("tcp", port) for port in PROMISED_PORTS}
        found = network.open_at(given, *ALL_PORTS)
        kept(f"of all 65,535 ports of TCP those that are promised answer: {sorted(PROMISED_PORTS)}", found == wanted, str(found))  # fmt: skip
        near = machine.inside("ip -6 -o address show scope link dev $(ls /sys/class/net | grep -v lo)")
        address = near.split("inet6 ")[1].split("/")[0]
        found = network.open_at(f"{address}%{CABLE}", "-6", *ALL_PORTS)
        so = found == {("tcp", port) for port in PORTS_BY_IPV6}
        kept(f"by IPv6 {sorted(PORTS_BY_IPV6)}, and no others", so, str(found))
        before = packets(machine)
        network.knows(given)
        found = network.open_at(given, "--disable-arp-ping", "-S", STRANGER, "-e", CABLE, *ALL_PORTS)
        came = packets(machine) - before
        so = not found and came > ALL
        kept(f"none answers who calls from beyond the clinic's network, {came} packets", so, str(found))
        found = network.open_at(given, *UDP_PORTS)
        kept("nothing answers by UDP", not found, str(found))
        machine.power_off()


def packets(machine: Machine) -> int:
    """How many have come to the box by its cable."""
    return int(machine.inside("cat $(ls -d /sys/class/net/* | grep -v /lo$)/statistics/rx_packets"))
