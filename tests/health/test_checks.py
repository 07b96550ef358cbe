"""Every check at its boundaries: what it says, how pressing it is, and where it says nothing.

`CASES` is the table: one line a boundary. A code that no line expects fails the last test.
"""

from dataclasses import asdict, replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.health import CHECKS, CODES, Problem, Severity, checks, judge
from appliance.health.checks import silence
from appliance.health.facts import (
    Altered,
    Anchor,
    Attempt,
    Certificate,
    Clock,
    Contents,
    Discipline,
    Disk,
    Drilled,
    Facts,
    Forgotten,
    Frozen,
    Keys,
    Limits,
    LookedThrough,
    Outcome,
    Queue,
    ReadAgain,
    Sender,
    Trouble,
    Unprotected,
)
from appliance.health.forecast import Forecast, Outlook
from appliance.health.looks import Came, Looked
from appliance.model import SecureBoot
from appliance.settings import SETTINGS
from appliance.web.console import web_ui
from appliance.web.language import Languages

NOW = datetime(2026, 3, 2, 15, tzinfo=timezone(timedelta(hours=-5)))
TODAY = date(2026, 3, 2)
GB = 1_000_000_000
DAY, HOUR, MINUTE, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


def attempt(age: timedelta, outcome: Outcome = Outcome.SUCCEEDED, reason: str = "") -> Attempt:
    return Attempt(NOW - age, outcome, NOW - age if outcome is Outcome.SUCCEEDED else None, reason)


def queue(**changes: object) -> Queue:
    calm = Queue("cloud", "on", waiting=0, confirmed=12, failed=0, oldest_utc=None, id=7)
    return replace(calm, **changes)  # type: ignore[arg-type]


def days_ago(*numbers: int) -> tuple[date, ...]:
    return tuple(sorted(TODAY - timedelta(days=number) for number in numbers))


CALM = Facts(
    at_utc=NOW,
    today=TODAY,
    keys=Keys(recovery_confirmed=True, seal="tpm2"),
    disk=Disk(total_bytes=100 * GB, free_bytes=60 * GB, reserve_bytes=GB),
    contents=Contents(studies=4, instances=40, bytes=GB),
    processes={"dicom-0": True, "dicom-1": True, "courier": True, "jobs": True, "web": True},
    queues=(queue(),),
    senders=(Sender("PANO1", days_ago(0, 1, 2, 3, 4, 5)),),
    rules=1,
    backup=attempt(HOUR),
    drill=attempt(DAY),
    drills=(Drilled("cloud", attempt(DAY)),),
    clock=Clock(Discipline.FOLLOWS, latest_record_utc=NOW - MINUTE),
)

FULL = Trouble("the data disk is full up to its reserve", "make space")
NOTHING: tuple[tuple[str, Severity], ...] = ()
BLOCKS, ACT_NOW, SOON, NOTE = Severity
DAILY = days_ago(*range(4, 30))
WEEKLY = days_ago(8, 15, 22, 29, 36, 43)


def disk(free_bytes: int, refusal: Trouble | None = None) -> Facts:
    return replace(CALM, disk=Disk(100 * GB, free_bytes, GB, refusal))


def drilled(last: Attempt | None) -> Facts:
    return replace(CALM, drills=(Drilled("cloud", last),))


def kept(**changes: Any) -> Facts:
    return replace(CALM, contents=Contents(**changes))


def lasts(days: int) -> Facts:
    return replace(CALM, forecast=Forecast(Outlook.FILLING, days, GB))


def queued(**changes: object) -> Facts:
    return replace(CALM, queues=(queue(**changes),))


def running(**changes: bool) -> Facts:
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    return replace(CALM, processes={**CALM.processes, **named})


def ends(left: timedelta) -> Facts:
    return replace(CALM, certificates=(Certificate("console", NOW + left),))


def clocked(**changes: object) -> Facts:
    return replace(CALM, clock=replace(CALM.clock, **changes))  # type: ignore[arg-type]


def read(age: timedelta, **more: Any) -> Facts:
    return replace(CALM, read_again=ReadAgain(NOW - age, **more))


def unread(destination: str, age: timedelta) -> LookedThrough:
    return LookedThrough(destination, NOW - age)


CLOUD = (unread("cloud", 34 * DAY),)

CASES = {
    "all is well": (CALM, NOTHING),
    "a catalog that fails is one problem, and hides none outside it": (
        Facts(NOW, TODAY, Keys(False, "tpm2"), catalog=Trouble("the catalog is damaged")),
        (("catalog", BLOCKS), ("recovery-key", ACT_NOW)),
    ),
    "a disk of which nothing is known": (replace(CALM, disk=None), NOTHING),
    "a disk with four reserves": (disk(4 * GB), NOTHING),
    "a disk with a byte less": (disk(4 * GB - 1), (("disk-low", ACT_NOW),)),
    "a full disk is not also low": (disk(0, FULL), (("disk-full", BLOCKS),)),
    "a disk that lasts 31 days": (lasts(31), NOTHING),
    "30 days": (lasts(30), (("disk-filling", SOON),)),
    "8 days": (lasts(8), (("disk-filling", SOON),)),
    "7 days": (lasts(7), (("disk-filling", ACT_NOW),)),
    "a low disk says so once": (replace(lasts(1), disk=Disk(100 * GB, 2 * GB, GB)), (("disk-low", ACT_NOW),)),
    "one image set aside": (kept(set_aside=1), (("set-aside", ACT_NOW),)),
    "one that is damaged": (kept(set_aside=1, set_aside_damaged=1), (("set-aside", ACT_NOW),)),
    "a duplicate": (kept(duplicates=1), (("duplicates", SOON),)),
    "a study with two patients": (kept(patient_conflicts=1), (("patient-conflict", ACT_NOW),)),
    "a damaged image": (kept(damaged=1), (("damaged", ACT_NOW),)),
    "many images gone at once": (replace(CALM, frozen=Frozen("vanished", NOW)), (("mass-loss", ACT_NOW),)),
    "many images altered at once": (replace(CALM, frozen=Frozen("altered", NOW)), (("mass-loss", ACT_NOW),)),
    "many images reported damaged": (
        replace(CALM, frozen=Frozen("reported", NOW)),
        (("mass-loss", ACT_NOW),),
    ),
    "a disk too small for what came back": (
        replace(CALM, too_small_for="vault"),
        (("disk-too-small", SOON),),
    ),
    "a restore from a backup": (
        replace(CALM, forgotten=Forgotten(NOW - DAY, NOW)),
        (("holds-forgotten", SOON),),
    ),
    "a restore without one": (replace(CALM, forgotten=Forgotten(None, NOW)), (("holds-forgotten", SOON),)),
    "and without a province": (
        replace(CALM, forgotten=Forgotten(None, NOW, lacks_province=True)),
        (("holds-forgotten", SOON), ("province-unknown", SOON)),
    ),
    "a freeze by hand": (replace(CALM, frozen=Frozen("by-hand", NOW)), (("guard-by-hand", SOON),)),
    "an audit that a bucket knows better": (
        replace(CALM, anchors=(Anchor("cloud", NOW, rolled_back=True),)),
        (("audit-rolled-back", ACT_NOW),),
    ),
    "an anchor of an hour": (replace(CALM, anchors=(Anchor("cloud", NOW - timedelta(hours=1)),)), NOTHING),
    "an anchor of more than an hour": (
        replace(CALM, anchors=(Anchor("cloud", NOW - timedelta(hours=1, seconds=1)),)),
        (("anchor-late", Severity.SOON),),
    ),
    "an anchor that could never be written": (
        replace(CALM, anchors=(Anchor("cloud", None),)),
        (("anchor-late", Severity.SOON),),
    ),
    "an old anchor while there is no line": (
        replace(CALM, anchors=(Anchor("cloud", NOW - timedelta(days=1), offline=True),)),
        NOTHING,
    ),
    "audit messages that have waited": (
        replace(CALM, audit_feed_behind_utc=NOW - timedelta(hours=1, seconds=1)),
        (("syslog-late", Severity.SOON),),
    ),
    "audit messages that wait for an hour": (
        replace(CALM, audit_feed_behind_utc=NOW - timedelta(hours=1)),
        NOTHING,
    ),
    "an altered audit": (replace(CALM, audit_findings=1), (("audit", ACT_NOW),)),
    "nobody wrote the key down": (replace(CALM, keys=Keys(False, "tpm2")), (("recovery-key", ACT_NOW),)),
    "a version that was tried and left": (
        replace(CALM, left_versions=("1.4.2",)),
        (("update-failed", SOON),),
    ),
    "a version that was chosen for every start": (
        replace(CALM, chosen_version="1.4.0"),
        (("version-chosen", SOON),),
    ),
    "a version that waits for the next start": (
        replace(CALM, waiting_versions=("1.5.0",)),
        (("update-waiting", Severity.NOTE),),
    ),
    "one that waits for a PIN": (
        replace(CALM, waiting_versions=("1.5",), asks_pin=True),
        (("update-by-hand", SOON),),
    ),
    "an order of the vendor that ran out a month ago": (
        replace(CALM, held_to=("1.4.0", NOW - 30 * DAY - timedelta(seconds=1))),
        (("order-lapsed", SOON),),
    ),
    "heartbeats that stopped": (replace(CALM, heartbeats_stopped=True), (("heartbeats-stopped", SOON),)),
    "an order of the vendor that ran out lately": (replace(CALM, held_to=("1.4.0", NOW - 30 * DAY)), NOTHING),
    "no look at the address of updates for two weeks": (
        replace(CALM, looked=Looked(NOW - 14 * DAY, NOW - DAY, Came.UNREACHABLE)),
        (("updates-unseen", SOON),),
    ),
    "no look of which anything was heard for two weeks": (
        replace(CALM, looked=Looked(NOW - 14 * DAY, NOW - 14 * DAY, Came.NONE)),
        (("updates-unseen", SOON),),
    ),
    "a look by a clock that was far ahead": (
        replace(CALM, looked=Looked(NOW + 300 * DAY, NOW + 300 * DAY, Came.NONE)),
        (("updates-unseen", SOON),),
    ),
    "an address of updates that was not reached for thirteen days": (
        replace(CALM, looked=Looked(NOW - 13 * DAY, NOW - DAY, Came.UNREACHABLE)),
        NOTHING,
    ),
    "a box that was off for two weeks, and has not had a night to look": (
        replace(
            CALM,
            looked=Looked(NOW - 14 * DAY, NOW, Came.UNREACHABLE, failed=1),
            runs_for=timedelta(minutes=5),
        ),
        NOTHING,
    ),
    "a box that was off for two weeks, and has had a night to look": (
        replace(CALM, looked=Looked(NOW - 15 * DAY, NOW, Came.UNREACHABLE, failed=2), runs_for=DAY),
        (("updates-unseen", SOON),),
    ),
    "a box that is off each night, and did not reach the address of updates for two weeks": (
        replace(
            CALM,
            looked=Looked(NOW - 14 * DAY, NOW, Came.UNREACHABLE, failed=3),
            runs_for=timedelta(minutes=5),
        ),
        (("updates-unseen", SOON),),
    ),
    "updates that were not signed by the vendor on three nights": (
        replace(CALM, looked=Looked(NOW - 3 * DAY, NOW, Came.REFUSED, refused=3)),
        (("updates-unseen", SOON),),
    ),
    "updates that were not signed by the vendor on two nights": (
        replace(CALM, looked=Looked(NOW - 2 * DAY, NOW, Came.REFUSED, refused=2)),
        NOTHING,
    ),
    "a box without an address of updates": (
        replace(CALM, looked=Looked(NOW - DAY, NOW - DAY, Came.NO_ADDRESS)),
        NOTHING,
    ),
    "pages of the catalog that were found damaged": (
        replace(CALM, contents=Contents(catalog_damage="row 3 missing")),
        (("catalog-damaged", ACT_NOW),),
    ),
    "a destruction that an archive has not done for eight days": (
        replace(CALM, destructions_since=(NOW - 8 * DAY,)),
        NOTHING,
    ),
    "for eight days and a second": (
        replace(CALM, destructions_since=(NOW - 8 * DAY - SECOND, NOW - HOUR)),
        (("destruction-waits", SOON),),
    ),
    "several of them": (
        replace(CALM, destructions_since=(NOW - 30 * DAY, NOW - 9 * DAY)),
        (("destruction-waits", SOON),),
    ),
    "everything read again 33 days ago": (read(33 * DAY), NOTHING),
    "33 days and a second ago": (read(33 * DAY + SECOND), (("read-again-late", SOON),)),
    "never read to its end": (read(34 * DAY, never=True), (("read-again-late", SOON),)),
    "read again in days that are still to come": (read(-2 * HOUR), (("read-again-late", SOON),)),
    "a week in which a bucket could not be asked": (read(DAY, unasked=9, asked_utc=NOW - 33 * DAY), NOTHING),
    "a month in which a bucket could not be asked": (
        read(DAY, unasked=9, asked_utc=NOW - 34 * DAY),
        (("bucket-unasked", SOON),),
    ),
    "buckets of which one was not looked through for 33 days": (
        replace(read(DAY), looked_through=(unread("cloud", 33 * DAY + SECOND), unread("other", 33 * DAY))),
        (("bucket-unlisted", SOON),),
    ),
    "archives of which one was not read to its end for 33 days": (
        replace(read(DAY), read_through=(unread("usb", 33 * DAY + SECOND), unread("nas", 33 * DAY))),
        (("read-again-late", SOON),),
    ),
    "one that was not looked through either, which is said once": (
        replace(read(DAY), looked_through=CLOUD, read_through=CLOUD),
        (("bucket-unlisted", SOON),),
    ),
    "nothing read for long": (replace(read(34 * DAY), read_through=CLOUD), (("read-again-late", SOON),)),
    "disks that hold back what a restored box knows of nowhere else": (
        replace(CALM, contents=Contents(kept_back=(("usb", 2), ("nas", 1)), unread_disks=("usb",))),
        (("disk-unreadable", ACT_NOW), ("disk-unreadable", ACT_NOW)),
    ),
    "study manifests that did not open for a restore, and an archive that nobody has looked through since": (
        replace(CALM, contents=Contents(unread_manifests=(("usb", 2),), not_looked_through=("nas",))),
        (("manifests-unread", ACT_NOW), ("manifests-unread", ACT_NOW)),
    ),
    "buckets that have lost what is nowhere else": (
        replace(CALM, contents=Contents(lost_in=(("cloud", 2), ("other", 1)))),
        (("bucket-lacks", ACT_NOW), ("bucket-lacks", ACT_NOW)),
    ),
    "buckets in which somebody else has altered what could be mended": (
        replace(
            CALM,
            contents=Contents(
                altered_in=(Altered("cloud", "2", TODAY, TODAY), Altered("other", "1000+", TODAY, TODAY))
            ),
        ),
        (("bucket-altered", ACT_NOW), ("bucket-altered", ACT_NOW)),
    ),
    "a bucket that has lost some of what protected it, and another that does not tell": (
        replace(
            CALM,
            unprotected=(
                Unprotected("cloud", lost=("versions are not locked", "what is overwritten is gone at once")),
                Unprotected("other", untold=("whether versions are locked is not told",)),
            ),
        ),
        (("protection-lost", ACT_NOW), ("protection-untold", SOON)),
    ),
    "an index that could not be read through": (
        read(DAY, unchecked="no room left"),
        (("index-unread", SOON),),
    ),
    "a disk that gives nothing back": (
        replace(CALM, contents=Contents(unread_in_a_row=8)),
        (("disk-unreadable", ACT_NOW),),
    ),
    "two disks for copies that do not give them back": (
        replace(CALM, contents=Contents(unread_disks=("usb", "nas"))),
        (("disk-unreadable", ACT_NOW), ("disk-unreadable", ACT_NOW)),
    ),
    "what the recovery key opens is damaged": (
        replace(CALM, keys=Keys(True, "tpm2", "damaged")),
        (("recovery-slot", ACT_NOW),),
    ),
    "a seal without a TPM": (replace(CALM, keys=Keys(True, "host")), (("machine-seal", SOON),)),
    "a seal in a file": (replace(CALM, keys=Keys(True, "file")), (("machine-seal", SOON),)),
    "no seal": (replace(CALM, keys=Keys(True, Trouble("gone"))), (("machine-seal", ACT_NOW),)),
    "Secure Boot that is on": (replace(CALM, secure_boot=SecureBoot.ON), NOTHING),
    "Secure Boot that is off": (replace(CALM, secure_boot=SecureBoot.OFF), (("secure-boot-off", SOON),)),
    "Secure Boot without the box's keys": (
        replace(CALM, secure_boot=SecureBoot.WITHOUT_KEYS),
        (("secure-boot-off", SOON),),
    ),
    "a worker of two": (running(dicom_0=False), (("dicom-weak", ACT_NOW),)),
    "no worker": (running(dicom_0=False, dicom_1=False), (("dicom-stopped", BLOCKS),)),
    "no courier": (running(courier=False), (("courier-stopped", BLOCKS),)),
    "no upkeep": (running(jobs=False), (("jobs-stopped", BLOCKS),)),
    "no console": (running(web=False), (("web-stopped", BLOCKS),)),
    "two jobs that fail": (
        replace(CALM, failing_jobs=("audit", "orphans")),
        (("job", ACT_NOW), ("job", ACT_NOW)),
    ),
    "a delivery of an hour": (queued(waiting=1, oldest_utc=NOW - HOUR), NOTHING),
    "and a second": (queued(waiting=1, oldest_utc=NOW - HOUR - SECOND), (("delivery-late", SOON),)),
    "of three days": (queued(waiting=1, oldest_utc=NOW - 3 * DAY), (("delivery-late", SOON),)),
    "and another second": (
        queued(waiting=1, oldest_utc=NOW - 3 * DAY - SECOND),
        (("delivery-late", ACT_NOW),),
    ),
    "owed by a clock ahead of this": (queued(waiting=1, oldest_utc=NOW + 3650 * DAY), NOTHING),
    "what is paused is not late": (
        queued(state="paused", waiting=1, oldest_utc=NOW - 9 * DAY),
        (("destination-paused", SOON),),
    ),
    "paused with nothing owed": (queued(state="paused"), NOTHING),
    "not reached": (
        queued(state="not reached (no route)", trouble="no route"),
        (("destination-down", ACT_NOW),),
    ),
    "refused": (queued(failed=1), (("delivery-failed", ACT_NOW),)),
    "never backed up, and no word on drills": (
        replace(CALM, backup=None, drill=None, drills=()),
        (("no-backup", SOON),),
    ),
    "a backup of two days": (replace(CALM, backup=attempt(2 * DAY)), NOTHING),
    "and a second more": (replace(CALM, backup=attempt(2 * DAY + SECOND)), (("backup-late", SOON),)),
    "of seven days": (replace(CALM, backup=attempt(7 * DAY)), (("backup-late", SOON),)),
    "a second more": (replace(CALM, backup=attempt(7 * DAY + SECOND)), (("backup-late", ACT_NOW),)),
    "a backup by a clock an hour ahead": (replace(CALM, backup=attempt(-HOUR)), NOTHING),
    "by one ten years ahead": (replace(CALM, backup=attempt(-3650 * DAY)), (("backup-late", SOON),)),
    "a backup that was made, and older ones that stay": (
        replace(CALM, backup=attempt(HOUR, Outcome.SUCCEEDED, "usb: no right")),
        (("backups-stay", SOON),),
    ),
    "a backup that failed, and none that succeeded": (
        replace(CALM, backup=attempt(HOUR, Outcome.FAILED, "no room")),
        (("backup-failed", ACT_NOW),),
    ),
    "failed without a word, the last good one old": (
        replace(CALM, backup=Attempt(NOW - HOUR, Outcome.FAILED, NOW - 3 * DAY)),
        (("backup-failed", ACT_NOW), ("backup-late", SOON)),
    ),
    "never drilled": (drilled(None), (("no-drill", SOON),)),
    "a drill of eight days": (drilled(attempt(8 * DAY)), NOTHING),
    "of a second more": (drilled(attempt(8 * DAY + SECOND)), (("drill-late", SOON),)),
    "one archive of two late": (
        replace(CALM, drills=(Drilled("cloud", attempt(DAY)), Drilled("usb", attempt(9 * DAY)))),
        (("drill-late", SOON),),
    ),
    "one archive of two never drilled": (
        replace(CALM, drills=(Drilled("cloud", attempt(DAY)), Drilled("usb", None))),
        (("no-drill", SOON),),
    ),
    "every archive that failed": (
        replace(
            CALM,
            drills=(
                Drilled("cloud", attempt(DAY, Outcome.FAILED, "cloud: a checksum differs")),
                Drilled("nas", attempt(DAY)),
                Drilled("usb", attempt(DAY, Outcome.FAILED)),
            ),
        ),
        (("drill-failed", ACT_NOW), ("drill-failed", ACT_NOW)),
    ),
    "what stands under an archive was not written by this box": (
        replace(CALM, drills=(Drilled("usb", attempt(DAY, Outcome.FAILED, "forged")),)),
        (("drill-failed", ACT_NOW),),
    ),
    "an archive that failed and is paused since": (
        replace(
            CALM,
            drills=(
                Drilled("cloud", attempt(DAY)),
                Drilled("usb", attempt(HOUR, Outcome.FAILED, "a checksum differs"), is_paused=True),
            ),
        ),
        NOTHING,
    ),
    "the only archive is paused": (
        replace(CALM, drill=attempt(30 * DAY), drills=(Drilled("usb", attempt(30 * DAY), is_paused=True),)),
        NOTHING,
    ),
    "a drill still to come": (drilled(attempt(-2 * HOUR)), (("drill-late", SOON),)),
    "a drill that failed": (
        drilled(attempt(HOUR, Outcome.FAILED, "a checksum differs")),
        (("drill-failed", ACT_NOW),),
    ),
    "a drill that failed without a word": (
        drilled(attempt(HOUR, Outcome.FAILED)),
        (("drill-failed", ACT_NOW),),
    ),
    "a certificate of 31 days": (ends(31 * DAY), NOTHING),
    "of 30": (ends(30 * DAY), (("certificate-expiring", SOON),)),
    "of a second more than 7": (ends(7 * DAY + SECOND), (("certificate-expiring", SOON),)),
    "of 7": (ends(7 * DAY), (("certificate-expiring", ACT_NOW),)),
    "of a second": (ends(SECOND), (("certificate-expiring", ACT_NOW),)),
    "of none": (ends(timedelta(0)), (("certificate-expired", ACT_NOW),)),
    "19 failed sign-ins": (replace(CALM, sign_in_failures=19), NOTHING),
    "20": (replace(CALM, sign_in_failures=20), (("sign-in-failures", ACT_NOW),)),
    "a clock that is in doubt": (clocked(is_doubted=True), (("clock-doubted", SOON),)),
    "a clock that nothing disciplines": (clocked(discipline=Discipline.FREE), (("clock-free", NOTE),)),
    "a kernel that can't be asked": (clocked(discipline=Discipline.UNKNOWN), NOTHING),
    "ten minutes behind the last image": (clocked(latest_record_utc=NOW + 10 * MINUTE), NOTHING),
    "a second more behind": (
        clocked(latest_record_utc=NOW + 10 * MINUTE + SECOND),
        (("clock-behind", ACT_NOW),),
    ),
    "set by 59 s": (clocked(set_seconds=59, set_utc=NOW), NOTHING),
    "set back by an hour": (clocked(set_seconds=-3600, set_utc=NOW - HOUR), (("clock-set", NOTE),)),
    "set the day before yesterday": (clocked(set_seconds=-3600, set_utc=NOW - 2 * DAY), NOTHING),
    "set by a clock that then was far ahead": (
        clocked(set_seconds=9e9, set_utc=NOW + 3650 * DAY),
        NOTHING,
    ),
    "a daily machine alone, quiet for four days": (
        replace(CALM, senders=(Sender("PANO1", DAILY),)),
        (("device-silent", SOON),),
    ),
    "for two days": (
        replace(CALM, senders=(Sender("PANO1", days_ago(*range(2, 30))),)),
        NOTHING,
    ),
    "a weekly machine, quiet for eight days": (replace(CALM, senders=(Sender("CBCT", WEEKLY),)), NOTHING),
    "a new machine that has sent four times": (
        replace(CALM, senders=(Sender("PANO1", days_ago(20, 21, 22, 23)),)),
        NOTHING,
    ),
    "one that never sent": (replace(CALM, senders=(Sender("PANO1"),)), NOTHING),
    "a holiday silences all, and none is missed": (
        replace(
            CALM,
            senders=(
                Sender("PANO1", days_ago(*range(14, 40))),
                Sender("IO2", days_ago(*range(14, 40))),
            ),
        ),
        NOTHING,
    ),
    "one falls silent while the other works": (
        replace(CALM, senders=(Sender("PANO1", DAILY), Sender("IO2", days_ago(*range(30))))),
        (("device-silent", SOON),),
    ),
    "days of a clock that was ahead are not looked at": (
        replace(CALM, senders=(Sender("PANO1", (*DAILY, TODAY + 3000 * DAY)),)),
        (("device-silent", SOON),),
    ),
    "no machine, no rule": (
        replace(CALM, senders=(), rules=0),
        (("no-devices", SOON), ("no-rules", SOON)),
    ),
}


@pytest.mark.parametrize(("facts", "expected"), CASES.values(), ids=CASES)
def test_what_the_checks_find(facts: Facts, expected: tuple[tuple[str, Severity], ...]) -> None:
    assert tuple((each.code, each.severity) for each in judge(facts)) == expected


def found() -> list[Problem]:
    return [problem for facts, _ in CASES.values() for problem in judge(facts)]


def test_every_code_has_a_case_and_every_problem_a_known_code() -> None:
    assert {problem.code for problem in found()} == set(CODES)
    assert len(set(CODES)) == len(CODES)


def test_every_file_of_the_checks_is_asked() -> None:
    files = {path.stem for path in Path(checks.__file__).parent.glob("*.py")} - {"__init__"}
    assert {check.__module__.rsplit(".", 1)[-1] for check in CHECKS} == files


def test_every_problem_is_said_in_french_too() -> None:
    french = Languages(web_ui() / "languages").words("fr")
    for problem in found():
        for text in (problem.words, problem.fix):
            assert french.cause(text).lower() != text.lower(), text


@pytest.mark.parametrize(
    ("limits", "facts", "said"),
    [
        ({"delivery_late_hours": 5}, {"queues": (queue(waiting=1, oldest_utc=NOW - 4 * HOUR),)}, ()),
        ({"delivery_late_hours": 3}, {"queues": (queue(waiting=1, oldest_utc=NOW - 4 * HOUR),)}, (SOON,)),
        (
            {"delivery_urgent_days": 1},
            {"queues": (queue(waiting=1, oldest_utc=NOW - 25 * HOUR),)},
            (ACT_NOW,),
        ),
        ({"backup_late_days": 5}, {"backup": attempt(4 * DAY)}, ()),
        ({"backup_urgent_days": 3}, {"backup": attempt(4 * DAY)}, (ACT_NOW,)),
        ({"drill_late_days": 20}, {"drills": (Drilled("cloud", attempt(15 * DAY)),)}, ()),
        ({"certificate_days": 60}, {"certificates": (Certificate("box", NOW + 50 * DAY),)}, (SOON,)),
        ({"disk_days": 90}, {"forecast": Forecast(Outlook.FILLING, 80)}, (SOON,)),
        ({"failed_sign_ins": 3}, {"sign_in_failures": 3}, (ACT_NOW,)),
        ({"device_silent_days": 30}, {"senders": (Sender("PANO1", DAILY),)}, ()),
    ],
)
def test_the_clinic_says_from_when_on_something_is_said(
    limits: dict[str, int], facts: dict[str, object], said: tuple[Severity, ...]
) -> None:
    found = judge(replace(CALM, limits=Limits(**limits), **facts))  # type: ignore[arg-type]
    assert tuple(each.severity for each in found) == said


def test_a_drill_is_judged_for_each_archive_and_named() -> None:
    """A notice for each: what failed in one is not told with what failed in another."""
    facts, _ = CASES["every archive that failed"]
    told = [(each.subject, each.words) for each in judge(facts)]
    assert told == [
        ("cloud", "the last restore drill of cloud failed (a checksum differs)"),
        ("usb", "the last restore drill of usb failed"),
    ]


def test_the_limits_are_those_of_the_settings() -> None:
    kept = {key.partition(".")[2]: each.default for key, each in SETTINGS.items() if each.section == "health"}
    assert asdict(Limits()) == kept


def test_the_most_pressing_comes_first() -> None:
    facts = replace(
        CALM,
        rules=0,
        keys=Keys(False, "file"),
        clock=Clock(Discipline.FREE),
        disk=disk(0, FULL).disk,
    )
    said = [problem.severity for problem in judge(facts)]
    assert said == sorted(said, key=list(Severity).index)
    assert set(said) == set(Severity)


@given(st.sets(st.integers(0, 60), min_size=silence.FEWEST_DAYS), st.integers(0, 400))
def test_a_longer_silence_is_never_less_remarkable(numbers: set[int], more: int) -> None:
    sender = Sender("PANO1", days_ago(*numbers))
    before = silence.quiet(sender, (sender,), TODAY)
    after = silence.quiet(sender, (sender,), TODAY + timedelta(days=more))
    assert before is None or (after is not None and after == before + more)


@given(st.lists(st.integers(1, 30), min_size=1))
def test_a_rhythm_is_a_gap_that_nine_in_ten_keep(gaps: list[int]) -> None:
    usual = silence.rhythm(gaps)
    assert usual in gaps
    assert sum(gap <= usual for gap in gaps) * 10 >= len(gaps) * 9
