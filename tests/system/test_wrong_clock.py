"""The real processes under a clock that is years wrong, jumps while they run, or begins dead (R4).

As tests/test_clock_matrix.py has it for each part with a clock that is handed to it; here nobody hands a clock to anybody: the
processes ask the system for the hour, libraries of others too, and libfaketime answers. The duties come `HURRY` times as often as
on a box, so that what is done twice has every occasion. With whole processes each takes minutes, and libfaketime has kept a process from
ending in time on a machine with much else to do: they are a campaign (``make campaign ARGS=tests``).
"""

from __future__ import annotations

import os
import subprocess
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from appliance import audit, certificates
from appliance import settings as chosen
from appliance.backup import snapshot
from appliance.box import Box
from appliance.catalog import destinations, destructions, rules, tombstones
from appliance.model import DestinationSettings, Rule
from appliance.replication.delivery import State
from appliance.replication.destinations import prepare
from tests.backup.conftest import as_sent, clinic_in
from tests.backup.test_restoring import archive_of
from tests.boxes import delivery_states
from tests.instances import Instance
from tests.lifecycle.evicting import reached
from tests.replication.cloud import Cloud, cloud, settings
from tests.replication.test_protection import protected_bucket
from tests.system.browser import Browser
from tests.system.running import Appliance, appliance, wait_for
from tests.system.wrong_clock import PROGRAM, FalseClock
from tests.web.conftest import LOGIN, PASSWORD, add_owner

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

DAY = timedelta(days=1)
YEARS = timedelta(days=3653)
DEAD = datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC)
RESET = datetime(2000, 1, 1, tzinfo=UTC)
KEPT = [Instance(number, study=1 + number // 2, pixel_bytes=2_000) for number in range(4)]
WEEKS = (32, 25, 18, 11, 4)
"""How many days ago its backups were made."""

IN_DOUBT = "the clock of the box is in doubt"
WRONG = "another password, three times"
PATIENCE_SECONDS = 240.0


@dataclass
class Clinic:
    """A clinic whose box goes by a false clock, and what it must never lose."""

    running: Appliance
    clock: FalseClock
    disk: DestinationSettings
    cloud: Cloud
    bucket: str
    came: list[Instance] = field(default_factory=lambda: list(KEPT))
    moments: int = 1  # of which no two are near each other: the box's whole past is one
    objects: set[Path] = field(default_factory=set)
    backups: set[str] = field(default_factory=set)
    versions: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.good_backups = self.backups_on_disk()

    def note(self) -> None:
        """All that is there now, beside what was there before."""
        self.objects |= set(self.running.files("objects"))
        self.backups |= self.backups_on_disk()
        self.versions |= self.versions_in_bucket()

    def backups_on_disk(self) -> set[str]:
        return set(snapshot.names_in([each.key for each in archive_of(self.disk).documents(snapshot.PREFIX)]))

    def versions_in_bucket(self) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for page in self.cloud.client().get_paginator("list_object_versions").paginate(Bucket=self.bucket):
            assert not page.get("DeleteMarkers"), "something is marked as removed"
            found |= {(each["Key"], each["VersionId"]) for each in page.get("Versions", [])}
        return found

    def starts(self) -> None:
        """All its processes; the duties last, which take what processor there is."""
        self.running.start("dicom", "courier", "web")
        self.running.start("jobs")

    def nothing_is_gone(self) -> None:
        assert self.objects <= set(self.running.files("objects")), "an image has left the disk"
        assert self.backups <= self.backups_on_disk(), "a backup was taken for too old"
        assert self.versions <= self.versions_in_bucket()
        with self.running.opened() as box, box.catalog.reading() as conn:
            assert not destructions.standing(conn)
            assert not tombstones.certificates(conn)

    # --- what happens at a moment ------------------------------------------------------------------------------------

    def every_duty_runs(self) -> None:
        """Return when each duty of the jobs process has come to its end once more, from now on."""
        before = Counter(self.clock.runs())
        names = {
            "backup",
            "drill",
            "scrub",
            "retention",
            "eviction",
            "destruction",
            "sessions",
            "certificates",
        }

        def missing() -> set[str]:
            runs = Counter(self.clock.runs())
            return {name for name in names | set(before) if runs[name] <= before[name]}

        wait_for(
            lambda: not missing(),
            lambda: f"these duties do not run: {missing()}\n{self.running.log()[-5000:]}",
            seconds=PATIENCE_SECONDS,
        )

    def an_image_comes(self) -> None:
        """It is acknowledged, in the catalog, and soon in both archives."""
        image = Instance(len(self.came), study=20 + len(self.came), pixel_bytes=2_000)
        with self.running.peer() as peer:
            peer.associate()
            answer = peer.store(image.data_set, image.sop_instance_uid)
            assert answer.status == 0, answer.comment
            peer.release()
        self.came.append(image)
        self.running.wait_for_instances(len(self.came), seconds=PATIENCE_SECONDS)
        with self.running.opened() as box:
            wait_for(
                lambda: self._confirmed(box) == 2 * len(self.came), self.running.log, seconds=PATIENCE_SECONDS
            )

    @staticmethod
    def _confirmed(box: Box) -> int:
        with box.catalog.reading() as conn:
            return delivery_states(conn)[State.CONFIRMED]

    def a_person_comes_in(self) -> Browser:
        """By the password, and the start page shows."""
        browser = Browser(self.running.web_port)
        page = browser.post("/sign-in", login=LOGIN, password=PASSWORD)
        assert "/sign-out" in page, page[:3000]
        return browser

    def somebody_guesses(self) -> None:
        """Until nothing is examined any more, as the box counts it."""
        for _ in range(6):
            try:
                Browser(self.running.web_port).post("/sign-in", login=LOGIN, password=WRONG)
            except urllib.error.HTTPError as error:
                assert error.code in {401, 403, 422, 429}, error.code
        with pytest.raises((AssertionError, urllib.error.HTTPError)):
            self.a_person_comes_in()

    def problems(self) -> set[str]:
        return {each["code"] for each in self.running.ask("status")["problems"]}

    def goes_through(self, moment: datetime) -> None:
        """The clock says `moment`, and the box does its work and loses nothing."""
        self.note()
        self.clock.set_to(moment)
        self.moments += 1
        self.lives()
        page = self.a_person_comes_in().get("/").decode()
        assert IN_DOUBT in page.lower(), "the console does not say that the clock is in doubt"
        self.somebody_guesses()

    def lives(self) -> None:
        """A while of its life, at the moment that it is."""
        self.an_image_comes()
        self.every_duty_runs()
        self.nothing_is_gone()

    def ends_well(self) -> None:
        """The clock is right again, and somebody says so: nothing was lost, and nothing done twice."""
        self.note()
        self.clock.set_right()
        self.lives()
        self.running.say("retention", "trust-clock")
        self.every_duty_runs()
        self.a_person_comes_in()
        assert not {"clock-doubted", "clock-behind"} & self.problems()
        # By a clock that is believed, what came while it was years behind is old: it may leave for the bucket that has it whole.
        assert self.good_backups <= self.backups_on_disk()
        assert self.versions <= self.versions_in_bucket()
        self.running.stop()
        assert "Traceback" not in self.running.log(), self.running.log()[-5000:]
        with self.running.opened() as box:
            assert reached(box) == as_sent(*self.came)
            with box.catalog.reading() as conn:
                assert audit.verify(conn, box.audit_key, None) == []
                rows = list(audit.export(conn))
                found = certificates.installed(conn)
        assert found is not None
        assert found.server_begins_utc <= datetime.now(UTC) < found.server_ends_utc - 300 * DAY
        self.no_job_was_lost_or_doubled([row for row in rows if row["actor"] == "jobs"])

    def no_job_was_lost_or_doubled(self, rows: list[dict[str, Any]]) -> None:
        """At each moment what was due by then, once in each archive; the last of them is the right one again."""
        for action in ("backup:make", "backup:drill"):
            done = [(str(row["at_utc"])[:19], str(row["subject"])) for row in rows if row["action"] == action]
            by_day = Counter((at[:10], place) for at, place in done)
            assert {place for _, place in by_day} == {"usb", "cloud"}
            assert len(by_day) >= 4, (action, done)
            assert len(done) <= 2 * (self.moments + 1), (action, done)


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@contextmanager
def clinic(
    folder: Path, ports: Callable[[], int], at: Cloud, begins: datetime | None = None
) -> Iterator[Clinic]:
    """A box with a disk and a bucket, with a past of a few weeks that ended when its clock said `begins`.

    Its images leave after thirty days, once they are in the bucket; its backups end after thirty-five.
    """
    now = begins or datetime.now(UTC)
    (folder / "usb").mkdir(parents=True)
    disk = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(folder / "usb")}))
    bucket = protected_bucket(at)
    with clinic_in(folder / "data", disk) as made:
        box = made.box
        with box.catalog.transaction() as tx:
            place = settings(at.url, bucket)
            number = destinations.add(tx, place)
            rules.add_rule(tx, Rule(number, place.name, place.takes))
            choices: dict[str, Any] = {
                "tiers.eviction": "by-age",
                "tiers.keep_days": 30,
                "tiers.unused_days": 7,
                "tiers.newest_studies": 0,
                "backup.keep_days": 35,
            }
            chosen.change(tx, box.audit_key, choices, actor="tests", now=datetime.now(UTC))
            certificates.install(
                tx, box, host_name="clinicbox", clinic="Clinique", addresses=(), now=now - DAY
            )
        add_owner(box)
        made.receive(*KEPT)
        made.deliver()
        for days in WEEKS:
            made.back_up(now - days * DAY)
    clock = FalseClock(folder)
    clock.set_to(now) if begins else clock.set_right()
    added = {**clock.environment, "TZ": "America/Toronto"}
    with appliance(folder, ports, data=folder / "data", program=PROGRAM, added=added) as running:
        running.patience_seconds = PATIENCE_SECONDS
        yield Clinic(running, clock, made.place, at, bucket)


@pytest.mark.campaign
def test_a_clock_that_jumps_while_the_box_works(
    tmp_path: Path, free_port: Callable[[], int], the_cloud: Cloud
) -> None:
    with clinic(tmp_path / "clinic", free_port, the_cloud) as box:
        box.starts()
        box.lives()
        now = datetime.now(UTC)
        for moment in (now + YEARS, now - YEARS, DEAD, RESET, now + YEARS):
            box.goes_through(moment)
        box.ends_well()


@pytest.mark.campaign
@pytest.mark.parametrize("began", ["ten years ahead", "ten years behind", "1970", "2000"])
def test_a_box_that_starts_with_a_wrong_clock(
    tmp_path: Path, free_port: Callable[[], int], the_cloud: Cloud, began: str
) -> None:
    now = datetime.now(UTC)
    moments = {"ten years ahead": now + YEARS, "ten years behind": now - YEARS, "1970": DEAD, "2000": RESET}
    with clinic(tmp_path / "clinic", free_port, the_cloud) as box:
        box.starts()
        box.lives()
        box.running.stop()
        box.clock.set_to(moments[began])
        box.starts()
        box.goes_through(moments[began])
        box.running.stop()
        box.clock.set_right()
        box.starts()
        box.ends_well()


def changes_of_summer_time(zone: str) -> list[datetime]:
    """The next two moments at which clocks there are set, in UTC."""
    local = ZoneInfo(zone)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    found: list[datetime] = []
    while len(found) < 2:
        following = hour + timedelta(hours=1)
        if hour.astimezone(local).utcoffset() != following.astimezone(local).utcoffset():
            found.append(following)
        hour = following
    return found


@pytest.mark.campaign
@pytest.mark.parametrize("which", [0, 1])
def test_a_night_on_which_clocks_are_set_is_a_night_like_any(
    tmp_path: Path, free_port: Callable[[], int], the_cloud: Cloud, which: int
) -> None:
    """The hour that is there twice, or not at all, is one of the wall: nothing is due sooner, twice or never, nor any clock in doubt."""
    change = changes_of_summer_time("America/Toronto")[which]
    evening = change - timedelta(hours=3)
    with clinic(tmp_path / "clinic", free_port, the_cloud, begins=evening) as box:
        box.starts()
        box.running.say("retention", "trust-clock")  # what is known of it is the machine's own
        box.lives()
        box.clock.set_to(change - timedelta(seconds=45))
        browser = box.a_person_comes_in()
        wait_for(lambda: box.clock.says() > change + timedelta(seconds=5), "the hour", seconds=120)
        box.lives()
        assert "/sign-out" in browser.get("/").decode(), "who was signed in still is"
        assert not {"clock-doubted", "clock-behind"} & box.problems()
        box.running.stop()
        with box.running.opened() as opened, opened.catalog.reading() as conn:
            acts = Counter(str(each["action"]) for each in audit.export(conn))
        assert len(box.backups_on_disk()) == len(WEEKS) + 1, "one backup in this night"
        assert acts["backup:drill"] == 2, "and one drill of each archive"


@pytest.mark.parametrize("moved", [YEARS, -60 * DAY])
def test_what_the_vendor_has_signed_is_taken_by_a_clock_years_ahead_or_behind_the_signature(
    tmp_path: Path, moved: timedelta
) -> None:
    """As `systemd-sysupdate` has it verified: by gpg, which has no argument for the hour when it is the hour of the machine that is wrong.

    Behind the day on which the key was made gpg takes none; so the vendor's key says that it is old, and the image starts at the time of its
    version at the earliest (tests/image/test_updates.py).
    """
    home, file = tmp_path / "k", tmp_path / "SHA256SUMS"
    home.mkdir(mode=0o700)
    file.write_text("what an update consists of")
    clock = FalseClock(tmp_path)

    def gpg(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["gpg", "--batch", "--homedir", str(home), *words],
            env=os.environ | (environment or {}),
            capture_output=True,
            timeout=120,
            check=False,
        )

    try:
        key = ("--passphrase", "", "--quick-gen-key", "vendor@example.test", "ed25519", "sign", "never")
        assert gpg("--faked-system-time", "20250101T000000", *key).returncode == 0
        assert gpg("--detach-sign", str(file)).returncode == 0
        clock.set_to(datetime.now(UTC) + moved)
        verified = gpg("--verify", f"{file}.sig", str(file), environment=clock.environment)
        assert verified.returncode == 0, verified.stderr
        file.write_text("something else")
        assert gpg("--verify", f"{file}.sig", str(file), environment=clock.environment).returncode != 0
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, timeout=60)
