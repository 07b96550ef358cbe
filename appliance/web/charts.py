"""Charts as numbers and words: where each mark is drawn, and the same values as the rows of a table beside it.

Chose SVG drawn by the server because it prints, needs no script, passes the strict policy (positions are attributes,
looks are classes) and can be read aloud; the table holds exactly what is drawn, so nobody depends on seeing it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Literal

WIDTH, HEIGHT = 400.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 22.0, 12.0, 26.0
MOST_LABELS = 6

Kind = Literal["bars", "line"]


@dataclass(frozen=True, slots=True)
class Value:
    """One value: its place on the axis in words, and how much; None where nobody measured."""

    label: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    """One value as it is drawn: a bar, or a point of a line. `value` is what it stands for, `shown` that in words."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: float
    shown: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A line across with its words at the side, or words below the axis at `at`."""

    at: float
    shown: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and its table. `rows` are all values in words, also those that nobody measured."""

    name: str
    title: str
    kind: Kind
    heading: str
    marks: tuple[Mark, ...]
    paths: tuple[str, ...]
    across: tuple[Tick, ...]
    below: tuple[Tick, ...]
    rows: tuple[tuple[str, str], ...]

    @property
    def is_empty(self) -> bool:
        return not self.marks


def chart(
    name: str,
    title: str,
    values: Sequence[Value],
    *,
    heading: str,
    shown: Callable[[float], str],
    kind: Kind = "bars",
) -> Chart:
    """The chart of `values`, left to right. `name` is unique on the page; `shown` writes a value, `heading` its column."""
    known = [each.value for each in values if each.value is not None]
    top = nice(max(known, default=0.0))
    step = (WIDTH - LEFT - RIGHT) / max(1, len(values))

    def height_of(value: float) -> float:
        return round((HEIGHT - TOP - BOTTOM) * value / top, 2)

    marks: list[Mark] = []
    for place, each in enumerate(values):
        if each.value is None:
            continue
        tall = height_of(each.value)
        marks.append(
            Mark(
                x=round(LEFT + place * step + step * (0.14 if kind == "bars" else 0.5), 2),
                y=round(HEIGHT - BOTTOM - tall, 2),
                width=round(step * 0.72, 2),
                height=tall,
                label=each.label,
                value=each.value,
                shown=shown(each.value),
            )
        )
    every = -(-len(values) // MOST_LABELS) or 1
    return Chart(
        name=name,
        title=title,
        kind=kind,
        heading=heading,
        marks=tuple(marks),
        paths=_paths(values, marks) if kind == "line" else (),
        across=tuple(
            Tick(round(HEIGHT - BOTTOM - height_of(part), 2), shown(part)) for part in (0.0, top / 2, top)
        )
        if known
        else (),
        below=tuple(
            Tick(round(LEFT + place * step + step / 2, 2), each.label)
            for place, each in enumerate(values)
            if (len(values) - 1 - place) % every == 0
        ),
        rows=tuple((each.label, "—" if each.value is None else shown(each.value)) for each in values),
    )


def _paths(values: Sequence[Value], marks: Sequence[Mark]) -> tuple[str, ...]:
    """A path through each run of neighbours: where nobody measured, no line pretends to know."""
    runs: list[list[Mark]] = [[]]
    waiting = iter(marks)
    for each in values:
        if each.value is None:
            runs.append([])
        else:
            runs[-1].append(next(waiting))
    return tuple("M" + "L".join(f"{mark.x} {mark.y}" for mark in run) for run in runs if len(run) > 1)


def nice(value: float) -> float:
    """The least of 1, 2, 4, 5, 10 times a power of ten that is at least `value`; 1 for nothing."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** floor(log10(value))
    return next((step * power for step in (1, 2, 4, 5) if step * power >= value * (1 - 1e-12)), 10 * power)
