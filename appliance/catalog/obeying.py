"""Destroying here what an archive says was destroyed, and owing what is still to be done of it elsewhere.

A box may burn in the middle of a destruction: its tombstone lies in an archive, and the backups there that remember the patient are still
to be made unreadable, as is all that an archive holds which was away. The box that comes back from such a backup knows nothing of the
certificate. So it begins one of its own, on that archive's word, by which every archive owes the whole again: what was done is found
done, and the certificate is complete once each has shown it.

One certificate for each that is found, as long as no archive has begun with it. What such a one says of its authority, JSON:

==============  ====================================================================================
found_as        the number of the certificate that the archive tells of
found_in        the name of the archive
destroyed_utc   when the first of its studies was destroyed, as the archive tells
unknown         how many of its studies this box did not know: its backup was from before they came, or none
==============  ====================================================================================

Rejected: to give it the number of the one that is found, which says more, has another signature, and may lie in somebody's file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from appliance.catalog import audit_search, erasure, holds, obligations, study_keys, tombstones
from appliance.catalog.columns import utc_text
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.destroyed_keys import Tombstone, decide, remember, remember_images
from appliance.catalog.erasure import Erased
from appliance.catalog.tombstones import Certificate
from appliance.model import InstanceId


@dataclass(frozen=True, slots=True)
class Obeyed:
    """A tombstone that was carried out here: what of it was `erased`, the certificate that owes the rest ("" where none does), and whether it
    `has_begun` with this one."""

    tombstone: Tombstone
    erased: tuple[Erased, ...]
    certificate: str
    has_begun: bool


def obey(
    tx: Transaction,
    manifest: str,
    found: Sequence[Tombstone],
    now: datetime,
    *,
    restored_to: InstanceId | None = None,
    found_in: str = "",
) -> tuple[Obeyed, ...]:
    """Destroy here what an archive says was destroyed: a box restored from an old backup, or from another archive.

    What was not known yet, for the audit and the disk. A study that has got images since is
    left as it is, with its key: an acknowledged image is not destroyed on the word of an archive, a person decides. So is one
    that is held, and one with an image that nobody had decided about. `restored_to` is the last instance that a restore brought: one behind it came since, whatever the clock
    of a new machine said when it did, unless another archive has brought it. `found_in` is the name of the archive; "" where the box never came back, and owes nothing by it.
    """
    done: list[Obeyed] = []
    for each in found:
        fresh = sorted(set(each.keys) - study_keys.destroyed_among(tx, each.keys))
        concerned = erasure.studies_under(tx, fresh)
        if not fresh:
            remember_images(tx, each)  # in another life more may have been decided about than here
            continue
        if any(received > each.destroyed_utc for _, received in concerned):
            continue
        if restored_to is not None and any(
            erasure.has_come_since(tx, study, restored_to) for study, _ in concerned
        ):
            continue
        if holds.held_among(tx, [study for study, _ in concerned]):
            continue
        if each.objects is not None and not all(
            erasure.objects_of(tx, study) <= set(each.objects) for study, _ in concerned
        ):
            continue
        gone = [erased for study, _ in concerned if (erased := erasure.erase(tx, study, now)) is not None]
        study_keys.destroy(tx, fresh, now)
        remember(tx, each, manifest)
        label, has_begun = _owe(tx, manifest, each, gone, found_in, now) if found_in else ("", False)
        for study, _ in concerned:
            decide(tx, study)
        done.append(Obeyed(each, tuple(gone), label, has_begun))
    return tuple(done)


def _owe(
    tx: Transaction,
    manifest: str,
    tombstone: Tombstone,
    gone: Sequence[Erased],
    found_in: str,
    now: datetime,
) -> tuple[str, bool]:
    """Record what every archive owes by a tombstone that was found; the number of the certificate, and whether it has begun with it."""
    known = tombstones.found_as(tx, tombstone.certificate)
    certificate = known or _begin(tx, tombstone, found_in, now)
    for each in gone:
        tombstones.bury(
            tx,
            certificate,
            each,
            why={"destroyed_before_utc": utc_text(tombstone.destroyed_utc)},
            elsewhere=obligations.given_in_clear(tx, each),
            exports=audit_search.count(tx, "study:export", each.study_instance_uid),
            manifest=manifest,
            archives=obligations.archives(tx, each),
            now=now,
        )
    if not gone:
        tombstones.owe(tx, certificate, obligations.archives(tx), now)
        told: dict[str, Any] = {**certificate.authority, "unknown": certificate.authority["unknown"] + 1}
        tombstones.retell(tx, certificate.id, told)
    tombstones.close(tx, certificate.id, now)
    return certificate.label, known is None


def _begin(tx: Transaction, tombstone: Tombstone, found_in: str, now: datetime) -> Certificate:
    authority = {
        "found_as": tombstone.certificate,
        "found_in": found_in,
        "destroyed_utc": utc_text(tombstone.destroyed_utc),
        "unknown": 0,
    }
    return tombstones.begin(tx, None, authority, now)


def left_alive(conn: Reading, told: Sequence[Tombstone]) -> dict[str, tuple[int, ...]]:
    """The studies (row ids) that are here under keys which an archive calls destroyed, by the label of the certificate."""
    found: dict[str, tuple[int, ...]] = {}
    for each in told:
        if here := tuple(study for study, _ in erasure.studies_under(conn, each.keys)):
            found[each.certificate] = found.get(each.certificate, ()) + here
    return found
