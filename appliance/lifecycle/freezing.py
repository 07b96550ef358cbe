"""The ransomware guard: beginning a freeze, by the box or by a person, and releasing it, with the audit in the same transaction.

What a freeze stops stands with those who ask (`appliance.catalog.freezes`). The reasons that people write are kept with the
freeze and not in the audit, because people write names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.catalog import Reading, Transaction, audit_search, freezes, settings
from appliance.catalog.columns import utc_moment
from appliance.catalog.freezes import Freeze, Why
from appliance.errors import Refused
from appliance.lifecycle import mass_loss
from appliance.lifecycle.acting import Act
from appliance.lifecycle.mass_loss import Count, Evidence, Usual
from appliance.model import ObjectId

STANDING: Final = "guard.census"
"""What was counted lately and what is usual here, in `appliance.catalog.settings`."""

WINDOW: Final = 12
"""How many counts are looked at together: an hour's."""

REPORTED_WITHIN: Final = timedelta(hours=24)
SAID_AGAIN: Final = timedelta(hours=12)
"""After so long what stays damaged is reported again, so that what is lost bit by bit counts together on a box that is read in an hour."""

REPORTS: Final = ("instance:corrupt", "instance:mend")
UNREAD: Final = "unreadable"
"""In the details of such a row: the disk did not give back what it holds, which no ransomware does."""
KNOWN: Final = "known"
"""Likewise: it is part of a loss that was reported before a person released the guard."""

MOST_REPORTS: Final = 10_000
LEAST_CHARACTERS, MOST_CHARACTERS = 3, 200


@dataclass(frozen=True, slots=True)
class Standing:
    """The counts of the window, the newest last, and what is usual; since when reports count."""

    counts: tuple[Count, ...] = ()
    usual: Usual = field(default_factory=Usual)
    reports_since_utc: datetime | None = None


def standing(reading: Reading) -> Standing:
    """What was counted lately."""
    told = settings.get(reading, STANDING)
    if not isinstance(told, dict):
        return Standing()
    since = told.get("reports_since_utc")
    return Standing(
        counts=tuple(Count(**each) for each in told["counts"]),
        usual=Usual(**told["usual"]),
        reports_since_utc=datetime.fromisoformat(since) if since else None,
    )


def counted(
    tx: Transaction, act: Act, count: Count, *, kept: int, known: int = 0, expected: int = 0
) -> Freeze | None:
    """Judge a new count with those before it; the freeze that it began, if it began one. See `Evidence` for the three figures."""
    before = standing(tx)
    counts = (*before.counts, count)[-WINDOW:]
    reported = _reported(tx, before, act.now)
    kind = mass_loss.judge(Evidence(counts, kept, reported, known, expected), before.usual)
    usual = mass_loss.used_to(before.usual, counts) if kind is None else before.usual
    _keep(tx, Standing(counts, usual, before.reports_since_utc), act.now)
    if kind is None:
        return None
    opened = sum(each.opened for each in counts)
    unreadable = sum(each.unreadable for each in counts)
    evidence = {
        "kept": kept,
        "looked": count.looked,
        "missing": count.missing,
        "altered": count.altered,
        "opened": opened,
        "unreadable": unreadable,
        "reported": reported,
    }
    return _begin(tx, act, Why(kind.value), evidence)


def freeze(tx: Transaction, act: Act, *, reason: str) -> Freeze:
    """Begin a freeze because a person wants it. Raises `Refused` without a reason, or if one is in force."""
    begun = _begin(tx, act, Why.BY_HAND, {}, _reason(reason))
    if begun is None:
        raise Refused("the ransomware guard holds already", hint="look at what it says")
    return begun


def release(tx: Transaction, act: Act, *, reason: str) -> Freeze:
    """Let everything go on: what is lost now is known, and trips the guard no more. Raises `Refused`."""
    ended = freezes.release(tx, reason=_reason(reason), by=act.by, now=act.now)
    before = standing(tx)
    _keep(tx, Standing((), mass_loss.accepted(before.counts), act.now), act.now)
    act.record(tx, "guard:release", f"freeze:{ended.id}", {"why": str(ended.why)})
    return ended


def need_not_be_said(reading: Reading, object_id: ObjectId, now: datetime, *, is_unread: bool) -> bool:
    """Whether an object that stays damaged is no news: a person has released the guard since it was reported, and knows of it, or it was
    reported a few hours ago. That its sector is bad says nothing of the day on which it is altered, nor does that it was mended since, or that
    an archive's copy was altered."""
    last = audit_search.newest_about(reading, REPORTS, f"instance:{object_id}")
    if last is None or last.action != REPORTS[0] or "on" in (told := _details(last.details)):
        return False
    if not is_unread and told.get(UNREAD) is True:
        return False
    said, released = utc_moment(last.at_utc), standing(reading).reports_since_utc
    return (released is not None and said < released) or abs(now - said) < SAID_AGAIN


def _begin(
    tx: Transaction, act: Act, why: Why, evidence: Mapping[str, int], reason: str = ""
) -> Freeze | None:
    begun = freezes.begin(tx, why=why, evidence=evidence, reason=reason, by=act.by, now=act.now)
    if begun is not None:
        act.record(tx, "guard:freeze", f"freeze:{begun.id}", {"why": str(why), **evidence})
    return begun


def _reported(reading: Reading, of: Standing, now: datetime) -> int:
    """How many objects those who read them have found damaged lately, each counted once. A bad sector is no such report, nor is
    what belongs to a loss that a person knows of.

    A clock that was set back makes the window longer, and one set forward shorter; the counts don't depend on it.
    """
    since = max(now - REPORTED_WITHIN, of.reports_since_utc or now - REPORTED_WITHIN)
    wanted = audit_search.Wanted(actions=REPORTS, since_utc=since)
    rows = audit_search.find(reading, wanted, limit=MOST_REPORTS)
    return len({row.subject for row in rows if not _is_no_news(row.details)})


def _is_no_news(details: Any) -> bool:
    told = _details(details)
    return True in (told.get(UNREAD), told.get(KNOWN))


def _details(text: Any) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _keep(tx: Transaction, of: Standing, now: datetime) -> None:
    since = of.reports_since_utc
    told: dict[str, Any] = {
        "counts": [asdict(each) for each in of.counts],
        "usual": asdict(of.usual),
        "reports_since_utc": since.isoformat() if since else None,
    }
    settings.put(tx, STANDING, told, now)


def _reason(typed: str) -> str:
    reason = " ".join(typed.split())
    if not LEAST_CHARACTERS <= len(reason) <= MOST_CHARACTERS:
        raise Refused("this needs a reason", hint="say in a few words what was found")
    return reason
