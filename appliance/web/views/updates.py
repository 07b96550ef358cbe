"""Updates in the console: which version runs, which waits and what for, what became of those before, and starting one at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.errors import ApplianceError
from appliance.health.looks import Came
from appliance.identity.permissions import Permission
from appliance.updates.history import Outcome, Update
from appliance.updates.night import DAYS, Hold, Window
from appliance.updates.noting import Fetch
from appliance.web import access, forms, updating
from appliance.web.access import may, needs
from appliance.web.console import Notice, console
from appliance.web.language import Words
from appliance.web.pages import Page, is_partial, page_of, show
from appliance.web.updating import Standing

blueprint = Blueprint("updates", __name__, url_prefix="/updates")

RUNS = "runs"
"""What is said of the version that was started last, beside the outcomes."""

STATES: Mapping[str, str] = {
    "elsewhere": "good",
    "unsaid": "wait",
    "untold": "bad",
    "newest": "good",
    "waits": "wait",
    "chosen": "wait",
}
"""How the box stands, with the tone of that."""

NO_ADDRESS = ".no_address"
NAMED, NAMED_BEFORE = ".named", ".named.before"
_IN_THE_WAY = (Came.REFUSED, Came.UNREACHABLE, Came.UNFINISHED, Came.HELD, Came.NO_ADDRESS)
"""What may have come of the last look, that no new version waits says little then."""

_TONES = {RUNS: "good", Outcome.WAITS: "wait", Outcome.LEFT: "bad"}


@dataclass(frozen=True, slots=True)
class UpdateLine:
    """What became of one version; texts are ready to show."""

    version: str
    outcome: str
    tone: str
    about: str
    since: str
    came: str


@dataclass(frozen=True, slots=True)
class Coming:
    """A version that is fetched; `percent` is below 0 where it isn't known."""

    title: str
    percent: int
    words: str


@dataclass(frozen=True, slots=True)
class UpdatesPage(Page):
    """`state` is one of `STATES`. `facts` are label and text. `moment` says what the start would wait for now, `question` what a person is
    asked who starts it; empty if none waits; `fetching` is None while none is fetched.

    `waits_for_consent` is whether no version is taken before the clinic agrees again.
    """

    state: str
    tone: str
    verdict: str
    about: str
    facts: tuple[tuple[str, str], ...]
    moment: str
    question: str
    fetching: Coming | None
    waits_for_consent: bool
    waiting: str
    past: tuple[UpdateLine, ...]
    may_start: bool
    may_choose: bool


@blueprint.get("")
@needs(Permission.VIEW_HEALTH)
def page() -> Response:
    """The versions of this box, or the live part of that page alone."""
    with console().box.catalog.reading() as conn:
        found = updating.standing(conn)
    words, state, came = g.words, _state(found), found.looked.came if found.looked else None
    by_hand = ".pin" if found.hold is Hold.PIN else ""
    instead, since = by_hand, words.moment(found.named_utc)
    if state == "newest" and came is Came.NO_ADDRESS:
        instead = NO_ADDRESS
    elif state == "newest" and found.named:
        instead = NAMED if since else NAMED_BEFORE
    made = page_of(
        UpdatesPage,
        title=words("updates.title"),
        section="health",
        state=state,
        tone="wait" if state == "newest" and (found.named or came in _IN_THE_WAY) else STATES[state],
        verdict=words(f"updates.state.{state}", version=found.waiting or found.chosen),
        about=words(
            f"updates.state.{state}{instead or '.about'}",
            window=_hours(found.window, words),
            version=found.named,
            since=since,
        ),
        facts=_facts(found, words),
        moment=words(f"updates.moment.{found.hold or 'free'}") if found.waiting else "",
        question=words(f"updates.start_question{by_hand}", version=found.waiting) if found.waiting else "",
        fetching=_coming(found.fetch, words) if found.running and found.fetch else None,
        waits_for_consent=bool(found.running) and found.waits_for_consent,
        waiting=found.waiting,
        past=tuple(_line(each, found.running, words) for each in found.past),
        may_start=bool(found.waiting) and may(Permission.CHANGE_SETTINGS),
        may_choose=bool(found.running) and may(Permission.CHANGE_SETTINGS),
    )
    return show("parts/updates.html" if is_partial() else "updates.html", made)


@blueprint.post("/restart")
@needs(Permission.CHANGE_SETTINGS)
@access.reauthenticated
def restart() -> AnyResponse:
    """Start the version that waits now, and not in its hours."""
    try:
        version = updating.restart()
    except ApplianceError as error:
        forms.say_error(error)
    else:
        words = g.words
        forms.say(Notice("wait", words("updates.starting", version=version), words("updates.starting.about")))
    return forms.back_to("/updates")


def _state(found: Standing) -> str:
    if not found.running:
        return "elsewhere"
    if found.seen is None:
        return "untold" if found.is_untold else "unsaid"
    if found.waiting:
        return "waits"
    return "chosen" if found.chosen else "newest"


def _coming(fetch: Fetch, words: Words) -> Coming:
    at = words.moment(fetch.since_utc)
    if fetch.version is None or fetch.percent is None or fetch.size_bytes is None:
        return Coming(words("updates.fetching", at=at), -1, words("updates.fetching.unknown"))
    return Coming(
        words("updates.fetching_version", version=fetch.version, at=at),
        fetch.percent,
        words("updates.fetching.far", percent=fetch.percent, size=words.size(fetch.size_bytes)),
    )


def _facts(found: Standing, words: Words) -> tuple[tuple[str, str], ...]:
    if not found.running:
        return ()
    takes = words("updates.takes.newest")
    if found.waits_for_consent:
        takes = words("updates.takes.none")
    elif found.named:
        takes = words("updates.takes.named", version=found.named)
    facts = [(words("updates.runs"), found.running), (words("updates.takes"), takes)]
    facts.append((words("updates.window"), _hours(found.window, words)))
    if found.looked and found.looked.at_utc and found.looked.came:
        outcome = words(f"updates.looked.{found.looked.came}")
        looked = words("updates.looked.text", at=words.moment(found.looked.at_utc), outcome=outcome)
        facts.append((words("updates.looked"), looked))
    if found.stick:
        at, came_of_it = found.stick
        outcome = words(f"updates.stick.{came_of_it}")
        read = words("updates.looked.text", at=words.moment(at), outcome=outcome)
        facts.append((words("updates.stick"), read))
    if found.waiting:
        came = next((each.came_utc for each in found.past if each.version == found.waiting), None)
        waits = words("updates.waits_since", version=found.waiting, at=words.moment(came))
        facts.insert(1, (words("updates.waits"), waits if came else found.waiting))
    return tuple(facts)


def _hours(window: Window, words: Words) -> str:
    begins, ends = (words.time(each.replace(":", "")) for each in window.hours.split("-"))
    if len(window.days) == len(DAYS):
        return words("updates.hours", begins=begins, ends=ends)
    days = words.several([words(f"weekday.{each}") for each in window.days])
    return words("updates.hours_on", begins=begins, ends=ends, days=days)


def _line(each: Update, running: str, words: Words) -> UpdateLine:
    is_usual = each.version == running and each.outcome is not Outcome.CHOSEN
    outcome = RUNS if is_usual else str(each.outcome)
    return UpdateLine(
        version=each.version,
        outcome=words(f"updates.outcome.{outcome}"),
        tone=_TONES.get(outcome, ""),
        about=words(f"updates.outcome.{outcome}.about"),
        since=words.moment(each.since_utc),
        came=words.moment(each.came_utc) or words("updates.came_before"),
    )
