"""What is known of the box at one moment, gathered once and judged by every check. Pure: nothing here reads anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from appliance.health.forecast import Forecast, Outlook
from appliance.health.looks import Looked
from appliance.model import SecureBoot


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something could not be found out: an error's message, and its hint if it has one."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """The data disk. `refusal` is why nothing is taken in now, if nothing is. Sizes in bytes."""

    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    refusal: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """What is owed to one destination; `waiting` counts all that is not yet delivered and not given up.

    `takes` is "ciphertext" where it keeps sealed copies, so that what waits is how far behind the replica is; `place` is where it is
    (`appliance.replication.place`).
    """

    destination: str
    state: str
    waiting: int
    confirmed: int
    failed: int
    oldest_utc: datetime | None
    id: int = 0
    trouble: str = ""
    takes: str = ""
    place: str = ""

    @property
    def is_paused(self) -> bool:
        return self.state == "paused"


class Outcome(StrEnum):
    """How the latest attempt at a backup or a drill ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """The latest attempt at a backup or a restore drill, and when one last succeeded.

    Kept by whoever makes them under `BACKUP` and `DRILL` of `appliance.health.attempts`, as the JSON object
    ``{"at_utc": "…", "outcome": "succeeded" | "failed", "succeeded_utc": "…" | null, "reason": "plain words"}``. A backup that succeeded
    with a reason is one beside which older ones could not be removed.
    """

    at_utc: datetime
    outcome: Outcome
    succeeded_utc: datetime | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Drilled:
    """An archive that holds a backup, and its latest drill; None where nobody has made one. One that is paused is not tried."""

    archive: str
    last: Attempt | None
    is_paused: bool = False


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """When everything that is kept was last read again, or since when it is owed where `never`; `unchecked` is why the pages of the
    catalog could not be, in words. `unasked` images that are in buckets alone could not be asked for there, and all were last at
    `asked_utc`."""

    since_utc: datetime
    never: bool = False
    unchecked: str = ""
    unasked: int = 0
    asked_utc: datetime | None = None


@dataclass(frozen=True, slots=True)
class LookedThrough:
    """When a bucket was last looked through for whether everything is there, or an archive was last read to its end; else since when that is
    owed."""

    destination: str
    since_utc: datetime


@dataclass(frozen=True, slots=True)
class Unprotected:
    """A bucket in use of which what once protected it is gone (`lost`), or has not been told lately (`untold`), each in words."""

    destination: str
    lost: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    id: int = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    """The ransomware guard holds: since when, and by which of the words of `appliance.catalog.freezes.Why`."""

    why: str
    since_utc: datetime


@dataclass(frozen=True, slots=True)
class Forgotten:
    """After a restore: what was held, or let go, from `since_utc` to `until_utc` is not known here; None is from ever, without a backup.
    It `lacks_province` where nobody has chosen one since."""

    since_utc: datetime | None
    until_utc: datetime
    lacks_province: bool = False


class Discipline(StrEnum):
    """Whether the system clock follows a time server, as the kernel says."""

    FOLLOWS = "follows"
    FREE = "free"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of the box. `set_seconds` is by how much it was last seen to be set while running, at `set_utc`.

    `latest_record_utc` is the moment that the newest instance bears. It `is_doubted` when it was found set by much, or is behind
    something that was received, and nobody has said since that it is right (`appliance.lifecycle.retention`).
    """

    discipline: Discipline = Discipline.UNKNOWN
    set_seconds: float = 0.0
    set_utc: datetime | None = None
    latest_record_utc: datetime | None = None
    is_doubted: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that the box shows to others, by the name of its file."""

    name: str
    expires_utc: datetime


@dataclass(frozen=True, slots=True)
class Sender:
    """A device that may send. `days` are those on which it sent, as dates in the clinic's time, in order."""

    name: str
    days: tuple[date, ...] = ()
    last_seen_utc: datetime | None = None
    id: int = 0
    received_today: int = 0


@dataclass(frozen=True, slots=True)
class Altered:
    """How many images somebody else has written over or removed in a destination, "1000+" where they are more, and on which days in the
    clinic's time the first and the last was found so. The box has them."""

    destination: str
    count: str
    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Contents:
    """Counts over everything kept; `bytes` before sealing; `set_aside_damaged` of those that are `set_aside`; `patient_conflicts` in studies. `catalog_damage` is what the last
    reading of the catalog's own pages found wrong, in words; `unread_in_a_row` are the objects, one after the other, at which reading
    everything again has stopped because the disk does not give them back; `unread_disks` are the destinations that do not give back
    several copies, and `kept_back` those that do not give back images which no other gave a restored box, with how many;
    `unread_manifests` in which archives how many study manifests did not open for a restore, and `not_looked_through` which others were not read yet after one,
    `lying_deep` in which of those how many name images that a cloud has to bring up first;
    `lost_in` names each bucket that has images no longer whole that are not here nor elsewhere, with how many,
    and `altered_in` those in which somebody else has altered what could all be mended."""

    studies: int = 0
    instances: int = 0
    bytes: int = 0
    duplicates: int = 0
    patient_conflicts: int = 0
    damaged: int = 0
    set_aside: int = 0
    set_aside_damaged: int = 0
    catalog_damage: str = ""
    unread_in_a_row: int = 0
    unread_disks: tuple[str, ...] = ()
    kept_back: tuple[tuple[str, int], ...] = ()
    unread_manifests: tuple[tuple[str, int], ...] = ()
    not_looked_through: tuple[str, ...] = ()
    lying_deep: tuple[tuple[str, int], ...] = ()
    lost_in: tuple[tuple[str, int], ...] = ()
    altered_in: tuple[Altered, ...] = ()


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the box. `seal` is a `Guard` of `appliance.store.keys`, or why the machine seal can't be had; `slot_damage` is what is wrong with
    what the recovery key opens, in words."""

    recovery_confirmed: bool
    seal: str | Trouble
    slot_damage: str = ""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The audit's newest anchor in one archive. `offline` when the last attempt found no line to it."""

    destination: str
    at_utc: datetime | None
    rolled_back: bool = False
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is said: the clinic's choice, in the units of ``health.*`` of `appliance.settings`.

    The defaults are held to those of the settings by a test; they judge a box whose catalog does not answer.
    """

    delivery_late_hours: int = 1
    delivery_urgent_days: int = 3
    backup_late_days: int = 2
    backup_urgent_days: int = 7
    drill_late_days: int = 8
    certificate_days: int = 30
    disk_days: int = 30
    device_silent_days: int = 2
    failed_sign_ins: int = 20


@dataclass(frozen=True, slots=True)
class Facts:
    """The box at `at_utc`. What the catalog would tell is absent while `catalog` says why it doesn't answer.

    `too_small_for` names the archive whose images have no room on the data disk, after a restore. `lets_leave` says
    whether the clinic has chosen that images may leave it. `received_today` counts what came by every way, not only from `senders`. `left_versions` were tried on this machine
    and left again, because they did not prove themselves; `waiting_versions` (one at most) start with the next start,
    for which somebody must be there if `asks_pin`: the disk wants a PIN. While there is a `chosen_version`, which the firmware keeps for every
    start, none waits. `looked` is None where no image looks for versions.
    `runs_for` is how long the machine is on, None where the kernel does not say it.
    `held_to` is the version that the vendor has named to this box, and until when that was signed to hold.
    `heartbeats_stopped`: somebody had agreed to them, and what was agreed to has changed.
    """

    at_utc: datetime
    today: date
    keys: Keys
    disk: Disk | None = None
    too_small_for: str = ""
    lets_leave: bool = False
    left_versions: tuple[str, ...] = ()
    waiting_versions: tuple[str, ...] = ()
    chosen_version: str = ""
    versions_are_told: bool = True
    """Whether the image has said at this start which versions there are; a system that is none has nothing to say."""
    asks_pin: bool = False
    secure_boot: SecureBoot = SecureBoot.UNKNOWN
    looked: Looked | None = None
    runs_for: timedelta | None = None
    held_to: tuple[str, datetime] | None = None
    heartbeats_stopped: bool = False
    catalog: Trouble | None = None
    contents: Contents | None = None
    processes: Mapping[str, bool] = field(default_factory=dict)
    failing_jobs: tuple[str, ...] = ()
    queues: tuple[Queue, ...] = ()
    senders: tuple[Sender, ...] = ()
    received_today: int = 0
    rules: int = 0
    audit_findings: int = 0
    anchors: tuple[Anchor, ...] = ()
    audit_feed_behind_utc: datetime | None = None
    backup: Attempt | None = None
    drill: Attempt | None = None
    drills: tuple[Drilled, ...] = ()
    read_again: ReadAgain | None = None
    looked_through: tuple[LookedThrough, ...] = ()
    read_through: tuple[LookedThrough, ...] = ()
    unprotected: tuple[Unprotected, ...] = ()
    frozen: Frozen | None = None
    forgotten: Forgotten | None = None
    clock: Clock = Clock()
    certificates: tuple[Certificate, ...] = ()
    destructions_since: tuple[datetime, ...] = ()
    """When each that is not done everywhere was begun, the oldest first."""
    sign_in_failures: int = 0
    forecast: Forecast = field(default_factory=lambda: Forecast(Outlook.UNKNOWN))
    limits: Limits = Limits()
