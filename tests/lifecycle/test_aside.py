"""What was set aside is the only copy of an acknowledged image: it is read again with all others, and damage is said."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import health
from appliance.box import Box
from appliance.catalog import settings
from appliance.ingest import Reception, set_aside
from appliance.lifecycle import aside, scrub, verification
from appliance.lifecycle.verification import Depth, Kind
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.boxes import send
from tests.lifecycle.test_scrub import NOW, actions, finished, flip
from tests.lifecycle.test_set_aside import OTHER, put_aside

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk


@pytest.fixture
def record(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of an image that is set aside, beside four that are not."""
    clinic.receive(*IMAGES[:4])
    clinic.deliver()
    return put_aside(clinic.box, OTHER[0], monkeypatch)


def held(box: Box, record: Path) -> Path:
    return box.objects.path(set_aside.object_of(record))


def said(clinic: Clinic) -> dict[str, str]:
    return {each.code: each.words for each in health.status(clinic.box, NOW).problems}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def alter(path: Path) -> None:
    flip(path, random.Random(8))


HARMS = {"gone": Path.unlink, "cut": cut, "a bit": alter}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_damage_to_it_is_found_by_the_box_and_counted(
    clinic: Clinic, record: Path, harm: Callable[[Path], None]
) -> None:
    harm(held(clinic.box, record))
    found = finished(clinic)
    assert (found["checked"], found["lost"], found["aside"]) == (4, [], [set_aside.object_of(record)])
    assert actions(clinic).count("instance:corrupt") == 1
    assert "damaged: 1" in said(clinic)["set-aside"]
    assert "1 stored images" in said(clinic)["damaged"]
    scrub.scrub(clinic.box, NOW, most=1)
    assert "damaged" in said(clinic), "as long as it is not found whole"


@pytest.mark.parametrize("depth", Depth)
def test_one_that_is_whole_is_no_finding(clinic: Clinic, record: Path, depth: Depth) -> None:
    assert finished(clinic)["aside"] == []
    found = verification.verify(clinic.box, depth, actor="tests")
    assert (found.checked, found.findings) == (5, ())
    assert "damaged" not in said(clinic)
    assert record.exists()


@pytest.mark.parametrize(
    ("harm", "kind"), [(Path.unlink, Kind.MISSING), (cut, Kind.CORRUPT), (alter, Kind.CORRUPT)]
)
def test_a_person_who_verifies_everything_is_told(
    clinic: Clinic, record: Path, harm: Callable[[Path], None], kind: Kind
) -> None:
    harm(held(clinic.box, record))
    (found,) = verification.verify(clinic.box, Depth.EVERY_BYTE, actor="tests").findings
    assert (found.object_id, found.kind) == (set_aside.object_of(record), kind)
    assert "damaged: 1" in said(clinic)["set-aside"]
    for _ in range(3):
        scrub.scrub(clinic.box, NOW, most=2)
        assert "damaged" in said(clinic), "the pass takes it over"


def test_a_record_that_does_not_open_is_damage(clinic: Clinic, record: Path) -> None:
    alter(record)
    assert finished(clinic)["aside"] == [set_aside.object_of(record)]


def test_it_is_read_at_the_pace_of_the_scrub(clinic: Clinic, record: Path) -> None:
    rests: list[None] = []
    assert [wrong for _, wrong in aside.look_through(clinic.box, lambda: rests.append(None))] == [None]
    assert rests


def test_one_that_is_accepted_while_it_is_looked_at_is_no_finding(
    clinic: Clinic, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is when the box starts anew, where the image has come again meanwhile: then its object goes."""
    read = set_aside.read

    def late(box: Box, path: Path) -> object:
        told = read(box, path)
        monkeypatch.undo()
        reception = Reception(box, "dicom-0")
        reception.close()
        held(box, path).unlink(missing_ok=True)
        return told

    monkeypatch.setattr(set_aside, "read", late)
    assert list(aside.look_through(clinic.box)) == []
    assert not record.exists()


def test_damage_is_told_no_longer_once_it_was_accepted(
    clinic: Clinic, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = held(clinic.box, record)
    whole = path.read_bytes()
    alter(path)
    finished(clinic)
    path.write_bytes(whole)
    reception = Reception(clinic.box, "dicom-0")
    send(reception, IMAGES[9])
    reception.close()
    assert not record.exists()
    scrub.scrub(clinic.box, NOW, most=1)
    assert not {"damaged", "set-aside"} & said(clinic).keys()
    with clinic.box.catalog.reading() as conn:
        assert settings.get(conn, scrub.VERIFICATION)["damaged"] == 0
