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
def test_a_paused_archive_has_no_command_and_no_times_and_is_named_as_the_last_resort(
    tmp_path: Path, code: str
) -> None:
    plan = plan_of(tmp_path, USB, BUCKET, paused="usb", usb_age_days=1 / 24)
    words = LANGUAGES.words(code)
    for scenario in ("stolen", "disk"):
        cloud, usb = restoring(plan, scenario, words)
        assert "appliance restore s3" in cloud
        assert "appliance" not in usb
        assert usb.endswith(words("plan.way.paused", archive="{}", where="{}").rpartition("{}")[2])
    said = lines_of(plan, "plan.last_drill", words)
    assert words("plan.index_back", archive="cloud") in said
    assert words("plan.index_back", archive="usb") not in said
    assert words("plan.paused") in lines_of(plan, "plan.copies", words)["usb"]
    assert words("plan.paused") not in lines_of(plan, "plan.copies", words)["cloud"]
    ready = worded(replace(plan, recovery_confirmed=True), words)
    assert ready.verdict_tone == "good", "what is paused is no part of it"


def test_where_only_what_is_paused_has_a_backup_it_is_the_way(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, USB, BUCKET)
    words = LANGUAGES.words("en")
    places = tuple(
        replace(each, paused=True) if each.name == "usb" else replace(each, backed_up_utc=None)
        for each in plan.places
    )
    plan = replace(plan, places=places, recovery_confirmed=True)
    usb, cloud, _ = restoring(plan, "stolen", words)
    assert "appliance restore s3" in cloud and "no backup yet" in cloud
    assert "appliance restore folder" in usb and "paused" in usb
    assert "no backup yet: if the box is lost" not in worded(plan, words).verdict


@pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])
def test_a_bucket_without_a_backup_is_no_way_after_a_fire_before_a_disk_that_has_one(
    tmp_path: Path, code: str
) -> None:
    plan = plan_of(tmp_path, USB)
    words = LANGUAGES.words(code)
    places = tuple(each if each.name == "usb" else replace(each, backed_up_utc=None) for each in plan.places)
    usb, cloud, warned = restoring(replace(plan, places=places), "stolen", words)
    assert "appliance restore folder" in usb
    assert words("plan.never_backed_up") in cloud
    assert warned == words("plan.no_copy_elsewhere"), "what is elsewhere has nothing yet to restore from"


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
