"""Which images a homecoming has passed over, by their rows: what lies deep, or is in an archive that is away. Pure.

Every other image that it has come to is expected on this disk, so which these are has to be known for months, of millions. Chose stretches of
rows over a row of a table for each: what no other archive has came to one in stretches, by days and by rules. Beyond `MOST` of them those
that lie nearest to each other are taken together with what is between: that much is missed less closely, and nothing is missed that
is only to come.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

MOST: Final = 1000


class Stretch(NamedTuple):
    """From the row `first` to the row `last`, both with it, of which `images` were passed over."""

    first: int
    last: int
    images: int


@dataclass(frozen=True, slots=True)
class Awaited:
    """What was passed over: stretches that don't meet, the lowest first."""

    stretches: tuple[Stretch, ...] = ()

    @classmethod
    def of(cls, told: Iterable[Sequence[int]]) -> Awaited:
        """As it was kept."""
        return cls(tuple(Stretch(*each) for each in told))

    def __contains__(self, row: int) -> bool:
        found = self._at(row)
        return found is not None and row <= found.last

    @property
    def count(self) -> int:
        return sum(each.images for each in self.stretches)

    def below(self, row: int) -> list[tuple[int, int]]:
        """The stretches below a row that is in none of them or begins one, the highest first."""
        return [(each.first, each.last) for each in reversed(self.stretches) if each.last < row]

    def others(self, first: int, last: int) -> list[tuple[int, int]]:
        """What lies between the stretches, of the rows from `first` to `last`, the lowest first."""
        edges = [each for each in self.stretches if each.last >= first]
        starts = [first, *(each.last + 1 for each in edges)]
        ends = [*(each.first - 1 for each in edges), last]
        spans = ((start, min(end, last)) for start, end in zip(starts, ends, strict=True))
        return [(start, end) for start, end in spans if start <= end]

    def after(
        self, spans: Sequence[tuple[int, int]], looked: Sequence[tuple[int, bool]], *, is_end: bool
    ) -> Awaited:
        """What is awaited once, of the rows in `spans`, those were `looked` at, each with whether it was passed over; both the highest first.

        There is nothing below the last of `looked` when that `is_end`.
        """
        if not spans:
            return self
        top = spans[0][1]
        fresh = list(_passed_over(spans, looked))
        upper = _joined([*fresh, *(each for each in self.stretches if each.first > top)])
        lower = () if is_end else self._left(looked[-1][0] if looked else top + 1, looked)
        return Awaited((*lower, *upper))

    def _left(self, row: int, looked: Sequence[tuple[int, bool]]) -> Iterator[Stretch]:
        """What lies below a row, of which nothing was looked at."""
        for each in self.stretches:
            if each.first >= row:
                return
            done = sum(each.first <= at <= each.last for at, _ in looked) if row <= each.last else 0
            yield Stretch(each.first, min(each.last, row - 1), max(0, each.images - done))

    def _at(self, row: int) -> Stretch | None:
        found = bisect_right(self.stretches, row, key=lambda each: each.first)
        return self.stretches[found - 1] if found else None


def _passed_over(spans: Sequence[tuple[int, int]], looked: Sequence[tuple[int, bool]]) -> Iterator[Stretch]:
    """Each row that was passed over, up to the next that was looked at: there is none between the two."""
    rows = iter(looked)
    each = next(rows, None)
    for first, last in spans:
        edge = last
        while each is not None and each[0] >= first:
            if each[1]:
                yield Stretch(each[0], edge, 1)
            edge = each[0] - 1
            each = next(rows, None)


def _joined(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """One of each two that touch, the lowest first; and of those that lie nearest, while there are more than `MOST`."""
    ordered = sorted(stretches)
    gaps = [after.first - before.last - 1 for before, after in pairwise(ordered)]
    nearest = sorted(range(len(gaps)), key=gaps.__getitem__)
    closed = {*nearest[: max(0, len(ordered) - MOST)], *(at for at, gap in enumerate(gaps) if not gap)}
    found = list(ordered[:1])
    for at, each in enumerate(ordered[1:]):
        if at in closed:
            before = found.pop()
            found.append(Stretch(before.first, each.last, before.images + each.images))
        else:
            found.append(each)
    return tuple(found)
