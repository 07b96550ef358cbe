"""Until when a study is kept: every doubt lengthens, and no clock makes something due that isn't."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Refused
from appliance.lifecycle.laws import LAWS, MAJORITY_YEARS, OwnFigure, book, check_own, counts, least_years
from appliance.lifecycle.policy import (
    FOR_EVER,
    Basis,
    Clock,
    Doubt,
    Entry,
    Facts,
    RecordType,
    Rule,
    RuleBook,
    Starts,
    Status,
    Told,
    day_of,
    decide,
    entry_of,
    keep_until,
    last_entry,
    record_types,
    years_after,
)
from appliance.settings.registry import PROVINCES, SETTINGS

DENTAL, MEDICAL, MAMMOGRAPHY = RecordType.DENTAL, RecordType.MEDICAL, RecordType.MAMMOGRAPHY
ENTRY, MAJORITY = Starts.LAST_ENTRY, Starts.MAJORITY
NOON = datetime(2015, 3, 10, 12, tzinfo=UTC)
ADULT = Facts(frozenset({MEDICAL}), "20150310", NOON, NOON, ("19700131",))
QC, ON, BC, AB = (book(province, ()) for province in ("QC", "ON", "BC", "AB"))


def trusted(now: datetime) -> Clock:
    return Clock(now, newest_receipt_utc=None, noted_utc=now)


def given_in(province: str, kind: RecordType, starts: Starts, years: int) -> OwnFigure:
    return OwnFigure(kind, starts, years, province=province)


def status(facts: Facts, rules: RuleBook, now: datetime) -> Status:
    return decide(facts, rules, trusted(now)).status


# --- what the provinces ask for, restated ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "kind", "born", "made", "until"),
    [
        (QC, MEDICAL, "19700131", "20150310", date(2025, 3, 10)),
        (QC, DENTAL, "19700131", "20150310", date(2020, 3, 10)),
        (QC, MEDICAL, "20100704", "20150310", date(2038, 7, 4)),  # 18 in 2028, and ten years more
        (QC, DENTAL, "20100704", "20150310", date(2033, 7, 4)),
        (ON, DENTAL, "19700131", "20150310", date(2025, 3, 10)),
        (ON, DENTAL, "20100704", "20150310", date(2038, 7, 4)),
        (ON, MEDICAL, "19700131", "20150310", date(2030, 3, 10)),  # 15 are prudent
        (ON, MEDICAL, "20100704", "20150310", date(2038, 7, 4)),
        (BC, MEDICAL, "19700131", "20150310", date(2031, 3, 10)),
        (BC, MEDICAL, "20100704", "20150310", date(2045, 7, 4)),  # 19 in 2029, and sixteen years more
        (BC, DENTAL, "19700131", "20150310", date(2031, 3, 10)),
        (AB, MEDICAL, "19700131", "20150310", date(2025, 3, 10)),
        (AB, MEDICAL, "20100704", "20150310", date(2038, 7, 4)),
    ],
)
def test_each_province_keeps_as_its_order_says(
    rules: RuleBook, kind: RecordType, born: str, made: str, until: date
) -> None:
    facts = replace(ADULT, record_types=frozenset({kind}), birth_dates=(born,), study_date=made)
    found, reasons = keep_until(facts, rules)
    assert found == until
    assert reasons[0].until == until
    assert reasons[0].rule.source


@pytest.mark.parametrize(
    ("entry", "until"),
    [
        ("19950601", date(2026, 6, 1)),  # 31 years
        ("20000601", date(2029, 6, 1)),  # or the 1st of June 2029, whichever is first
        ("20130531", date(2029, 6, 1)),
        ("20130601", date(2029, 6, 1)),  # sixteen years
        ("20130602", date(2029, 6, 2)),
    ],
)
def test_old_dental_records_of_british_columbia_are_kept_as_its_old_law_said(entry: str, until: date) -> None:
    made = datetime.strptime(entry, "%Y%m%d").replace(hour=12, tzinfo=UTC)
    facts = Facts(frozenset({DENTAL}), entry, made, made, ("19500101",))
    assert keep_until(facts, BC)[0] == until


def test_who_was_of_age_when_the_images_were_made_is_no_minor() -> None:
    rules = RuleBook(18, (rule(ENTRY, 5), rule(MAJORITY, 40)))
    on_the_day = replace(ADULT, birth_dates=("19970310",))
    assert keep_until(on_the_day, rules)[0] == date(2020, 3, 10)
    a_day_younger = replace(ADULT, birth_dates=("19970311",))
    assert keep_until(a_day_younger, rules)[0] == date(2055, 3, 11)


def test_a_province_without_a_known_rule_keeps_for_ever_until_the_clinic_says() -> None:
    assert keep_until(ADULT, book("MB", ())) == (FOR_EVER, ())
    assert status(ADULT, book("MB", ()), datetime(2200, 1, 1, tzinfo=UTC)) is Status.NO_RULE
    own = book("MB", [given_in("MB", MEDICAL, ENTRY, 12)])
    assert keep_until(ADULT, own)[0] == date(2027, 3, 10)
    both = replace(ADULT, record_types=frozenset({MEDICAL, DENTAL}))
    assert keep_until(both, own)[0] == FOR_EVER  # nothing is known of dental records there
    assert keep_until(both, AB)[0] == FOR_EVER


def test_what_may_be_two_kinds_of_record_is_kept_as_both() -> None:
    assert record_types("both", ["CT"]) == {DENTAL, MEDICAL}
    assert record_types("", ["IO"]) == {DENTAL, MEDICAL}
    assert record_types("dental", ["CT"]) == {DENTAL}
    assert record_types("dental", ["MG"]) == {DENTAL, MEDICAL, MAMMOGRAPHY}
    assert record_types("medical", ["MG", "SR"]) == {MEDICAL, MAMMOGRAPHY}
    both = replace(ADULT, record_types=record_types("both", ["PX"]))
    assert keep_until(both, QC)[0] == date(2025, 3, 10)


def test_a_figure_of_the_clinic_lengthens_and_takes_the_place_of_advice_only() -> None:
    assert keep_until(ADULT, book("ON", [given_in("ON", MEDICAL, ENTRY, 12)]))[0] == date(2027, 3, 10)
    assert keep_until(ADULT, book("ON", [given_in("ON", MEDICAL, ENTRY, 10)]))[0] == date(2025, 3, 10)
    assert keep_until(ADULT, book("QC", [given_in("QC", MEDICAL, ENTRY, 30)]))[0] == date(2045, 3, 10)
    mammogram = replace(ADULT, record_types=frozenset({MEDICAL, MAMMOGRAPHY}))
    assert keep_until(mammogram, book("QC", [given_in("QC", MAMMOGRAPHY, ENTRY, 15)]))[0] == date(2030, 3, 10)


def test_a_figure_of_the_clinic_says_who_set_it_when_and_why() -> None:
    at = datetime(2026, 11, 26, 2, tzinfo=UTC)
    own = OwnFigure(MEDICAL, ENTRY, 12, reason="our policy of 2026", by="marie", at_utc=at, province="ON")
    reasons = keep_until(ADULT, book("ON", [own]))[1]
    assert reasons[0].rule.basis is Basis.CLINIC
    assert (
        reasons[0].rule.source
        == "the clinic's own period, set by marie on 2026-11-26 UTC: our policy of 2026"
    )


# --- what a clinic may choose ----------------------------------------------------------------------------------------


def test_a_clinic_never_goes_below_the_law_and_is_told_which() -> None:
    with pytest.raises(Refused, match=r"at least 10 years: M-9, r\. 20\.3\.1, s\. 14"):
        check_own("QC", OwnFigure(MEDICAL, ENTRY, 9))
    check_own("QC", OwnFigure(MEDICAL, ENTRY, 10))
    check_own("ON", OwnFigure(MEDICAL, ENTRY, 10))  # 15 are advice
    with pytest.raises(Refused, match="10 years"):
        check_own("MB", OwnFigure(DENTAL, ENTRY, 5))
    with pytest.raises(Refused, match="at most 100"):
        check_own("QC", OwnFigure(MEDICAL, ENTRY, 101))
    with pytest.raises(Refused, match="at least 1 year"):
        check_own("QC", OwnFigure(MAMMOGRAPHY, ENTRY, 0))


@given(
    st.sampled_from(sorted(MAJORITY_YEARS)),
    st.sampled_from(list(RecordType)),
    st.sampled_from(list(Starts)),
    st.integers(-5, 150),
)
def test_what_is_accepted_is_never_below_a_law(
    province: str, kind: RecordType, starts: Starts, years: int
) -> None:
    figure = OwnFigure(kind, starts, years)
    try:
        check_own(province, figure)
    except Refused:
        return
    assert years >= least_years(province, kind, starts)[0] >= 1
    held = book(province, [replace(figure, province=province)])
    laws = {each for each in LAWS.get(province, ()) if each.basis is Basis.LAW}
    assert laws <= set(held.rules)


# --- what was chosen in another province -----------------------------------------------------------------------------

CHILD = replace(ADULT, record_types=frozenset({DENTAL}), birth_dates=("20100704",))


@pytest.mark.parametrize("where", ["AB", "MB"])
@pytest.mark.parametrize("given", ["QC", ""], ids=["elsewhere", "nobody knows where"])
@pytest.mark.parametrize("years", [5, 9, 10, 40])
def test_where_no_law_is_known_nothing_is_due_by_a_figure_of_another_province(
    where: str, given: str, years: int
) -> None:
    figure = given_in(given, DENTAL, ENTRY, years)
    assert keep_until(CHILD, book(where, [figure]))[0] == FOR_EVER
    assert not counts(where, figure)


@pytest.mark.parametrize("province", ["MB", "QC", "AB"])
def test_a_figure_that_is_too_short_counts_no_more_whenever_it_was_given(province: str) -> None:
    """The law of a later version may ask for more, too."""
    short = [
        given_in(province, kind, ENTRY, least_years(province, kind, ENTRY)[0] - 1)
        for kind in (DENTAL, MEDICAL)
    ]
    assert book(province, short) == book(province, ())


def test_a_figure_of_another_province_takes_no_advices_place_and_still_lengthens() -> None:
    minor = replace(ADULT, birth_dates=("20100704",))
    chosen = given_in("QC", MEDICAL, MAJORITY, 3)
    assert keep_until(minor, book("QC", [chosen]))[0] == date(2031, 7, 4)
    assert keep_until(minor, book("AB", [chosen]))[0] == keep_until(minor, AB)[0] == date(2038, 7, 4)
    assert keep_until(ADULT, book("ON", [given_in("QC", MEDICAL, ENTRY, 12)]))[0] == date(2030, 3, 10)
    assert keep_until(ADULT, book("ON", [given_in("QC", MEDICAL, ENTRY, 20)]))[0] == date(2035, 3, 10)
    minors = given_in("QC", DENTAL, MAJORITY, 25)
    here = given_in("MB", DENTAL, ENTRY, 12)
    assert keep_until(CHILD, book("MB", [minors]))[0] == FOR_EVER
    assert keep_until(CHILD, book("MB", [minors, here]))[0] == date(2053, 7, 4)


@given(
    st.sampled_from(sorted(MAJORITY_YEARS)),
    st.sampled_from(["", *sorted(MAJORITY_YEARS)]),
    st.sampled_from([DENTAL, MEDICAL]),
    st.sampled_from(list(Starts)),
    st.integers(1, 100),
)
def test_a_change_of_province_makes_nothing_due_that_its_own_rules_keep(
    province: str, given_for: str, kind: RecordType, starts: Starts, years: int
) -> None:
    for facts in (ADULT, CHILD, replace(ADULT, birth_dates=("20100704",))):
        without = keep_until(facts, book(province, ()))[0]
        figure = given_in(given_for, kind, starts, years)
        if given_for != province:
            assert keep_until(facts, book(province, [figure]))[0] >= without
    assert book("", [given_in(given_for, kind, starts, years)]).rules == ()


def test_every_province_of_the_settings_has_its_age_of_majority_and_every_rule_its_source() -> None:
    assert set(MAJORITY_YEARS) == set(PROVINCES)
    assert SETTINGS["retention.practice"].default == "both"
    rules = [each for laws in LAWS.values() for each in laws]
    assert len({each.id for each in rules}) == len(rules)
    assert all(each.source and 1 <= each.years <= 31 for each in rules)
    assert {each.id for each in rules if each.verified is None} == {
        "qc-dental",
        "qc-dental-minor",
        "ab-medical",
        "ab-medical-minor",
    }


# --- properties ------------------------------------------------------------------------------------------------------


def rule(starts: Starts, years: int, kind: RecordType = MEDICAL) -> Rule:
    return Rule(f"{kind}-{starts}-{years}", kind, starts, years, Basis.LAW, "a law")


moments = st.integers(0, 25_000 * 86_400).map(
    lambda s: datetime(1990, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)
days = st.dates(date(1890, 1, 1), date(2060, 1, 1)).map(lambda day: day.strftime("%Y%m%d"))
texts = st.one_of(
    days, st.sampled_from(["", "0", "00000000", "19000101", "20991231", "2015-3-10", "99999999"])
)
rules = st.lists(
    st.builds(rule, st.sampled_from(list(Starts)), st.integers(1, 60), st.sampled_from(list(RecordType))),
    max_size=4,
    unique_by=lambda each: each.id,
)
books = st.one_of(
    st.builds(RuleBook, st.sampled_from([18, 19]), rules.map(lambda some: (rule(ENTRY, 3), *some))),
    st.sampled_from([QC, ON, BC]),
)


entries = st.builds(entry_of, texts, moments, st.integers(1, 9))


@st.composite
def studies(draw: st.DrawFn) -> Facts:
    first = draw(moments)
    return Facts(
        record_types=frozenset(draw(st.sets(st.sampled_from([MEDICAL, MAMMOGRAPHY]), min_size=1)))
        | {MEDICAL},
        study_date=draw(texts),
        first_received_utc=first,
        last_received_utc=first + timedelta(days=draw(st.integers(0, 4000))),
        birth_dates=tuple(draw(st.lists(texts, max_size=3))),
        latest=draw(st.none() | entries),
        holds=tuple(draw(st.lists(st.integers(1, 9), max_size=2))),
    )


@given(studies(), books, moments, st.timedeltas(timedelta(0), timedelta(days=20_000)))
def test_what_is_due_stays_due(facts: Facts, rules: RuleBook, now: datetime, later: timedelta) -> None:
    if status(facts, rules, now) is Status.DUE:
        assert status(facts, rules, now + later) is Status.DUE


@given(studies(), books, st.sampled_from(list(Starts)), st.integers(1, 90))
def test_one_more_rule_never_shortens(facts: Facts, rules: RuleBook, starts: Starts, years: int) -> None:
    more = replace(rules, rules=(*rules.rules, rule(starts, years)))
    assert keep_until(facts, more)[0] >= keep_until(facts, rules)[0]


@given(studies(), books, moments, st.integers(1, 99))
def test_a_hold_keeps_whatever_the_rules_say(facts: Facts, rules: RuleBook, now: datetime, hold: int) -> None:
    held = replace(facts, holds=(*facts.holds, hold))
    assert status(held, rules, now) is Status.HELD
    assert decide(held, rules, trusted(now)).keep_until == keep_until(facts, rules)[0]


def by_day(entry: Entry) -> date:
    return entry.day


@given(studies(), books, moments, days)
def test_a_later_visit_never_shortens(facts: Facts, rules: RuleBook, visit: datetime, made: str) -> None:
    before = keep_until(facts, rules)[0]
    entry = entry_of(made, visit, 9)
    later = replace(facts, latest=entry if facts.latest is None else max(entry, facts.latest, key=by_day))
    assert keep_until(later, rules)[0] >= before


@given(studies(), books, st.lists(texts, min_size=1, max_size=3))
def test_an_unknown_birth_date_never_shortens(facts: Facts, rules: RuleBook, known: list[str]) -> None:
    unknown = keep_until(replace(facts, birth_dates=()), rules)[0]
    assert unknown >= keep_until(replace(facts, birth_dates=tuple(known)), rules)[0]
    for nonsense in ("", "00000000", "not a date", "21991231", "17000101"):
        assert keep_until(replace(facts, birth_dates=(nonsense,)), rules)[0] == unknown


@given(studies(), books, texts)
def test_one_person_more_in_a_study_never_shortens(facts: Facts, rules: RuleBook, born: str) -> None:
    one = replace(facts, birth_dates=facts.birth_dates or ("19700101",))
    both = replace(one, birth_dates=(*one.birth_dates, born))
    assert keep_until(both, rules)[0] >= keep_until(one, rules)[0]


@given(studies(), books)
def test_the_longest_rule_decides_and_all_are_shown(facts: Facts, rules: RuleBook) -> None:
    until, reasons = keep_until(facts, rules)
    assert until == max(each.until for each in reasons)
    assert [each.until for each in reasons] == sorted((each.until for each in reasons), reverse=True)
    assert decide(facts, rules, trusted(NOON)).due_since == until + timedelta(days=1)


# --- days ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "years", "then"),
    [
        (date(2008, 2, 29), 18, date(2026, 3, 1)),
        (date(2008, 2, 29), 20, date(2028, 2, 29)),
        (date(2007, 2, 28), 1, date(2008, 2, 28)),
        (date(9995, 1, 1), 10, FOR_EVER),
        (date(1900, 3, 1), 0, date(1900, 3, 1)),
    ],
)
def test_who_was_born_on_a_leap_day_comes_of_age_on_the_first_of_march(
    day: date, years: int, then: date
) -> None:
    assert years_after(day, years) == then


@given(st.dates(), st.integers(0, 200))
def test_years_later_is_never_earlier_and_never_two_days_off(day: date, years: int) -> None:
    then = years_after(day, years)
    assert then >= day
    if then != FOR_EVER:
        assert then.year == day.year + years
        assert (then.month, then.day) in {(day.month, day.day), (3, 1)}


@pytest.mark.parametrize(
    "text", ["", "2015", "20150230", "20151301", "2015-03-10", "٢٠١٥٠٣١٠", "20150310120000"]
)
def test_what_is_no_day_is_none(text: str) -> None:
    assert day_of(text) is None


def test_days_are_read_as_ps3_5_writes_them() -> None:
    assert day_of("20150310") == day_of("2015.03.10") == day_of(" 20150310 ") == date(2015, 3, 10)


@pytest.mark.parametrize(
    "zone", ["America/St_Johns", "America/Toronto", "America/Vancouver", "America/Regina"]
)
@pytest.mark.parametrize("day", ["20150308", "20151101", "20150310", "20160229"])
def test_nothing_is_due_a_day_early_anywhere_in_canada_whatever_summer_time_does(zone: str, day: str) -> None:
    here = ZoneInfo(zone)
    made = date.fromisoformat(f"{day[:4]}-{day[4:6]}-{day[6:]}")
    last_minute = datetime(made.year, made.month, made.day, 23, 59, 59, tzinfo=here)
    facts = Facts(frozenset({MEDICAL}), day, last_minute, last_minute, ("19700131",))
    last_day = years_after(made, 10)
    still = datetime(last_day.year, last_day.month, last_day.day, 23, 59, 59, tzinfo=here)
    assert status(facts, QC, still) is Status.KEEP
    assert status(facts, QC, still + timedelta(days=3)) is Status.DUE


# --- dates that cannot be true ---------------------------------------------------------------------------------------

CAME = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("study_date", "day", "told"),
    [
        ("20261127", date(2026, 11, 27), Told.MADE),
        ("20261126", date(2026, 11, 27), Told.RECEIVED),
        ("", date(2026, 11, 27), Told.RECEIVED),
        ("20281127", date(2028, 11, 27), Told.MADE),  # by a clock that was behind while the box lay unplugged
        ("20281128", date(2028, 11, 27), Told.LATE),
        ("22061127", date(2028, 11, 27), Told.LATE),
        ("99991231", date(2028, 11, 27), Told.LATE),
    ],
)
def test_a_study_counts_no_later_than_two_years_after_its_receipt(
    study_date: str, day: date, told: Told
) -> None:
    assert entry_of(study_date, CAME) == Entry(day, told)


def test_a_receipt_by_a_clock_that_nobody_had_set_says_nothing_against_a_date() -> None:
    for year in (1970, 2015, 2025):
        received = datetime(year, 1, 1, 0, 0, 7, tzinfo=UTC)
        assert entry_of("20300501", received) == Entry(date(2030, 5, 1), Told.MADE)


@pytest.mark.parametrize("born", ["19700131", "", "20200131"])
def test_an_image_from_the_future_keeps_no_patient_for_centuries(born: str) -> None:
    true = Facts(frozenset({DENTAL}), "20261127", CAME, CAME, (born,))
    until = keep_until(true, QC)[0]
    false = replace(true, study_date="22061127")
    assert until <= keep_until(false, QC)[0] <= years_after(until, 2)
    other = replace(true, latest=entry_of("22061127", CAME, 7))
    assert until <= keep_until(other, QC)[0] <= years_after(until, 2)
    assert decide(other, QC, trusted(CAME)).entry == Entry(date(2028, 11, 27), Told.LATE, 7)


@given(moments, texts)
def test_an_entry_is_never_before_its_receipt_nor_long_after_it(received: datetime, made: str) -> None:
    found, came = entry_of(made, received).day, received.date()
    assert came <= found
    true = day_of(made)
    if true is not None and true <= years_after(came, 2):
        assert found == max(true, came), "whatever can be true counts"
    elif came >= date(2026, 1, 1):
        assert found <= years_after(came, 2)


def test_of_two_entries_on_a_day_the_study_itself_is_told() -> None:
    own = replace(ADULT, latest=entry_of("20150310", NOON, 7))
    assert last_entry(own) == Entry(date(2015, 3, 10), Told.MADE)


@pytest.mark.parametrize(
    ("rules", "kind", "born", "until", "rule_id"),
    [
        (BC, DENTAL, "19500101", date(2042, 11, 27), "bc-dental"),
        (
            BC,
            DENTAL,
            "19900704",
            date(2042, 11, 27),
            "bc-dental",
        ),  # of age in 2009, and sixteen years more: 2025
        (
            BC,
            DENTAL,
            "",
            date(2061, 11, 27),
            "bc-dental-minor",
        ),  # whoever has no birth date is as if born today
        (BC, MEDICAL, "19500101", date(2042, 11, 27), "bc-medical"),
        (BC, MEDICAL, "19900704", date(2042, 11, 27), "bc-medical"),
        (BC, MEDICAL, "", date(2061, 11, 27), "bc-medical-minor"),
        (QC, MEDICAL, "19500101", date(2036, 11, 27), "qc-medical"),
        (QC, MEDICAL, "19900704", date(2036, 11, 27), "qc-medical"),
        (QC, MEDICAL, "", date(2054, 11, 27), "qc-medical-minor"),
        (QC, DENTAL, "19500101", date(2031, 11, 27), "qc-dental"),
    ],
)
def test_images_of_1995_that_come_today_count_from_today(
    rules: RuleBook, kind: RecordType, born: str, until: date, rule_id: str
) -> None:
    """A machine whose clock was reset dates a new image years back, and by that date it would be due at once."""
    facts = Facts(frozenset({kind}), "19950601", CAME, CAME, (born,))
    found, reasons = keep_until(facts, rules)
    assert (found, reasons[0].rule.id) == (until, rule_id)
    assert last_entry(facts) == Entry(date(2026, 11, 27), Told.RECEIVED)
    assert status(facts, rules, CAME) is Status.KEEP
    assert not [each for each in reasons if each.rule.entries_before], "the limits of before 2013"


def test_the_limits_of_before_2013_apply_only_to_what_a_clock_of_before_2013_received() -> None:
    limited = {each.id for each in LAWS["BC"] if each.entries_before is not None}
    assert limited == {"bc-dental-before-2013", "bc-dental-before-2013-minor"}
    for year, applies in ((1970, True), (2012, True), (2014, False), (2026, False)):
        received = datetime(year, 1, 1, 12, tzinfo=UTC)
        facts = Facts(frozenset({DENTAL}), "19950601", received, received, ("19500101",))
        assert bool(limited & {each.rule.id for each in keep_until(facts, BC)[1]}) == applies


# --- clocks ----------------------------------------------------------------------------------------------------------

OLD = replace(ADULT, study_date="20000101", first_received_utc=NOON, last_received_utc=NOON)
TODAY = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_a_clock_that_holds_makes_due_what_is_due() -> None:
    assert decide(OLD, QC, Clock(TODAY, NOON, TODAY - timedelta(minutes=10))).status is Status.DUE


@pytest.mark.parametrize("years", [-10, -1, 1, 10])
def test_a_clock_that_was_set_makes_nothing_due(years: int) -> None:
    moved = TODAY + timedelta(days=365 * years)
    clock = Clock(moved, newest_receipt_utc=TODAY - timedelta(hours=1), noted_utc=TODAY)
    decision = decide(OLD, QC, clock)
    assert decision.status in {Status.CLOCK, Status.KEEP}
    assert decision.doubt is not None
    back = Clock(
        TODAY, newest_receipt_utc=moved, noted_utc=moved
    )  # an image came meanwhile, and the clock was mended
    assert decide(OLD, QC, back).status is Status.CLOCK


@pytest.mark.parametrize(
    ("clock", "doubt"),
    [
        (Clock(TODAY, TODAY + timedelta(seconds=1), TODAY), Doubt.BEHIND),
        (Clock(TODAY, None, TODAY, set_utc=TODAY), Doubt.SET),
        (Clock(TODAY, None, None), Doubt.UNWATCHED),
        (Clock(TODAY, None, TODAY - timedelta(days=2, seconds=1)), Doubt.UNWATCHED),
        (Clock(TODAY, None, TODAY + timedelta(hours=1, seconds=1)), Doubt.BEHIND),
        (Clock(TODAY, TODAY, TODAY + timedelta(hours=1)), None),
        (Clock(TODAY, TODAY, TODAY - timedelta(days=2)), None),
    ],
)
def test_every_doubt_has_its_name(clock: Clock, doubt: Doubt | None) -> None:
    assert clock.doubt is doubt


@given(studies(), books, moments, moments, st.none() | moments, st.none() | moments)
def test_no_doubtful_clock_ever_makes_anything_due(
    facts: Facts,
    rules: RuleBook,
    now: datetime,
    receipt: datetime,
    noted: datetime | None,
    was_set: datetime | None,
) -> None:
    clock = Clock(now, receipt, noted, was_set)
    decision = decide(facts, rules, clock)
    if clock.doubt is not None or now < receipt or facts.holds:
        assert decision.status is not Status.DUE
    if decision.status is Status.DUE:
        assert clock.today > decision.keep_until
