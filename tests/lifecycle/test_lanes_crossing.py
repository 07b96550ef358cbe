"""Backup, drill and destruction have a lane each (`duties.THREADS`): what one of them does while another is at the same archive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance import health
from appliance.backup import drill, snapshot, standing
from appliance.backup.schedule import Schedule
from appliance.catalog import tombstones
from appliance.catalog.tombstones import PlaceState
from appliance.duties import THREADS
from appliance.lifecycle import purging
from appliance.replication.destinations.archive import Document
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.lifecycle.purge import GONE, LATER, MARKERS, approve, owed, secrets_of, study_of
from tests.lifecycle.test_purging import archive_of, assert_unreadable, readable_in

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk

SOON = datetime.now(UTC) + timedelta(days=2)
SECONDS = 120
"""After which a test that hangs fails; nothing is steered by it."""


@pytest.fixture
def decided(clinic: Clinic) -> Clinic:
    """One with a backup, in which two people have decided on a study."""
    clinic.receive(*IMAGES, *GONE)
    clinic.deliver()
    clinic.back_up()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    return clinic


class Lane(threading.Thread):
    """A lane at work: `act`, which halts where it calls `halts_at` of the archive for a key that ends so, until it may `go_on`."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._act = act
        self.halted, self._going = threading.Event(), threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._act()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failure = error
        finally:
            self.halted.set()

    def halt(self) -> None:
        """Called in the lane."""
        self.halted.set()
        assert self._going.wait(SECONDS)

    def begin(self) -> None:
        """Returns when it has halted."""
        self.start()
        assert self.halted.wait(SECONDS)
        assert self.is_alive(), "it has not come to where it halts"

    def end(self) -> None:
        self._going.set()
        self.join(SECONDS)
        assert not self.is_alive()


@contextmanager
def halting(lane: Lane, monkeypatch: pytest.MonkeyPatch, method: str, ending: str) -> Iterator[None]:
    """`lane` halts once it has called `method` of the archive for a key that ends so, the first time."""
    called, once = getattr(VaultDestination, method), [lane]

    def call(self: VaultDestination, key: str, *of: Any) -> object:
        found = called(self, key, *of)
        if threading.current_thread() is lane and key.endswith(ending) and once:
            once.pop().halt()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(VaultDestination, method, call)
        yield


def destroy(clinic: Clinic) -> None:
    """The destruction as far as it goes now."""
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))
    purging.carry_out(clinic.box, LATER)


def state_of(clinic: Clinic) -> PlaceState:
    """How far the archive is with the certificate."""
    with clinic.box.catalog.reading() as conn:
        (certificate,) = tombstones.certificates(conn)
        (place,) = tombstones.places(conn, certificate.id)
    return place.state


def test_these_have_a_lane_each() -> None:
    assert {THREADS[lane] for lane in ("backup", "drill", "destruction")} == {1}


@pytest.mark.parametrize("read", ["index", "root.recovery", "key", "000000"])
def test_a_weekly_drill_goes_on_with_the_newest_where_a_purge_destroys_what_it_reads(
    decided: Clinic, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    box = decided.box
    (old,) = standing.look(archive_of(decided.place)).names
    weekly = Lane(lambda: Schedule().drill(box, LATER))
    with halting(weekly, monkeypatch, "document", f"{old}/{read}"):
        weekly.begin()
        destroy(decided)
        assert state_of(decided) is PlaceState.DONE
        weekly.end()
    assert weekly.failure is None
    (newest,) = standing.look(archive_of(decided.place)).names
    assert newest != old
    with box.catalog.reading() as conn:
        told = drill.last(conn, box, decided.place.name)
        found = drill.certificates(conn, box)
    assert (told["outcome"], told["reason"]) == ("succeeded", "")
    assert {each.snapshot for each in found} <= {newest, old} and all(each.passed for each in found)
    assert "drill-failed" not in {each.code for each in health.status(box, LATER).problems}


def test_a_backup_that_copied_the_catalog_before_a_destruction_does_not_outlive_it(
    decided: Clinic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is on its way all the while, and would come to its end just when the purge has looked at what lies there."""
    box, archive = decided.box, archive_of(decided.place)
    secrets = secrets_of(box, GONE[0])
    assert all(each in readable_in(archive, box.root, tmp_path) for each in (MARKERS[0], secrets.bytes_[0]))
    nightly = Lane(lambda: Schedule().make(box, SOON))
    listed = VaultDestination.documents

    def documents(self: VaultDestination, prefix: str = "") -> Iterator[Document]:
        found = [*listed(self, prefix)]
        if prefix == snapshot.PREFIX and threading.current_thread() is purge and nightly.is_alive():
            nightly.end()
        return iter(found)

    purge = threading.current_thread()
    with halting(nightly, monkeypatch, "put_document", "/000000"):
        nightly.begin()
        monkeypatch.setattr(VaultDestination, "documents", documents)
        destroy(decided)
        nightly.end()
    assert nightly.failure is None
    purging.carry_out(box, LATER)
    assert state_of(decided) is PlaceState.DONE
    assert len(standing.look(archive).names) == 1
    assert_unreadable(readable_in(archive, box.root, tmp_path), secrets)


@pytest.mark.parametrize("put", ["begun", "key"])
def test_a_backup_that_copies_the_catalog_after_a_destruction_is_none_of_the_purge_s(
    decided: Clinic, monkeypatch: pytest.MonkeyPatch, put: str
) -> None:
    """Without an index yet, nothing of it tells how old it is."""
    box, archive = decided.box, archive_of(decided.place)
    nightly = Lane(lambda: Schedule().make(box, LATER + timedelta(days=2)))

    def reached(step: str) -> None:
        if step == "drill passed":
            nightly.begin()

    purging.carry_out(box, LATER)
    decided.deliver_until(lambda: not owed(decided))
    with halting(nightly, monkeypatch, "put_document", f"/{put}"):
        purging.carry_out(box, LATER, purging.Around(reached=reached))
        assert state_of(decided) is PlaceState.DONE
        nightly.end()
    assert nightly.failure is None
    newest, of_purge = standing.look(archive).names
    for name in (newest, of_purge):
        assert drill.drill(box, decided.place, LATER, actor="tests", name=name).passed
