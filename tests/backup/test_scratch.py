"""What a cut backup, restore drill or check of the catalog's pages has left goes, opens with no key that is kept, and holds up a certificate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.backup import drill, making
from appliance.box import Box
from appliance.catalog import copying, tombstones
from appliance.errors import Corrupt
from appliance.lifecycle import pages, purging
from appliance.store import scratch
from tests.backup.conftest import IMAGES, Clinic
from tests.boxes import box_in
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, owed, study_of

NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)

Work = Callable[[Clinic, Callable[[], bool]], object]


def _back_up(clinic: Clinic, keep_going: Callable[[], bool]) -> object:
    archive = making.archive_at(clinic.box, clinic.place)
    return making.make(clinic.box, archive, NOW, keep_going=keep_going)


def _drill(clinic: Clinic, keep_going: Callable[[], bool]) -> object:
    return drill.drill(clinic.box, clinic.place, NOW, actor="tests", keep_going=keep_going)


def _check(clinic: Clinic, keep_going: Callable[[], bool]) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("appliance.pace.Pace.rest", lambda _: keep_going())
        assert pages.check(clinic.box) == ("", "")
    return None


works = pytest.mark.parametrize("work", [_back_up, _drill, _check], ids=["backup", "drill", "pages"])


def left_by_cuts(box: Box) -> list[Path]:
    """A copy of each kind, as a power cut leaves them: files, one with its journal, and a folder."""
    folder = box.config.data.absolute() / scratch.FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    key = box.root.derived("catalog")[0]
    (folder / "drill-deadbeef").mkdir()
    found = [folder / "scrub-deadbeef.db", folder / "catalog-deadbeef.db", folder / "drill-deadbeef" / "c.db"]
    for each in found:
        copying.copy(box.catalog, each, key, lambda _: None, lambda: None)
    (folder / "scrub-deadbeef.db-journal").write_bytes(b"remains")
    return [*found, folder / "scrub-deadbeef.db-journal", folder / "drill-deadbeef"]


def there(paths: list[Path]) -> list[str]:
    return [each.name for each in paths if each.exists()]


def test_a_purge_removes_what_cuts_have_left_before_its_certificate_is_complete(clinic: Clinic) -> None:
    clinic.receive(*IMAGES[:4], *GONE)
    clinic.deliver()
    left = left_by_cuts(clinic.box)
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    assert purging.carry_out(clinic.box, LATER) == 1
    assert there(left) == []
    carry_out(clinic)


def test_a_certificate_waits_for_a_copy_that_is_in_use(clinic: Clinic) -> None:
    clinic.receive(*IMAGES[:4], *GONE)
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    with scratch.place(clinic.box.config.data.absolute(), scratch.PAGES) as path:
        path.write_bytes(b"a copy that was begun before")
        for _ in range(3):
            purging.carry_out(clinic.box, LATER)
            clinic.deliver_until(lambda: not owed(clinic))
        with clinic.box.catalog.reading() as conn:
            (waiting,) = tombstones.certificates(conn, unfinished=True)
            (place,) = tombstones.places(conn, waiting.id)
        assert path.exists()
        assert place.state is tombstones.PlaceState.DONE, "nothing else waits for it"
    carry_out(clinic)


@works
def test_the_next_one_removes_what_a_cut_has_left(clinic: Clinic, work: Work) -> None:
    clinic.receive(*IMAGES[:4])
    clinic.deliver()
    clinic.back_up()
    left = left_by_cuts(clinic.box)
    work(clinic, lambda: True)
    assert there(left) == []


@works
def test_what_is_in_use_is_not_removed(clinic: Clinic, work: Work) -> None:
    clinic.receive(*IMAGES[:4])
    clinic.deliver()
    clinic.back_up()
    data = clinic.box.config.data.absolute()
    swept: list[bool] = []

    def sweep_meanwhile() -> bool:
        swept.append(scratch.sweep(data))
        return True

    work(clinic, sweep_meanwhile)
    assert set(swept) == {False}
    assert scratch.sweep(data), "it is over"
    assert [each.name for each in (data / scratch.FOLDER).iterdir()] == [".lock"], "and nothing is left of it"


def test_a_copy_whose_pages_are_checked_opens_with_no_key_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = copying.verify
    with box_in(tmp_path / "box") as box:
        kept = box.root.derived("catalog")[0]

        def tried(path: Path, key: bytes) -> None:
            with pytest.raises(Corrupt):
                verify(path, kept)
            verify(path, key)

        monkeypatch.setattr(copying, "verify", tried)
        assert pages.check(box) == ("", "")
