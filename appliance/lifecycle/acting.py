"""Who does something to what is kept, and when; each act leaves its audit row in its own transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from appliance import audit
from appliance.catalog import Transaction


@dataclass(frozen=True, slots=True)
class Act:
    """`by` is a login, a command line, or a process of the box; `address` where a person was."""

    by: str
    now: datetime
    audit_key: bytes = field(repr=False)
    address: str = ""

    def record(
        self,
        tx: Transaction,
        word: str,
        subject: str,
        details: Mapping[str, object] | None = None,
        *,
        study: str = "",
    ) -> None:
        """Write into the audit what was done."""
        entry = audit.Entry(word, subject, self.by, dict(details or {}), study=study, address=self.address)
        audit.append(tx, self.audit_key, [entry], self.now)
