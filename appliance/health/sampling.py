"""The job that writes down, every minute, what happened in it: see `appliance.catalog.samples` for how it is kept.

How long things took comes from the heartbeats: each process adds to its own histograms in memory and reports them with
its sign of life, so that measuring costs the work itself nothing but an addition.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from appliance import local_time
from appliance.box import Box
from appliance.catalog import Reading, deliveries, processes, samples, settings
from appliance.figures import Figures
from appliance.health.forecast import remembered
from appliance.latency import LATENCY, STAGES, Histogram, added
from appliance.replication.delivery import OPEN_STATES

FREE_BY_DAY = "disk.free-by-day"
"""The key of `appliance.catalog.settings` for the free bytes at the end of each of the last days: one small row, so
that the forecast doesn't read the whole series."""


def free_by_day(conn: Reading) -> dict[date, int]:
    """The free bytes at the end of each day that is remembered."""
    return {date.fromisoformat(day): free for day, free in settings.get(conn, FREE_BY_DAY, {}).items()}


class Sampler:
    """Takes the samples. Remembers what each process had reported the time before, to count only what is new.

    What a process reports first is counted whole if it began after this did, else from then on: the rest was counted
    by whoever sampled before.
    """

    def __init__(self) -> None:
        self._reported: dict[tuple[str, int, datetime], Mapping[str, Histogram]] | None = None

    def __call__(self, box: Box, now: datetime) -> None:
        """Take one sample and keep it."""
        try:
            free_bytes = box.guard.space().free_bytes
        except OSError:
            free_bytes = None
        with box.catalog.transaction() as tx:
            upto, after = samples.end(tx), samples.cursor(tx)
            came = samples.arrived(tx, after, upto, local_time.zone())
            delivered, failed = samples.happened(tx, after, upto)
            waiting, oldest = _waiting(tx, now)
            figures = Figures(
                received=came.instances,
                received_bytes=came.bytes,
                delivered=delivered,
                failed=failed,
                free_bytes=free_bytes,
                waiting=waiting,
                oldest_seconds=oldest,
                latencies=self._latencies(tx),
            )
            samples.write(tx, now, figures, came, upto)
            if free_bytes is not None:
                today = local_time.here(now).date()
                kept = remembered(free_by_day(tx), today, free_bytes)
                settings.put(tx, FREE_BY_DAY, {day.isoformat(): free for day, free in kept.items()}, now)

    def _latencies(self, conn: Reading) -> dict[str, Histogram]:
        """What was measured since the time before, over all processes."""
        reported: dict[tuple[str, int, datetime], Mapping[str, Histogram]] = {
            (row.name, row.pid, row.started_utc): histograms_of(row.detail)
            for row in processes.processes(conn)
        }
        before, self._reported = self._reported, reported
        if before is None:
            return {}
        nothing: Mapping[str, Histogram] = {}
        fresh = {
            stage: added(
                mine[stage].since(before.get(process, nothing).get(stage, Histogram()))
                for process, mine in reported.items()
                if stage in mine
            )
            for stage in STAGES
        }
        return {stage: each for stage, each in fresh.items() if each.total}


def histograms_of(detail: Mapping[str, object]) -> dict[str, Histogram]:
    """The histograms in the detail of a heartbeat, by stage."""
    reported = detail.get(LATENCY)
    if not isinstance(reported, Mapping):
        return {}
    return {stage: Histogram.of_detail(reported[stage]) for stage in STAGES if stage in reported}


def _waiting(conn: Reading, now: datetime) -> tuple[dict[str, int], dict[str, int]]:
    """What waits for each destination, and since how many seconds the oldest does."""
    waiting: dict[str, int] = {}
    oldest: dict[str, int] = {}
    for each in deliveries.waiting_summary(conn):
        waiting[each.destination] = sum(each.counts.get(state, 0) for state in OPEN_STATES)
        if each.oldest_utc is not None:
            oldest[each.destination] = max(0, int((now - each.oldest_utc).total_seconds()))
    return waiting, oldest
