"""The audit as a file: JSON or CSV, row by row, with what it takes to check it elsewhere.

Every row carries its chain value, so a file that holds rows n to m without a gap can be checked by whoever has the
box's audit key, and two files of different days against each other by anybody: a row that is in both must be the same,
chain value included. How the value is made is in `appliance.audit.chain`; in words, for format 2::

    chain(n) = HMAC-SHA256(audit key, "row" 02 ‖ chain(n-1) ‖ id as 8 bytes ‖ the nine texts, each behind 4 bytes of length)

CSV is for spreadsheets: a text that one of them would take for a formula gets an apostrophe in front, so only JSON is
exact and can be verified: ``appliance audit verify --file FILE``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from appliance.audit.chain import GENESIS, Finding, Flaw, row_chain
from appliance.catalog.audit_log import COLUMNS, AuditRow
from appliance.catalog.columns import canonical_json
from appliance.errors import Refused

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def exported(row: AuditRow) -> dict[str, Any]:
    """`row` as JSON-able values; `chain` in hexadecimal, `details` as its canonical text."""
    values = {name: getattr(row, name) for name in COLUMNS}
    return values | {"chain": row.chain.hex() if isinstance(row.chain, bytes) else str(row.chain)}


def json_lines(rows: Iterable[AuditRow]) -> Iterator[str]:
    """One JSON object a line."""
    for row in rows:
        yield json.dumps(exported(row), ensure_ascii=False) + "\n"


def json_document(rows: Iterable[AuditRow]) -> Iterator[str]:
    """One JSON array, a row on each line, its details as they mean rather than as they are written."""
    separator = "[\n"
    for row in rows:
        values = exported(row)
        with suppress(ValueError, TypeError):
            values["details"] = json.loads(values["details"])
        yield separator + json.dumps(values, ensure_ascii=False)
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def csv_lines(rows: Iterable[AuditRow]) -> Iterator[str]:
    """A header and one line a row, nothing of which a spreadsheet takes for a formula."""
    yield ",".join(COLUMNS) + "\r\n"
    for row in rows:
        out = io.StringIO()
        csv.writer(out).writerow([inert(value) for value in exported(row).values()])
        yield out.getvalue()


def inert(value: object) -> object:
    """Text that a spreadsheet takes for text: a caller's AE title may begin like a formula."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value


def verify_lines(key: bytes, lines: Iterable[str]) -> Iterator[Finding]:
    """Everything wrong in an export in JSON, a row on each line: each row is judged against the one before it in the file.

    The first row is judged only if it is the first of the audit. Raises `Refused` for what is no export.
    """
    before: AuditRow | None = None
    for line in lines:
        line = line.strip().rstrip(",")
        if line in ("", "[", "]", "[]"):
            continue
        row = _row(line)
        if before is not None and row.id != before.id + 1:
            yield Finding(Flaw.MISSING, row.id, f"the file goes from row {before.id} to row {row.id}")
        elif before is not None or row.id == 1:
            chain = GENESIS if before is None else before.chain
            if row_chain(key, chain, row) != row.chain:
                words = f"row {row.id} is not what was written, or not after the row it follows"
                yield Finding(Flaw.ALTERED, row.id, words)
        before = row


def _row(line: str) -> AuditRow:
    try:
        values = json.loads(line)
        if isinstance(values["details"], dict):
            values["details"] = canonical_json(values["details"])
        return AuditRow(**(values | {"chain": bytes.fromhex(values["chain"])}))
    except (ValueError, TypeError, KeyError) as error:
        raise Refused(
            "this is not an export of the audit in JSON", hint="make one with 'appliance audit export'"
        ) from error
