"""A new root key while everybody works: nothing fails, nothing is lost, and every backup opens with the paper of its day."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit
from appliance.backup import homecoming, making, restoring, snapshot
from appliance.box import Box
from appliance.catalog import Catalog, settings, study_keys
from appliance.errors import Corrupt, OperatorNeeded
from appliance.ingest import Reception
from appliance.lifecycle import rotation
from appliance.model import DestinationSettings
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import RECOVERY_SLOT, Document
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from tests.backup.conftest import Clinic, as_sent, clinic_in, contents, disk
from tests.boxes import box_in, config_in, send
from tests.instances import Instance

__all__ = ["disk"]  # a fixture

pytestmark = pytest.mark.slow

ENTRY = audit.Entry("key:rotate-root", "root key", "tests")


def now() -> datetime:
    return datetime.now(UTC)


def confirmed(box: Box) -> RecoveryKey:
    folder = box.config.data.absolute() / "keys"
    paper = keys.show_recovery(folder, box.root)
    keys.check_recovery(folder, box.root, str(paper))
    return paper


def rotate(box: Box, paper: RecoveryKey) -> rotation.Moved:
    rotation.rotate(box, str(paper), ENTRY, now())
    return rotation.finish(box, now())


def image(number: int, study: int) -> Instance:
    return Instance(number, study=study, pixel_bytes=2_000)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path / "data") as box:
        yield box


def test_everything_lies_under_the_new_root_key_and_reads_as_before(box: Box) -> None:
    paper = confirmed(box)
    images = [image(number, number // 2) for number in range(8)]
    reception = Reception(box, "worker")
    for each in images:
        send(reception, each)
    reception.close()
    old = keys.open_with_recovery(keys.recovery_slot(box.config.data / "keys"), paper)
    moved = rotate(box, paper)
    assert (moved.generation, moved.study_keys, moved.catalog) == (2, 4, True)
    assert contents(box) == as_sent(*images)
    with box.catalog.reading() as reading:
        assert study_keys.under_earlier(reading, 2, 10) == []
        assert audit.verify(reading, box.audit_key, None) == []
        actions = [row["action"] for row in audit.export(reading)]
    assert actions[-2:] == ["key:rotate-root", "key:rewrap"]
    assert rotation.finish(box, now()) == rotation.Moved(2, 0, False)
    # Who has the disk and a paper with its slot from before reads neither the index nor a key in it.
    with pytest.raises(OperatorNeeded, match="does not open"):
        Catalog.open(box.config.data / "catalog.db", lambda: old.derived("catalog"))


def test_a_study_key_that_was_in_memory_during_the_rotation_is_moved_afterwards(box: Box) -> None:
    paper = confirmed(box)
    reception = Reception(box, "worker")
    send(reception, image(1, 1))
    held = box.study_keys.for_study(image(2, 2).study_instance_uid)
    rotate(box, paper)
    send(reception, image(2, 2))
    reception.close()
    assert held.wrapped[2:6] == b"\0\0\0\1"
    assert rotation.finish(box, now()).study_keys >= 1
    with box.catalog.reading() as reading:
        assert study_keys.under_earlier(reading, 2, 10) == []
    assert contents(box) == as_sent(image(1, 1), image(2, 2))


def test_who_works_during_a_rotation_notices_nothing(box: Box, tmp_path: Path) -> None:
    """Three others on the same folder: one stores, one reads pictures, one asks the catalog its prepared question."""
    paper = confirmed(box)
    sent: list[Instance] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def store(other: Box) -> None:
        reception = Reception(other, "other")
        number = 0
        while not stop.is_set() or number < 10:
            number += 1
            each = image(number, number // 3)
            send(reception, each)
            sent.append(each)
        reception.close()

    def read(other: Box) -> None:
        while not stop.is_set():
            contents(other)  # opens every image to its last byte

    def ask(other: Box) -> None:
        question = other.catalog.question("SELECT count(*) FROM instances")
        while not stop.is_set():
            assert question.first(()) is not None
        question.close()

    def guarded(work: object, other: Box) -> None:
        try:
            work(other)  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - told below, in the thread of the test
            failures.append(error)

    with (
        box_in(tmp_path / "data") as one,
        box_in(tmp_path / "data") as two,
        box_in(tmp_path / "data") as three,
    ):
        working = [
            threading.Thread(target=guarded, args=each) for each in ((store, one), (read, two), (ask, three))
        ]
        for each in working:
            each.start()
        for generation in (2, 3, 4):
            assert rotate(box, paper).generation == generation
        stop.set()
        for each in working:
            each.join(100)
    assert failures == []
    rotation.finish(box, now())
    assert contents(box) == as_sent(*sent)


def test_a_backup_made_before_the_archive_has_the_new_slot_is_the_one_that_comes_back(
    tmp_path: Path,
    disk: DestinationSettings,
) -> None:
    """The same paper opens the slot of either root key: the later one must be taken, or the backup stays closed to it."""
    with clinic_in(tmp_path / "before", disk) as clinic:
        paper = confirmed(clinic.box)
        clinic.receive(image(1, 1))
        clinic.deliver()
        clinic.back_up(now() - timedelta(hours=1))
        rotation.rotate(clinic.box, str(paper), ENTRY, now())
        made = clinic.back_up()
        place = clinic.place
    archive = build(place, None)  # type: ignore[arg-type]
    assert isinstance(archive, Archive)
    slot = archive.document(RECOVERY_SLOT)
    assert keys.open_with_recovery(slot, paper).generation == 1, "the courier has written nothing since"
    restored = restoring.restore(
        config_in(tmp_path / "after"), archive, place, paper, tell=lambda *_: None, actor="tests"
    )
    assert restored.snapshot == made
    with box_in(tmp_path / "after") as box:
        assert box.root.generation == 2


class Then:
    """An archive as it was when `newest` was its newest snapshot."""

    def __init__(self, archive: Archive, newest: str, slot: bytes) -> None:
        self._archive, self._newest, self._slot = archive, newest, slot

    def documents(self, prefix: str) -> Iterator[Document]:
        for each in self._archive.documents(prefix):
            if prefix != snapshot.PREFIX or each.key.split("/")[1] <= self._newest:
                yield each

    def document(self, key: str) -> bytes:
        return self._slot if key == RECOVERY_SLOT else self._archive.document(key)

    def __getattr__(self, name: str) -> object:
        return getattr(self._archive, name)


def test_after_five_rotations_every_backup_opens_with_the_newest_paper_and_with_that_of_its_day(
    tmp_path: Path, disk: object
) -> None:
    with clinic_in(tmp_path / "before", disk) as clinic:  # type: ignore[arg-type]
        eras = list(_eras(clinic))
        newest = eras[-1][1]
        place = clinic.place
    archive = build(place, None)  # type: ignore[arg-type]
    assert isinstance(archive, Archive)
    slot = archive.document(RECOVERY_SLOT)
    leaked = keys.open_with_recovery(archive.document(snapshot.slot_key(eras[0][0])), eras[0][1])
    with pytest.raises(
        Corrupt, match="root key 2"
    ):  # an earlier paper and slot open nothing that was made since
        leaked.unseal(archive.document(snapshot.index_key(eras[1][0])), snapshot.context(eras[1][0]))
    for number, (name, paper, sent) in enumerate(eras):
        for which, key, seen in (
            ("then", paper, Then(archive, name, archive.document(snapshot.slot_key(name)))),
            ("late", paper, archive),
            ("now", newest, Then(archive, name, slot)),
        ):
            data = tmp_path / f"{which}{number}"
            restored = restoring.restore(
                config_in(data),
                seen,  # type: ignore[arg-type]
                place,
                key,
                tell=lambda *_: None,
                actor="tests",
            )
            assert restored.snapshot is not None, (which, number)
            assert restored.snapshot.name == name, (which, number)
            with box_in(data) as box:
                while homecoming.bringing_home(box, now(), keep_going=lambda: True):
                    pass
                found = contents(box)
            assert as_sent(*sent).items() <= found.items(), (which, number)


def _eras(clinic: Clinic) -> Iterator[tuple[str, RecoveryKey, list[Instance]]]:
    """Six times a backup, and between them a new paper and a new root key."""
    folder, paper, sent = clinic.box.config.data / "keys", clinic.paper, list[Instance]()
    keys.check_recovery(folder, clinic.box.root, str(paper))
    for era in range(6):
        if era:
            paper = keys.rotate(folder, clinic.box.root)
            keys.check_recovery(folder, clinic.box.root, str(paper))
            assert rotate(clinic.box, paper).generation == era + 1
        fresh = [image(10 * era + number, era * 2 + number) for number in range(2)]
        sent += fresh
        clinic.receive(*fresh)
        clinic.deliver()
        made = making.back_up(
            clinic.box, clinic.place, now() + timedelta(seconds=era), actor="tests", keep=timedelta(days=35)
        )
        yield made.name, paper, list(sent)


FINISHING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from appliance.box import open_box
from appliance.lifecycle import rotation
from appliance.model import DestinationSettings
from tests.boxes import config_in
box = open_box(config_in(Path(sys.argv[1])))
print("begins", flush=True)
rotation.finish(box, datetime.now(UTC))
print("ends", flush=True)
sys.stdin.read()
"""


def test_killed_at_any_moment_the_rest_is_gone_on_with(box: Box) -> None:
    """Kills at random moments between the first re-wrapping and the last page of the catalog."""
    paper = confirmed(box)
    images = [image(number, number) for number in range(20)]
    reception = Reception(box, "worker")
    for each in images:
        send(reception, each)
    reception.close()
    _fill(box, 3_000)
    dice = random.Random(7)
    for generation in range(2, 6):
        rotation.rotate(box, str(paper), ENTRY, now())
        child = subprocess.Popen(
            [sys.executable, "-c", FINISHING, str(box.config.data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"begins\n"
        try:
            child.wait(dice.random() * 0.4)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        child.communicate()
        with box.catalog.reading() as reading:
            assert reading.exec_driver_sql("PRAGMA quick_check").scalar() == "ok"
        rotation.finish(box, now())
        with box.catalog.reading() as reading:
            assert settings.get(reading, rotation.FINISHED) == generation
            assert study_keys.under_earlier(reading, generation, 1) == []
            assert reading.exec_driver_sql("PRAGMA quick_check").scalar() == "ok"
            assert reading.exec_driver_sql("PRAGMA cipher_integrity_check").fetchall() == []
    assert contents(box) == as_sent(*images)


def _fill(box: Box, count: int) -> None:
    """More study keys, so that there is something to be killed in."""
    from appliance.model import KeyId, Uid
    from appliance.store.study_keys import wrapping_context

    with box.catalog.transaction() as tx:
        for number in range(count):
            key_id, study = KeyId(f"{number:032x}"), Uid(f"1.2.3.{number}")
            wrapped = box.root.wrap(bytes(32), wrapping_context(key_id, study))
            study_keys.add(tx, key_id, study, wrapped, now())
