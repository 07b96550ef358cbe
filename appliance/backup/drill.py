"""The restore drill: a backup that nobody has ever restored is a hope.

Once a week, and whenever somebody asks, the newest snapshot of each archive is fetched into a scratch folder as a restore
would, checked page by page, opened, counted, and a sample of its images is brought back from the archive and opened to the last
byte with the keys that *the snapshot* holds. Where the box still has the object, the ciphertext is compared too. What was
found is a `Certificate` in plain words, kept with those before it. An image that lies in deep archive is not fetched for a drill, and
counted apart: nothing was seen of it.

An archive may hold backups and no image: a small disk beside a bucket. A restore from there fetches the images from the archives that
the backup names, with the keys that it holds for them; so does its drill, and the certificate names them. Where no archive has an
image, a restore would bring home an index and nothing to show: that has not passed.

A restore asks every archive that has a receipt for an image, one after the other; so does a drill before it calls one lost. What the
archive that is tried should have and has not whole is found, whoever has it besides. Where it holds no image, one of the others that has
one not whole, or is away, is named in the certificate, and fails nothing while another has it: its own drill fails.

A backup knows of studies that were destroyed since it was made, until the next one takes its place: that their images are gone from the
archives, as they should be, is no finding, and nothing was seen of them.

Whoever looks for a backup believes no marker that calls one destroyed while its key lies there (`standing`); the weekly drill makes a finding
of it, for somebody has written there who is not this box. That of a purge, which tries one backup, does not: it is what destroys that key.

Two boxes may have their backups in one archive. Each tries the newest of its own: one that no key of this box opens is passed over where
it is known to be another's, or of a later root key than this box has (`ownership.whose_backup`), and tried, and found damaged, where it may be
ours. A newest backup of ours is never passed over for an older one that is whole.

What it cannot try is the paper: the recovery key is not on the box. It sees that the wrapped root key beside the backup is
undamaged, and `key check-recovery` tries the paper.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from appliance import audit
from appliance.audit.vouching import MAC, is_vouched, vouched
from appliance.backup import fetching, snapshot, standing
from appliance.backup.making import archive_at, judge_of
from appliance.backup.snapshot import Index
from appliance.box import Box
from appliance.catalog import (
    Catalog,
    Reading,
    Transaction,
    instances,
    settings,
    study_keys,
    totals,
)
from appliance.errors import ApplianceError, Corrupt, Resting, Transient, Unknown
from appliance.model import DestinationSettings, InstanceId, KeyId, ObjectId
from appliance.replication import recall
from appliance.replication.destinations import Archive
from appliance.replication.ownership import Whose
from appliance.store import scratch
from appliance.store.disk import disk_error
from appliance.store.recovery import SECRET_BYTES
from appliance.store.root_key import open_slots
from appliance.store.study_keys import wrapping_context

log = logging.getLogger(__name__)

LAST: Final = settings.LATEST_DRILL
"""The outcome of the latest drill of an archive, with its name behind a dot, in `appliance.catalog.settings`: the form is
`health.facts.Attempt`'s.

Of each by itself: what stands for all of them `health.attempts` works out, which knows what is in use. Every record of a drill, and
every certificate, is vouched for (`appliance.audit.vouching`): one that nobody can vouch for is none, so the drill
is due and made.
"""

CERTIFICATES: Final = "drill.certificates"
KEPT: Final = 60
SAMPLE: Final = 20
EVERY: Final = timedelta(days=7)
_NONE_THERE: Final = "the backup knows of no image in this archive, and none was opened: send images there too, and make a new backup"
_NONE_OPENED: Final = "every image of the sample lies in deep archive, and none was opened"
_DESTROYED: Final = "every image of the sample has been destroyed since the backup was made"
_MARKED: Final = "a backup is marked as destroyed and still has its key: this box writes no such mark, find out who can write in the archive"
_NAMES: Final = ("sources", "ungiven")
_LATEST: Final = 5
"""So many of the sample are the images that came last: they are what a fire tonight would take."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a drill found. `findings` is empty when everything was as it should be; sizes in bytes, times in seconds.

    `sampled` were opened to the last byte; `resting` were drawn too, and lie in deep archive: nothing is known of them. `sources` are
    the archives that they came from, where the one that was tried holds no image; else it is empty. `ungiven` names the other archives
    that did not give an image of the sample that they have a receipt for, being damaged or away.
    """

    at_utc: str
    archive: str
    snapshot: str
    made_utc: str
    studies: int
    instances: int
    sampled: int
    sampled_bytes: int
    catalog_seconds: float
    sample_seconds: float
    findings: tuple[str, ...]
    resting: int = 0
    sources: tuple[str, ...] = ()
    ungiven: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.findings

    @property
    def id(self) -> str:
        """By which it is asked for: two are never alike in every word."""
        return hashlib.sha256(str(self).encode() + self.at_utc.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        """In plain words, one line each."""
        lines = [
            f"Restore drill of {self.at_utc[:16].replace('T', ' ')} UTC, archive {self.archive}",
            f"The backup {self.snapshot} was fetched and opened in {self.catalog_seconds:.1f} s.",
            f"It remembers {self.studies} studies and {self.instances} images.",
            f"{self.sampled} images were brought back and opened to the last byte in {self.sample_seconds:.1f} s.",
        ]
        if self.sources:
            lines.append(
                f"They came from {', '.join(self.sources)}: {self.archive} holds backups, and no image."
            )
        if self.ungiven:
            lines.append(f"Not every image of the sample was given by {', '.join(self.ungiven)}.")
        if self.resting:
            lines.append(f"{self.resting} more lie in deep archive, and were not tried.")
        lines += [f"NOT AS IT SHOULD BE: {each}." for each in self.findings]
        return "\n".join([*lines, "Passed." if self.passed else "Failed."])


def drill(
    box: Box,
    place: DestinationSettings,
    now: datetime,
    *,
    actor: str,
    keep_going: Callable[[], bool] = lambda: True,
    dice: random.Random | None = None,
    name: str = "",
) -> Certificate:
    """Restore the newest backup of `place` that is this box's, or the one called `name`, into a scratch folder, and record what came of it.

    Raises `Unknown` when there is no backup yet, and what archive and disk raise; that is recorded as a failure too. What
    is found wrong with the backup itself is in the certificate.
    """
    try:
        found = _drill(box, place, now, keep_going, dice or random.Random(), name)
    except ApplianceError as error:
        with box.catalog.transaction() as tx:
            _record(tx, box, place, now, actor, failure=error)
        raise
    with box.catalog.transaction() as tx:
        _record(tx, box, place, now, actor, found=found)
    return found


def is_due(reading: Reading, box: Box, name: str, now: datetime) -> bool:
    """Whether the archive `name` is due: none has succeeded there for a week, or the last bears a moment to come."""
    told = last(reading, box, name).get("succeeded_utc")
    if told is None:
        return True
    age = now - datetime.fromisoformat(told)
    return age >= EVERY or age < -EVERY


def last(reading: Reading, box: Box, name: str) -> Mapping[str, str | None]:
    """How the latest drill of the archive `name` went, in the form of `making.last`; empty if the record isn't this box's."""
    told: Mapping[str, str | None] = settings.get(reading, _of(name), {})
    return told if is_vouched(box.audit_key, _of(name), told) else {}


def _of(name: str) -> str:
    """Where the outcome of the latest drill of one archive is kept."""
    return f"{LAST}.{name}"


def certificates(reading: Reading, box: Box) -> list[Certificate]:
    """Those kept that this box has written, the newest first."""
    return [_decode(each) for each in _kept(reading, box)]


def _kept(reading: Reading, box: Box) -> list[dict[str, Any]]:
    kept = settings.get(reading, CERTIFICATES, [])
    return [each for each in kept if is_vouched(box.audit_key, CERTIFICATES, each)]


def _drill(
    box: Box,
    place: DestinationSettings,
    now: datetime,
    keep_going: Callable[[], bool],
    dice: random.Random,
    name: str,
) -> Certificate:
    archive = archive_at(box, place)
    findings: list[str] = []
    if not name:
        there = standing.look(archive)
        findings += [_MARKED] if there.disbelieved else []
        name = _newest(box, archive, there.names, now)
    began = time.monotonic()
    sealed = archive.document(snapshot.index_key(name))
    index = snapshot.decode(name, box.root.unseal(sealed, snapshot.context(name)))
    try:
        open_slots(archive.document(snapshot.slot_key(index.name)), b"R", bytes(SECRET_BYTES))
    except (Corrupt, Unknown):
        findings.append("the wrapped root key beside the backup is damaged: the paper would not open it")
    box.guard.admit(index.size_bytes)
    try:
        with scratch.place(box.config.data.absolute(), scratch.DRILL) as folder:
            folder.mkdir(mode=0o700)
            key = fetching.snapshot_key(archive, box.root, index.name)
            path = fetching.fetch(folder, archive, key, index, lambda *_: _go_on(keep_going))
            catalog = Catalog.open(path, key)
            try:
                with catalog.reading() as reading:
                    findings += _counted(reading, index)
                    chosen = _chosen(reading, place, dice)
                    fetched = time.monotonic()
                    sample = _Sampling(box, place).bring(reading, chosen, keep_going)
                    findings += sample.findings
                    if index.contents.instances and not chosen:
                        findings.append(_NONE_THERE)
            finally:
                catalog.close()
    except OSError as error:
        raise disk_error(error, "trying out a backup") from error
    return Certificate(
        at_utc=now.isoformat(),
        archive=place.name,
        snapshot=index.name,
        made_utc=index.made_utc.isoformat(),
        studies=index.contents.studies,
        instances=index.contents.instances,
        sampled=sample.opened,
        sampled_bytes=sample.opened_bytes,
        catalog_seconds=round(fetched - began, 3),
        sample_seconds=round(time.monotonic() - fetched, 3),
        findings=tuple(findings),
        resting=sample.resting,
        sources=() if chosen and chosen[0].is_held_here(place) else sample.sources,
        ungiven=sample.ungiven,
    )


def _newest(box: Box, archive: Archive, names: Sequence[str], now: datetime) -> str:
    """The newest of the snapshots `names` (`snapshot.in_order`) that is not another box's. Only of those that don't open it is asked whose
    they are, the newest first. Raises `Unknown` where there is none, and what the archive raises."""
    known = fetching.indexes(archive, box.root, names)
    judge = judge_of(box, archive)
    for each in snapshot.in_order(names, fetching.ages_of(known), now):
        if each in known or judge(each) not in {Whose.ANOTHERS, Whose.LATER}:
            return each
    raise Unknown("there is no backup to try out", hint="make a backup first")


def _go_on(keep_going: Callable[[], bool]) -> None:
    if not keep_going():
        raise Transient("the restore drill was interrupted", hint="it is made again later")


def _counted(reading: Reading, index: Index) -> Sequence[str]:
    kept = totals.totals(reading)
    found = snapshot.Contents(kept.studies, kept.instances, kept.bytes)
    if found != index.contents:
        return [f"the backup counts {found.instances} images where {index.contents.instances} were written"]
    return []


@dataclass(frozen=True, slots=True)
class _Drawn:
    """An image of the sample, and the archives that it may come from, in the order in which they are asked."""

    object_id: ObjectId
    key_id: KeyId
    sealed_bytes: int
    holders: tuple[DestinationSettings, ...]

    def is_held_here(self, place: DestinationSettings) -> bool:
        """Whether the archive that is tried should have it."""
        return self.holders[0].id == place.id


def _chosen(reading: Reading, place: DestinationSettings, dice: random.Random) -> list[_Drawn]:
    """Which images to bring back: the latest few, and others by chance, of those that the archive has receipts for; where it has none
    of them, of those that others have.
    """
    last = instances.last_id(reading)
    drawn = {last - each for each in range(_LATEST)}
    drawn |= {dice.randint(1, last) for _ in range(4 * SAMPLE)} if last else set()
    here: dict[ObjectId, _Drawn] = {}
    elsewhere: dict[ObjectId, _Drawn] = {}
    for number in sorted(drawn, reverse=True):
        for _, object_id, key_id, sealed_bytes in instances.objects_after(reading, InstanceId(number - 1), 1):
            holders = recall.holders(reading, object_id)
            own = [place for each in holders if each.id == place.id]
            others = [each for each in holders if each.id != place.id]
            found = _Drawn(object_id, key_id, sealed_bytes, (*own, *others))
            if own:
                here[object_id] = found
            elif others and len(elsewhere) < SAMPLE:
                elsewhere[object_id] = found
        if len(here) >= SAMPLE:
            break
    return list((here or elsewhere).values())


@dataclass(slots=True)
class _Sample:
    """What came of the images that were drawn: opened to the last byte, lying deep, destroyed since the backup, or not as they should be."""

    opened: int = 0
    opened_bytes: int = 0
    resting: int = 0
    destroyed: int = 0
    findings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    ungiven: tuple[str, ...] = ()


class _Sampling:
    """Bringing the images of a sample back, each from the first of its archives that gives it whole."""

    def __init__(self, box: Box, place: DestinationSettings) -> None:
        self._box = box
        self._place = place
        self._archives: dict[int, Archive] = {}

    def bring(self, reading: Reading, chosen: Sequence[_Drawn], keep_going: Callable[[], bool]) -> _Sample:
        """All of them. That all lie deep is a finding: then nothing has been tried. Raises as `_image`."""
        done = _Sample()
        for each in chosen:
            _go_on(keep_going)
            recorded = study_keys.wrapped(reading, each.key_id)
            if recorded is None:
                done.findings += ("the backup lacks the key of an image",)
                continue
            study_instance_uid, wrapped = recorded
            try:
                key = self._box.root.unwrap(wrapped, wrapping_context(each.key_id, study_instance_uid))
            except Corrupt as error:
                done.findings += (f"an image in the archive is not what was written ({error.message})",)
                continue
            self._image(each, key, done)
        if done.resting and not done.opened:
            done.findings += (_NONE_OPENED,)
        if done.destroyed and not (done.opened or done.findings):
            raise Transient(_DESTROYED, hint="it is made again later, with the next backup")
        return done

    def _image(self, drawn: _Drawn, key: bytes, done: _Sample) -> None:
        """Raises what an archive raises that can't be reached, if it is the one that is tried, or none has given the image."""
        damage: dict[str, str] = {}
        away: list[tuple[str, ApplianceError]] = []
        is_resting = False
        for holder in drawn.holders:
            digest = hashlib.sha256()
            try:
                recall.verify(self._archive(holder), drawn.object_id, key, drawn.sealed_bytes, digest.update)
            except Resting:  # on purpose, says the archive: whether it is whole is seen when it is fetched
                if holder.id == self._place.id:
                    done.resting += 1
                    return
                is_resting = True
            except (Corrupt, Unknown) as error:
                damage[holder.name] = error.message
            except ApplianceError as error:
                if holder.id == self._place.id:
                    raise
                away.append((holder.name, error))
            else:
                self._came(drawn, holder, digest.hexdigest(), damage, done)
                break
        else:
            if damage and self._is_destroyed(drawn):
                done.destroyed += 1
                return
            self._did_not_come(damage, away, done, is_resting=is_resting)
        others = [name for name in (*damage, *(name for name, _ in away)) if name != self._place.name]
        done.ungiven = tuple(dict.fromkeys((*done.ungiven, *others)))

    def _did_not_come(
        self,
        damage: Mapping[str, str],
        away: Sequence[tuple[str, ApplianceError]],
        done: _Sample,
        *,
        is_resting: bool,
    ) -> None:
        if self._place.name in damage or not (is_resting or away):
            done.findings += (_lost(damage, self._place, is_sure=not (is_resting or away)),)
        elif is_resting:
            done.resting += 1
        else:
            raise away[0][1]

    def _came(
        self,
        drawn: _Drawn,
        holder: DestinationSettings,
        digest: str,
        damage: Mapping[str, str],
        done: _Sample,
    ) -> None:
        if (why := damage.get(self._place.name)) is not None:
            done.findings += (
                f"an image in the archive is not what was written ({why}), and {holder.name} has it whole",
            )
        else:
            done.opened += 1
            done.opened_bytes += drawn.sealed_bytes
            done.sources = tuple(dict.fromkeys((*done.sources, holder.name)))
            done.findings += tuple(_like_here(self._box, drawn.object_id, digest))

    def _is_destroyed(self, drawn: _Drawn) -> bool:
        """Whether the study of an image was destroyed since the backup was made: on this box, its key is known to be."""
        with self._box.catalog.reading() as reading:
            return bool(study_keys.destroyed_among(reading, [drawn.key_id]))

    def _archive(self, holder: DestinationSettings) -> Archive:
        if holder.id not in self._archives:
            self._archives[holder.id] = archive_at(self._box, holder)
        return self._archives[holder.id]


def _lost(damage: Mapping[str, str], place: DestinationSettings, *, is_sure: bool) -> str:
    """The finding of an image that no archive has given; `is_sure` that none could."""
    if len(damage) > 1 and is_sure:
        return (
            f"an image is whole in no archive, neither where it should be nor in another: {', '.join(damage)}"
        )
    why = damage.get(place.name) or next(iter(damage.values()))
    return f"an image in the archive is not what was written ({why})"


def _like_here(box: Box, object_id: ObjectId, digest: str) -> Sequence[str]:
    path: Path = box.objects.path(object_id)
    try:
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return []  # it lives in the archive only
    return [] if same else ["an image on this box is not the one in the archive: verify the store"]


def _record(
    tx: Transaction,
    box: Box,
    place: DestinationSettings,
    now: datetime,
    actor: str,
    *,
    found: Certificate | None = None,
    failure: ApplianceError | None = None,
) -> None:
    name = place.name
    earlier = last(tx, box, name).get("succeeded_utc")
    passed = found is not None and found.passed
    reason = failure.message if failure else "; ".join(found.findings) if found else ""
    latest = {
        "at_utc": now.isoformat(),
        "outcome": "succeeded" if passed else "failed",
        "succeeded_utc": now.isoformat() if passed else earlier,
        "reason": f"{name}: {reason}" if reason else "",
    }
    if not recall.has_moved(tx, place):  # what was tried at one place was not tried at another
        settings.put(tx, _of(name), vouched(box.audit_key, _of(name), latest), now)
    if found is not None:
        paper = vouched(box.audit_key, CERTIFICATES, asdict(found))
        settings.put(tx, CERTIFICATES, [paper, *_kept(tx, box)][:KEPT], now)
    details = {"passed": passed, "reason": reason, "snapshot": found.snapshot if found else ""}
    audit.append(tx, box.audit_key, [audit.Entry("backup:drill", name, actor, details)], now)


def _decode(told: dict[str, Any]) -> Certificate:
    said = {name: value for name, value in told.items() if name != MAC}
    return Certificate(
        **{
            **said,
            "findings": tuple(told["findings"]),
            **{name: tuple(told.get(name, ())) for name in _NAMES},
        }
    )
