"""Tickets to whoever supports the box. Letting somebody in is for a person, in the console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.errors import OperatorNeeded, Refused
from appliance.fleet import bundle, ticket
from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.api.operation import operation
from appliance.web.api.shape import Shape
from appliance.web.console import console, now


@dataclass(frozen=True, slots=True)
class NewTicket:
    """What is asked of whoever supports the box."""

    reason: Annotated[
        str,
        Shape(
            "What is wrong, without a name: it is looked through, and refused with 422 if anything is found.",
            example="Since Monday the backups fail.",
            shortest=1,
            longest=ticket.MOST_REASON_CHARACTERS,
        ),
    ]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket that is on its way; what is away is tried again for a month."""

    reference: Annotated[str, Shape("How the support file is called, and the ticket.")]
    to: Annotated[tuple[str, ...], Shape("The vendor's e-mail address, and webhooks by their names.")]
    attached: Annotated[
        bool, Shape("Whether the file goes with it; else it is too large, and given by hand.")
    ]


@operation(
    "POST",
    "/support/tickets",
    Permission.ADMIT_SUPPORT,
    gives=Ticket,
    takes=NewTicket,
    status=201,
    refuses=(422,),
)
def send_ticket(body: NewTicket) -> Ticket:
    """Make a support file, and send it to whoever supports the box with what is wrong. Nobody looks at it on this way, so it
    leaves sealed for the vendor, or not at all: 422 if no key of the vendor is set, or no way to send it.
    """
    box, moment = console().box, now()
    said = ticket.looked_through(box, body.reason)
    made = bundle.make(box, moment)
    with box.catalog.transaction() as tx:
        try:
            sent, to = ticket.send_unseen(tx, made, said, moment), ticket.ways(tx)
        except OperatorNeeded as error:  # a 503 would say that this box is busy
            raise Refused(error.message, hint=error.hint) from error
        details = {"cut": sum(made.cut.values())}
        console().record(tx, "support:file", made.name, forms.actor(), details)
        console().record(tx, "support:ticket", sent.reference, forms.actor(), sent.details(said, to))
    return Ticket(sent.reference, to.names, sent.attached)


OPERATIONS = (send_ticket,)
