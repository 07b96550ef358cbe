"""The world that random histories happen in: a clinic's box, two disks that hold its archives, and a model of what is where.

Many studies live in one world, each its own life; what happens to the whole box (a delivery, a backup, years, a fire) happens to
all of them. The model is what a careful secretary would keep on paper: which image is acknowledged, on which disk it lies, which backup remembers
what, who is held, what was decided. It never asks the product what it should expect.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance import audit
from appliance.backup import homecoming
from appliance.box import open_box
from appliance.catalog import destinations, settings, studies, study_keys, tombstones
from appliance.catalog.holds import HoldKind
from appliance.errors import Corrupt, NotAuthorised, Refused
from appliance.lifecycle import destruction, holds, purging, retention, rotation
from appliance.lifecycle.acting import Act
from appliance.lifecycle.request import STANDS, Method
from appliance.model import DestinationSettings, KeyId, ObjectId
from appliance.replication import recall
from appliance.replication.batch import Counts, Errand, Held, Surroundings
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import object_key
from appliance.replication.lane import Lane
from appliance.replication.tombstone import lives
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from tests.boxes import take_in
from tests.campaigns.clinic_anonymous import Dissolved, dissolved, take_up_copies
from tests.campaigns.clinic_checks import opened, recorded_as, where
from tests.campaigns.clinic_fire import burn
from tests.campaigns.clinic_midway import RECEIPTS, burn_midway, home
from tests.campaigns.clinic_outage import back_up, outage
from tests.campaigns.clinic_places import (
    ERA,
    SHELVES,
    SIDE,
    Image,
    Remembered,
    Request,
    Shelf,
    config_of,
    copied,
    place_of,
)
from tests.campaigns.clinic_rot import rot, rot_archive, scrub_all
from tests.campaigns.clinic_shredded import all_done, destroy_until_fire, shredded
from tests.campaigns.clinic_spared import owes_manifests, take_up_spared
from tests.campaigns.clinic_tiers import evict, holding, recall_study
from tests.instances import Instance

WATCHED = timedelta(hours=1)
EXPECTED = (Refused, NotAuthorised)


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
        self.paper = RecoveryKey.parse((folder / "paper").read_text())
        self.papers = [self.paper]
        self.alive: dict[ObjectId, Image] = {}
        self.limbo: dict[ObjectId, Image] = {}
        self.gone: dict[ObjectId, Image] = {}
        self.gone_by_account: set[ObjectId] = set()
        self.burnt: dict[ObjectId, Image] = {}
        self.rotten: set[ObjectId] = set()
        self.holds: dict[int, frozenset[int]] = {}
        self.requests: dict[int, Request] = {}
        self.away: set[ObjectId] = set()
        self.shelves = {name: Shelf() for name in SHELVES}
        self.receipts: dict[str, set[ObjectId]] = {name: set() for name in SHELVES}
        self.owed: dict[str, set[ObjectId]] = {name: set() for name in SHELVES}
        self.owing: dict[KeyId, frozenset[str]] = {}
        self.ever_destroyed: set[KeyId] = set()
        self.late: set[tuple[str, ObjectId]] = set()
        self.known = set(SHELVES)
        self.last_sent: dict[int, Instance] = {}
        self.seen: dict[ObjectId, tuple[str | int, ...]] = {}
        self.studies_kept = 0
        self.pulling: tuple[str, int] | None = None
        self.notes: Counter[str] = Counter()
        self._watch_clock()

    def close(self) -> None:
        self.box.close()

    def take(self, name: str, study: int, one: int, two: int) -> bool:
        """Carry out a step, of `study` if it is one of a study; False if it means nothing in this state."""
        self.now += timedelta(minutes=10)
        if self.now - self._noted >= WATCHED or study < 0:
            self._watch_clock()
        done = getattr(self, f"_{name}")(study, one, two)
        return done is not False

    def _watch_clock(self) -> None:
        """As the job does every hour; where years have passed, somebody says that the clock is right."""
        with self.box.catalog.transaction() as tx:
            retention.watch_clock(tx, self.now, follows_time_server=True)
            if retention.clock_of(tx, self.now).doubt == "set":
                retention.trust_clock(tx, self._act())
        self._noted = self.now

    # --- images --------------------------------------------------------------------------------------------------

    def _receive(self, study: int, one: int, two: int) -> None:
        self._send(
            Instance(one % 3, study=study, side=SIDE, patient_id=f"P{study // 2}", variant=one // 3 % 2)
        )

    def _again(self, study: int, one: int, two: int) -> bool:
        if (sent := self.last_sent.get(study)) is None:
            return False
        self._send(sent)
        return True

    def _correct(self, study: int, one: int, two: int) -> bool:
        """The same UID with other bytes."""
        if (sent := self.last_sent.get(study)) is None:
            return False
        self._send(replace(sent, variant=sent.variant + 1))
        return True

    def _send(self, sent: Instance) -> None:
        stored, came = take_in(self.box, sent, self.now)
        self.last_sent[sent.study] = sent
        if came.recorded:
            first = all(
                each.sent.sop_instance_uid != sent.sop_instance_uid for each in self.here_by_account()
            )
            self.acknowledged(Image(*recorded_as(self, stored), sent, self.era, first))
            return
        assert came.identical == 1, "it was neither recorded nor taken for what is here"
        whole = [each for each in self.here_by_account() if each.sent == sent]
        assert whole, "it was taken for an image that is not here"

    def acknowledged(self, image: Image) -> None:
        """An image is here, and owed to every disk that is known."""
        self.alive[image.object_id] = image
        for name in self.known:
            self.owed[name].add(image.object_id)

    def here_by_account(self) -> list[Image]:
        """The images with a row, by our account."""
        return [*self.alive.values(), *self.limbo.values()]

    # --- archives ------------------------------------------------------------------------------------------------

    def _deliver(self, study: int, one: int, two: int) -> None:
        """To each disk, those too that are not there: that is found out, and what is owed waits."""
        later = timedelta(minutes=5)
        around = Surroundings(lambda: self.now + later, lambda: 0.5, reached=self.reached, settle_seconds=0)
        for name in sorted(self.known):
            shelf, was_there = self.shelves[name], self.shelves[name].plugged
            lane = Lane(Errand(self.box, self.settings_of(name), around, Held(), Counts()))
            for _ in range(200):
                while lane.one_batch():  # what is spared is delivered in between
                    pass
                lane.keep_documents()
                if not (shelf.plugged and self._owes_documents(name)):
                    break
            self._delivered(name, was_there=was_there)
            if shelf.plugged:  # where a root key lies that is not ours, nothing may have been laid
                shelf.papers = {self.papers.index(self.paper)} | (shelf.papers if shelf.apart else set())

    def reached(self, _: str) -> None:
        """A step of the product; a disk that is to be pulled out in the middle goes at the one that was drawn."""
        if self.pulling is None:
            return
        name, left = self.pulling
        self.pulling = (name, left - 1) if left else None
        if not left:
            self.pull(name)

    def pull(self, name: str) -> None:
        """A disk is not there any more."""
        (self.here / name).rename(self.here / f"{name}.away")
        self.shelves[name].plugged = False
        self.shelves[name].papers.add(self.papers.index(self.paper))  # it may have got its slot

    def _owes_documents(self, name: str) -> bool:
        number = self.settings_of(name).id
        with self.box.catalog.reading() as conn:
            unlooked = tombstones.unlooked(conn, number, lives(conn), 1)[1]
            return bool(tombstones.owed(conn, number, 1) or unlooked) or owes_manifests(self, name)

    def _delivered(self, name: str, *, was_there: bool) -> None:
        """What a delivery to a disk must have done, by our account, if it is there, and may have done if it was."""
        shelf = self.shelves[name]
        take_up_spared(self, name)
        here = {each.object_id for each in self.here_by_account()}
        with self.box.catalog.reading() as conn:
            told = set(conn.exec_driver_sql(RECEIPTS, (name,)).scalars())
        for object_id in (self.owed[name] & here) - self.receipts[name]:
            image = self.alive.get(object_id) or self.limbo[object_id]
            if object_id in told:
                # What a manifest brought home of which we were not sure that it was written is in limbo, with its receipt.
                assert was_there or object_id in self.limbo, (
                    f"{name} is away, and has given a receipt for {object_id}"
                )
                # A tombstone may wait there for what it spares, which opens with a later paper: that keeps no manifest back.
                assert not shelf.apart or not shelf.plugged or not owes_manifests(self, name), (
                    f"{name} takes no manifest, and has given a receipt for {object_id}"
                )
                assert self.is_whole(name, image), (
                    f"{name} has given a receipt for {object_id}, and has it not whole"
                )
                self.receipts[name].add(object_id)
                shelf.whole.add(object_id)
                self.late.discard((name, object_id))
                continue
            if (
                object_id in self.rotten
                or object_id in self.limbo
                or not self._can_be_had(object_id)
                or shelf.apart
            ):
                self.late.add((name, object_id))  # it is tried again by and by, at a time that we leave open
            if shelf.plugged:
                assert (name, object_id) in self.late, (
                    f"{object_id} could be delivered to {name}, and was not"
                )
        if not shelf.plugged or (shelf.apart and self._owes_documents(name)):
            shelf.vague = self.receipts[name] & set(self.alive) - shelf.named
            return
        shelf.named |= self.receipts[name] & set(self.alive)
        shelf.vague = set()
        if self._owes_documents(name):  # a tombstone waits for what it spares
            return
        unburied = {each.key_id for each in (*self.gone.values(), *self.burnt.values())} - shelf.buried
        with self.box.catalog.reading() as conn:
            shelf.buried |= study_keys.destroyed_among(conn, sorted(unburied))

    def _can_be_had(self, object_id: ObjectId) -> bool:
        return recall.is_here(self.box, object_id) or bool(holding(self, object_id))

    def is_whole(self, name: str, image: Image) -> bool:
        """Whether a disk has an image, by its bytes."""
        try:
            found = opened(self, (where(self, name) / object_key(image.object_id)).read_bytes(), image)
        except (FileNotFoundError, Corrupt):
            return False
        return found == image.data_set

    def settings_of(self, name: str) -> DestinationSettings:
        with self.box.catalog.reading() as conn:
            found = destinations.destination(conn, name)
        assert found is not None
        return found

    def archive(self, name: str) -> Archive:
        """A shelf as the product sees it."""
        built = build(place_of(self.here, name), None)  # type: ignore[arg-type]
        assert isinstance(built, Archive)
        return built

    def _unplug(self, study: int, one: int, two: int) -> bool:
        name = SHELVES[one % 2]
        if not self.shelves[name].plugged or not all(each.plugged for each in self.shelves.values()):
            return False
        self.pull(name)
        return True

    def _outage(self, study: int, one: int, two: int) -> bool:
        return outage(self, one, two)

    def _plug(self, study: int, one: int, two: int) -> bool:
        away = [name for name, each in self.shelves.items() if not each.plugged]
        for name in away:
            (self.here / f"{name}.away").rename(self.here / name)
            self.shelves[name].plugged = True
        return bool(away)

    def _back_up(self, study: int, one: int, two: int) -> bool:
        return back_up(self, SHELVES[one % 2])

    def remember(self, name: str, made: str) -> None:
        """A backup was made: it knows what is here now."""
        self.shelves[name].backups[made] = Remembered(
            frozenset(each.object_id for each in self.here_by_account()),
            dict(self.holds),
            copied(self.receipts),
            copied(self.owed),
            frozenset(self.gone_by_account & set(self.gone)),
            frozenset(self.known),
            frozenset(self.away),
            dict(self.owing),
        )

    # --- people --------------------------------------------------------------------------------------------------

    def _act(self, by: str = "marie") -> Act:
        return Act(by=by, now=self.now, audit_key=self.box.audit_key)

    def row_of(self, study: int) -> int | None:
        """The row of a study that is here."""
        with self.box.catalog.reading() as conn:
            found = studies.study(conn, Instance(0, study=study).study_instance_uid)
        return found.id if found else None

    def is_held(self, study: int) -> bool:
        """Whether a hold falls on a study, by our account."""
        return any(study in held for held in self.holds.values())

    def _hold(self, study: int, one: int, two: int) -> bool:
        """On the study, or on its patient with what is still to come."""
        if (row := self.row_of(study)) is None:
            return False
        whole = one % 4 == 0
        kind = HoldKind.ACCESS if two % 4 == 0 else HoldKind.LEGAL
        with self.box.catalog.transaction() as tx:
            held = holds.place(tx, self._act(), kind=kind, study=row, whole_patient=whole, reason="file 12")
        self.holds[held.id] = frozenset({study, study ^ 1} if whole else {study})
        return True

    def _release(self, study: int, one: int, two: int) -> bool:
        found = sorted(number for number, held in self.holds.items() if study in held)
        if not found:
            return False
        chosen = found[one % len(found)]
        with self.box.catalog.transaction() as tx:
            holds.release(tx, self._act(), chosen, reason="it is over")
        del self.holds[chosen]
        return True

    def _years(self, study: int, one: int, two: int) -> bool:
        if self.era > 60:
            return False
        self.now += ERA
        self.era += 1
        self._watch_clock()
        return True

    def _ask(self, study: int, one: int, two: int) -> bool:
        """One asks for a study, or all of its patient, and another approves."""
        wanted = {study, study ^ 1} if one % 4 == 0 else {study}
        found = {each: row for each in sorted(wanted) if (row := self.row_of(each)) is not None}
        if not found:
            return False
        method = Method.ANONYMISE if two % 4 == 0 else Method.DESTROY
        try:
            with self.box.catalog.transaction() as tx:
                asked = destruction.ask(
                    tx, self._act(), found.values(), method=method, reason="yearly review"
                )
                destruction.approve(tx, self._act("paul"), asked.id, digest=asked.digest)
        except EXPECTED:
            self.notes["refused to ask"] += 1
            return False
        for each in found:
            assert not self.is_held(each), f"study {each} is held, and two people could decide on it"
            visits = [image.era for image in self.alive.values() if image.study // 2 == each // 2]
            assert max(visits, default=-1) < self.era, f"study {each} was due before its time"
        self.requests[asked.id] = Request(
            {each: self._objects_of(each) for each in found}, self.now + STANDS, method
        )
        return True

    def is_asked_for(self, study: int) -> bool:
        """Whether a decision to destroy a study stands, by our account."""
        return any(study in each.studies and self.now < each.until for each in self.requests.values())

    def _objects_of(self, study: int) -> frozenset[ObjectId]:
        return frozenset(each.object_id for each in self.here_by_account() if each.study == study)

    def _withdraw(self, study: int, one: int, two: int) -> bool:
        found = sorted(number for number, each in self.requests.items() if study in each.studies)
        if not found:
            return False
        chosen = found[one % len(found)]
        try:
            with self.box.catalog.transaction() as tx:
                destruction.withdraw(tx, self._act(), chosen, reason="a mistake")
        except Refused:
            pass  # it has ended
        del self.requests[chosen]
        return True

    def _carry_out(self, study: int, one: int, two: int) -> None:
        """The jobs do what can be done now, and the courier after them, as often as it takes; the box may burn before they are done."""
        with self.box.catalog.transaction() as tx:
            destruction.expire(tx, self._act("jobs"))
        if one % 8 == 5 and self.pulling is None:
            burn(self, destroy_until_fire(self, one, two), backups=True)
            return
        for _ in range(3):
            purging.carry_out(self.box, self.now, purging.Around(reached=self.reached))
            self.destroyed()
            with self.box.catalog.reading() as conn:
                is_complete = not tombstones.certificates(conn, unfinished=True)
            if is_complete:
                all_done(self)
                return
            self._deliver(study, one, two)

    def destroyed(self) -> None:
        """Take up what a run of the jobs has destroyed, here and in the archives."""
        self._buried()
        # What a copy is made of is fetched first, if it is away.
        self.away = {each for each in self.away if not recall.is_here(self.box, each)}
        shredded(self)

    def _buried(self) -> None:
        """Which studies are gone now, and whether they might."""
        permitted = {
            study: objects for each in self.requests.values() for study, objects in each.studies.items()
        }
        method = {study: each.method for each in self.requests.values() for study in each.studies}
        anonymous: list[Dissolved] = []
        with self.box.catalog.reading() as conn:
            here = set(conn.exec_driver_sql("SELECT study_instance_uid FROM studies").scalars())
        for study, uid in {each.study: each.sent.study_instance_uid for each in self.alive.values()}.items():
            if uid in here:
                continue
            assert study in permitted, f"study {study} was destroyed, and nobody has decided it"
            assert not self.is_held(study), f"study {study} is held, and was destroyed"
            assert self._objects_of(study) == permitted[study], (
                f"study {study} has changed, and was destroyed"
            )
            if method[study] is Method.ANONYMISE:
                anonymous.append(dissolved(self, study))
            self._move_to_gone(self._objects_of(study))
            self.notes[f"{method[study]}: studies"] += 1
            for each in self.requests.values():
                each.studies.pop(study, None)
        take_up_copies(self, anonymous, self._perhaps_anonymous(here, method))

    def _perhaps_anonymous(self, here: set[str], method: dict[int, Method]) -> list[Dissolved]:
        """Those gone, all in limbo, that were to become anonymous: by that decision, or an older one. None stands any more."""
        found = []
        for study, uid in {each.study: each.sent.study_instance_uid for each in self.limbo.values()}.items():
            if uid in here:
                continue
            if method.get(study) is Method.ANONYMISE:
                found.append(dissolved(self, study))
            for each in self.requests.values():
                each.studies.pop(study, None)
        return found

    def _move_to_gone(self, objects: frozenset[ObjectId]) -> None:
        doubted = {each: self.limbo.pop(each) for each in objects & set(self.limbo)}
        with self.box.catalog.reading() as conn:
            ended = study_keys.destroyed_among(conn, sorted({each.key_id for each in doubted.values()}))
        # What a fire took that was in limbo has no row here: nobody decided about what lies under a key that this box never had.
        self.burnt |= {each: image for each, image in doubted.items() if image.key_id not in ended}
        for object_id in objects - set(self.burnt):
            image = self.alive.pop(object_id, None) or doubted[object_id]
            self.gone[object_id] = image
            self.gone_by_account.add(object_id)
            self.owing[image.key_id] = frozenset(self.known)
            self.ever_destroyed.add(image.key_id)
            self.rotten.discard(object_id)
            self.away.discard(object_id)
            for shelf in self.shelves.values():
                if shelf.plugged:
                    shelf.whole.discard(object_id)

    # --- fire ----------------------------------------------------------------------------------------------------

    def _burn(self, study: int, one: int, two: int) -> bool:
        return burn(self, SHELVES[one % 2], backups=True)

    def _burn_midway(self, study: int, one: int, two: int) -> bool:
        return burn_midway(self, one, two)

    def _burn_without_backups(self, study: int, one: int, two: int) -> bool:
        return burn(self, SHELVES[one % 2], backups=False)

    def _home(self, study: int, one: int, two: int) -> bool:
        with self.box.catalog.reading() as conn:
            if settings.get(conn, homecoming.LAST) is None:
                return False
        home(self)
        return True

    # --- keys ----------------------------------------------------------------------------------------------------

    def _rotate_paper(self, study: int, one: int, two: int) -> None:
        folder = self.box.config.data.absolute() / "keys"
        fresh = keys.rotate(folder, self.box.root)
        keys.check_recovery(folder, self.box.root, str(fresh))
        self.paper = fresh
        self.papers.append(fresh)
        self._deliver(study, one, two)  # the new slot reaches the archives with the next documents

    def _rotate_root(self, study: int, one: int, two: int) -> None:
        entry = audit.Entry("key:rotate-root", "root key", "tests")
        rotation.rotate(self.box, str(self.paper), entry, self.now)
        rotation.finish(self.box, self.now)

    # --- disk and rot --------------------------------------------------------------------------------------------

    def _evict(self, study: int, one: int, two: int) -> bool:
        return evict(self, study, copies=1 + one % 2)

    def _recall(self, study: int, one: int, two: int) -> bool:
        return recall_study(self, study)

    def _rot(self, study: int, one: int, two: int) -> bool:
        return rot(self, study, one, two)

    def _rot_archive(self, study: int, one: int, two: int) -> bool:
        return rot_archive(self, study, one, two)

    def _scrub(self, study: int, one: int, two: int) -> None:
        scrub_all(self)
