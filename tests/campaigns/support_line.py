"""How long after its end a session of remote support is still there: the clinic and the vendor in two networks, joined by a cable.

Each session ends by the clock, while somebody is in. It is over when nothing of it runs on the box (the line, its ssh, its sshd, who
stands at the counter), the caller is out, and nothing listens at the vendor's any more. Four ways to come to that end:

- `idle`: somebody is in and types nothing;
- `hung`: the box's own line has stopped in its tracks;
- `busy`: another process has the catalog's write lock, from before the end until nothing is left;
- `cut`: the cable was pulled, so nothing of the end reaches the vendor, and only what runs on the box counts.
"""

from __future__ import annotations

import ctypes
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

from appliance.box import Box, open_box
from appliance.catalog import support_sessions
from appliance.config import Config
from appliance.fleet import support
from appliance.fleet.desk import Desk
from appliance.fleet.session import Ending, Scope
from tests.fleet.endpoint import Vendor, lines_running
from tests.fleet.two_networks import CABLE, vendor_apart
from tests.fleet.visiting import held
from tests.networks import run
from tests.system.running import wait_for

WAYS = ("idle", "hung", "busy", "cut")
PROMISED_SECONDS = 5.0
SESSION_SECONDS = 15.0
LONGEST_SECONDS = 240.0
"""Of a session that was not joined in time, on a machine that is busy: the next try is twice as long, up to this."""

GIVEN_UP_SECONDS = 120.0
"""What is still there then is not waited for any longer: the promise is broken."""
LOOK_SECONDS = 0.01
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of sched.h


@dataclass
class Outcome:
    """What came of each way, in seconds from the end of a session until nothing of it was left."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def is_kept(self) -> bool:
        found = [self.seconds.get(way, []) for way in WAYS]
        return all(found) and all(each <= PROMISED_SECONDS for each in chain(*found))

    def __str__(self) -> str:
        lines = [
            f"{way:<5} {len(found)} sessions: gone {statistics.median(found):.2f} s after the end (median), {max(found):.2f} s at worst"
            for way, found in self.seconds.items()
            if found
        ]
        return "\n".join([*lines, f"within {PROMISED_SECONDS:g} s: {'yes' if self.is_kept else 'NO'}"])


def measure(folder: Path, *, sessions: int, report: Callable[[str], object]) -> Outcome:
    """So many sessions of each way, one after the other. Needs root, and moves this process into a network of its own."""
    outcome = Outcome()
    leave_the_network()
    with (
        closing(open_box(Config(data=folder / "box"))) as box,
        vendor_apart(box, folder / "vendor") as vendor,
    ):
        desk = Desk(box)
        desk.start()
        try:
            for number in range(sessions):
                for way in WAYS:
                    took = one(box, vendor, way)
                    outcome.seconds.setdefault(way, []).append(took)
                    report(f"{number + 1}/{sessions} {way}: {took:.2f} s")
        finally:
            desk.stop()
    return outcome


def one(box: Box, vendor: Vendor, way: str) -> float:
    """One session to its end and beyond: seconds from its end until nothing of it was left."""
    length = SESSION_SECONDS * (2 if way == "busy" else 1)  # another process starts within it, too
    while (caller := _joined(box, vendor, length)) is None:
        length *= 2
        assert length <= LONGEST_SECONDS, "nobody comes in"
    with box.catalog.reading() as conn:
        session = support_sessions.standing(conn)
    assert session is not None
    ends = time.monotonic() + (session.expires_utc - datetime.now(UTC)).total_seconds()
    if way == "hung":
        for each in lines_running():
            if "support line" in " ".join(each.cmdline()):
                each.send_signal(signal.SIGSTOP)
    if way == "cut":
        run("ip", "link", "set", CABLE, "down")
    busy = ExitStack()
    if way == "busy":
        busy.enter_context(held(box))
        assert time.monotonic() < ends, "it was over before another process had the catalog"
    gone = ends
    while lines_running() or (way != "cut" and (caller.poll() is None or vendor.knows_line())):
        time.sleep(LOOK_SECONDS)
        gone = time.monotonic()
        if gone - ends > GIVEN_UP_SECONDS:
            raise SystemExit(
                f"{way}: still there {GIVEN_UP_SECONDS:g} s after the end: {lines_running()}"
                f"\nwithin {PROMISED_SECONDS:g} s: NO"
            )
    busy.close()
    caller.kill()
    caller.communicate()
    if way == "cut":
        run("ip", "link", "set", CABLE, "up")
    wait_for(lambda: _ending(box, session.id) is Ending.EXPIRED, "the end is written down")
    assert gone > ends, "it ended before its end"
    wait_for(lambda: not vendor.knows_line(), "the vendor's side is free again")
    return gone - ends


def _ending(box: Box, number: int) -> Ending | None:
    with box.catalog.reading() as conn:
        return support_sessions.session(conn, number).ending


def _joined(box: Box, vendor: Vendor, seconds: float) -> subprocess.Popen[str] | None:
    """A session of so many seconds, and somebody who is in; None if it ended before."""
    now = datetime.now(UTC) - timedelta(hours=1) + timedelta(seconds=seconds)
    with box.catalog.transaction() as tx:
        session = support.open_session(
            tx, box, reason="a measurement", scope=Scope.DIAGNOSE, hours=1, by="m", now=now
        )
    caller: subprocess.Popen[str] | None = None
    while True:
        with box.catalog.reading() as conn:
            if support_sessions.session(conn, session.id).ended_utc is not None:
                break
            if caller is not None and support_sessions.visits(conn, session.id):
                return caller
        if caller is None and vendor.knows_line():
            caller = vendor.caller()
        time.sleep(0.05)
    if caller is not None:
        caller.kill()
        caller.communicate()
    wait_for(lambda: not lines_running() and not vendor.knows_line(), "what was left of it is gone")
    return None


def leave_the_network() -> None:
    """Move this process into a network of its own, for good."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
        raise SystemExit(f"this needs root: {os.strerror(ctypes.get_errno())}")
