"""Who did what: rows chained with a key, written in the same transaction as what they record.

``append`` writes, ``verify`` finds any edit, removal, reordering or truncation (`appliance.audit.chain` says how),
``witness`` is what to keep elsewhere, so that even a roll-back of the whole catalog shows. The key is
``RootKey.derive("audit")``.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from appliance.audit.chain import (
    FORMAT,
    GENESIS,
    Finding,
    Flaw,
    Witness,
    findings,
    head_holds,
    head_mac,
    mended_chain,
    row_chain,
)
from appliance.audit.exports import exported
from appliance.audit.vocabulary import VOCABULARY, Concerns, Kind, Outcome, Word
from appliance.catalog import Reading, Transaction, audit_log
from appliance.catalog.audit_log import AuditHead, AuditRow
from appliance.catalog.columns import canonical_json, utc_text

__all__ = [
    "VOCABULARY",
    "ActorKind",
    "Concerns",
    "Entry",
    "Finding",
    "Flaw",
    "Kind",
    "Outcome",
    "Witness",
    "Word",
    "append",
    "export",
    "holds",
    "recent",
    "row",
    "verify",
    "witness",
]


class ActorKind(StrEnum):
    """Who acts."""

    PERSON = "person"
    DEVICE = "device"
    PROCESS = "process"
    VISITOR = "visitor"  # somebody at the console whom nobody knows


_ACTORS = {
    "dicom": ActorKind.DEVICE,
    "appliance": ActorKind.PROCESS,
    "courier": ActorKind.PROCESS,
    "jobs": ActorKind.PROCESS,
    "visitor": ActorKind.VISITOR,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that `actor` (an AE title, a login, or a process of the box) did to `subject`.

    `details` is JSON-able and holds no secret and no name of a patient. `study` is the Study Instance UID of the one
    study concerned, `address` where the actor was. Who says neither kind nor outcome gets those that the actor's text
    and the word imply; an address or a study among the details is found there.
    Raises ValueError for an action outside `VOCABULARY`.
    """

    action: str
    subject: str
    actor: str
    details: Mapping[str, Any] = field(default_factory=dict)
    study: str = ""
    address: str = ""
    actor_kind: ActorKind | None = None
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        if self.action not in VOCABULARY:
            raise ValueError(f"{self.action} is not in the vocabulary of the audit")

    def row(self, number: int, at_utc: str) -> AuditRow:
        """The entry as row `number`, not chained yet."""
        word = VOCABULARY[self.action]
        return AuditRow(
            id=number,
            at_utc=at_utc,
            actor=self.actor,
            actor_kind=str(self.actor_kind or _ACTORS.get(self.actor.partition(":")[0], ActorKind.PERSON)),
            address=self.address or _detail(self.details, "address"),
            action=self.action,
            subject=self.subject,
            study=self.study or (_detail(self.details, "study") if word.concerns is Concerns.STUDY else ""),
            outcome=str(self.outcome or word.outcome),
            details=canonical_json(dict(self.details)) if self.details else "{}",
            format=FORMAT,
            chain=b"",
        )


def _detail(details: Mapping[str, Any], name: str) -> str:
    value = details.get(name, "")
    return value if isinstance(value, str) else ""


def append(tx: Transaction, key: bytes, entries: Sequence[Entry], now: datetime) -> None:
    """Write `entries`, in order, as of `now`. They stay or go with the transaction.

    An audit that was tampered with still takes rows: images must go on arriving. The break stays where it is, and
    every later `verify` finds it.
    """
    if not entries:
        return
    head = audit_log.head(tx)
    last = audit_log.last_id(tx)
    if head is None and last == 0:
        count, chain = 0, GENESIS
    elif head is not None and head_holds(key, head):
        count, chain = max(head.count, last), head.chain
    else:
        count, chain = last, mended_chain(key, head)
    at = utc_text(now)
    rows: list[AuditRow] = []
    for entry in entries:
        count += 1
        unchained = entry.row(count, at)
        chain = row_chain(key, chain, unchained) or b""
        rows.append(replace(unchained, chain=chain))
    audit_log.add(tx, rows, AuditHead(count, chain, head_mac(key, count, chain)))


def verify(reading: Reading, key: bytes, witness: Witness | None = None) -> list[Finding]:
    """Everything wrong with the audit, or nothing. `witness` is what `witness` gave at some earlier moment."""
    return list(findings(key, audit_log.rows(reading), audit_log.head(reading), witness))


def witness(reading: Reading) -> Witness:
    """What the audit is now; of the genesis if it is empty."""
    head = audit_log.head(reading)
    return Witness(0, GENESIS) if head is None else Witness(int(head.count), bytes(head.chain))


def holds(reading: Reading, told: Witness) -> bool:
    """Whether the log still contains the row that a witness names."""
    if told.count == 0:
        return True
    found = row(reading, told.count)
    return found is not None and hmac.compare_digest(found.chain, told.chain)


def export(reading: Reading) -> Iterator[dict[str, Any]]:
    """Every row, the oldest first, as JSON-able values; `details` is the canonical text, `chain` in hexadecimal."""
    return (exported(row) for row in audit_log.rows(reading))


def row(reading: Reading, number: int) -> AuditRow | None:
    """One row by its number."""
    found = audit_log.newest(reading, limit=1, before=number + 1)
    return found[0] if found and found[0].id == number else None


def recent(reading: Reading, *, limit: int = 100, before: int | None = None) -> list[dict[str, Any]]:
    """The newest `limit` rows, the newest first, as `export` gives them; for the next page pass the last id."""
    return [exported(row) for row in audit_log.newest(reading, limit=limit, before=before)]
