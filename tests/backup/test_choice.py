"""Which backup is restored: the newest, or the one that somebody has named, and what comes back beside an older one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import choice, rebuilding, restoring, snapshot
from appliance.backup.restoring import Restored
from appliance.backup.snapshot import Contents, Index
from appliance.catalog import erasure, studies, study_keys
from appliance.errors import Corrupt, OperatorNeeded, Unknown
from appliance.lifecycle import purging
from tests.backup.conftest import Clinic, as_sent, clinic, contents, disk  # noqa: F401 - fixtures
from tests.backup.test_restoring import archive_of, bring_home, restore
from tests.boxes import box_in, config_in
from tests.instances import Instance
from tests.lifecycle.purge import GONE, LATER, approve, owed, secrets_of

NOW = datetime.now(UTC)
MANY = [Instance(number, study=number, pixel_bytes=300) for number in range(24)]


def restore_by_name(data: Path, clinic: Clinic, name: str) -> Restored:  # noqa: F811
    archive = archive_of(clinic.place)
    return restoring.restore(
        config_in(data), archive, clinic.place, clinic.paper, tell=lambda *_: None, actor="tests", backup=name
    )


def empty(clinic: Clinic, most: int) -> None:  # noqa: F811
    """What whoever has the box can do: the studies are out of its index, and no tombstone says so."""
    with clinic.box.catalog.transaction() as tx:
        for each in studies.find(tx, limit=most):
            erasure.erase(tx, each.id, NOW)


# --- what may be an emptied box ----------------------------------------------------------------------------------------


def index(number: int, held: int) -> Index:
    made = NOW - timedelta(days=number)
    witness = f"{100 - number}:{'00' * 32}"
    contents_ = Contents(held, held, held)
    return Index(snapshot.new_name(made, "0" * 8), made, "0.1.0", "0001", (), contents_, witness)


@pytest.mark.parametrize(
    ("held", "fullest"),
    [
        ((), None),
        ((400,), None),
        ((400, 400, 390), None),
        ((200, 400), None),
        ((199, 400), 1),
        ((3, 3, 2, 400, 390), 3),  # it was emptied days ago, and has made backups since
        ((400, 3, 400), None),  # the newest is whole again
        ((0, 20), None),  # so few may well go in a day
        ((0, 21), 1),
    ],
)
def test_the_newest_is_said_to_be_shrunk_where_another_held_more_than_twice_as_much(
    held: tuple[int, ...], fullest: int | None
) -> None:
    backups = [index(number, each) for number, each in enumerate(held)]
    expected = None if fullest is None else backups[fullest]
    assert choice.shrunk(backups) is expected


def test_a_shrunk_one_is_taken_by_its_name_alone_and_the_names_are_told() -> None:
    newest, before = index(0, 3), index(1, 400)
    known = {each.name: each for each in (newest, before)}
    with pytest.raises(OperatorNeeded, match="may have been emptied") as refused:
        choice.chosen([*known], known, "")
    assert f"{before.name} (400 studies)" in (refused.value.hint or "")
    assert choice.chosen([*known], known, newest.name) == [newest.name]
    with pytest.raises(Unknown, match="there is no backup 2026 here") as unknown:
        choice.chosen([*known], known, "2026")
    assert newest.name in (unknown.value.hint or "")


def test_one_that_says_nothing_of_itself_holds_up_no_restore() -> None:
    newest, before = index(0, 400), index(1, 400)
    assert choice.chosen([newest.name, before.name], {before.name: before}, "") == [newest.name, before.name]
    newer = replace(newest, revision="r9999", contents=Contents(0, 0, 0))
    known = {newer.name: newer, before.name: before}
    assert choice.chosen([*known], known, "") == [*known], "that newer software is needed is said instead"


# --- what comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_box_that_was_emptied_comes_back_from_the_backup_before_with_all_that_came_since(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
) -> None:
    clinic.receive(*MANY[:22])
    clinic.deliver()
    good = clinic.back_up(NOW - timedelta(hours=2)).name
    clinic.receive(MANY[22])
    clinic.deliver()
    empty(clinic, 100)
    emptied = clinic.back_up(NOW - timedelta(hours=1)).name
    clinic.receive(MANY[23])
    clinic.deliver()
    with pytest.raises(OperatorNeeded, match="0 studies, and another holds 22"):
        restore(tmp_path / "after", clinic.place, clinic.paper)
    restored = restore_by_name(tmp_path / "after", clinic, good)
    assert restored.snapshot is not None
    assert restored.snapshot.name == good
    assert (restored.instances, restored.rebuilt.instances, restored.rebuilt.destroyed) == (24, 2, 0)
    with box_in(tmp_path / "after") as box:
        bring_home(box, most=100)
        assert contents(box) == as_sent(*MANY)
        assert emptied != good
        place = replace(clinic.place)
        again = Clinic(box, place, clinic.paper).back_up(NOW)
        newest = choice.look(archive_of(place), clinic.paper).snapshots[0]
        assert newest.name == again.name, "the next backup is the newest, and is taken without a name"
        assert newest.contents.studies == 24


@pytest.mark.slow
def test_what_was_destroyed_since_stays_destroyed_in_an_older_backup(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
) -> None:
    clinic.receive(*MANY[:3], *GONE)
    clinic.deliver()
    older = clinic.back_up(NOW - timedelta(hours=2)).name
    secrets = secrets_of(clinic.box, GONE[0])
    approve(clinic.box, secrets.row.id)
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))
    newer = clinic.back_up(NOW - timedelta(hours=1))
    assert newer.contents.studies == 3
    restored = restore_by_name(tmp_path / "after", clinic, older)
    assert restored.snapshot is not None
    assert (restored.snapshot.contents.studies, restored.studies, restored.rebuilt.destroyed) == (4, 3, 1)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*MANY[:3])
        with box.catalog.reading() as conn:
            assert study_keys.destroyed_among(conn, secrets.keys) == set(secrets.keys)


@pytest.mark.slow
def test_in_the_place_of_a_chosen_one_no_other_is_taken(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
) -> None:
    clinic.receive(*MANY[:2])
    clinic.deliver()
    older = clinic.back_up(NOW - timedelta(hours=2)).name
    newer = clinic.back_up(NOW - timedelta(hours=1)).name
    with pytest.raises(Unknown, match="there is no backup nothing here"):
        restore_by_name(tmp_path / "after", clinic, "nothing")
    archive_of(clinic.place).put_document(snapshot.piece_key(older, 0), b"rotten")
    with pytest.raises(Corrupt, match=f"the backup {older} can't be restored"):
        restore_by_name(tmp_path / "after", clinic, older)
    assert not (tmp_path / "after" / "catalog.db").exists()
    restored = restore_by_name(tmp_path / "after", clinic, newer)
    assert restored.snapshot is not None
    assert restored.snapshot.name == newer


@pytest.mark.slow
def test_an_attempt_that_was_cut_begins_anew_when_another_backup_is_chosen(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clinic.receive(MANY[0])
    clinic.deliver()
    older = clinic.back_up(NOW - timedelta(hours=2)).name
    clinic.receive(MANY[1])
    clinic.deliver()
    newer = clinic.back_up(NOW - timedelta(hours=1)).name

    class Cut(Exception):
        pass

    def cut(*_: object, **__: object) -> None:
        raise Cut

    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr(rebuilding, "rebuild", cut)
        restore_by_name(tmp_path / "after", clinic, newer)
    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr(rebuilding, "rebuild", cut)
        restore_by_name(tmp_path / "after", clinic, older)
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.snapshot is not None
    assert restored.snapshot.name == older, "and goes on with it where none is named"
    assert restored.instances == 2
