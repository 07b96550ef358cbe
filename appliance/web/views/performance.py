"""How quick the box is: percentiles and rates of receiving, storing, drawing, searching and answering.

Percentiles are read from buckets (`appliance.latency`): they are bounds, never below the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask import Blueprint, Response, g

from appliance import local_time
from appliance.figures import Figures
from appliance.health.trends import Point
from appliance.identity.permissions import Permission
from appliance.latency import STAGES, Histogram
from appliance.web import forms
from appliance.web.access import needs
from appliance.web.charts import Chart, Value, chart
from appliance.web.console import console, now
from appliance.web.language import Words
from appliance.web.pages import Page, is_partial, page_of, show

blueprint = Blueprint("performance", __name__)

PERIODS: Mapping[str, int] = {"today": 1, "week": 7, "month": 30}
SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class StageLine:
    """One stage: how often, how often an hour at that pace, and within what time half, 95 % and 99 % were done."""

    name: str
    about: str
    count: str
    rate: str
    percentiles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PerformancePage(Page):
    """The percentiles of a period and how they went within it."""

    period: str
    periods: tuple[str, ...]
    lines: tuple[StageLine, ...]
    received: str
    delivered: str
    charts: tuple[Chart, ...]


@blueprint.get("/performance")
@needs(Permission.VIEW_HEALTH)
def page() -> Response:
    """Percentiles of today, of seven or of thirty days."""
    asked = forms.asked("period", "today")
    period = asked if asked in PERIODS else "today"
    moment, words = now(), g.words
    midnight = local_time.here(moment).replace(hour=0, minute=0, second=0, microsecond=0)
    since = midnight - timedelta(days=PERIODS[period] - 1)
    with console().box.catalog.reading() as conn:
        total = console().series.total(conn, moment, since)
        if period == "today":
            points = console().series.hours(conn, moment, 24)
        else:
            points = console().series.days(conn, moment, PERIODS[period])
    hours = max(1 / 60, (moment - since).total_seconds() / 3600)
    made = page_of(
        PerformancePage,
        title=words("performance.title"),
        section="health",
        period=period,
        periods=tuple(PERIODS),
        lines=tuple(_line(stage, total, hours, words) for stage in STAGES),
        received=words("performance.received", n=total.received, size=words.size(total.received_bytes)),
        delivered=words("performance.delivered", n=total.delivered),
        charts=tuple(
            _chart(stage, points, period, words)
            for stage in STAGES
            if total.latencies.get(stage, Histogram()).total
        ),
    )
    return show("parts/performance.html" if is_partial() else "performance.html", made)


def _line(stage: str, total: Figures, hours: float, words: Words) -> StageLine:
    measured = total.latencies.get(stage, Histogram())
    found = [measured.percentile(share) for share in SHARES]
    return StageLine(
        name=words(f"performance.{stage}"),
        about=words(f"performance.{stage}_about"),
        count=words.number(measured.total),
        rate=words.decimal(float(f"{measured.total / hours:.3g}")),
        percentiles=tuple("—" if each is None else _time(each, words) for each in found),
    )


def _chart(stage: str, points: tuple[Point, ...], period: str, words: Words) -> Chart:
    """The 95th percentile of each hour or day."""
    values = []
    for each in points:
        measured = each.figures.latencies.get(stage) if each.figures else None
        value = measured.percentile(0.95) if measured is not None else None
        values.append(Value(_label(each.at, period, words), value))
    return chart(
        stage,
        words("performance.chart", stage=words(f"performance.{stage}")),
        values,
        heading="p95",
        shown=lambda seconds: _time(seconds, words),
    )


def _label(at: datetime, period: str, words: Words) -> str:
    return words.manner.time(at.time()) if period == "today" else words.manner.short_day(at.date())


def _time(seconds: float, words: Words) -> str:
    """Milliseconds below a second, seconds above, three digits."""
    value, unit = (seconds * 1000, "ms") if seconds < 1 else (seconds, "s")
    return f"{words.decimal(float(f'{value:.3g}'))}\u00a0{unit}"
