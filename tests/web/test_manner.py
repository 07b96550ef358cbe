"""Numbers, sizes, dates and plural forms of every language, held to CLDR through Babel."""

import unicodedata
from datetime import UTC, date, datetime, time

import pytest
from babel import Locale
from babel.dates import format_date
from babel.numbers import parse_decimal, parse_number
from hypothesis import given
from hypothesis import strategies as st

from appliance.web.manner import HARD, MANNERS

every_language = pytest.mark.parametrize("code", list(MANNERS))


@every_language
@given(number=st.integers(-(10**15), 10**15))
def test_a_whole_number_reads_back_as_itself(code: str, number: int) -> None:
    manner = MANNERS[code]
    assert parse_number(_bare(manner.number(number)), locale=manner.locale) == number


@every_language
@given(value=st.floats(-1e9, 1e9, allow_nan=False))
def test_a_decimal_reads_back_to_six_digits(code: str, value: float) -> None:
    manner = MANNERS[code]
    shown = parse_decimal(_bare(manner.decimal(value)), locale=manner.locale)
    assert float(shown) == pytest.approx(value, rel=1e-5, abs=1e-300)


@every_language
@given(count=st.integers(0, 10**9))
def test_a_plural_form_is_one_that_the_language_has(code: str, count: int) -> None:
    manner = MANNERS[code]
    assert manner.plural(count) == str(Locale.parse(manner.locale_name).plural_form(count))
    assert manner.plural(count) in manner.plural_forms


@every_language
@given(day=st.dates(date(1, 1, 1), date(9999, 12, 31)))
def test_a_date_is_cldrs_and_stays_on_its_line(code: str, day: date) -> None:
    manner = MANNERS[code]
    written = manner.day(day)
    assert str(day.year) in written
    assert " " not in written.replace(", ", "")
    expected = str(format_date(day, manner.day_pattern, locale=manner.locale)).replace(HARD, " ")
    assert written.replace(HARD, " ").replace("1er ", "1 ") == expected


@every_language
@given(at=st.times())
def test_a_time_has_24_hours_and_two_digits_of_minutes(code: str, at: time) -> None:
    written = MANNERS[code].time(at)
    assert written.endswith(f"{at.minute:02d}")
    assert int("".join(each for each in written if each.isdigit())) == at.hour * 100 + at.minute
    assert not any(each in written.lower() for each in ("am", "pm", "a.m", "p.m"))


@every_language
@given(count=st.integers(0, 10**16))
def test_a_size_is_short_and_within_five_hundredths(code: str, count: int) -> None:
    manner = MANNERS[code]
    written = manner.size(count)
    digits = "".join(each for each in written if each.isdecimal() or each in ".,")
    value = float(parse_decimal(digits.rstrip("."), locale=manner.locale))
    assert " " not in written
    if count < 10**15:
        scaled = float(count)
        while scaled >= 1000:
            scaled /= 1000
        assert value == pytest.approx(scaled, abs=0.5 if scaled >= 100 or count < 1000 else 0.0501)


def test_what_a_clinic_sees() -> None:
    at = datetime(2026, 3, 1, 9, 5, tzinfo=UTC)
    seen = {
        code: (manner.moment_of(at), manner.size(1_600_000), manner.number(12_345))
        for code, manner in MANNERS.items()
    }
    assert seen["en"] == (f"Mar{HARD}1, 2026, 09:05", f"1.6{HARD}MB", "12,345")
    assert seen["fr"] == (f"1er{HARD}mars{HARD}2026, 9{HARD}h{HARD}05", f"1,6{HARD}Mo", f"12{HARD}345")
    assert seen["es"] == (f"1{HARD}mar{HARD}2026, 09:05", f"1.6{HARD}MB", "12,345")
    assert seen["zh"] == ("2026年3月1日 09:05", f"1.6{HARD}MB", "12,345")
    assert seen["ar"][0].startswith(f"1{HARD}مارس{HARD}2026")
    assert seen["ar"][2] == "12,345"


def test_several_things_are_joined_as_the_language_joins_them() -> None:
    three = ("11", "12", "21")
    assert MANNERS["en"].several(three) == "11, 12 and 21"
    assert MANNERS["fr"].several(three) == "11, 12 et 21"
    assert MANNERS["es"].several(three) == "11, 12 y 21"
    assert MANNERS["zh"].several(three) == "11、12和21"
    assert MANNERS["ar"].several(three) == "11 و12 و21"
    assert MANNERS["fr"].several(()) == ""


def test_arabic_runs_from_right_to_left_and_the_others_do_not() -> None:
    assert {code for code, manner in MANNERS.items() if manner.direction == "rtl"} == {"ar"}


def test_a_language_that_is_proven_on_some_pages_is_offered_on_those_alone() -> None:
    assert MANNERS["ar"].is_offered_at("studies.search")
    assert not MANNERS["ar"].is_offered_at("devices.overview")
    assert not MANNERS["ar"].is_offered_at(None)
    assert MANNERS["es"].is_offered_at(None)


def _bare(written: str) -> str:
    """Without marks of direction, which Arabic puts before a minus sign."""
    return "".join(each for each in written if unicodedata.category(each) != "Cf")
