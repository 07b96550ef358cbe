"""The list of studies, and one study with its pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from flask import Blueprint, Response, g, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from appliance import local_time
from appliance.catalog import Reading, sight
from appliance.catalog.sight import StudyRow, Tally
from appliance.identity.permissions import Permission
from appliance.model import InstanceId, Takes
from appliance.web import access, forms, sightings, trying
from appliance.web.access import may, needs
from appliance.web.console import console, now
from appliance.web.keeping import Keeping, keeping_of
from appliance.web.language import Words
from appliance.web.pages import Page, is_partial, page_of, show
from appliance.web.sharing import Sharing, sharing_of
from appliance.web.viewer import ViewerPart, filmstrip, viewer_of

blueprint = Blueprint("studies", __name__, url_prefix="/studies")

ROWS = 50
MOST_ROWS = 500
PERIODS: Mapping[str, int | None] = {"": None, "today": 0, "week": 7, "month": 31, "year": 366}
MODALITIES = ("PX", "IO", "CT", "DX", "CR", "XC", "MR", "US", "OT")

StageState = Literal["none", "now", "done", "bad"]


@dataclass(frozen=True, slots=True)
class StudyLine:
    """A study as the list shows it; texts are ready to show. `stages` are received, stored, delivered, replicated."""

    id: int
    patient: str
    patient_id: str
    birth_date: str
    when: str
    modalities: tuple[str, ...]
    description: str
    images: str
    thumbnail: int | None
    stages: tuple[StageState, ...]
    stage_words: str
    stage_tone: str
    duplicates: int
    patient_conflict: bool
    sample: bool


@dataclass(frozen=True, slots=True)
class StudiesPage(Page):
    """The list, and the search that led to it."""

    text: str
    modality: str
    period: str
    modalities: tuple[str, ...]
    periods: tuple[str, ...]
    lines: tuple[StudyLine, ...]
    limit: int
    more: int
    new: bool
    tour: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class StudyPage(Page):
    """One study: who and what, its series as strips of thumbnails, and the instance in the viewer.

    `hidden` counts the images that whoever looks may not see; `sharing` is there for those who may grant, `keeping` for
    those who look after retention.
    """

    line: StudyLine
    sex: str
    accession_number: str
    referring_physician: str
    received: str
    size: str
    strips: tuple[object, ...]
    viewer: ViewerPart | None
    hidden: int
    sharing: Sharing | None
    keeping: Keeping | None


@blueprint.route("", methods=["GET", "POST"])
@needs(Permission.VIEW_STUDIES)
def search() -> Response:
    """The studies that match. The search travels by POST: it may be a name, and addresses are kept in histories."""
    text = forms.text("text") if request.method == "POST" else ""
    modality = forms.text("modality") if request.method == "POST" else ""
    period = forms.text("period") if request.method == "POST" else ""
    limit = forms.whole(request.form.get("limit", ""), low=ROWS, high=MOST_ROWS, default=ROWS)
    modality = modality if modality in MODALITIES else ""
    days = PERIODS.get(period)
    since = "" if days is None else (local_time.here(now()) - timedelta(days=days)).strftime("%Y%m%d")
    with console().timings.measured("query"), console().box.catalog.reading() as conn:
        tried = trying.trying_of(conn, forms.session().person.id)
        most = limit + 1 + len(tried.hidden)
        found = sight.find(conn, access.sight(), text, modality=modality, date_from=since, limit=most)
        rows = [row for row in found if row.study_instance_uid not in tried.hidden]
        lines = study_lines(conn, rows[:limit], g.words, tried.samples)
    sightings.listed((line.id for line in lines), searched=bool(text or modality or since))
    page = page_of(
        StudiesPage,
        title=g.words("studies.title"),
        section="studies",
        text=text,
        modality=modality,
        period=period if period in PERIODS else "",
        modalities=MODALITIES,
        periods=tuple(PERIODS),
        lines=lines,
        limit=limit,
        more=limit + ROWS if len(rows) > limit and limit < MOST_ROWS else 0,
        new=tried.is_new,
        tour=trying.TOUR,
    )
    return show("parts/study-rows.html" if is_partial() else "studies.html", page)


@blueprint.get("/<int:study_id>")
@needs(Permission.VIEW_STUDIES)
def study(study_id: int) -> AnyResponse:
    """One study; `instance` chooses the picture. Leaves an audit row."""
    chosen = forms.whole(forms.asked("instance"), low=0, high=1 << 60, default=0)
    console_ = console()
    with console_.box.catalog.reading() as conn:
        sees = access.sight()
        row = sight.study(conn, sees, study_id)
        if row is None:
            raise access.not_there("study", study_id)
        tried = trying.trying_of(conn, forms.session().person.id)
        line = study_lines(conn, [row], g.words, tried.samples)[0]
        strips = filmstrip(conn, study_id, g.words)
        hidden = sight.hidden(conn, sees, study_id)
        kept = keeping_of(conn, study_id, g.words) if may(Permission.MANAGE_RETENTION) else None
        sharing = sharing_of(conn, study_id, sees.at, g.words) if may(Permission.GRANT_STUDIES) else None
    sightings.opened(study_id, row.study_instance_uid, anew=not is_partial())
    shown = [frame for strip in strips for frame in strip.frames]
    if chosen and not any(frame.id == chosen for frame in shown):
        return redirect(f"/studies/{study_id}", 303)
    first = chosen or next((frame.id for frame in shown if frame.has_pixels), shown[0].id if shown else 0)
    viewer = viewer_of(InstanceId(first), g.words) if first else None
    page = page_of(
        StudyPage,
        title=g.words("study.title"),
        section="studies",
        line=line,
        sex=g.words(f"sex.{row.sex}") if g.words.has(f"sex.{row.sex}") else row.sex,
        accession_number=row.accession_number,
        referring_physician=g.words.person(row.referring_physician_name)
        if row.referring_physician_name
        else "",
        received=g.words.moment(row.last_received_utc) if sees.identified else "",
        size=g.words.size(row.bytes),
        strips=strips,
        viewer=viewer,
        hidden=hidden,
        sharing=sharing,
        keeping=kept,
    )
    return show("parts/viewer.html" if is_partial() else "study.html", page)


def study_lines(
    conn: Reading, rows: list[StudyRow], words: Words, samples: Collection[str]
) -> tuple[StudyLine, ...]:
    """`rows` as the list shows them; `samples` are the UIDs of those to be marked as such."""
    ids = [row.id for row in rows]
    sees = access.sight()
    pictures, tallies = sight.thumbnails(conn, sees, ids), sight.tallies(conn, sees, ids)
    return tuple(
        _line(
            row,
            pictures.get(row.id),
            tallies.get(row.id, {}),
            words,
            named=sees.identified,
            sample=row.study_instance_uid in samples,
        )
        for row in rows
    )


def _line(
    row: StudyRow,
    thumbnail: InstanceId | None,
    tallies: Mapping[Takes, Tally],
    words: Words,
    *,
    named: bool,
    sample: bool,
) -> StudyLine:
    delivered, replicated = tallies.get("dicom", Tally()), tallies.get("ciphertext", Tally())
    key, count, tone = stage_words(delivered, replicated)
    return StudyLine(
        id=row.id,
        patient=words.person(row.patient_name) if named else words("study.case", name=row.patient_name),
        patient_id=row.patient_id,
        birth_date=words.date(row.birth_date),
        when=words.day_and_time(row.study_date, row.study_time),
        modalities=row.modalities,
        description=row.description,
        images=words("studies.images", n=row.instances),
        thumbnail=thumbnail,
        stages=("done", "done", stage_of(delivered), stage_of(replicated)),
        stage_words=words(key, **count),
        stage_tone=tone,
        duplicates=row.duplicates,
        patient_conflict=row.patient_conflict,
        sample=sample,
    )


def stage_of(tally: Tally) -> StageState:
    """How one of the last two stages stands."""
    if not tally.owed:
        return "none"
    if tally.failed:
        return "bad"
    return "done" if tally.confirmed == tally.owed else "now"


def stage_words(delivered: Tally, replicated: Tally) -> tuple[str, dict[str, int], str]:
    """The key of the sentence for the stages, its numbers, and its tone."""
    failed = delivered.failed + replicated.failed
    if failed:
        return "stage.failed", {"n": failed}, "bad"
    for tally, key in ((replicated, "stage.replicating"), (delivered, "stage.delivering")):
        if tally.owed > tally.confirmed:
            return key, {"done": tally.confirmed, "all": tally.owed}, "wait"
    if delivered.owed and replicated.owed:
        return "stage.both", {}, "good"
    if replicated.owed:
        return "stage.replicated", {}, "good"
    if delivered.owed:
        return "stage.delivered", {}, "good"
    return "stage.stored", {}, "soft"
