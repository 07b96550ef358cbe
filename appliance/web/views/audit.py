"""The audit: rows found by who, what, which patient and when; reports for a patient, a person and a year; the export.

Searches travel by POST, since they may hold a name, and addresses are kept in histories. Looking is audited too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, Response, current_app, g, render_template

from appliance import audit, local_time
from appliance.audit import reports
from appliance.audit.exports import csv_lines, exported, json_lines
from appliance.audit.reports import Report
from appliance.catalog import Reading, audit_search, sight
from appliance.catalog.audit_search import Wanted
from appliance.catalog.sight import StudyRow
from appliance.errors import Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.web import access, auditing, forms, paper
from appliance.web.access import may, needs
from appliance.web.auditing import Asked, AuditLine, ChainState
from appliance.web.console import console, now
from appliance.web.pages import Page, is_partial, page_of, show

blueprint = Blueprint("audit", __name__, url_prefix="/audit")

ROWS = 50
FORMATS = ("csv", "jsonl")
ABOUT = ("patient", "person", "year")
WAYS = ("page", "pdf", "csv", "json")


@dataclass(frozen=True, slots=True)
class AuditPage(Page):
    """Rows, the search that led to them, and the state of the chain."""

    asked: Asked
    actors: tuple[str, ...]
    kinds: tuple[str, ...]
    outcomes: tuple[str, ...]
    lines: tuple[AuditLine, ...]
    older: int
    chain: ChainState
    may_export: bool
    error: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A patient whom a search may have meant; `study` stands for all studies of that patient."""

    study: int
    name: str
    patient_id: str
    birth_date: str


@dataclass(frozen=True, slots=True)
class ReportsPage(Page):
    """What reports there are; candidates when a patient's search fits several. The form `about` was typed into."""

    actors: tuple[str, ...]
    years: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    patient: str
    about: str
    actor: str
    since: str
    until: str
    error: str


@dataclass(frozen=True, slots=True)
class ReportPage(Page):
    """A report, ready to show, print or keep. `hidden` asks for the same again, in another way."""

    about: str
    who: str
    made: str
    period: str
    clinic: str
    figures: tuple[tuple[str, str], ...]
    words: tuple[tuple[str, str, str, str], ...]
    actors: tuple[tuple[str, str, str, str], ...]
    recipients: tuple[tuple[str, str, str], ...]
    lines: tuple[AuditLine, ...]
    all_rows: int
    chain: ChainState
    hidden: tuple[tuple[str, str], ...]
    may_export: bool


@blueprint.route("", methods=["GET", "POST"])
@needs(Permission.READ_AUDIT)
def listing() -> Response:
    """The rows that match, the newest first; `before` continues with older ones."""
    asked = Asked.read()
    before = forms.whole(forms.text("before"), low=0, high=1 << 62, default=0) or None
    error = ""
    with console().box.catalog.reading() as conn:
        try:
            wanted = asked.wanted(conn)
        except Refused as refusal:
            wanted, error = Wanted(studies=()), g.words.cause(refusal.message)
        found = audit_search.find(conn, wanted, limit=ROWS + 1, before=before)
        lines = auditing.lines_of(conn, found[:ROWS], g.words)
        actors = tuple(audit_search.actors(conn))
        chain = auditing.chain_state(conn, g.words)
    with console().box.catalog.transaction() as tx:
        console().record(tx, "audit:view", "audit", forms.actor(), {"by": asked.used(), "rows": len(lines)})
    page = page_of(
        AuditPage,
        title=g.words("audit.title"),
        section="audit",
        asked=asked,
        actors=actors,
        kinds=tuple(audit.Kind),
        outcomes=tuple(audit.Outcome),
        lines=lines,
        older=found[ROWS - 1].id if len(found) > ROWS else 0,
        chain=chain,
        may_export=may(Permission.EXPORT_AUDIT),
        error=error,
    )
    return show("parts/audit-rows.html" if is_partial() else "audit.html", page)


@blueprint.post("/export/<kind>")
@needs(Permission.EXPORT_AUDIT)
def export(kind: str) -> Response:
    """The rows that match as a file, the oldest first, sent as they are read."""
    if kind not in FORMATS:
        raise Unknown("there is no such kind of export", hint="use one of csv, jsonl")
    asked, catalog = Asked.read(), console().box.catalog
    with catalog.reading() as conn:
        wanted = asked.wanted(conn)
    with catalog.transaction() as tx:
        console().record(tx, "audit:export", "audit", forms.actor(), {"as": kind, "by": asked.used()})

    def lines() -> Iterator[str]:
        with catalog.reading() as conn:
            rows = audit_search.oldest_first(conn, wanted)
            yield from csv_lines(rows) if kind == "csv" else json_lines(rows)

    type_ = "text/csv" if kind == "csv" else "application/jsonl"
    return _file(current_app.response_class(lines(), content_type=f"{type_}; charset=utf-8"), f"audit.{kind}")


@blueprint.get("/reports")
@needs(Permission.READ_AUDIT)
def choose() -> Response:
    """The reports that there are."""
    return _choose()


@blueprint.post("/reports")
@needs(Permission.READ_AUDIT)
def report() -> Response:
    """One report, as a page or a file; or the patients among whom to choose."""
    about, way = forms.text("about"), forms.text("as", "page") or "page"
    if about not in ABOUT or way not in WAYS:
        raise Unknown("there is no such report", hint="choose one of those on the page of reports")
    if way != "page" and not may(Permission.EXPORT_AUDIT):
        raise Refused("your role may read reports, not take them out", hint="ask an owner of the box")
    if about == "patient":
        return _of_patient(way)
    if about == "person":
        return _of_person(way)
    return _of_year(way)


def _of_patient(way: str) -> Response:
    text, study = forms.text("patient"), forms.text("study")
    since, until = forms.text("since"), forms.text("until")
    try:
        period = auditing.period(since, until)
    except Refused as refusal:
        return _choose(patient=text, error=forms.explain(refusal), about="patient")
    with console().box.catalog.reading() as conn:
        if study.isascii() and study.isdecimal() and len(study) < 19:
            chosen = int(study)
        else:
            rows = sight.find(conn, access.sight(), text, limit=auditing.MOST_STUDIES) if text else []
            people = _candidates(rows)
            if len(people) != 1:
                said = g.words("audit.which_patient" if people else "audit.no_patient")
                return _choose(people, text, said, about="patient")
            chosen = people[0].study
        row = sight.study(conn, access.sight(), chosen)
        mine = sight.of_same_patient(conn, access.sight(), chosen)
        if row is None or not mine:
            raise access.not_there("study", chosen)
        uids = tuple(each.study_instance_uid for each in mine)
        made = reports.of_study(conn, uids, tuple(each.id for each in mine), period, now())
        shown = _shown(
            conn,
            made,
            "patient",
            f"{g.words.person(row.patient_name)} · {row.patient_id} · {g.words.date(row.birth_date)}",
            (("about", "patient"), ("study", str(row.id)), ("since", since), ("until", until)),
        )
    return _answer(made, shown, way, f"study:{row.id}", row.study_instance_uid)


def _of_person(way: str) -> Response:
    actor, since, until = forms.text("actor"), forms.text("since"), forms.text("until")
    try:
        period = auditing.period(since, until)
    except Refused as refusal:
        return _choose(error=forms.explain(refusal), about="person")
    with console().box.catalog.reading() as conn:
        if not actor:
            return _choose(error=g.words("audit.which_person"), about="person")
        made = reports.of_actor(conn, actor, period, now())
        hidden = (("about", "person"), ("actor", actor), ("since", since), ("until", until))
        shown = _shown(conn, made, "person", actor, hidden)
    return _answer(made, shown, way, f"actor:{actor}", "")


def _of_year(way: str) -> Response:
    number = forms.whole(forms.text("year"), low=2000, high=9000, default=local_time.here(now()).year)
    with console().box.catalog.reading() as conn:
        made = reports.of_year(conn, auditing.year(number), now())
        shown = _shown(conn, made, "year", str(number), (("about", "year"), ("year", str(number))))
    return _answer(made, shown, way, f"year:{number}", "")


def _candidates(rows: list[StudyRow]) -> tuple[Candidate, ...]:
    people: dict[tuple[str, ...], Candidate] = {}
    for row in rows:
        identity = (row.patient_id, row.issuer_of_patient_id, row.patient_name, row.birth_date)
        person = Candidate(
            row.id, g.words.person(row.patient_name), row.patient_id, g.words.date(row.birth_date)
        )
        people.setdefault(identity, person)
    return tuple(people.values())


def _choose(
    candidates: tuple[Candidate, ...] = (), patient: str = "", error: str = "", *, about: str = ""
) -> Response:
    """The page to choose from; the form `about` is as it was typed."""
    with console().box.catalog.reading() as conn:
        actors = tuple(audit_search.actors(conn))
    this_year = local_time.here(now()).year
    page = page_of(
        ReportsPage,
        title=g.words("audit.reports"),
        section="audit",
        actors=actors,
        years=tuple(range(this_year, this_year - 6, -1)),
        candidates=candidates,
        patient=patient,
        about=about,
        actor=forms.text("actor"),
        since=forms.text("since"),
        until=forms.text("until"),
        error=error,
    )
    if candidates:
        with console().box.catalog.transaction() as tx:
            seen = {"rows": len(candidates), "studies": [each.study for each in candidates]}
            console().record(tx, "study:search", "audit", forms.actor(), seen)
    return show("audit-reports.html", page)


def _shown(
    conn: Reading, made: Report, about: str, who: str, hidden: tuple[tuple[str, str], ...]
) -> ReportPage:
    from appliance import settings

    words = g.words
    count = words.number
    since, until = made.wanted.since_utc, made.wanted.until_utc
    figures = [(words(f"audit.kind.{kind}"), count(number)) for kind, number in made.kinds.items()]
    figures += [
        (words("audit.refusals"), count(made.refusals)),
        (words("audit.failures"), count(made.failures)),
        (words("audit.break_glass"), count(made.break_glass)),
        (words("audit.verifications"), count(made.verifications)),
        (words("audit.verifications_failed"), count(made.verifications_failed)),
    ]
    return page_of(
        ReportPage,
        title=words(f"audit.report.{about}"),
        section="audit",
        about=about,
        who=who,
        made=words.moment(made.made_utc),
        period=_period(since, until),
        clinic=str(settings.get(conn, "clinic.name")),
        figures=tuple(figures),
        words=tuple(
            (
                auditing.said(word, words),
                words(f"audit.outcome.{outcome or 'done'}"),
                auditing.TONES.get(outcome, ""),
                count(number),
            )
            for word, outcome, number in made.words
        ),
        actors=tuple(
            (
                actor,
                words(f"audit.actor.{kind}") if words.has(f"audit.actor.{kind}") else "",
                count(number),
                count(bad),
            )
            for actor, kind, number, bad in made.actors
        ),
        recipients=tuple(
            (auditing.said(word, words), to or "—", count(number)) for word, to, number in made.recipients
        ),
        lines=auditing.lines_of(conn, made.rows, words),
        all_rows=made.all_rows,
        chain=auditing.chain_state(conn, words),
        hidden=hidden,
        may_export=may(Permission.EXPORT_AUDIT),
    )


def _period(since: datetime | None, until: datetime | None) -> str:
    words = g.words
    match since, until:
        case None, None:
            return str(words("audit.ever"))
        case None, _:
            return str(words("audit.until_then", until=words.moment(until)))
        case _, None:
            return str(words("audit.since_then", since=words.moment(since)))
        case _:
            return str(words("audit.period", since=words.moment(since), until=words.moment(until)))


def _answer(made: Report, shown: ReportPage, way: str, subject: str, study: str) -> Response:
    with console().box.catalog.transaction() as tx:
        console().record(tx, "audit:report", subject, forms.actor(), {"as": way}, study=study)
    name = f"audit-{shown.about}-{now():%Y%m%d}"
    match way:
        case "pdf":
            html = render_template("audit-report-paper.html", page=shown, t=g.words)
            return _file(
                current_app.response_class(paper.pdf(html), content_type="application/pdf"), f"{name}.pdf"
            )
        case "csv":
            text = "".join(csv_lines(reversed(made.rows)))
            return _file(
                current_app.response_class(text, content_type="text/csv; charset=utf-8"), f"{name}.csv"
            )
        case "json":
            document = reports.as_document(made) | {"newest_rows": [exported(row) for row in made.rows]}
            text = json.dumps(document, ensure_ascii=False, indent=1)
            return _file(current_app.response_class(text, content_type="application/json"), f"{name}.json")
        case _:
            return show("audit-report.html", shown)


def _file(answer: Response, name: str) -> Response:
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
