"""What an archive says was destroyed is obeyed on a box that has come back, and takes nothing that came since, whatever its clock said."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import destinations, destructions, instances, settings, study_keys, tombstones
from appliance.errors import Transient
from appliance.ingest.accept import accept
from appliance.ingest.awaiting import Awaiting
from appliance.ingest.sealing import Announced, Buffers, Sealing
from appliance.lifecycle import destruction, freezing, purging
from appliance.lifecycle.acting import Act
from appliance.lifecycle.request import State
from appliance.model import Received
from appliance.replication import manifest
from appliance.replication.destinations import Archive, build
from appliance.replication.tombstone import RESTORED, obey_tombstones
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic, contents, disk  # noqa: F401 - fixtures
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import MODALITY, box_in
from tests.instances import EXPLICIT_LITTLE_ENDIAN, Instance
from tests.lifecycle.purge import GONE, LATER, Secrets, approve, owed, secrets_of

pytestmark = pytest.mark.slow

CLOCKS = [
    timedelta(days=-3650),
    timedelta(days=-1),
    timedelta(hours=-1),
    timedelta(hours=1),
    timedelta(days=1),
    timedelta(days=3650),
]
"""How wrong the clock of a box can be."""


def receive_at(box: Box, image: Instance, now: datetime) -> None:
    """As reception does it, by a clock that says `now`."""
    announced = Announced(MODALITY, image.sop_class_uid, image.sop_instance_uid, EXPLICIT_LITTLE_ENDIAN)
    sealing = Sealing(
        announced,
        objects=box.objects,
        study_keys=box.study_keys,
        guard=box.guard,
        buffers=Buffers(),
        who="import",
    )
    sealing.write(memoryview(image.data_set))
    header = sealing.complete()
    sealing.writer.keep()
    sealing.writer.close()
    sealing.release()
    accept(box, [Awaiting(Received(header, MODALITY, sealing.stored, now))])


@pytest.fixture
def back(clinic: Clinic, tmp_path: Path) -> tuple[Clinic, Secrets, Path]:  # noqa: F811
    """A box that was restored from a backup of before a destruction, and the disk with the tombstone, which was away then."""
    clinic.receive(*GONE[:2])
    clinic.deliver()
    clinic.back_up()
    shutil.copytree(tmp_path / "usb", tmp_path / "copy")
    secrets = secrets_of(clinic.box, GONE[0])
    approve(clinic.box, secrets.row.id)
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))
    (tmp_path / "usb").rename(tmp_path / "away")
    (tmp_path / "copy").rename(tmp_path / "usb")
    restore(tmp_path / "after", clinic.place, clinic.paper)
    (tmp_path / "usb").rename(tmp_path / "copy")
    (tmp_path / "away").rename(tmp_path / "usb")
    return clinic, secrets, tmp_path / "after"


def told_by(clinic: Clinic) -> tuple[str, dict[str, object]]:  # noqa: F811
    archive = build(clinic.place, None)  # type: ignore[arg-type]
    assert isinstance(archive, Archive)
    name = manifest.key(clinic.box.root, GONE[0].study_instance_uid)
    return name, manifest.unseal(clinic.box.root, name, archive.document(name))


def test_a_box_that_came_back_learns_of_a_destruction(back: tuple[Clinic, Secrets, Path]) -> None:
    clinic, secrets, data = back  # noqa: F811
    name, told = told_by(clinic)
    with box_in(data) as box:
        assert obey_tombstones(box, "usb", name, told, datetime.now(UTC))
        with box.catalog.reading() as conn:
            assert study_keys.destroyed_among(conn, secrets.keys) == set(secrets.keys)
        assert contents(box) == {}


def test_a_box_that_came_back_by_earlier_software_learns_of_it_too(
    back: tuple[Clinic, Secrets, Path],
) -> None:
    """Which did not write down what the restore brought."""
    clinic, _, data = back  # noqa: F811
    name, told = told_by(clinic)
    with box_in(data) as box:
        with box.catalog.transaction() as tx:
            restored = dict(settings.get(tx, RESTORED))
            del restored["last"]
            settings.put(tx, RESTORED, restored, datetime.now(UTC))
        assert obey_tombstones(box, "usb", name, told, datetime.now(UTC))
        assert contents(box) == {}


def test_a_tombstone_is_obeyed_only_once_the_ransomware_guard_has_let_go(
    back: tuple[Clinic, Secrets, Path],
) -> None:
    """Who can write in an archive could have laid it: nothing here is destroyed by it until a person has looked."""
    clinic, secrets, data = back  # noqa: F811
    name, told = told_by(clinic)
    with box_in(data) as box:
        bring_home_from(box, clinic)
        with box.catalog.transaction() as tx:
            act = Act("marie", LATER, box.audit_key)
            freezing.freeze(tx, act, reason="a strange message on a screen")
        with pytest.raises(Transient, match="ransomware guard"):
            obey_tombstones(box, "usb", name, told, datetime.now(UTC))
        assert contents(box) == as_sent(*GONE[:2])
        with box.catalog.reading() as conn:
            assert study_keys.destroyed_among(conn, secrets.keys) == set()
        with box.catalog.transaction() as tx:
            freezing.release(tx, act, reason="a false alarm")
        assert obey_tombstones(box, "usb", name, told, datetime.now(UTC))
        assert contents(box) == {}


def test_an_image_that_came_since_the_restore_is_kept_whatever_the_clock_said(
    back: tuple[Clinic, Secrets, Path],
) -> None:
    """The clock of a new machine may say anything: what was acknowledged after the restore is told by its row."""
    clinic, secrets, data = back  # noqa: F811
    name, told = told_by(clinic)
    came = [replace(GONE[0], number=30 + number) for number in range(len(CLOCKS))]
    with box_in(data) as box:
        for image, wrong in zip(came, CLOCKS, strict=True):
            receive_at(box, image, datetime.now(UTC) + wrong)
            assert not obey_tombstones(box, "usb", name, told, datetime.now(UTC))
        bring_home_from(box, clinic)
        assert contents(box) == as_sent(*GONE[:2], *came)
        with box.catalog.reading() as conn:
            assert study_keys.destroyed_among(conn, secrets.keys) == set()


def bring_home_from(box: Box, clinic: Clinic) -> None:  # noqa: F811
    usb = Path(str(clinic.place.options["path"]))
    usb.rename(usb.with_name("away"))
    usb.with_name("copy").rename(usb)
    bring_home(box)


def test_what_two_people_had_decided_before_a_fire_is_decided_anew(clinic: Clinic, tmp_path: Path) -> None:  # noqa: F811
    """The backup remembers an approval; that it was withdrawn since, or the study held, burned with the box."""
    clinic.receive(*GONE, *IMAGES[:2])
    clinic.deliver()
    request = approve(clinic.box, secrets_of(clinic.box, GONE[0]).row.id)
    clinic.back_up()
    with clinic.box.catalog.transaction() as tx:
        act = Act(by="paul", now=LATER, audit_key=clinic.box.audit_key)
        destruction.withdraw(tx, act, request, reason="the patient is back")
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        with box.catalog.reading() as conn:
            assert destructions.request(conn, request).state is State.EXPIRED
            assert tombstones.certificates(conn) == []
        assert purging.carry_out(box, LATER) == 0
        bring_home(box)
        assert contents(box) == as_sent(*GONE, *IMAGES[:2])


def test_a_restore_after_a_restore_still_obeys(clinic: Clinic, tmp_path: Path) -> None:  # noqa: F811
    """What an earlier restore brought says nothing of the next: the box that is made whole now has got nothing since."""
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    clinic.back_up()
    restore(tmp_path / "second", clinic.place, clinic.paper)
    with box_in(tmp_path / "second") as box:
        with box.catalog.reading() as conn:
            (place,) = destinations.destinations(conn)
        second = Clinic(box, place, clinic.paper)
        second.receive(*GONE)
        second.deliver()
        second.back_up()
        secrets = secrets_of(box, GONE[0])
        approve(box, secrets.row.id)
        purging.carry_out(box, LATER)
        second.deliver_until(lambda: not owed(second))
    restore(tmp_path / "third", clinic.place, clinic.paper)
    with box_in(tmp_path / "third") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES[:2])
        with box.catalog.reading() as conn:
            assert instances.known_among(conn, [GONE[0].sop_instance_uid]) == set()
