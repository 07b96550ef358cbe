"""What lies in deep archive is waiting, not lost: it is asked for once, said how long it takes, and comes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit, settings
from appliance.backup import drill, homecoming, sampling, standing
from appliance.box import Box
from appliance.catalog import tombstones
from appliance.catalog.tombstones import PlaceState
from appliance.errors import Corrupt, NotAskedFor, OperatorNeeded, Resting
from appliance.lifecycle import census, eviction, freezing, returning, scrub
from appliance.lifecycle.eviction import Evicted
from appliance.replication import recall
from appliance.replication.destinations.s3 import S3Destination
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import IMAGES, as_sent, contents
from tests.backup.test_restoring import archive_of, restore
from tests.boxes import box_in, recorded
from tests.lifecycle.evicting import NOW, at_now, evict_all, here, reached, rows, study_ids
from tests.lifecycle.purge import approve, carry_out, study_of
from tests.lifecycle.test_eviction_cloud import CLOUD, Remote, remote, the_cloud  # noqa: F401 - fixtures
from tests.replication.cloud import Fault, come_up, sink

pytestmark = pytest.mark.slow


def sink_all(remote: Remote, numbers: range = range(11)) -> list[str]:  # noqa: F811
    keys = [remote.key(number) for number in numbers]
    for key in keys:
        sink(remote.cloud, remote.bucket, key)
    return keys


def bring_home(box: Box, passes: int = 3, most: int = 200) -> None:
    """So many runs, each when the next one is due."""
    for number in range(passes):
        homecoming.bringing_home(
            box, NOW + number * homecoming.AGAIN_AFTER, keep_going=lambda: True, most=most
        )


def asked_for(remote: Remote) -> int:  # noqa: F811
    """How many times something was asked to be fetched."""
    return sum(each.method == "POST" and "restore" in each.query for each in remote.line.requests)


def test_an_image_that_lies_deep_is_asked_for_once_and_the_hours_are_said(remote: Remote) -> None:  # noqa: F811
    box = remote.clinic.box
    evict_all(box, CLOUD)
    sink_all(remote)
    row = recorded(box)[0]
    for _ in range(3):
        with pytest.raises(Resting, match="within 12 hours") as told:
            recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes)
        assert told.value.wait_hours == 12
    assert asked_for(remote) == 1
    assert [b"<Tier>Standard</Tier>" in each for each in remote.line.fetched_by] == [True]
    assert rows(box) == 11, "it is away, and not given up"


def test_it_is_fetched_in_bulk_where_the_clinic_chose_that_and_the_longer_wait_is_said(
    remote: Remote,  # noqa: F811
) -> None:
    box = remote.clinic.box
    evict_all(box, CLOUD)
    sink_all(remote)
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, {"tiers.retrieval": "bulk"}, actor="tests", now=NOW)
    row = recorded(box)[0]
    with pytest.raises(Resting, match="within 48 hours") as told:
        recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes)
    assert told.value.wait_hours == 48
    assert [b"<Tier>Bulk</Tier>" in each for each in remote.line.fetched_by] == [True]
    remote.line.fault = lambda asked: Fault.FORBIDDEN if "restore" in asked.query else None
    other = recorded(box)[-1]
    with pytest.raises(NotAskedFor) as refused:
        recall.open_object(box, other.object_id, other.key_id, other.sealed_bytes)
    assert refused.value.wait_hours == 48


def test_the_rest_of_its_study_is_asked_for_too_and_all_of_it_comes_by_itself(remote: Remote) -> None:  # noqa: F811
    box = remote.clinic.box
    evict_all(box, CLOUD)
    keys = sink_all(remote)
    row = recorded(box)[0]
    with pytest.raises(Resting):
        recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes)
    study = row.study_id
    of_study = [number for number, each in enumerate(recorded(box)) if each.study_id == study]
    for _ in range(2):
        assert returning.bring_wanted(box) == 0
    assert asked_for(remote) == len(of_study)
    come_up(remote.bucket, *(keys[number] for number in of_study))
    eviction.settle(box, NOW)
    assert returning.bring_wanted(box) == len(of_study)
    assert here(box) == len(of_study) and rows(box) == 11 - len(of_study)
    assert returning.bring_wanted(box) == 0, "nobody waits for the others"
    for number in of_study:
        image = recorded(box)[number]
        box.open_object(image.object_id, image.key_id).close()


def test_a_person_who_brings_everything_back_gets_what_is_at_hand_and_hears_of_the_rest(
    remote: Remote,  # noqa: F811
) -> None:
    box = remote.clinic.box
    evict_all(box, CLOUD)
    deep = sink_all(remote, range(10, 11))
    with pytest.raises(Resting):
        returning.bring_back(box, NOW)
    assert here(box) == 10
    come_up(remote.bucket, *deep)
    eviction.settle(box, NOW)
    assert returning.bring_wanted(box) == 1
    assert reached(box) == as_sent(*IMAGES)


def test_nothing_leaves_for_what_can_not_be_read_back_and_nothing_is_fetched_for_it(remote: Remote) -> None:  # noqa: F811
    sink_all(remote)
    assert evict_all(remote.clinic.box, CLOUD) == Evicted(kept=4)
    assert here(remote.clinic.box) == 11
    assert asked_for(remote) == 0


def test_what_is_at_hand_is_opened_at_once_whatever_else_lies_deep(remote: Remote) -> None:  # noqa: F811
    box = remote.clinic.box
    evict_all(box, CLOUD)
    sink_all(remote, range(1))
    row = recorded(box)[1]
    recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes).close()
    assert asked_for(remote) == 0


def test_a_study_that_is_needed_tomorrow_is_brought_today(remote: Remote) -> None:  # noqa: F811
    box = remote.clinic.box
    evict_all(box, CLOUD)
    study = study_ids(box)[1]
    with box.catalog.transaction() as tx:
        returning.want(tx, study, NOW)
    came = returning.bring_wanted(box)
    assert came == sum(each.study_id == study for each in recorded(box))
    assert here(box) == came
    assert eviction.evict_study(box, study, CLOUD, at_now) == Evicted(kept=1), "nobody has looked at it yet"
    with box.catalog.reading() as conn:
        told = [each for each in audit.export(conn) if each["action"] == "study:recall"]
    assert [(each["subject"], each["actor"]) for each in told] == [(f"study:{study}", "jobs")]


def test_a_blank_box_asks_for_what_lies_deep_and_goes_on_with_the_rest(
    remote: Remote,  # noqa: F811
    tmp_path: Path,
) -> None:
    deep = sink_all(remote, range(2, 5))
    remote.clinic.back_up()
    restore(tmp_path / "after", remote.clinic.place, remote.clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box, 12, most=4)
        assert here(box) == 8
        with box.catalog.reading() as conn:
            assert homecoming.under_way(conn) is not None
            assert homecoming.missing(conn) == 0
        assert asked_for(remote) == 3
        for number in range(3):  # whatever pass they are in: what is passed over is not missed
            homecoming.bringing_home(box, NOW + timedelta(days=number), keep_going=lambda: True, most=6)
            census.take(box, NOW)
            with box.catalog.reading() as conn:
                assert freezing.standing(conn).counts[-1].missing == 0
                assert not any(
                    homecoming.is_expected(conn, row.object_id)
                    for row in recorded(box)
                    if not recall.is_here(box, row.object_id)
                )
        come_up(remote.bucket, *deep)
        bring_home(box, 12, most=4)
        with box.catalog.reading() as conn:
            assert homecoming.under_way(conn) is None
        assert contents(box) == as_sent(*IMAGES)


def asking_ends(remote: Remote, fault: Fault | None) -> None:  # noqa: F811
    """From now on whoever asks for something to be fetched gets that answer."""
    remote.line.fault = lambda asked: fault if asked.method == "POST" and "restore" in asked.query else None


def test_a_blank_box_looks_for_what_lies_deep_twice_an_hour_and_not_with_every_run(
    remote: Remote,  # noqa: F811
    tmp_path: Path,
) -> None:
    sink_all(remote, range(2, 5))
    remote.clinic.back_up()
    restore(tmp_path / "after", remote.clinic.place, remote.clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box, 1)
        asked = len(remote.line.requests)
        for seconds in (0, 30, 60, 29 * 60):
            soon = NOW + timedelta(seconds=seconds)
            homecoming.bringing_home(box, soon, keep_going=lambda: True)
        assert len(remote.line.requests) == asked
        homecoming.bringing_home(box, NOW - timedelta(days=9000), keep_going=lambda: True)
        assert len(remote.line.requests) > asked, "a clock that was set back keeps nobody waiting"


def test_a_key_that_may_not_ask_holds_nothing_else_up_and_the_permission_is_named(remote: Remote) -> None:  # noqa: F811
    box = remote.clinic.box
    evict_all(box, CLOUD)
    deep = sink_all(remote, range(1))
    row = recorded(box)[0]
    asking_ends(remote, Fault.FORBIDDEN)
    with pytest.raises(NotAskedFor) as told:
        returning.bring_back(box, NOW)
    assert here(box) == 10, "the others came"
    assert "s3:RestoreObject" in told.value.hint
    assert told.value.wait_hours == 12
    for code in ("fr", "es", "zh"):
        words = Languages(web_ui() / "languages").words(code)
        assert words.cause(told.value.message) != told.value.message
        assert "s3:RestoreObject" in words.cause(told.value.hint) != told.value.hint
    asking_ends(remote, None)
    assert returning.bring_wanted(box) == 0, "it is asked for as soon as that is allowed"
    come_up(remote.bucket, *deep)
    eviction.settle(box, NOW)
    assert returning.bring_wanted(box) == 1
    box.open_object(row.object_id, row.key_id).close()


def test_what_somebody_has_asked_for_meanwhile_counts_as_asked_for(remote: Remote) -> None:  # noqa: F811
    box = remote.clinic.box
    evict_all(box, CLOUD)
    sink_all(remote, range(1))
    row = recorded(box)[0]
    asking_ends(remote, Fault.ASKED_ALREADY)
    with pytest.raises(Resting, match="has been asked for: it is here within 12 hours"):
        recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes)


@pytest.mark.parametrize(
    "fault", [Fault.FORBIDDEN, Fault.BROKEN, Fault.HANG_UP], ids=lambda fault: fault.name
)
def test_a_blank_box_whose_key_may_not_ask_brings_home_all_that_is_at_hand(
    remote: Remote,  # noqa: F811
    tmp_path: Path,
    fault: Fault,
) -> None:
    deep = sink_all(remote, range(2, 5))
    remote.clinic.back_up()
    asking_ends(remote, fault)
    restore(tmp_path / "after", remote.clinic.place, remote.clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box, 3)
        assert here(box) == 8
        with box.catalog.reading() as conn:
            assert homecoming.under_way(conn) is not None
            assert homecoming.missing(conn) == 0
        asking_ends(remote, None)
        bring_home(box, 1)
        come_up(remote.bucket, *deep)
        bring_home(box, 3)
        with box.catalog.reading() as conn:
            assert homecoming.under_way(conn) is None
        assert contents(box) == as_sent(*IMAGES)


def test_an_image_that_is_lost_is_counted_once_however_many_passes_are_made(
    remote: Remote,  # noqa: F811
    tmp_path: Path,
) -> None:
    remote.clinic.back_up()
    deep = sink_all(remote, range(2, 3))
    for number in (0, 7):
        remote.cloud.client().delete_object(Bucket=remote.bucket, Key=remote.key(number))
        remote.forget_earlier_versions(number)
    restore(tmp_path / "after", remote.clinic.place, remote.clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box, 6)
        come_up(remote.bucket, *deep)
        bring_home(box, 3)
        with box.catalog.reading() as conn:
            assert (homecoming.under_way(conn), homecoming.missing(conn)) == (None, 2)


def test_what_was_written_over_is_not_awaited_because_its_earlier_version_cannot_be_had(
    remote: Remote,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To fetch that is for whoever owns the bucket; until then it is said to be lost, and not to be here within hours."""

    def blocks_of(*_: object) -> Iterator[bytes]:
        raise OperatorNeeded("it may not be read", hint="look")

    box = remote.clinic.box
    evict_all(box, CLOUD)
    monkeypatch.setattr(S3Destination, "blocks_of", blocks_of)
    remote.damage(2)
    row = recorded(box)[2]
    with pytest.raises(Corrupt, match=recall.NOT_WHOLE):
        recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes)
    assert asked_for(remote) == 0
    with box.catalog.reading() as conn:
        assert [each["action"] for each in audit.export(conn)].count("instance:corrupt") == 1


def test_a_drill_counts_as_opened_what_it_has_opened_and_passes_only_if_it_opened_something(
    remote: Remote,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "SIZE", 200)  # so many are drawn that no image is missed by chance
    box, now = remote.clinic.box, datetime.now(UTC)
    remote.clinic.back_up()
    sizes = [each.sealed_bytes for each in recorded(box)]
    sink_all(remote, range(7))
    some = drill.drill(box, remote.clinic.place, now, actor="tests")
    assert (some.passed, some.sampled, some.sampled_bytes, some.resting) == (True, 4, sum(sizes[7:]), 7)
    assert "7 more lie in deep archive, and were not tried." in str(some)
    sink_all(remote, range(7, 11))
    none = drill.drill(box, remote.clinic.place, now, actor="tests")
    assert (none.passed, none.sampled, none.sampled_bytes, none.resting) == (False, 0, 0, 11)
    assert none.findings == ("every image of the sample lies in deep archive, and none was opened",)
    with box.catalog.reading() as reading:
        assert drill.certificates(reading, remote.clinic.box) == [none, some]
        assert drill.last(reading, remote.clinic.box, remote.clinic.place.name)["outcome"] == "failed"


def test_a_destruction_comes_to_an_end_where_every_image_lies_deep(remote: Remote) -> None:  # noqa: F811
    """No drill of any backup can open one."""
    clinic = remote.clinic
    old = clinic.back_up()
    approve(clinic.box, study_of(clinic.box, IMAGES[-1]).id)
    sink_all(remote)
    carry_out(clinic)
    with clinic.box.catalog.reading() as conn:
        (certificate,) = tombstones.certificates(conn)
        (place,) = tombstones.places(conn, certificate.id)
    assert (place.state, place.detail["older"]) == (PlaceState.DONE, 1)
    assert old.name not in standing.look(archive_of(clinic.place)).names
    assert asked_for(remote) == 0


def test_a_drill_and_the_scrub_take_what_lies_deep_for_waiting_and_fetch_nothing(
    remote: Remote,  # noqa: F811
) -> None:
    box = remote.clinic.box
    remote.clinic.back_up()
    sink_all(remote)
    drill.drill(box, remote.clinic.place, datetime.now(UTC), actor="tests")
    assert asked_for(remote) == 0
    damaged = box.objects.path(recorded(box)[4].object_id)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = scrub.scrub(box, NOW)
    assert (found.repaired, found.lost) == (0, ())
    assert asked_for(remote) == 1, "the damaged one is asked for, to be mended"
