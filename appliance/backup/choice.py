"""Which backups an archive holds that a box can be restored from: in the order in which a restore would take them.

That order is no clock's (`snapshot.in_order`), and so not that of their names: whoever shows them keeps it.

The newest is taken unless somebody chooses another by its name, above all one from before a box was emptied or its images were written
over by somebody who had taken it over. What came later is read from the study manifests, as it is beside the newest. What an
older backup remembers and a newer one doesn't comes back where it is merely missing there, and stays destroyed where a tombstone
lies in the archive (`replication.tombstone`): that is sealed under the root key, so whoever has but the bucket can't write one.

A newest backup that holds less than half of what another held was perhaps made of an emptied box: `shrunk`. Nobody restores it without
having named it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from appliance.backup import ahead, snapshot, standing
from appliance.backup.fetching import ages_of, open_root
from appliance.backup.snapshot import Index
from appliance.catalog.schema import REVISION
from appliance.errors import Corrupt, OperatorNeeded, Unknown, Unreadable
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import MANIFESTS
from appliance.store.recovery import RecoveryKey
from appliance.store.root_key import wrapped_generation

MOST: Final = 200
"""So many are shown, the newest first: of 35 days some are made beside the daily one, and the good one may lie weeks back."""

FEW: Final = 20
"""Studies: of so few half may well be destroyed in a day."""

MOST_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Found:
    """What an archive holds that the recovery key opens: backups, the newest first, and how many manifests beside them.

    `damaged` is how many indexes do not say what was written.
    """

    backups: tuple[Index, ...] = ()
    damaged: int = 0
    manifests: int = 0

    @property
    def snapshots(self) -> tuple[Index, ...]:
        """Those that this version can restore, the newest first."""
        return tuple(each for each in self.backups if not is_too_new(each))

    @property
    def too_new(self) -> tuple[Index, ...]:
        """Those of newer software, the newest first."""
        return tuple(each for each in self.backups if is_too_new(each))

    def check(self) -> None:
        """Raises `OperatorNeeded` when nothing can be restored, or newer software is needed for the newest."""
        if self.backups and is_too_new(self.backups[0]):
            raise needs(self.backups[0])
        if not self.backups and not self.manifests:
            raise OperatorNeeded(
                "this archive holds neither a backup nor a study manifest",
                hint="check the bucket or the folder; it is where the box has kept its sealed copies",
            )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person has chosen: a backup by its name, or the newest (empty); and the archive as of a moment, or as it is now (None)."""

    backup: str = ""
    as_of: datetime | None = None

    @property
    def moment(self) -> str:
        return "" if self.as_of is None else self.as_of.isoformat()


def look(archive: Archive, key: RecoveryKey, *, most: int = MOST, now: datetime | None = None) -> Found:
    """What of `archive` could be restored with `key`, of the newest `most` snapshots. Reads, and writes nothing.

    `now` is what the clock says, unless another moment is given. Raises as `restoring.restore`.
    """
    names = list(standing.look(archive).names)
    _, root = open_root(archive, names, key)
    backups: dict[str, Index] = {}
    damaged: set[str] = set()
    with ahead.reading(archive, names, snapshot.index_key) as found:
        for name, document in found:
            try:
                sealed = document()
                if wrapped_generation(sealed) <= root.generation:
                    backups[name] = snapshot.decode(name, root.unseal(sealed, snapshot.context(name)))
            except (Corrupt, Unknown, Unreadable):
                damaged.add(name)
    latest = snapshot.in_order(names, ages_of(backups), now or datetime.now(UTC))[:most]
    return Found(
        tuple(backups[each] for each in latest if each in backups),
        len(damaged.intersection(latest)),
        sum(1 for _ in archive.documents(MANIFESTS)),
    )


def shrunk(backups: Sequence[Index]) -> Index | None:
    """Of `backups`, the newest first, the one with the most studies, where the newest has less than half of those of it. Pure."""
    if not backups:
        return None
    fullest = max(backups, key=lambda each: each.contents.studies)
    most = fullest.contents.studies
    return fullest if most > FEW and 2 * backups[0].contents.studies < most else None


def chosen(order: Sequence[str], known: Mapping[str, Index], name: str) -> list[str]:
    """Which of the backups `order`, the newest first, are to be tried, by what is `known` of them: the one called `name`, or where that is
    empty each until one is whole.

    Raises `Unknown` where none is called so, and `OperatorNeeded` where a person has to choose. Pure.
    """
    readable = [known[each] for each in order if each in known]
    if name:
        if name not in order:
            raise Unknown(f"there is no backup {name} here", hint=_one_of(readable))
        return [name]
    if readable and not is_too_new(readable[0]) and (fullest := shrunk(readable[:MOST])) is not None:
        newest = readable[0]
        raise OperatorNeeded(
            f"the newest backup holds {newest.contents.studies} studies, and another holds {fullest.contents.studies}: "
            "the box may have been emptied before it was made",
            hint=f"name the one to restore with --backup; {_one_of([newest, fullest])}; --list shows all",
        )
    return [*order]


def _one_of(backups: Sequence[Index]) -> str:
    told = [f"{each.name} ({each.contents.studies} studies)" for each in backups[:MOST_NAMED]]
    return f"one of: {', '.join(told)}" if told else "there is none that the recovery key opens"


def is_too_new(index: Index) -> bool:
    """Whether newer software has made a backup, with tables or in a format that this version does not know."""
    return index.revision > REVISION or index.format > snapshot.FORMAT


def needs(index: Index) -> OperatorNeeded:
    """What is raised for a backup of newer software."""
    return OperatorNeeded(
        f"the backup was made by newer software ({index.software})",
        hint=f"install version {index.software} or a newer one, and restore again",
    )
