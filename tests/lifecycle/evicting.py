"""A clinic whose images may leave, and what a test asks of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.box import Box
from appliance.catalog import studies
from appliance.catalog.columns import utc_text
from appliance.lifecycle import eviction, retention
from appliance.lifecycle.eviction import Around, Evicted
from appliance.lifecycle.tiers import Choices, Eviction
from appliance.replication import recall
from appliance.replication.destinations.archive import object_key
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic, contents, disk  # noqa: F401 - fixtures
from tests.boxes import recorded

NOW = datetime.now(UTC) + timedelta(hours=12)
ANY = Choices(
    eviction=Eviction.BY_AGE,
    keep_days=730,
    unused_days=180,
    newest_studies=0,
    copies=1,
    low_percent=20,
    enough_percent=30,
    always_there=frozenset({"vault"}),
)
"""As the clinic chose it, but that a disk counts as always there."""

UNCUT = Around()


def at_now() -> datetime:
    """The clock of a run that takes no time."""
    return NOW


def grow_old(box: Box) -> None:
    """Four years go by for every study, and none for the clock."""
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, NOW, follows_time_server=True)
        tx.exec_driver_sql(
            "UPDATE studies SET last_received_utc = ?, first_received_utc = ?",
            (utc_text(NOW - timedelta(days=1500)), utc_text(NOW - timedelta(days=1500))),
        )


def study_ids(box: Box) -> list[int]:
    with box.catalog.reading() as conn:
        return sorted(each.id for each in studies.find(conn))


def evict_all(box: Box, standing: Choices = ANY, around: Around = UNCUT) -> Evicted:
    eviction.settle(box, NOW)
    total = Evicted()
    for study in study_ids(box):
        total += eviction.evict_study(box, study, standing, at_now, around)
    return total


def here(box: Box) -> int:
    return sum(recall.is_here(box, row.object_id) for row in recorded(box))


def reached(box: Box) -> dict[str, bytes]:
    """Every image by its UID, wherever it is."""
    for row in recorded(box):
        recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes).close()
    return contents(box)


def in_archive(clinic: Clinic, number: int = 0) -> Path:  # noqa: F811
    row = recorded(clinic.box)[number]
    return Path(clinic.place.options["path"]) / object_key(row.object_id)  # type: ignore[arg-type]


def rows(box: Box) -> int:
    with box.catalog.reading() as conn:
        return int(conn.exec_driver_sql("SELECT count(*) FROM evictions").scalar() or 0)


def only_at(wanted: str, act: Callable[[], None]) -> Around:
    """`act` happens once, at that step."""
    once = iter([act])

    def reached(step: str) -> None:
        if step == wanted:
            for each in once:
                each()

    return Around(reached=reached)


def without_receipt(clinic: Clinic) -> None:  # noqa: F811
    with clinic.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE deliveries SET state = 'PENDING', receipt = NULL")


def without_archive(clinic: Clinic) -> None:  # noqa: F811
    path = Path(str(clinic.place.options["path"]))
    path.rename(path.with_name("at home"))
