"""Killed at every step: no notice is lost, every message arrives, and a second copy has the first one's id."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import notices, outbox
from appliance.catalog.notices import Wanted
from appliance.notify import hooks
from tests.notify import crashing
from tests.notify.conftest import NOW
from tests.notify.mail_room import MailRoom
from tests.notify.receiver import Receiver, receiver

FORKS = multiprocessing.get_context("forkserver")
"""Each process is a fork of one that has everything imported: a new one spends two seconds on that."""
FORKS.set_forkserver_preload([crashing.__name__])

LETTERS = 2
"""To the owner and the technician."""


def run(data: Path, step: str, times: int) -> int:
    process = FORKS.Process(target=crashing.run, args=(data, step, times))
    process.start()
    process.join(100)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("step", "times", "copies"),
    [
        ("judging", 1, 0),
        ("judging", 2, 0),
        ("judged", 1, 0),
        ("claimed", 1, 0),
        ("claimed", 2, 0),
        ("claimed", 3, 0),
        ("sent", 1, 1),
        ("sent", 2, 1),
        ("sent", 3, 1),
        ("recorded", 1, 0),
        ("recorded", 2, 0),
        ("recorded", 3, 0),
    ],
)
def test_whatever_step_it_dies_in_everybody_is_told_once_or_can_tell_a_copy(
    box: Box, room: MailRoom, data_dir: Path, step: str, times: int, copies: int
) -> None:
    with receiver() as found:
        with box.catalog.transaction() as tx:
            hooks.add(tx, name="chat", url=found.url(), on_lan=True, now=NOW)
        assert run(data_dir, step, times) == -signal.SIGKILL, "it must have died there"
        assert run(data_dir, "never", 1) == 0
        _everything_arrived(box, room, found, copies)


def _everything_arrived(box: Box, room: MailRoom, found: Receiver, copies: int) -> None:
    with box.catalog.reading() as conn:
        rows = notices.history(conn, 0, Wanted(), everything=True, limit=10)
        messages = outbox.messages(conn)
    assert [row.kind for row in rows] == ["disk-full"], "one notice, raised once"
    assert Counter(each.state for each in messages) == {"SENT": LETTERS + 1}
    by_id = {each["Message-ID"]: bytes(raw) for each, raw in zip(room.letters, room.raw, strict=True)}
    assert len(by_id) == LETTERS
    assert len(room.letters) + len(found.bodies) == LETTERS + 1 + copies
    for letter, raw in zip(room.letters, room.raw, strict=True):
        assert by_id[letter["Message-ID"]] == raw, "a second copy is the same, byte for byte"
    assert len({each["X-Appliance-Delivery"] for each in found.headers}) == 1
    assert len(set(found.bodies)) == 1
