"""Heartbeats and tickets between two networks: nothing leaves before the clinic agrees, counted in packets at the vendor's end.

Heartbeats go by HTTPS, and to a bucket; the support file that goes with a ticket is unpacked there.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.networks import apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(360)]

ROOT = Path(__file__).parents[2]


def test_nothing_leaves_before_the_clinic_agrees_in_two_networks(tmp_path: Path) -> None:
    story = [sys.executable, "-m", "tests.fleet.heartbeats_apart", str(tmp_path)]
    told = subprocess.run([*apart(), *story], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr[-5000:]
    assert told.stdout.splitlines() == [
        "before the clinic agrees a day passes without one packet, and a heartbeat by hand is refused",
        "once it has agreed the very document arrives that was shown, four times an hour",
        "once that is withdrawn not one packet leaves",
        "if the address is changed, not one leaves before the clinic agrees to that one",
        "without a line one is lost, and the next arrives with the line",
        "a support file is made, and a way named, without one packet",
        "sent by the clinic, the ticket arrives by HTTPS with the very file that was looked at",
        "unpacked there, it has the lines of the box's log, and whatever named a patient is cut and counted",
        "a bucket asks for an agreement of its own: for a day not one packet leaves",
        "once it has agreed to that, the very document lies in the bucket that was shown, written over four times an hour",
        "and once that is withdrawn it stays as it is",
    ]
