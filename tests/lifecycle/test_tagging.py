"""The buckets are told how far away each study may lie: by its use, again after a break, and never while something is doubted."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit
from appliance import settings as chosen
from appliance.box import Box
from appliance.catalog import evictions, holds, stored, tier_tags
from appliance.catalog.holds import HoldKind
from appliance.lifecycle import eviction, retention, tagging, tier_rules
from appliance.lifecycle.storage_class import Tier
from appliance.replication.destinations import bucket_policy
from appliance.replication.destinations.archive import object_key
from tests.backup.conftest import IMAGES, Clinic, clinic_in
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in, recorded
from tests.lifecycle.evicting import NOW, grow_old, study_ids
from tests.lifecycle.test_eviction_cloud import Remote, the_cloud  # noqa: F401 - a fixture
from tests.replication.cloud import Cloud, Fault, line, settings

pytestmark = pytest.mark.slow

YEARS = {"tiers.warm_days": 60, "tiers.cold_days": 365, "tiers.deep_days": 1095, "tiers.newest_studies": 0}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, the_cloud: Cloud) -> Iterator[Remote]:  # noqa: F811
    bucket = the_cloud.new_bucket(versioned=True)
    with (
        line(the_cloud.port) as the_line,
        clinic_in(tmp_path_factory.mktemp("clinic") / "box", settings(the_line.url, bucket)) as clinic,
    ):
        clinic.receive(*IMAGES)
        clinic.deliver()
        yield Remote(clinic, the_line, the_cloud, bucket)


@pytest.fixture
def remote(once: Remote) -> Remote:
    """Four studies in a bucket that nobody has opened for four years, of which nothing was said, and ages that were chosen."""
    box, client = once.clinic.box, once.cloud.client()
    once.line.fault = lambda _: None
    once.line.requests.clear()
    grow_old(box)
    choose(box, **YEARS)
    for number in range(11):
        client.delete_object_tagging(Bucket=once.bucket, Key=once.key(number))
    for study in study_ids(box):
        open_study(once.clinic, study, NOW - timedelta(days=1500))
    with box.catalog.transaction() as tx:
        tx.exec_driver_sql("DELETE FROM tier_tags")
        tx.exec_driver_sql("DELETE FROM settings WHERE key IN ('tier_tags', 'tier_rules')")
    return once


def choose(box: Box, **values: object) -> None:
    with box.catalog.transaction() as tx:
        chosen.change(tx, box.audit_key, values, actor="marie", now=NOW)


def run(remote: Remote, now: datetime = NOW) -> tagging.Run:
    return tagging.run(remote.clinic.box, lambda: now)


def tags(remote: Remote) -> list[str]:
    """The tag of every image in the bucket, in the order in which they were received; empty for none."""
    client = remote.cloud.client()
    return [
        next((each["Value"] for each in told if each["Key"] == bucket_policy.TAG), "")
        for number in range(11)
        for told in [client.get_object_tagging(Bucket=remote.bucket, Key=remote.key(number))["TagSet"]]
    ]


def of_study(remote: Remote, study: int) -> set[str]:
    return {
        tag
        for row, tag in zip(recorded(remote.clinic.box), tags(remote), strict=True)
        if row.study_id == study
    }


def questions(remote: Remote) -> int:
    """How often the bucket was told a tag."""
    return sum(each.method == "PUT" and "tagging" in each.query for each in remote.line.requests)


def said(box: Box) -> list[dict[str, object]]:
    """The details of what the audit has of it."""
    with box.catalog.reading() as conn:
        return [
            json.loads(str(each["details"])) for each in audit.export(conn) if each["action"] == "study:tier"
        ]


def open_study(clinic: Clinic, study: int, at: datetime) -> None:
    """Somebody looks at a study."""
    box = clinic.box
    uid = next(row.study_instance_uid for row in recorded(box) if row.study_id == study)
    entry = audit.Entry("study:view", f"study:{study}", "marie", {}, study=uid)
    with box.catalog.transaction() as tx:
        audit.append(tx, box.audit_key, [entry], at)


def test_what_nobody_opened_for_long_is_said_of_every_image_once_with_a_row_for_each_study(
    remote: Remote,
) -> None:
    versions = remote.cloud.client().list_object_versions(Bucket=remote.bucket, Prefix="objects/")["Versions"]
    assert set(tags(remote)) == {""}
    before = len(said(remote.clinic.box))
    done = run(remote)
    assert (done.studies, done.objects, done.after, done.troubles) == (4, 11, 0, {})
    assert set(tags(remote)) == {"deep"}
    again = run(remote)
    assert (again.studies, again.objects) == (0, 0)
    rows = said(remote.clinic.box)[before:]
    assert len(rows) == 4
    assert sum(int(str(each["instances"])) for each in rows) == 11
    assert {(each["destination"], each["tier"]) for each in rows} == {("cloud", "deep")}
    after = remote.cloud.client().list_object_versions(Bucket=remote.bucket, Prefix="objects/")["Versions"]
    assert [each["VersionId"] for each in after] == [each["VersionId"] for each in versions], (
        "no version is made, none is touched"
    )


def test_what_was_opened_stays_near_and_what_is_opened_later_goes_no_further(remote: Remote) -> None:
    box, (one, other, third, fourth) = remote.clinic.box, study_ids(remote.clinic.box)
    for study, days in ((one, 10), (other, 100), (third, 500)):
        open_study(remote.clinic, study, NOW - timedelta(days=days))
    run(remote)
    # Nothing is said of what stays where it was put.
    assert [of_study(remote, each) for each in (one, other, third, fourth)] == [
        {""},
        {"warm"},
        {"cold"},
        {"deep"},
    ]
    open_study(remote.clinic, third, NOW)
    run(remote, NOW + timedelta(hours=1))
    assert of_study(remote, third) == {"hot"}
    with box.catalog.reading() as conn:
        told = tier_tags.tagged(conn, remote.clinic.place.id, [third])[third]
    assert (told.tier, told.deepest) == (Tier.HOT, Tier.COLD), "no bucket moves anything up again"


def test_what_is_held_or_wanted_stays_hot_and_comes_to_rest_when_that_is_over(remote: Remote) -> None:
    box, (one, other, *_) = remote.clinic.box, study_ids(remote.clinic.box)
    with box.catalog.transaction() as tx:
        hold = holds.add(
            tx, kind=HoldKind.LEGAL, study=one, whole_patient=False, reason="a complaint", by="marie", now=NOW
        )
    run(remote)
    assert of_study(remote, one) == {""}
    assert of_study(remote, other) == {"deep"}
    with box.catalog.transaction() as tx:
        holds.release(tx, hold.id, by="marie", now=NOW, reason="settled")
    run(remote)
    assert of_study(remote, one) == {"deep"}


def test_what_is_held_after_it_was_tagged_comes_first_wherever_the_last_run_ended(remote: Remote) -> None:
    box, (one, other, *_) = remote.clinic.box, study_ids(remote.clinic.box)
    run(remote)
    with box.catalog.transaction() as tx:
        hold = holds.add(
            tx, kind=HoldKind.LEGAL, study=one, whole_patient=False, reason="a complaint", by="marie", now=NOW
        )
    tagging.run(box, lambda: NOW, after=max(study_ids(box)))
    with box.catalog.transaction() as tx:
        holds.release(tx, hold.id, by="marie", now=NOW, reason="settled")
    assert (of_study(remote, one), of_study(remote, other)) == ({"hot"}, {"deep"})


def test_a_clock_that_is_set_in_the_middle_of_a_run_makes_nothing_old(remote: Remote) -> None:
    for study in study_ids(remote.clinic.box):
        open_study(remote.clinic, study, NOW)
    asked = iter([NOW, NOW])
    done = tagging.run(remote.clinic.box, lambda: next(asked, NOW + timedelta(days=4000)))
    assert "clock" in done.obstacle
    assert set(tags(remote)) == {""}


def test_a_run_sees_that_the_bucket_has_no_rules_and_the_next_one_that_it_has_them(remote: Remote) -> None:
    box, place, client = remote.clinic.box, remote.clinic.place, remote.cloud.client()
    client.delete_bucket_lifecycle(Bucket=remote.bucket)
    run(remote)
    with box.catalog.reading() as conn:
        missing = tier_rules.missing(conn, place)
    assert missing is not None
    assert missing.tiers == (Tier.WARM, Tier.COLD, Tier.DEEP)
    client.put_bucket_lifecycle_configuration(
        Bucket=remote.bucket, LifecycleConfiguration={"Rules": json.loads(missing.rules)}
    )
    assert run(remote).objects == 0
    with box.catalog.reading() as conn:
        assert tier_rules.missing(conn, place) is None
    remote.line.requests.clear()
    run(remote)
    assert not remote.line.requests, "a bucket that has them is left in peace"


def test_one_process_alone_tells_the_buckets(remote: Remote) -> None:
    with eviction.alone(remote.clinic.box, "tagging.lock"), pytest.raises(eviction.Taken):
        run(remote)
    assert set(tags(remote)) == {""}


def test_a_line_that_breaks_leaves_what_is_half_said_for_the_next_run_and_the_page_knows_why(
    remote: Remote,
) -> None:
    box, left = remote.clinic.box, iter([None] * 4)
    before = len(said(box))
    remote.line.fault = lambda asked: (
        next(left, Fault.HANG_UP) if asked.method == "PUT" and "tagging" in asked.query else None
    )
    done = run(remote)
    assert set(done.troubles) == {"cloud"}
    assert Counter(tags(remote)) == {"deep": 4, "": 7}
    with box.catalog.reading() as conn:
        assert "does not answer" in tagging.troubles(conn)["cloud"].message
    rows = len(said(box))
    remote.line.fault = lambda _: None
    run(remote)
    assert set(tags(remote)) == {"deep"}
    assert rows < len(said(box)) == before + 4, "a study is told of when all of it was said"
    with box.catalog.reading() as conn:
        assert tagging.troubles(conn) == {}


def test_a_key_that_may_not_tag_is_told_the_permission_and_nothing_is_taken_for_done(remote: Remote) -> None:
    remote.line.fault = lambda asked: Fault.FORBIDDEN if "tagging" in asked.query else None
    done = run(remote)
    assert "s3:PutObjectTagging" in done.troubles["cloud"].hint
    assert remote.line.count("PUT", "/objects/") == 1, "one question is enough"
    remote.line.fault = lambda _: None
    assert run(remote).studies == 4


def test_an_image_that_was_delivered_once_more_is_told_of_again(remote: Remote) -> None:
    run(remote)
    row = recorded(remote.clinic.box)[0]
    client = remote.cloud.client()
    body = remote.cloud.get(remote.bucket, object_key(row.object_id))
    client.put_object(Bucket=remote.bucket, Key=object_key(row.object_id), Body=body)
    with remote.clinic.box.catalog.transaction() as tx:
        tx.exec_driver_sql(
            "UPDATE deliveries SET changed_utc = ? WHERE instance = ?",
            ((NOW + timedelta(minutes=5)).isoformat(timespec="microseconds"), row.id),
        )
    assert "" in tags(remote)
    assert run(remote, NOW + timedelta(hours=1)).studies == 1
    assert set(tags(remote)) == {"deep"}


def test_an_object_that_is_not_there_holds_up_none_of_the_others(remote: Remote) -> None:
    client = remote.cloud.client()
    marker = client.delete_object(Bucket=remote.bucket, Key=remote.key(0))["VersionId"]
    done = run(remote)
    client.delete_object(Bucket=remote.bucket, Key=remote.key(0), VersionId=marker)
    assert (done.studies, done.troubles) == (4, {})
    assert Counter(tags(remote)) == {"deep": 10, "": 1}


def test_a_clinic_that_chooses_otherwise_takes_back_what_was_said(remote: Remote) -> None:
    run(remote)
    choose(remote.clinic.box, **{"tiers.warm_days": 0, "tiers.cold_days": 0, "tiers.deep_days": 0})
    run(remote)
    assert set(tags(remote)) == {"hot"}
    asked = remote.line.count("PUT")
    run(remote)
    assert remote.line.count("PUT") == asked


def test_another_bucket_was_told_nothing(remote: Remote) -> None:
    run(remote)
    with remote.clinic.box.catalog.transaction() as tx:
        assert tier_tags.is_anything_low(tx)
        tier_tags.forget(tx, remote.clinic.place.id)
        assert not tier_tags.is_anything_low(tx)
        assert evictions.last_used(tx, "1.2.3") is None
    assert run(remote).studies == 4


def test_a_long_run_ends_in_the_middle_of_a_study_and_the_next_one_goes_on_where_it_was(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "MOST_OBJECTS", 1)
    before, after, runs = len(said(remote.clinic.box)), 0, 0
    while True:
        done = tagging.run(remote.clinic.box, lambda: NOW, after)
        after, runs = done.after, runs + 1
        if not done.has_more:
            break
    assert runs == 12, "one image a run, and one that finds nothing more"
    assert set(tags(remote)) == {"deep"}
    assert questions(remote) == 11, "nothing is said twice"
    rows = said(remote.clinic.box)[before:]
    assert sorted(int(str(each["instances"])) for each in rows) == [1, 2, 4, 4], (
        "a row tells of a whole study"
    )


def test_a_bucket_that_is_slow_holds_a_run_no_longer_than_one_request_beyond_its_time(remote: Remote) -> None:
    """The clock is given: half a minute goes by with every request."""

    def around() -> tagging.Around:
        asked = questions(remote)
        return tagging.Around(monotonic=lambda: 30.0 * (questions(remote) - asked))

    first = tagging.run(remote.clinic.box, lambda: NOW, around=around())
    assert (first.objects, first.has_more) == (tagging.MOST_SECONDS / 30, True)
    second = tagging.run(remote.clinic.box, lambda: NOW, first.after, around())
    third = tagging.run(remote.clinic.box, lambda: NOW, second.after, around())
    assert (second.objects, third.objects, third.has_more) == (4, 3, False)
    assert set(tags(remote)) == {"deep"} and questions(remote) == 11


def test_an_image_delivered_once_more_while_its_study_is_half_said_is_told_of_again(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "MOST_OBJECTS", 2)
    first = run(remote)
    monkeypatch.undo()
    number = tags(remote).index("deep")
    row = recorded(remote.clinic.box)[number]
    remote.cloud.client().delete_object_tagging(Bucket=remote.bucket, Key=remote.key(number))
    with remote.clinic.box.catalog.transaction() as tx:
        tx.exec_driver_sql(
            "UPDATE deliveries SET changed_utc = ? WHERE instance = ?",
            ((NOW + timedelta(minutes=5)).isoformat(timespec="microseconds"), row.id),
        )
    tagging.run(remote.clinic.box, lambda: NOW + timedelta(hours=1), first.after)
    assert questions(remote) == 11, "this run goes on where the last one ended"
    assert tags(remote)[number] == ""
    run(remote, NOW + timedelta(hours=2))
    assert set(tags(remote)) == {"deep"}


@pytest.mark.parametrize("fault", [Fault.NOT_ALLOWED, Fault.NOT_IMPLEMENTED])
def test_a_store_that_keeps_no_tags_is_asked_once_and_its_images_count_as_lying_where_they_lay(
    remote: Remote, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "appliance")
    box = remote.clinic.box
    remote.line.fault = lambda asked: fault if "tagging" in asked.query else None
    done = run(remote)
    assert "keeps no tags" in done.troubles["cloud"].message and done.troubles["cloud"].hint
    assert questions(remote) == 1
    for hours in range(1, 5):
        later = run(remote, NOW + timedelta(hours=hours))
        assert (later.objects, later.troubles) == (0, {})
    assert questions(remote) == 1, "it isn't asked every half hour what it doesn't do"
    assert not caplog.records, "nor is it anybody's alarm"
    with box.catalog.reading() as conn:
        assert tagging.troubles(conn)["cloud"].at
        assert not tier_tags.is_anything_low(conn)
        assert set(stored.bytes_by_tier(conn, remote.clinic.place.id)) == {Tier.HOT}
    remote.line.fault = lambda _: None
    assert run(remote).objects == 0
    asked = tagging.run(box, lambda: NOW, around=tagging.Around(asks_again=True))
    assert (asked.studies, asked.objects) == (4, 11), "a person asks, and it keeps them now"
    with box.catalog.reading() as conn:
        assert tagging.troubles(conn) == {}


def test_a_store_that_kept_tags_and_takes_none_today_is_asked_again(remote: Remote) -> None:
    open_study(remote.clinic, study_ids(remote.clinic.box)[0], NOW)
    run(remote)
    choose(remote.clinic.box, **{"tiers.warm_days": 0, "tiers.cold_days": 0, "tiers.deep_days": 0})
    remote.line.fault = lambda asked: Fault.NOT_ALLOWED if "tagging" in asked.query else None
    assert not run(remote).troubles["cloud"].at
    remote.line.fault = lambda _: None
    run(remote)
    assert set(tags(remote)) == {"", "hot"}


def test_nothing_is_said_while_the_clock_is_doubted(remote: Remote) -> None:
    """A clock that ran ahead makes everything look untouched. The last of these tests of one box, as nothing takes a doubt back."""
    ahead = NOW + timedelta(days=4000)
    with remote.clinic.box.catalog.transaction() as tx:
        retention.watch_clock(tx, ahead, follows_time_server=False)
        assert retention.clock_of(tx, ahead).doubt is not None
    assert run(remote, ahead).objects == 0
    assert set(tags(remote)) == {""}


# --- after a fire ----------------------------------------------------------------------------------------------------


@pytest.fixture
def burnt(tmp_path: Path, the_cloud: Cloud) -> Iterator[Remote]:  # noqa: F811
    """Four studies of long ago in a bucket of their own, backed up before anything was said of them."""
    bucket = the_cloud.new_bucket(versioned=True)
    with (
        line(the_cloud.port) as the_line,
        clinic_in(tmp_path / "before", settings(the_line.url, bucket)) as clinic,
    ):
        clinic.receive(*IMAGES)
        clinic.deliver()
        grow_old(clinic.box)
        yield Remote(clinic, the_line, the_cloud, bucket)


@contextmanager
def restored(remote: Remote, folder: Path) -> Iterator[Clinic]:
    restore(folder, remote.clinic.place, remote.clinic.paper)
    with box_in(folder) as box:
        bring_home(box)
        yield replace(remote.clinic, box=box)


def test_a_restored_box_says_anew_what_was_said_after_its_backup(burnt: Remote, tmp_path: Path) -> None:
    """The bucket was told that all may sink; the backup knows of no tag, and of a study that somebody has opened since."""
    choose(burnt.clinic.box, **YEARS)
    burnt.clinic.back_up()
    run(burnt)
    assert set(tags(burnt)) == {"deep"}
    with restored(burnt, tmp_path / "after") as after:
        now = NOW + timedelta(hours=1)
        one = study_ids(after.box)[0]
        open_study(after, one, now)
        tagging.run(after.box, lambda: now)
        assert of_study(burnt, one) == {"hot"}, "the box knew of no tag, and took it for hot"
        assert Counter(tags(burnt))["deep"] == 7
        with after.box.catalog.reading() as conn:
            found = tier_tags.tagged(conn, after.place.id, study_ids(after.box))
        assert [each.is_settled for each in found.values()] == [True] * 4


def test_a_restored_box_says_anew_what_its_backup_takes_for_deep(burnt: Remote, tmp_path: Path) -> None:
    choose(burnt.clinic.box, **YEARS)
    run(burnt)
    burnt.clinic.back_up()
    client = burnt.cloud.client()
    for number in range(11):  # somebody has opened them since the backup
        hot = {"TagSet": [{"Key": bucket_policy.TAG, "Value": "hot"}]}
        client.put_object_tagging(Bucket=burnt.bucket, Key=burnt.key(number), Tagging=hot)
    with restored(burnt, tmp_path / "after") as after:
        tagging.run(after.box, lambda: NOW + timedelta(hours=1))
    assert set(tags(burnt)) == {"deep"}


def test_a_restored_box_whose_clinic_chose_no_days_asks_nothing_of_the_bucket(
    burnt: Remote, tmp_path: Path
) -> None:
    burnt.clinic.back_up()
    with restored(burnt, tmp_path / "after") as after:
        assert tagging.run(after.box, lambda: NOW).objects == 0
        assert questions(burnt) == 0
        choose(after.box, **YEARS)
        assert tagging.run(after.box, lambda: NOW).objects == 11, "as soon as it chooses some, all is said"
