"""How many images are damaged is right at any moment, though reading everything again takes ten days."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from appliance.box import Box
from appliance.catalog import settings
from appliance.lifecycle import pages, passes, scrub, verification
from appliance.lifecycle.passes import Pass
from appliance.lifecycle.verification import Depth
from appliance.model import ObjectId
from tests.backup.conftest import Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.boxes import recorded
from tests.lifecycle.test_scrub import NOW, actions, copies, finished, flip, objects
from tests.lifecycle.test_scrub import kept as _kept

pytestmark = pytest.mark.slow

clinic, disk, kept = _clinic, _disk, _kept


def figure(clinic: Clinic) -> int:
    """What health tells."""
    with clinic.box.catalog.reading() as conn:
        told = settings.get(conn, scrub.VERIFICATION)
    return int(told["damaged"]) if isinstance(told, dict) else 0


def hurt(clinic: Clinic, tmp_path: Any, count: int) -> None:
    """Let nobody have the first `count` images whole, as the pass comes to them."""
    rows = sorted(recorded(clinic.box), key=lambda row: row.id)[:count]
    names = {row.object_id for row in rows}
    for path in (*objects(clinic), *copies(clinic, tmp_path)):
        if path.stem in names:
            flip(path, random.Random(5))


def figures(clinic: Clinic, slices: int = 12) -> list[int]:
    """What health tells after each of so many small slices."""
    found = []
    for number in range(slices):
        scrub.scrub(clinic.box, NOW + timedelta(minutes=number), most=1)
        found.append(figure(clinic))
    return found


def test_what_a_pass_found_counts_until_the_next_one_comes_to_it(kept: Clinic, tmp_path: Any) -> None:
    hurt(kept, tmp_path, 5)
    finished(kept)
    assert figure(kept) == 5
    assert set(figures(kept)) == {5}


def test_what_is_whole_again_counts_no_longer_once_a_pass_has_come_to_it(kept: Clinic, tmp_path: Any) -> None:
    second = min(
        objects(kept),
        key=lambda path: next(row.id for row in recorded(kept.box) if row.object_id == path.stem),
    )
    whole = second.read_bytes()
    hurt(kept, tmp_path, 3)
    finished(kept)
    second.write_bytes(whole)
    assert figures(kept, 4) == [2, 2, 2, 2], "it is the first that a pass comes to"


def test_what_a_person_found_who_verified_everything_counts_until_a_pass_comes_to_it(
    kept: Clinic, tmp_path: Any
) -> None:
    """Also where the pass is past it."""
    scrub.scrub(kept.box, NOW, most=4)
    hurt(kept, tmp_path, 6)
    assert len(verification.verify(kept.box, Depth.EVERY_BYTE, actor="tests").findings) == 6
    assert set(figures(kept, 16)) == {6}


def test_what_a_person_finds_whole_is_lost_no_longer(kept: Clinic, tmp_path: Any) -> None:
    before = {path: path.read_bytes() for path in objects(kept)}
    hurt(kept, tmp_path, 2)
    finished(kept)
    for path, whole in before.items():
        path.write_bytes(whole)
    verification.verify(kept.box, Depth.EVERY_BYTE, actor="tests")
    assert figure(kept) == 0
    assert set(figures(kept)) == {0}


def test_what_a_person_finds_while_a_slice_is_read_is_not_forgotten_by_its_end(kept: Clinic) -> None:
    with kept.box.catalog.reading() as conn:
        slice_of = passes.standing(conn, NOW)
    with kept.box.catalog.transaction() as tx:
        passes.verified(tx, 11, ["a", "b"], [], NOW)
    with kept.box.catalog.transaction() as tx:
        assert passes.keep(tx, slice_of.losing(ObjectId("a")), slice_of, NOW).damaged == 2
    assert figure(kept) == 2


def test_those_beyond_the_lists_are_counted(
    kept: Clinic, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty thousand are not said to be a thousand."""
    monkeypatch.setattr(passes, "MOST_LOST", 2)
    hurt(kept, tmp_path, 5)
    found = finished(kept)
    assert len(found["lost"]) == 2  # type: ignore[arg-type]
    assert figure(kept) == 5
    assert set(figures(kept, 24)) == {5}
    assert actions(kept).count("store:scrub") >= 2
    assert len(verification.verify(kept.box, Depth.EVERY_BYTE, actor="tests").findings) == 5
    assert figure(kept) == 5


def test_those_that_wait_for_an_archive_are_counted_beyond_the_lists_too(
    kept: Clinic, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "MOST_LOST", 2)
    hurt(kept, tmp_path, 5)
    (tmp_path / "usb").rename(tmp_path / "away")
    finished(kept)
    assert figure(kept) == 5
    assert set(figures(kept)) == {5}


def test_what_earlier_software_found_counts_after_an_update_too(kept: Clinic, tmp_path: Any) -> None:
    """It kept that with the end of its pass, and of the next one only what that had found so far."""
    hurt(kept, tmp_path, 5)
    finished(kept)
    scrub.scrub(kept.box, NOW, most=2)
    with kept.box.catalog.transaction() as tx:
        told = settings.get(tx, scrub.STANDING)
        fresh = ("more_lost", "more_to_mend", "lost_before", "more_before", "verified")
        old = {name: value for name, value in told.items() if name not in fresh}
        settings.put(tx, scrub.STANDING, old, NOW)
    assert set(figures(kept)) == {5}


def as_earlier_software_kept_it(clinic: Clinic) -> None:
    """It knew nothing of what was found before."""
    with clinic.box.catalog.transaction() as tx:
        told = settings.get(tx, scrub.STANDING, {})
        fresh = ("more_lost", "more_to_mend", "lost_before", "more_before", "verified", "aside")
        old = {name: value for name, value in told.items() if name not in fresh}
        settings.put(tx, scrub.STANDING, old or None, NOW)
        said = settings.get(tx, scrub.VERIFICATION)
        settings.put(
            tx, scrub.VERIFICATION, {name: said[name] for name in ("at_utc", "checked", "damaged")}, NOW
        )


@pytest.mark.parametrize("cursor", [0, 4])
def test_what_a_person_found_by_earlier_software_counts_after_an_update_too(
    kept: Clinic, tmp_path: Any, cursor: int
) -> None:
    """It kept how many they are, and no name; what lies where the pass has been counts until the next comes there."""
    if cursor:
        scrub.scrub(kept.box, NOW, most=cursor)
    hurt(kept, tmp_path, 6)
    verification.verify(kept.box, Depth.EVERY_BYTE, actor="tests")
    as_earlier_software_kept_it(kept)
    assert set(figures(kept, 30)) == {6}


def test_what_a_pass_of_earlier_software_found_counts_no_longer_where_it_is_whole_again(
    kept: Clinic, tmp_path: Any
) -> None:
    """Its names are known, however many it had said that they are."""
    whole = {path: path.read_bytes() for path in objects(kept)}
    hurt(kept, tmp_path, 2)
    finished(kept)
    for path, content in whole.items():
        path.write_bytes(content)
    as_earlier_software_kept_it(kept)
    assert figures(kept, 2) == [1, 0]


def meanwhile(act: Callable[[], object], objects: int = 2) -> Callable[[], bool]:
    """`act`, once a slice has read so many objects; it goes on then."""
    left = iter([False] * objects + [True])

    def keep_going() -> bool:
        if next(left, False):
            act()
        return True

    return keep_going


def test_what_a_person_finds_while_a_pass_ends_is_not_forgotten(
    kept: Clinic, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copying the catalog takes minutes."""

    def copying(box: Box) -> tuple[str, str]:
        monkeypatch.undo()
        hurt(kept, tmp_path, 6)
        verification.verify(box, Depth.EVERY_BYTE, actor="tests")
        return pages.check(box)

    monkeypatch.setattr(pages, "check", copying)
    finished(kept)
    assert figure(kept) == 6
    assert set(figures(kept)) == {6}


def test_what_a_person_finds_whole_while_a_slice_is_read_is_lost_no_longer(
    kept: Clinic, tmp_path: Any
) -> None:
    whole = {path: path.read_bytes() for path in objects(kept)}
    hurt(kept, tmp_path, 5)
    assert scrub.scrub(kept.box, NOW, most=4).damaged == 4

    def verify() -> None:
        for path, content in list(whole.items()):
            if path != fifth:
                path.write_bytes(content)
        verification.verify(kept.box, Depth.EVERY_BYTE, actor="tests")
        assert figure(kept) == 1

    fifth = kept.box.objects.path(sorted(recorded(kept.box), key=lambda row: row.id)[4].object_id)
    found = scrub.scrub(kept.box, NOW, most=4, keep_going=meanwhile(verify))
    assert (found.lost, found.lost_before) == ((fifth.stem,), ())
    assert figure(kept) == 1


@pytest.mark.parametrize("at", [0, 5])
def test_what_is_mended_while_a_person_verifies_is_no_finding(kept: Clinic, at: int) -> None:
    """Whether the pass mends it before it was looked at or after."""
    first = kept.box.objects.path(min(recorded(kept.box), key=lambda row: row.id).object_id)
    flip(first, random.Random(5))

    def tell(done: int, total: int) -> None:
        del total
        if done == at:
            scrub.scrub(kept.box, NOW, most=2)

    found = verification.verify(kept.box, Depth.EVERY_BYTE, actor="tests", tell=tell)
    assert (found.checked, found.findings) == (len(objects(kept)), ())
    assert set(figures(kept)) == {0}


def test_those_beyond_the_lists_that_a_person_found_in_the_middle_of_a_pass_count_once(
    kept: Clinic, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names that are kept may lie where the pass has been."""
    monkeypatch.setattr(passes, "MOST_LOST", 2)
    scrub.scrub(kept.box, NOW, most=5)
    hurt(kept, tmp_path, 9)
    assert len(verification.verify(kept.box, Depth.EVERY_BYTE, actor="tests").findings) == 9
    assert set(figures(kept, 36)) == {9}


def test_those_beyond_the_lists_that_a_slice_found_while_a_person_did_count_once(
    kept: Clinic, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "MOST_LOST", 2)
    hurt(kept, tmp_path, 9)

    def verify() -> None:
        verification.verify(kept.box, Depth.EVERY_BYTE, actor="tests")

    scrub.scrub(kept.box, NOW, most=5, keep_going=meanwhile(verify))
    assert figure(kept) == 9
    assert set(figures(kept, 24)) == {9}


def test_what_was_destroyed_since_is_taken_out() -> None:
    found = Pass("now", lost=("a",), to_mend=("b",), lost_before=("c", "d")).without_any({"a", "b", "c"})
    assert (found.damaged, found.lost_before) == (1, ("d",))
