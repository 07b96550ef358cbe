"""What the clinic chooses, section by section; what was changed, with undo; the configuration as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, g, make_response, request
from werkzeug.wrappers import Response as AnyResponse

from appliance import config, configuration, local_time, settings
from appliance.catalog import Reading
from appliance.errors import ApplianceError, Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.settings import Careful, Change, NotAccepted, Setting
from appliance.web import forms
from appliance.web.access import may, needs, reauthenticated
from appliance.web.address_list import keep_a_way_in
from appliance.web.console import Notice, console, now
from appliance.web.language import explained
from appliance.web.pages import Page, page_of, show
from appliance.web.reauthentication import ask_first

blueprint = Blueprint("settings", __name__, url_prefix="/settings")

CHANGES = 50
MOST_TYPED = 25_000
_LAST_OF_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True)
class FieldLine:
    """One setting as a field of the form. `now` says what somebody else has made of it meanwhile. `control` is text, lines, number, choice, choices, flag or secret."""

    key: str
    label: str
    about: str
    control: str
    value: str
    choices: tuple[tuple[str, str], ...]
    chosen: tuple[str, ...]
    given: bool
    error: str
    now: str


@dataclass(frozen=True, slots=True)
class SettingsPage(Page):
    """One section. `revision` is what was true when the form was made, to notice a change by somebody else.

    `faults` are the fields in error: the id of each, its label, and what is wrong.
    """

    sections: tuple[tuple[str, str], ...]
    current: str
    fields: tuple[FieldLine, ...]
    faults: tuple[tuple[str, str, str], ...]
    revision: int
    error: str


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """A change as the history shows it; texts are ready to show."""

    id: int
    at: str
    actor: str
    label: str
    before: str
    after: str
    undoes: int | None
    can_be_undone: bool


@dataclass(frozen=True, slots=True)
class HistoryPage(Page):
    """Changes, the latest first; `older` is where the next page begins, 0 if there is none."""

    sections: tuple[tuple[str, str], ...]
    current: str
    lines: tuple[ChangeLine, ...]
    older: int


@dataclass(frozen=True, slots=True)
class DifferenceLine:
    """What an import would change."""

    kind: str
    subject: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ConfigurationPage(Page):
    """Export and import; with a preview once a file was chosen, whose text then is `document`."""

    sections: tuple[tuple[str, str], ...]
    current: str
    document: str
    previewed: bool
    differences: tuple[DifferenceLine, ...]
    secrets: tuple[str, ...]
    error: str


@dataclass(frozen=True, slots=True)
class MachinePage(Page):
    """What is set outside the console, with where it comes from: the texts of `config.Wish`."""

    sections: tuple[tuple[str, str], ...]
    current: str
    wishes: tuple[config.Wish, ...]


# --- a section -------------------------------------------------------------------------------------------------------


@blueprint.get("")
@needs(Permission.VIEW_SETTINGS)
def first() -> Response:
    """The first section."""
    return _form(_known(settings.SECTIONS[0]), {}, {}, "")


@blueprint.get("/<section>")
@needs(Permission.VIEW_SETTINGS)
def form(section: str) -> Response:
    """The settings of a section, in a form for those who may change them."""
    return _form(_known(section), {}, {}, "")


@blueprint.post("/<section>")
@needs(Permission.CHANGE_SETTINGS)
def save(section: str) -> AnyResponse:
    """Change what differs, all or nothing; what is wrong is said beside its field.

    A section that can shut people out, or open the box, asks first who it is.
    """
    chosen = _known(section)
    if any(each.careful is Careful.YES for each in chosen):
        return ask_first(lambda: _save(section, chosen))
    return _save(section, chosen)


def _save(section: str, chosen: tuple[Setting, ...]) -> AnyResponse:
    typed = {each.key: _typed(each) for each in chosen}
    seen = forms.whole(forms.text("revision"), low=0, high=_LAST_OF_ALL, default=0)
    changes, refusals = _read(chosen, typed)
    try:
        if refusals:
            raise NotAccepted(refusals)
        with console().box.catalog.transaction() as tx:
            if settings.revision(tx) != seen:
                raise forms.Overtaken(
                    "somebody else changed settings meanwhile",
                    hint="compare with what they are now, then save again",
                )
            done = settings.change(
                tx, console().box.audit_key, changes, actor=forms.actor(), now=now(), root=console().box.root
            )
            keep_a_way_in(tx)
    except NotAccepted as refusal:
        elsewhere = [each for key, each in refusal.refusals.items() if key not in typed]
        return _form(
            chosen,
            typed,
            refusal.refusals,
            explained(g.words, elsewhere[0]) if elsewhere else "",
            422,
            seen=seen,
        )
    except Refused as refusal:
        return _form(chosen, typed, {}, explained(g.words, refusal), 409, conflict=True)
    forms.say(Notice("good", g.words("settings.saved", n=len(done))))
    return forms.back_to(f"/settings/{section}")


def _typed(chosen: Setting) -> str:
    if isinstance(chosen.kind, settings.Choices):
        return ", ".join(forms.several(chosen.key))
    return forms.long_text(chosen.key, MOST_TYPED)


def _read(chosen: tuple[Setting, ...], typed: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Refused]]:
    """What a form says, and what is wrong in it. An empty secret is left as it is, unless it is to be forgotten."""
    changes: dict[str, Any] = {}
    refusals: dict[str, Refused] = {}
    for each in chosen:
        if each.is_secret:
            if forms.text(f"forget:{each.key}") == "1":
                changes[each.key] = None
            elif typed[each.key]:
                changes[each.key] = typed[each.key]
            continue
        try:
            changes[each.key] = each.kind.read(typed[each.key])
        except Refused as refusal:
            refusals[each.key] = refusal
    return changes, refusals


def _form(
    chosen: tuple[Setting, ...],
    typed: Mapping[str, str],
    refusals: Mapping[str, Refused],
    error: str,
    status: int = 200,
    *,
    conflict: bool = False,
    seen: int | None = None,
) -> Response:
    """The form; with `seen` it still compares with what was true when whoever types began, and not with what is now."""
    with console().box.catalog.reading() as conn:
        held = settings.get_several(conn, [each.key for each in chosen if not each.is_secret])
        fields = tuple(_field(conn, each, held, typed, refusals.get(each.key), conflict) for each in chosen)
        revision = settings.revision(conn) if seen is None else seen
    section = chosen[0].section
    page = page_of(
        SettingsPage,
        title=g.words("settings.title"),
        section="settings",
        sections=_sections(),
        current=section,
        fields=fields,
        faults=tuple(
            (f"field-{number}", each.label, each.error) for number, each in enumerate(fields, 1) if each.error
        ),
        revision=revision,
        error=error or (g.words("settings.not_saved", n=len(refusals)) if refusals else ""),
    )
    return show("settings.html", page, status)


def _field(
    conn: Reading,
    chosen: Setting,
    held: Mapping[str, Any],
    typed: Mapping[str, str],
    refusal: Refused | None,
    conflict: bool,
) -> FieldLine:
    kind = chosen.kind
    match kind:
        case settings.Secret():
            control = "secret"
        case settings.Flag():
            control = "flag"
        case settings.Choice():
            control = "choice"
        case settings.Choices():
            control = "choices"
        case settings.WholeNumber() | settings.OneNumber():
            control = "number"
        case settings.Text(lines=True) | settings.Texts():
            control = "lines"
        case _:
            control = "text"
    value = "" if chosen.is_secret else typed.get(chosen.key)
    if value is None:
        value = kind.write(held[chosen.key])
    words = kind.words if isinstance(kind, settings.Choice | settings.Choices) else ()
    return FieldLine(
        key=chosen.key,
        label=g.words(f"setting.{chosen.key}"),
        about=g.words(f"setting.{chosen.key}.about"),
        control=control,
        value=value,
        choices=tuple((word, _word(chosen, word)) for word in words),
        chosen=tuple(each.strip() for each in value.split(",")) if control == "choices" else (value,),
        given=chosen.is_secret and settings.is_set(conn, chosen.key),
        error=explained(g.words, refusal) if refusal is not None else "",
        now=_now(held[chosen.key], chosen, value) if conflict and not chosen.is_secret else "",
    )


def _now(true: Any, chosen: Setting, typed: str) -> str:
    """What is true of a setting at present, where that isn't what was typed."""
    if chosen.kind.write(true) == typed:
        return ""
    return str(g.words("settings.is_now", value=_side(chosen, true) or g.words("settings.empty")))


def _word(chosen: Setting, word: str) -> str:
    return str(g.words(chosen.sentence(word)))


def _known(section: str) -> tuple[Setting, ...]:
    found = tuple(each for each in settings.SETTINGS.values() if each.section == section)
    if not found:
        raise Unknown("there is no such section of the settings", hint="go back to the settings")
    return found


def _sections() -> tuple[tuple[str, str], ...]:
    own = tuple((name, g.words(f"settings.section.{name}")) for name in settings.SECTIONS)
    return (
        *own,
        ("machine", g.words("settings.machine")),
        ("history", g.words("settings.history")),
        ("configuration", g.words("settings.configuration")),
    )


# --- history ---------------------------------------------------------------------------------------------------------


@blueprint.get("/history")
@needs(Permission.VIEW_SETTINGS)
def history() -> Response:
    """What was changed, the latest first; `before` for older ones."""
    before = forms.whole(forms.asked("before"), low=0, high=_LAST_OF_ALL, default=0) or None
    with console().box.catalog.reading() as conn:
        rows = settings.history(conn, limit=CHANGES + 1, before=before)
        latest = {
            key: found[0].id
            for key in {row.key for row in rows}
            if key in settings.SETTINGS and (found := settings.history(conn, key=key, limit=1))
        }
    shown = rows[:CHANGES]
    page = page_of(
        HistoryPage,
        title=g.words("settings.title"),
        section="settings",
        sections=_sections(),
        current="history",
        lines=tuple(_change_line(row, latest.get(row.key)) for row in shown),
        older=shown[-1].id if len(rows) > CHANGES else 0,
    )
    return show("settings-history.html", page)


@blueprint.post("/history/<int:change_id>/undo")
@needs(Permission.CHANGE_SETTINGS)
@reauthenticated
def undo(change_id: int) -> AnyResponse:
    """Take a change back."""
    try:
        with console().box.catalog.transaction() as tx:
            settings.undo(tx, console().box.audit_key, change_id, actor=forms.actor(), now=now())
            keep_a_way_in(tx)
    except Unknown:
        raise
    except Refused as refusal:
        forms.say_error(refusal)
    else:
        forms.say(Notice("good", g.words("settings.undone")))
    return forms.back_to("/settings/history")


def _change_line(row: Change, latest: int | None) -> ChangeLine:
    chosen = settings.SETTINGS.get(row.key)
    secret = chosen is not None and chosen.is_secret
    return ChangeLine(
        id=row.id,
        at=g.words.moment(row.at_utc),
        actor=row.actor,
        label=g.words(f"setting.{row.key}") if chosen is not None else row.key,
        before=_side(chosen, row.old),
        after=_side(chosen, row.new),
        undoes=row.undoes,
        can_be_undone=row.id == latest and not secret and may(Permission.CHANGE_SETTINGS),
    )


def _side(chosen: Setting | None, value: Any) -> str:
    if chosen is None:
        return "" if value is None else str(value)
    if chosen.is_secret:
        return str(g.words("settings.secret"))
    effective = chosen.default if value is None else value
    if isinstance(chosen.kind, settings.Choice):
        return _word(chosen, effective)
    if isinstance(chosen.kind, settings.Choices):
        return str(g.words.several([_word(chosen, each) for each in effective]))
    if isinstance(chosen.kind, settings.Flag):
        return str(g.words("settings.yes" if effective else "settings.no"))
    return chosen.kind.write(effective)


# --- the configuration as a file, and what is set elsewhere ----------------------------------------------------------


@blueprint.get("/configuration")
@needs(Permission.VIEW_SETTINGS)
def transfer() -> Response:
    """Export and import."""
    return _configuration()


@blueprint.get("/configuration/export")
@needs(Permission.CHANGE_SETTINGS)
def export() -> Response:
    """The configuration as a file, without secrets. Leaves an audit row."""
    with console().box.catalog.reading() as conn:
        document = configuration.export(conn)
    with console().box.catalog.transaction() as tx:
        console().record(tx, "configuration:export", "box", forms.actor())
    answer = make_response(configuration.written(document))
    answer.headers["Content-Type"] = "application/json; charset=utf-8"
    answer.headers["Content-Disposition"] = (
        f'attachment; filename="configuration-{local_time.here(now()):%Y-%m-%d}.json"'
    )
    return answer


@blueprint.post("/configuration/preview")
@needs(Permission.CHANGE_SETTINGS)
def preview() -> Response:
    """What a chosen file would change."""
    file = request.files.get("file")
    text = file.read(4 * configuration.MOST_CHARACTERS).decode("utf-8", "replace") if file is not None else ""
    try:
        document = configuration.read(text)
        with console().box.catalog.reading() as conn:
            plan = configuration.plan(conn, console().box, document)
    except ApplianceError as error:
        return _configuration(error=_said(error), status=422)
    return _configuration(document=configuration.compact(document), plan=plan)


@blueprint.post("/configuration/import")
@needs(Permission.CHANGE_SETTINGS)
@reauthenticated
def bring() -> AnyResponse:
    """Do what the preview said, all or nothing."""
    try:
        document = configuration.read(forms.long_text("document", 2 * configuration.MOST_CHARACTERS))
        with console().box.catalog.transaction() as tx:
            plan = configuration.apply(tx, console().box, document, actor=forms.actor(), now=now())
            keep_a_way_in(tx)
    except ApplianceError as error:
        return _configuration(error=_said(error), status=422)
    forms.say(Notice("good", g.words("settings.imported", n=len(plan.differences))))
    return forms.back_to("/settings/history")


@blueprint.get("/machine")
@needs(Permission.VIEW_SETTINGS)
def machine() -> Response:
    """What was set by the environment or the file, for reading."""
    page = page_of(
        MachinePage,
        title=g.words("settings.title"),
        section="settings",
        sections=_sections(),
        current="machine",
        wishes=config.wishes(console().box.config, os.environ),
    )
    return show("settings-machine.html", page)


def _configuration(
    *, document: str = "", plan: configuration.Plan | None = None, error: str = "", status: int = 200
) -> Response:
    page = page_of(
        ConfigurationPage,
        title=g.words("settings.title"),
        section="settings",
        sections=_sections(),
        current="configuration",
        document=document,
        previewed=plan is not None,
        differences=tuple(_difference_line(each) for each in plan.differences) if plan is not None else (),
        secrets=plan.secrets if plan is not None else (),
        error=error,
    )
    return show("settings-configuration.html", page, status)


def _difference_line(found: configuration.Difference) -> DifferenceLine:
    subject = g.words(f"setting.{found.subject}") if found.kind == "setting" else found.subject
    return DifferenceLine(g.words(f"configuration.{found.kind}"), subject, found.before, found.after)


def _said(error: ApplianceError) -> str:
    """What is wrong with a document, with the setting concerned if it is one."""
    if isinstance(error, NotAccepted):
        key, refusal = next(iter(error.refusals.items()))
        return f"{g.words(f'setting.{key}')} — {explained(g.words, refusal)}"
    return explained(g.words, error)
