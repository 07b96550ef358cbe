"""What a box that runs lets in and out, and by whose clock it goes: its own rules and time servers, held against those of this tree.

Of the firewall, what the kernel has loaded is compared with what it makes of the file that was shipped, in a network of its own within
the box. Then each account calls, without an answer or a server: what leaves a program, and what of it passes the rules, the kernel
writes down itself, in chains before and after them that are there for as long as is asked.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.image.machine import Machine
from tests.image.promises import kept

ROOT = Path(__file__).parents[2]
RULES = "/etc/nftables.conf"
LOADED = "nft --stateless list ruleset"
OF_THE_FILE = f"unshare --net sh -c 'nft --file {RULES} && {LOADED}'"

NEAR, FAR = "10.201.77.9", "203.0.113.77"
"""An address within the private ranges, and one beyond them (RFC 5737), to which nothing else calls."""

NAMES, SIGNED_TIME = 53, 4460

ASKED = (9, 22, 25, 53, 80, 104, 443, 445, 465, 587, 2762, 4460, 6514, 8080, 11112, 65535)
"""What each account calls: every port that some may, and others."""

MAY_NOT = ("root", "www-data", "_chrony", "systemd-resolve", "nobody")
"""Who writes the disk, the front, the clock's keeper, who asks for names, and whoever is nobody in particular: but for time and names they call
nowhere."""

WATCH = f"""\
table inet watch {{
  set left_near {{ type inet_service; flags dynamic; size 65535; }}
  set left_far {{ type inet_service; flags dynamic; size 65535; }}
  set passed_near {{ type inet_service; flags dynamic; size 65535; }}
  set passed_far {{ type inet_service; flags dynamic; size 65535; }}
  chain before {{
    type filter hook output priority -10;
    ip daddr {NEAR} tcp flags syn / syn,ack,rst,fin add @left_near {{ tcp dport }}
    ip daddr {FAR} tcp flags syn / syn,ack,rst,fin add @left_far {{ tcp dport }}
  }}
  chain after {{
    type filter hook output priority 10;
    ip daddr {NEAR} tcp flags syn / syn,ack,rst,fin add @passed_near {{ tcp dport }}
    ip daddr {FAR} tcp flags syn / syn,ack,rst,fin add @passed_far {{ tcp dport }}
  }}
}}
"""

CALL = f"""\
import socket
(cable,) = [name for _, name in socket.if_nameindex() if name != "lo"]
for address in "{NEAR}", "{FAR}":
    for port in {ASKED}:
        with socket.socket() as calling:
            calling.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, cable.encode())
            calling.setblocking(False)
            calling.connect_ex((address, port))
"""
"""Calls once at each and waits for nobody. To a socket that is bound to the cable everything is at the other end of it: the network of
the test has no way to the Internet."""

Inside = Callable[[str], str]
"""Runs a command of the shell where the rules are, as root, and says what it prints."""


def defaults(role: str) -> dict[str, Any]:
    """The variables of a role, as it ships them."""
    return dict(yaml.safe_load((ROOT / "provisioning/roles" / role / "defaults/main.yml").read_text()))


def shipped_rules() -> str:
    """The file of rules as the image's build renders it."""
    made: str = _assemble()["rendered"]("firewall", "nftables.conf.j2")
    return made


def shipped_lists() -> dict[str, Any]:
    """The lists that it is made of."""
    found: dict[str, Any] = _assemble()["variables"]("firewall")
    return found


def _assemble() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "image-build/assemble.py"))


# --- the firewall ----------------------------------------------------------------------------------------------------


def firewall(machine: Machine) -> None:
    """Its rules are those that were shipped, and they do to each account what they say."""
    kept(
        "the firewall's file is that of this tree",
        machine.inside(f"cat {RULES}") == shipped_rules(),
        "built from another tree, or altered",
    )
    loaded, made = machine.inside(LOADED), machine.inside(OF_THE_FILE)
    kept("what the kernel has loaded is that file, and nothing beside it", is_same(loaded, made), loaded)
    try:
        machine.inside(f"nft --file - <<'END'\n{WATCH}END")
        for account, expected in may_call(shipped_lists()).items():
            found = calls(machine.inside, account)
            kept(
                f"{account} calls {_said(expected)}, and no further",
                found == expected,
                f"{found}, not {expected}",
            )
    finally:
        machine.inside("nft delete table inet watch", check=False)
    kept("afterwards the rules are the same", is_same(machine.inside(LOADED), made))


def is_same(loaded: str, made: str) -> bool:
    """Whether two listings are one ruleset, which drops what it doesn't name in each of its chains."""
    return loaded == made and loaded.count("policy drop;") == 3


def may_call(lists: Mapping[str, Sequence[Any]]) -> dict[str, tuple[frozenset[int], frozenset[int]]]:
    """Account → the ports of `ASKED` that it may call in the clinic's network, and beyond it."""

    def of(account: str, ports: Sequence[int]) -> frozenset[int]:
        asks = {NAMES} if account in (lists["firewall_resolvers"] or [account]) else set[int]()
        asks |= {SIGNED_TIME} if account in lists["firewall_clocks"] else set()
        return frozenset(asks) | frozenset(ports)

    found = {
        account: (frozenset(ASKED), of(account, lists["firewall_out_ports"]))
        for account in lists["firewall_accounts"]
    }
    narrow: dict[str, Sequence[int]] = {account: [80, 443] for account in lists["firewall_fetchers"]}
    narrow |= {account: [80, 443] for account in lists["firewall_updaters"]}
    narrow |= {"appliance-support": lists["firewall_support_ports"]} | {each: [] for each in MAY_NOT}
    found |= {account: (of(account, ports), of(account, ports)) for account, ports in narrow.items()}
    for account in lists["firewall_updaters"]:
        found[account] = frozenset(ASKED), found[account][1]
    asked = frozenset().union(*(ports for each in found.values() for ports in each))
    assert asked <= set(ASKED), f"not asked: {asked - set(ASKED)}"
    return found


def calls(inside: Inside, account: str) -> tuple[frozenset[int], frozenset[int]]:
    """The ports of `NEAR` and of `FAR` to which packets of `account` pass the rules, while `WATCH` is loaded."""
    for name in ("left_near", "left_far", "passed_near", "passed_far"):
        inside(f"nft flush set inet watch {name}")
    inside(f"setpriv --reuid={account} --clear-groups python3 -I -c '{CALL}'")
    for name in ("left_near", "left_far"):
        left = _members(inside, name)
        assert left == set(ASKED), f"{account} has not called: {sorted(set(ASKED) - left)}"
    return _members(inside, "passed_near"), _members(inside, "passed_far")


def _members(inside: Inside, name: str) -> frozenset[int]:
    told = json.loads(inside(f"nft --json --numeric list set inet watch {name}"))
    (found,) = (each["set"] for each in told["nftables"] if "set" in each)
    return frozenset(found.get("elem", ()))


def _said(expected: tuple[frozenset[int], frozenset[int]]) -> str:
    near, far = (sorted(each) for each in expected)
    here = "every port asked" if near == sorted(ASKED) else ", ".join(map(str, near))
    there = ", ".join(map(str, far))
    return (
        f"{here} here and beyond" if near == far else f"{here} in the clinic's network and {there} beyond it"
    )


# --- the clock -------------------------------------------------------------------------------------------------------


def clock(machine: Machine) -> None:
    """Who keeps it runs, asks the servers that were shipped and no others, serves nobody, and knows its crystal after a start."""
    unit = "chrony.service"
    state = machine.inside(f"systemctl is-active {unit}; systemctl show -P NRestarts {unit}").split()
    kept("who keeps the clock runs, and was never restarted", state == ["active", "0"], str(state))
    owner = machine.inside(f"ps -o user= -p $(systemctl show -P MainPID {unit})").strip()
    kept("and is not root", owner == "_chrony", owner)
    asked = servers(machine.inside("chronyc -c -N sources -a"))
    kept(
        "it asks the time servers that were shipped, and no others",
        asked == set(defaults("base")["base_ntp_servers"]),
        str(asked),
    )
    activity = machine.inside("chronyc -n activity")
    kept("and has given up none of them", tried(activity) == len(asked), activity)
    # It writes down what it has learnt when it ends: a box that is told to start again does so.
    machine.inside(f"systemctl restart {unit}")
    drift = machine.inside("stat -c %U:%s $(sed -n 's/^driftfile //p' /etc/chrony/chrony.conf)").strip()
    name, _, size = drift.partition(":")
    kept("how fast its crystal goes is kept for the next start", name == "_chrony" and int(size) > 0, drift)
    machine.inside("systemctl start clock-state.service")
    told = machine.inside("cat /run/appliance-clock/state").split()
    kept(
        "the appliance is told whether the clock follows them", told[:1] in (["follows"], ["free"]), str(told)
    )


def servers(listed: str) -> set[str]:
    """The names in what `chronyc -c -N sources -a` says."""
    return {line.split(",")[2] for line in listed.splitlines() if line}


def tried(activity: str) -> int:
    """How many sources `chronyc -n activity` counts that are asked, or looked for by their names."""
    told = [line.split(maxsplit=1) for line in activity.splitlines() if "source" in line]
    return sum(int(count) for count, what in told if "offline" not in what)
