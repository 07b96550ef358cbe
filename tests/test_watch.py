"""R10: who looks after the backups and their drills is watched by another process: hung, killed and faked, and each is told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import health, settings, watch
from appliance.audit.vouching import MAC, is_vouched, vouched
from appliance.backup import drill
from appliance.backup.schedule import Schedule
from appliance.box import Box
from appliance.catalog import database, destinations, notices, people, processes
from appliance.catalog import settings as kept
from appliance.catalog.notices import Wanted
from appliance.duties import ALARM, Job
from appliance.errors import Transient
from appliance.jobs import Upkeep
from appliance.model import DestinationSettings
from appliance.notify.sending import Surroundings
from appliance.replication.destinations import prepare
from appliance.watch import SILENT_SECONDS, Watch
from tests.backup.conftest import IMAGES, Clinic, clinic_in
from tests.boxes import box_in
from tests.notify.mail_room import MailRoom, mail_room

NOW = datetime.now(UTC).replace(microsecond=0)
OWNER = "marie@clinique.example"
OF_USB = f"{health.DRILL}.usb"


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    with box_in(data_dir) as opened:
        yield opened


@pytest.fixture
def room(box: Box) -> Iterator[MailRoom]:
    with mail_room() as opened:
        post = {"mail.host": "localhost", "mail.port": opened.port, "mail.security": "none"}
        post["mail.from"] = "box@clinique.example"
        with box.catalog.transaction() as tx:
            people.add(tx, login=OWNER, name="Marie", role="owner", password_hash="-", language="en", now=NOW)
            settings.change(tx, box.audit_key, post, actor="tests", now=NOW, root=box.root)
        yield opened


def on_record(box: Box, age: timedelta, *, key: bytes | None = None) -> None:
    """A backup of today in an archive, and a drill of it that succeeded so long ago; `key` is what vouches for it."""
    at = (NOW - age).isoformat()
    passed = {"at_utc": at, "outcome": "succeeded", "succeeded_utc": at, "reason": ""}
    with box.catalog.transaction() as tx:
        if destinations.destination(tx, "usb") is None:
            destinations.add(tx, DestinationSettings("usb", "vault", "ciphertext", {"path": "/nowhere"}))
        kept.put(tx, f"{health.BACKUP}.usb", {"at_utc": NOW.isoformat(), "outcome": "succeeded"}, NOW)
        kept.put(tx, OF_USB, vouched(key or box.audit_key, OF_USB, passed), NOW)


def standing(box: Box) -> set[tuple[str, str]]:
    with box.catalog.reading() as conn:
        rows = notices.history(conn, 0, Wanted(), everything=True, limit=100)
    return {(row.kind, row.subject) for row in rows if row.state == "STANDING"}


def codes(box: Box, now: datetime = NOW) -> set[str]:
    return {each.code for each in health.status(box, now).problems}


# --- hang and kill ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_jobs_process_that_hangs_or_is_killed_is_told_by_another_and_so_is_the_drill_that_it_owes(
    box: Box,
    room: MailRoom,
    data_dir: Path,
    eventually: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_record(box, timedelta(days=9))
    monkeypatch.setattr(database, "BUSY_SECONDS", 2)
    command = [sys.executable, "-m", "appliance", "jobs"]
    with subprocess.Popen(command, env={**os.environ, "APPLIANCE_DATA": str(data_dir)}) as jobs:
        try:
            eventually(lambda: _beats(box), within_seconds=100)
            eventually(lambda: _hangs(box, jobs), within_seconds=100)
            began = datetime.now(UTC)
            hour = began
            watching = Watch(box, Surroundings(now=lambda: hour, jitter=lambda: 0.0))
            assert not watching.look(began, 0)
            assert not watching.look(began + timedelta(seconds=SILENT_SECONDS - 1), SILENT_SECONDS - 1)
            for seconds in (SILENT_SECONDS, SILENT_SECONDS + 40, SILENT_SECONDS + 3700):
                hour = began + timedelta(seconds=seconds)
                assert watching.look(hour, seconds)
            told = {("process-stopped", "jobs-stopped"), ("drill-late", "usb")}
            assert told <= standing(box)
            said = [str(each["Subject"]) for each in room.letters if OWNER in each["To"]]
            assert any("process" in each for each in said), said
            jobs.kill()
            jobs.wait()
            hour += timedelta(minutes=5)
            assert watching.look(hour, SILENT_SECONDS + 4000)
            assert told <= standing(box)
        finally:
            jobs.kill()


def _beats(box: Box) -> bool:
    with box.catalog.reading() as conn:
        return any(row.name == "jobs" for row in processes.processes(conn))


def _hangs(box: Box, jobs: subprocess.Popen[bytes]) -> bool:
    """Stop it between two of its transactions: one that holds the catalog's only pen keeps all from writing, until it is ended."""
    jobs.send_signal(signal.SIGSTOP)
    os.waitpid(jobs.pid, os.WUNTRACED)
    try:
        with box.catalog.transaction():
            return True
    except Transient:
        jobs.send_signal(signal.SIGCONT)
        return False


def judging(box: Box) -> Upkeep:
    return Upkeep(box, (Job(ALARM, lambda box, now: None, 3600),))


def test_nobody_stands_in_while_the_alarm_comes_to_its_end_again_and_again(box: Box) -> None:
    upkeep, watching = judging(box), Watch(box)
    for turn in range(6):
        upkeep._do(upkeep.jobs[0])
        upkeep.beat()
        assert not watching.look(NOW, turn * (SILENT_SECONDS - 1))
    assert standing(box) == set()


def test_an_alarm_that_fails_or_hangs_in_a_process_that_beats_is_told_by_another(box: Box) -> None:
    def fail(box: Box, now: datetime) -> None:
        raise Transient("not now")

    upkeep, watching = Upkeep(box, (Job(ALARM, fail, 3600),)), Watch(box)
    for turn in range(4):
        upkeep._do(upkeep.jobs[0])
        upkeep.beat()
        stands_in = watching.look(datetime.now(UTC) + timedelta(seconds=40 * turn), 40.0 * turn)
        assert stands_in == (40 * turn >= SILENT_SECONDS)
    watching.look(datetime.now(UTC) + timedelta(seconds=160), 160)
    assert ("process-stopped", "jobs-stopped") in standing(box)


def test_a_jobs_process_that_starts_again_and_again_without_ever_judging_is_silent(box: Box) -> None:
    watching = Watch(box)
    assert not watching.look(NOW, 0)
    for seconds in (30, 60):
        judging(box).beat()
        assert not watching.look(NOW, seconds)
    judging(box).beat()
    assert watching.look(NOW, SILENT_SECONDS)


def test_the_one_that_stood_in_steps_back_when_the_other_judges_again(box: Box) -> None:
    watching = Watch(box)
    watching.look(NOW, 0)
    assert watching.look(NOW, SILENT_SECONDS)
    upkeep = judging(box)
    upkeep._do(upkeep.jobs[0])
    upkeep.beat()
    assert not watching.look(NOW, SILENT_SECONDS + 5)


@pytest.mark.parametrize("jump", [timedelta(days=-3653), timedelta(days=3653)])
def test_a_clock_that_is_set_makes_nobody_silent(box: Box, jump: timedelta) -> None:
    upkeep, watching = judging(box), Watch(box)
    upkeep._do(upkeep.jobs[0])
    upkeep.beat()
    assert not watching.look(NOW, 0)
    assert not watching.look(NOW + jump, 5)


def test_the_process_that_delivers_keeps_the_watch(
    box: Box, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., object]
) -> None:
    monkeypatch.setattr(watch, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(watch, "JUDGED_EVERY_SECONDS", 0.01)
    with watch.kept(box):
        eventually(lambda: _remembered(box))


def _remembered(box: Box) -> bool:
    """Whether somebody has judged: trouble that must stand for a while first is remembered at once."""
    with box.catalog.reading() as conn:
        return bool(conn.exec_driver_sql("SELECT count(*) FROM alert_states").scalar())


# --- fake ------------------------------------------------------------------------------------------------------------


def test_a_drill_that_somebody_else_has_put_on_record_does_not_count(box: Box) -> None:
    on_record(box, timedelta(days=1))
    assert not codes(box) & {"no-drill", "drill-failed", "drill-late"}
    on_record(box, timedelta(days=1), key=bytes(32))
    assert "drill-failed" in codes(box)
    on_record(box, timedelta(days=9))
    assert "drill-late" in codes(box)
    with box.catalog.transaction() as tx:
        record = kept.get(tx, OF_USB)
        kept.put(tx, OF_USB, {**record, "succeeded_utc": NOW.isoformat()}, NOW)
    assert "drill-failed" in codes(box), "made younger by hand"


@pytest.fixture
def drilled(tmp_path: Path) -> Iterator[Clinic]:
    (tmp_path / "usb").mkdir()
    disk = DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")})
    with clinic_in(tmp_path / "before", prepare(disk)) as clinic:
        clinic.receive(*IMAGES[:2])
        clinic.deliver()
        clinic.back_up()
        drill.drill(clinic.box, clinic.place, NOW - timedelta(days=8), actor="tests", dice=random.Random(1))
        yield clinic


def test_a_forged_drill_is_made_anew_and_a_forged_certificate_is_not_shown(drilled: Clinic) -> None:
    box, name = drilled.box, f"{drill.LAST}.{drilled.place.name}"
    with box.catalog.transaction() as tx:
        (paper,) = kept.get(tx, drill.CERTIFICATES)
        younger = {**paper, "at_utc": (NOW - timedelta(hours=1)).isoformat()}
        kept.put(tx, drill.CERTIFICATES, [younger, paper], NOW)
        record = {**kept.get(tx, name), "succeeded_utc": (NOW - timedelta(hours=1)).isoformat()}
        kept.put(tx, name, record, NOW)
        assert drill.certificates(tx, box) == [drill._decode(paper)]
        assert drill.last(tx, box, drilled.place.name) == {}
    Schedule().drill(box, NOW)
    with box.catalog.reading() as conn:
        made = drill.certificates(conn, box)
        assert [each.at_utc for each in made] == [NOW.isoformat(), (NOW - timedelta(days=8)).isoformat()]
        assert drill.last(conn, box, drilled.place.name)["succeeded_utc"] == NOW.isoformat()
        assert is_vouched(box.audit_key, name, kept.get(conn, name))
    assert not codes(box) & {"no-drill", "drill-failed", "drill-late"}


def test_a_record_of_one_archive_is_none_of_another(box: Box) -> None:
    record = vouched(box.audit_key, "drill.last.usb", {"outcome": "succeeded"})
    assert is_vouched(box.audit_key, "drill.last.usb", record)
    assert not is_vouched(box.audit_key, "drill.last.cloud", record)
    assert not is_vouched(box.audit_key, "drill.last.usb", {**record, MAC: "é"})
    others: list[object] = [{"outcome": "succeeded"}, [], None, {**record, MAC: 1}]
    for other in others:
        assert not is_vouched(box.audit_key, "drill.last.usb", other)


def test_the_watch_has_loaded_how_it_judges_before_anything_is_wrong() -> None:
    """It stands in where upkeep has died, as with a disk that fails: a program that isn't read by then may not be read any more."""
    program = "import sys; import appliance.watch; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"appliance.health.judgement", "appliance.health.gathering"} <= set(told.stdout.split())
