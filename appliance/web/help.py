"""The help that goes with the pages: read once from ``web-ui/help``, listed, searched, and found for each page.

A file a topic and language: one ``<h1>``, then sections, each an ``<h2 id=…>`` with what follows it; the ids are the
same in every language, so a link holds when the language changes. Chosen: HTML that a person can write without a tool,
because it is our own text and needs no cleaning; the search is over a few dozen sections, so it is a loop. A language
without a help of its own gets the English one, marked as such.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

ORDER = (
    "console",
    "door",
    "account",
    "deliveries",
    "devices",
    "destinations",
    "backups",
    "users",
    "health",
    "notices",
    "audit",
    "retention",
    "problems",
    "runbooks",
    "support",
    "settings",
    "screen",
    "api",
    "setup",
    "trust",
    "security",
    "protection",
)
"""Topics in the order of the contents; others follow by name."""

PLACES: Mapping[str, str] = {
    "alerts": "notices#alerts",
    "channels": "notices#channels",
    "audit": "audit",
    "audit.choose": "audit#reports",
    "audit.report": "audit#reports",
    "claim": "door#claim",
    "claim.form": "door#claim",
    "dashboard": "health",
    "deliveries": "deliveries",
    "destination": "destinations#rules",
    "destinations": "destinations",
    "server_key": "destinations#server",
    "devices": "devices",
    "disk_pin": "backups#pin",
    "door": "door",
    "enrolment": "door#second-factor",
    "guard": "backups#guard",
    "help": "screen",
    "backups": "backups",
    "emergency": "account#emergency",
    "me": "account",
    "me.recovery_sheet": "door#second-factor",
    "tokens": "account#tokens",
    "user_access": "account#others",
    "second_factor": "door#second-factor",
    "notices": "notices",
    "performance": "health#performance",
    "reference": "api",
    "settings": "settings",
    "setup": "setup",
    "setup.machines_page": "setup#machines",
    "setup.network": "trust",
    "setup.recovery": "setup#key",
    "setup.restore": "setup#restore",
    "setup.storage": "setup#cloud",
    "setup.trial_page": "setup#trial",
    "setup.users": "setup#colleagues",
    "start": "console",
    "studies": "console#find",
    "support": "support",
    "support.file": "support#file",
    "heartbeat": "support#heartbeat",
    "studies.study": "console#viewer",
    "updates": "health#updates",
    "users": "users",
    "retention": "retention",
    "retention.rules": "retention#rules",
    "holds": "retention#holds",
    "visits": "retention#visits",
    "destructions": "retention#requests",
    "certificates": "retention#destroyed",
    "plan": "backups#plan",
    "roles": "users#roles",
    "welcome": "users#link",
    "tiers": "backups#room",
    "trust": "trust",
    "trying": "screen#tour",
}
"""Which help a page leads to: by endpoint, or by its blueprint."""


@dataclass(frozen=True, slots=True)
class Section:
    """A piece of help under one heading. `folded` is its text for searching."""

    topic: str
    id: str
    title: str
    body: Markup
    folded: str


@dataclass(frozen=True, slots=True)
class Topic:
    """A page of help."""

    name: str
    title: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Book:
    """All the help of a language, which `tag` names as HTML does."""

    tag: str
    topics: tuple[Topic, ...]

    @classmethod
    def read(cls, folder: Path, tag: str) -> Book:
        """The topics in `folder`."""
        found = [_topic(path.stem, path.read_text("utf-8")) for path in folder.glob("*.html")]
        return cls(tag, tuple(sorted(found, key=lambda topic: (_place(topic.name), topic.name))))

    def topic(self, name: str) -> Topic | None:
        """The topic of that name."""
        return next((topic for topic in self.topics if topic.name == name), None)

    def search(self, text: str) -> tuple[Section, ...]:
        """The sections that hold all words of `text`, those with a word in their title first."""
        words = fold(text).split()
        if not words:
            return ()
        found = [
            section
            for topic in self.topics
            for section in topic.sections
            if all(word in section.folded for word in words)
        ]
        return tuple(
            sorted(found, key=lambda section: not any(word in fold(section.title) for word in words))
        )


def place_of(endpoint: str | None) -> str:
    """The help of the page of `endpoint`, as ``topic`` or ``topic#section``."""
    name = endpoint or ""
    return PLACES.get(name) or PLACES.get(name.partition(".")[0], "console")


def fold(text: str) -> str:
    """`text` without accents and capitals."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(each for each in apart if not unicodedata.combining(each)).casefold()


def _place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def _topic(name: str, source: str) -> Topic:
    head, *pieces = re.split(r"(?=<h2\b)", source)
    heading = re.search(r"<h1>(.*?)</h1>", head, re.DOTALL)
    sections = tuple(_section(name, number, piece) for number, piece in enumerate(pieces, 1))
    title = _plain(heading[1]) if heading else sections[0].title if sections else name
    return Topic(name, title, sections)


def _section(topic: str, number: int, piece: str) -> Section:
    heading = re.match(r'<h2(?: id="([a-z0-9-]+)")?>(.*?)</h2>', piece, re.DOTALL)
    if heading is None:
        raise ValueError(f"help/{topic}.html: section {number} has no heading that can be read")
    body = piece[heading.end() :].strip()
    title = _plain(heading[2])
    return Section(
        topic, heading[1] or f"part-{number}", title, Markup(body), fold(f"{title} {_plain(body)}")
    )


def _plain(piece: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", piece)).split())
