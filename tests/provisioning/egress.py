"""What leaves a box, asked with packets: programs of each account call, and the network at the other end of the cable says what came.

`python -m tests.provisioning.egress RULES`, begun as root in a network of its own (`tests.networks.apart`): loads the rules, and says each
promise once it is seen to be kept. `tests.provisioning.walls` is the same of what comes in. Accounts go by numbers, since this machine has
none of their names.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.networks import Network, another, run
from tests.provisioning.walls import BOX, BOX6, FAR, FAR6, NEAR, NEAR6, NFT, SOME

ROOT = Path(__file__).parents[2]
DEFAULTS: Mapping[str, Any] = yaml.safe_load(
    (ROOT / "provisioning/roles/firewall/defaults/main.yml").read_text()
)
NUMBERS = {
    "root": 0,
    "appliance": 64001,
    "_apt": 64002,
    "appliance-support": 64003,
    "www-data": 64004,
    "_chrony": 64005,
    "nobody": 65534,
}
NAMES = {"tcp": {53}, "udp": {53}}
"""Of everybody, where no resolver is named."""
TIME = {"tcp": {4460}, "udp": {123}}

PATIENCE_SECONDS = 60.0
PORTS = sorted(
    {
        *SOME,
        *DEFAULTS["firewall_out_ports"],
        *DEFAULTS["firewall_support_ports"],
        *(port for needed in (NAMES, TIME) for ports in needed.values() for port in ports),
    }
)
WAYS = {NEAR: BOX[0], FAR: BOX[1], NEAR6: BOX6[0], FAR6: BOX6[1]}
"""Each address beyond the cable, and from which of the box's it is called."""

WATCH = """\
table inet watch {
  set came4 { type inet_proto . ipv4_addr . inet_service; flags dynamic; size 65535; }
  set came6 { type inet_proto . ipv6_addr . inet_service; flags dynamic; size 65535; }
  chain before {
    type filter hook prerouting priority -300;
    tcp flags syn / syn,ack,rst,fin add @came4 { meta l4proto . ip daddr . th dport }
    tcp flags syn / syn,ack,rst,fin add @came6 { meta l4proto . ip6 daddr . th dport }
    meta l4proto udp add @came4 { meta l4proto . ip daddr . th dport }
    meta l4proto udp add @came6 { meta l4proto . ip6 daddr . th dport }
  }
}
"""
SERVER = """\
import socket
with socket.create_server(("::", 443), family=socket.AF_INET6, dualstack_ipv6=True) as door:
    print("open", flush=True)
    while True:
        there, _ = door.accept()
        with there:
            there.sendall(b"there")
"""
Packet = tuple[str, str, int]
"""Protocol, where to, and which port."""


@dataclass
class Beyond:
    """The network at the other end of the box's cable, with addresses of a clinic's own and of the Internet."""

    network: Network

    def came(self, account: str, expected: set[Packet]) -> set[Packet]:
        """What comes of all that `account` calls. What is expected is sent again until it has: a cable may lose a packet."""
        for name in ("came4", "came6"):
            run(*self.network.inside, NFT, "flush", "set", "inet", "watch", name)
        call(account, {(how, target, port) for how in NAMES for target in WAYS for port in PORTS})
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (missing := expected - self._came()) and time.monotonic() < deadline:
            call(account, missing)
        return self._came()

    def _came(self) -> set[Packet]:
        listed: set[Packet] = set()
        for name in ("came4", "came6"):
            asked = (*self.network.inside, NFT, "--json", "--numeric", "list", "set", "inet", "watch", name)
            told = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
            (found,) = (each["set"] for each in told["nftables"] if "set" in each)
            for protocol, target, port in (each["concat"] for each in found.get("elem", ())):
                listed.add(({"6": "tcp", "17": "udp"}.get(str(protocol), str(protocol)), target, port))
        # The kernel itself says other things beyond the cable, as neighbours do.
        return {each for each in listed if each[1] in WAYS}


def call(account: str, packets: set[Packet]) -> str:
    """A program of `account` sends them."""
    words: list[str] = []
    for how, target in sorted({each[:2] for each in packets}):
        ports = sorted(port for one, other, port in packets if (one, other) == (how, target))
        words += [how, WAYS[target], target, ",".join(map(str, ports))]
    program = [sys.executable, "-I", str(Path(__file__).with_name("calling.py")), str(NUMBERS[account])]
    done = subprocess.run([*program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def may_send(account: str) -> set[Packet]:
    """What it may, of all that is tried, by the role's own lists."""
    more = set[int]()
    if account in DEFAULTS["firewall_accounts"]:
        more = set(DEFAULTS["firewall_out_ports"])
    elif account in DEFAULTS["firewall_fetchers"]:
        more = {80, 443}
    elif account == "appliance-support":
        more = set(DEFAULTS["firewall_support_ports"])
    needed = (NAMES, TIME) if account in DEFAULTS["firewall_clocks"] else (NAMES,)
    found = {(how, target, port) for each in needed for how in each for target in WAYS for port in each[how]}
    found |= {("tcp", target, port) for target in WAYS for port in more}
    if account in DEFAULTS["firewall_accounts"]:
        found |= {(how, target, port) for how in NAMES for target in (NEAR, NEAR6) for port in PORTS}
    return found


def tell(rules: Path) -> None:
    """Load the rules in the box's network, and call."""
    with another() as network:
        network.cable(ours=("box0", f"{BOX[0]}/24"), theirs=("beyond0", f"{NEAR}/24"))
        run("ip", "address", "add", f"{BOX[1]}/24", "dev", "box0")
        run(*network.inside, "ip", "address", "add", f"{FAR}/24", "dev", "beyond0")
        for ours, theirs in zip(BOX6, (NEAR6, FAR6), strict=True):
            run("ip", "address", "add", f"{ours}/64", "dev", "box0", "nodad")
            run(*network.inside, "ip", "address", "add", f"{theirs}/64", "dev", "beyond0", "nodad")
        subprocess.run([*network.inside, NFT, "--file", "-"], input=WATCH, text=True, check=True)
        beyond = Beyond(network)
        everything = {(how, target, port) for how in NAMES for target in WAYS for port in PORTS}
        assert beyond.came("nobody", everything) == everything, "nothing but the rules holds a packet"
        run(NFT, "--file", rules)
        for account in NUMBERS:
            expected = may_send(account)
            found = beyond.came(account, expected)
            assert found == expected, f"{account}: {sorted(found ^ expected)[:20]}"
            print(f"of {account} comes what its list names, and nothing else")
        stands(network)


def stands(network: Network) -> None:
    """A connection, with an answer, of one that may; and one that may not is told so at once."""
    server = [*network.inside, sys.executable, "-I", "-c", SERVER]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as answering:
        try:
            assert answering.stdout is not None
            assert answering.stdout.readline() == "open\n"
            for target in (FAR, FAR6):
                assert call("appliance", {("in", target, 443)}) == "there"
                told = call("www-data", {("in", target, 443)})
                assert told in ("OSError", "PermissionError"), told
        finally:
            answering.kill()
    print("the appliance is answered from beyond, and the front is told at once that it may not call")


if __name__ == "__main__":
    tell(Path(sys.argv[1]))
