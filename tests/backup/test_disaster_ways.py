"""From where the plan has the box restored: each archive in use by its own way, and after theft or fire what is elsewhere first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.backup import disaster_plan
from appliance.backup.disaster_plan import Place, Plan
from appliance.catalog import destinations
from appliance.model import DestinationKind
from appliance.system import System
from appliance.web.language import Words
from appliance.web.plan_words import worded
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.test_disaster_plan import (
    BUCKET,
    LANGUAGES,
    NOW,
    USB,
    clinic,
    lines_of,
    plan_of,
    tell_drills,
    text_of,
)


def restoring(plan: Plan, scenario: str, words: Words) -> list[str]:
    """The ways that a scenario's step of restoring names, in order."""
    said = next(
        text
        for text in lines_of(plan, f"plan.{scenario}", words).values()
        if words("welcome.restore") in text
    )
    return said.split("\n")[1:]


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_after_theft_or_fire_what_is_elsewhere_comes_first_however_new_the_disk_beside_the_box_is(
    tmp_path: Path, code: str
) -> None:
    plan = plan_of(tmp_path, USB, BUCKET, usb_age_days=1 / 24)
    words = LANGUAGES.words(code)
    assert [each.name for each in plan.archives] == ["usb", "cloud"]
    cloud, usb = restoring(plan, "stolen", words)
    assert "appliance restore s3 --bucket clinic-images" in cloud
    assert "appliance restore folder --path /media/backup" in usb
    burnt = words("plan.way.near", archive="{}", where="{}").rpartition("{}")[2]
    assert burnt in usb, "a disk beside the box is stolen, or burns, with it"
    assert burnt not in cloud
    assert words("plan.no_copy_elsewhere") not in text_of(worded(plan, words))
    first, second = restoring(plan, "disk", words)
    assert "/media/backup" in first and "clinic-images" in second, "that with the newest backup first"
    assert burnt not in first, "a disk that has died takes no other with it"
    image = restoring(replace(plan, system=System.IMAGE), "stolen", words)
    assert ["cloud" in image[0], "usb" in image[1]] == [True, True], (
        "where there is no command it is named too"
    )


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_only_a_disk_beside_the_box_is_never_called_enough(tmp_path: Path, code: str) -> None:
    box = clinic(tmp_path)
    try:
        with box.catalog.transaction() as tx:
            destinations.remove(tx, "cloud", NOW)
            tell_drills(tx, box, USB)
        plan = replace(disaster_plan.gather(box, "marie", NOW), recovery_confirmed=True, system=System.OPEN)
    finally:
        box.close()
    words = LANGUAGES.words(code)
    usb, warned = restoring(plan, "stolen", words)
    assert "appliance restore folder --path /media/backup" in usb
    assert words("plan.way.near", archive="{}", where="{}").rpartition("{}")[2] in usb
    assert warned == words("plan.no_copy_elsewhere")
    assert len(restoring(plan, "disk", words)) == 1
    paper = worded(plan, words)
    assert words("plan.verdict.near") in paper.verdict and paper.verdict_tone == "wait"


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_a_paused_archive_with_an_older_backup_has_no_times_and_is_named_as_the_last_resort(
    tmp_path: Path, code: str
) -> None:
    plan = plan_of(tmp_path, USB, BUCKET, paused="usb")
    words = LANGUAGES.words(code)
    for scenario, way in (("stolen", "plan.way.paused_near"), ("disk", "plan.way.paused")):
        cloud, usb = restoring(plan, scenario, words)
        assert "appliance restore s3" in cloud
        assert "appliance restore folder" in usb
        assert tail(way, words) in usb
    said = lines_of(plan, "plan.last_drill", words)
    assert words("plan.index_back", archive="cloud") in said
    assert words("plan.index_back", archive="usb") not in said
    assert words("plan.paused") in lines_of(plan, "plan.copies", words)["usb"]
    assert words("plan.paused") not in lines_of(plan, "plan.copies", words)["cloud"]
    ready = worded(replace(plan, recovery_confirmed=True), words)
    assert ready.verdict_tone == "good", "what is paused is no part of it"


def tail(way: str, words: Words) -> str:
    """What a way is said with, behind where it is."""
    return words(way, archive="{}", where="{}").rpartition("{}")[2]


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_a_bucket_paused_yesterday_is_still_the_newest_copy_and_the_first_after_a_fire(
    tmp_path: Path, code: str
) -> None:
    plan = replace(plan_of(tmp_path, USB, BUCKET, paused="cloud", usb_age_days=40), recovery_confirmed=True)
    words = LANGUAGES.words(code)
    for scenario in ("stolen", "disk"):
        cloud, usb = restoring(plan, scenario, words)
        assert "appliance restore s3" in cloud and "appliance restore folder" in usb
        assert tail("plan.way.paused", words) not in cloud
    paper = worded(plan, words)
    assert "cloud" in paper.verdict
    assert words("plan.verdict.old", at="{}").partition("{}")[0] not in paper.verdict
    assert words("plan.verdict.others", names="usb") in paper.verdict and paper.verdict_tone == "wait"
    assert words("plan.index_back", archive="cloud") in lines_of(plan, "plan.last_drill", words)


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_of_two_disks_used_in_turn_the_one_that_is_paused_comes_first_after_a_fire(
    tmp_path: Path, code: str
) -> None:
    """As `reach.remedy` recommends it: it is unplugged and somewhere else."""
    plan = plan_of(tmp_path, USB, BUCKET, paused="cloud", usb_age_days=1 / 24)
    places = tuple(
        replace(each, kind="vault", where={"path": "/media/other"}) if each.name == "cloud" else each
        for each in plan.places
    )
    plan = replace(plan, places=places)
    words = LANGUAGES.words(code)
    other, usb, _ = restoring(plan, "stolen", words)
    assert "appliance restore folder --path /media/other" in other
    assert tail("plan.way.paused_near", words) in other
    assert "/media/backup" in usb and tail("plan.way.near", words) in usb
    usb, other = restoring(plan, "disk", words)
    assert "/media/backup" in usb and tail("plan.way.paused", words) in other


def test_a_paused_bucket_comes_before_the_disk_beside_the_box_after_a_fire_however_old_it_is(
    tmp_path: Path,
) -> None:
    plan = plan_of(tmp_path, USB, BUCKET, paused="cloud", usb_age_days=1 / 24)
    words = LANGUAGES.words("en")
    cloud, usb = restoring(plan, "stolen", words)
    assert "appliance restore s3" in cloud and tail("plan.way.paused", words) in cloud
    assert "appliance restore folder" in usb
    assert "restore folder" in restoring(plan, "disk", words)[0], "there the newest is first"


def test_where_only_what_is_paused_has_a_backup_it_is_the_way(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, USB, BUCKET)
    words = LANGUAGES.words("en")
    places = tuple(
        replace(each, paused=True) if each.name == "usb" else replace(each, backed_up_utc=None)
        for each in plan.places
    )
    plan = replace(plan, places=places, recovery_confirmed=True)
    usb, _ = restoring(plan, "stolen", words)
    assert "appliance restore folder" in usb and "paused" in usb
    verdict = worded(plan, words).verdict
    assert "no backup yet: if the box is lost" not in verdict
    assert words("plan.verdict.lacking", names="cloud") in verdict


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_an_archive_without_a_backup_is_no_way_and_the_verdict_names_it(tmp_path: Path, code: str) -> None:
    plan = replace(plan_of(tmp_path, USB, BUCKET), recovery_confirmed=True)
    words = LANGUAGES.words(code)
    usb, warned = restoring(without_backup(plan, "cloud"), "stolen", words)
    assert "appliance restore folder" in usb
    assert warned == words("plan.no_copy_elsewhere"), "what is elsewhere has nothing yet to restore from"
    lacking = without_backup(plan, "usb")
    assert len(restoring(lacking, "stolen", words)) == len(restoring(lacking, "disk", words)) == 1
    paper = worded(lacking, words)
    assert words("plan.verdict.lacking", names="usb") in paper.verdict and paper.verdict_tone == "wait"
    assert worded(plan, words).verdict_tone == "good"
    assert lines_of(lacking, "plan.last_drill", words)[words("plan.drill", archive="usb")]


def without_backup(plan: Plan, *names: str, studies: int = 0) -> Plan:
    """`plan` as it is before the first backup in these archives, with manifests of so many studies there."""
    return replace(
        plan,
        places=tuple(
            replace(each, backed_up_utc=None, studies=studies) if each.name in names else each
            for each in plan.places
        ),
    )


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_where_there_is_no_copy_nobody_is_told_to_restore_one(tmp_path: Path, code: str) -> None:
    plan = plan_of(tmp_path, USB)
    words = LANGUAGES.words(code)
    for bare in (without_backup(plan, "cloud", "usb"), replace(plan, places=())):
        said = text_of(worded(bare, words))
        assert "appliance restore" not in said
        assert said.count(words("plan.no_copy")) == 2, "after a theft, and after a disk that has died"
        assert words("welcome.restore") not in said
        assert worded(bare, words).verdict == words("plan.verdict.no_backup")


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_what_the_study_manifests_of_an_archive_bring_back_is_said_for_what_it_is(
    tmp_path: Path, code: str
) -> None:
    plan = plan_of(tmp_path, USB)
    words = LANGUAGES.words(code)
    studies = words("dashboard.studies", n=12)
    beside = without_backup(plan, "cloud", studies=12)
    usb, cloud = restoring(beside, "stolen", words)
    assert "appliance restore folder" in usb, "a backup brings people and settings back, too"
    assert "appliance restore s3" in cloud and words("plan.never_backed_up") in cloud
    assert studies in cloud
    alone = without_backup(plan, "cloud", "usb", studies=12)
    paper = worded(alone, words)
    assert paper.verdict == words("plan.verdict.studies", archive="cloud", studies=studies)
    assert paper.verdict_tone == "bad"
    cloud, _ = restoring(alone, "stolen", words)
    assert "appliance restore s3" in cloud


def test_the_manifests_that_lie_in_an_archive_are_counted_until_it_has_a_backup(clinic: Clinic) -> None:
    clinic.receive(*IMAGES)
    assert disaster_plan.gather(clinic.box, "marie", NOW).written_down == ()
    clinic.deliver()
    (usb,) = disaster_plan.gather(clinic.box, "marie", NOW).written_down
    assert (usb.name, usb.studies) == ("usb", 4)
    clinic.back_up()
    assert disaster_plan.gather(clinic.box, "marie", NOW).written_down == ()


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_a_step_calls_each_archive_what_the_page_of_restoring_does(tmp_path: Path, code: str) -> None:
    plan = plan_of(tmp_path, USB, BUCKET)
    words = LANGUAGES.words(code)
    nas = {
        "address": "backup.example.ca",
        "port": "2222",
        "user": "box",
        "host_key": "ssh-ed25519 SHA256:n52",
    }
    share = {"address": "192.168.1.20", "port": "445", "share": "backup"}
    more = (
        Place("nas", "sftp", nas, is_archive=True, paused=False, backed_up_utc=NOW),
        Place("files", "smb", share, is_archive=True, paused=False, backed_up_utc=NOW),
        Place("pacs", "dicom", {"host": "192.168.1.9"}, is_archive=False, paused=False),
    )
    plan = replace(plan, places=(*plan.places, *more))
    said = "\n".join(restoring(replace(plan, system=System.IMAGE), "stolen", words))
    for choice, where in (
        ("restore.bucket", "clinic-images · ca-central-1"),
        ("restore.disk", "/media/backup"),
        ("restore.server", f"backup.example.ca · {words('devices.port')} 2222 · box"),
        ("restore.share", "192.168.1.20 · backup"),
    ):
        assert f"{words('plan.choice', choice=words(choice))} · {where}" in said
    for jargon in ("s3", "vault", "sftp", "smb", "SHA256"):
        assert jargon not in said
    assert words("plan.fingerprint", fingerprint="SHA256:n52") in lines_of(plan, "plan.copies", words)["nas"]
    assert lines_of(plan, "plan.others", words)["pacs"].startswith(words("kind.dicom"))


@pytest.mark.parametrize(
    ("kind", "options", "stands"),
    [
        ("s3", {"bucket": "b", "region": "ca-central-1"}, "elsewhere"),
        ("s3", {"bucket": "b", "endpoint_url": "https://s3.ca-central-1.amazonaws.com"}, "elsewhere"),
        ("s3", {"bucket": "b", "endpoint_url": "https://s3.ca-east-006.backblazeb2.com"}, "elsewhere"),
        ("s3", {"bucket": "b", "endpoint_url": "https://s3.example.ca"}, "perhaps"),
        ("s3", {"bucket": "b", "endpoint_url": "https://amazonaws.com.example.ca"}, "perhaps"),
        ("s3", {"bucket": "b", "endpoint_url": "https://192.168.1.9:9000"}, "near"),
        ("sftp", {"address": "backup.example.ca"}, "perhaps"),
        ("sftp", {"address": "clinic.synology.me"}, "perhaps"),
        ("sftp", {"address": "52.60.1.2"}, "perhaps"),
        ("sftp", {"address": "192.168.1.20"}, "near"),
        ("sftp", {"address": "fd00::20"}, "near"),
        ("sftp", {"address": "nas"}, "near"),
        ("sftp", {"address": "nas.local"}, "near"),
        ("smb", {"address": "files.example.ca"}, "near"),
        ("vault", {"path": "/media/backup"}, "near"),
    ],
)
def test_only_what_no_fire_in_the_clinic_can_reach_counts_as_elsewhere(
    kind: DestinationKind, options: dict[str, str], stands: str
) -> None:
    place = Place("a", kind, options, is_archive=True, paused=False)
    assert (place.is_elsewhere, place.may_be_elsewhere) == (stands == "elsewhere", stands == "perhaps")


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_a_server_of_a_public_name_may_stand_in_the_clinic(tmp_path: Path, code: str) -> None:
    plan = replace(plan_of(tmp_path, USB, BUCKET), recovery_confirmed=True)
    words = LANGUAGES.words(code)
    places = tuple(
        replace(each, kind="sftp", where={"address": "clinic.synology.me"}) if each.name == "cloud" else each
        for each in plan.places
    )
    plan = replace(plan, places=places)
    nas, usb, warned = restoring(plan, "stolen", words)
    assert words("plan.way.perhaps", archive="{}", where="{}").rpartition("{}")[2] in nas
    assert words("plan.way.near", archive="{}", where="{}").rpartition("{}")[2] in usb
    assert warned == words("plan.no_copy_elsewhere")
    paper = worded(plan, words)
    assert words("plan.verdict.near") in paper.verdict and paper.verdict_tone == "wait"
