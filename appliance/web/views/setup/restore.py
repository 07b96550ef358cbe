"""Restoring a box in the browser: the claim code, the source and the paper, what is there, how far it is.

The page shows one of these at a time, by what the box itself shows, so that a browser that was closed finds its place again:

========  =====================================================================
closed    the box is not blank: restoring would overwrite something
code      nobody in this browser has typed the claim code
source    the form: from where, and the recovery key
looking   the source is being tried
found     what is there; *Restore*, or *Try again* after a failure
running   the bar
leaving   every process starts anew, and is the restored box
========  =====================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from flask import Response, g, redirect
from werkzeug.wrappers import Response as AnyResponse

from appliance import identity, local_time
from appliance.backup import choice
from appliance.backup.choice import Found
from appliance.errors import ApplianceError, Refused
from appliance.web import forms, security
from appliance.web.console import VISITOR, console, now
from appliance.web.pages import is_partial, show
from appliance.web.views.setup.frame import (
    PartLine,
    SetupPage,
    blueprint,
    in_turn,
    is_claimed,
    keep_typed,
    part_lines,
    said,
    setup_page,
)
from appliance.web.views.setup.place_form import FIELDS, PRESET, DiskLine, disk_lines, place_of
from appliance.wizard import progress, restoring, runs
from appliance.wizard.restoring import Restorer, Source
from appliance.wizard.runs import Part, PartState, Run
from appliance.wizard.steps import Step

HERE = "/setup/restore"
FIRST_SHOWN = 5
AS_OF = "as_of"


@dataclass(frozen=True, slots=True)
class BackupLine:
    """A backup that was found, in words; `tone` is ``bad`` for one that this version cannot read, `chosen` ``yes`` for the one that is
    restored unless another is chosen."""

    name: str
    made: str
    contents: str
    software: str
    state: str
    tone: str
    chosen: str


@dataclass(frozen=True, slots=True)
class Bar:
    """How far it is, from 0 to 100, and what is under way; `percent` is -1 while nobody knows."""

    percent: int
    words: str


@dataclass(frozen=True, slots=True)
class RestorePage(SetupPage):
    """Restoring, at the `stage` that the module's table explains."""

    stage: str
    typed: Mapping[str, str]
    has_secret: str
    disks: tuple[DiskLine, ...]
    looked: tuple[PartLine, ...]
    backups: tuple[BackupLine, ...]
    more_backups: tuple[BackupLine, ...]
    more: str
    shrunk: str
    """That the newest holds far less than another did, so that nobody restores it without having chosen it; empty otherwise."""
    as_of: str
    """As of which moment the bucket was looked at; empty for now."""
    after: str
    parts: tuple[PartLine, ...]
    bar: Bar
    interrupted: str
    """``yes`` when an attempt was cut, and goes on once the key is typed."""
    may_start: str


@blueprint.get("/restore")
@in_turn(Step.WELCOME)
def restore() -> AnyResponse:
    """Where restoring stands."""
    return _form()


@blueprint.post("/restore/code")
def admit_restorer() -> AnyResponse:
    """Let this browser restore, if the claim code was typed in it."""
    if is_claimed():
        return redirect("/sign-in", 303)
    box, address = console().box, security.address()
    with box.catalog.transaction() as tx:
        outcome = identity.prove(tx, box.root, forms.text("code"), now())
        match outcome:
            case identity.Proved():
                console().record(tx, "restore:admit", "restore", VISITOR, {"address": address})
            case identity.WrongCode(tries_left=left):
                details = {"address": address, "tries_left": left}
                console().record(tx, "user:claim-fail", "restore", VISITOR, details)
    match outcome:
        case identity.Proved():
            console().restorer.admit(security.visitor())
            return forms.back_to(HERE)
        case identity.WrongCode(tries_left=left) if left:
            return _form(g.words("claim.wrong_code", n=left))
        case _:
            return _form(g.words("claim.used_up"))


@blueprint.post("/restore/look")
def look_for_backups() -> AnyResponse:
    """Keep where the copies are and what opens them, and see what is there."""
    if (turned_away := _turned_away()) is not None:
        return turned_away
    typed = keep_typed(Step.WELCOME, *FIELDS, AS_OF)
    box, restorer = console().box, console().restorer
    try:
        place = place_of(typed)
        with box.catalog.transaction() as tx:
            details = {"kind": place.kind, "address": security.address()}
            console().record(tx, "restore:look", "restore", VISITOR, details)
        fingerprint = typed["fingerprint"] if place.kind == "sftp" else ""
        as_of = _moment(typed[AS_OF]) if place.kind == "s3" and typed[AS_OF] else None
        restorer.keep(security.visitor(), place, forms.secret("key"), fingerprint, as_of)
    except ApplianceError as error:
        return _form(said(error))
    restorer.begin_look()
    return forms.back_to(f"{HERE}#found")


@blueprint.post("/restore/elsewhere")
def restore_elsewhere() -> AnyResponse:
    """Choose another source."""
    if (turned_away := _turned_away()) is not None:
        return turned_away
    console().restorer.forget()
    return forms.back_to(HERE)


@blueprint.post("/restore/start")
def begin_restore() -> AnyResponse:
    """Restore the backup that was chosen of those found, in the background; *Try again* is the same."""
    if (turned_away := _turned_away()) is not None:
        return turned_away
    restorer, address = console().restorer, security.address()
    source = restorer.source
    if source is None or not _looked(source).passed:
        return forms.back_to(HERE)
    backup, found = forms.text("backup"), restorer.found
    known = [each.name for each in found.snapshots] if found else []
    if backup and backup not in known:
        return forms.back_to(HERE)
    if not backup and found and choice.shrunk(found.snapshots) is not None:
        return _form(g.words("restore.choose_first"))
    with console().box.catalog.transaction() as tx:
        console().record(tx, "restore:start", "restore", VISITOR, {"address": address, "snapshot": backup})
    restorer.begin_restore(source, VISITOR, address, backup)
    return forms.back_to(HERE)


def _moment(typed: str) -> datetime:
    """The moment that was typed, by the clock that this page shows. Raises `Refused`."""
    try:
        return local_time.moment_of(typed)
    except ValueError as error:
        raise Refused(
            "that is no moment", hint="type it as 2026-11-25T18:00:00-05:00, or a day as 2026-11-25"
        ) from error


def _turned_away() -> AnyResponse | None:
    """Where to send whoever may not restore: to the door of a box with an owner, or to type the claim code."""
    if is_claimed():
        return redirect("/sign-in", 303)
    if not console().restorer.is_admitted(security.visitor()):
        return forms.back_to(HERE)
    return None


def _looked(source: Source | None) -> Run:
    """The look at the source that was typed last; nothing done when there was none."""
    box = console().box
    with box.catalog.reading() as conn:
        run = runs.latest(box, conn, restoring.LOOK)
    if run is None or source is None or run.subject != source.subject:
        return Run(restoring.LOOK, "", tuple(Part(name) for name in restoring.LOOK_PARTS))
    return run


def _form(error: str = "") -> Response:
    box, restorer, words = console().box, console().restorer, g.words
    with box.catalog.reading() as conn:
        blank = restoring.is_blank(conn)
        run = runs.latest(box, conn, restoring.RUN)
        typed = progress.read(conn).draft(Step.WELCOME)
    source = restorer.source
    as_of = source.as_of if source is not None else None
    looked = _looked(source)
    stage = _stage(restorer, blank, run, looked)
    found = restorer.found if stage == "found" else None
    lines = _backup_lines(found, restorer.chosen) if found else ()
    page = setup_page(
        RestorePage,
        Step.WELCOME,
        error=error,
        stage=stage,
        typed={**PRESET, AS_OF: "", **typed},
        has_secret="yes" if restorer.has_secret else "no",
        disks=disk_lines() if stage == "source" else (),
        looked=part_lines(looked if looked.subject else None, restoring.LOOK_PARTS),
        backups=lines[:FIRST_SHOWN],
        more_backups=lines[FIRST_SHOWN:],
        more=words("restore.more", n=len(lines) - FIRST_SHOWN) if len(lines) > FIRST_SHOWN else "",
        shrunk=_shrunk(found) if found else "",
        as_of=words.moment(as_of) if stage == "found" and as_of is not None else "",
        after=_after(found.manifests, bool(lines)) if found else "",
        parts=part_lines(run, restoring.PARTS) if stage in ("running", "found") and run else (),
        bar=_bar(run),
        interrupted="yes" if stage == "source" and run is not None and not run.passed else "no",
        may_start="yes" if looked.passed else "no",
    )
    return show(
        "setup/parts/restore.html" if is_partial() else "setup/restore.html", page, 422 if error else 200
    )


def _stage(restorer: Restorer, blank: bool, run: Run | None, looked: Run) -> str:
    if restorer.is_announced():
        return "leaving"
    if not blank:
        return "closed"
    if not restorer.is_admitted(security.visitor()):
        return "code"
    if restorer.busy == restoring.RUN or (run is not None and run.is_running):
        return "running"
    if restorer.busy == restoring.LOOK or looked.is_running:
        return "looking"
    if restorer.source is not None and restorer.found is not None:
        return "found"
    return "source"


def _backup_lines(found: Found, chosen: str) -> tuple[BackupLine, ...]:
    """What was found, in the order of the restore, which is not that of their names."""
    words, fit = g.words, found.snapshots
    if not chosen and fit and choice.shrunk(fit) is None:
        chosen = fit[0].name
    return tuple(
        BackupLine(
            name="" if choice.is_too_new(each) else each.name,
            made=words.moment(each.made_utc),
            contents=f"{words('dashboard.studies', n=each.contents.studies)}, "
            f"{words('studies.images', n=each.contents.instances)}",
            software=each.software,
            state=words("restore.too_new", version=each.software)
            if choice.is_too_new(each)
            else words("restore.newest" if each is found.backups[0] else "restore.older"),
            tone="bad" if choice.is_too_new(each) else "good" if each is found.backups[0] else "",
            chosen="yes" if each.name == chosen else "no",
        )
        for each in found.backups
    )


def _shrunk(found: Found) -> str:
    fullest = choice.shrunk(found.snapshots)
    if fullest is None:
        return ""
    words, newest = g.words, found.snapshots[0].contents.studies
    return str(
        words(
            "restore.shrunk",
            few=words("dashboard.studies", n=newest),
            many=words("dashboard.studies", n=fullest.contents.studies),
            at=words.moment(fullest.made_utc),
        )
    )


def _after(manifests: int, has_backup: bool) -> str:
    return str(g.words("restore.after" if has_backup else "restore.manifests_alone", n=manifests))


def _bar(run: Run | None) -> Bar:
    """The work in one bar: the index is nine tenths of it, because nobody knows how much came after."""
    words = g.words
    part = run.part("bring") if run is not None else Part("bring")
    if part.state is not PartState.RUNNING:
        return Bar(100 if part.state is PartState.DONE else 0, words("restore.stage.begin"))
    done, total = int(part.detail.get("done", 0)), int(part.detail.get("all", 0))
    match part.detail.get("stage"):
        case "catalog" if total:
            return Bar(
                90 * done // total,
                words("restore.stage.catalog", done=words.size(done), all=words.size(total)),
            )
        case "manifests":
            return Bar(95, words("restore.stage.manifests", n=done))
    return Bar(-1, words("restore.stage.begin"))
