"""The restore drill: a backup that nobody has ever restored is a hope.

Once a week, and whenever somebody asks, the newest snapshot of each archive is fetched into a scratch folder as a restore
would, checked page by page, opened, its rows counted, and a sample of its images is brought back from the archive and opened to the last
byte with the keys that *the snapshot* holds. What the certificate says that it remembers are those rows: running counts that lie in the
copy would agree with themselves, whatever it lacks. Where the box still has the object, the ciphertext is compared too. What was
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

Once a drill has failed, the next one comes soon: what was wrong may be mended, and until then nobody knows that a backup can be restored. One
that fails again and again rests for ever longer, up to a day: each fetches a whole catalog.

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
from typing import Any, Final

from appliance import audit
from appliance.audit.vouching import MAC, is_vouched, vouched
from appliance.backup import fetching, sampling, snapshot, standing
from appliance.backup.choice import is_too_new, needs
from appliance.backup.making import archive_at, judge_of
from appliance.backup.repeating import is_past, rest_after
from appliance.backup.snapshot import Contents
from appliance.box import Box
from appliance.catalog import Catalog, Reading, Transaction, settings, totals
from appliance.errors import ApplianceError, Corrupt, Unknown
from appliance.model import DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import Archive
from appliance.replication.ownership import Whose
from appliance.store import scratch
from appliance.store.disk import disk_error
from appliance.store.recovery import SECRET_BYTES
from appliance.store.root_key import open_slots

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
_CHASED: Final = 2
"""How often a drill goes on with a newer backup: where each fails, the failure is told in the end."""
EVERY: Final = timedelta(days=7)
RESTS_AT_MOST: Final = timedelta(days=1)
_NONE_THERE: Final = "the backup knows of no image in this archive, and none was opened: send images there too, and make a new backup"
_MARKED: Final = "a backup is marked as destroyed and still has its key: this box writes no such mark, find out who can write in the archive"
_NAMES: Final = ("sources", "ungiven")


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
    def is_whole(self) -> bool:
        """Whether the backup itself is as it should be: it opens, and nothing is wrong but that there was no image to open with it."""
        return set(self.findings) <= {_NONE_THERE, sampling.NONE_OPENED}

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

    A failure counts for the newest alone: where a newer one has come meanwhile, or a purge has destroyed the one that was read, the newest is
    tried. Raises `Unknown` when there is no backup yet, and what archive and disk raise; that is recorded as a failure too, unless
    `keep_going` has cut it. What is found wrong with the backup itself is in the certificate.
    """
    trial = _Trial(box, place, now, keep_going, dice or random.Random(), name)
    try:
        found = trial.of_one() if name else trial.of_newest()
    except ApplianceError as error:
        if keep_going():
            with box.catalog.transaction() as tx:
                _record(tx, box, place, now, actor, tried=trial.name, failure=error)
        raise
    with box.catalog.transaction() as tx:
        _record(tx, box, place, now, actor, tried=trial.name, found=found)
    return found


def is_due(reading: Reading, box: Box, name: str, now: datetime) -> bool:
    """Whether the archive `name` is due: none has succeeded there for a week, the last bears a moment to come, or it failed, and rests no more."""
    told = last(reading, box, name)
    if told.get("outcome") == "failed":
        return not rests(told, now)
    succeeded = told.get("succeeded_utc")
    return succeeded is None or is_past(succeeded, now, EVERY)


def rests(told: Mapping[str, Any], now: datetime) -> bool:
    """Whether a drill that failed, as `last` has `told`, is not to be repeated yet by itself: the first time it is at once, then after ever
    longer, up to a day.

    What failed before a backup was tried, as where a disk is away, has taken nothing and is repeated whenever it is due.
    """
    tried = told.get("tried") or {}
    if told.get("outcome") != "failed" or tried.get("failures", 0) < 2:
        return False
    return not is_past(tried["at_utc"], now, rest_after(tried["failures"], RESTS_AT_MOST))


def last(reading: Reading, box: Box, name: str) -> Mapping[str, Any]:
    """How the latest drill of the archive `name` went, in the form of `making.last`; empty if the record isn't this box's.

    ``tried`` is there since drills of a backup have failed: how many ``failures`` one after the other, when the last was (``at_utc``), its
    ``error``, empty where the certificate says what was found, and whether the backup ``is_whole``.
    """
    told: Mapping[str, Any] = settings.get(reading, _of(name), {})
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


@dataclass(slots=True)
class _Trial:
    """One drill. `name` is the backup that was tried last, empty as long as none was."""

    box: Box
    place: DestinationSettings
    now: datetime
    keep_going: Callable[[], bool]
    dice: random.Random
    name: str = ""

    def of_newest(self) -> Certificate:
        """What is found of the newest; of one that is the newest no more by then only if that goes on."""
        self.name, marked = self._newest()
        for _ in range(_CHASED):
            try:
                found = self.of_one(marked)
            except ApplianceError:
                if (newer := self._newer()) is None:
                    raise
            else:
                if found.passed or (newer := self._newer()) is None:
                    return found
            self.name, marked = newer
        return self.of_one(marked)

    def of_one(self, marked: Sequence[str] = ()) -> Certificate:
        """What is found of the one called `name`, besides what is `marked`."""
        return _drill(self.box, self.place, self.now, self.keep_going, self.dice, self.name, marked)

    def _newest(self) -> tuple[str, Sequence[str]]:
        """Which that is, and the finding that a marker lies there which is not believed."""
        archive = archive_at(self.box, self.place)
        there = standing.look(archive)
        return _newest(self.box, archive, there.names, self.now), [_MARKED] if there.disbelieved else []

    def _newer(self) -> tuple[str, Sequence[str]] | None:
        """As `_newest`, where that is not the one that was tried; None where it is, and where it can't be told."""
        try:
            sampling.go_on(self.keep_going)
            newest = self._newest()
        except ApplianceError:
            return None
        if newest[0] == self.name:
            return None
        log.info("%s is not the newest backup of %s any more", self.name, self.place.name)
        return newest


def _drill(
    box: Box,
    place: DestinationSettings,
    now: datetime,
    keep_going: Callable[[], bool],
    dice: random.Random,
    name: str,
    marked: Sequence[str],
) -> Certificate:
    archive = archive_at(box, place)
    findings = [*marked]
    began = time.monotonic()
    sealed = archive.document(snapshot.index_key(name))
    index = snapshot.decode(name, box.root.unseal(sealed, snapshot.context(name)))
    if is_too_new(index):
        raise needs(index)
    try:
        open_slots(archive.document(snapshot.slot_key(index.name)), b"R", bytes(SECRET_BYTES))
    except (Corrupt, Unknown):
        findings.append("the wrapped root key beside the backup is damaged: the paper would not open it")
    box.guard.admit(index.size_bytes)
    try:
        with scratch.place(box.config.data.absolute(), scratch.DRILL) as folder:
            folder.mkdir(mode=0o700)
            key = fetching.snapshot_key(archive, box.root, index.name)
            path = fetching.fetch(folder, archive, key, index, lambda *_: sampling.go_on(keep_going))
            catalog = Catalog.open(path, key)
            try:
                with catalog.reading() as reading:
                    rows = totals.counted(reading, lambda: sampling.go_on(keep_going))
                    findings += _differing(rows, index.contents)
                    chosen = sampling.draw(reading, place, dice)
                    fetched = time.monotonic()
                    sample = sampling.Sampling(box, place).bring(reading, chosen, keep_going)
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
        studies=rows.studies,
        instances=rows.instances,
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


def _differing(found: totals.Counted, written: Contents) -> Sequence[str]:
    """In what the rows of a copy are not those that its index speaks of. Their sizes are told of only where the rows are as many."""
    told = []
    if found.studies != written.studies:
        told.append(f"the backup counts {found.studies} studies where {written.studies} were written")
    if written.series is not None and found.series != written.series:
        told.append(f"the backup counts {found.series} series where {written.series} were written")
    if found.instances != written.instances:
        told.append(f"the backup counts {found.instances} images where {written.instances} were written")
    if not told and found.bytes != written.bytes:
        told.append(f"the backup counts {found.bytes} bytes of images where {written.bytes} were written")
    return told


def _record(
    tx: Transaction,
    box: Box,
    place: DestinationSettings,
    now: datetime,
    actor: str,
    *,
    tried: str,
    found: Certificate | None = None,
    failure: ApplianceError | None = None,
) -> None:
    name = place.name
    earlier = last(tx, box, name)
    passed = found is not None and found.passed
    reason = failure.message if failure else "; ".join(found.findings) if found else ""
    latest: dict[str, Any] = {
        "at_utc": now.isoformat(),
        "outcome": "succeeded" if passed else "failed",
        "succeeded_utc": now.isoformat() if passed else earlier.get("succeeded_utc"),
        "reason": f"{name}: {reason}" if reason else "",
    }
    before = earlier.get("tried") or {}
    if tried and not passed:
        latest["tried"] = {
            "failures": before.get("failures", 0) + 1,
            "at_utc": now.isoformat(),
            "error": failure.message if failure else "",
            "is_whole": found is not None and found.is_whole,
        }
    elif before and not passed:
        latest["tried"] = before
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
