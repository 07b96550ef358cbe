"""The real jobs process carries out what other processes have written, and goes on after it was killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.catalog import outbox
from appliance.notify import mail
from tests.notify.conftest import use_mail
from tests.notify.mail_room import mail_room
from tests.system.running import Appliance, appliance, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def write(box_of: Appliance, to: str) -> None:
    with box_of.opened() as box, box.catalog.transaction() as tx:
        mail.enqueue(tx, to=to, letter="invitation", language="fr", now=datetime.now(UTC))


def states(clinic: Appliance) -> list[str]:
    return [row["state"] for row in clinic.ask("notify", "messages")]


def test_a_letter_of_another_process_leaves_and_a_killed_process_leaves_none_behind(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with mail_room() as room, appliance(tmp_path / "clinic", free_port) as clinic:
        with clinic.opened() as box:
            use_mail(box, room.port, security="none")
        clinic.start("jobs")
        write(clinic, "marie@clinique.example")
        wait_for(lambda: room.readers == ["marie@clinique.example"], clinic.log)
        # Killed between the mail server's answer and the row, it would rightly send the letter again.
        wait_for(lambda: states(clinic) == ["sent"], clinic.log)
        killed = clinic.processes.pop("jobs")
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        with clinic.opened() as box, box.catalog.transaction() as tx:
            mail.enqueue(tx, to="luc@clinique.example", letter="test", language="fr", now=datetime.now(UTC))
            assert (
                outbox.claim(tx, "mail", datetime.now(UTC), 300) is not None
            )  # it was sending this when it died
        clinic.start("jobs")
        wait_for(lambda: "luc@clinique.example" in room.readers, clinic.log)
        assert set(states(clinic)) <= {"sent", "sending"}
        assert room.readers.count("marie@clinique.example") == 1
