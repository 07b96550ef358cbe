"""Birth dates as people write them in a sentence: ``5/12/1980``, ``12-MAY-80``, "le 12 mai 1980", "May 12th, 1980". Pure.

A date is looked for by its shape and then compared as a day, because its digits alone (``5121980``, or ``51280``) are those of
many other numbers. A day and a month that could be either are compared both ways: clinics here write both.

Not found: a date without its year, two digits of a year with points (``12.05.80``, which is a version or an address more often)
or with nothing between (``800512``), a date in words, and an age.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from appliance.catalog.folding import fold

Day = tuple[int, int, int]
"""Year, month, day; the year of four digits, or its last two."""

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan janvier janv",
            "february feb fevrier fevr fev",
            "march mar mars",
            "april apr avril avr",
            "may mai",
            "june jun juin",
            "july jul juillet juil",
            "august aug aout aou",
            "september sept sep septembre",
            "october oct octobre",
            "november nov novembre",
            "december dec decembre",
        ),
        start=1,
    )
    for name in names.split()
}
"""By name and by what it is shortened to, in English and French, folded."""
_DASHES = "\u2010-\u2013-"
_BLANK = r"[ \t\u00a0]"
_PARTED = rf"{_BLANK}{{0,2}}[./{_DASHES}]{_BLANK}{{0,2}}|{_BLANK}{{1,3}}"
_GAP = rf"[ \t\u00a0.,'’/{_DASHES}]{{0,3}}"
_MONTH = r"((?:[^\W\d_]|[\u0300-\u036f]){3,12})"
_DAY = r"(\d{1,2})(?:er|st|nd|rd|th)?"
_YEAR = r"(\d{4}|\d{2})"
_ALONE, _ENDED = r"(?<!\d)", r"(?!\d)"
"""What stands beside a date is no part of it."""


def _by_numbers(found: re.Match[str]) -> Iterator[Day]:
    first, between, second, again, third = found.groups()
    one, two, three = int(first), int(second), int(third)
    is_short = "." not in between + again and bool((between + again).strip())
    if len(first) == 4 or (len(first) == 2 and is_short):
        yield one, two, three
    if len(third) == 4 or (len(third) == 2 and is_short):
        yield three, two, one
        yield three, one, two


def _day_first(found: re.Match[str]) -> Iterator[Day]:
    day, month, year = found.groups()
    yield int(year), _MONTHS.get(fold(month), 0), int(day)


def _month_first(found: re.Match[str]) -> Iterator[Day]:
    month, day, year = found.groups()
    yield int(year), _MONTHS.get(fold(month), 0), int(day)


def _year_first(found: re.Match[str]) -> Iterator[Day]:
    year, month, day = found.groups()
    yield int(year), _MONTHS.get(fold(month), 0), int(day)


_WRITINGS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Iterator[Day]]], ...] = (
    (
        re.compile(
            rf"{_ALONE}(\d{{4}}|\d\d?)({_PARTED})(\d\d?)({_PARTED})(\d{{4}}|\d\d?){_ENDED}", re.IGNORECASE
        ),
        _by_numbers,
    ),
    (
        re.compile(
            rf"{_ALONE}{_DAY}{_GAP}(?:(?:de|of){_BLANK})?{_MONTH}{_GAP}{_YEAR}{_ENDED}", re.IGNORECASE
        ),
        _day_first,
    ),
    (
        re.compile(rf"{_ALONE}(?<![^\W\d_]){_MONTH}{_GAP}{_DAY}{_GAP}{_YEAR}{_ENDED}", re.IGNORECASE),
        _month_first,
    ),
    (re.compile(rf"{_ALONE}(\d{{4}}){_GAP}{_MONTH}{_GAP}{_DAY}{_ENDED}", re.IGNORECASE), _year_first),
)


class BirthDates:
    """The days on which somebody was born, looked for in a text."""

    def __init__(self) -> None:
        self._days: set[Day] = set()

    def add(self, text: str) -> None:
        """Look for a date too that is written as DICOM does (``19800512``); anything else is no date."""
        if re.fullmatch(r"\d{8}", text, re.ASCII):
            year, month, day = int(text[:4]), int(text[4:6]), int(text[6:])
            self._days |= {(year, month, day), (year % 100, month, day)}

    def cut(self, text: str, mark: str) -> tuple[str, int]:
        """`text` with `mark` for each, and how many there were."""
        counted = 0
        if self._days:
            for shape, read in _WRITINGS:
                text, found = self._cut(text, mark, shape, read)
                counted += found
        return text, counted

    def _cut(
        self, text: str, mark: str, shape: re.Pattern[str], read: Callable[[re.Match[str]], Iterator[Day]]
    ) -> tuple[str, int]:
        kept: list[str] = []
        done = at = counted = 0
        while found := shape.search(text, at):
            at = found.start() + 1  # what is no birth date may be the beginning of one
            if any(each in self._days for each in read(found)):
                kept += [text[done : found.start()], mark]
                done = at = found.end()
                counted += 1
        return "".join([*kept, text[done:]]), counted
