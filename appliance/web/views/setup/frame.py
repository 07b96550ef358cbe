"""What the pages of setting up share: the list of steps at the side, the way on, and which page may be opened."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Blueprint, Response, g, redirect
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import people
from appliance.errors import ApplianceError, Refused
from appliance.web import forms
from appliance.web.console import console, now
from appliance.web.pages import Page, is_partial, page_of
from appliance.wizard import progress
from appliance.wizard.runs import Part, PartState, Run
from appliance.wizard.steps import DEFERRABLE, Plan, State, Step

blueprint = Blueprint("setup", __name__, url_prefix="/setup")

TONES = {
    PartState.WAITING: "",
    PartState.RUNNING: "wait",
    PartState.DONE: "good",
    PartState.LEFT_OUT: "wait",
    PartState.FAILED: "bad",
}


@dataclass(frozen=True, slots=True)
class StepLine:
    """A step in the list; `href` is empty when it may not be opened yet."""

    step: str
    title: str
    state: str
    state_words: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class SetupPage(Page):
    """A page of setting up. `why` says why a thing is asked; `following` is where *Continue* leads, if it may."""

    step: str
    why: str
    lines: tuple[StepLine, ...]
    number: int
    count: int
    state: str
    following: str
    may_wait: bool
    error: str


@dataclass(frozen=True, slots=True)
class PartLine:
    """A part of a test in words."""

    name: str
    title: str
    state: str
    tone: str
    words: str
    cause: str
    hint: str
    at: str


P = TypeVar("P", bound=SetupPage)
V = TypeVar("V", bound=Callable[..., Any])


def address_of(step: Step) -> str:
    """Where the page of `step` is."""
    return "/claim" if step is Step.CLAIM else f"/setup/{step}"


def current_plan() -> Plan:
    """Where setting up stands."""
    with console().box.catalog.reading() as conn:
        return progress.plan_of(console().box, conn)


def setup_page(kind: type[P], step: Step, /, *, error: str = "", **fields: Any) -> P:
    """A page of `kind` for `step`, in the frame of this request."""
    plan = current_plan()
    words = g.words
    place = plan.place(step)
    following = plan.after(step)
    settled = place.state in (State.DONE, State.LATER)
    return page_of(
        kind,
        title=words(f"setup.{step}.title"),
        section="setup",
        step=step.value,
        why=words(f"setup.{step}.why"),
        lines=step_lines(plan, step),
        number=list(Step).index(step) + 1,
        count=len(plan.places),
        state=place.state.value,
        following=address_of(following) if settled and following and _opens(plan, following) else "",
        may_wait=step in DEFERRABLE and place.state is State.OPEN,
        error=error,
        **fields,
    )


def step_lines(plan: Plan, current: Step) -> tuple[StepLine, ...]:
    """The list at the side."""
    return tuple(
        StepLine(
            step=each.step.value,
            title=g.words(f"setup.{each.step}.title"),
            state=each.state.value,
            state_words=g.words(f"setup.state.{each.state}"),
            href=address_of(each.step) if _opens(plan, each.step) else "",
            current=each.step is current,
        )
        for each in plan.places
    )


def _opens(plan: Plan, step: Step) -> bool:
    """Whether a link there leads there: the claim is over once it is done."""
    return plan.may_open(step) and not (step is Step.CLAIM and plan.place(step).state is State.DONE)


def in_turn(step: Step) -> Callable[[V], V]:
    """Show the view when it is the turn of `step`, else lead to the step whose turn it is. Goes below ``@needs``.

    Before the claim, and for whoever has not signed in after it, only the pages before the claim are shown.
    """

    def wrap(view: V) -> V:
        @functools.wraps(view)
        def guarded(*arguments: Any, **named: Any) -> Any:
            if g.session is None and is_claimed():
                return _to_the_door()
            plan = current_plan()
            if not plan.may_open(step):
                return redirect(address_of(plan.current or Step.WELCOME), 303)
            return view(*arguments, **named)

        return guarded  # type: ignore[return-value]  # the same arguments and results, or a redirection

    return wrap


def _to_the_door() -> AnyResponse:
    """Lead to signing in: the page itself, where only a part of it was asked for, as by one that watches a restore."""
    if is_partial():
        return Response(headers={"HX-Redirect": "/sign-in"})
    return redirect("/sign-in", 303)


def is_claimed() -> bool:
    """Whether the box has an owner."""
    with console().box.catalog.reading() as conn:
        return people.anybody(conn)


def accepted(
    step: Step, details: dict[str, object] | None = None, unsettled: dict[str, str] | None = None
) -> AnyResponse:
    """`step` was answered: note it, and go on. What is `unsettled` of it stays as it was typed; never a secret."""
    with console().box.catalog.transaction() as tx:
        progress.take_up(tx, step, now())
        if unsettled:
            progress.keep_draft(tx, step, unsettled, now())
        console().record(tx, "setup:step", step.value, forms.actor(), details)
    return onward(step)


def onward(step: Step) -> AnyResponse:
    """To the step after `step` that is not done, or back to it while it is not."""
    plan = current_plan()
    following = plan.after(step)
    if plan.place(step).state in (State.DONE, State.LATER) and following and plan.may_open(following):
        return forms.back_to(address_of(following))
    return forms.back_to(address_of(step))


def keep_typed(step: Step, *names: str) -> dict[str, str]:
    """The fields `names` as typed, kept until they are accepted. Never name a secret."""
    typed = {name: forms.text(name) for name in names}
    with console().box.catalog.transaction() as tx:
        progress.keep_draft(tx, step, typed, now())
    return typed


def typed_before(step: Step) -> dict[str, str]:
    """What was typed on `step` and not accepted."""
    with console().box.catalog.reading() as conn:
        return dict(progress.read(conn).draft(step))


def said(error: ApplianceError) -> str:
    """An error as the form shows it."""
    return forms.explain(error)


def required(typed: dict[str, str], *names: str) -> None:
    """Raises `Refused` when one of `names` is empty."""
    for name in names:
        if not typed[name]:
            raise Refused("a field is empty that must not be", hint="fill in all the fields", field=name)


def part_lines(run: Run | None, names: tuple[str, ...]) -> tuple[PartLine, ...]:
    """The parts of a test in words; all waiting when it was never run."""
    words = g.words
    found = {each.name: each for each in run.parts} if run is not None else {}
    lines = []
    for name in names:
        part = found.get(name) or Part(name)
        lines.append(
            PartLine(
                name=name,
                title=words(f"part.{name}"),
                state=part.state.value,
                tone=TONES[part.state],
                words=_part_words(part),
                cause=words.cause(part.cause) if part.cause else "",
                hint=words.cause(part.hint) if part.hint else "",
                at=words.moment(part.at_utc),
            )
        )
    return tuple(lines)


def _part_words(part: Part) -> str:
    """How far a part is, or what it came to."""
    words = g.words
    if part.state is PartState.LEFT_OUT:
        return str(words(f"left_out.{part.detail['reason']}"))
    if part.state in (PartState.DONE, PartState.RUNNING):
        progress_of = part.detail
        if "all" in progress_of and "done" in progress_of:
            return str(words("part.count", done=str(progress_of["done"]), all=str(progress_of["all"])))
        if "ms" in progress_of:
            return str(words("part.ms", ms=str(progress_of["ms"])))
    return str(words(f"part.state.{part.state}"))
