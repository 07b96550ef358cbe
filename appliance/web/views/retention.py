"""Until when studies are kept: what is due today or would be, the rules with their sources, the clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

from flask import Blueprint, Response, current_app, g, render_template
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import Reading, retention_dates, retention_rules, sight
from appliance.catalog.retention_dates import Kept
from appliance.catalog.sight import StudyRow
from appliance.errors import NotAuthorised, Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.lifecycle import due_list, laws, memory, retention
from appliance.lifecycle.destruction import MOST_STUDIES
from appliance.lifecycle.due_list import DueLine
from appliance.lifecycle.laws import OwnFigure
from appliance.lifecycle.memory import Gap
from appliance.lifecycle.policy import Basis, RecordType, Rule, Starts, years_after
from appliance.settings.registry import PROVINCES
from appliance.web import access, forms, keeping, paper
from appliance.web.access import may, needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.keeping import day
from appliance.web.pages import Page, page_of, show

blueprint = Blueprint("retention", __name__, url_prefix="/retention")

ROWS = 50
MOST_ON_PAPER = 2000
WHEN = ("today", "year", "day")


@dataclass(frozen=True, slots=True)
class Line:
    """A study of the list, ready to show; `state` is empty, or ``held`` or ``asked``."""

    study: int
    patient: str
    patient_id: str
    birth_date: str
    study_date: str
    modalities: tuple[str, ...]
    description: str
    images: str
    due_since: str
    rule: str
    state: str


@dataclass(frozen=True, slots=True)
class RetentionPage(Page):
    """What is due on the day `at`; counts by rule; `next` begins the page after this one. `provinces` are pairs of code and name, where
    one must be chosen since a restore."""

    tab: str
    when: str
    at: str
    on: str
    is_today: bool
    counts: tuple[tuple[str, str], ...]
    by_rule: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]
    next: str
    total: int
    without_rule: int
    is_current: bool
    doubt: str
    forgotten: str
    provinces: tuple[tuple[str, str], ...]
    may_ask: bool
    may_export: bool
    most: int


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule in force."""

    words: str
    records: str
    until: str
    verified: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A period that a clinic may choose. `own` is the clinic's, empty if it has none; `note` says why it counts less than it did, or not."""

    record_type: RecordType
    starts: Starts
    title: str
    least: int
    law: str
    own: str
    note: str


@dataclass(frozen=True, slots=True)
class RulesPage(Page):
    """The rules of the province, the clinic's own periods, and how these changed."""

    tab: str
    province: str
    practice: str
    rules: tuple[RuleRow, ...]
    figures: tuple[Figure, ...]
    changes: tuple[tuple[str, str, str, str], ...]
    error: str


@blueprint.get("")
@needs(Permission.MANAGE_RETENTION)
def overview() -> Response:
    """The studies that no rule keeps on a day, a page at a time, and how many there are."""
    words = g.words
    with console().box.catalog.reading() as conn:
        clock = retention.clock_of(conn, now())
        when, on = _asked_day(clock.today)
        after = _asked_place()
        found, following = due_list.page(conn, on, _row, limit=ROWS, after=after)
        tally = retention_dates.tally(conn, on)
        rules = {each.id: each for each in retention.book_of(conn).rules}
        gap, lacks_province = memory.gap(conn), memory.lacks_a_province(conn)
        without_rule, is_current = retention_dates.without_rule(conn), retention.is_current(conn)
    _record("retention:list", [each.study for each in found])
    page = page_of(
        RetentionPage,
        title=words("retention.title"),
        section="retention",
        tab="due",
        when=when,
        at=on.isoformat(),
        on=day(on, words),
        is_today=on <= clock.today,
        counts=(
            (words("retention.count_due"), words.number(tally.studies)),
            (words("retention.count_held"), words.number(tally.held)),
            (words("retention.count_asked"), words.number(tally.asked)),
            (words("retention.count_free"), words.number(tally.free)),
        ),
        by_rule=tuple((_rule(rules.get(each)), words.number(n)) for each, n in tally.by_rule.items()),
        lines=tuple(_line(each, rules) for each in found),
        next="" if following is None else f"{following.keep_until}.{following.study_id}",
        total=tally.studies,
        without_rule=without_rule,
        is_current=is_current,
        doubt="" if clock.doubt is None else words(f"retention.doubt.{clock.doubt}"),
        forgotten=_forgotten(gap),
        provinces=tuple((code, words(f"province.{code}")) for code in PROVINCES) if lacks_province else (),
        may_ask=may(Permission.DESTROY_STUDIES) and clock.doubt is None and gap is None and on <= clock.today,
        may_export=may(Permission.EXPORT_STUDIES),
        most=MOST_STUDIES,
    )
    return show("retention.html", page)


@blueprint.post("/list/<kind>")
@needs(Permission.MANAGE_RETENTION)
def export(kind: str) -> Response:
    """The whole list as a file: a spreadsheet, or paper for the first `MOST_ON_PAPER`."""
    if kind not in ("csv", "pdf"):
        raise Unknown("there is no such kind of export", hint="use one of the buttons on the page")
    if not may(Permission.EXPORT_STUDIES):
        raise NotAuthorised("your role does not include this", hint="ask an owner of the box if you need it")
    words, catalog = g.words, console().box.catalog
    # Whoever asks is known now, and no longer while the answer is sent.
    sees = access.sight()

    def row_of(conn: Reading, study_id: int) -> StudyRow | None:
        return sight.study(conn, sees, study_id)

    with catalog.reading() as conn:
        _, on = _asked_day(retention.clock_of(conn, now()).today)
        due = due_list.every(conn, on)
        told = due[:MOST_ON_PAPER] if kind == "pdf" else due
        # The row in the audit names who is on the list, and nobody else.
        told = [each for each in told if sees.all_studies or row_of(conn, each.study_id) is not None]
    _record("retention:export", [each.study_id for each in told])
    if kind == "csv":

        def lines() -> Iterator[str]:
            with catalog.reading() as conn:
                yield from due_list.csv_lines(due_list.lines(conn, told, row_of))

        answer = current_app.response_class(lines(), content_type="text/csv; charset=utf-8")
    else:
        with catalog.reading() as conn:
            found = list(due_list.lines(conn, told, row_of))
            rules = {each.id: each for each in retention.book_of(conn).rules}
        html = render_template(
            "retention-paper.html",
            title=words("retention.title"),
            on=day(on, words),
            made=words.moment(now()),
            total=len(due),
            lines=tuple(_line(each, rules) for each in found),
            t=words,
            language=g.language,
        )
        answer = current_app.response_class(paper.pdf(html), content_type="application/pdf")
    answer.headers["Content-Disposition"] = f'attachment; filename="due-{on:%Y%m%d}.{kind}"'
    return answer


@blueprint.post("/clock")
@needs(Permission.MANAGE_RETENTION)
@reauthenticated
def trust_clock() -> AnyResponse:
    """A person has compared the clock and says that it is right."""
    with console().box.catalog.transaction() as tx:
        retention.trust_clock(tx, keeping.act())
    forms.say(Notice("good", g.words("retention.clock_trusted")))
    return forms.back_to("/retention")


@blueprint.post("/look-again")
@needs(Permission.MANAGE_RETENTION)
@reauthenticated
def look_again() -> AnyResponse:
    """A person has looked at what a restored box can't know."""
    try:
        with console().box.catalog.transaction() as tx:
            memory.look_again(tx, keeping.act(), forms.text("province"))
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words("retention.looked_again")))
    return forms.back_to("/retention")


@blueprint.get("/rules")
@needs(Permission.MANAGE_RETENTION)
def rules() -> Response:
    """The rules in force, and the clinic's own periods."""
    return _rules("", 200)


@blueprint.post("/rules")
@needs(Permission.MANAGE_RETENTION)
@reauthenticated
def choose() -> AnyResponse:
    """Give the clinic a period of its own, or take it back with an empty field."""
    typed = forms.text("years")
    try:
        record_type, starts = _chosen(forms.text("what"))
        if typed and not (typed.isascii() and typed.isdecimal() and len(typed) < 5):
            raise Refused("a period is a whole number of years", hint="type a number, such as 15")
        with console().box.catalog.transaction() as tx:
            years = int(typed) if typed else None
            retention.choose(tx, keeping.act(), record_type, starts, years, reason=forms.text("reason"))
    except Refused as refusal:
        return _rules(f"{g.words.cause(refusal.message)}. {g.words.cause(refusal.hint)}.", 422)
    forms.say(Notice("good", g.words("retention.chosen")))
    return forms.back_to("/retention/rules")


def _rules(error: str, status: int) -> Response:
    words = g.words
    with console().box.catalog.reading() as conn:
        book, province = retention.book_of(conn), retention.province_of(conn)
        practice, changes = retention.practice_of(conn), retention_rules.history(conn)
        own = {(each.record_type, each.starts): each for each in retention_rules.own(conn)}
    page = page_of(
        RulesPage,
        title=words("retention.title"),
        section="retention",
        tab="rules",
        province=words(f"setting.clinic.province.{province}")
        if province
        else words("retention.province_unknown"),
        practice=words(f"setting.retention.practice.{practice}"),
        rules=tuple(
            RuleRow(
                words=_rule(
                    replace(rule, verified=rule.verified or now().date())
                ),  # the table says it beside
                records=words(f"retention.records.{rule.record_type}"),
                until=_limits(rule),
                verified=day(rule.verified, words) if rule.verified is not None else "",
            )
            for rule in book.rules
            if rule.basis is not Basis.CLINIC
        ),
        figures=tuple(
            _figure(province, record_type, starts, own.get((record_type, starts)))
            for record_type in RecordType
            for starts in Starts
        ),
        changes=tuple(
            (
                words.moment(each.at_utc),
                each.by,
                f"{words(f'retention.records.{each.record_type}')}, {_said(each.starts, each.years)}",
                each.reason,
            )
            for each in changes
        ),
        error=error,
    )
    return show("retention-rules.html", page, status)


def _said(starts: Starts, years: int | None) -> str:
    if years is None:
        return f"{g.words(f'retention.starts.{starts}')}: {g.words('retention.taken_back')}"
    return str(g.words(f"retention.counts.{starts}", years=years))


def _figure(province: str, record_type: RecordType, starts: Starts, own: OwnFigure | None) -> Figure:
    words = g.words
    least, law = laws.least_years(province, record_type, starts)
    at_least = (
        words("retention.least_law", years=least, source=law.source)
        if law is not None
        else words("retention.least", years=least)
    )
    return Figure(
        record_type=record_type,
        starts=starts,
        title=f"{words(f'retention.records.{record_type}')}, {words(f'retention.starts.{starts}')}",
        least=least,
        law=at_least,
        own="" if own is None else str(own.years),
        note="" if own is None else _note(province, own, least, at_least),
    )


def _note(province: str, own: OwnFigure, least: int, at_least: str) -> str:
    """What has become of the clinic's figure in another province; empty where it counts as when it was given, or none is known."""
    words = g.words
    if not province:
        return ""
    if own.years < least:
        return str(words("retention.own_short", least=at_least))
    if not own.province:
        return str(words("retention.own_unknown"))
    if own.province != province:
        return str(words("retention.own_elsewhere", province=words(f"province.{own.province}")))
    return ""


def _limits(rule: Rule) -> str:
    if rule.entries_before is None or rule.not_beyond is None:
        return ""
    return str(
        g.words(
            "retention.limits",
            before=day(rule.entries_before, g.words),
            beyond=day(rule.not_beyond, g.words),
        )
    )


def _chosen(typed: str) -> tuple[RecordType, Starts]:
    record_type, _, starts = typed.partition(".")
    try:
        return RecordType(record_type), Starts(starts)
    except ValueError:
        raise Refused("there is no such kind of record", hint="choose one from the list") from None


def _asked_day(today: date) -> tuple[str, date]:
    """Today, in a year, or a day that was typed."""
    when = forms.asked("when") or forms.text("when") or "today"
    typed = forms.asked("at") or forms.text("at")
    if when == "year":
        return "year", years_after(today, 1)
    if when == "day" and typed:
        return "day", keeping.typed_day(typed)
    return "today", today


def _asked_place() -> Kept | None:
    """The last line of the page before, as its link says."""
    last_day, _, study = forms.asked("after").partition(".")
    try:
        return Kept(int(study), date.fromisoformat(last_day), "")
    except ValueError:
        return None


def _row(conn: Reading, study_id: int) -> StudyRow | None:
    return sight.study(conn, access.sight(), study_id)


def _record(word: str, shown: list[int]) -> None:
    """That these studies were before somebody's eyes: each patient's report of accesses has the list."""
    with console().box.catalog.transaction() as tx:
        console().record(tx, word, "studies", forms.actor(), {"rows": len(shown), "studies": shown})


def _forgotten(gap: Gap | None) -> str:
    """From when to when this box doesn't know what was held; empty if it does."""
    words = g.words
    if gap is None:
        return ""
    if gap.since_utc is None:
        return str(words("retention.forgotten_all"))
    return str(
        words(
            "retention.forgotten_between",
            since=words.moment(gap.since_utc),
            until=words.moment(gap.until_utc),
        )
    )


def _rule(rule: Rule | None) -> str:
    if rule is None:
        return str(g.words("retention.unknown_rule"))
    return keeping.rule_words(
        {
            "starts": rule.starts,
            "years": rule.years,
            "source": rule.source,
            "verified": rule.verified,
            "basis": rule.basis,
        },
        g.words,
    )


def _line(line: DueLine, rules: dict[str, Rule]) -> Line:
    words = g.words
    return Line(
        study=line.study,
        patient=words.person(line.patient_name),
        patient_id=line.patient_id,
        birth_date=words.date(line.birth_date),
        study_date=words.date(line.study_date),
        modalities=tuple(filter(None, line.modalities.split("\\"))),
        description=line.description,
        images=words("studies.images", n=line.images),
        due_since=day(line.due_since, words),
        rule=_rule(rules.get(line.rule)),
        state=line.state,
    )
