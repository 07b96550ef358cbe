"""Who did what: rows chained with a key, written in the same transaction as what they record.

``append`` writes, ``verify`` finds any edit, removal, reordering or truncation (`appliance.audit.chain` says how),
``witness`` is what to keep elsewhere, so that even a roll-back of the whole catalog shows. The key is
``RootKey.derive("audit")``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from appliance.audit.chain import (
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
from appliance.audit.vocabulary import VOCABULARY
from appliance.catalog import Reading, Transaction, audit_log
from appliance.catalog.audit_log import AuditHead, AuditRow
from appliance.catalog.columns import canonical_json, utc_text

__all__ = [
    "VOCABULARY",
    "Entry",
    "Finding",
    "Flaw",
    "Witness",
    "append",
    "export",
    "recent",
    "verify",
    "witness",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that `actor` (an AE title, a login, or a process of the box) did to `subject`.

    `details` is JSON-able and holds no secret. Raises ValueError for an action outside `VOCABULARY`.
    """

    action: str
    subject: str
    actor: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.action not in VOCABULARY:
            raise ValueError(f"{self.action} is not in the vocabulary of the audit")


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
        details = canonical_json(dict(entry.details)) if entry.details else "{}"
        unchained = AuditRow(count, at, entry.actor, entry.action, entry.subject, details, b"")
        chain = row_chain(key, chain, unchained) or b""
        rows.append(AuditRow(count, at, entry.actor, entry.action, entry.subject, details, chain))
    audit_log.add(tx, rows, AuditHead(count, chain, head_mac(key, count, chain)))


def verify(reading: Reading, key: bytes, witness: Witness | None = None) -> list[Finding]:
    """Everything wrong with the audit, or nothing. `witness` is what `witness` gave at some earlier moment."""
    return list(findings(key, audit_log.rows(reading), audit_log.head(reading), witness))


def witness(reading: Reading) -> Witness:
    """What the audit is now; of the genesis if it is empty."""
    head = audit_log.head(reading)
    return Witness(0, GENESIS) if head is None else Witness(int(head.count), bytes(head.chain))


def export(reading: Reading) -> Iterator[dict[str, Any]]:
    """Every row, the oldest first, as JSON-able values; `details` is the canonical text, `chain` in hexadecimal."""
    return (_exported(row) for row in audit_log.rows(reading))


def recent(reading: Reading, *, limit: int = 100, before: int | None = None) -> list[dict[str, Any]]:
    """The newest `limit` rows, the newest first, as `export` gives them; for the next page pass the last id."""
    return [_exported(row) for row in audit_log.newest(reading, limit=limit, before=before)]


def _exported(row: AuditRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "at_utc": row.at_utc,
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "details": row.details,
        "chain": row.chain.hex() if isinstance(row.chain, bytes) else str(row.chain),
    }
