"""How rows of the audit are chained, and what a broken chain tells. Pure.

Every row carries an HMAC-SHA256 over itself and the row before, so no row can be edited, removed, moved or added
without the key. The head carries how many rows there are, authenticated too, so the end cannot be cut off. Both come
from a key derived from the root key, which a thief of the disk does not have.

Chose a chain over a tree of hashes because it is only ever read from end to end, and over signatures because the one
who verifies is the one who writes; what a box cannot prove of itself, a `Witness` kept elsewhere does.

Bytes under the HMAC; integers are big-endian, text is UTF-8 preceded by its length in 4 bytes:

    ====== ======================================== =================================================
    row    ``row`` 02                               4 bytes
           chain value of the row before            32 bytes, zeros before the first
           id                                       8 bytes
           at_utc, actor, actor_kind, address,      text each, exactly as in the table
           action, subject, study, outcome, details
    head   ``head`` 00                              5 bytes
           count                                    8 bytes
           chain value of the last row              32 bytes
    mend   ``mend`` 00                              5 bytes
           chain value found in the head            32 bytes, or none
    ====== ======================================== =================================================

Every row says its format, so that the chain can grow new columns without being written anew. The table above is format
2. Format 1 had ``row`` 00 and at_utc, actor, action, subject, details; its rows have no other text, and must not be
given any. A row whose format is changed no longer fits its chain value, since the number is under the HMAC too.

*mend* stands in for the row before when a row has to be written although the head does not hold: images must go on
arriving, and the break must stay visible for ever.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Self

from appliance.catalog.audit_log import AuditHead, AuditRow
from appliance.errors import Refused

CHAIN_BYTES = 32
GENESIS = bytes(CHAIN_BYTES)


class Flaw(StrEnum):
    """What can be wrong with an audit."""

    ALTERED = "altered"
    MISSING = "missing"
    HEAD = "head"
    ROLLED_BACK = "rolled-back"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong. `row` is the id of the row where it shows, 0 for the head or the whole."""

    flaw: Flaw
    row: int
    words: str


@dataclass(frozen=True, slots=True)
class Witness:
    """What the audit was at some moment, kept where the box cannot rewrite it. `str` and `parse` are its text form."""

    count: int
    chain: bytes

    def __str__(self) -> str:
        return f"{self.count}:{self.chain.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The witness that `str` wrote. Raises `Refused` for other text."""
        count, _, chain = text.strip().partition(":")
        try:
            witness = cls(int(count), bytes.fromhex(chain))
        except ValueError as error:
            raise Refused("this is not a witness of an audit") from error
        if len(witness.chain) != CHAIN_BYTES or witness.count < 0:
            raise Refused("this is not a witness of an audit")
        return witness


_FORMATS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        1: ("at_utc", "actor", "action", "subject", "details"),
        2: ("at_utc", "actor", "actor_kind", "address", "action", "subject", "study", "outcome", "details"),
    }
)
_HEADERS = {1: b"row\0", 2: b"row\2"}
_TEXTS = _FORMATS[2]
FORMAT = 2
"""What rows are written in."""


def row_chain(key: bytes, before: bytes, row: AuditRow) -> bytes | None:
    """The chain value that `row` must carry after `before`; None if the row holds what is never written."""
    if type(row.format) is not int or row.format not in _FORMATS:
        return None
    covered = _FORMATS[row.format]
    parts = [_HEADERS[row.format], before, struct.pack(">q", row.id)]
    for name in _TEXTS:
        text = getattr(row, name)
        if type(text) is not str or (text and name not in covered):
            return None
        if name in covered:
            encoded = text.encode("utf-8", "surrogatepass")
            parts.append(len(encoded).to_bytes(4, "big"))
            parts.append(encoded)
    return hmac.digest(key, b"".join(parts), "sha256")


def head_mac(key: bytes, count: int, chain: bytes) -> bytes:
    """What authenticates a head."""
    return hmac.digest(key, b"head\0" + struct.pack(">q", count) + chain, "sha256")


def head_holds(key: bytes, head: AuditHead) -> bool:
    """Whether `head` is one that the holder of `key` wrote."""
    return (
        isinstance(head.count, int)
        and isinstance(head.chain, bytes)
        and isinstance(head.mac, bytes)
        and len(head.chain) == CHAIN_BYTES
        and hmac.compare_digest(head.mac, head_mac(key, head.count, head.chain))
    )


def mended_chain(key: bytes, head: AuditHead | None) -> bytes:
    """What a row follows when the head does not hold: nothing that any row before could have carried."""
    found = head.chain if head is not None and isinstance(head.chain, bytes) else b""
    return hmac.digest(key, b"mend\0" + found, "sha256")


def findings(
    key: bytes, rows: Iterable[AuditRow], head: AuditHead | None, witness: Witness | None
) -> Iterator[Finding]:
    """Everything wrong with the audit made of `rows` (by id) and `head`, given what was witnessed earlier.

    Each row is judged against the chain value that the row before carries, so that one altered row is one finding.
    """
    last, chain = 0, GENESIS
    witnessed = witness is None or witness.count == 0
    for row in rows:
        if row.id != last + 1:
            gap = f"{last + 1} to {row.id - 1}" if row.id > last + 2 else f"{row.id - 1}"
            yield Finding(Flaw.MISSING, row.id, f"before row {row.id}: row {gap} is missing")
        expected = row_chain(key, chain, row)
        whole = (
            isinstance(row.chain, bytes) and expected is not None and hmac.compare_digest(row.chain, expected)
        )
        if not whole:
            yield Finding(
                Flaw.ALTERED, row.id, f"row {row.id} is not what was written, or not after the row it follows"
            )
        last, chain = row.id, row.chain if isinstance(row.chain, bytes) else GENESIS
        if witness is not None and row.id == witness.count:
            witnessed = True
            if not hmac.compare_digest(chain, witness.chain):
                yield Finding(Flaw.ROLLED_BACK, row.id, f"row {row.id} is not the one that was witnessed")
    if not witnessed and witness is not None:
        yield Finding(
            Flaw.ROLLED_BACK, 0, f"{witness.count} rows were witnessed, but row {witness.count} is not there"
        )
    if head is None:
        if last:
            yield Finding(Flaw.HEAD, 0, "the head is missing, so rows may be missing at the end")
    elif not head_holds(key, head):
        yield Finding(Flaw.HEAD, 0, "the head is not what was written, so rows may be missing at the end")
    elif head.count != last:
        yield Finding(Flaw.MISSING, 0, f"the audit ends at row {last}, but row {head.count} was written")
    elif not hmac.compare_digest(head.chain, chain):
        yield Finding(Flaw.HEAD, 0, "the head does not follow the last row")
