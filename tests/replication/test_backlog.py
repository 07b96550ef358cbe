"""While more is owed than the line takes, what the archive has already is known there: manifests and tombstones wait for no end of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.catalog import tombstones
from appliance.lifecycle import purging
from appliance.replication import documents, lane
from appliance.replication.batch import Batch, Counts, Errand, Held
from tests.backup.conftest import SOON, Clinic, as_sent, contents
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in
from tests.instances import Instance
from tests.lifecycle.purge import GONE, LATER, approve, study_of

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk
MANY = [Instance(number, study=1 + number // 2, pixel_bytes=500) for number in range(40)]


def here(folder: Path, kind: str) -> int:
    return len(list((folder / kind).rglob("*.sealed")))


class Line:
    """A lane served by hand, by a clock that only sending and writing move: however fast the machine is."""

    def __init__(
        self, clinic: Clinic, monkeypatch: pytest.MonkeyPatch, *, to_send: int | None = None
    ) -> None:
        self.what: list[str] = []
        self._start, self._seconds = datetime.now(UTC), 0.0
        self._to_send = to_send
        monkeypatch.setattr(documents, "monotonic", lambda: self._seconds)
        monkeypatch.setattr(Batch, "_sent", self._lasting(5, "sent", Batch._sent))
        keep = self._lasting(7, "kept", documents.Documents._keep_manifest)
        monkeypatch.setattr(documents.Documents, "_keep_manifest", keep)
        courier = replace(clinic.box.config.courier, workers_per_destination=0)
        box = replace(clinic.box, config=replace(clinic.box.config, courier=courier))
        around = replace(SOON, now=lambda: self._start + timedelta(seconds=self._seconds))
        self._lane = lane.Lane(Errand(box, clinic.place, around, Held(), Counts()))

    def drain(self) -> None:
        """Send until nothing is left, or what was `to_send` is."""
        while self.what.count("sent") != self._to_send and self._lane.one_batch():
            pass

    def _lasting(self, seconds: float, name: str, plain: Callable[..., object]) -> Callable[..., object]:
        def act(*given: object) -> object:
            self._seconds += seconds
            result = plain(*given)
            self.what.append(name)
            if self.what.count("sent") == self._to_send:
                self._lane.stop()
            return result

        return act


def test_a_fire_while_a_backlog_drains_leaves_what_the_archive_has(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clinic.receive(*MANY)
    Line(clinic, monkeypatch, to_send=30).drain()
    assert here(tmp_path / "usb", "objects") == 30, "it was to burn in the middle"
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        found = contents(box)
    assert len(found) >= 15, "half of what the archive has"
    assert found.items() <= as_sent(*MANY).items()


def test_documents_leave_the_line_its_share(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a manifest takes, and however many are due."""
    clinic.receive(*MANY)
    line = Line(clinic, monkeypatch)
    line.drain()
    what = line.what
    assert what.count("sent") == len(MANY)
    first, last = what.index("kept"), len(what) - what[::-1].index("sent")
    assert what[:first].count("sent") * 5 <= 2 * documents.MANIFEST_LONGEST_SECONDS
    assert 7 * what[:last].count("kept") <= 5 * len(MANY) + 7, "at most half, and the last of a turn"
    assert what.count("kept") >= 10


def test_a_destruction_waits_for_no_backlog(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clinic.receive(*GONE)
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    assert purging.carry_out(clinic.box, LATER) == 1
    clinic.receive(*MANY)
    Line(clinic, monkeypatch, to_send=3).drain()
    with clinic.box.catalog.reading() as conn:
        assert not tombstones.owed(conn, clinic.place.id, 1)
    assert here(tmp_path / "usb", "objects") < len(MANY)
