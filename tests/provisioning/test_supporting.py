"""What the harness makes of a session that runs out on a machine: how it is opened, and what the box says of its end."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit
from appliance.audit.exports import exported
from appliance.catalog import audit_log, support_sessions
from appliance.fleet import desk as desks
from appliance.fleet.desk import Desk
from tests.fleet.visiting import certificate, clinic, talking
from tests.provisioning.supporting import SHORTENED, RanOut, ran_out, shortened, written

ROOT = Path(__file__).parents[2]
ENDS = datetime(2026, 11, 29, 14, 0, 0, tzinfo=UTC)
STOPPED = "Sun 2026-11-29 14:00:02.500000 UTC\n"


def row(action: str, subject: str, seconds: float, **details: object) -> str:
    at = (ENDS + timedelta(seconds=seconds)).isoformat()
    return json.dumps({"at_utc": at, "action": action, "subject": subject, "details": json.dumps(details)})


ROWS = (
    row("support:enter", "1", -900, session=1),
    row("support:leave", "1", -800),
    row("support:expire", "1", -700),
    row("support:enter", "2", -50, session=2),
    row("support:enter", "3", -40, session=2),
    row("support:leave", "3", -30),
    row("support:leave", "2", 1.25),
    row("support:expire", "2", 7),
)


def test_what_is_promised_is_judged_by_the_last_who_left_and_by_the_line() -> None:
    found = ran_out(2, ENDS, "\n".join(ROWS), STOPPED)
    assert found == RanOut(visitor=1.25, line=2.5, audit=7)
    assert found.is_kept(), "for what is written down nothing is promised"
    assert str(found) == (
        "visitor 1.2 s, line 2.5 s, audit 7.0 s after its end, by its own clock; promised are 5 s"
    )


@pytest.mark.parametrize("found", [RanOut(5.1, 1, 1), RanOut(1, 5.1, 1), RanOut(-2, 1, 1), RanOut(1, -2, 1)])
def test_what_was_there_longer_or_gone_before_breaks_it(found: RanOut) -> None:
    assert not found.is_kept()


@pytest.mark.parametrize("missing", [3, 6, 7])
def test_of_a_session_that_is_not_told_to_its_end_there_is_no_figure(missing: int) -> None:
    rows = [each for at, each in enumerate(ROWS) if at != missing and not (missing == 3 and at in (4, 5))]
    with pytest.raises(ValueError, match="session 2"):
        ran_out(2, ENDS, "\n".join(rows), STOPPED)


def test_of_a_line_that_never_stopped_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match="match"):
        ran_out(2, ENDS, "\n".join(ROWS), "\n")


class Wrapped:
    """A machine whose `appliance` is the one that is shipped, but for systemd, which here only says what it was told to run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = (ROOT / "systemd/libexec/appliance").read_text()
        for was, here in (
            ("exec systemd-run ", f"exec {folder}/systemd-run "),
            ("$(id -u)", "0"),
            ("/var/lib/machine-seal", str(folder)),
            ("/etc/appliance/", f"{folder}/"),
        ):
            assert was in text
            text = text.replace(was, here)
        (folder / "appliance").write_text(text)
        runs = folder / "systemd-run"
        runs.write_text('#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n')
        runs.chmod(0o755)

    def inside(self, command: str, *, check: bool = True) -> str:
        """The same words, of which two name what lies here."""
        for was, here in (
            ("/usr/lib/appliance/venv/bin/python", sys.executable),
            ("/usr/bin/appliance", str(self.folder / "appliance")),
        ):
            assert was in command
            command = command.replace(was, here)
        environment = {**os.environ, "APPLIANCE_DATA": str(self.folder / "box"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["sh", "-c", command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def wait_until(self, command: str) -> None:
        """Nobody here waits."""
        raise NotImplementedError(command)


def test_a_session_of_which_little_is_left_is_opened_as_a_verb_runs_and_tells_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "UNIT_FOLDER", tmp_path)
    past = [timedelta(0)]
    with closing(clinic(tmp_path / "box")) as box:
        began = datetime.now(UTC)
        session, expires = shortened(Wrapped(tmp_path), 600)
        assert timedelta(seconds=599) < expires - began < timedelta(seconds=720)
        with box.catalog.reading() as conn:
            standing = support_sessions.standing(conn)
        assert standing is not None
        assert (standing.id, standing.expires_utc) == (session, expires)
        assert standing.is_open(began + timedelta(seconds=1))
        desk = Desk(box, wall=lambda: datetime.now(UTC) + past[0], monotonic=lambda: 0.0, boot=lambda: "one")
        desk.look()
        with talking(box) as talk:
            talk.sendall(json.dumps({"ask": "counter", "certificate": certificate()}).encode() + b"\n")
            assert talk.recv(64), "somebody is in"
            past[0] = expires - datetime.now(UTC) + timedelta(seconds=1)
            desk.look()
        with box.catalog.reading() as conn:
            rows = "\n".join(json.dumps(exported(each)) for each in audit_log.rows(conn))
            assert not audit.verify(conn, box.audit_key)
    assert written(session) in rows
    found = ran_out(session, ENDS, rows, STOPPED)
    since = (ENDS - expires).total_seconds()
    assert 1 <= found.visitor + since < 60
    assert found.audit >= found.visitor


def test_the_program_stands_on_a_line_of_its_own_in_what_runs_a_verb() -> None:
    text = (ROOT / "systemd/libexec/appliance").read_text()
    assert re.findall(r"^program=(.*)$", text, re.MULTILINE) == ["/usr/lib/appliance/venv/bin/appliance"]
    assert shlex.quote(SHORTENED).count("'") == 2, "no quotation mark of a shell is in it"
