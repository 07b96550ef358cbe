"""Which backups an archive holds that a box can be restored from: in the order in which a restore would take them.

That order is no clock's (`snapshot.in_order`), and so not that of their names: whoever shows them keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.backup import ahead, snapshot
from appliance.backup.fetching import newest_first, open_root
from appliance.backup.snapshot import Index
from appliance.catalog.schema import REVISION
from appliance.errors import Corrupt, OperatorNeeded, Unknown
from appliance.replication.destinations import Archive
from appliance.replication.destinations.archive import MANIFESTS
from appliance.store.recovery import RecoveryKey
from appliance.store.root_key import wrapped_generation


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


def look(archive: Archive, key: RecoveryKey, *, most: int = 20, now: datetime | None = None) -> Found:
    """What of `archive` could be restored with `key`, of the newest `most` snapshots. Reads, and writes nothing.

    `now` is what the clock says, unless another moment is given. Raises as `restoring.restore`.
    """
    names = snapshot.names_in([each.key for each in archive.documents(snapshot.PREFIX)])
    now = now or datetime.now(UTC)
    _, root = open_root(archive, names, key)
    backups: list[Index] = []
    damaged = 0
    latest = newest_first(archive, root, names, now)[:most]
    with ahead.reading(archive, latest, snapshot.index_key) as found:
        for name, document in found:
            try:
                sealed = document()
                if wrapped_generation(sealed) > root.generation:
                    continue
                backups.append(snapshot.decode(name, root.unseal(sealed, snapshot.context(name))))
            except (Corrupt, Unknown):
                damaged += 1
    manifests = sum(1 for _ in archive.documents(MANIFESTS))
    return Found(tuple(backups), damaged, manifests)


def is_too_new(index: Index) -> bool:
    """Whether newer software has made a backup, with tables that this version does not know."""
    return index.revision > REVISION


def needs(index: Index) -> OperatorNeeded:
    """What is raised for a backup of newer software."""
    return OperatorNeeded(
        f"the backup was made by newer software ({index.software})",
        hint=f"install version {index.software} or a newer one, and restore again",
    )
