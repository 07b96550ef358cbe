"""Backups: where they lie, how old the last is, whether it can be restored; made, tried out and read in full by hand.

What is begun here goes on in the background and shows how far it is; it leaves the same rows and the same outcome as
what the box does by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from flask import Blueprint, Response, current_app, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import settings
from appliance.backup import drill, inventory, making
from appliance.backup.drill import Certificate
from appliance.backup.inventory import Held, Proof
from appliance.box import Box
from appliance.catalog import Reading
from appliance.catalog import settings as kept
from appliance.errors import ApplianceError, Unknown
from appliance.health import VERIFICATION
from appliance.health.checks.backup_age import STAY
from appliance.identity.permissions import Permission
from appliance.lifecycle import scrub
from appliance.model import DestinationSettings
from appliance.web import backup_words, forms, papers
from appliance.web.access import needs
from appliance.web.background import in_background
from appliance.web.console import Notice, console
from appliance.web.language import explained
from appliance.web.pages import Page, is_partial, page_of, show
from appliance.web.reach_words import Reach, reach_of
from appliance.web.work_words import Progress, progress_of, sentences
from appliance.wizard import by_hand
from appliance.wizard.runs import Part, UnderWay

blueprint = Blueprint("backups", __name__, url_prefix="/backups")

SHOWN = 12
Tone = Literal["", "good", "wait", "bad"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How something last went: a word with its tone, when it last succeeded, and what went wrong if something did."""

    words: str
    tone: Tone
    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class ArchiveLine:
    """An archive, its last backup and its last drill, and what was begun there by hand."""

    id: int
    name: str
    kind_words: str
    paused: bool
    backup: Outcome
    drill: Outcome
    making: Progress
    trying: Progress


@dataclass(frozen=True, slots=True)
class CertificateLine:
    """A drill that was made, to read and to print."""

    id: str
    at: str
    archive: str
    words: str
    tone: Tone
    contents: str
    sampled: str
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeldLine:
    """A backup that lies in an archive, in words; `proof` is what its latest drill found."""

    made: str
    contents: str
    size: str
    software: str
    proof: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class HeldPage(Page):
    """What one archive holds; `cause` says why it could not be read, `older` how many there are beside those shown."""

    id: int
    held: tuple[HeldLine, ...]
    older: str
    cause: str


@dataclass(frozen=True, slots=True)
class BackupsPage(Page):
    """All archives, what somebody on the box could erase of them, the certificates of drills, and what reading everything came to.

    `watched` while something runs.
    """

    archives: tuple[ArchiveLine, ...]
    reach: Reach | None
    often: str
    certificates: tuple[CertificateLine, ...]
    verified: str
    verified_tone: Tone
    scrubbed: str
    verifying: Progress
    watched: bool


@blueprint.get("")
@needs(Permission.VIEW_DESTINATIONS)
def overview() -> Response:
    """The page, or its live part alone."""
    box, words = console().box, g.words
    with box.catalog.reading() as conn:
        archives = making.archives(conn)
        lines = tuple(_archive_line(box, conn, each) for each in archives)
        often = words(
            "backups.often",
            hours=int(settings.get(conn, "backup.every_hours")),
            days=int(settings.get(conn, "backup.keep_days")),
        )
        certificates = tuple(_certificate_line(each) for each in drill.certificates(conn, box)[:SHOWN])
        verified, tone = _verified(conn)
        scrubbed = _scrubbed(conn)
        verifying = _progress(by_hand.latest(box, conn, by_hand.VERIFY), "verify")
    page = page_of(
        BackupsPage,
        title=words("backups.title"),
        section="backups",
        archives=lines,
        reach=reach_of(((each.name, each.kind) for each in archives), words),
        often=often,
        certificates=certificates,
        verified=verified,
        verified_tone=tone,
        scrubbed=scrubbed,
        verifying=verifying,
        watched=verifying.state == "running"
        or any("running" in (each.making.state, each.trying.state) for each in lines),
    )
    return show("parts/backups.html" if is_partial() else "backups.html", page)


@blueprint.get("/<int:destination_id>")
@needs(Permission.VIEW_DESTINATIONS)
def held(destination_id: int) -> Response:
    """Which backups an archive holds, as it says itself at this moment."""
    box, words = console().box, g.words
    with box.catalog.reading() as conn:
        place = by_hand.archive(conn, destination_id)
    found, cause = inventory.Inventory((), 0), ""
    try:
        found = inventory.take(box, place)
    except ApplianceError as error:
        cause = explained(words, error)
    page = page_of(
        HeldPage,
        title=words("backups.held", archive=place.name),
        section="backups",
        id=destination_id,
        held=tuple(_held_line(each) for each in found.held),
        older=words("backups.held_older", n=found.older) if found.older else "",
        cause=cause,
    )
    return show("backups-held.html", page)


@blueprint.post("/<int:destination_id>/make")
@needs(Permission.MANAGE_BACKUPS)
def make(destination_id: int) -> AnyResponse:
    """Make a backup there now."""
    box, actor = console().box, forms.actor()
    return _start("backup-by-hand", lambda: by_hand.begin_backup(box, destination_id, actor))


@blueprint.post("/<int:destination_id>/drill")
@needs(Permission.MANAGE_BACKUPS)
def try_out(destination_id: int) -> AnyResponse:
    """Try out the newest backup there now."""
    box, actor = console().box, forms.actor()
    return _start("drill-by-hand", lambda: by_hand.begin_drill(box, destination_id, actor))


@blueprint.post("/verify")
@needs(Permission.MANAGE_BACKUPS)
def verify() -> AnyResponse:
    """Read every byte of everything now."""
    box, actor = console().box, forms.actor()
    return _start("verify-by-hand", lambda: by_hand.begin_verification(box, actor))


@blueprint.post("/certificates/<certificate_id>")
@needs(Permission.VIEW_DESTINATIONS)
def certificate(certificate_id: str) -> Response:
    """The certificate of a drill, on paper in the language of the page."""
    box = console().box
    with box.catalog.reading() as conn:
        found = next((each for each in drill.certificates(conn, box) if each.id == certificate_id), None)
        clinic = str(settings.get(conn, "clinic.name"))
    if found is None:
        raise Unknown("there is no such certificate", hint="go back to the backups")
    paper = papers.report(console().languages, g.language, backup_words.worded(found, clinic, g.words))
    with console().box.catalog.transaction() as tx:
        console().record(tx, "backup:certify", found.archive, forms.actor(), {"snapshot": found.snapshot})
    answer = current_app.response_class(paper, content_type="application/pdf")
    answer.headers["Content-Disposition"] = f'attachment; filename="restore-drill-{found.at_utc[:10]}.pdf"'
    return answer


def _start(name: str, begin: Callable[[], by_hand.Begun]) -> AnyResponse:
    """Put it on record as running, then leave it to a thread; the page shows how far it is."""
    try:
        in_background(name, begin())
    except UnderWay:
        forms.say(Notice("wait", g.words("backups.running_already")))
    return forms.back_to("/backups")


def _archive_line(box: Box, conn: Reading, place: DestinationSettings) -> ArchiveLine:
    number = int(place.id)
    return ArchiveLine(
        id=number,
        name=place.name,
        kind_words=g.words(f"kind.{place.kind}"),
        paused=place.paused,
        backup=_outcome(making.last(conn, place.name), place.name),
        drill=_outcome(drill.last(conn, box, place.name), place.name),
        making=_progress(by_hand.latest(box, conn, by_hand.BACKUP, number), "backup"),
        trying=_progress(by_hand.latest(box, conn, by_hand.DRILL, number), "drill"),
    )


def _outcome(told: Mapping[str, str | None], name: str) -> Outcome:
    words, succeeded = g.words, told.get("succeeded_utc")
    at = words.moment(datetime.fromisoformat(succeeded)) if succeeded else words("dashboard.never")
    if not told:
        return Outcome(words("backups.none_yet"), "wait", at, "")
    reason = str(told.get("reason") or "").removeprefix(f"{name}: ")
    causes = reason.split("; ") if reason else []
    if told.get("outcome") == "succeeded":
        stays = sentences(words, STAY, *causes) if causes else ""
        return Outcome(words("backups.succeeded"), "good", at, stays)
    return Outcome(words("backups.failed"), "bad", at, sentences(words, *causes))


def _progress(part: Part | None, name: str) -> Progress:
    return progress_of(part, f"backups.running.{name}", g.words)


def _held_line(found: Held) -> HeldLine:
    words, index, drilled = g.words, found.index, found.drilled
    tone: Mapping[Proof, Tone] = {Proof.PASSED: "good", Proof.UNTRIED: ""}
    at = words.moment(datetime.fromisoformat(drilled.at_utc)) if drilled is not None else ""
    return HeldLine(
        made=words.moment(found.made_utc),
        contents=""
        if index is None or not index.pieces  # of a later format: nobody knows here how much that is
        else backup_words.contents(index.contents.studies, index.contents.instances, words),
        size="" if index is None or not index.pieces else words.size(index.size_bytes),
        software="" if index is None else index.software,
        proof=words(f"backups.proof.{found.proof}", at=at) if at else words(f"backups.proof.{found.proof}"),
        tone=tone.get(found.proof, "bad"),
    )


def _certificate_line(found: Certificate) -> CertificateLine:
    words = g.words
    return CertificateLine(
        id=found.id,
        at=words.moment(datetime.fromisoformat(found.at_utc)),
        archive=found.archive,
        words=words("backups.passed" if found.passed else "backups.not_passed"),
        tone="good" if found.passed else "bad",
        contents=backup_words.contents(found.studies, found.instances, words),
        sampled=words("backups.sampled_of", n=found.sampled, size=words.size(found.sampled_bytes)),
        findings=backup_words.findings(found, words),
    )


def _verified(conn: Reading) -> tuple[str, Tone]:
    """What the last look at everything came to, whoever made it."""
    told = kept.get(conn, VERIFICATION)
    if not isinstance(told, dict):
        return g.words("backups.never_verified"), "wait"
    at, damaged = g.words.moment(datetime.fromisoformat(told["at_utc"])), int(told["damaged"])
    if damaged:
        return g.words("backups.damaged", n=damaged, at=at), "bad"
    return g.words("backups.whole", n=int(told["checked"]), at=at), "good"


def _scrubbed(conn: Reading) -> str:
    """When the box itself was last through, by and by."""
    told = kept.get(conn, scrub.FINISHED)
    if not isinstance(told, dict):
        return ""
    at = g.words.moment(datetime.fromisoformat(told["finished_utc"]))
    return str(g.words("backups.scrubbed", n=int(told["checked"]), at=at, mended=int(told["repaired"])))
