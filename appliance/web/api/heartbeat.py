"""Heartbeats: what one would say, and forbidding them. Agreeing is for a person who has looked at it, in the console."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from appliance.fleet import consent, heartbeat, pulse, taking
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.api.operation import operation
from appliance.web.api.shape import Shape
from appliance.web.console import console, now


@dataclass(frozen=True, slots=True)
class HeartbeatState:
    """Whether heartbeats are sent, and what came of them."""

    sends: Annotated[bool, Shape("Somebody has agreed to what is sent now, and to where.")]
    address: str
    agreed_by: str | None
    agreed_utc: datetime | None
    taken_utc: Annotated[datetime | None, Shape("When one was last taken.")]
    trouble: Annotated[str, Shape("Why the last one was not taken: none, away or refused.")]
    box: Annotated[str, Shape("How the box is called there.")]
    key: Annotated[str, Shape("The public key (Ed25519) that signs, in hexadecimal.")]
    wanted_number: Annotated[
        int, Shape("The number of what the vendor wants that was taken last; 0 for nothing.")
    ]
    wanted_software: Annotated[str, Shape("The version that it names; empty if none.")]
    wanted_came: Annotated[str, Shape("What came of the last: nothing, taken or refused.")]
    document: Annotated[str, Shape("The very document that would be sent now.")]
    more: Annotated[
        tuple[str, ...],
        Shape(
            "What this version could say besides, field by field, and leaves out until somebody agrees to it."
        ),
    ]


@operation("GET", "/heartbeat", Permission.ADMIT_SUPPORT, gives=HeartbeatState)
def get_heartbeat() -> HeartbeatState:
    """Get whether heartbeats are sent, and what one would say now."""
    box, moment = console().box, now()
    told = pulse.document(box, moment)
    with box.catalog.transaction() as tx:
        given, state, wanted = consent.given(tx), pulse.state(tx), taking.standing(tx)
        return HeartbeatState(
            sends=consent.standing(tx) is not None,
            address=consent.address(tx),
            agreed_by=given.by if given else None,
            agreed_utc=given.agreed_utc if given else None,
            taken_utc=state.taken_utc,
            trouble=str(state.trouble),
            box=str(told["box"]),
            key=consent.public(consent.key_of(tx, box, moment)),
            wanted_number=wanted.number,
            wanted_software=wanted.software,
            wanted_came=str(wanted.came),
            document=heartbeat.text_of(told),
            more=tuple(f"{name}: {', '.join(each)}" for name, each in consent.more(tx).items()),
        )


@operation("DELETE", "/heartbeat/consent", Permission.ADMIT_SUPPORT, status=204)
def withdraw_heartbeat_consent() -> None:
    """Forbid heartbeats, from this moment on."""
    with console().box.catalog.transaction() as tx:
        if consent.withdraw(tx):
            console().record(tx, "heartbeat:withdraw", "heartbeat", forms.actor())


OPERATIONS = (get_heartbeat, withdraw_heartbeat_consent)
