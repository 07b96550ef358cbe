"""A fire in the middle of a destruction: the box that came back from a backup of before owes every archive the rest of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance import audit
from appliance.backup import snapshot
from appliance.box import Box
from appliance.catalog import destinations, obeying, tombstones
from appliance.catalog.destroyed_keys import Tombstone
from appliance.catalog.tombstones import Certificate
from appliance.lifecycle import certificate, memory, purging
from appliance.lifecycle.acting import Act
from appliance.model import DestinationSettings
from appliance.replication.destinations.archive import object_key
from appliance.web.certificate_words import worded
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import archive_of, bring_home, restore
from tests.boxes import box_in
from tests.campaigns.clinic_places import WithoutBackups
from tests.lifecycle.purge import GONE, LATER, Secrets, approve, owed, secrets_of, study_of
from tests.lifecycle.test_away import lies_on
from tests.lifecycle.test_away import zip_disk as _zip_disk

pytestmark = pytest.mark.slow

clinic, disk, zip_disk = _clinic, _disk, _zip_disk


@pytest.fixture
def midway(clinic: Clinic) -> tuple[Clinic, Secrets]:
    """The tombstone lies in the archive, and the backup that remembers the patient still opens."""
    clinic.receive(*IMAGES[:2], *GONE)
    clinic.deliver()
    clinic.back_up()
    secrets = secrets_of(clinic.box, GONE[0])
    approve(clinic.box, secrets.row.id)
    assert purging.carry_out(clinic.box, LATER) == 1
    clinic.deliver_until(lambda: not owed(clinic))
    assert len(keys_in(clinic.place)) == 1
    return clinic, secrets


@contextmanager
def back(data: Path, clinic: Clinic, restored: Callable[[], object] | None = None) -> Iterator[Clinic]:
    """The box that came back from the archive of `clinic`, its images home, and somebody has looked at what is held."""
    restored() if restored is not None else restore(data, clinic.place, clinic.paper)
    with box_in(data) as box:
        bring_home(box)
        with box.catalog.transaction() as tx:
            act = Act(by="marie", now=LATER, audit_key=box.audit_key)
            memory.look_again(tx, act, "QC" if memory.lacks_a_province(tx) else "")
            place = next(
                each for each in destinations.destinations(tx) if each.options == clinic.place.options
            )
        yield Clinic(box, place, clinic.paper)


def keys_in(place: DestinationSettings) -> list[bytes]:
    """The keys of backups that lie in an archive and were not written over."""
    archive = archive_of(place)
    keys = [each.key for each in archive.documents(snapshot.PREFIX) if each.key.endswith("/key")]
    return [found for each in keys if (found := archive.document(each)) != snapshot.DESTROYED]


def certificates(box: Box) -> list[Certificate]:
    with box.catalog.reading() as conn:
        return tombstones.certificates(conn)


def told(box: Box, which: Certificate) -> dict[str, Any]:
    with box.catalog.reading() as conn:
        return certificate.document(conn, which, LATER)


def said(box: Box, action: str) -> list[dict[str, Any]]:
    with box.catalog.reading() as conn:
        return [json.loads(row["details"]) for row in audit.export(conn) if row["action"] == action]


def test_no_certificate_after_a_fire_has_the_number_of_one_before_it(
    midway: tuple[Clinic, Secrets], tmp_path: Path
) -> None:
    (before,) = certificates(midway[0].box)
    assert before.label == f"D-{LATER.year}-0001", "a box that never came back counts, and no more"
    with back(tmp_path / "after", midway[0]) as after:
        approve(after.box, study_of(after.box, IMAGES[0]).id)
        assert purging.carry_out(after.box, LATER) == 1
        labels = [each.label for each in certificates(after.box)]
        assert len(labels) == 2 and before.label not in labels
        with after.box.catalog.reading() as conn:
            assert [tombstones.certificate(conn, each).label for each in labels] == labels


def test_a_destruction_that_a_fire_has_cut_is_carried_to_its_end(
    midway: tuple[Clinic, Secrets], tmp_path: Path
) -> None:
    clinic, _ = midway
    (old,) = keys_in(clinic.place)
    with back(tmp_path / "after", clinic) as after:
        assert contents(after.box) == as_sent(*IMAGES[:2])
        (begun,) = certificates(after.box)
        assert (begun.completed_utc, begun.authority["found_as"]) == (None, certificates(clinic.box)[0].label)
        purging.carry_out(after.box, LATER)
        assert old in keys_in(clinic.place), "its tombstone is seen to first"
        after.deliver_until(lambda: lies_on(after.box, clinic.place.name))
        purging.carry_out(after.box, LATER)
        assert old not in keys_in(clinic.place) and len(keys_in(clinic.place)) == 1
        (done,) = certificates(after.box)
        assert done.completed_utc is not None
        document = told(after.box, done)
        assert [each["state"] for each in (document["this_box"], *document["archives"])] == ["DONE", "DONE"]
        assert [each["images"] for each in document["studies"]] == [len(GONE)]
        assert document["archives"][0]["older_backups"] == 1
        assert [each["as"] for each in said(after.box, "destruction:find")] == [begun.authority["found_as"]]
        with after.box.catalog.reading() as conn:
            back_again = tombstones.returning(conn, [GONE[0].study_instance_uid])
        assert list(back_again.values()) == [begun.label], "images of it that come again are told of"
    with back(tmp_path / "third", clinic) as third:
        assert [each.completed_utc is None for each in certificates(third.box)] == [True], (
            "it is not found again"
        )


def test_an_archive_that_was_away_owes_its_part_after_a_fire_too(
    clinic: Clinic, zip_disk: DestinationSettings, tmp_path: Path
) -> None:
    """All of it: the backups there, which the other archive has nothing to do with, and the sealed files."""
    clinic.back_up()
    with clinic.box.catalog.reading() as conn:
        second = destinations.destination(conn, "zip")
    assert second is not None
    Clinic(clinic.box, second, clinic.paper).back_up()
    secrets = secrets_of(clinic.box, GONE[0])
    clinic.back_up()  # this one knows of the backup in the other
    (tmp_path / "zip").rename(tmp_path / "zip away")
    approve(clinic.box, secrets.row.id)
    assert purging.carry_out(clinic.box, LATER) == 1
    clinic.deliver_until(lambda: lies_on(clinic.box, "usb"))
    with back(tmp_path / "after", clinic) as after:
        after.deliver_until(lambda: lies_on(after.box, "usb"))
        purging.carry_out(after.box, LATER)
        (waits,) = certificates(after.box)
        assert waits.completed_utc is None
        states = {each["name"]: each["state"] for each in told(after.box, waits)["archives"]}
        assert states == {"usb": "DONE", "zip": "OWED"}
        (tmp_path / "zip away").rename(tmp_path / "zip")
        (old,) = keys_in(zip_disk)
        after.deliver_until(lambda: lies_on(after.box, "zip"))
        purging.carry_out(after.box, LATER)
        assert certificates(after.box)[0].completed_utc is not None
        assert old not in keys_in(zip_disk)
    for object_id in secrets.objects:
        assert not (tmp_path / "zip" / object_key(object_id)).exists()


def test_what_a_box_finds_that_came_back_without_a_backup_ends_by_itself(
    midway: tuple[Clinic, Secrets], tmp_path: Path
) -> None:
    """It knows nothing of the study but its keys, and not what was done: each archive shows it, once."""
    clinic, _ = midway
    data = tmp_path / "after"
    only_manifests: Any = WithoutBackups(archive_of(clinic.place))
    with back(data, clinic, lambda: restore(data, clinic.place, clinic.paper, only_manifests)) as after:
        (begun,) = certificates(after.box)
        document = told(after.box, begun)
        assert (document["studies"], document["authority"]["unknown"]) == ([], 1)
        after.deliver_until(
            lambda: bool(purging.carry_out(after.box, LATER) or certificates(after.box)[0].completed_utc)
        )
        assert len(keys_in(clinic.place)) == 1, "of the backup that was made since"
        purging.carry_out(after.box, LATER)
        assert len(certificates(after.box)) == 1


def test_what_was_destroyed_by_one_certificate_is_found_as_one_until_an_archive_has_begun(
    clinic: Clinic,
) -> None:
    clinic.receive(*IMAGES[:4], *GONE)
    first, second = (secrets_of(clinic.box, each) for each in (GONE[0], IMAGES[0]))
    marks = [Tombstone(each.keys, "D-2026-0001", LATER, each.objects) for each in (first, second)]
    with clinic.box.catalog.transaction() as tx:
        for name, each in zip("ab", marks, strict=True):
            (done,) = obeying.obey(tx, f"manifests/{name}.sealed", [each], LATER, found_in="usb")
            assert done.has_begun == (name == "a")
        (one,) = tombstones.certificates(tx)
        assert len(tombstones.studies_of(tx, one.id)) == 2
        tombstones.move(tx, one.id, clinic.place.id, tombstones.PlaceState.LAID, LATER)
        assert tombstones.found_as(tx, "D-2026-0001") is None, "its backup may have been made already"


def test_a_box_that_never_came_back_owes_nothing_on_an_archives_word(clinic: Clinic) -> None:
    """It was switched on again beside the one in its place: the backups there are not its to destroy."""
    clinic.receive(*GONE)
    secrets = secrets_of(clinic.box, GONE[0])
    with clinic.box.catalog.transaction() as tx:
        mark = Tombstone(secrets.keys, "D-2026-0001", LATER, secrets.objects)
        (done,) = obeying.obey(tx, "manifests/a.sealed", [mark], LATER)
        assert (done.certificate, [each.study for each in done.erased]) == ("", [secrets.row.id])
        assert tombstones.certificates(tx) == []


@pytest.mark.parametrize("language", ["en", "fr", "es", "zh"])
def test_the_certificate_says_where_it_was_found_and_as_what(clinic: Clinic, language: str) -> None:
    clinic.receive(*GONE)
    secrets = secrets_of(clinic.box, GONE[0])
    other = Tombstone(tuple(each[::-1] for each in secrets.keys), "D-2026-0001", LATER)  # type: ignore[misc]
    with clinic.box.catalog.transaction() as tx:
        mark = Tombstone(secrets.keys, "D-2026-0001", LATER, secrets.objects)
        obeying.obey(tx, "manifests/a.sealed", [mark, other], LATER, found_in="usb")
        (begun,) = tombstones.certificates(tx)
        signed = certificate.issue(tx, clinic.box.root, begun, LATER)
        assert certificate.verify(tx, clinic.box.root, signed).ours
        document = certificate.document(tx, begun, LATER)
    words = Languages(web_ui() / "languages").words(language)
    authority, what = worded(document, "F", words).sections[:2]
    (line,) = authority.lines
    assert "usb" in line.text and "D-2026-0001" in line.text
    assert [line.label for line in what.lines][-1] == words("destroyed.unknown")
    assert words.moment(LATER) in what.lines[0].text and len(what.lines) == 2


def test_the_list_and_the_terminal_name_the_first_certificate(clinic: Clinic) -> None:
    from appliance.cli.destructions import _row

    with clinic.box.catalog.transaction() as tx:
        mark = Tombstone((), "D-2026-0001", LATER)
        assert obeying.obey(tx, "manifests/a.sealed", [mark], LATER, found_in="usb") == (), "it names nothing"
        authority = {"found_as": "D-2026-0001", "found_in": "usb", "destroyed_utc": "", "unknown": 0}
        assert _row(tx, tombstones.begin(tx, None, authority, LATER))["found_as"] == "D-2026-0001"
