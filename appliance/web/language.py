"""What the console says, in the language of whoever reads it: sentences, names, and `Manner`'s numbers and dates.

Chosen: one flat JSON file a language (``web-ui/languages``), keys by page, ``{name}`` for values, and an object of
plural forms (CLDR's categories) where a number decides; a test holds the files to each other and to every key that a
template or a view uses. Rejected: gettext catalogues through Flask-Babel, whose English-as-key hides a changed
sentence from its translation, and whose compile step would stand between an edit and the page.

A sentence that a language lacks is said in English: the tests let no such gap through, and should one come about all
the same, a clinic is better off with an English sentence than without its page.

Messages of our own errors (`ApplianceError`) are English sentences; ``causes`` in a language's file translates those
that a person at the console can meet, with ``{name}`` where a message carries a value; of several that fit, the most
particular counts. English has a few: a remedy that names a command has a page here, and a clinic has no terminal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final

from appliance import local_time
from appliance.errors import ApplianceError, OperatorNeeded
from appliance.web.manner import MANNERS, Manner

DEFAULT = "en"
NAMES: Mapping[str, str] = {code: manner.name for code, manner in MANNERS.items()}


INNER: Final = frozenset({"reason", "why", "cause"})
"""Places of a cause in which another one stands."""


@dataclass(frozen=True, slots=True)
class Words:
    """One language: its sentences, and its manner. `reserve` is said where there is no sentence."""

    language: str
    sentences: Mapping[str, Any]
    patterns: tuple[tuple[re.Pattern[str], str], ...] = ()
    reserve: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, code: str, path: Path, reserve: Mapping[str, Any] | None = None) -> Words:
        """The language in the file `path`."""
        sentences = json.loads(path.read_text("utf-8"))
        causes = {cause: said for cause, said in sentences["causes"].items() if "{" in cause}
        patterns = [(_pattern(cause), causes[cause]) for cause in sorted(causes, key=_openness)]
        return cls(code, sentences, tuple(patterns), reserve or {})

    @property
    def manner(self) -> Manner:
        """How this language writes numbers and dates."""
        return MANNERS[self.language]

    def __call__(self, key: str, **values: object) -> str:
        """The sentence `key`, with `values` put in; `n` chooses the plural form. KeyError if there is none."""
        sentence = self.sentences.get(key)
        if sentence is None:
            sentence = self.reserve[key]
        if not isinstance(sentence, str):
            count = values["n"]
            form = self.manner.plural(count) if isinstance(count, (int, float)) else "other"
            sentence = sentence.get(form) or sentence["other"]
        shown = {
            name: self.number(value) if isinstance(value, int) else value for name, value in values.items()
        }
        return sentence.format(**shown) if shown else str(sentence)

    def has(self, key: str) -> bool:
        """Whether there is a sentence `key`: for codes that come from elsewhere."""
        return key in self.sentences or key in self.reserve

    def cause(self, text: str) -> str:
        """A message or hint of an error in this language, or as it is."""
        found = self.within(text)
        return f"{found[:1].upper()}{found[1:]}"

    def within(self, text: str) -> str:
        """The same as a part of a sentence."""
        return self._said(text) or text

    def _said(self, text: str) -> str | None:
        """`text` within a sentence; None if nobody has translated it."""
        known: str | None = self.sentences["causes"].get(text)
        if known is not None:
            return known
        for pattern, said in self.patterns:
            if match := pattern.fullmatch(text):
                carried = match.groupdict()
                inner = {name: self._carried(carried[name]) for name in INNER & carried.keys()}
                return said.format(**carried | inner)
        return None

    def _carried(self, text: str) -> str:
        """What a cause names as its own: one cause or several, each with the name in front of whom it is about, or foreign words."""
        told = []
        for each in text.split("; "):
            name, colon, rest = each.partition(": ")
            inner = None if " " in name else self._said(rest)
            told.append(f"{name}{colon}{inner}" if inner else self._said(each) or each)
        return "; ".join(told)

    def modality(self, code: str) -> str:
        """A modality in words, or its code."""
        return self(f"modality.{code}") if self.has(f"modality.{code}") else code

    def number(self, value: int) -> str:
        """A whole number with its thousands parted."""
        return self.manner.number(value)

    def size(self, count: int) -> str:
        """A number of bytes in a unit that a person reads."""
        return self.manner.size(count)

    def decimal(self, value: float) -> str:
        """A number with what decimals it needs, six significant digits at most."""
        return self.manner.decimal(value)

    def several(self, parts: Sequence[str]) -> str:
        """Things in a row: "a, b and c"."""
        return self.manner.several(parts)

    def date(self, recorded: str) -> str:
        """A DICOM date (DA) as a date; what is no date stays as recorded."""
        match = re.fullmatch(r"([0-9]{4})\.?([0-9]{2})\.?([0-9]{2})", recorded)
        try:
            return self.manner.day(date(*(int(part) for part in match.groups()))) if match else recorded
        except ValueError:
            return recorded

    def time(self, recorded: str) -> str:
        """A DICOM time (TM) as hours and minutes; what is none stays as recorded."""
        match = re.match(r"([0-9]{2}):?([0-9]{2})", recorded)
        try:
            return self.manner.time(time(int(match[1]), int(match[2]))) if match else recorded
        except ValueError:
            return recorded

    def day_and_time(self, recorded_date: str, recorded_time: str) -> str:
        """A DICOM date and time as one moment; as much of it as there is."""
        day, clock = self.date(recorded_date), self.time(recorded_time)
        return self.manner.moment(day, clock) if day and clock else day or clock

    def moment(self, at: datetime | None) -> str:
        """A moment in the box's own time zone; nothing for None."""
        return "" if at is None else self.manner.moment_of(local_time.here(at))

    def person(self, recorded: str) -> str:
        """A DICOM person name (PN) as family name, given names; the first component group that says anything."""
        for group in recorded.split("="):
            parts = [part.strip() for part in group.split("^")]
            family, given = parts[0], " ".join(part for part in parts[1:3] if part)
            if family or given:
                return f"{family}, {given}" if family and given else family or given
        return self("study.no_name")


class Languages:
    """All languages of the console, read once."""

    def __init__(self, folder: Path) -> None:
        try:
            english = Words.read(DEFAULT, folder / f"{DEFAULT}.json")
            self._words = {
                code: Words.read(code, folder / f"{code}.json", english.sentences)
                for code in MANNERS
                if code != DEFAULT
            } | {DEFAULT: english}
        except OSError as error:
            raise OperatorNeeded(
                "the texts of the console are missing", hint="install the appliance again, or run: make setup"
            ) from error

    def words(self, code: str) -> Words:
        """The language of that code, or the default."""
        return self._words.get(code) or self._words[DEFAULT]

    @staticmethod
    def offered(endpoint: str | None = None) -> tuple[Manner, ...]:
        """The languages that the page of `endpoint` can be had in."""
        return tuple(manner for manner in MANNERS.values() if manner.is_offered_at(endpoint))

    @staticmethod
    def choose(
        *wishes: str | None,
        accepted: str = "",
        endpoint: str | None = None,
        otherwise: Callable[[], str] = lambda: DEFAULT,
    ) -> str:
        """The first wish that is offered, else the best of an Accept-Language header, else the clinic's.

        `otherwise` tells the clinic's, and is asked only when nothing else decides.
        """
        offered = {manner.code for manner in Languages.offered(endpoint)}
        for wish in wishes:
            if wish is not None and wish in offered:
                return wish
        ranked: list[tuple[float, int, str]] = []
        for place, item in enumerate(accepted.split(",")[:20]):
            tag, _, quality = item.strip().partition(";q=")
            code = tag.split("-")[0].lower()
            try:
                weight = float(quality) if quality else 1.0
            except ValueError:
                continue
            if code in offered and weight > 0:
                ranked.append((-weight, place, code))
        if ranked:
            return min(ranked)[2]
        own = otherwise()
        return own if own in offered else DEFAULT


def _openness(cause: str) -> tuple[bool, int]:
    """What sorts the most particular pattern first: "the mail server {where} …" before "{peer} …", which may begin with anything."""
    return cause.startswith("{"), -len(re.sub(r"\{\w+\}", "", cause))


def _pattern(cause: str) -> re.Pattern[str]:
    """`cause` as a pattern whose places are groups."""
    pieces = re.split(r"\{(\w+)\}", cause)
    return re.compile(
        "".join(f"(?P<{piece}>.+?)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
    )


def explained(words: Words, error: ApplianceError) -> str:
    """What went wrong and what to do, as one text."""
    cause = words.cause(error.message)
    if not error.hint:
        return words("said.cause", cause=cause)
    return words("said.cause_and_fix", cause=cause, fix=words.cause(error.hint))
