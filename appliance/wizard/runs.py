"""Tests that take their time: parts done one after the other, each step of them on record, resumable.

Each change of a part is a transaction of its own, so a page shows how far a test is, and a test that was cut off shows
where. Whoever runs one holds a lock on a file; the kernel lets go of it when the process dies, however it dies. So a
part that is recorded as running while nobody holds the lock was interrupted: no hour and no process id is guessed at.

Chose parts that stay done when a test is tried again over starting from the beginning: the part that failed is the one
a person is waiting for.
"""

from __future__ import annotations

import fcntl
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from appliance.box import Box
from appliance.catalog import Reading, settings
from appliance.errors import ApplianceError, OperatorNeeded, Transient

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
    """The test `name` as it stands; a part that was cut off shows as failed."""
    kept = settings.get(reading, _key(name))
    if kept is None:
        return None
    found = _from_json(name, kept)
    if found.is_running and not _is_held(box, name):
        return _interrupted(found)
    return found


def run(box: Box, name: str, subject: str, acts: Mapping[str, Act]) -> Run:
    """Do what is left of the test: parts of the same `subject` that are done stay so; the first failure ends it.

    Never raises for a part that fails: that is the outcome. Raises `Transient` when the test is running already.
    """
    with _held(box, name):
        with box.catalog.reading() as conn:
            kept = settings.get(conn, _key(name))
        before = None if kept is None else _from_json(name, kept)
        parts = {each: Part(each) for each in acts}
        if before is not None and before.subject == subject:
            for each in before.parts:
                if each.state is PartState.DONE and each.name in parts:
                    parts[each.name] = each
        current = Run(name, subject, tuple(parts.values()))
        for part in acts:
            if current.part(part).state is PartState.DONE:
                continue
            current = _do(box, current, part, acts[part])
            if current.failed is not None:
                break
        return current


def forget(box: Box, name: str) -> None:
    """Let the next test begin from nothing."""
    with _held(box, name), box.catalog.transaction() as tx:
        settings.remove(tx, _key(name))


def _do(box: Box, current: Run, name: str, act: Act) -> Run:
    def put(part: Part) -> Run:
        nonlocal current
        moment = datetime.now(UTC)
        stamped = replace(part, at_utc=moment)
        current = replace(
            current, parts=tuple(stamped if each.name == name else each for each in current.parts)
        )
        with box.catalog.transaction() as tx:
            settings.put(tx, _key(current.name), _to_json(current), moment)
        return current

    told: dict[str, str | int] = {}

    def tell(detail: Detail) -> None:
        if any(told.get(key) != value for key, value in detail.items()):
            told.update(detail)
            put(Part(name, PartState.RUNNING, dict(told)))

    put(Part(name, PartState.RUNNING))
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


@contextmanager
def _held(box: Box, name: str) -> Iterator[None]:
    descriptor = _lock_file(box, name)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Transient("this test is running already", hint="wait until it has ended") from error
        yield
    finally:
        os.close(descriptor)


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
                PartState(each["state"]),
                each["detail"],
                each["cause"],
                each["hint"],
                datetime.fromisoformat(each["at"]) if each["at"] else None,
            )
            for each in kept["parts"]
        ),
    )
