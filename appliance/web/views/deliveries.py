"""What is owed to destinations, and what a person may do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import Transaction, deliveries, destinations
from appliance.catalog.deliveries import DeliveryRow
from appliance.errors import Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.model import DeliveryId, Uid
from appliance.replication.delivery import TRANSITIONS, Event, State
from appliance.web import access, forms
from appliance.web.access import needs
from appliance.web.console import Notice, console, now
from appliance.web.language import Words
from appliance.web.pages import Page, is_partial, page_of, show

blueprint = Blueprint("deliveries", __name__, url_prefix="/deliveries")

ROWS = 100
TONES: Mapping[State, str] = {
    State.PENDING: "",
    State.SENDING: "kind",
    State.WAITING: "wait",
    State.PAUSED: "wait",
    State.CONFIRMED: "good",
    State.FAILED: "bad",
    State.CANCELLED: "",
}
ACTS: Mapping[str, tuple[Event, Callable[[Transaction, DeliveryId, datetime], State]]] = {
    "retry": (Event.RETRY, deliveries.retry),
    "pause": (Event.PAUSE, deliveries.pause),
    "resume": (Event.RESUME, deliveries.resume),
    "cancel": (Event.CANCEL, deliveries.cancel),
}


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """A delivery as the list shows it; `acts` are the words of what may be done now."""

    id: int
    destination: str
    state: str
    tone: str
    attempts: int
    reason: str
    next_attempt: str
    changed: str
    acts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one destination is still owed, since when."""

    destination: str
    count: int
    failed: int
    since: str


@dataclass(frozen=True, slots=True)
class DeliveriesPage(Page):
    """The list and its filters."""

    state: str
    destination: str
    states: tuple[tuple[str, str], ...]
    destinations: tuple[str, ...]
    waiting: tuple[Waiting, ...]
    lines: tuple[DeliveryLine, ...]
    full: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a timeline."""

    at: str
    words: str
    note: str
    tone: str


@dataclass(frozen=True, slots=True)
class DeliveryPage(Page):
    """One delivery: how it stands, its timeline, its receipt."""

    line: DeliveryLine
    steps: tuple[Step, ...]
    receipt: tuple[tuple[str, str], ...]


@blueprint.get("")
@needs(Permission.VIEW_DELIVERIES)
def listing() -> Response:
    """The latest deliveries, those of a state or a destination if asked."""
    word, name = forms.asked("state"), forms.asked("destination")
    state = State[word] if word in State.__members__ else None
    with console().box.catalog.reading() as conn:
        rows = deliveries.list_deliveries(conn, state=state, destination=name or None, limit=ROWS)
        names = tuple(each.name for each in destinations.destinations(conn))
        summary = deliveries.waiting_summary(conn)
    seen = (access.visit(), "deliveries")
    console().record_once(
        console().viewed, seen, "delivery:list", "console", forms.actor(), {"rows": len(rows)}
    )
    waiting = tuple(
        Waiting(
            each.destination,
            sum(
                count for state, count in each.counts.items() if state not in (State.FAILED, State.CANCELLED)
            ),
            each.counts.get(State.FAILED, 0),
            g.words.moment(each.oldest_utc),
        )
        for each in summary
    )
    page = page_of(
        DeliveriesPage,
        title=g.words("deliveries.title"),
        section="deliveries",
        state=state or "",
        destination=name if name in names else "",
        states=tuple((each.value, g.words(f"state.{each}")) for each in State),
        destinations=names,
        waiting=waiting,
        lines=tuple(delivery_line(row, g.words) for row in rows),
        full=len(rows) == ROWS,
    )
    return show("parts/delivery-rows.html" if is_partial() else "deliveries.html", page)


@blueprint.get("/<int:delivery_id>")
@needs(Permission.VIEW_DELIVERIES)
def timeline(delivery_id: int) -> Response:
    """One delivery from the moment it arose."""
    with console().box.catalog.reading() as conn:
        row = deliveries.delivery(conn, DeliveryId(delivery_id))
        events = deliveries.events(conn, row.id)
    console().record_once(
        console().viewed,
        (access.visit(), f"delivery:{row.id}"),
        "delivery:list",
        f"delivery:{row.id}",
        forms.actor(),
        study=row.study_instance_uid,
    )
    tones = {State.CONFIRMED: "good", State.FAILED: "bad"}
    steps = tuple(
        Step(g.words.moment(event.at_utc), _event_words(event.event), g.words.cause(event.note) if event.note else "",
             tones.get(event.state, ""))
        for event in events
    )  # fmt: skip
    page = page_of(
        DeliveryPage,
        title=g.words("delivery.title", number=str(row.id)),
        section="deliveries",
        line=delivery_line(row, g.words),
        steps=steps,
        receipt=tuple(
            (name, str(value)) for name, value in (row.receipt or {}).items() if not isinstance(value, dict)
        ),
    )
    return show("parts/timeline.html" if is_partial() else "delivery.html", page)


@blueprint.post("/<int:delivery_id>/<act>")
@needs(Permission.ACT_ON_DELIVERIES)
def decide(delivery_id: int, act: str) -> AnyResponse:
    """Retry, pause, resume or cancel."""
    if act not in ACTS:
        raise Unknown("there is no such act")
    _, perform = ACTS[act]
    try:
        with console().box.catalog.transaction() as tx:
            perform(tx, DeliveryId(delivery_id), now())
            study = deliveries.delivery(tx, DeliveryId(delivery_id)).study_instance_uid
            subject = f"delivery:{delivery_id}"
            console().record(tx, f"delivery:{act}", subject, forms.actor(), study=study)
    except Unknown:
        raise
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words(f"delivery.{act}_done")))
    return forms.back_to(f"/deliveries/{delivery_id}")


def delivery_line(row: DeliveryRow, words: Words) -> DeliveryLine:
    """`row` as the list shows it."""
    return DeliveryLine(
        id=row.id,
        destination=row.destination,
        state=words(f"state.{row.state}"),
        tone=TONES[row.state],
        attempts=row.attempts,
        reason=words.cause(row.reason) if row.reason else "",
        next_attempt=words.moment(row.next_attempt_utc),
        changed=words.moment(row.changed_utc),
        acts=tuple(act for act, (event, _) in ACTS.items() if event in TRANSITIONS[row.state]),
    )


def _event_words(event: str) -> str:
    key = f"event.{event}"
    return str(g.words(key)) if g.words.has(key) else event


def of_study(study: Uid, words: Words) -> tuple[DeliveryLine, ...]:
    """The deliveries of one study."""
    with console().box.catalog.reading() as conn:
        return tuple(
            delivery_line(row, words) for row in deliveries.list_deliveries(conn, study=study, limit=ROWS)
        )
