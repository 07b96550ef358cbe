"""What a round of the bench of browsing came to, and whether its goals are met."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from .visitors import Fetched

PAGES = ("studies", "search", "study", "dashboard", "deliveries", "devices", "settings")
PAGES_GOAL_SECONDS = 0.3
RECEPTION_GOAL = 0.8


@dataclass(frozen=True)
class Round:
    """One situation, measured once."""

    sending: bool
    browsing: bool
    seconds: float
    rate: float
    fetched: tuple[Fetched, ...]
    wrong: tuple[str, ...]
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    streams: int = 0
    refused_streams: int = 0
    events: int = 0


def percentile(values: Sequence[float], percent: float) -> float:
    """The least of `values` that so many percent of them don't exceed; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


def situations(rounds: Sequence[Round]) -> tuple[list[Round], list[Round], list[Round]]:
    """Those of reception alone, of both at once, and of people alone."""

    def of(*, sending: bool, browsing: bool) -> list[Round]:
        return [each for each in rounds if (each.sending, each.browsing) == (sending, browsing)]

    return (
        of(sending=True, browsing=False),
        of(sending=True, browsing=True),
        of(sending=False, browsing=True),
    )


def missed(rounds: Sequence[Round]) -> list[str]:
    """Which goals are missed, in words. One that nothing was measured for is missed too."""
    alone, both, _ = situations(rounds)
    pages = percentile([each.seconds for found in both for each in found.fetched if each.what in PAGES], 95)
    rates = [median(each.rate for each in found) if found else float("nan") for found in (alone, both)]
    said = []
    if not pages < PAGES_GOAL_SECONDS:
        said.append(
            f"goal missed: 95 % of pages within {pages * 1000:.0f} ms while images come, not {PAGES_GOAL_SECONDS * 1000:.0f} ms"
        )
    if not rates[1] >= RECEPTION_GOAL * rates[0]:
        said.append(
            f"goal missed: reception keeps {rates[1]:.0f} of {rates[0]:.0f} instances/s while people browse, not {RECEPTION_GOAL:.0%}"
        )
    return said
