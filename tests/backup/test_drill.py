"""A drill finds what a restore would find, touches nothing, and is kept."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from appliance import audit
from appliance.backup import drill, fetching, making, snapshot
from appliance.backup.schedule import Schedule
from appliance.catalog import Catalog, copying, counters, destinations, settings
from appliance.errors import ApplianceError, Corrupt, Transient, Unknown
from appliance.health.attempts import DRILL, attempt
from appliance.health.facts import Outcome
from appliance.model import DestinationSettings
from appliance.replication.destinations import prepare
from appliance.web.backup_words import worded
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import IMAGES, Clinic
from tests.boxes import recorded

NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)


@pytest.fixture
def backed_up(clinic: Clinic) -> Clinic:
    clinic.receive(*IMAGES)
    clinic.deliver()
    clinic.back_up()
    return clinic


def tried(clinic: Clinic, now: datetime = NOW) -> drill.Certificate:
    return drill.drill(clinic.box, clinic.place, now, actor="tests", dice=random.Random(1))


def test_a_good_backup_passes_and_leaves_a_certificate_in_plain_words(
    backed_up: Clinic, tmp_path: Path
) -> None:
    found = tried(backed_up)
    assert found.passed
    assert (found.studies, found.instances, found.sampled) == (4, 11, 11)
    assert found.sampled_bytes > 2_400_000
    said = str(found)
    assert "11 images were brought back and opened to the last byte" in said
    assert said.endswith("Passed.")
    with backed_up.box.catalog.reading() as conn:
        assert drill.certificates(conn, backed_up.box) == [found]
        told = attempt(settings.get(conn, f"{DRILL}.{backed_up.place.name}"))
        assert [row["action"] for row in audit.export(conn)][-1] == "backup:drill"
    assert told is not None
    assert (told.outcome, told.succeeded_utc) == (Outcome.SUCCEEDED, NOW)
    assert not list((tmp_path / "before" / "backups").glob("drill-*")), "nothing is left of it"


def add_disk(clinic: Clinic, folder: Path) -> DestinationSettings:
    """Another disk, to which no image is owed."""
    folder.mkdir()
    place = prepare(DestinationSettings(folder.name, "vault", "ciphertext", {"path": str(folder)}))
    with clinic.box.catalog.transaction() as tx:
        return replace(place, id=destinations.add(tx, place))


@pytest.mark.parametrize(
    ("code", "label", "finding"),
    [
        ("en", "In deep archive, not tried", "and none was opened."),
        ("fr", "En archive profonde, non essayé", "et aucune n’a été ouverte."),
        ("es", "En archivo profundo, sin probar", "y no se abrió ninguna."),
        ("zh", "在深度归档中，未验证", "没有打开任何一幅."),
    ],
)
def test_the_paper_says_how_many_images_were_not_tried(code: str, label: str, finding: str) -> None:
    words = Languages(web_ui() / "languages").words(code)
    found = drill.Certificate(
        at_utc=NOW.isoformat(),
        archive="cloud",
        snapshot="20261123T200000Z-00000000",
        made_utc=NOW.isoformat(),
        studies=4,
        instances=11,
        sampled=0,
        sampled_bytes=0,
        catalog_seconds=1.0,
        sample_seconds=1.0,
        findings=("every image of the sample lies in deep archive, and none was opened",),
        resting=11,
    )
    lines = {line.label: line.text for line in worded(found, "", words).sections[1].lines}
    assert lines[label] == words("studies.images", n=11)
    assert lines[words("backups.wrong")].endswith(finding)
    opened = replace(found, sampled=11, findings=(), resting=0)
    assert label not in {line.label for line in worded(opened, "", words).sections[1].lines}
    assert "not tried" not in str(opened)


def _object(clinic: Clinic, usb: Path) -> Path:
    row = next(row for row in recorded(clinic.box) if row.size_bytes > 2_000_000)
    return usb / "objects" / row.object_id[:2] / f"{row.object_id}.sealed"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)


def _newest(clinic: Clinic, usb: Path, name: str) -> Path:
    return max((usb / "snapshots").iterdir()) / name


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (lambda clinic, usb: _flip(_object(clinic, usb)), "not what was written"),
        (lambda clinic, usb: _object(clinic, usb).unlink(), "not what was written"),
        (
            lambda clinic, usb: _object(clinic, usb).write_bytes(
                _object(clinic, usb).read_bytes()[: 1 << 20]
            ),
            "shorter than it was",
        ),
        (lambda clinic, usb: _flip(_newest(clinic, usb, "root.recovery")), "the paper would not open it"),
        (lambda clinic, usb: _newest(clinic, usb, "root.recovery").unlink(), "the paper would not open it"),
    ],
    ids=["flipped", "gone", "cut", "damaged slot", "no slot"],
)
def test_what_a_restore_would_find_is_found(
    backed_up: Clinic, tmp_path: Path, damage: Callable[[Clinic, Path], None], finding: str
) -> None:
    assert tried(backed_up, NOW - timedelta(days=7)).passed
    damage(backed_up, tmp_path / "usb")
    found = tried(backed_up)
    assert not found.passed
    assert any(finding in each for each in found.findings), found.findings
    assert str(found).endswith("Failed.")
    with backed_up.box.catalog.reading() as conn:
        told = attempt(settings.get(conn, f"{DRILL}.{backed_up.place.name}"))
    assert told is not None
    assert (told.outcome, told.succeeded_utc) == (Outcome.FAILED, NOW - timedelta(days=7))


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("DELETE FROM instances WHERE id = (SELECT max(id) FROM instances)", ("10 images where 11",)),
        ("DELETE FROM series WHERE id = (SELECT max(id) FROM series)", ("series where",)),
        (
            "DELETE FROM studies WHERE id = (SELECT max(id) FROM studies)",
            ("3 studies where 4",),
        ),
        ("UPDATE instances SET size_bytes = size_bytes + 1 WHERE id = 1", ("bytes of images where",)),
        ("UPDATE counters SET value = value + 500 WHERE name = 'instances'", ()),
    ],
    ids=["an image", "a series", "a study", "a size", "a running count alone"],
)
def test_a_copy_that_lacks_a_row_is_found_whatever_its_own_running_counts_say(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, lost: str, said: tuple[str, ...]
) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    copy = copying.copy

    def losing(catalog: Catalog, path: Path, key: bytes, *of: Any) -> Any:
        looked = copy(catalog, path, key, *of)
        database = copying._open(path, key)
        database.execute(lost)
        database.close()
        return looked

    monkeypatch.setattr(copying, "copy", losing)
    clinic.back_up()
    found = tried(clinic)
    assert [part for part in said if not any(part in each for each in found.findings)] == []
    assert found.passed is not bool(said)
    if said == ("10 images where 11",):
        assert found.instances == 10, "what is there, and not what was to be"
        words = Languages(web_ui() / "languages").words("fr")
        assert "10 images, alors que 11" in str(worded(found, "", words))


def test_a_running_count_that_is_off_is_no_number_of_a_backup(clinic: Clinic) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    with clinic.box.catalog.transaction() as tx:
        counters.add(tx, counters.INSTANCES, 500)
        counters.add(tx, counters.STUDIES, 7)
    made = clinic.back_up()
    assert (made.contents.studies, made.contents.series, made.contents.instances) == (4, 4, 11)
    found = tried(clinic)
    assert (found.passed, found.studies, found.instances) == (True, 4, 11)
    assert "It remembers 4 studies and 11 images." in str(found)


def test_a_backup_of_earlier_software_that_noted_running_counts_which_were_off_does_not_pass(
    backed_up: Clinic,
) -> None:
    archive = making.archive_at(backed_up.box, backed_up.place)
    (name,) = snapshot.names_in([each.key for each in archive.documents(snapshot.PREFIX)])
    where, context = snapshot.index_key(name), snapshot.context(name)
    index = snapshot.decode(name, backed_up.box.root.unseal(archive.document(where), context))
    noted = replace(index, contents=replace(index.contents, instances=511, series=None))
    archive.put_document(where, backed_up.box.root.seal(snapshot.encode(noted), context))
    found = tried(backed_up)
    assert (found.instances, found.findings) == (11, ("the backup counts 11 images where 511 were written",))


def test_a_local_object_that_differs_from_its_replica_is_found(backed_up: Clinic) -> None:
    row = next(row for row in recorded(backed_up.box) if row.size_bytes > 2_000_000)
    _flip(backed_up.box.objects.path(row.object_id))
    assert any("not the one in the archive" in each for each in tried(backed_up).findings)


def test_a_damaged_catalog_piece_is_corrupt_and_recorded(backed_up: Clinic, tmp_path: Path) -> None:
    _flip(_newest(backed_up, tmp_path / "usb", "000000"))
    with pytest.raises(Corrupt):
        tried(backed_up)
    with backed_up.box.catalog.reading() as conn:
        told = attempt(settings.get(conn, f"{DRILL}.{backed_up.place.name}"))
    assert told is not None
    assert told.outcome is Outcome.FAILED
    assert not list((tmp_path / "before" / "backups").glob("drill-*"))


def test_without_a_backup_there_is_nothing_to_try(clinic: Clinic) -> None:
    with pytest.raises(Unknown, match="no backup"):
        tried(clinic)


def test_a_drill_that_opened_no_image_has_not_passed_unless_there_is_none(clinic: Clinic) -> None:
    clinic.back_up(NOW - timedelta(hours=2))
    assert tried(clinic).passed, "a box without images has nothing more to show"
    clinic.receive(*IMAGES)
    clinic.back_up(NOW - timedelta(hours=1))  # not in the same second: the drill takes the latest
    found = tried(clinic, NOW + timedelta(hours=1))
    assert (found.passed, found.sampled) == (False, 0)
    assert found.findings == (
        "the backup knows of no image in this archive, and none was opened: send images there too, and make a new backup",
    )


def test_an_archive_for_backups_alone_is_tried_with_the_images_that_another_holds(
    backed_up: Clinic, tmp_path: Path
) -> None:
    """As a restore from it would; what is wrong with the other's images is found there, too."""
    small = add_disk(backed_up, tmp_path / "small")
    backed_up = replace(backed_up, place=small)
    backed_up.back_up(NOW - timedelta(hours=1))
    found = tried(backed_up)
    assert (found.passed, found.sampled, found.archive, found.sources) == (True, 11, "small", ("usb",))
    assert "They came from usb: small holds backups, and no image." in str(found)
    with backed_up.box.catalog.reading() as conn:
        assert drill.certificates(conn, backed_up.box)[0] == found
    words = Languages(web_ui() / "languages").words("fr")
    lines = {line.label: line.text for line in worded(found, "", words).sections[1].lines}
    assert lines["Aucune image ici; elles viennent de"] == "usb"
    _flip(_object(backed_up, tmp_path / "usb"))
    assert any("not what was written" in each for each in tried(backed_up).findings)
    (tmp_path / "usb").rename(tmp_path / "away")
    with pytest.raises(ApplianceError):
        tried(backed_up)


def test_a_drill_once_a_week_however_often_it_is_asked(backed_up: Clinic) -> None:
    for hours in range(0, 15 * 24, 8):
        Schedule().drill(backed_up.box, NOW + timedelta(hours=hours))
    with backed_up.box.catalog.reading() as conn:
        moments = [datetime.fromisoformat(each.at_utc) for each in drill.certificates(conn, backed_up.box)]
    assert moments == [NOW + timedelta(days=days) for days in (14, 7, 0)]


def test_a_drill_that_failed_comes_again_soon_and_if_it_goes_on_failing_ever_later(
    backed_up: Clinic, tmp_path: Path
) -> None:
    """Once a week, what was found and mended at once would stand on the start page for the rest of it."""
    assert tried(backed_up, NOW - timedelta(days=3)).passed
    _flip(_object(backed_up, tmp_path / "usb"))
    assert not tried(backed_up, NOW - timedelta(hours=1)).passed, "which somebody has started"
    for minutes in range(0, 7 * 24 * 60, 15):
        Schedule().drill(backed_up.box, NOW + timedelta(minutes=minutes))
    with backed_up.box.catalog.reading() as conn:
        found = [each for each in drill.certificates(conn, backed_up.box) if not each.passed]
    moments = [datetime.fromisoformat(each.at_utc) - NOW for each in reversed(found)]
    between = [(then - before) / timedelta(hours=1) for before, then in pairwise(moments)]
    assert between == [1, 0.25, 0.5, 1, 2, 4, 8, 16, 24, 24, 24, 24, 24]
    _flip(_object(backed_up, tmp_path / "usb"))
    Schedule().drill(backed_up.box, NOW + timedelta(days=8))
    with backed_up.box.catalog.reading() as conn:
        assert drill.last(conn, backed_up.box, "usb")["outcome"] == "succeeded"
        assert not drill.is_due(conn, backed_up.box, "usb", NOW + timedelta(days=14))


def test_a_disk_that_was_away_is_tried_whenever_it_is_back(backed_up: Clinic, tmp_path: Path) -> None:
    (tmp_path / "usb").rename(tmp_path / "drawer")
    for hours in range(30):
        with pytest.raises(ApplianceError):
            Schedule().drill(backed_up.box, NOW + timedelta(hours=hours))
    (tmp_path / "drawer").rename(tmp_path / "usb")
    Schedule().drill(backed_up.box, NOW + timedelta(hours=30))
    with backed_up.box.catalog.reading() as conn:
        assert drill.last(conn, backed_up.box, "usb")["outcome"] == "succeeded"


def test_what_a_newer_backup_has_taken_the_place_of_fails_no_drill(
    backed_up: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is damaged, too; and where all fail, that is told."""
    _flip(_newest(backed_up, tmp_path / "usb", "000000"))
    fetch, newer = fetching.fetch, [NOW + timedelta(hours=1)]

    def meanwhile(*of: Any) -> Path:
        if newer:
            backed_up.back_up(newer.pop())
        return fetch(*of)

    monkeypatch.setattr(fetching, "fetch", meanwhile)
    assert tried(backed_up).passed
    newer += [NOW + timedelta(hours=hours) for hours in (5, 4, 3, 2)]
    for row in recorded(backed_up.box):
        _flip(tmp_path / "usb" / "objects" / row.object_id[:2] / f"{row.object_id}.sealed")
    assert not tried(backed_up).passed
    assert newer, "it does not go on for ever"
    with backed_up.box.catalog.reading() as conn:
        outcomes = [each.passed for each in drill.certificates(conn, backed_up.box)]
    assert outcomes == [False, True], "one record a drill"


def test_an_archive_that_passes_does_not_hide_one_that_does_not(backed_up: Clinic, tmp_path: Path) -> None:
    (tmp_path / "zip").mkdir()
    other = DestinationSettings("zip", "vault", "ciphertext", {"path": str(tmp_path / "zip")})
    with backed_up.box.catalog.transaction() as tx:
        destinations.add(tx, other)
    with pytest.raises(Unknown, match="no backup"):
        Schedule().drill(backed_up.box, NOW)
    with backed_up.box.catalog.reading() as conn:
        passed, failed = (
            attempt(settings.get(conn, f"{DRILL}.{name}")) for name in (backed_up.place.name, "zip")
        )
    assert passed is not None and failed is not None
    assert (passed.outcome, passed.succeeded_utc) == (Outcome.SUCCEEDED, NOW)
    assert (failed.outcome, failed.succeeded_utc) == (Outcome.FAILED, None)
    assert "zip" in failed.reason


def test_a_drill_comes_to_an_end_when_the_process_does(backed_up: Clinic) -> None:
    assert tried(backed_up, NOW - timedelta(days=7)).passed
    schedule = Schedule()
    schedule.interrupt()
    with pytest.raises(Transient, match="interrupted"):
        schedule.drill(backed_up.box, NOW)
    with backed_up.box.catalog.reading() as conn:
        told = drill.last(conn, backed_up.box, "usb")
        assert drill.is_due(conn, backed_up.box, "usb", NOW)
    assert told["outcome"] == "succeeded", "that says nothing of the backup"
