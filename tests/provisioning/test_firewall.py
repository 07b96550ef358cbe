"""What the firewall lets in, asked with packets and not of its text: the same rules are in the image and on a provisioned Debian."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.networks import apart
from tests.provisioning import egress
from tests.provisioning.test_playbooks import rendered

ROOT = Path(__file__).parents[2]


def with_numbers(**more: object) -> str:
    """The rules, accounts going by their numbers, because this machine has none of their names."""
    numbered = {"firewall_accounts": [0, 64001], "firewall_fetchers": [64002], "firewall_clocks": [0, 64005]}
    rules, named = re.subn(
        "skuid appliance-support ",
        "skuid 64003 ",
        rendered("firewall", "nftables.conf.j2", **numbered, **more),
    )
    assert named == 1
    return rules


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_clinic_reaches_two_ports_and_nobody_else_any(tmp_path: Path) -> None:
    rules = with_numbers()
    (tmp_path / "rules").write_text(rules)
    story = [sys.executable, "-m", "tests.provisioning.walls", str(tmp_path / "rules")]
    told = subprocess.run([*apart(), *story], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr[-5000:]
    assert told.stdout.splitlines() == [
        "the clinic's network reaches DICOM and the console, and no other of 65535 ports",
        "nobody reaches any by UDP",
        "from beyond the clinic's network nothing is reached",
        "and nobody there learns that there is a box",
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("altered", "found"),
    [
        ("", ""),
        ("    udp dport 1000 accept\n", "root: [('udp', '2001:db8:77::2', 1000)"),
        (
            "    meta skuid 64004 ip6 daddr 2000::/3 tcp dport 8080 accept\n",
            "www-data: [('tcp', '2001:db8:77::2', 8080)]",
        ),
    ],
)
def test_what_leaves_by_account_is_what_its_list_names(altered: str, found: str, tmp_path: Path) -> None:
    """A rule that is too much is found out by what arrives at the other end of the cable."""
    if os.geteuid() != 0:
        pytest.fail(
            "whose packets they are is tried as several accounts: run the tests as root, in a container"
        )
    before = '    limit rate 5/minute log prefix "appliance out'
    rules = with_numbers()
    assert rules.count(before) == 1
    (tmp_path / "rules").write_text(rules.replace(before, altered + before))
    story = [sys.executable, "-m", "tests.provisioning.egress", str(tmp_path / "rules")]
    told = subprocess.run([*apart(), *story], cwd=ROOT, capture_output=True, text=True, check=False)
    if found:
        assert told.returncode != 0
        assert "AssertionError" in told.stderr
        assert found in told.stderr.splitlines()[-1]
        return
    assert told.returncode == 0, told.stdout + told.stderr[-5000:]
    *accounts, last = told.stdout.splitlines()
    assert len(accounts) == len(egress.NUMBERS)
    assert last == "the appliance is answered from beyond, and the front is told at once that it may not call"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("answers", [True, False])
def test_who_is_connected_when_the_rules_are_first_loaded_stays_so(answers: bool, tmp_path: Path) -> None:
    """Without the rule for it a first run from beyond the clinic's network stands still for hours."""
    rules = with_numbers(firewall_ssh_from=["203.0.113.0/24", "2001:db8:77::/64"])
    kept = [each for each in rules.splitlines() if answers or "tcp sport 22" not in each]
    assert answers or len(kept) == len(rules.splitlines()) - 2
    (tmp_path / "rules").write_text("\n".join([*kept, ""]))
    story = [sys.executable, "-m", "tests.provisioning.standing", str(tmp_path / "rules")]
    told = subprocess.run([*apart(), *story], cwd=ROOT, capture_output=True, text=True, check=False)
    if not answers:
        assert told.returncode != 0
        assert "the box is not heard" in told.stderr
        return
    assert told.returncode == 0, told.stdout + told.stderr[-5000:]
    assert told.stdout.splitlines() == [
        "who was connected hears the box after the rules are loaded",
        "and nobody calls from the box by that",
    ]
