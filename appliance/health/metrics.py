"""The status in Prometheus' text format: numbers, names of destinations, devices' processes; nothing of a patient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from math import inf
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.core import HistogramMetricFamily

from appliance import __version__
from appliance.box import Box
from appliance.catalog import processes
from appliance.catalog.processes import ProcessRow
from appliance.errors import ApplianceError
from appliance.health.facts import Facts, Queue
from appliance.health.forecast import Outlook
from appliance.health.gathering import gather
from appliance.health.judgement import status_of
from appliance.health.sampling import histograms_of
from appliance.latency import BOUNDS_SECONDS, STAGES, added


def metrics_text(box: Box, now: datetime) -> str:
    """All metrics of `box` at `now`."""
    facts = gather(box, now)
    found = status_of(facts)
    registry = CollectorRegistry()

    def gauge(name: str, words: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"appliance_{name}", words, labels, registry=registry)

    gauge("info", "Version of the software.", ("version",)).labels(__version__).set(1)
    gauge("ready", "1 when the box is ready.").set(found.ready)
    problem = gauge("problem", "1 for each kind of problem that stands.", ("code",))
    for each in found.problems:
        problem.labels(each.code).set(1)
    for name, words, value in (
        ("studies", "Studies kept.", found.studies),
        ("instances", "Instances kept.", found.instances),
        ("instance_bytes", "Bytes of the instances kept, before sealing.", found.bytes),
        ("free_bytes", "Bytes free on the data disk.", found.free_bytes),
    ):
        if value is not None:
            gauge(name, words).set(value)
    up = gauge("process_up", "1 when the process has reported lately.", ("process",))
    for name, fresh in (found.processes or {}).items():
        up.labels(name).set(fresh)
    _queue_metrics(found.queues, now, gauge)
    _fact_metrics(facts, gauge)
    _reported_metrics(box, registry, gauge)
    return generate_latest(registry).decode()


def _queue_metrics(queues: tuple[Queue, ...], now: datetime, gauge: Any) -> None:
    waiting = gauge("deliveries_waiting", "Deliveries owed and not yet confirmed.", ("destination",))
    confirmed = gauge("deliveries_confirmed", "Deliveries with a receipt.", ("destination",))
    failed = gauge("deliveries_failed", "Deliveries that the receiver refused.", ("destination",))
    oldest = gauge("oldest_delivery_seconds", "Age of the oldest delivery that waits.", ("destination",))
    for queue in queues:
        waiting.labels(queue.destination).set(queue.waiting)
        confirmed.labels(queue.destination).set(queue.confirmed)
        failed.labels(queue.destination).set(queue.failed)
        age = (now - queue.oldest_utc).total_seconds() if queue.oldest_utc else 0
        oldest.labels(queue.destination).set(max(age, 0))


def _fact_metrics(facts: Facts, gauge: Any) -> None:
    """What is known beside the problems; what is not known is not told."""
    for name, words, value in (
        ("total_bytes", "Size of the data disk.", facts.disk.total_bytes if facts.disk else None),
        (
            "reserve_bytes",
            "Bytes that are never given away.",
            facts.disk.reserve_bytes if facts.disk else None,
        ),
        (
            "days_left",
            "Days until the data disk reaches its reserve, as it fills now.",
            facts.forecast.days_left if facts.forecast.outlook is Outlook.FILLING else None,
        ),
    ):
        if value is not None:
            gauge(name, words).set(value)
    if facts.catalog is not None:
        return
    gauge("received_today", "Instances received since midnight.").set(facts.received_today)
    gauge("sign_in_failures", "Failed sign-ins within the last hour.").set(facts.sign_in_failures)
    for name, words, last in (
        ("backup", "Age of the last backup that succeeded.", facts.backup),
        ("drill", "Age of the last drill that succeeded, of the archive where it is oldest.", facts.drill),
    ):
        if last is not None and last.succeeded_utc is not None:
            age = (facts.at_utc - last.succeeded_utc).total_seconds()
            gauge(f"{name}_age_seconds", words).set(age)
    ends = gauge("certificate_seconds_left", "How long a certificate is still valid.", ("certificate",))
    for each in facts.certificates:
        ends.labels(each.name).set((each.expires_utc - facts.at_utc).total_seconds())
    today = gauge("device_received_today", "Instances received from a device since midnight.", ("device",))
    for sender in facts.senders:
        today.labels(sender.name).set(sender.received_today)


class _Latencies:
    """The histograms that the processes report, added up over them: Prometheus' own form."""

    def __init__(self, rows: Iterable[ProcessRow]) -> None:
        self._reported = [histograms_of(row.detail) for row in rows]

    def collect(self) -> Iterator[Metric]:
        """One family, a histogram for each stage."""
        family = HistogramMetricFamily(
            "appliance_latency_seconds",
            "How long each stage takes, since its processes started.",
            labels=("stage",),
        )
        for stage in STAGES:
            measured = added(each[stage] for each in self._reported if stage in each)
            if not measured.total:
                continue
            buckets, seen = [], 0
            for bound, count in zip((*BOUNDS_SECONDS, inf), measured.counts, strict=True):
                seen += count
                buckets.append(("+Inf" if bound == inf else f"{bound:.6g}", seen))
            family.add_metric((stage,), buckets, measured.seconds)
        yield family


def _reported_metrics(box: Box, registry: CollectorRegistry, gauge: Any) -> None:
    """The numbers that the processes put beside their heartbeats, by process."""
    try:
        with box.catalog.reading() as conn:
            rows = processes.processes(conn)
    except ApplianceError:
        return  # the catalog's problem is among the problems already
    registry.register(_Latencies(rows))
    reported = gauge("process_reported", "A count that a process reports.", ("process", "count"))
    for row in rows:
        for name, value in sorted(row.detail.items()):
            if isinstance(value, int | float):
                reported.labels(row.name, name).set(value)
