"""What the firewall lets in, asked with packets and not of its text: the same rules are in the image and on a provisioned Debian."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.networks import apart
from tests.provisioning.test_playbooks import rendered

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_clinic_reaches_two_ports_and_nobody_else_any(tmp_path: Path) -> None:
    """Accounts go by their numbers here, because this machine has none of their names."""
    numbered = {"firewall_accounts": [0, 64001], "firewall_fetchers": [64002]}
    rules, named = re.subn(
        "skuid appliance-support ", "skuid 64003 ", rendered("firewall", "nftables.conf.j2", **numbered)
    )
    assert named == 1
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
