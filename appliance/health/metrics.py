"""The status in Prometheus' text format: numbers, names of destinations, devices' processes; nothing of a patient."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from appliance import __version__
from appliance.box import Box
from appliance.catalog import processes
from appliance.errors import ApplianceError
from appliance.health.facts import Queue
from appliance.health.judgement import status


def metrics_text(box: Box, now: datetime) -> str:
    """All metrics of `box` at `now`."""
    found = status(box, now)
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
    _reported_metrics(box, gauge)
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


def _reported_metrics(box: Box, gauge: Any) -> None:
    """The numbers that the processes put beside their heartbeats, by process."""
    try:
        with box.catalog.reading() as conn:
            rows = processes.processes(conn)
    except ApplianceError:
        return  # the catalog's problem is among the problems already
    reported = gauge("process_reported", "A count that a process reports.", ("process", "count"))
    for row in rows:
        for name, value in sorted(row.detail.items()):
            if isinstance(value, int | float):
                reported.labels(row.name, name).set(value)
