"""What the plan says of a drill: why it failed, and whose images it has seen where the archive that was tried holds none."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.backup import disaster_plan, drill
from appliance.backup.disaster_plan import Place
from appliance.backup.drill import Certificate
from appliance.catalog import destinations, tier_tags
from appliance.errors import ApplianceError, Corrupt
from appliance.lifecycle.storage_class import DEEP, Tier
from appliance.model import DestinationSettings
from appliance.replication.destinations import prepare
from appliance.web.language import Words
from appliance.web.plan_words import worded
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.test_disaster_plan import (
    BUCKET,
    LANGUAGES,
    NOW,
    USB,
    lines_of,
    of_archive,
    plan_of,
    tell_drills,
)
from tests.boxes import box_in, recorded
from tests.replication.cloud import settings as cloud_settings
from tests.replication.depot import owe_everything_to
from tests.replication.parcels import take_in

CODES = pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])


def of_drill(clinic: Clinic, name: str, words: Words) -> str:
    """What the plan says of the latest drill of an archive."""
    plan = disaster_plan.gather(clinic.box, "marie", NOW)
    return lines_of(plan, "plan.last_drill", words)[words("plan.drill", archive=name)]


def try_out(clinic: Clinic) -> Certificate:
    return drill.drill(clinic.box, clinic.place, NOW, actor="tests", dice=random.Random(1))


def backed_up(clinic: Clinic) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    clinic.back_up()


def flip(path: Path) -> None:
    """Alter one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@CODES
def test_a_damaged_backup_is_no_drill_that_could_not_be_carried_out(
    clinic: Clinic, tmp_path: Path, code: str
) -> None:
    backed_up(clinic)
    flip(max((tmp_path / "usb" / "snapshots").iterdir()) / "000000")
    with pytest.raises(Corrupt):
        try_out(clinic)
    words = LANGUAGES.words(code)
    why = words.cause("a piece of a backup is not what was written")
    assert (code == "en") == (why == "A piece of a backup is not what was written")
    failed = words("plan.drill_stopped", at=words.moment(NOW))
    assert of_drill(clinic, "usb", words) == words("plan.drill_why", drill=failed, why=f"{why}.")


@CODES
def test_a_disk_in_a_drawer_is_one_that_could_not_be_and_it_is_said_why(
    clinic: Clinic, tmp_path: Path, code: str
) -> None:
    backed_up(clinic)
    (tmp_path / "usb").rename(tmp_path / "drawer")
    with pytest.raises(ApplianceError) as error:
        try_out(clinic)
    words = LANGUAGES.words(code)
    said = of_drill(clinic, "usb", words)
    assert said.startswith(words("plan.drill_broken", at=words.moment(NOW)))
    assert said.endswith(f"{words.cause(error.value.message)}.")


@CODES
def test_what_a_drill_has_found_is_said_besides_what_it_measured(
    clinic: Clinic, tmp_path: Path, code: str
) -> None:
    backed_up(clinic)
    for row in recorded(clinic.box)[:2]:
        flip(next((tmp_path / "usb" / "objects").rglob(f"{row.object_id}*")))
    found = try_out(clinic)
    assert len(found.findings) == 2
    words = LANGUAGES.words(code)
    said = of_drill(clinic, "usb", words)
    assert said.startswith(words("plan.drill_failed", **dict.fromkeys(PLACES, "{}")).partition("{}")[0])
    assert said.endswith(" ".join(f"{words.cause(each)}." for each in found.findings))


PLACES = ("at", "studies", "images", "catalog", "sampled", "sample")

SMALL = replace(USB, sources=("cloud",))
"""Of a disk that holds backups and no image, beside the bucket that holds them."""


@CODES
def test_a_disk_without_images_of_its_own_is_not_called_enough(tmp_path: Path, code: str) -> None:
    plan = replace(plan_of(tmp_path, SMALL), recovery_confirmed=True)
    words = LANGUAGES.words(code)
    assert of_archive(plan, "usb").images_from == ("cloud",)
    said = lines_of(plan, "plan.last_drill", words)
    from_cloud = words("plan.drill_sources", drill="{}", archive="usb", sources="cloud").rpartition("{}")[2]
    assert said[words("plan.drill", archive="usb")].endswith(from_cloud)
    assert words("plan.all_home_from", archive="usb", sources="cloud") in said
    assert words("plan.all_home", archive="usb") not in said
    paper = worded(plan, words)
    assert words("plan.verdict.images", archive="usb", sources="cloud") in paper.verdict
    assert paper.verdict_tone == "wait"
    own = worded(replace(plan_of(tmp_path / "both", SMALL, BUCKET), recovery_confirmed=True), words)
    assert "usb" not in own.verdict and own.verdict_tone == "good", "where the bucket is enough by itself"


@CODES
def test_images_beside_the_box_are_lost_with_it_though_the_backup_is_in_a_bucket(
    tmp_path: Path, code: str
) -> None:
    plan = plan_of(tmp_path, USB, replace(BUCKET, sources=("usb",)))
    words = LANGUAGES.words(code)
    for sources in (("usb",), ("usb", "removed since")):
        cloud = replace(of_archive(plan, "cloud"), images_from=sources)
        places = (cloud, replace(of_archive(plan, "usb"), tried=None))
        paper = worded(replace(plan, places=places, recovery_confirmed=True), words)
        named = words.several(sources)
        assert words("plan.verdict.images_near", archive="cloud", sources=named) in paper.verdict
        assert paper.verdict_tone == "wait"


def test_a_box_is_rather_brought_back_from_where_its_images_are_elsewhere_too(tmp_path: Path) -> None:
    plan = replace(plan_of(tmp_path, USB, BUCKET), recovery_confirmed=True)
    cloud = of_archive(plan, "cloud")
    newer = replace(cloud, name="small", backed_up_utc=NOW, images_from=("usb",))
    paper = worded(replace(plan, places=(newer, *plan.places)), LANGUAGES.words("en"))
    assert "from cloud" in paper.verdict and paper.verdict_tone == "good"


@CODES
def test_what_lies_deep_where_the_images_come_from_is_waited_for(tmp_path: Path, code: str) -> None:
    with box_in(tmp_path / "box") as box:
        owe_everything_to(box, cloud_settings("http://127.0.0.1:1", "clinic"))
        take_in(box, IMAGES)
        (tmp_path / "usb").mkdir()
        small = prepare(DestinationSettings("small", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))
        with box.catalog.transaction() as tx:
            tx.exec_driver_sql("UPDATE deliveries SET state = 'CONFIRMED'")
            (bucket,) = destinations.destinations(tx)
            destinations.add(tx, small)
            tell_drills(tx, box, replace(USB, archive="small", sources=(bucket.name,)))

        def told() -> Place:
            return of_archive(disaster_plan.gather(box, "marie", NOW), "small")

        assert told().wait_hours == 0
        with box.catalog.transaction() as tx:
            tier_tags.begin(tx, bucket.id, recorded(box)[0].study_id, Tier.DEEP, NOW)
        assert told().wait_hours == DEEP.wait_hours
        words = LANGUAGES.words(code)
        said = lines_of(disaster_plan.gather(box, "marie", NOW), "plan.last_drill", words)
    label = words("plan.all_home_from", archive="small", sources=bucket.name)
    assert words("plan.span.hours", n=DEEP.wait_hours) in said[label]
