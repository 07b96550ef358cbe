"""Whoever is in: what is typed at the counter, what is shown for it, and what is kept of both.

What is typed and shown is in the catalog before it has an effect, but for the word that ends the session: that waits for
nothing. Every text that is shown goes through `appliance.fleet.markers`.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from appliance import logs
from appliance.audit import Entry
from appliance.box import Box
from appliance.catalog import support_sessions
from appliance.catalog.support_sessions import Event
from appliance.errors import ApplianceError, NotAuthorised, Refused
from appliance.fleet import known, support
from appliance.fleet.markers import Markers
from appliance.fleet.session import Scope, Session, command, help_text

MOST_SHOWN_CHARACTERS = 200_000
MOST_RECORDED_CHARACTERS = 4_000_000
"""Of one visit."""
MOST_LOG_CHARACTERS = 20_000
_PROMPT = "> "


class Room(Protocol):
    """Where a caller is let in: the desk while its session is open (`appliance.fleet.desk`)."""

    box: Box
    session: Session
    over: threading.Event

    def wall(self) -> datetime:
        """The clock on the wall."""

    def markers(self) -> Markers:
        """What is cut out of all that is shown."""

    def count(self, characters: int) -> bool:
        """Count what is recorded; whether there is room for more in this session."""

    def end(self, person: str) -> None:
        """Let the vendor end the session."""

    def child(self, words: list[str], person: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """One of the appliance's own verbs, at work until the block is left."""


@dataclass
class Caller:
    """One visitor: what is typed, and what is shown for it. `is_late` says whether the certificate has ended meanwhile."""

    desk: Room
    talk: socket.socket
    visit: int
    person: str
    scope: Scope
    is_late: Callable[[], bool]
    recorded: int = 0

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._has_space = True

    def serve(self, lines: Iterator[str]) -> None:
        """Answer line by line until one of the two has enough."""
        session = self.desk.session
        self._show(
            f"Support session {session.id}: {self.scope}, until {session.expires_utc:%H:%M} UTC."
            " Everything is recorded. Type: help\n" + _PROMPT
        )
        for line in lines:
            line = "".join(each for each in line if each.isprintable())
            if line.strip() == "end":
                self._end(line)
                return
            self._record("i", line + "\n")
            if line.strip() == "leave" or self.desk.over.is_set() or not self._has_space:
                return
            self._show(self._answer(line) + _PROMPT)

    def _end(self, line: str) -> None:
        """End the session, say so, and then write down both: others may hold the catalog for minutes."""
        self.desk.end(self.person)
        said = "The session is ended.\n"
        with suppress(OSError):
            self.talk.sendall(said.encode())
        self._record("i", line + "\n")
        self._record("o", said)

    def _answer(self, line: str) -> str:
        try:
            with self.desk.box.catalog.reading() as conn:
                standing = support_sessions.session(conn, self.desk.session.id)
            if not standing.is_open(self.desk.wall()):
                raise NotAuthorised("the session is over")
            if self.is_late():
                raise NotAuthorised("the certificate has ended", hint="come in again with a new one")
            match line.split():
                case []:
                    return ""
                case ["help"]:
                    return help_text(self.scope)
                case ["logs", process]:
                    return self._logs(process)
                case _:
                    return self._verb(list(command(line, self.scope)))
        except ApplianceError as error:
            return self._cut(f"{error}\n")

    def _cut(self, text: str) -> str:
        return self.desk.markers().cut(text)[0]

    def _logs(self, process: str) -> str:
        kept = logs.kept_lines(self.desk.box.config.data.absolute())
        if process not in kept:
            raise Refused("there is no such log", hint=f"there are: {', '.join(kept) or 'none'}")
        self._note(f"logs {process}")
        return last_lines(self._cut(kept[process]), MOST_LOG_CHARACTERS)

    def _verb(self, words: list[str]) -> str:
        self._note(" ".join(words))
        with self.desk.child(words, self.person) as process:
            assert process.stdout is not None
            shown = process.stdout.read(MOST_SHOWN_CHARACTERS)
            text = first_lines(shown, whole=len(shown) < MOST_SHOWN_CHARACTERS)
        return self._cut(without_people(text) if words[0] == "setting" else text)

    def _note(self, words: str) -> None:
        """What support does is in the audit by itself, beside what the verb writes there."""
        details = {"session": self.desk.session.id, "person": self.person, "command": words}
        self.desk.box.record(
            [Entry("support:act", str(self.visit), support.ACTOR, details)], self.desk.wall()
        )

    def _show(self, text: str) -> None:
        self._record("o", text)
        self.talk.sendall(text.encode("utf-8", "backslashreplace"))

    def _record(self, kind: str, text: str) -> None:
        text = text.encode("utf-8", "backslashreplace").decode()
        self.recorded += len(text)
        self._has_space = self.desk.count(len(text)) and self.recorded <= MOST_RECORDED_CHARACTERS
        after = int((time.monotonic() - self._began) * 1000)
        with self.desk.box.catalog.transaction() as tx:
            support_sessions.add_event(tx, self.visit, Event(after, kind, text))


def first_lines(data: bytes, *, whole: bool) -> str:
    """The text of `data`, without its last line if it is not `whole`: half of a name is one that nobody looks for."""
    if not whole:
        data = data[: data.rfind(b"\n") + 1] + b"(The rest is too long to be shown.)\n"
    return data.decode("utf-8", "replace")


def last_lines(text: str, most_characters: int) -> str:
    """The last lines of `text` that fit, none of them broken."""
    if len(text) <= most_characters:
        return text
    kept = text[-most_characters - 1 :]
    return kept[kept.find("\n") + 1 :] if "\n" in kept else ""


def without_people(table: str) -> str:
    """The listing of settings or of their changes, without those that tell of the clinic's people."""
    return "".join(
        line for line in table.splitlines(keepends=True) if not any(map(known.tells_of_people, line.split()))
    )
