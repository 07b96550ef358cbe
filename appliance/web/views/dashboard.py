"""The start page: what is wrong first, each with its fix and what helps at once; then what came, what waits, the disk,
the machines, and how it went lately. Nothing of a patient is on it.

``/`` shows it to those who look after the box; who treats patients starts at the studies (`start`), one click away.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from flask import Blueprint, Response, g

from appliance import health
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import samples
from appliance.health import Facts, Problem, Queue, Severity
from appliance.health.checks import silence
from appliance.health.facts import Attempt, Outcome, Sender
from appliance.health.forecast import Outlook
from appliance.health.trends import Point
from appliance.identity.permissions import Permission
from appliance.web.access import needs
from appliance.web.acts import Offer, offers
from appliance.web.charts import Chart, Value, chart
from appliance.web.console import console, now
from appliance.web.disk_words import marks
from appliance.web.language import Words
from appliance.web.pages import Page, is_partial, page_of, show

blueprint = Blueprint("dashboard", __name__)

TREND_DAYS = 14
HOME_OF_LATE = timedelta(days=30)
"""So long after a restore it is said which images have stayed away."""
Tone = Literal["", "good", "wait", "bad"]

_TONES: dict[Severity, Tone] = {
    Severity.BLOCKS: "bad",
    Severity.NOW: "wait",
    Severity.SOON: "",
    Severity.NOTE: "",
}


@dataclass(frozen=True, slots=True)
class ProblemLine:
    """A problem in words, how soon somebody must act, what the page offers, and where the help explains it."""

    code: str
    words: str
    fix: str
    tone: Tone
    severity: str
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its label, and a word on it. `percent`: how far it is of all, for drawing; -1 where it goes towards nothing."""

    name: str
    label: str
    value: str
    note: str = ""
    tone: Tone = ""
    percent: int = -1


@dataclass(frozen=True, slots=True)
class Gauge:
    """The data disk. `used` and `reserve_from` are percents of it, for drawing; `marks` are its water marks in words."""

    used: float
    reserve_from: float
    tone: Tone
    words: str
    marks: str
    outlook: str


@dataclass(frozen=True, slots=True)
class QueueLine:
    """What one destination is owed."""

    name: str
    state: str
    tone: Tone
    waiting: str
    age: str
    failed: str
    confirmed: str


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """A machine: when it called last, how often it sends, and whether that is as usual."""

    name: str
    last_seen: str
    today: str
    rhythm: str
    state: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class DashboardPage(Page):
    """The whole page, ready to show."""

    ready: bool
    problems: tuple[ProblemLine, ...]
    figures: tuple[Figure, ...]
    gauge: Gauge | None
    queues: tuple[QueueLine, ...]
    devices: tuple[DeviceLine, ...]
    charts: tuple[Chart, ...]
    processes: tuple[tuple[str, bool], ...]


@blueprint.get("/health")
@needs(Permission.VIEW_HEALTH)
def page() -> Response:
    """The dashboard; its inside alone when the page refreshes by itself."""
    return dashboard()


def dashboard() -> Response:
    """The dashboard for whoever asks, who must be allowed to see it."""
    moment = now()
    facts = health.gather(console().box, moment)
    days: tuple[Point, ...] = ()
    if facts.catalog is None:
        with console().box.catalog.reading() as conn:
            days = console().series.days(conn, moment, TREND_DAYS)
    problems = health.judge(facts)
    words = g.words
    made = page_of(
        DashboardPage,
        title=words("dashboard.title"),
        section="health",
        ready=not any(each.blocks for each in problems),
        problems=tuple(_problem(each, words) for each in problems),
        figures=(*_figures(facts, words), *_homecoming(words)) if facts.catalog is None else (),
        gauge=_gauge(facts, words),
        queues=tuple(_queue(each, moment, words) for each in facts.queues),
        devices=tuple(_device(each, facts, words) for each in facts.senders),
        charts=_charts(days, words),
        processes=tuple(
            (words(f"process.{name}") if words.has(f"process.{name}") else name, alive)
            for name, alive in facts.processes.items()
        ),
    )
    return show("parts/dashboard.html" if is_partial() else "dashboard.html", made)


def judgement_mark(box: Box) -> int:
    """A number that differs when the page would: what is judged, what came, what waits, or another minute."""
    facts = health.gather(box, now())
    queues = tuple((each.destination, each.state, each.waiting, each.failed) for each in facts.queues)
    came = facts.contents.instances if facts.contents else 0
    minute = 0
    if facts.catalog is None:
        with box.catalog.reading() as conn:
            minute = samples.latest(conn)
    found = tuple((each.code, each.subject, each.words) for each in health.judge(facts))
    return hash((found, queues, came, minute)) & ((1 << 48) - 1)


# --- in words --------------------------------------------------------------------------------------------------------


def _problem(problem: Problem, words: Words) -> ProblemLine:
    return ProblemLine(
        code=problem.code,
        words=words.cause(problem.words),
        fix=words.cause(problem.fix),
        tone=_TONES[problem.severity],
        severity=words(f"urgency.{problem.severity}"),
        offers=offers(problem, words),
    )


def _figures(facts: Facts, words: Words) -> tuple[Figure, ...]:
    kept = facts.contents
    if facts.catalog is not None or kept is None:
        return ()
    waiting = sum(each.waiting for each in facts.queues)
    return (
        Figure(
            "today",
            words("dashboard.today"),
            words.number(facts.received_today),
        ),
        Figure("waiting", words("dashboard.waiting"), words.number(waiting)),
        _lag(facts, words),
        _backup(facts.backup, words),
        _drill(facts, words),
        Figure(
            "kept",
            words("dashboard.kept"),
            words("studies.images", n=kept.instances),
            f"{words('dashboard.studies', n=kept.studies)}, {words.size(kept.bytes)}",
        ),
    )


def _homecoming(words: Words) -> tuple[Figure, ...]:
    """After a restore: how far the images are home."""
    with console().box.catalog.reading() as conn:
        coming = homecoming.of_late(conn, now() - HOME_OF_LATE)
    if coming is None:
        return ()
    stays = coming.stayed or coming.is_stopped
    note = words("dashboard.home_stays", place=coming.archive) if stays else words("dashboard.home_note")
    if coming.has_passed and coming.awaited.count:
        note = words("dashboard.home_awaited", n=coming.awaited.count)
    if coming.missing:
        note = words("dashboard.home_missing", n=coming.missing)
    return (
        Figure(
            "home",
            words("dashboard.home"),
            words("dashboard.home_of", done=words.number(coming.home), all=words.number(coming.instances)),
            note,
            "bad" if coming.missing else "wait",
            -1 if coming.is_stopped or coming.is_over else 100 * coming.done // max(coming.instances, 1),
        ),
    )


def _lag(facts: Facts, words: Words) -> Figure:
    """How far the replicas are behind what is kept: the age of the oldest that none of them has."""
    label = words("dashboard.lag")
    replicas = [each for each in facts.queues if each.takes == "ciphertext"]
    if not replicas:
        return Figure("lag", label, words("dashboard.lag_none"), words("dashboard.lag_none_note"), "wait")
    oldest = min((each.oldest_utc for each in replicas if each.oldest_utc is not None), default=None)
    if oldest is None:
        return Figure("lag", label, words("dashboard.lag_nothing"), tone="good")
    return Figure(
        "lag", label, words.manner.span(max(0.0, (facts.at_utc - oldest).total_seconds())), tone="wait"
    )


def _backup(last: Attempt | None, words: Words) -> Figure:
    label = words("dashboard.backup")
    if last is None:
        return Figure("backup", label, words("dashboard.never"), tone="wait")
    failed = last.outcome is Outcome.FAILED
    return Figure(
        "backup",
        label,
        words.moment(last.succeeded_utc) or words("dashboard.never"),
        words("dashboard.attempt_failed") if failed else "",
        "bad" if failed else "good",
    )


def _drill(facts: Facts, words: Words) -> Figure:
    """When the archives that are on have all passed, and which of them is the worst."""
    last, label = facts.drill, words("dashboard.drill")
    if last is None:
        return Figure("drill", label, words("dashboard.never"), tone="wait")
    counted = [each for each in facts.drills if not each.is_paused] or list(facts.drills)
    failed = [each.archive for each in counted if each.last and each.last.outcome is Outcome.FAILED]
    done = last.succeeded_utc
    oldest = [each.archive for each in counted if (each.last.succeeded_utc if each.last else None) == done]
    note = ""
    tone: Tone = "bad" if failed else "wait" if done is None else "good"
    if failed:
        note = words("dashboard.drill_failed", archives=words.several(failed))
    elif len(oldest) < len(counted):
        note = words("dashboard.drill_oldest", archives=words.several(oldest))
    return Figure("drill", label, words.moment(done) or words("dashboard.never"), note, tone)


def _gauge(facts: Facts, words: Words) -> Gauge | None:
    disk = facts.disk
    if disk is None or disk.total_bytes <= 0:
        return None
    forecast = facts.forecast
    outlook = {
        Outlook.UNKNOWN: words("dashboard.outlook_unknown"),
        Outlook.STEADY: words("dashboard.outlook_steady"),
        Outlook.FILLING: words("dashboard.outlook_filling", n=forecast.days_left),
    }[forecast.outlook]
    codes = {each.code for each in health.judge(facts)}
    return Gauge(
        used=round(100 * (disk.total_bytes - disk.free_bytes) / disk.total_bytes, 2),
        reserve_from=round(100 - min(100.0, 100 * disk.reserve_bytes / disk.total_bytes), 2),
        tone="bad" if "disk-full" in codes else "wait" if codes & {"disk-low", "disk-filling"} else "good",
        words=words(
            "dashboard.free_of", free=words.size(disk.free_bytes), total=words.size(disk.total_bytes)
        ),
        marks=marks(disk.reserve_bytes, words),
        outlook=outlook,
    )


def _queue(queue: Queue, moment: datetime, words: Words) -> QueueLine:
    state, tone = ("dashboard.queue_on", "good")
    if queue.is_paused:
        state, tone = ("destinations.paused", "wait")
    elif queue.trouble:
        state, tone = ("destinations.trouble", "bad")
    age = (moment - queue.oldest_utc).total_seconds() if queue.oldest_utc else 0.0
    return QueueLine(
        name=queue.destination,
        state=words(state),
        tone=tone,  # type: ignore[arg-type]
        waiting=words.number(queue.waiting),
        age=words.manner.span(age) if queue.oldest_utc and age > 0 else "",
        failed=words.number(queue.failed) if queue.failed else "",
        confirmed=words.number(queue.confirmed),
    )


def _device(sender: Sender, facts: Facts, words: Words) -> DeviceLine:
    silent = silence.quiet(sender, facts.senders, facts.today, facts.limits.device_silent_days)
    days = [each for each in sender.days if each <= facts.today]
    rhythm = ""
    if len(days) >= silence.FEWEST_DAYS:
        gaps = [(after - before).days for before, after in pairwise(days)]
        rhythm = words("dashboard.rhythm", n=silence.usual(gaps))
    state, tone = words("dashboard.device_usual"), "good"
    if silent is not None:
        state, tone = words("dashboard.device_silent", n=silent), "wait"
    elif not rhythm:
        state, tone = words("dashboard.device_new"), ""
    return DeviceLine(
        name=sender.name,
        last_seen=words.moment(sender.last_seen_utc) or words("devices.never"),
        today=words.number(sender.received_today),
        rhythm=rhythm or words("dashboard.rhythm_unknown"),
        state=state,
        tone=tone,  # type: ignore[arg-type]
    )


def _charts(days: tuple[Point, ...], words: Words) -> tuple[Chart, ...]:
    if not any(each.figures for each in days):
        return ()

    def whole(value: float) -> str:
        return words.number(round(value))

    def size(value: float) -> str:
        return words.size(round(value))

    labels = [words.manner.short_day(each.at.date()) for each in days]
    kept = [each.figures for each in days]
    images, free = words("chart.images"), words("chart.free_column")
    received = [
        Value(label, each.received if each else None) for label, each in zip(labels, kept, strict=True)
    ]
    delivered = [
        Value(label, each.delivered if each else None) for label, each in zip(labels, kept, strict=True)
    ]
    room = [Value(label, each.free_bytes if each else None) for label, each in zip(labels, kept, strict=True)]
    return (
        chart("received", words("chart.received"), received, heading=images, shown=whole),
        chart("delivered", words("chart.delivered"), delivered, heading=images, shown=whole),
        chart("free", words("chart.free"), room, heading=free, shown=size, kind="line"),
    )
