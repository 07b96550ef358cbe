"""A clinic whose power fails, or whose process is killed, before every single step of what it does to its archives and its keys.

Each operation is done once, on a box with a USB disk, a bucket or a file server, while `tests.campaigns.power` keeps what would be left
before each of its steps, and before and after each request (`tests.campaigns.remote_places`). Then each of those states is put in the
place of the whole, the box is opened as after a power failure, goes on, and is held to what it had promised:

- **snapshot** and **prune**, which a bucket does by itself: no image is touched, the newest finished backup is whole, and the next one
  is made;
- **evict** and **recall**: each image is here, or whole in the archive and known to be there; what was cut goes on, and all come back;
- **purge**: all of the study or nothing, and in the end nothing, anywhere, with its certificate complete;
- **rotate**: machine and paper open the box, and all is under the new root key in the end, or under the old one;
- **restore**: it is begun again and ends with every image.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest

from appliance import audit
from appliance.backup import choice, making, restoring, snapshot, standing
from appliance.box import Box, open_box
from appliance.catalog import destinations, evictions, manifests, studies, study_keys, tombstones
from appliance.config import Config, CourierConfig
from appliance.errors import Corrupt, Refused, Transient
from appliance.lifecycle import eviction, purging, retention, returning, rotation
from appliance.lifecycle.acting import Act
from appliance.model import DestinationSettings
from appliance.replication import manifest, recall
from appliance.replication.batch import Counts, Errand, Held, Surroundings
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.archive import Clearable
from appliance.replication.lane import Lane
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from tests.backup.conftest import as_sent, clinic_in, contents
from tests.backup.test_restoring import bring_home
from tests.boxes import config_in, recorded
from tests.campaigns.clinic_tiers import AT_ONCE
from tests.campaigns.power import State, watched
from tests.campaigns.remote_places import PLACES, RemotePlace
from tests.instances import Instance
from tests.lifecycle.purge import LATER, approve, secrets_of

KEPT: Final = [Instance(number, study=number // 2, pixel_bytes=2_000) for number in range(4)]
DOOMED: Final = [
    Instance(number, study=77, pixel_bytes=2_000, patient_id="GONE-77", patient_name="Zzyzx^Alma")
    for number in (20, 21)
]
KEEP: Final = timedelta(days=35)
REMOTE: Final = "remote"
ANYWHERE: Final = replace(AT_ONCE, always_there=frozenset({"vault", "s3", "sftp", "smb"}))
ENTRY: Final = audit.Entry("key:rotate-root", "root key", "tests")


@dataclass(frozen=True)
class Place:
    """Where the clinic is: the box in ``box``, its disk in ``usb`` if it has one, a box that comes back in ``after``."""

    root: Path
    settings: DestinationSettings
    paper: RecoveryKey
    remote: RemotePlace
    backups: tuple[str, ...] = ()

    def box(self, name: str = "box") -> Box:
        return open_box(config(self.root / name))

    def archive(self) -> Archive:
        built = build(self.settings, None)  # type: ignore[arg-type]
        assert isinstance(built, Archive)
        return built


def config(data: Path) -> Config:
    return replace(config_in(data), courier=CourierConfig(workers_per_destination=0))


# --- what is done ----------------------------------------------------------------------------------------------------


def _snapshot(place: Place) -> None:
    """A backup, while older ones have had their time, by a clock that somebody has compared."""
    box = place.box()
    trust_clock(box)
    before = _backups(place)
    making.back_up(box, place_in(box), datetime.now(UTC), actor="tests", keep=KEEP)
    assert len(_backups(place) - before) == 1, "one is made"
    assert bool(before - _backups(place)) is isinstance(place.archive(), Clearable), "older ones are pruned"
    box.close()


def _backups(place: Place) -> set[str]:
    return set(standing.look(place.archive()).names)


def trust_clock(box: Box) -> None:
    """Somebody has compared the clock, which the decision to destroy had put years ahead."""
    with box.catalog.transaction() as tx:
        retention.trust_clock(tx, Act(by="marie", now=datetime.now(UTC), audit_key=box.audit_key))


def open_and_trust(place: Place) -> None:
    """The clock of the box is one that somebody has compared."""
    box = place.box()
    trust_clock(box)
    box.close()


def _evict(place: Place) -> None:
    """Let all leave that may: what is to be destroyed stays."""
    box = place.box()
    trust_clock(box)
    assert leave(box) == len(KEPT)
    box.close()


def leave(box: Box) -> int:
    """How many images left."""
    with box.catalog.reading() as conn:
        numbers = [each.id for each in studies.find(conn)]
    return sum(
        eviction.evict_study(box, each, ANYWHERE, lambda: datetime.now(UTC)).images for each in numbers
    )


def _recall(place: Place) -> None:
    box = place.box()
    assert returning.bring_back(box, datetime.now(UTC)) == len(KEPT)
    box.close()


def _purge(place: Place) -> None:
    box = place.box()
    _finish_purge(box)
    box.close()


def _finish_purge(box: Box) -> None:
    """In the hours after: what failed rests for a while (`appliance.backup.repeating`)."""
    for hours in range(1, 4):
        purging.carry_out(box, LATER + timedelta(hours=hours))
        deliver(box)


def _rotate(place: Place) -> None:
    box = place.box()
    rotation.rotate(box, str(place.paper), ENTRY, datetime.now(UTC))
    rotation.finish(box, datetime.now(UTC))
    deliver(box)
    box.close()


def _restore(place: Place) -> None:
    restoring.restore(
        config(place.root / "after"),
        place.archive(),
        place.settings,
        place.paper,
        tell=lambda *_: None,
        actor="tests",
    )
    place.box("after").close()


# --- what must hold after a cut --------------------------------------------------------------------------------------


def _after_snapshot(place: Place) -> None:
    box = place.box()
    try:
        assert contents(box) == as_sent(*KEPT, *DOOMED)
        found = choice.look(place.archive(), place.paper)
        assert found.damaged == 0, "a backup that looks finished is not whole"
        assert found.snapshots, "no backup is left"
        _whole(place, box)
        made = making.back_up(box, place_in(box), datetime.now(UTC), actor="tests", keep=KEEP)
        assert choice.look(place.archive(), place.paper).snapshots[0] == made
        assert not list((place.root / "box" / "backups").glob("catalog-*")), "a copy of the catalog is left"
    finally:
        box.close()


def _whole(place: Place, box: Box) -> None:
    """Every finished backup has each of its pieces."""
    archive = place.archive()
    for name in standing.look(archive).names:
        index = snapshot.decode(
            name, box.root.unseal(archive.document(snapshot.index_key(name)), snapshot.context(name))
        )
        for number, piece in enumerate(index.pieces):
            assert len(archive.document(snapshot.piece_key(name, number))) == piece.size_bytes
        box.root.unseal(archive.document(snapshot.key_key(name)), snapshot.key_context(name))


def _after_moving(place: Place) -> None:
    """After a cut while images left or came back."""
    box = place.box()
    try:
        rows = recorded(box)
        assert len(rows) == len(KEPT) + len(DOOMED)
        for row in rows:
            if recall.is_here(box, row.object_id):
                with box.open_object(row.object_id, row.key_id) as reader:
                    reader.verify()
            else:
                recall.verify(
                    place.archive(), row.object_id, box.study_keys.key(row.key_id), row.sealed_bytes
                )
        eviction.settle(box, datetime.now(UTC))
        with box.catalog.reading() as conn:
            for row in rows:
                away = evictions.is_away(conn, row.object_id)
                assert away is not recall.is_here(box, row.object_id), "it is not where the box says"
            assert evictions.unsettled(conn) == []
        trust_clock(box)
        leave(box)
        here = {row.object_id for row in rows if recall.is_here(box, row.object_id)}
        assert len(here) == len(DOOMED), "what was cut goes on, and what is to be destroyed stays"
        returning.bring_back(box, datetime.now(UTC))
        assert contents(box) == as_sent(*KEPT, *DOOMED)
        with box.catalog.reading() as conn:
            assert evictions.tally(conn).away == 0
            assert audit.verify(conn, box.audit_key, None) == []
    finally:
        box.close()


def _after_purge(place: Place) -> None:
    box = place.box()
    try:
        here = contents(box)
        assert here in (as_sent(*KEPT, *DOOMED), as_sent(*KEPT)), "half of a study is left"
        _finish_purge(box)
        assert contents(box) == as_sent(*KEPT)
        with box.catalog.reading() as conn:
            assert tombstones.certificates(conn, unfinished=True) == []
            (certificate,) = tombstones.certificates(conn)
            (study,) = tombstones.studies_of(conn, certificate.id)
            assert (study.instances, audit.verify(conn, box.audit_key, None)) == (2, [])
        archive = place.archive()
        if isinstance(archive, Clearable):
            assert len(list(archive.documents("objects/"))) == len(KEPT), "it keeps what was destroyed"
        found = choice.look(archive, place.paper)
        assert [each.contents.instances for each in found.snapshots] == [len(KEPT)]
        _opens_nothing(place, box, found.snapshots[0].name)
    finally:
        box.close()


def _opens_nothing(place: Place, box: Box, newest: str) -> None:
    """Nothing in the place of the archive, under whatever name, gives a key to what was destroyed, or to an older backup."""
    name = manifest.key(box.root, DOOMED[0].study_instance_uid)
    older = {each.key.split("/")[1] for each in place.archive().documents(snapshot.PREFIX)} - {newest}
    older |= set(place.backups)
    for data in place.remote.everything():
        try:
            told = manifest.unseal(box.root, name, data)
        except Corrupt:
            told = {}
        assert not told.get("study_keys"), "a key of what was destroyed is left"
        for each in older:
            with pytest.raises(Corrupt):
                box.root.unseal(data, snapshot.key_context(each))


def _after_rotate(place: Place) -> None:
    box = place.box()
    try:
        assert contents(box) == as_sent(*KEPT, *DOOMED)
        slot = keys.recovery_slot(place.root / "box" / "keys")
        assert keys.open_with_recovery(slot, place.paper).knows(box.root), "the paper does not open the box"
        rotation.finish(box, datetime.now(UTC))
        deliver(box)
        with box.catalog.reading() as conn:
            assert study_keys.under_earlier(conn, box.root.generation, 10) == []
            assert audit.verify(conn, box.audit_key, None) == []
        assert choice.look(place.archive(), place.paper).damaged == 0
        assert contents(box) == as_sent(*KEPT, *DOOMED)
    finally:
        box.close()


def _after_restore(place: Place) -> None:
    try:
        _restore(place)
    except (Refused, Transient):
        pass  # it is in its place already, or takes it when the box is opened
    box = place.box("after")
    try:
        bring_home(box)
        assert contents(box) == as_sent(*KEPT, *DOOMED)
        with box.catalog.reading() as conn:
            assert audit.verify(conn, box.audit_key, None) == []
    finally:
        box.close()


def _as_it_is(place: Place) -> None:
    pass


@dataclass(frozen=True)
class Operation:
    """What is done, what must hold after a cut of it, and what is done before."""

    do: Callable[[Place], None]
    check: Callable[[Place], None]
    ready: Callable[[Place], None] = _as_it_is


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "snapshot": Operation(_snapshot, _after_snapshot),
        "evict": Operation(_evict, _after_moving),
        "recall": Operation(_recall, _after_moving, ready=_evict),
        "purge": Operation(_purge, _after_purge),
        "rotate": Operation(_rotate, _after_rotate),
        "restore": Operation(_restore, _after_restore),
    }
)


# --- the campaign ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """Figures of a campaign that found nothing wrong: states by operation and kind."""

    steps: Mapping[str, int]
    states: Counter[str]
    seconds: float

    def __str__(self) -> str:
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.states.items()))
        steps = ", ".join(f"{name} {count}" for name, count in self.steps.items())
        return f"{self.states.total()} different states after {steps} steps, all recovered in {self.seconds:.0f} s: {told}"


def run(
    folder: Path,
    *,
    operation: str,
    at: str = "disk",
    most: int = 0,
    every: int = 1,
    seed: int = 1,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Do `operation` with an archive `at` one of `PLACES`, then recover from the states before its steps: all, or of one step in `every` the
    `most` that `seed` draws.

    Raises AssertionError at the first promise that a state breaks.
    """
    with PLACES[at](folder / "clinic", folder / "servers") as remote:
        return run_at(
            remote, folder, operation=operation, at=at, most=most, every=every, seed=seed, report=report
        )


def run_at(
    remote: RemotePlace,
    folder: Path,
    *,
    operation: str,
    at: str,
    most: int = 0,
    every: int = 1,
    seed: int = 1,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """As `run`, with an archive that is there already."""
    began = time.monotonic()
    root = folder / "clinic"
    place = prepared(root, remote)
    wanted = OPERATIONS[operation]
    wanted.ready(place)
    with (
        watched(
            root,
            folder / "states",
            lambda step: step % every == seed % every,
            lambda state: remote.lay(state / REMOTE),
        ) as watch,
        remote.stepping(watch.step),
    ):
        wanted.do(place)
    name = f"{operation} ({at})"
    report(f"{name}: {watch.steps} steps, {len(watch.states)} different states")
    states = watch.states
    if most and len(states) > most:
        states = sorted(random.Random(seed).sample(states, most), key=lambda each: (each.number, each.kind))
    counted: Counter[str] = Counter()
    for state in states:
        recover(place, state, wanted.check)
        counted[f"{name} {state.kind}"] += 1
    return Outcome({name: watch.steps}, counted, time.monotonic() - began)


def recover(place: Place, state: State, check: Callable[[Place], None]) -> None:
    """Put `state` in the place of the clinic, and see that it recovers. Raises AssertionError with the state's name."""
    put_back(place, state.folder)
    try:
        check(place)
    except BaseException as error:
        raise AssertionError(f"{state}: {type(error).__name__}: {error}") from error


def put_back(place: Place, folder: Path) -> None:
    """Have the clinic, and what its archive holds, as it was when it was laid in `folder`."""
    shutil.rmtree(place.root)
    shutil.copytree(folder, place.root)
    if (place.root / REMOTE).exists():
        place.remote.become(place.root / REMOTE)
        shutil.rmtree(place.root / REMOTE)


def prepared(root: Path, remote: RemotePlace) -> Place:
    """A clinic with two patients' images in its archive, four backups past their time, and a decision to destroy."""
    (root / "after").mkdir(parents=True)
    with clinic_in(root / "box", remote.settings) as clinic:
        folder = root / "box" / "keys"
        keys.check_recovery(folder, clinic.box.root, str(clinic.paper))
        clinic.receive(*KEPT, *DOOMED)
        deliver(clinic.box)
        made = [
            making.back_up(
                clinic.box,
                clinic.place,
                datetime.now(UTC) - timedelta(days=days),
                actor="tests",
                keep=KEEP,
            ).name
            for days in (300, 200, 100, 90)
        ]
        approve(clinic.box, secrets_of(clinic.box, DOOMED[0]).row.id)
        return Place(root, clinic.place, clinic.paper, remote, tuple(made))


def place_in(box: Box) -> DestinationSettings:
    """The one archive of a box."""
    with box.catalog.reading() as conn:
        (place,) = destinations.destinations(conn)
    return place


def deliver(box: Box) -> None:
    """What the courier does, until nothing is left to do, in this thread."""
    place = place_in(box)
    later = datetime.now(UTC) + timedelta(days=1)
    box = replace(box, config=replace(box.config, courier=CourierConfig(workers_per_destination=0)))
    lane = Lane(Errand(box, place, Surroundings(now=lambda: later, jitter=lambda: 0.5), Held(), Counts()))
    while lane.one_batch():
        pass
    for _ in range(20):
        lane.keep_documents()
        with box.catalog.reading() as conn:
            due = manifests.out_of_date(conn, place.id, quiet_since=later, written_before=later, limit=1)
            if not due and not tombstones.owed(conn, place.id, 1):
                return
    raise AssertionError("the courier is never done")
