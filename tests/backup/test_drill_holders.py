"""An image of the sample is asked of every archive that has a receipt for it, as a restore would; and each archive is told of by itself."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import health
from appliance.backup import drill
from appliance.backup.schedule import Schedule
from appliance.catalog import destinations, settings
from appliance.catalog.rules import add_rule
from appliance.errors import ApplianceError
from appliance.health.facts import Outcome
from appliance.model import DestinationSettings, Rule
from appliance.replication import recall
from appliance.replication.destinations import prepare
from appliance.web.backup_words import worded
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import IMAGES, Clinic
from tests.boxes import recorded

NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)


def add_disk(clinic: Clinic, folder: Path, *, owed: bool) -> DestinationSettings:
    """Another disk; with `owed`, every image goes there too."""
    folder.mkdir()
    place = prepare(DestinationSettings(folder.name, "vault", "ciphertext", {"path": str(folder)}))
    with clinic.box.catalog.transaction() as tx:
        place = replace(place, id=destinations.add(tx, place))
        if owed:
            add_rule(tx, Rule(place.id, place.name, place.takes))
    return place


@pytest.fixture
def twice(clinic: Clinic, tmp_path: Path) -> Clinic:
    """Three images, each on the disks *usb* and *second*; *small* holds backups and no image."""
    add_disk(clinic, tmp_path / "second", owed=True)
    small = add_disk(clinic, tmp_path / "small", owed=False)
    clinic.receive(*IMAGES[:3])
    clinic.deliver()
    clinic.back_up(NOW - timedelta(hours=1))
    replace(clinic, place=small).back_up(NOW - timedelta(hours=1))
    return clinic


def tried(clinic: Clinic, name: str = "usb", now: datetime = NOW) -> drill.Certificate:
    with clinic.box.catalog.reading() as conn:
        place = next(each for each in destinations.destinations(conn) if each.name == name)
    return drill.drill(clinic.box, place, now, actor="tests", dice=random.Random(1))


def damage(clinic: Clinic, disk: Path, number: int = 0) -> None:
    """A bit of an image is not what was written, on that disk."""
    row = recorded(clinic.box)[number]
    path = disk / "objects" / row.object_id[:2] / f"{row.object_id}.sealed"
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)


def test_an_archive_with_a_damaged_image_fails_and_it_is_said_who_has_it_whole(
    twice: Clinic, tmp_path: Path
) -> None:
    damage(twice, tmp_path / "usb")
    found = tried(twice)
    assert not found.passed
    (said,) = found.findings
    assert "not what was written" in said and said.endswith("and second has it whole")
    assert (found.sampled, found.sources, found.ungiven) == (2, (), ())
    for code in ("fr", "es", "zh"):
        words = Languages(web_ui() / "languages").words(code)
        assert "second" in words.cause(said) and words.cause(said) != said[:1].upper() + said[1:]


def test_only_what_no_archive_has_whole_is_called_lost(twice: Clinic, tmp_path: Path) -> None:
    damage(twice, tmp_path / "usb")
    damage(twice, tmp_path / "second")
    (said,) = tried(twice).findings
    assert said == "an image is whole in no archive, neither where it should be nor in another: usb, second"
    (tmp_path / "second").rename(tmp_path / "taken home")
    (said,) = tried(twice).findings
    assert "not what was written" in said and "no archive" not in said, "nobody knows of the one that is away"


def asked_first(clinic: Clinic) -> tuple[str, str]:
    """Which of the two disks with images is asked first, and which one then, for the sample of a third."""
    with clinic.box.catalog.reading() as conn:
        first, then = recall.holders(conn, recorded(clinic.box)[0].object_id)
    return first.name, then.name


def test_a_backup_without_images_passes_with_those_of_whichever_archive_has_them_and_names_the_other(
    twice: Clinic, tmp_path: Path
) -> None:
    first, then = asked_first(twice)
    for number in range(3):
        damage(twice, tmp_path / first, number)
    found = tried(twice, "small")
    assert found.passed and (found.sampled, found.sources, found.ungiven) == (3, (then,), (first,))
    assert f"Not every image of the sample was given by {first}." in str(found)
    words = Languages(web_ui() / "languages").words("fr")
    lines = {line.label: line.text for line in worded(found, "", words).sections[1].lines}
    assert lines[words("backups.ungiven")] == first
    with twice.box.catalog.reading() as conn:
        assert drill.certificates(conn, twice.box)[0] == found, "it is kept as it was made"
    (tmp_path / first).rename(tmp_path / "taken home")
    found = tried(twice, "small")
    assert found.passed and (found.sources, found.ungiven) == ((then,), (first,))


def test_when_all_that_have_an_image_are_away_nothing_is_said_of_it(twice: Clinic, tmp_path: Path) -> None:
    (tmp_path / "usb").rename(tmp_path / "one")
    (tmp_path / "second").rename(tmp_path / "two")
    with pytest.raises(ApplianceError):
        tried(twice, "small")
    with twice.box.catalog.reading() as conn:
        assert drill.last(conn, twice.box, "small")["outcome"] == "failed"


def test_each_archive_is_late_by_itself_and_named(twice: Clinic, tmp_path: Path) -> None:
    box = twice.box
    first = NOW - timedelta(days=10)
    for name in ("usb", "small"):
        assert tried(twice, name, first).passed
    assert tried(twice, "usb").passed
    late = [each for each in health.judge(health.gather(box, NOW)) if each.code == "drill-late"]
    assert [(each.subject, each.words) for each in late] == [
        ("small", "the last restore drill of small that succeeded was 10 days ago")
    ]
    summary = health.gather(box, NOW).drill
    assert summary is not None and (summary.outcome, summary.succeeded_utc) == (Outcome.SUCCEEDED, first)
    with box.catalog.transaction() as tx:
        destinations.pause(tx, "small")
    assert "drill-late" not in {each.code for each in health.judge(health.gather(box, NOW))}
    with box.catalog.transaction() as tx:
        destinations.resume(tx, "small")
        settings.put(tx, f"{drill.LAST}.small", {"outcome": "succeeded", "at_utc": NOW.isoformat()}, NOW)
    assert "drill-failed" in {each.code for each in health.judge(health.gather(box, NOW))}, "a forged one"
    with pytest.raises(ApplianceError, match="no backup"):  # of the second disk: nothing lies there
        Schedule().drill(box, NOW)
    assert drill_is_made(twice, "small")


def drill_is_made(clinic: Clinic, name: str) -> bool:
    """Whether the last drill of an archive is of now, and this box's."""
    with clinic.box.catalog.reading() as conn:
        return drill.last(conn, clinic.box, name).get("succeeded_utc") == NOW.isoformat()


def test_an_archive_that_nobody_has_tried_is_named_once_it_holds_a_backup(twice: Clinic) -> None:
    assert tried(twice).passed
    never = [each.subject for each in health.judge(health.gather(twice.box, NOW)) if each.code == "no-drill"]
    assert never == ["small"], "second holds no backup, and that is another problem"
