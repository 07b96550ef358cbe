"""From what is wrong at this moment to what people are told: when an alert is raised, said again, and over. Pure.

::

    unseen ──seen──▶ pending ──stood for `delay`──▶ standing ──gone for `calm`──▶ over
       ▲               │                             │    ▲
       └──gone for `calm`                            └────┘ said again every `repeat`

Chosen: trouble that goes and comes back within `calm_seconds` counts as never gone, on the way in and on the way out.
Because a connection that flaps is broken, and neither thirty notices an hour nor silence is right. A clock that was
set back starts the wait anew and raises nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from appliance.notify.kinds import AlertRule, kind_of


@dataclass(frozen=True, slots=True)
class Condition:
    """Something wrong at this moment: a problem of `appliance.health`, or a caller at the door.

    `subject` is an identifier; `words` and `fix` are shown in the console only.
    """

    code: str
    words: str
    fix: str
    subject: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Kind and subject: two processes that stopped are two alerts."""
        kind = kind_of(self.code)
        return kind, self.subject or ("" if self.code == kind else self.code)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is remembered of one trouble between two judgements.

    `notice` is None while it is pending, `gone_utc` while it is seen; `told_utc` is when it was said last.
    """

    kind: str
    subject: str
    since_utc: datetime
    gone_utc: datetime | None = None
    notice: int | None = None
    told_utc: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.subject


@dataclass(frozen=True, slots=True)
class Raise:
    """A notice to raise; `standing` is then kept with the notice's id."""

    rule: AlertRule
    condition: Condition
    standing: Standing


@dataclass(frozen=True, slots=True)
class Again:
    """A notice to say again, with what its trouble is by now."""

    rule: AlertRule
    condition: Condition
    standing: Standing


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to do: raise, say again, end. `kept` are to be remembered as they are here, `dropped` to be forgotten."""

    raised: tuple[Raise, ...] = ()
    again: tuple[Again, ...] = ()
    over: tuple[Standing, ...] = ()
    kept: tuple[Standing, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()


def judge(
    rule_of: Callable[[str], AlertRule],
    remembered: Iterable[Standing],
    conditions: Iterable[Condition],
    now: datetime,
) -> Judgement:
    """Compare what is wrong with what is remembered. Each condition belongs to one alert, the first of a key counts."""
    seen: dict[tuple[str, str], Condition] = {}
    for condition in conditions:
        seen.setdefault(condition.key, condition)
    known = {each.key: _in_time(each, now) for each in remembered}
    raised: list[Raise] = []
    again: list[Again] = []
    over: list[Standing] = []
    kept: list[Standing] = []
    dropped: list[tuple[str, str]] = []
    for key, condition in seen.items():
        rule = rule_of(key[0])
        standing = replace(known.get(key) or Standing(*key, since_utc=now), gone_utc=None)
        if not rule.enabled:
            if standing.notice is not None:
                over.append(standing)
            if key in known:
                dropped.append(key)
        elif standing.notice is None and now - standing.since_utc >= timedelta(seconds=rule.delay_seconds):
            raised.append(Raise(rule, condition, replace(standing, told_utc=now)))
        elif standing.notice is not None and _is_due_again(standing, rule, now):
            again.append(Again(rule, condition, replace(standing, told_utc=now)))
        else:
            kept.append(standing)
    for key, standing in known.items():
        if key in seen:
            continue
        rule = rule_of(key[0])
        gone = standing.gone_utc or now
        if rule.enabled and now - gone < timedelta(seconds=rule.calm_seconds):
            kept.append(replace(standing, gone_utc=gone))
            continue
        if standing.notice is not None:
            over.append(standing)
        dropped.append(key)
    return Judgement(tuple(raised), tuple(again), tuple(over), tuple(kept), tuple(dropped))


def _is_due_again(standing: Standing, rule: AlertRule, now: datetime) -> bool:
    if not rule.repeat_seconds or standing.told_utc is None:
        return False
    return now - standing.told_utc >= timedelta(seconds=rule.repeat_seconds)


def _in_time(standing: Standing, now: datetime) -> Standing:
    """`standing` without moments that haven't come yet: they were set by a clock that has since been put back."""
    gone, told = standing.gone_utc, standing.told_utc
    return replace(
        standing,
        since_utc=min(standing.since_utc, now),
        gone_utc=min(gone, now) if gone is not None else None,
        told_utc=min(told, now) if told is not None else None,
    )
