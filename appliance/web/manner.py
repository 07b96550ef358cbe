"""How each language writes what is no sentence: numbers, sizes, dates, times, lists, and which plural form counts.

Chosen: CLDR's rules through Babel, and a table of the languages, one `Manner` each. Because plurals alone are wrong in
Arabic or for French zero when written by hand, and the next language is then a line here and a file of sentences.
Where CLDR and the clinic differ, the table says so: hours are written by the 24-hour clock everywhere (no "a.m." to
overlook beside an image), in French as the OQLF has it (9 h 15), whose first day of a month is « 1er ». Digits are
those of DICOM identifiers in every language. Rejected: relative times ("3 minutes ago"), which grow false on a page
that stays open.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Literal

from babel import Locale
from babel.dates import format_date, format_skeleton, format_time, format_timedelta, get_datetime_format
from babel.lists import format_list
from babel.numbers import format_decimal
from babel.units import format_unit

HARD = "\u00a0"
_UNITS = ("byte", "kilobyte", "megabyte", "gigabyte", "terabyte")
_REMEMBERED = 4096
_LOOSE_SPACE = re.compile(r"(?<!,) ")


@dataclass(frozen=True)
class Manner:
    """A language of the console and its ways.

    `offered_at` names the endpoints whose pages are complete in it; None: all of them. A page is in one language
    whole, and never half in another.
    """

    code: str
    name: str
    locale_name: str
    tag: str
    clock: str = "HH:mm"
    first_day: str = "1"
    day_pattern: str = "medium"
    offered_at: frozenset[str] | None = None

    @cached_property
    def locale(self) -> Locale:
        """The locale of CLDR."""
        return Locale.parse(self.locale_name)

    @property
    def direction(self) -> Literal["ltr", "rtl"]:
        """Which way its lines run."""
        return "rtl" if self.locale.text_direction == "rtl" else "ltr"

    @property
    def plural_forms(self) -> frozenset[str]:
        """The CLDR categories that a number can fall into."""
        return frozenset(self.locale.plural_form.tags) | {"other"}

    def plural(self, count: float) -> str:
        """The category of `count`: "one", "few", … "other"."""
        return str(self.locale.plural_form(count))

    def is_offered_at(self, endpoint: str | None) -> bool:
        """Whether the page of `endpoint` is complete in this language."""
        return self.offered_at is None or endpoint in self.offered_at

    def number(self, value: int) -> str:
        """A whole number with its thousands parted."""
        return _number(self.locale_name, value)

    def decimal(self, value: float) -> str:
        """A number with what decimals it needs, six significant digits at most."""
        return str(format_decimal(Decimal(f"{value:g}"), locale=self.locale, decimal_quantization=False))

    def size(self, count: int) -> str:
        """A number of bytes in a unit that a person reads."""
        scaled, unit = float(count), 0
        while scaled >= 1000 and unit < len(_UNITS) - 1:
            scaled, unit = scaled / 1000, unit + 1
        written = format_unit(
            scaled,
            f"digital-{_UNITS[unit]}",
            "long" if unit == 0 else "short",
            format="#,##0" if unit == 0 or scaled >= 100 else "0.0",
            locale=self.locale,
        )
        return _held(written)

    def day(self, value: date) -> str:
        """A date."""
        written = _date(self.locale_name, self.day_pattern, value)
        if value.day == 1 and self.first_day != "1":
            written = written.replace("1", self.first_day, 1)
        return _held(written)

    def time(self, value: time) -> str:
        """Hours and minutes."""
        return _held(_time(self.locale_name, self.clock, value))

    def short_day(self, value: date) -> str:
        """A day and its month, for an axis."""
        return _held(str(format_skeleton("MMMd", value, locale=self.locale)))

    def span(self, seconds: float) -> str:
        """A length of time, in its largest unit: for pages that refresh by themselves, where it doesn't grow false."""
        return _held(str(format_timedelta(timedelta(seconds=seconds), locale=self.locale)))

    def moment(self, day: str, clock: str) -> str:
        """A written day and a written time, as one."""
        return str(get_datetime_format("medium", locale=self.locale)).format(clock, day)

    def several(self, parts: Sequence[str]) -> str:
        """Things in a row: "a, b and c"."""
        return str(format_list(list(parts), locale=self.locale))

    def moment_of(self, at: datetime) -> str:
        """A moment, in the time zone it carries."""
        return self.moment(self.day(at.date()), self.time(at.time()))


# A list has a hundred dates and numbers, mostly those of the list before: Babel takes some 50 µs for each, a look-up one.


@lru_cache(_REMEMBERED)
def _number(locale_name: str, value: int) -> str:
    return str(format_decimal(value, locale=Locale.parse(locale_name)))


@lru_cache(_REMEMBERED)
def _date(locale_name: str, pattern: str, value: date) -> str:
    return str(format_date(value, pattern, locale=Locale.parse(locale_name)))


@lru_cache(_REMEMBERED)
def _time(locale_name: str, pattern: str, value: time) -> str:
    return str(format_time(value, pattern, locale=Locale.parse(locale_name)))


def _held(written: str) -> str:
    """`written` with its parts kept on one line, but after a comma."""
    return _LOOSE_SPACE.sub(HARD, written)


_TABLE = (
    Manner("en", "English", "en_CA", "en"),
    Manner("fr", "Français", "fr_CA", "fr", clock="H 'h' mm", first_day="1er"),
    Manner("es", "Español", "es_419", "es"),
    Manner("zh", "简体中文", "zh_Hans", "zh-Hans"),
    Manner(
        "ar",
        "العربية",
        "ar",
        "ar",
        day_pattern="d MMMM y",  # CLDR's has numbers only, whose order a mixed page leaves open
        offered_at=frozenset({"door.form", "door.sign_in", "studies.search"}),
    ),
)
MANNERS: Mapping[str, Manner] = {each.code: each for each in _TABLE}
"""The languages of the console. A new one is a line here and a file in ``web-ui/languages``."""
