"""What the harness asks of a box's network is asked here too, of rules and lists that are right and of some that are not."""

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image import network
from tests.networks import apart, run
from tests.provisioning.test_playbooks import rendered

NUMBERS = {
    "appliance": 64001,
    "_apt": 64002,
    "appliance-support": 64003,
    "www-data": 64004,
    "_chrony": 64005,
    "systemd-resolve": 64006,
    "update-way": 64007,
}
"""Accounts go by numbers here, because this machine has none of their names."""


def inside(command: str) -> str:
    """Run it here. Another account may not start this Python: it is started first, and becomes the account then."""
    command = re.sub(r"setpriv --reuid=(\S+) --clear-groups python3 -I -c '", _becoming, command)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _becoming(found: re.Match[str]) -> str:
    number = int(found[1]) if found[1].isdecimal() else pwd.getpwnam(found[1]).pw_uid
    return f"{sys.executable} -I -c 'import os, socket; os.seteuid({number})\n"


def tell(rules: Path) -> None:
    """In a network of its own: each account's ports, as the box is asked for them."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    run("ip", "link", "add", "name", "box0", "type", "veth", "peer", "name", "far0")
    run("ip", "link", "set", "far0", "netns", os.environ["OTHER"])
    run("ip", "address", "add", "10.0.2.15/24", "dev", "box0")
    run("ip", "link", "set", "box0", "up")
    run("nft", "--file", rules)
    subprocess.run(["nft", "--file", "-"], input=network.WATCH, text=True, check=True)
    for account, expected in network.may_call(network.shipped_lists()).items():
        found = network.calls(inside, str(NUMBERS.get(account, account)))
        print(account, "as promised" if found == expected else found)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("spoilt", [False, True])
def test_what_each_account_may_call_is_seen_of_its_packets(spoilt: bool, tmp_path: Path) -> None:
    rules = network.shipped_rules()
    for name, number in {"root": 0, **NUMBERS}.items():
        rules = re.sub(rf"(?<=skuid )(.*)(?<![\w-]){name}(?![\w-])", rf"\g<1>{number}", rules)
    if spoilt:
        rules = re.sub(
            r"(?=    limit rate 5/minute log prefix .appliance out)", "    tcp dport 8080 accept\n", rules
        )
    (tmp_path / "rules").write_text(rules)
    with subprocess.Popen([*apart(), "sleep", "infinity"]) as other:
        try:
            told = subprocess.run(
                [*apart(), sys.executable, "-m", "tests.image.test_network", str(tmp_path / "rules")],
                env=os.environ | {"OTHER": str(other.pid)},
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            other.kill()
    assert told.returncode == 0, told.stdout + told.stderr
    lines = told.stdout.splitlines()
    right = [line for line in lines if line.endswith(" as promised")]
    assert len(lines) == 9
    assert len(right) == (0 if spoilt else 9), told.stdout


def test_on_the_image_one_account_asks_for_names_and_one_for_the_time() -> None:
    """Or whoever breaks out of what faces the network has a way to anywhere, by a port that is open to all."""
    may = network.may_call(network.shipped_lists())
    for port, who in ((53, {"systemd-resolve"}), (4460, {"root", "_chrony"})):
        assert {account for account, (_, far) in may.items() if port in far} == who


def test_a_session_of_support_reaches_two_ports_wherever_the_vendor_may_be() -> None:
    """Also in the clinic's network: the vendor's machine is entered in the console, and may stand there. The front calls nobody, nor does root."""
    may = network.may_call(network.shipped_lists())
    assert may["appliance-support"] == (frozenset({22, 443}), frozenset({22, 443}))
    assert may["www-data"] == (frozenset(), frozenset())
    assert may["root"] == (frozenset({4460}), frozenset({4460})), (
        "who begins as the clock's keeper, and asks for the time"
    )


def test_versions_are_fetched_by_an_account_that_may_do_nothing_else() -> None:
    """An address of updates in the clinic's network may have any port, as before; beyond it those of HTTP and HTTPS."""
    may = network.may_call(network.shipped_lists())
    assert may["update-way"] == (frozenset(network.ASKED), frozenset({80, 443}))
    near = [each for each in network.shipped_rules().splitlines() if "update-way" in each and "@lan" in each]
    assert len(near) == 2
    assert all(each.endswith(" meta l4proto tcp accept") for each in near), "nothing by UDP"


def test_a_ruleset_that_differs_is_not_the_same() -> None:
    made = "chain input { policy drop; } chain forward { policy drop; } chain output { policy drop; }"
    assert network.is_same(made, made)
    assert not network.is_same(made + " tcp dport 22 accept", made)
    assert not network.is_same("", "")
    accepting = made.replace("drop", "accept")
    assert not network.is_same(accepting, accepting)


def test_the_file_of_rules_is_that_of_the_role() -> None:
    assert network.shipped_rules().rstrip("\n") == rendered(
        "firewall",
        "nftables.conf.j2",
        firewall_resolvers=["systemd-resolve"],
        firewall_accounts=["appliance"],
        firewall_updaters=["update-way"],
    ).rstrip("\n")


def test_the_time_servers_are_read_off_what_chronyc_says() -> None:
    listed = "^,?,time.nrc.ca,0,6,0,4294967295,0.0,0.0,0.0\n^,*,time.chu.nrc.ca,2,6,377,12,0.0,0.0,0.0\n"
    assert network.servers(listed) == set(network.defaults("base")["base_ntp_servers"])
    unheard = "200 OK\n0 sources online\n1 sources offline\n0 sources doing burst (return to online)\n"
    unheard += "0 sources doing burst (return to offline)\n1 sources with unknown address\n"
    assert network.tried(unheard) == 1


if __name__ == "__main__":
    tell(Path(sys.argv[1]))
