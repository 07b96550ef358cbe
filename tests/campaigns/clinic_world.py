"""The world that random histories happen in: a clinic's box, two disks that hold its archives, and a model of what is where.

The model is what a careful secretary would keep on paper: which image is acknowledged, on which disk it lies, which backup
remembers what, who is held, what two people have decided. It never asks the product what it should expect.
"""

from __future__ import annotations

import shutil
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance import audit
from appliance.backup import homecoming, making, restoring, snapshot
from appliance.box import open_box
from appliance.catalog import destinations, manifests, settings, studies, study_keys, tombstones
from appliance.catalog.holds import HoldKind
from appliance.catalog.tombstones import PlaceState
from appliance.errors import NotAuthorised, OperatorNeeded, Refused
from appliance.ingest.accept import accept
from appliance.ingest.awaiting import Awaiting
from appliance.ingest.sealing import Announced, Buffers, Sealing
from appliance.lifecycle import destruction, holds, purging, retention, rotation, scrub
from appliance.lifecycle.acting import Act
from appliance.lifecycle.request import Method
from appliance.model import DestinationSettings, KeyId, ObjectId, Received
from appliance.replication import recall
from appliance.replication.batch import Counts, Errand, Held, Surroundings
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import object_key
from appliance.replication.lane import Lane
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from tests.boxes import MODALITY
from tests.campaigns.clinic_checks import opened
from tests.campaigns.clinic_fire import survivors
from tests.campaigns.clinic_places import (
    ERA,
    KEEP,
    SHELVES,
    Image,
    Remembered,
    Shelf,
    WithoutBackups,
    config_of,
    flip,
    place_of,
)
from tests.instances import EXPLICIT_LITTLE_ENDIAN, Instance

EXPECTED = (Refused, NotAuthorised)


class NothingLeft(Exception):
    """The world has ended: nothing was ever delivered, and the box is ashes."""


class World:
    """One clinic from its first day; `take` a step, then `check`."""

    def __init__(self, folder: Path) -> None:
        self.here = folder / "world"
        shutil.rmtree(self.here, ignore_errors=True)
        shutil.copytree(folder / "template", self.here)
        self.boxes = 0
        self.box = open_box(config_of(self.here / "box-0"))
        self.now = datetime.now(UTC)
        self.era = 0
        self.papers = [RecoveryKey.parse((folder / "paper").read_text())]
        self.alive: dict[ObjectId, Image] = {}
        self.limbo: dict[ObjectId, Image] = {}
        self.gone: dict[ObjectId, Image] = {}
        self.burnt: dict[ObjectId, Image] = {}
        self.rotten: set[ObjectId] = set()
        self.holds: dict[int, int] = {}
        self.requests: dict[int, dict[int, frozenset[ObjectId]]] = {}
        self.shelves = {name: Shelf() for name in SHELVES}
        self.receipts: dict[str, set[ObjectId]] = {name: set() for name in SHELVES}
        self.owed: dict[str, set[ObjectId]] = {name: set() for name in SHELVES}
        self.known = set(SHELVES)
        self.last_sent: Instance | None = None
        self.notes: Counter[str] = Counter()
        self._buffers = Buffers()

    def close(self) -> None:
        self.box.close()

    def take(self, name: str, one: int, two: int) -> bool:
        """Carry out a step; False if it means nothing in this state."""
        self.now += timedelta(minutes=10)
        with self.box.catalog.transaction() as tx:
            retention.watch_clock(tx, self.now, follows_time_server=True)
        done = getattr(self, f"_{name}")(one, two)
        return done is not False

    # --- images --------------------------------------------------------------------------------------------------

    def _receive(self, one: int, two: int) -> None:
        self._send(
            Instance(
                one % 3, study=two % 4, pixel_bytes=300, patient_id=f"P{two % 4 // 2}", variant=one // 3 % 2
            )
        )

    def _again(self, one: int, two: int) -> bool:
        if self.last_sent is None:
            return False
        self._send(self.last_sent)
        return True

    def _correct(self, one: int, two: int) -> bool:
        """The same UID with other bytes."""
        if self.last_sent is None:
            return False
        self._send(replace(self.last_sent, variant=self.last_sent.variant + 1))
        return True

    def _send(self, sent: Instance) -> None:
        box = self.box
        announced = Announced(MODALITY, sent.sop_class_uid, sent.sop_instance_uid, EXPLICIT_LITTLE_ENDIAN)
        sealing = Sealing(
            announced,
            objects=box.objects,
            study_keys=box.study_keys,
            guard=box.guard,
            buffers=self._buffers,
            who="import",
        )
        sealing.write(memoryview(sent.data_set))
        header = sealing.complete()
        sealing.writer.keep()
        sealing.writer.close()
        sealing.release()
        stored = sealing.stored
        came = accept(box, [Awaiting(Received(header, MODALITY, stored, self.now))])
        self.last_sent = sent
        if came.recorded:
            self.alive[stored.object_id] = Image(stored.object_id, stored.key_id, sent, self.era)
            for name in self.known:
                self.owed[name].add(stored.object_id)
            return
        assert came.identical == 1, "it was neither recorded nor taken for what is here"
        whole = [each for each in self.here_by_account() if each.sent == sent]
        assert whole, "it was taken for an image that is not here"

    def here_by_account(self) -> list[Image]:
        """The images with a row, by our account."""
        return [*self.alive.values(), *self.limbo.values()]

    # --- archives ------------------------------------------------------------------------------------------------

    def _deliver(self, one: int, two: int) -> None:
        around = Surroundings(now=lambda: self.now + timedelta(minutes=5), jitter=lambda: 0.5)
        for name in sorted(self.known):
            if not self.shelves[name].plugged:
                continue
            lane = Lane(Errand(self.box, self.settings_of(name), around, Held(), Counts()))
            while lane.one_batch():
                pass
            for _ in range(20):
                lane.keep_documents()
                if not self._owes_documents(name):
                    break
            self._delivered(name)

    def _owes_documents(self, name: str) -> bool:
        number = self.settings_of(name).id
        with self.box.catalog.reading() as conn:
            late = self.now + timedelta(days=1)
            due = manifests.out_of_date(conn, number, quiet_since=late, written_before=late, limit=1)
            return bool(due or tombstones.owed(conn, number, 1))

    def _delivered(self, name: str) -> None:
        """What a delivery to a disk that is there must have done, by our account."""
        shelf = self.shelves[name]
        here = {each.object_id for each in self.here_by_account()}
        came = (self.owed[name] & here) - self.receipts[name]
        missing = {each for each in came if each in self.rotten or each in self.limbo}
        for object_id in came - missing:
            self.receipts[name].add(object_id)
            shelf.whole.add(object_id)
        shelf.named |= self.receipts[name] & set(self.alive)
        for image in self.gone.values():
            if image.key_id in self._destroyed_here():
                shelf.buried.add(image.key_id)

    def _destroyed_here(self) -> set[KeyId]:
        keys_ = [each.key_id for each in self.gone.values()]
        with self.box.catalog.reading() as conn:
            return study_keys.destroyed_among(conn, keys_)

    def settings_of(self, name: str) -> DestinationSettings:
        with self.box.catalog.reading() as conn:
            found = destinations.destination(conn, name)
        assert found is not None
        return found

    def _archive(self, name: str) -> Archive:
        built = build(place_of(self.here, name), None)  # type: ignore[arg-type]
        assert isinstance(built, Archive)
        return built

    def _unplug(self, one: int, two: int) -> bool:
        name = SHELVES[one % 2]
        if not self.shelves[name].plugged or not all(each.plugged for each in self.shelves.values()):
            return False
        (self.here / name).rename(self.here / f"{name}.away")
        self.shelves[name].plugged = False
        return True

    def _plug(self, one: int, two: int) -> bool:
        away = [name for name, each in self.shelves.items() if not each.plugged]
        for name in away:
            (self.here / f"{name}.away").rename(self.here / name)
            self.shelves[name].plugged = True
        return bool(away)

    def _back_up(self, one: int, two: int) -> bool:
        name = SHELVES[one % 2]
        if name not in self.known or not self.shelves[name].plugged:
            return False
        made = making.back_up(self.box, self.settings_of(name), self.now, actor="tests", keep=KEEP)
        self._remember(name, made.name)
        return True

    def _remember(self, name: str, made: str) -> None:
        self.shelves[name].backups[made] = Remembered(
            frozenset(each.object_id for each in self.here_by_account()),
            dict(self.holds),
            deepcopy(self.receipts),
            deepcopy(self.owed),
            frozenset(self.gone),
            frozenset(self.known),
        )

    # --- people --------------------------------------------------------------------------------------------------

    def _act(self, by: str = "marie") -> Act:
        return Act(by=by, now=self.now, audit_key=self.box.audit_key)

    def _row_of(self, study: int) -> int | None:
        uid = Instance(0, study=study).study_instance_uid
        with self.box.catalog.reading() as conn:
            found = [each.id for each in studies.find(conn, limit=100) if each.study_instance_uid == uid]
        return found[0] if found else None

    def _hold(self, one: int, two: int) -> bool:
        study = one % 4
        if (row := self._row_of(study)) is None:
            return False
        with self.box.catalog.transaction() as tx:
            held = holds.place(
                tx, self._act(), kind=HoldKind.LEGAL, study=row, whole_patient=False, reason="file 12"
            )
        self.holds[held.id] = study
        return True

    def _release(self, one: int, two: int) -> bool:
        if not self.holds:
            return False
        chosen = sorted(self.holds)[one % len(self.holds)]
        with self.box.catalog.transaction() as tx:
            holds.release(tx, self._act(), chosen, reason="it is over")
        del self.holds[chosen]
        return True

    def _years(self, one: int, two: int) -> bool:
        if self.era > 60:
            return False
        self.now += ERA
        self.era += 1
        with self.box.catalog.transaction() as tx:
            retention.watch_clock(tx, self.now, follows_time_server=True)
        return True

    def _ask(self, one: int, two: int) -> bool:
        """One asks, another approves; mostly they wait until it can be due."""
        wanted = sorted({one % 4, two % 4})
        if one // 4 % 4:
            self._years(one, two)
        found = {study: row for study in wanted if (row := self._row_of(study)) is not None}
        if not found:
            return False
        try:
            with self.box.catalog.transaction() as tx:
                asked = destruction.ask(
                    tx, self._act(), found.values(), method=Method.DESTROY, reason="yearly review"
                )
                destruction.approve(tx, self._act("paul"), asked.id, digest=asked.digest)
        except EXPECTED:
            self.notes["refused to ask"] += 1
            return False
        for study in found:
            assert study not in self.holds.values(), (
                f"study {study} is held, and two people could decide on it"
            )
            visits = [each.era for each in self.alive.values() if each.study // 2 == study // 2]
            assert max(visits, default=-1) < self.era, f"study {study} was due before its time"
        self.requests[asked.id] = {study: self._objects_of(study) for study in found}
        if one // 16 % 2:
            self._carry_out(one, two)
        return True

    def _objects_of(self, study: int) -> frozenset[ObjectId]:
        return frozenset(each.object_id for each in self.here_by_account() if each.study == study)

    def _withdraw(self, one: int, two: int) -> bool:
        if not self.requests:
            return False
        chosen = sorted(self.requests)[one % len(self.requests)]
        try:
            with self.box.catalog.transaction() as tx:
                destruction.withdraw(tx, self._act(), chosen, reason="a mistake")
        except Refused:
            pass  # it has ended
        del self.requests[chosen]
        return True

    def _carry_out(self, one: int, two: int) -> None:
        """The jobs do what can be done now, and the courier after them, as often as it takes."""
        with self.box.catalog.transaction() as tx:
            destruction.expire(tx, self._act("jobs"))
        for _ in range(3):
            purging.carry_out(self.box, self.now)
            self._buried()
            self._shredded()
            self._deliver(one, two)

    def _buried(self) -> None:
        """Which studies are gone now, and whether they might."""
        permitted = {study: objects for each in self.requests.values() for study, objects in each.items()}
        for study in {each.study for each in self.alive.values()}:
            if self._row_of(study) is not None:
                continue
            assert study in permitted, f"study {study} was destroyed, and nobody has decided it"
            assert study not in self.holds.values(), f"study {study} is held, and was destroyed"
            assert self._objects_of(study) == permitted[study], (
                f"study {study} has changed, and was destroyed"
            )
            self._move_to_gone(self._objects_of(study))
            self.notes["destroyed"] += 1
            for each in self.requests.values():
                each.pop(study, None)

    def _move_to_gone(self, objects: frozenset[ObjectId] | set[ObjectId]) -> None:
        for object_id in objects:
            image = self.alive.pop(object_id, None) or self.limbo.pop(object_id)
            self.gone[object_id] = image
            self.rotten.discard(object_id)
            for shelf in self.shelves.values():
                if shelf.plugged:
                    shelf.whole.discard(object_id)

    def _shredded(self) -> None:
        """Which archives say that they are done with which keys: from then on that is held against them for ever."""
        with self.box.catalog.reading() as conn:
            for certificate in tombstones.certificates(conn):
                digests = {each.digest for each in tombstones.studies_of(conn, certificate.id)}
                of_it = {
                    image.key_id
                    for image in self.gone.values()
                    if (known := tombstones.was_destroyed(conn, image.sent.study_instance_uid)) is not None
                    and known[0].id == certificate.id
                    and known[1].digest in digests
                }
                for place in tombstones.places(conn, certificate.id):
                    if place.state is PlaceState.DONE and place.name in self.shelves:
                        if of_it - self.shelves[place.name].done:
                            self.notes["archive done"] += 1
                        self.shelves[place.name].done |= of_it
        for name, shelf in self.shelves.items():
            if not shelf.plugged:
                continue
            there = snapshot.names_in([each.key for each in self._archive(name).documents(snapshot.PREFIX)])
            for old in set(shelf.backups) - set(there):
                del shelf.backups[old]
            for new in set(there) - set(shelf.backups):
                self._remember(name, new)

    # --- fire ----------------------------------------------------------------------------------------------------

    def _burn(self, one: int, two: int) -> bool:
        return self._burned(SHELVES[one % 2], backups=True)

    def _burn_without_backups(self, one: int, two: int) -> bool:
        return self._burned(SHELVES[one % 2], backups=False)

    def _burned(self, name: str, *, backups: bool) -> bool:
        """The box is gone; a blank one is made the same again from one archive and the newest paper."""
        shelf = self.shelves[name]
        if not shelf.plugged:
            return False
        self.box.close()
        shutil.rmtree(self.here / f"box-{self.boxes}")
        self.boxes += 1
        config, archive = config_of(self.here / f"box-{self.boxes}"), self._archive(name)
        from_ = archive if backups else WithoutBackups(archive)
        try:
            told = restoring.restore(
                config, from_, place_of(self.here, name), self.papers[-1], tell=lambda *_: None, actor="tests"
            )
        except (OperatorNeeded, Refused):
            # No slot of that paper, or nothing at all, is there yet.
            held = shelf.named or (backups and shelf.backups)
            assert not held, "there is something to restore from, and it is refused"
            raise NothingLeft from None
        self.box = open_box(config)
        survivors(self, name, told.snapshot.name if told.snapshot else "", backups=backups)
        return True

    def _home(self, one: int, two: int) -> bool:
        with self.box.catalog.reading() as conn:
            if homecoming.under_way(conn) is None:
                return False
        homecoming.bringing_home(self.box, self.now, keep_going=lambda: True)
        return True

    # --- keys ----------------------------------------------------------------------------------------------------

    def _rotate_paper(self, one: int, two: int) -> None:
        folder = self.box.config.data.absolute() / "keys"
        fresh = keys.rotate(folder, self.box.root)
        keys.check_recovery(folder, self.box.root, str(fresh))
        self.papers.append(fresh)
        self._deliver(one, two)  # the new slot reaches the archives with the next documents

    def _rotate_root(self, one: int, two: int) -> None:
        entry = audit.Entry("key:rotate-root", "root key", "tests")
        rotation.rotate(self.box, str(self.papers[-1]), entry, self.now)
        rotation.finish(self.box, self.now)

    # --- rot -----------------------------------------------------------------------------------------------------

    def _rot(self, one: int, two: int) -> bool:
        """A bit flips in an object on the box that an archive has whole."""
        known = [shelf for name, shelf in self.shelves.items() if name in self.known]
        found = [
            object_id
            for object_id in sorted(self.alive)
            if object_id not in self.rotten
            and recall.is_here(self.box, object_id)
            and any(
                object_id in self.shelves[name].whole and object_id in self.receipts[name]
                for name in self.known
            )
        ]
        if not found or not known:
            return False
        chosen = found[one % len(found)]
        flip(self.box.objects.path(chosen), two)
        self.rotten.add(chosen)
        return True

    def _rot_archive(self, one: int, two: int) -> bool:
        """A bit flips in an object on a disk, whose box has it whole."""
        name = SHELVES[one % 2]
        shelf = self.shelves[name]
        if not shelf.plugged or name not in self.known:
            return False
        found = [
            object_id
            for object_id in sorted(shelf.whole & set(self.alive) & self.receipts[name] - self.rotten)
            if recall.is_here(self.box, object_id)
        ]
        if not found:
            return False
        chosen = found[two % len(found)]
        flip(self.here / name / object_key(chosen), one)
        shelf.whole.discard(chosen)
        return True

    def _scrub(self, one: int, two: int) -> None:
        with self.box.catalog.transaction() as tx:
            if isinstance(told := settings.get(tx, scrub.STANDING), dict):  # from the first object on
                settings.put(tx, scrub.STANDING, {**told, "cursor": 0, "manifest_cursor": 0}, self.now)
        scrub.scrub(self.box, self.now, most=1000)
        for object_id in sorted(self.rotten):
            whole = [
                name
                for name in self.known
                if object_id in self.shelves[name].whole and object_id in self.receipts[name]
            ]
            if any(self.shelves[name].plugged for name in whole):
                self.rotten.discard(object_id)
        for name in self.known:
            shelf = self.shelves[name]
            if shelf.plugged:
                shelf.whole |= {
                    object_id
                    for object_id in self.receipts[name] & set(self.alive)
                    if object_id not in self.rotten and recall.is_here(self.box, object_id)
                }
                for object_id in self.receipts[name] & set(self.alive):
                    if object_id in shelf.whole:
                        path = self.here / name / object_key(object_id)
                        assert opened(self, path.read_bytes(), self.alive[object_id]) is not None, (
                            f"{object_id} is rotten on {name}, and the scrub has left it so"
                        )
