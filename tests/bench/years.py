"""A box of many years without its images: rows, keys, what was owed and proven, the audit, and a manifest a study in an archive.

What reception, courier and lane write of an image is written here by the same functions, in batches; only the sealed objects are not
there, which nothing reads that is measured by this. The archive is a folder, in the layout of every archive.
"""

import hashlib
import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from appliance import audit
from appliance.box import Box, open_box
from appliance.catalog import deliveries, destinations, manifests, rules
from appliance.ingest.accept import accept_within
from appliance.model import DestinationSettings, ObjectId, Received, Rule, Uid
from appliance.replication import manifest
from appliance.replication.batch import ACTOR
from appliance.replication.destinations.archive import RECOVERY_SLOT, object_key
from appliance.replication.destinations.vault import VaultDestination
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from tests.boxes import config_in

from . import retaining
from .wire import PeerFailed

AT_ONCE = 250
LEASE_SECONDS = 3600.0
Found = TypeVar("Found")


@contextmanager
def box_of_years(
    data: Path, place: DestinationSettings
) -> Iterator[tuple[Box, DestinationSettings, RecoveryKey]]:
    """A new box that owes everything to `place`; the box, the place as it is recorded, and the paper."""
    box = open_box(config_in(data))
    try:
        paper = keys.show_recovery(data / "keys", box.root)
        with box.catalog.transaction() as tx:
            place = replace(place, id=destinations.add(tx, place))
            rules.add_rule(tx, Rule(place.id, place.name, place.takes))
        yield box, place, paper
    finally:
        box.close()


@contextmanager
def reopened(data: Path) -> Iterator[Box]:
    """The box that lies there."""
    box = open_box(config_in(data))
    try:
        yield box
    finally:
        box.close()


def lay_slot(box: Box, data: Path, folder: Path) -> None:
    """The recovery slot into the archive that `folder` is."""
    VaultDestination(folder).put_document(RECOVERY_SLOT, keys.whole_recovery_slot(data / "keys"))


def live(
    box: Box, place: DestinationSettings, folder: Path, numbers: Sequence[int], of: int, films: int
) -> None:
    """Let the studies of these numbers come, be delivered to `place` and described in `folder`; the higher of `of`, the later."""
    (folder / "manifests").mkdir(exist_ok=True)
    for start in range(0, len(numbers), AT_ONCE):
        some = numbers[start : start + AT_ONCE]
        arrivals = [_received(box, number, film, of) for number in some for film in range(films)]
        now = datetime.now(UTC)
        with box.catalog.transaction() as tx:
            accept_within(tx, box, arrivals, now)
        _deliver(box, place, len(arrivals), now)
        _describe(box, place, folder)


def _received(box: Box, study: int, film: int, of: int) -> Received:
    """A film of the study of a number. Names are drawn, as a box and its modalities draw them: rows come in no order of theirs."""
    plain = retaining.received(study, film, of)
    drawn = hashlib.blake2b(f"{study}.{film}".encode(), digest_size=16)
    of_study = Uid(f"2.25.{int.from_bytes(hashlib.blake2b(f'{study}'.encode(), digest_size=15).digest())}")
    header = replace(
        plain.header,
        study_instance_uid=of_study,
        series_instance_uid=Uid(f"{of_study}.1"),
        sop_instance_uid=Uid(f"2.25.{int.from_bytes(drawn.digest())}"),
    )
    key = box.study_keys.for_study(of_study)
    stored = replace(
        plain.stored, object_id=ObjectId(drawn.hexdigest()), key_id=key.key_id, wrapped_key=key.wrapped
    )
    return replace(plain, header=header, stored=stored)


def _deliver(box: Box, place: DestinationSettings, count: int, now: datetime) -> None:
    """All that is owed has its receipt, as a bucket gives it."""
    with box.catalog.transaction() as tx:
        claimed = deliveries.claim(tx, place.id, now=now, lease_seconds=LEASE_SECONDS, limit=count)
        assert len(claimed) == count, f"{len(claimed)} of {count} images were owed"
        entries = []
        for each in claimed:
            receipt = {
                "at_utc": now.isoformat(timespec="seconds"),
                "bucket": "clinic",
                "key": object_key(each.object_id),
                "bytes": each.sealed_bytes,
                "sha256": each.object_id * 2,
                "etag": each.object_id,
                "version_id": each.object_id,
                "proof": "read back",
            }
            deliveries.confirm(tx, each.id, receipt, now)
            details = {"to": place.name, "instance": each.instance}
            uid = each.study_instance_uid
            entries.append(audit.Entry("delivery:confirm", str(each.id), ACTOR, details, study=uid))
        audit.append(tx, box.audit_key, entries, now)
        manifests.mark(tx, place.id, sorted({each.study for each in claimed}), now)


def _describe(box: Box, place: DestinationSettings, folder: Path) -> None:
    """Every manifest that is out of date, into the folder; not synced."""
    now = datetime.now(UTC) + timedelta(days=1)
    with box.catalog.reading() as conn:
        due = manifests.out_of_date(conn, place.id, quiet_since=now, written_before=now, limit=10 * AT_ONCE)
        for each in due:
            key = manifest.key(box.root, each.study_instance_uid)
            rows = manifests.rows_of(conn, place.id, each.study)
            (folder / key).write_bytes(manifest.seal(box.root, key, rows))
    with box.catalog.transaction() as tx:
        for each in due:
            manifests.written(tx, place.id, each, now)
        details = {"to": place.name}
        entries = [audit.Entry("manifest:write", str(each.study), ACTOR, details) for each in due]
        audit.append(tx, box.audit_key, entries, now)


def by_itself(act: Callable[..., Found], *arguments: Any) -> Found:
    """What `act` returns in a process of its own, whose memory and processor time are its own. Raises `PeerFailed`."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    working = context.Process(target=_act, args=(theirs, act, arguments))
    working.start()
    theirs.close()
    try:
        found: Found = ours.recv()
    except EOFError:
        working.join()
        raise PeerFailed(f"{act.__name__} failed") from None
    working.join()
    return found


def _act(back: Connection, act: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    logging.getLogger("appliance").setLevel(logging.CRITICAL)
    back.send(act(*arguments))
