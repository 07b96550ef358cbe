"""How long things take: counts in fixed buckets, which cost a look-up and an addition, can be added up over processes
and minutes, and give percentiles afterwards.

Chose fixed bounds that grow by the square root of two, because histograms of different processes and days can then be
added; a percentile read from them is at most 41 % above the truth, and never below it. Rejected: keeping the values
(memory without end), t-digests (merging costs, and Prometheus can't read them). Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil

STAGES = ("receive", "store", "render", "query", "page")
"""What is measured: a C-STORE from its command to its answer; of that, making it durable; drawing a picture; finding
studies; answering with a page."""

LATENCY = "latency"
"""The key of a heartbeat's detail under which a process reports its histograms, by stage, since its start."""

BOUNDS_SECONDS: tuple[float, ...] = tuple(0.000_25 * 2 ** (step / 2) for step in range(37))
"""Upper ends of the buckets, 0.25 ms to 65 s; what takes longer is in one more."""


@dataclass(slots=True)
class Histogram:
    """Counts by bucket, and the seconds of all together. Not for several threads at once: whoever shares one locks."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_SECONDS) + 1))
    seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.seconds += seconds

    @property
    def total(self) -> int:
        return sum(self.counts)

    def percentile(self, share: float) -> float | None:
        """The seconds within which `share` (0 to 1) of all were done, rounded up to a bound; None for none."""
        total = self.total
        if not total:
            return None
        rank, seen = max(1, ceil(share * total - 1e-9)), 0
        for place, count in enumerate(self.counts):
            seen += count
            if seen >= rank:
                return BOUNDS_SECONDS[min(place, len(BOUNDS_SECONDS) - 1)]
        raise AssertionError("the counts are fewer than their sum")

    def as_detail(self) -> dict[str, object]:
        """The same as JSON, without the empty buckets."""
        return {
            "counts": {str(place): count for place, count in enumerate(self.counts) if count},
            "seconds": round(self.seconds, 6),
        }

    @classmethod
    def of_detail(cls, detail: object) -> Histogram:
        """What `as_detail` wrote; empty for what it didn't."""
        made = cls()
        if not isinstance(detail, Mapping):
            return made
        counts, seconds = detail.get("counts"), detail.get("seconds")
        for place, count in (counts if isinstance(counts, Mapping) else {}).items():
            if str(place).isdecimal() and int(place) < len(made.counts) and isinstance(count, int):
                made.counts[int(place)] = max(0, count)
        made.seconds = max(0.0, float(seconds)) if isinstance(seconds, int | float) else 0.0
        return made

    def since(self, before: Histogram) -> Histogram:
        """What has come on top of `before`. If anything has gone down, the process began anew: then all of it."""
        if any(now < then for now, then in zip(self.counts, before.counts, strict=True)):
            return Histogram(list(self.counts), self.seconds)
        counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        return Histogram(counts, max(0.0, self.seconds - before.seconds))


def added(histograms: Iterable[Histogram]) -> Histogram:
    """All of them as one."""
    made = Histogram()
    for each in histograms:
        made.counts = [one + other for one, other in zip(made.counts, each.counts, strict=True)]
        made.seconds += each.seconds
    return made
