"""The duty that sends heartbeats, while somebody has agreed to them; and what they say now.

A heartbeat says how the box is at that moment, so one that was not taken is not kept: the next one is newer and says more. What
is kept, over a restart too, is when the next may be tried: `EVERY` after one that was taken, and after a failure longer and
longer, up to `EVERY`. The duty runs in a lane of its own and ends within the time-outs of one connection; that a heartbeat is
not taken is no problem of the box, is no alarm, and changes nothing but one line on its page.

Consent is read again in the moment before the box connects: what is withdrawn is not sent, whatever was due.
"""

from __future__ import annotations

import logging
import platform
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from appliance import __version__, audit, health
from appliance.audit import Entry, Outcome
from appliance.box import Box
from appliance.catalog import Reading, support_sessions
from appliance.catalog import settings as kept_settings
from appliance.errors import ApplianceError, NotAuthorised, Transient
from appliance.fleet import consent, heartbeat, taking, vocabulary
from appliance.fleet.heartbeat import Machine
from appliance.fleet.outpost import outpost
from appliance.health.kept import word
from appliance.replication.delivery import is_over

log = logging.getLogger(__name__)

KEPT = "heartbeat.state"
EVERY = timedelta(minutes=15)
FIRST_PAUSE_SECONDS = 60.0
ACTOR = "jobs"


class Trouble(StrEnum):
    """Why the last heartbeat was not taken."""

    NONE = "none"
    AWAY = "away"  # it will be tried again, and nobody has to do anything
    REFUSED = "refused"  # a person must look


@dataclass(frozen=True, slots=True)
class State:
    """What came of heartbeats. `failures` are those in a row, `not_before_utc` is None when one is due at once."""

    taken_utc: datetime | None = None
    not_before_utc: datetime | None = None
    failures: int = 0
    trouble: Trouble = Trouble.NONE


def state(conn: Reading) -> State:
    """What came of heartbeats so far."""
    kept: Mapping[str, Any] = kept_settings.get(conn, KEPT, {})

    def moment(name: str) -> datetime | None:
        return datetime.fromisoformat(kept[name]) if kept.get(name) else None

    return State(
        moment("taken_utc"),
        moment("not_before_utc"),
        int(kept.get("failures", 0)),
        word(Trouble, kept.get("trouble"), Trouble.AWAY if kept.get("failures") else Trouble.NONE),
    )


def document(box: Box, now: datetime) -> dict[str, Any]:
    """What a heartbeat would say now: the very document, whether or not anybody has agreed. While somebody has, it says no more than
    was agreed to, and in those words (`heartbeat.within`)."""
    facts = health.gather(box, now)
    with box.catalog.transaction() as tx:
        key = consent.public(consent.key_of(tx, box, now))
        session, wanted, agreed = support_sessions.standing(tx), taking.standing(tx), consent.standing(tx)
    is_open = session is not None and session.is_open(now)
    told = heartbeat.say(
        facts,
        health.judge(facts),
        machine(),
        key=key,
        software=__version__,
        support="open" if is_open else "closed",
        wanted=(wanted.number, str(wanted.came)),
    )
    return told if agreed is None else heartbeat.within(told, agreed.words)


def running() -> str:
    """The version of what is updated here: the image where there is one, and there the software's need not be the image's; else the
    software. The box's own, whatever of it is told."""
    image = machine().image
    return __version__ if image == vocabulary.NO_IMAGE else image


def machine() -> Machine:
    """The versions of what is under the software, as far as they have a shape that a heartbeat may hold."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    kernel = platform.release().split("-")
    return Machine(
        system=_fitting(
            "system", f"{release.get('ID', '')} {release.get('VERSION_ID', '')}", vocabulary.UNKNOWN
        ),
        image=_fitting("image", release.get("IMAGE_VERSION", ""), vocabulary.NO_IMAGE),
        kernel=_fitting("kernel", "-".join(kernel[:2]), _fitting("kernel", kernel[0], vocabulary.UNKNOWN)),
    )


def _fitting(field: str, value: str, otherwise: str) -> str:
    return value if vocabulary.FIELDS[field](value) else otherwise


def send(box: Box, now: datetime) -> None:
    """Send a heartbeat now, keep what came of it, and take what the answer wants of this box.

    Raises `NotAuthorised` if nobody has agreed, and what the outpost raises.
    """
    told = document(box, now)
    with box.catalog.transaction() as tx:
        agreed = consent.standing(tx)
        where = outpost(tx, box)
        if agreed is None:
            raise NotAuthorised(
                "nobody of the clinic has agreed to heartbeats",
                hint="look at what is sent and agree: the page Support of the console, or 'appliance heartbeat agree'",
            )
        told = heartbeat.within(told, agreed.words)
        data = heartbeat.signed(told, consent.key_of(tx, box, now))
    try:
        wanted = where.put(told["box"], data)
    except ApplianceError as error:
        _keep(box, now, Trouble.AWAY if isinstance(error, Transient) else Trouble.REFUSED)
        raise
    _keep(box, now, Trouble.NONE)
    with box.catalog.transaction() as tx:
        if consent.standing(tx) is not None:
            taking.take(tx, box, wanted, told["box"], running(), now)


def _keep(box: Box, now: datetime, trouble: Trouble) -> None:
    with box.catalog.transaction() as tx:
        before = state(tx)
        failures = before.failures + 1 if trouble is not Trouble.NONE else 0
        taken = before.taken_utc if failures else now
        kept = {
            "taken_utc": taken.isoformat() if taken else "",
            "not_before_utc": (now + pause(failures, random.random())).isoformat(),
            "failures": failures,
            "trouble": str(trouble),
        }
        kept_settings.put(tx, KEPT, kept, now)
        if trouble is not before.trouble or (not failures and before.taken_utc is None):
            action, outcome = (
                ("heartbeat:fail", Outcome.FAILED) if failures else ("heartbeat:send", Outcome.DONE)
            )
            entry = Entry(action, "heartbeat", ACTOR, {"trouble": str(trouble)}, outcome=outcome)
            audit.append(tx, box.audit_key, [entry], now)


def pause(failures: int, jitter: float) -> timedelta:
    """How long until the next: `EVERY`, or after `failures` in a row a minute that doubles up to it, less up to a tenth."""
    longest = EVERY.total_seconds()
    if failures:
        longest = min(longest, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 30))
    return timedelta(seconds=longest * (1.0 - 0.1 * jitter))


def beat(box: Box, now: datetime) -> None:
    """Send a heartbeat if one is due and somebody has agreed; the duty, which does not fail for what is wrong outside."""
    with box.catalog.reading() as conn:
        stands, due = consent.standing(conn) is not None, state(conn).not_before_utc
        is_new = consent.is_stopped(conn) is not (not stands and consent.given(conn) is not None)
    if is_new:
        with box.catalog.transaction() as tx:
            consent.note_stopped(tx, now)
    if not stands:
        return
    if due is not None and not is_over(due, now):
        return
    try:
        send(box, now)
    except NotAuthorised:
        return  # withdrawn meanwhile
    except ApplianceError as error:
        log.info("a heartbeat was not taken: %s", error)
