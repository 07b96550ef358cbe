"""What happened in a minute, an hour or a day, as it is kept for trends, and how two such records become one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.latency import Histogram, added


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened within some time, and how things stood at its end.

    Sums: what was received, delivered, refused, how long things took. States: free bytes and what waited, by
    destination. Worst: the age of the oldest that waited.
    """

    received: int = 0
    received_bytes: int = 0
    delivered: int = 0
    failed: int = 0
    free_bytes: int | None = None
    waiting: Mapping[str, int] = field(default_factory=dict)
    oldest_seconds: Mapping[str, int] = field(default_factory=dict)
    latencies: Mapping[str, Histogram] = field(default_factory=dict)

    def as_detail(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "received": self.received,
            "received_bytes": self.received_bytes,
            "delivered": self.delivered,
            "failed": self.failed,
            "free_bytes": self.free_bytes,
            "waiting": dict(self.waiting),
            "oldest_seconds": dict(self.oldest_seconds),
            "latencies": {stage: each.as_detail() for stage, each in self.latencies.items()},
        }

    @classmethod
    def of_detail(cls, detail: Mapping[str, Any]) -> Figures:
        """What `as_detail` wrote."""
        latencies = {stage: Histogram.of_detail(each) for stage, each in detail["latencies"].items()}
        return cls(**{**detail, "latencies": latencies})


def merged(earlier: Figures, later: Figures) -> Figures:
    """Two records in a row as one."""
    stages = {**earlier.latencies, **later.latencies}
    places = {**earlier.oldest_seconds, **later.oldest_seconds}
    return Figures(
        received=earlier.received + later.received,
        received_bytes=earlier.received_bytes + later.received_bytes,
        delivered=earlier.delivered + later.delivered,
        failed=earlier.failed + later.failed,
        free_bytes=earlier.free_bytes if later.free_bytes is None else later.free_bytes,
        waiting={**earlier.waiting, **later.waiting},
        oldest_seconds={
            name: max(earlier.oldest_seconds.get(name, 0), later.oldest_seconds.get(name, 0))
            for name in places
        },
        latencies={
            stage: added(each.latencies[stage] for each in (earlier, later) if stage in each.latencies)
            for stage in stages
        },
    )
