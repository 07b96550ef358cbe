"""Tests that take their time: parts done one after the other, each step of them on record, resumable.

Each change of a part is a transaction of its own, so a page shows how far a test is, and a test that was cut off shows
where. Whoever runs one holds a lock on a file; the kernel lets go of it when the process dies, however it dies. So a
part that is recorded as running while nobody holds the lock was interrupted: no hour and no process id is guessed at.

Some part is recorded as running from the moment that `begin` returns until the end, also between two parts, so that a
page which is opened the moment after a button was pressed knows that there is something to wait for.

Chose parts that stay done when a test is tried again over starting from the beginning: the part that failed is the one
a person is waiting for.
"""

from __future__ import annotations

import fcntl
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from appliance.box import Box
from appliance.catalog import Reading, settings
from appliance.errors import ApplianceError, OperatorNeeded, Transient
from appliance.health.kept import word

Detail = Mapping[str, str | int]
Tell = Callable[[Detail], None]
Act = Callable[[Tell], Detail]
"""A part's work: it tells how far it is, and returns what to show when it is done. Raises our errors, or `LeftOut`."""


class LeftOut(Exception):
    """There is nothing for this part to do; `reason` says why, in a word that the languages know."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PartState(StrEnum):
    """Of one part of a test."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    LEFT_OUT = "left-out"
    FAILED = "failed"


INTERRUPTED: Final = "this test was interrupted"
INTERRUPTED_HINT: Final = "try again: it goes on where it stopped"


@dataclass(frozen=True, slots=True)
class Part:
    """One part as it stands; `cause` and `hint` are an error's, `detail` is what it tells of itself."""

    name: str
    state: PartState = PartState.WAITING
    detail: Detail = field(default_factory=dict)
    cause: str = ""
    hint: str = ""
    at_utc: datetime | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A test, of `subject`: one that was about something else does not count for this."""

    name: str
    subject: str
    parts: tuple[Part, ...]

    @property
    def is_running(self) -> bool:
        """Whether somebody is at it."""
        return any(each.state is PartState.RUNNING for each in self.parts)

    @property
    def passed(self) -> bool:
        """Whether every part is done, or had nothing to do."""
        return all(each.state in (PartState.DONE, PartState.LEFT_OUT) for each in self.parts)

    @property
    def failed(self) -> Part | None:
        """The part that failed."""
        return next((each for each in self.parts if each.state is PartState.FAILED), None)

    def part(self, name: str) -> Part:
        """One part."""
        return next(each for each in self.parts if each.name == name)


def latest(box: Box, reading: Reading, name: str) -> Run | None:
    """The test `name` as `reading` has it; a part that was cut off shows as failed.

    One that has ended since runs still: what it came to isn't in `reading` either, and who shows both looks again while it runs.
    """
    kept = settings.get(reading, _key(name))
    if kept is None:
        return None
    found = _from_json(name, kept)
    if not found.is_running or _is_held(box, name):
        return found
    with box.catalog.reading() as later:  # it may have ended between the two looks
        kept = settings.get(later, _key(name))
    again = None if kept is None else _from_json(name, kept)
    return _interrupted(found) if again == found else found


@dataclass(frozen=True, slots=True)
class Begun:
    """A test that is on record as running and that nobody else can start; `finish` does the work, in any thread."""

    box: Box
    current: Run
    acts: Mapping[str, Act]
    held: Held

    def finish(self) -> Run:
        """Do what is left of the test; the first failure ends it. Never raises for a part that fails."""
        try:
            current = self.current
            for part in self.acts:
                if current.part(part).state is PartState.DONE:
                    continue
                current = _do(self.box, current, part, self.acts[part])
                if current.failed is not None:
                    break
            return current
        finally:
            self.held.let_go()


def begin(box: Box, name: str, subject: str, acts: Mapping[str, Act]) -> Begun:
    """Put on record that the test `name` runs: parts of the same `subject` that are done stay so.

    Raises `Transient` when it is running already.
    """
    held = _hold(box, name)
    try:
        with box.catalog.transaction() as tx:
            kept = settings.get(tx, _key(name))
            before = None if kept is None else _from_json(name, kept)
            parts = {each: Part(each) for each in acts}
            if before is not None and before.subject == subject:
                for each in before.parts:
                    if each.state is PartState.DONE and each.name in parts:
                        parts[each.name] = each
            moment = datetime.now(UTC)
            current = _with_next_running(Run(name, subject, tuple(parts.values())), moment)
            settings.put(tx, _key(name), _to_json(current), moment)
    except BaseException:
        held.let_go()
        raise
    return Begun(box, current, acts, held)


def run(box: Box, name: str, subject: str, acts: Mapping[str, Act]) -> Run:
    """Begin the test and do what is left of it. Raises `Transient` when it is running already."""
    return begin(box, name, subject, acts).finish()


def forget(box: Box, name: str) -> None:
    """Let the next test begin from nothing."""
    held = _hold(box, name)
    try:
        with box.catalog.transaction() as tx:
            settings.remove(tx, _key(name))
    finally:
        held.let_go()


def _do(box: Box, current: Run, name: str, act: Act) -> Run:
    def put(part: Part) -> Run:
        nonlocal current
        moment = datetime.now(UTC)
        stamped = replace(part, at_utc=moment)
        current = replace(
            current, parts=tuple(stamped if each.name == name else each for each in current.parts)
        )
        if part.state in (PartState.DONE, PartState.LEFT_OUT):
            current = _with_next_running(current, moment)
        with box.catalog.transaction() as tx:
            settings.put(tx, _key(current.name), _to_json(current), moment)
        return current

    told: dict[str, str | int] = {}

    def tell(detail: Detail) -> None:
        if any(told.get(key) != value for key, value in detail.items()):
            told.update(detail)
            put(Part(name, PartState.RUNNING, dict(told)))

    try:
        detail = act(tell)
    except LeftOut as nothing:
        return put(Part(name, PartState.LEFT_OUT, {"reason": nothing.reason}))
    except ApplianceError as error:
        return put(Part(name, PartState.FAILED, dict(told), error.message, error.hint))
    except Exception as error:  # noqa: BLE001 -- an edge: the page must say that it failed, but not in its words
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno}"
        cause = f"unexpected {type(error).__name__} in {where}"
        return put(Part(name, PartState.FAILED, dict(told), cause, "try again; if it stays, call support"))
    return put(Part(name, PartState.DONE, {**told, **detail}))


def _with_next_running(current: Run, moment: datetime) -> Run:
    following = next((each.name for each in current.parts if each.state is PartState.WAITING), None)
    return replace(
        current,
        parts=tuple(
            Part(each.name, PartState.RUNNING, at_utc=moment) if each.name == following else each
            for each in current.parts
        ),
    )


def _interrupted(found: Run) -> Run:
    return replace(
        found,
        parts=tuple(
            replace(each, state=PartState.FAILED, cause=INTERRUPTED, hint=INTERRUPTED_HINT)
            if each.state is PartState.RUNNING
            else each
            for each in found.parts
        ),
    )


# --- who is at it ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """The lock of a test, as long as this process lives or until it is let go; any thread may let go of it."""

    descriptor: int

    def let_go(self) -> None:
        """Once only."""
        os.close(self.descriptor)


class UnderWay(Transient):
    """The same runs already."""


def _hold(box: Box, name: str) -> Held:
    descriptor = _lock_file(box, name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UnderWay("this test is running already", hint="wait until it has ended") from error
    return Held(descriptor)


def _is_held(box: Box, name: str) -> bool:
    descriptor = _lock_file(box, name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock_file(box: Box, name: str) -> int:
    path = box.config.data.absolute() / f".setup-{name}.lock"
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorNeeded(
            f"the data folder cannot be written ({error.strerror})", hint="check its owner and permissions"
        ) from error


# --- on record -------------------------------------------------------------------------------------------------------


def _key(name: str) -> str:
    return f"setup-run:{name}"


def _to_json(current: Run) -> dict[str, Any]:
    return {
        "subject": current.subject,
        "parts": [
            {
                "name": each.name,
                "state": each.state.value,
                "detail": dict(each.detail),
                "cause": each.cause,
                "hint": each.hint,
                "at": each.at_utc.isoformat() if each.at_utc else None,
            }
            for each in current.parts
        ],
    }


def _from_json(name: str, kept: Mapping[str, Any]) -> Run:
    return Run(
        name,
        kept["subject"],
        tuple(
            Part(
                each["name"],
                word(PartState, each["state"], PartState.RUNNING),  # of another version: shows as interrupted
                each["detail"],
                each["cause"],
                each["hint"],
                datetime.fromisoformat(each["at"]) if each["at"] else None,
            )
            for each in kept["parts"]
        ),
    )
