"""The copies in a bucket of what is still here: one that was removed or written over there is found by the bucket's list, and mended from here.

The gateway's tests (tests/replication/test_gateway.py) ask the same of a server that is not moto.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit, duties, health, jobs
from appliance.catalog import deliveries, destinations, freezes, receipts
from appliance.catalog import settings as kept
from appliance.errors import OutOfResources
from appliance.health.gathering import BUCKET_LISTS
from appliance.lifecycle import census, freezing, listing, retention, scrub
from appliance.lifecycle.acting import Act
from appliance.lifecycle.listing import Around, Looked
from appliance.model import ObjectId
from tests.backup.conftest import IMAGES, as_sent, clinic_in
from tests.boxes import recorded
from tests.lifecycle.evicting import evict_all, grow_old, here, reached
from tests.lifecycle.test_eviction_cloud import CLOUD, Remote, the_cloud  # noqa: F401 - a fixture
from tests.replication.cloud import Cloud, Fault, line, settings

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC)
ALL = len(IMAGES)


@pytest.fixture(params=["unversioned", "versioned"])
def stored(tmp_path: Path, the_cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[Remote]:  # noqa: F811
    """A clinic whose images are all here, and in a bucket too."""
    bucket = the_cloud.new_bucket(versioned=request.param == "versioned")
    with (
        line(the_cloud.port) as the_line,
        clinic_in(tmp_path / "before", settings(the_line.url, bucket)) as clinic,
    ):
        clinic.receive(*IMAGES)
        clinic.deliver()
        the_line.requests.clear()
        yield Remote(clinic, the_line, the_cloud, bucket)


plain = pytest.mark.parametrize("stored", ["unversioned"], indirect=True)


def look(away: Remote, now: datetime = NOW, around: Around = listing.UNCUT) -> Looked:
    (looked,) = listing.look_through(away.clinic.box, now, around).values()
    return looked


def a_pass(away: Remote, now: datetime = NOW, slices: int = 1, around: Around = listing.UNCUT) -> Looked:
    """The rest between two passes is over; then slices, until there is no more to be listed."""
    box = away.clinic.box
    with box.catalog.transaction() as tx:
        rested = {number: asdict(replace(each, rest=0)) for number, each in listing.standing(tx).items()}
        kept.put(tx, listing.STANDING, rested, now)
    for _ in range(slices):
        if (looked := look(away, now, around)).rest:
            return looked
    raise AssertionError("the pass does not end")


def ask(away: Remote, method: str = "HEAD") -> int:
    return away.line.count(method, "/objects/")


def lists(away: Remote) -> int:
    return sum("list-type=2" in each.query for each in away.line.requests)


def harm(away: Remote, how: str, number: int = 2) -> bytes:
    """What somebody does there; what was there."""
    client, key = away.cloud.client(), away.key(number)
    whole = away.cloud.get(away.bucket, key)
    if how == "removed":
        client.delete_object(Bucket=away.bucket, Key=key)
    elif how == "a bit":
        away.damage(number)
    else:
        client.put_object(Bucket=away.bucket, Key=key, Body=whole[:-1])
    return whole


def mended(away: Remote) -> list[str]:
    with away.clinic.box.catalog.reading() as conn:
        return [
            str(row["subject"]).removeprefix("instance:")
            for row in audit.export(conn)
            if row["action"] == "instance:mend"
        ]


def codes(away: Remote, at: datetime = NOW) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in health.status(away.clinic.box, at).problems:
        found.setdefault(each.code, []).append(f"{each.subject}: {each.words}")
    return found


def object_id(away: Remote, number: int) -> ObjectId:
    return recorded(away.clinic.box)[number].object_id


def freeze(away: Remote) -> None:
    with away.clinic.box.catalog.transaction() as tx:
        freezing.freeze(tx, Act("marie", NOW, away.clinic.box.audit_key), reason="a strange message")


def release(away: Remote, now: datetime = NOW) -> None:
    with away.clinic.box.catalog.transaction() as tx:
        freezing.release(tx, Act("marie", now, away.clinic.box.audit_key), reason="a false alarm")


def count(away: Remote, now: datetime) -> freezes.Freeze | None:
    return census.take(away.clinic.box, now, dice=random.Random(8))


def test_a_bucket_that_has_everything_is_asked_for_its_list_and_nothing_else(stored: Remote) -> None:
    found = look(stored)
    assert (found.rest, found.never, found.waiting) == (listing.REST_SLICES, False, ())
    assert [each.method for each in stored.line.requests] == ["GET"]
    assert lists(stored) == 1
    assert mended(stored) == []
    assert listing.STANDING == BUCKET_LISTS
    assert not {"bucket-altered", "bucket-unlisted", "damaged"} & codes(stored).keys()


@pytest.mark.parametrize("how", ["removed", "a bit", "cut"])
def test_a_copy_that_was_removed_or_written_over_is_mended_while_the_image_is_here(
    stored: Remote, how: str
) -> None:
    box = stored.clinic.box
    whole = harm(stored, how)
    found = a_pass(stored)
    assert found.waiting == ()
    assert stored.cloud.get(stored.bucket, stored.key(2)) == whole, "it is there again"
    assert mended(stored) == [object_id(stored, 2)]
    (told,) = codes(stored)["bucket-altered"]
    assert told.startswith("cloud: ") and "this box: 1 " in told
    stored.line.requests.clear()
    a_pass(stored)
    assert (ask(stored), lists(stored)) == (0, 1), "its receipt is the one of what is there now"
    assert mended(stored) == [object_id(stored, 2)]
    with box.catalog.reading() as conn:
        (receipt,) = receipts.of_object(conn, object_id(stored, 2)).values()
    grow_old(box)
    assert evict_all(box, CLOUD).images == ALL, "which lets it leave this disk"
    assert receipt["etag"]
    assert reached(box) == as_sent(*IMAGES)


@plain
def test_between_two_passes_a_bucket_is_left_alone_for_a_day_of_slices(stored: Remote) -> None:
    assert [look(stored).rest for _ in range(listing.REST_SLICES + 2)] == [
        *range(listing.REST_SLICES, -1, -1),
        listing.REST_SLICES,
    ]
    assert lists(stored) == 2


def test_a_duty_of_its_own_looks_through_the_buckets_until_the_process_stops(stored: Remote) -> None:
    whole = harm(stored, "removed", 5)
    _duty(stored).act(stored.clinic.box, NOW)
    assert stored.cloud.get(stored.bucket, stored.key(5)) == whole
    stopped = _duty(stored)
    stopped.interrupt()
    stored.line.requests.clear()
    stopped.act(stored.clinic.box, NOW)
    assert lists(stored) == 0


def _duty(stored: Remote) -> duties.Job:
    (found,) = (each for each in duties.duties(stored.clinic.box) if each.name == "listing")
    return found


@plain
def test_what_keeps_everything_from_being_read_again_keeps_no_bucket_from_being_looked_through(
    stored: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fails by itself, and is told by its own name."""

    def cannot(*_: object, **__: object) -> None:
        raise OutOfResources("there is no room for it", hint="free some")

    monkeypatch.setattr(scrub, "scrub", cannot)
    upkeep = jobs.Upkeep(stored.clinic.box, wall=lambda: NOW)
    both = [each for each in upkeep.jobs if each.name in ("scrub", "listing")]
    assert len({each.lane for each in both}) == 2, "neither waits for the other"
    for each in both:
        upkeep._do(each)
    assert upkeep.failing == {"scrub"}
    assert lists(stored) == 1


@plain
def test_a_pass_goes_on_where_it_was(stored: Remote) -> None:
    """Three keys a slice: what was changed behind it is met by the next pass, and no slice asks for more than its piece."""
    around = Around(at_once=3)
    first = look(stored, around=around)
    assert (first.keys, first.rest, lists(stored)) == (3, 0, 1)
    order = sorted(range(ALL), key=lambda number: object_id(stored, number))
    harm(stored, "removed", order[1])
    harm(stored, "a bit", order[4])
    second = look(stored, around=around)
    assert (second.keys, second.mended) == (6, 1)
    assert mended(stored) == [object_id(stored, order[4])]
    found = a_pass(stored, slices=4, around=around)
    assert (found.never, lists(stored)) == (False, 4)
    a_pass(stored, slices=4, around=around)
    assert set(mended(stored)) == {object_id(stored, order[1]), object_id(stored, order[4])}
    assert len(stored.cloud.keys(stored.bucket, "objects/")) == ALL


@plain
def test_what_lies_there_without_a_receipt_is_counted_and_not_touched(
    stored: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    client = stored.cloud.client()
    strangers = ["objects/00/0.sealed", "objects/zz/note.txt", f"objects/ff/{'f' * 32}.sealed"]
    for key in strangers:
        client.put_object(Bucket=stored.bucket, Key=key, Body=b"something")
    with caplog.at_level("INFO", "appliance.lifecycle.listing"):
        a_pass(stored, slices=8, around=Around(at_once=2))
    assert f"keys={ALL + 3} mended=0 waiting=0 without-receipt=3" in caplog.text
    assert all(stored.cloud.get(stored.bucket, key) == b"something" for key in strangers)
    assert ask(stored) == 0


@plain
def test_a_bucket_that_lost_everything_gets_it_again_in_as_many_slices_as_that_takes(stored: Remote) -> None:
    for number in range(ALL):
        harm(stored, "removed", number)
    clock = iter(range(10_000))
    around = Around(seconds=9, monotonic=lambda: float(next(clock)))
    first = look(stored, around=around)
    assert 0 < first.mended < ALL, "the line is needed for what is new, too"
    a_pass(stored, slices=10, around=around)
    assert len(stored.cloud.keys(stored.bucket, "objects/")) == ALL
    assert len(mended(stored)) == ALL
    (told,) = codes(stored)["bucket-altered"]
    assert f"this box: {ALL} " in told


@plain
@pytest.mark.parametrize("fault", [None, Fault.UNAVAILABLE, Fault.FORBIDDEN, Fault.PAGE, Fault.NO_BUCKET])
def test_a_bucket_that_is_away_is_no_finding_and_is_said_after_a_month(
    stored: Remote, fault: Fault | None
) -> None:
    a_pass(stored)
    harm(stored, "removed")
    stored.line.down = fault is None
    stored.line.fault = lambda _: fault
    with pytest.raises(AssertionError, match="does not end"):
        a_pass(stored, NOW + timedelta(days=2), slices=3)
    with stored.clinic.box.catalog.reading() as conn:
        (found,) = listing.standing(conn).values()
    assert (found.rest, found.key, found.waiting, found.since_utc) == (0, "", (), NOW.isoformat())
    assert mended(stored) == []
    late = NOW + timedelta(days=33, minutes=1)
    assert "bucket-unlisted" not in codes(stored, late - timedelta(minutes=2))
    (told,) = codes(stored, late)["bucket-unlisted"]
    assert told.startswith("cloud: cloud has not been looked through for 33 days")
    stored.line.down, stored.line.fault = False, lambda _: None
    a_pass(stored, late)
    assert "bucket-unlisted" not in codes(stored, late)
    assert mended(stored) == [object_id(stored, 2)]


@plain
def test_a_line_that_breaks_while_it_is_mended_leaves_it_for_the_next_slices(stored: Remote) -> None:
    whole = harm(stored, "removed")
    stored.line.fault = lambda asked: Fault.HANG_UP if asked.method == "PUT" else None
    first = look(stored)
    assert first.waiting == (object_id(stored, 2),)
    assert mended(stored) == []
    stored.line.fault = lambda _: None
    look(stored)
    assert stored.cloud.get(stored.bucket, stored.key(2)) == whole
    assert look(stored).waiting == ()
    assert mended(stored) == [object_id(stored, 2)]


@plain
def test_a_destination_that_is_paused_is_left_alone_and_one_that_moved_is_begun_anew(
    stored: Remote,
    the_cloud: Cloud,  # noqa: F811
) -> None:
    box = stored.clinic.box
    with box.catalog.transaction() as tx:
        destinations.pause(tx, "cloud")
    look(stored)
    assert lists(stored) == 0
    with box.catalog.transaction() as tx:
        destinations.resume(tx, "cloud")
    a_pass(stored)
    elsewhere = the_cloud.new_bucket()
    with box.catalog.transaction() as tx:
        place = destinations.destination(tx, "cloud")
        assert place is not None
        destinations.change(tx, "cloud", {**place.options, "bucket": elsewhere}, "tests")
    found = look(stored, NOW + timedelta(days=1))
    assert elsewhere in found.place
    assert found.since_utc == (NOW + timedelta(days=1)).isoformat()


def test_what_is_not_here_is_left_to_those_who_ask_for_each(stored: Remote) -> None:
    grow_old(stored.clinic.box)
    evict_all(stored.clinic.box, CLOUD)
    assert here(stored.clinic.box) == 0
    harm(stored, "removed")
    stored.line.requests.clear()
    a_pass(stored)
    assert (ask(stored), ask(stored, "GET"), lists(stored)) == (0, 0, 1)


@plain
def test_what_is_damaged_here_is_never_written_there(stored: Remote) -> None:
    harm(stored, "removed")
    path = stored.clinic.box.objects.path(object_id(stored, 2))
    path.chmod(0o600)
    path.write_bytes(bytes(each ^ 0xA5 for each in path.read_bytes()))
    a_pass(stored)
    assert stored.key(2) not in stored.cloud.keys(stored.bucket)
    assert mended(stored) == []


def test_while_the_guard_holds_what_is_gone_is_written_again_and_what_was_written_over_waits(
    stored: Remote,
) -> None:
    gone, other = harm(stored, "removed", 1), harm(stored, "a bit", 3)
    theirs = stored.cloud.get(stored.bucket, stored.key(3))
    freeze(stored)
    found = a_pass(stored)
    assert stored.cloud.get(stored.bucket, stored.key(1)) == gone
    assert stored.cloud.get(stored.bucket, stored.key(3)) == theirs, "nothing is written over"
    assert (mended(stored), found.waiting) == ([object_id(stored, 1)], (object_id(stored, 3),))
    stored.line.requests.clear()
    assert look(stored).waiting == (object_id(stored, 3),)
    assert stored.line.requests == [], "nor is it asked for every ten minutes"
    release(stored)
    assert look(stored).waiting == ()
    assert stored.cloud.get(stored.bucket, stored.key(3)) == other
    assert mended(stored) == [object_id(stored, 1), object_id(stored, 3)]


@plain
def test_what_somebody_wrote_there_meanwhile_is_not_written_over_while_the_guard_holds(
    stored: Remote,
) -> None:
    harm(stored, "removed")
    freeze(stored)
    heads = iter(range(100))

    def comes_back(asked: object) -> None:
        if getattr(asked, "path", "").endswith(stored.key(2)) and next(heads) == 1:
            stored.cloud.client().put_object(Bucket=stored.bucket, Key=stored.key(2), Body=b"theirs")

    stored.line.answered = comes_back
    assert a_pass(stored).waiting == (object_id(stored, 2),)
    assert stored.cloud.get(stored.bucket, stored.key(2)) == b"theirs"


@plain
def test_when_more_wait_than_are_known_one_by_one_the_list_waits_too(
    stored: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_WAITING", 3)
    wholes = {number: harm(stored, "a bit", number) for number in range(6)}
    freeze(stored)
    assert [(len(each.waiting), each.rest) for each in (look(stored), look(stored))] == [(3, 0), (3, 0)]
    release(stored)
    a_pass(stored, slices=3)
    assert {each: stored.cloud.get(stored.bucket, stored.key(each)) for each in wholes} == wholes


@plain
def test_the_guard_takes_hold_of_a_mass_loss_once_and_not_again_after_a_person_has_released_it(
    stored: Remote,
) -> None:
    """Of a bucket that was emptied, which is looked through in several slices."""
    for number in range(ALL):
        harm(stored, "removed", number)
    around = Around(at_once=4)
    assert look(stored, NOW, around).mended == 4
    begun = count(stored, NOW + timedelta(minutes=1))
    assert begun is not None and begun.why is freezes.Why.REPORTED
    assert begun.evidence["reported"] == 4
    release(stored, NOW + timedelta(minutes=2))
    for minute in (10, 20):
        look(stored, NOW + timedelta(minutes=minute), around)
    assert len(mended(stored)) == ALL
    assert count(stored, NOW + timedelta(minutes=21)) is None, "a person knows of it"
    later = NOW + timedelta(days=2)
    for number in range(5):
        harm(stored, "removed", number)
    a_pass(stored, later)
    assert count(stored, later + timedelta(minutes=1)) is not None, "that is another"


@plain
def test_a_moment_that_is_still_to_come_counts_as_now(stored: Remote) -> None:
    a_pass(stored, NOW + timedelta(days=4000))
    assert look(stored, NOW).since_utc == NOW.isoformat()


@plain
def test_a_clock_that_stands_in_the_past_for_a_slice_makes_nothing_years_old(stored: Remote) -> None:
    with stored.clinic.box.catalog.transaction() as tx:
        retention.watch_clock(tx, NOW, follows_time_server=True)
    a_pass(stored, NOW)
    assert look(stored, NOW - timedelta(days=4000)).since_utc == NOW.isoformat()
    assert "bucket-unlisted" not in codes(stored, NOW + timedelta(minutes=10))


@plain
def test_what_is_not_confirmed_or_is_destroyed_is_not_missed(stored: Remote) -> None:
    box = stored.clinic.box
    harm(stored, "removed", 2)
    with box.catalog.transaction() as tx:
        (place,) = destinations.destinations(tx)
        tx.exec_driver_sql(
            "UPDATE deliveries SET state = 'PENDING', receipt = NULL WHERE instance ="
            " (SELECT id FROM instances WHERE object_id = ?)",
            (object_id(stored, 2),),
        )
        assert deliveries.is_owed(tx, place.id, object_id(stored, 2))
    a_pass(stored)
    assert (ask(stored), mended(stored)) == (0, [])


@pytest.mark.parametrize(
    ("objects", "pieces"), [(0, 1), (1_000, 1), (720_000, 1), (720_001, 2), (10_000_000, 14)]
)
def test_a_pass_takes_five_days_of_slices_at_most_or_a_thousand_objects_in_each(
    objects: int, pieces: int
) -> None:
    assert listing.pieces_of(objects) == pieces
    assert replace(Looked("", ""), keys=objects).rest == 0
