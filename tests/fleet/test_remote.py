"""Remote support with a real ssh and sshd: the vendor's machine on loopback, the box's own line, and people who come in.

Nothing of it is mocked: the desk is the one of the jobs process, the line and the counter are processes of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from appliance import audit, settings
from appliance.box import Box, open_box
from appliance.catalog import support_sessions
from appliance.config import Config
from appliance.fleet import recording, support
from appliance.fleet.desk import LOOK_SECONDS, Desk, OpenDesk
from appliance.fleet.session import Ending, Scope
from tests.fleet.endpoint import WRONG, Vendor, lines_running, vendor_of
from tests.networks import apart, run
from tests.synthetic.patients import HELENE
from tests.web.conftest import fill

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(180),
]

Eventually = Callable[..., Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    opened = open_box(Config(data=tmp_path_factory.mktemp("box")))
    fill(opened)
    yield opened
    opened.close()


@pytest.fixture
def vendor(box: Box, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Vendor]:
    """An sshd that lets the box in to forward a port, and nothing else."""
    with vendor_of(box, tmp_path, (free_port(), free_port())) as found:
        yield found


@pytest.fixture
def desk(box: Box) -> Iterator[Desk]:
    """What the jobs process runs."""
    running = Desk(box)
    running.start()
    yield running
    running.stop()
    with box.catalog.transaction() as tx:
        if (standing := support_sessions.standing(tx)) is not None:
            support_sessions.end(tx, standing.id, Ending.CLINIC, "tests", datetime.now(UTC))


def opened(box: Box, scope: Scope = Scope.DIAGNOSE, *, left: timedelta = timedelta(hours=1)) -> int:
    """Open a session of which so much is left; its number."""
    now = datetime.now(UTC) - timedelta(hours=1) + left
    with box.catalog.transaction() as tx:
        return support.open_session(
            tx, box, reason="deliveries wait", scope=scope, hours=1, by="m", now=now
        ).id


def rows(box: Box, action: str) -> list[dict[str, object]]:
    with box.catalog.reading() as conn:
        return [each for each in audit.export(conn) if each["action"] == action]


def test_without_a_session_nothing_listens_and_nothing_dials(box: Box, vendor: Vendor, desk: Desk) -> None:
    desk.look()
    assert not lines_running()
    assert not (box.config.data / "desk").exists()
    assert not vendor.knows_line()


def test_a_person_comes_in_looks_and_is_recorded(
    box: Box, vendor: Vendor, desk: Desk, eventually: Eventually
) -> None:
    number = opened(box)
    eventually(vendor.knows_line)
    said = vendor.visit("help", "status", "backup", "sh -c id", "leave")
    assert said.returncode == 0, said.stderr
    assert "Everything is recorded" in said.stdout
    assert "Kept: 3 studies" in said.stdout
    assert "this session is for looking only" in said.stdout
    assert "there is no such word" in said.stdout
    (visit,) = eventually(lambda: _whole(box, number))
    with box.catalog.reading() as conn:
        events = support_sessions.events(conn, visit.id)
    assert (visit.person, visit.serial) == ("Ana Roy", "7")
    assert [each.text for each in events if each.kind == "i"] == [
        "help\n",
        "status\n",
        "backup\n",
        "sh -c id\n",
        "leave\n",
    ]
    assert "".join(each.text for each in events if each.kind == "o") == said.stdout
    cast = recording.cast(visit, events)
    head, *rest = map(json.loads, cast.splitlines())
    assert head["version"] == 2
    assert len(rest) == len(events)
    (left,) = [each for each in rows(box, "support:leave") if each["subject"] == str(visit.id)]
    details = left["details"]
    assert (
        json.loads(details if isinstance(details, str) else json.dumps(details))["sha256"]
        == hashlib.sha256(cast.encode()).hexdigest()
        == visit.sha256
    )
    assert [each["outcome"] for each in rows(box, "support:act")] == ["done"]


def _whole(box: Box, number: int) -> list[support_sessions.Visit]:
    """The visits of a session whose recordings are closed."""
    with box.catalog.reading() as conn:
        return [each for each in support_sessions.visits(conn, number) if each.sha256]


def test_nothing_of_a_patient_is_shown(box: Box, vendor: Vendor, desk: Desk, eventually: Eventually) -> None:
    folder = box.config.data / "logs"
    folder.mkdir(exist_ok=True)
    (folder / "web.log").write_text(f"found {HELENE.family_name} as {HELENE.id}\nan event\n")
    opened(box)
    eventually(vendor.knows_line)
    said = vendor.visit("logs web", "logs ../keys", "studies", "leave").stdout
    assert "an event" in said
    assert HELENE.family_name not in said
    assert HELENE.id not in said
    assert "[cut: name]" in said
    assert "there is no such log" in said


def test_a_wrong_certificate_lets_nobody_in(
    box: Box, vendor: Vendor, desk: Desk, eventually: Eventually
) -> None:
    opened(box)
    eventually(vendor.knows_line)
    before = len(rows(box, "support:enter"))
    for wrong, said in WRONG:
        came = vendor.visit("status", **wrong)
        assert said in came.stdout + came.stderr, wrong
        assert "Kept:" not in came.stdout, wrong
    assert len(rows(box, "support:enter")) == before
    assert "Kept:" in vendor.visit("status").stdout


def test_the_desk_does_not_believe_an_sshd_that_lets_a_stranger_in(
    box: Box, vendor: Vendor, desk: Desk, eventually: Eventually, tmp_path: Path
) -> None:
    """As if sshd had a hole: the counter is run with a certificate of another authority."""
    opened(box)
    eventually((box.config.data / "desk").exists)
    run(
        "ssh-keygen",
        "-q",
        "-s",
        tmp_path / "stranger",
        "-I",
        "X",
        "-n",
        "appliance-diagnose",
        "-V",
        "+1h",
        tmp_path / "person.pub",
    )
    who = tmp_path / "who"
    who.write_text(f"publickey {(tmp_path / 'person-cert.pub').read_text()}")
    said = subprocess.run(
        [sys.executable, "-m", "appliance", "support", "counter", "--desk", str(box.config.data / "desk")],
        env={**os.environ, "SSH_USER_AUTH": str(who)},
        input="status\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "another authority" in said.stdout
    assert rows(box, "support:refuse")[-1]["outcome"] == "refused"


@pytest.mark.timeout(360)
def test_at_its_end_everything_is_killed_in_two_networks(tmp_path: Path) -> None:
    """A session runs out while somebody is in, after some that the vendor and the clinic ended.

    Before, people come whose certificates are no good, and who try for more than their role.

    The story sets the clock, and holds that the first look after the end has killed the line. A look is a second after the one before,
    and waits a second at most for the line: that is within the five seconds of the promise. How long it takes on a machine,
    `make campaign ARGS=support` says.
    """
    assert 2 * LOOK_SECONDS < 5
    story = [sys.executable, "-m", "tests.fleet.two_networks", str(tmp_path)]
    told = subprocess.run([*apart(), *story], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr[-5000:]
    assert told.stdout.splitlines() == [
        "without a session nothing dials, and nothing listens",
        "the vendor ends it",
        "the clinic ends it, while somebody is in",
        "with another authority's certificate, one that has ended or lives too long, or one of another role nobody comes in",
        "a word that is not of the role is refused, and does nothing",
        "of what is shown and recorded, whatever names a patient is cut",
        "in a session to operate one word more does what it says, for whoever has a certificate for that",
        "at its end whoever is in is put out, and what ran for them is killed",
        "nobody comes in again, and nothing dials",
        "what was typed and shown is recorded to the last line, and the chain of the audit holds it",
    ]


def test_a_line_that_hangs_is_killed_by_another_process(
    box: Box, vendor: Vendor, eventually: Eventually
) -> None:
    """The line is stopped in its tracks, and nobody closes the desk: `timeout` ends ssh all the same."""
    number = opened(box)
    with box.catalog.reading() as conn:
        session = support_sessions.session(conn, number)
    desk = OpenDesk(box, session, lambda: datetime.now(UTC), time.monotonic, time.monotonic() + 12)
    desk.start()
    try:
        dialling = lambda: [each for each in lines_running() if each.name() == "ssh"]  # noqa: E731
        (line,) = (each.parent() for each in _guards(eventually, box))
        assert line is not None
        line.send_signal(signal.SIGSTOP)
        eventually(lambda: not dialling(), within_seconds=90)
        assert line.status() == psutil.STATUS_STOPPED
    finally:
        desk.close()
        with box.catalog.transaction() as tx:
            support_sessions.end(tx, session.id, Ending.CLINIC, "tests", datetime.now(UTC))


def _guards(eventually: Eventually, box: Box) -> list[psutil.Process]:
    """The `timeout` over the ssh of the line, once there is one."""
    found: list[psutil.Process] = []

    def there() -> bool:
        found[:] = [each for each in lines_running() if each.name() == "timeout" and each.children()]
        return bool(found)

    eventually(there)
    return found


def test_the_box_hangs_up_on_another_host_key(
    box: Box, vendor: Vendor, desk: Desk, eventually: Eventually
) -> None:
    with box.catalog.transaction() as tx:
        settings.change(
            tx,
            box.audit_key,
            {"support.host_key": vendor.key("stranger")},
            actor="tests",
            now=datetime.now(UTC),
        )
    opened(box)
    eventually(lines_running)
    line = next(each for each in lines_running() if "support line" in " ".join(each.cmdline()))
    tried = {each.pid for each in line.children()}
    eventually(lambda: {each.pid for each in line.children()} - tried)  # it dials again, after it was refused
    assert not vendor.knows_line()


def test_a_recording_that_was_cut_is_closed_with_the_next_start(box: Box) -> None:
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        made = support_sessions.add(tx, reason="r", scope=Scope.DIAGNOSE, by="m", now=now, expires_utc=now)
        visit = support_sessions.begin_visit(tx, made.id, "Ana Roy", "7", now)
        support_sessions.add_event(tx, visit, support_sessions.Event(5, "o", "status\n"))
    support.close_left_open(box, now)
    with box.catalog.reading() as conn:
        assert support_sessions.visit(conn, visit).sha256 == recording.checksum(
            support_sessions.visit(conn, visit), support_sessions.events(conn, visit)
        )
        assert not support_sessions.visits(conn)
