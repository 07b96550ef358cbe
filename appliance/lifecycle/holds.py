"""Holding studies and letting them go: who, when and why, with the audit in the same transaction.

Reasons are kept with the hold and not in the audit, because people write names.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.catalog import Reading, Transaction, holds
from appliance.catalog import studies as study_rows
from appliance.catalog.holds import Hold, HoldKind
from appliance.errors import Refused
from appliance.lifecycle import memory
from appliance.lifecycle.acting import Act

LEAST_CHARACTERS, MOST_CHARACTERS = 3, 200


def place(tx: Transaction, act: Act, *, kind: HoldKind, study: int, whole_patient: bool, reason: str) -> Hold:
    """Hold a study, or its patient with all that is yet to come. Raises `Unknown`, `Refused` without a reason."""
    placed = holds.add(
        tx,
        kind=kind,
        study=study,
        whole_patient=whole_patient,
        reason=_reason(reason),
        by=act.by,
        now=act.now,
    )
    _record(tx, act, "hold:add", placed, study)
    return placed


def release(tx: Transaction, act: Act, hold_id: int, *, reason: str) -> Hold:
    """Let go. Raises `Unknown`, `Refused` without a reason or for a hold that was released."""
    reason, found = _reason(reason), holds.hold(tx, hold_id)
    if not holds.release(tx, hold_id, by=act.by, reason=reason, now=act.now):
        raise Refused("this hold was released already", hint="look at the list of holds again")
    _record(tx, act, "hold:release", found, found.study)
    return holds.hold(tx, hold_id)


def refuse_if_held(tx: Reading, study_ids: Iterable[int]) -> None:
    """Raise `Refused` if a hold in force falls on any of these studies.

    Whoever destroys asks in the transaction that destroys: a hold placed a moment before still counts.
    """
    if held := holds.held_among(tx, study_ids):
        study, one = next(iter(sorted(held.items())))
        raise Refused(
            f"study {study} is held ({one.kind}) and may not be destroyed",
            hint="release the hold first, if its reason is over",
        )


def _reason(typed: str) -> str:
    reason = " ".join(typed.split())
    if not LEAST_CHARACTERS <= len(reason) <= MOST_CHARACTERS:
        raise Refused("a hold has a reason", hint="say in a few words why, with the number of the file")
    return reason


def _record(tx: Transaction, act: Act, word: str, of: Hold, study: int | None) -> None:
    row = None if study is None else study_rows.study_by_id(tx, study)
    details = {"kind": str(of.kind), "on": "patient" if of.study is None else "study", "patient": of.patient}
    memory.decided(tx, act.now)
    act.record(tx, word, f"hold:{of.id}", details, study="" if row is None else row.study_instance_uid)
