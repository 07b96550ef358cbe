"""After a restore nobody knows what was held since the backup: nothing is destroyed until a person has looked."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import health
from appliance import settings as operator_settings
from appliance.backup import making, snapshot
from appliance.backup.schedule import Schedule
from appliance.box import Box
from appliance.catalog import Catalog, destructions, studies
from appliance.catalog.holds import HoldKind, held_among
from appliance.errors import ApplianceError, Refused
from appliance.lifecycle import destruction, holds, memory, purging, retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.memory import Gap
from appliance.lifecycle.policy import RecordType, Starts, Status
from tests.backup.conftest import IMAGES, Clinic, clinic, disk  # noqa: F401
from tests.backup.test_restoring import restore
from tests.boxes import box_in
from tests.lifecycle.clinic import AUDIT_KEY, NOW, act
from tests.lifecycle.test_destruction import approve, ask, numbers  # noqa: F401

YESTERDAY = NOW - timedelta(days=1)


def forget(catalog: Catalog, backup_utc: datetime | None = YESTERDAY) -> None:
    """Let the box be one that was restored."""
    with catalog.transaction() as tx:
        memory.note_restored(tx, backup_utc, NOW)


def gap_of(catalog: Catalog) -> Gap | None:
    with catalog.reading() as conn:
        return memory.gap(conn)


def codes(box: Box) -> set[str]:
    return {each.code for each in health.status(box, datetime.now(UTC)).problems}


def test_nothing_is_asked_approved_or_carried_out_until_somebody_has_looked(
    catalog: Catalog,
    numbers: list[int],  # noqa: F811
) -> None:
    request, other = ask(catalog, numbers[0]), ask(catalog, numbers[1])
    approve(catalog, other)
    forget(catalog)
    for attempt in (lambda: ask(catalog, numbers[2]), lambda: approve(catalog, request)):
        with pytest.raises(Refused, match="after a restore"):
            attempt()
    with catalog.reading() as conn:
        with pytest.raises(Refused, match="after a restore"):
            destruction.refuse_if_changed(conn, other.id, numbers[1], NOW)
        assert destructions.request(conn, request.id).study_ids == (numbers[0],)
    with catalog.transaction() as tx:
        memory.look_again(tx, act())
    approve(catalog, request)
    ask(catalog, numbers[2])
    with catalog.reading() as conn:
        destruction.refuse_if_changed(conn, other.id, numbers[1], NOW)


def test_who_looks_where_nobody_asked_is_told(catalog: Catalog) -> None:
    with pytest.raises(Refused, match="nothing waits"), catalog.transaction() as tx:
        memory.look_again(tx, act())


def test_a_gap_that_nobody_looked_at_is_part_of_the_next(catalog: Catalog) -> None:
    forget(catalog, YESTERDAY)
    assert gap_of(catalog) == Gap(YESTERDAY, NOW)
    forget(catalog, NOW - timedelta(hours=1))
    assert gap_of(catalog) == Gap(YESTERDAY, NOW)
    forget(catalog, None)
    forget(catalog, YESTERDAY)
    assert gap_of(catalog) == Gap(None, NOW)


@pytest.mark.slow
def test_a_hold_that_was_placed_since_the_backup_is_asked_about(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
) -> None:
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    made = clinic.back_up()
    with clinic.box.catalog.transaction() as tx:
        (study,) = studies.find(tx, limit=9)
        holds.place(
            tx,
            Act("marie", datetime.now(UTC), clinic.box.audit_key),
            kind=HoldKind.LEGAL,
            study=study.id,
            whole_patient=False,
            reason="court file 12",
        )
    assert "holds-forgotten" not in codes(clinic.box)
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        with box.catalog.reading() as conn:
            assert not held_among(conn, [study.id]), "nothing brings it back"
            found = memory.gap(conn)
            with pytest.raises(Refused, match="after a restore"):
                memory.refuse(conn)
        assert found is not None
        assert found.since_utc == made.made_utc
        assert "holds-forgotten" in codes(box)
        assert purging.carry_out(box, datetime.now(UTC)) == 0
        with box.catalog.transaction() as tx:
            memory.look_again(tx, Act("marie", datetime.now(UTC), box.audit_key))
        assert "holds-forgotten" not in codes(box)


@pytest.mark.slow
def test_without_a_backup_no_hold_at_all_is_known(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
) -> None:
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    clinic.back_up()
    shutil.rmtree(tmp_path / "usb" / "snapshots")
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        found = gap_of(box.catalog)
        assert found is not None
        assert found.since_utc is None
        assert "holds-forgotten" in codes(box)


@pytest.mark.slow
def test_without_a_backup_nothing_is_due_until_a_province_is_chosen_and_then_by_its_law(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
) -> None:
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        now = datetime.now(UTC)
        later, marie = now + timedelta(days=365 * 60), Act("marie", now, box.audit_key)
        with box.catalog.transaction() as tx:
            retention.watch_clock(tx, later, follows_time_server=True)
            (study,) = studies.find(tx, limit=9)
            assert retention.province_of(tx) == ""
            assert retention.decided(tx, [study.id], later)[study.id].decision.status is Status.NO_RULE
            with pytest.raises(Refused, match="which province"):
                retention.choose(
                    tx, marie, RecordType.MEDICAL, Starts.LAST_ENTRY, 20, reason="a policy of ours"
                )
        assert {"holds-forgotten", "province-unknown"} <= codes(box)
        with pytest.raises(Refused, match="which province"), box.catalog.transaction() as tx:
            memory.look_again(tx, marie)
        with box.catalog.transaction() as tx:
            memory.look_again(tx, marie, "BC")
            decision = retention.decided(tx, [study.id], later)[study.id].decision
        assert (decision.status, decision.reasons[0].rule.id[:2]) == (Status.DUE, "bc")
        assert not {"holds-forgotten", "province-unknown"} & codes(box)


def test_the_province_that_every_box_begins_with_can_be_chosen_too(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        assert retention.province_of(tx) == "QC"
        memory.note_restored(tx, None, NOW)
        assert retention.province_of(tx) == ""
        memory.note_restored(tx, NOW, NOW)
        assert retention.province_of(tx) == "", "what an earlier restore did not know"
        memory.look_again(tx, act(), "QC")
        assert retention.province_of(tx) == "QC"


def test_a_province_is_taken_only_where_none_is_known(catalog: Catalog) -> None:
    """Whoever may say that the holds are complete may not change a setting by it."""
    forget(catalog)
    with pytest.raises(Refused, match="province of the clinic is known"), catalog.transaction() as tx:
        memory.look_again(tx, act(), "BC")
    with catalog.transaction() as tx:
        assert memory.gap(tx) is not None, "nobody has looked yet"
        memory.look_again(tx, act())
        assert retention.province_of(tx) == "QC"


def test_the_guide_and_the_settings_say_which_province_it_is_too(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        memory.note_restored(tx, None, NOW)
        memory.chosen_province(tx, NOW)
        assert retention.province_of(tx) == "QC"
        with pytest.raises(Refused, match="after a restore"):
            memory.refuse(tx)
    with catalog.transaction() as tx:
        memory.note_restored(tx, None, NOW)
        operator_settings.change(tx, AUDIT_KEY, {"clinic.province": "ON"}, actor="marie", now=NOW)
        assert retention.province_of(tx) == "ON"
        with pytest.raises(Refused, match="after a restore"):
            memory.refuse(tx)


@pytest.mark.slow
def test_a_hold_is_in_a_backup_soon_and_comes_back_with_it(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
) -> None:
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    now = datetime.now(UTC)
    clinic.back_up(now)

    def made(minutes: int) -> int:
        """How many backups there are, once the duty has run so many minutes later."""
        Schedule().make(clinic.box, now + timedelta(minutes=minutes))
        archive = making.archive_at(clinic.box, clinic.place)
        return len(snapshot.names_in([each.key for each in archive.documents(snapshot.PREFIX)]))

    marie = Act("marie", now, clinic.box.audit_key)
    assert made(90) == 1, "nothing was decided"
    with clinic.box.catalog.transaction() as tx:
        (study,) = studies.find(tx, limit=9)
        placed = holds.place(
            tx, marie, kind=HoldKind.LEGAL, study=study.id, whole_patient=False, reason="court file 12"
        )
    assert made(91) == 2
    assert made(95) == 2, "it has it"
    with clinic.box.catalog.transaction() as tx:
        holds.place(tx, marie, kind=HoldKind.ACCESS, study=study.id, whole_patient=True, reason="asks for it")
        holds.release(tx, marie, placed.id, reason="settled out of court")
    assert made(110) == 2, "one an hour"
    assert made(152) == 3, "for both"
    assert made(300) == 3
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box, box.catalog.reading() as conn:
        assert held_among(conn, [study.id])[study.id].kind is HoldKind.ACCESS


@pytest.mark.slow
def test_a_backup_that_fails_still_lacks_what_was_decided(
    clinic: Clinic,  # noqa: F811
    tmp_path: Path,
) -> None:
    now = datetime.now(UTC)
    clinic.back_up(now)
    with clinic.box.catalog.transaction() as tx:
        memory.decided(tx, now)
    (tmp_path / "usb").rename(tmp_path / "pulled out")
    with pytest.raises(ApplianceError):
        Schedule().make(clinic.box, now + timedelta(hours=2))
    (tmp_path / "pulled out").rename(tmp_path / "usb")
    with clinic.box.catalog.reading() as conn:
        for minutes, is_due in ((30, False), (60, True)):
            later = now + timedelta(hours=2, minutes=minutes)
            assert making.is_due(conn, clinic.place.name, later, timedelta(days=1)) is is_due
