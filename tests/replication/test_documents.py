"""Whose turn it is, what one turn does, and what is counted as the archive's fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.catalog import destinations, freezes, manifests, tombstones
from appliance.catalog.errors import Unanswered
from appliance.errors import Transient
from appliance.lifecycle import purging
from appliance.replication import burial, destructions, documents, manifest
from appliance.replication.batch import Counts, Errand, Held
from appliance.replication.burial import NotYet
from appliance.replication.destinations.archive import LATER_SLOT
from appliance.replication.destinations.vault import VaultDestination
from appliance.replication.lane import Lane
from appliance.store import keys
from tests.backup.conftest import IMAGES, SOON, Clinic, clinic, disk
from tests.lifecycle.purge import GONE, LATER, approve, study_of

__all__ = ["clinic", "disk"]
pytestmark = pytest.mark.slow


@pytest.fixture
def lane(clinic: Clinic) -> Lane:
    """Served by hand; of two studies one is destroyed here, and the archive does not know of it yet."""
    clinic.receive(IMAGES[0], *GONE)
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    assert purging.carry_out(clinic.box, LATER) == 1
    return by_hand(clinic)


def by_hand(clinic: Clinic) -> Lane:
    courier = replace(clinic.box.config.courier, workers_per_destination=0)
    box = replace(clinic.box, config=replace(clinic.box.config, courier=courier))
    return Lane(Errand(box, clinic.place, SOON, Held(), Counts()))


def test_a_tombstone_that_waits_for_what_it_spares_gets_two_rounds_a_turn(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its document is looked at too: what is taken in for it goes on."""
    done: list[str] = []

    def round_of(what: str) -> Callable[..., None]:
        def act(*_: object) -> None:
            done.append(what)
            raise NotYet("there is more to take in")

        return act

    monkeypatch.setattr(destructions, "lay_tombstone", round_of("laid"))
    monkeypatch.setattr(destructions, "repeat_tombstone", round_of("looked at"))
    lane.keep_documents()
    assert done == ["laid", "looked at"]


def test_what_waits_when_a_turn_begins_waits_until_the_next(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a document would be looked at before its tombstone, which the audit would call a destruction while the archive was away."""
    done: list[str] = []
    act = burial.lay_tombstone

    def not_yet(*_: object) -> None:
        raise NotYet("there is more to take in")

    def lay(grave: burial.Grave, owed: tombstones.Owed) -> None:
        done.append("laid")
        act(grave, owed)

    with monkeypatch.context() as first:
        first.setattr(destructions, "lay_tombstone", not_yet)
        first.setattr(destructions, "repeat_tombstone", not_yet)
        lane.keep_documents()
    assert lane.documents is not None
    waiting = lane.documents._destructions._waiting
    (name,) = waiting
    waiting[name] = float("inf")
    with lane.errand.box.catalog.reading() as conn:
        due = lane.documents._destructions.due(conn)
    waiting[name] = 0.0  # its time has come, while others are laid
    monkeypatch.setattr(destructions, "repeat_tombstone", lambda *_: done.append("looked at"))
    monkeypatch.setattr(destructions, "lay_tombstone", lay)
    lane.documents._destructions.follow(lane.documents._archive(), due, lambda: False)
    assert done == []
    lane.keep_documents()
    assert done == ["laid", "looked at"]


@pytest.mark.parametrize("fails", ["owed", "lay"])
@pytest.mark.parametrize("asked", ["between", "keep"])
def test_a_catalog_that_is_busy_is_no_fault_of_the_archives(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, asked: str, fails: str
) -> None:
    """Neither where it is asked what is due, nor where it is told what was done."""

    def busy(*_: object) -> Any:
        raise Unanswered("the catalog is busy")

    monkeypatch.setattr(tombstones, fails, busy)
    assert lane.documents is not None
    if asked == "between":
        lane.documents._buried = -1e9
        lane.documents.between(lambda: None)
        assert "the catalog is busy" in caplog.text
    else:
        with pytest.raises(Unanswered, match="busy"):
            lane.keep_documents()
    assert failures(lane) == 0


def test_an_archive_that_fails_is_counted(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> Any:
        raise Transient("the disk was pulled out")

    monkeypatch.setattr(VaultDestination, "document", away)
    assert not lane.keep_documents()
    assert failures(lane) == 1


def failures(lane: Lane) -> int:
    with lane.errand.box.catalog.reading() as conn:
        return destinations.breaker(conn, lane.errand.settings.id).failures


def test_at_the_last_the_guard_lets_what_is_new_be_written_and_nothing_be_replaced(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clinic.receive(IMAGES[0])
    clinic.deliver()
    clinic.receive(GONE[0])
    clinic.deliver()
    lane = by_hand(clinic)
    now = datetime.now(UTC)
    with clinic.box.catalog.transaction() as tx:
        freezes.begin(tx, why=freezes.Why.BY_HAND, evidence={}, by="tests", now=now)
        manifests.mark_all(tx, now)
    first, last = (
        tmp_path / "usb" / manifest.key(clinic.box.root, each.study_instance_uid)
        for each in (IMAGES[0], GONE[0])
    )
    before = first.read_bytes()
    last.unlink()  # as if it had never been written
    written: list[str] = []
    put = VaultDestination.put_document

    def laid(vault: VaultDestination, key: str, data: bytes) -> None:
        written.append(key)
        put(vault, key, data)

    monkeypatch.setattr(VaultDestination, "put_document", laid)
    monkeypatch.setattr(documents, "PER_TURN", 1)
    assert lane.documents is not None
    lane.documents.keep_last()
    assert [each.rpartition("/")[2] for each in written] == [last.name]
    assert first.read_bytes() == before


def test_what_uploads_have_left_is_removed_once_an_hour_and_after_a_destruction_and_not_before_manifests(
    lane: Lane, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[float] = []
    at = 0.0
    monkeypatch.setattr(documents, "monotonic", lambda: at)

    def abort(*_: object) -> None:
        removed.append(at)

    monkeypatch.setattr(VaultDestination, "abort_obsolete", abort, raising=False)
    for at, many in ((0.0, 1), (1.0, 1), (3000.0, 1), (3601.0, 2), (3602.0, 2)):  # noqa: B007 -- the clock reads it
        lane.keep_documents()
        assert len(removed) == many, "first after the destruction, then once an hour"
    at = 7500.0
    with clinic.box.catalog.transaction() as tx:
        manifests.mark_all(tx, datetime.now(UTC) - timedelta(minutes=1))
    lane.keep_documents()
    assert len(removed) == 2, "a manifest has gone before it"
    lane.keep_documents()
    assert len(removed) == 3
    at = 12000.0
    with clinic.box.catalog.transaction() as tx:
        freezes.begin(tx, why=freezes.Why.BY_HAND, evidence={}, by="tests", now=datetime.now(UTC))
    lane.keep_documents()
    assert removed == [0.0, 3601.0, 7500.0], "nothing is removed while the guard holds"


def test_a_disk_in_anothers_place_gets_the_slot_while_the_guard_holds(clinic: Clinic, tmp_path: Path) -> None:
    """Under the name that its content gives, since what lies under the usual one may be what somebody restores by."""
    clinic.receive(IMAGES[0])
    clinic.deliver()
    lane, usb = by_hand(clinic), tmp_path / "usb"
    assert lane.documents is not None
    with clinic.box.catalog.transaction() as tx:
        freezes.begin(tx, why=freezes.Why.BY_HAND, evidence={}, by="tests", now=datetime.now(UTC))
    keys.rotate(tmp_path / "before" / "keys", clinic.box.root)
    for _ in range(2):
        lane.documents.doubt()
        lane.documents.recognise()
        (beside,) = (usb / LATER_SLOT).parent.glob(f"{Path(LATER_SLOT).name}*")
        beside.unlink()
