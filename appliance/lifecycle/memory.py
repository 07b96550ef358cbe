"""What a restored box cannot remember: what people decided after its backup was made. Nothing is destroyed until somebody has looked.

A hold is in the catalog alone, as is a visit that a person has entered, and a manifest says nothing of them. So what was placed or entered after
the backup is gone with the box that burned, and a restore by manifests alone brings back none at all, nor the clinic's own periods, nor its
province: what every box begins with would pass for it, and a clinic of British Columbia would destroy by the years of Quebec. So no province is known then, and nothing is ever due,
until a person has chosen. Whether there was one can't be known: also
where the backup is an hour old, it is asked.

Chose to ask once, in words, and to refuse every destruction until then; because what was destroyed a day too early can't be brought back.
Rejected: to hold every study that came back, which nobody would ever release one by one. Images that leave this disk are not destroyed,
and go on leaving.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from appliance import settings as operator_settings
from appliance.catalog import Reading, Transaction, settings
from appliance.errors import Refused
from appliance.lifecycle.acting import Act

KEY: Final = "restore.memory"
"""From when to when this box remembers nothing, in `appliance.catalog.settings`, until a person has looked: ``since_utc`` is the hour of
the backup, or null where none came; ``until_utc`` that of the restore; ``lacks_province`` whether nobody has chosen one since."""

DECIDED: Final = "backup.decided"
"""How often people have decided what no manifest tells, in `appliance.catalog.settings`: a backup with an earlier number lacks something."""

PROVINCE: Final = "clinic.province"


@dataclass(frozen=True, slots=True)
class Gap:
    """What was decided from `since_utc` to `until_utc` is not known here; None is from ever, where no backup came."""

    since_utc: datetime | None
    until_utc: datetime


def gap(reading: Reading) -> Gap | None:
    """What nobody has looked at since a restore; None where somebody has, or nothing was ever restored."""
    told = settings.get(reading, KEY)
    if not isinstance(told, dict):
        return None
    since = told["since_utc"]
    return Gap(
        None if since is None else datetime.fromisoformat(since), datetime.fromisoformat(told["until_utc"])
    )


def note_restored(tx: Transaction, backup_utc: datetime | None, now: datetime) -> None:
    """Note that this box has become what a backup of `backup_utc` remembers, or with None what manifests say.

    A gap that its catalog brings along was never looked at: the new one begins where that began.
    """
    before = gap(tx)
    since = backup_utc
    if before is not None and since is not None:
        since = None if before.since_utc is None else min(before.since_utc, since)
    lacks_province = backup_utc is None or lacks_a_province(tx)
    told: dict[str, Any] = {
        "since_utc": None if since is None else since.astimezone(UTC).isoformat(),
        "until_utc": now.astimezone(UTC).isoformat(),
        "lacks_province": lacks_province,
    }
    settings.put(tx, KEY, told, now)


def decided(tx: Transaction, now: datetime) -> None:
    """Note that a person has decided what only a backup can tell: one is made soon, and not at the end of the day.

    Counted, since no clock is right for ever. Rejected: a sealed document for each hold in every archive, which would have to be laid, read,
    buried with its patient and understood for ever, to spare an hour.
    """
    settings.put(tx, DECIDED, decisions(tx) + 1, now)


def decisions(reading: Reading) -> int:
    """How often people have decided such a thing."""
    return int(settings.get(reading, DECIDED, 0))


def refuse(reading: Reading) -> None:
    """Raise `Refused` while a restored box doesn't know what is held.

    Whoever asks for a destruction, approves it or carries it out asks this in the same transaction.
    """
    if gap(reading) is not None:
        raise Refused(
            "after a restore nothing is destroyed until a person has looked at the holds, the visits, the periods and the province",
            hint="place again what is held and enter again what was seen by your papers, and say on the page of retention that you have looked",
        )


def lacks_a_province(reading: Reading) -> bool:
    """Whether nobody has chosen the province since a restore that brought no settings; another one than the default says so by itself."""
    told = settings.get(reading, KEY)
    asks = isinstance(told, dict) and bool(told.get("lacks_province"))
    return asks and not operator_settings.is_set(reading, PROVINCE)


def chosen_province(tx: Transaction, now: datetime) -> None:
    """A person has chosen the province, be it the one that every box begins with, which the settings don't keep."""
    told = settings.get(tx, KEY)
    if isinstance(told, dict):
        settings.put(tx, KEY, {**told, "lacks_province": False}, now)


def look_again(tx: Transaction, act: Act, province: str = "") -> None:
    """A person has looked at holds, visits, periods and province, and placed again what was missing.

    `province` is the clinic's, where none is known; one that is known is changed among the settings, by whoever may. Raises `Refused`
    if nobody asked, while no province is known, and for a province that nobody asked for.
    """
    found = gap(tx)
    if found is None:
        raise Refused(
            "nothing waits to be looked at since a restore", hint="look at the page of retention again"
        )
    lacks = lacks_a_province(tx)
    if province and not lacks:
        raise Refused(
            "the province of the clinic is known", hint="if it is another one, change it in the settings"
        )
    if lacks and not province:
        raise Refused(
            "it is not known in which province the clinic is", hint="choose the province of the clinic"
        )
    if province:
        change = {PROVINCE: province}
        operator_settings.change(tx, act.audit_key, change, actor=act.by, now=act.now)
    settings.remove(tx, KEY)
    since = None if found.since_utc is None else found.since_utc.isoformat()
    act.record(
        tx, "retention:look-again", "holds", {"since_utc": since, "until_utc": found.until_utc.isoformat()}
    )
