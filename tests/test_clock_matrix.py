"""A clock that is years wrong, jumps, or begins dead: every job runs by it, and nothing is lost, pruned or kept out by it.

Each row is a series of moments that the clock of the box says, one after another. At each of them all jobs run once, and an image comes. On
a box that follows no time server somebody sets the clock right then and says so; on one that follows a server which was wrong (`SERVERS`)
nobody says anything once it is right. Then the box is held to what it had before.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit, certificates, duties, jobs
from appliance.backup import choice, drill, restoring, snapshot
from appliance.box import Box, open_box
from appliance.catalog import Transaction, deliveries, destinations, notices, outbox, studies, tombstones
from appliance.catalog.known_clock import Running, known_clock
from appliance.catalog.notices import NoticeState
from appliance.catalog.tombstones import PlaceState
from appliance.config import CourierConfig
from appliance.errors import Refused
from appliance.health.facts import Discipline
from appliance.identity import signing_in
from appliance.lifecycle import certificate, destruction, purging, retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.request import Method
from appliance.model import DestinationSettings
from appliance.replication.batch import Counts, Errand, Held, Surroundings
from appliance.replication.delivery import State
from appliance.replication.destinations import prepare
from appliance.replication.destinations.bucket_policy import KEPT_DAYS
from appliance.replication.lane import Lane
from appliance.store.recovery import RecoveryKey
from tests.backup.conftest import as_sent, clinic_in, contents
from tests.backup.test_restoring import archive_of
from tests.boxes import config_in, take_in
from tests.instances import Instance
from tests.lifecycle.purge import LATER, approve, study_of
from tests.replication.cloud import Cloud, cloud, settings
from tests.replication.test_protection import protected_bucket
from tests.web.conftest import LOGIN, PASSWORD, add_owner

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC)
RIGHT = NOW + timedelta(hours=2)
"""When the clock is right again."""

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
YEARS = timedelta(days=3653)

ROWS: dict[str, Sequence[datetime]] = {
    "an hour behind": [NOW - timedelta(hours=1)],
    "a week ahead": [NOW + 7 * DAY],
    "ten years behind": [NOW - YEARS],
    "ten years ahead, for days": [NOW + YEARS, NOW + YEARS + DAY],
    "back and forth": [NOW + YEARS, NOW - YEARS, NOW + 40 * DAY],
    "a dead battery": [datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)],
    "a leap day, and the end of what 32 bits count": [
        datetime(2028, 2, 29, 23, 59, 58, tzinfo=UTC),
        datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    ],
    "both nights of summer time": [
        datetime(2027, 3, 14, 6, 59, 59, tzinfo=UTC),
        datetime(2027, 11, 7, 6, 0, 1, tzinfo=UTC),
    ],
}

SERVERS: dict[str, Sequence[tuple[datetime, str]]] = {
    "ten years ahead while it runs": [(NOW + YEARS, "first"), (NOW + YEARS + HOUR / 2, "first")],
    "ten years ahead at a start": [(NOW + YEARS, "second"), (NOW + YEARS + HOUR / 2, "second")],
    "a hundred days ahead while it runs, and after a start": [
        (NOW + 100 * DAY, "first"),
        (NOW + 100 * DAY + HOUR / 2, "second"),
    ],
    "ahead, further ahead, and behind": [
        (NOW + YEARS, "first"),
        (NOW + 2 * YEARS, "first"),
        (NOW - YEARS, "first"),
    ],
    "ten years behind": [(NOW - YEARS, "first")],
}
"""What a time server says that is wrong, and the start in which the box hears it."""

KEPT = [Instance(number, study=1 + number // 2, pixel_bytes=2_000) for number in range(4)]
WAITING = Instance(10, study=5, pixel_bytes=2_000)
"""An image whose courier has vanished with a lease in its hand."""

WEEKS = (32, 25, 18, 11, 4)


@dataclass(frozen=True)
class Scene:
    """A box in `folder`, as it was while its clock was right."""

    folder: Path
    place: DestinationSettings
    paper: RecoveryKey
    backups: frozenset[str]
    authority: bytes
    messages: tuple[int, int]  # one that waits, one that was sent
    notice: int


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The box on its last good day; each row gets a copy of it."""
    folder = tmp_path_factory.mktemp("clock") / "clinic"
    (folder / "usb").mkdir(parents=True)
    disk = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(folder / "usb")}))
    with clinic_in(folder / "box", disk) as clinic:
        box = clinic.box
        clinic.receive(*KEPT)
        clinic.deliver()
        for days in WEEKS:
            clinic.back_up(NOW - days * DAY)
        add_owner(box)
        clinic.receive(WAITING)
        with box.catalog.transaction() as tx:
            retention.watch_clock(tx, NOW, follows_time_server=False)
            assert len(deliveries.claim(tx, clinic.place.id, now=NOW, lease_seconds=60, limit=10)) == 1
            found = certificates.install(
                tx, box, host_name="clinicbox", clinic="Clinique", addresses=("192.168.1.20",), now=NOW - DAY
            )
            waiting, ended = _message(tx, 1), _message(tx, 2)
            outbox.sent(tx, ended, NOW)
            notice = notices.add(
                tx,
                kind="backup-failed",
                topic="backup",
                severity="soon",
                subject="usb",
                words="it failed",
                fix="look",
                state=NoticeState.EVENT,
                now=NOW,
            )
        scene = Scene(
            folder,
            clinic.place,
            clinic.paper,
            frozenset(backups_of(clinic.place)),
            found.fingerprint,
            (waiting, ended),
            notice,
        )
    shutil.copytree(folder, folder.with_name("good"))
    return scene


def _message(tx: Transaction, number: int) -> int:
    return outbox.add(
        tx,
        channel="mail",
        address="marie@example.test",
        message_id=f"<{number}@box>",
        subject="x",
        content={},
        urgency=1,
        not_before=NOW,
        expires_utc=NOW + 3 * DAY,
        now=NOW,
    )


@pytest.fixture
def scene(made: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr("appliance.health.kernel_clock.discipline", lambda: Discipline.FREE)
    shutil.rmtree(made.folder)
    shutil.copytree(made.folder.with_name("good"), made.folder)
    return made


@pytest.fixture
def box(scene: Scene) -> Iterator[Box]:
    config = replace(config_in(scene.folder / "box"), courier=CourierConfig(workers_per_destination=0))
    box = open_box(config)
    yield box
    box.close()


def backups_of(place: DestinationSettings) -> set[str]:
    return set(snapshot.names_in([each.key for each in archive_of(place).documents(snapshot.PREFIX)]))


def run_all_jobs(box: Box, at: datetime) -> None:
    upkeep = jobs.Upkeep(box, duties.duties(box), wall=lambda: at)
    for job in upkeep.jobs:
        upkeep._do(job)
    assert upkeep.failing == set(), f"at {at:%Y-%m-%d}"


def deliver(box: Box, at: datetime) -> None:
    """What the courier does by this clock, until it has nothing to do."""
    with box.catalog.reading() as conn:
        (place,) = destinations.destinations(conn)
    lane = Lane(Errand(box, place, Surroundings(now=lambda: at, jitter=lambda: 0.5), Held(), Counts()))
    while lane.one_batch():
        pass
    lane.keep_documents()


def nothing_can_be_destroyed(box: Box, at: datetime) -> None:
    with box.catalog.reading() as conn:
        numbers = [each.id for each in studies.find(conn, limit=100)]
    for number in numbers:
        with pytest.raises(Refused), box.catalog.transaction() as tx:
            act = Act(by="marie", now=at, audit_key=box.audit_key)
            destruction.ask(tx, act, [number], method=Method.DESTROY, reason="yearly review")


def may_come_in(box: Box, at: datetime) -> bool:
    with box.catalog.reading() as conn:
        found = signing_in.examine(conn, LOGIN, PASSWORD, address="192.168.1.7", now=at)
    if not isinstance(found, signing_in.Accepted):
        return False
    with box.catalog.transaction() as tx:
        return isinstance(signing_in.accept(tx, found, address="192.168.1.7", agent="x", now=at), str)


def live_through(scene: Scene, box: Box, number: int, at: datetime) -> Instance:
    """A moment of a row: all that a box does. Gives the image that came."""
    run_all_jobs(box, at)
    image = Instance(number, study=20 + number, pixel_bytes=2_000)
    _, told = take_in(box, image, at)
    assert told.recorded, "an image is received whatever the clock says"
    deliver(box, at)
    nothing_can_be_destroyed(box, at + timedelta(minutes=20))
    assert may_come_in(box, at), "a person gets in whatever the clock says"
    assert scene.backups <= backups_of(scene.place), "no backup is taken for too old"
    return image


@pytest.mark.parametrize("row", ROWS)
def test_nothing_is_lost_pruned_or_kept_out_because_a_clock_is_wrong(
    scene: Scene, box: Box, row: str
) -> None:
    came = [live_through(scene, box, number, at) for number, at in enumerate(ROWS[row])]
    run_all_jobs(box, RIGHT)  # nobody has said yet that it is right
    assert scene.backups <= backups_of(scene.place)
    with box.catalog.transaction() as tx:
        retention.trust_clock(tx, Act(by="marie", now=RIGHT, audit_key=box.audit_key))
        assert retention.clock_of(tx, RIGHT).doubt is None, "whatever came by the wrong one"
    for minutes in (2, 60):
        run_all_jobs(box, RIGHT + timedelta(minutes=minutes))
        deliver(box, RIGHT + timedelta(minutes=minutes))

    nothing_was_lost(scene, box, came, RIGHT + timedelta(minutes=61))


def nothing_was_lost(scene: Scene, box: Box, came: Sequence[Instance], later: datetime) -> None:
    """The box has all that it had, and all that came, once its clock is right."""
    assert contents(box) == as_sent(*KEPT, WAITING, *came)
    with box.catalog.reading() as conn:
        states = {each.state for each in deliveries.list_deliveries(conn, limit=1000)}
        assert states == {State.CONFIRMED}, "what was owed has arrived, leased or waiting by whatever clock"
        assert audit.verify(conn, box.audit_key, None) == []
        found = certificates.installed(conn)
        message = outbox.message(conn, scene.messages[0])
        assert outbox.message(conn, scene.messages[1]) is not None, "what was sent is remembered"
        notices.notice(conn, scene.notice)  # raises for one that is forgotten
    assert found is not None and found.server_begins_utc <= later < found.server_ends_utc, "browsers take it"
    assert found.fingerprint == scene.authority, "no workstation has to be told to trust another one"
    assert message is not None and message.state in outbox.OPEN_STATES, "it has not waited too long"
    assert may_come_in(box, later)


@pytest.mark.parametrize("row", SERVERS)
def test_a_time_server_that_is_wrong_does_no_harm_and_once_it_is_right_nobody_has_to_say_so(
    scene: Scene, box: Box, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    monkeypatch.setattr("appliance.health.kernel_clock.discipline", lambda: Discipline.FOLLOWS)

    def runs(boot: str, lasted: timedelta) -> None:
        monkeypatch.setattr("appliance.health.kernel_clock.running", lambda: Running(boot, lasted))

    runs("first", DAY)
    run_all_jobs(box, NOW)
    came: list[Instance] = []
    for number, (at, boot) in enumerate(SERVERS[row], start=1):
        runs(boot, DAY + number * HOUR / 2 if boot == "first" else number * HOUR / 2)
        image = live_through(scene, box, number, at)
        came.append(image)
        with box.catalog.reading() as conn:
            assert retention.clock_of(conn, at).doubt is not None
    last = SERVERS[row][-1][1]
    for minutes in (0, 2, 60):
        lasted = RIGHT - NOW + timedelta(minutes=minutes)
        runs(last, lasted if last != "first" else DAY + lasted)
        run_all_jobs(box, RIGHT + timedelta(minutes=minutes))
        deliver(box, RIGHT + timedelta(minutes=minutes))
        with box.catalog.reading() as conn:
            assert retention.clock_of(conn, RIGHT + timedelta(minutes=minutes)).doubt is None
            known = known_clock(conn).known_utc
        assert known == RIGHT + timedelta(minutes=minutes), "nothing is known of a year to come"
    nothing_was_lost(scene, box, came, RIGHT + timedelta(minutes=61))


def test_a_backup_that_a_wrong_clock_named_years_ahead_is_not_the_newest_for_ever(
    scene: Scene, box: Box
) -> None:
    run_all_jobs(box, NOW + YEARS)
    (ahead,) = backups_of(scene.place) - scene.backups
    assert ahead == max(backups_of(scene.place)), "by its name it is"
    seen = choice.look(archive_of(scene.place), scene.paper, now=RIGHT).snapshots
    assert seen[0].name == ahead, "it is the newest indeed, as long as none has been made since"
    with box.catalog.transaction() as tx:
        retention.trust_clock(tx, Act(by="marie", now=RIGHT, audit_key=box.audit_key))
    take_in(box, Instance(0, study=30, pixel_bytes=2_000), RIGHT)
    run_all_jobs(box, RIGHT)
    (made,) = backups_of(scene.place) - scene.backups - {ahead}

    assert drill.drill(box, scene.place, RIGHT, actor="tests").snapshot == made
    seen = choice.look(archive_of(scene.place), scene.paper, now=RIGHT).snapshots
    assert [each.name for each in seen][:2] == [made, ahead]
    restored = restoring.restore(
        config_in(scene.folder / "after"),
        archive_of(scene.place),
        scene.place,
        scene.paper,
        tell=lambda *_: None,
        actor="tests",
        now=RIGHT,
    )
    assert restored.snapshot is not None and restored.snapshot.name == made
    blank = NOW - YEARS  # a blank box whose battery is dead
    assert choice.look(archive_of(scene.place), scene.paper, now=blank).snapshots[0].name == made


# --- a bucket that locks what it gets --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def bucket(the_cloud: Cloud) -> str:
    """Set as `destination policy` prints it: each version is locked as it comes."""
    return protected_bucket(the_cloud)


@pytest.fixture
def locked(tmp_path: Path, the_cloud: Cloud, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A box whose images and whose backup were in that bucket while its clock was right."""
    monkeypatch.setattr("appliance.health.kernel_clock.discipline", lambda: Discipline.FREE)
    with clinic_in(tmp_path / "box", settings(the_cloud.url, bucket)) as clinic:
        clinic.receive(*KEPT)
        clinic.deliver()
        clinic.back_up()
        with clinic.box.catalog.transaction() as tx:
            retention.watch_clock(tx, NOW, follows_time_server=False)
    box = open_box(replace(config_in(tmp_path / "box"), courier=CourierConfig(workers_per_destination=0)))
    yield box
    box.close()


def locks_of(the_cloud: Cloud, bucket: str) -> dict[tuple[str, str], timedelta]:
    """For how long from now each version in a bucket is locked."""
    client, found = the_cloud.client(), {}
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        assert not page.get("DeleteMarkers"), "something is marked as removed"
        for each in page["Versions"]:
            told = client.head_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
            found[each["Key"], each["VersionId"]] = told["ObjectLockRetainUntilDate"] - datetime.now(UTC)
    return found


@pytest.mark.parametrize("row", ["ten years behind", "ten years ahead, for days"])
def test_a_bucket_locks_by_its_own_clock_whatever_the_box_believes(
    locked: Box, the_cloud: Cloud, bucket: str, row: str
) -> None:
    before = locks_of(the_cloud, bucket)
    for number, at in enumerate(ROWS[row]):
        run_all_jobs(locked, at)
        take_in(locked, Instance(number, study=20 + number, pixel_bytes=2_000), at)
        deliver(locked, at)
    run_all_jobs(locked, RIGHT)
    deliver(locked, RIGHT)
    after = locks_of(the_cloud, bucket)
    assert before.keys() < after.keys(), "what was written over is still there, and more has come"
    assert all(KEPT_DAYS - 1 <= left / DAY <= KEPT_DAYS for left in after.values()), after
    assert contents(locked).keys() > as_sent(*KEPT).keys()


def test_a_clock_in_doubt_reckons_no_day_on_which_a_bucket_has_nothing_left(locked: Box) -> None:
    """The certificate tells it, so what is to be made unreadable there waits, and says for what."""
    approve(locked, study_of(locked, KEPT[0]).id)
    purging.carry_out(locked, LATER)
    deliver(locked, LATER)
    wrong = LATER - YEARS
    with locked.catalog.transaction() as tx:
        retention.watch_clock(tx, wrong, follows_time_server=False)
    purging.carry_out(locked, wrong)
    with locked.catalog.reading() as conn:
        (paper,) = tombstones.certificates(conn)
        (place,) = tombstones.places(conn, paper.id)
    assert (place.state, paper.completed_utc) == (PlaceState.LAID, None)
    assert "clock of the box is in doubt" in place.reason

    right = LATER + timedelta(hours=1)
    with locked.catalog.transaction() as tx:
        retention.trust_clock(tx, Act(by="marie", now=right, audit_key=locked.audit_key))
    purging.carry_out(locked, right)
    with locked.catalog.reading() as conn:
        (paper,) = tombstones.certificates(conn)
        (told,) = certificate.document(conn, paper, right)["archives"]
    assert told["state"] == PlaceState.DONE
    assert told["versions_until_utc"][:10] == f"{right + timedelta(days=KEPT_DAYS):%Y-%m-%d}"
