"""What the console says, in the language of whoever reads it: sentences, plurals, dates, sizes, names.

Chosen: one flat JSON file a language (``web-ui/languages``), keys by page, ``{name}`` for values, and an object of
plural forms where a number decides; a test holds the files to each other and to every key that a template or a view
uses. Rejected for now: gettext catalogues through Flask-Babel, whose English-as-key hides a changed sentence from its
translation, and whose compile step would stand between an edit and the page. Plural rules and date shapes are the two
of English and French; a language that needs more brings its `Manner`.

Messages of our own errors (`ApplianceError`) are English sentences; ``causes`` in a language's file translates those
that a person at the console can meet, with ``{name}`` where a message carries a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.errors import ApplianceError, OperatorNeeded

DEFAULT = "en"
NAMES: Mapping[str, str] = {"en": "English", "fr": "Français"}

_MONTHS: Mapping[str, tuple[str, ...]] = {
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "fr": (
        "janv.", "févr.", "mars", "avr.", "mai", "juin", "juill.", "août", "sept.", "oct.", "nov.", "déc.",
    ),
}  # fmt: skip
_UNITS: Mapping[str, tuple[str, ...]] = {
    "en": ("bytes", "KB", "MB", "GB", "TB"),
    "fr": ("octets", "Ko", "Mo", "Go", "To"),
}
_THIN = "\u202f"
_HARD = "\u00a0"


@dataclass(frozen=True, slots=True)
class Words:
    """One language: its sentences, and how it writes numbers and moments."""

    language: str
    sentences: Mapping[str, Any]
    patterns: tuple[tuple[re.Pattern[str], str], ...] = ()

    @classmethod
    def read(cls, code: str, path: Path) -> Words:
        """The language in the file `path`."""
        sentences = json.loads(path.read_text("utf-8"))
        patterns = [(_pattern(cause), said) for cause, said in sentences["causes"].items() if "{" in cause]
        return cls(code, sentences, tuple(patterns))

    def __call__(self, key: str, **values: object) -> str:
        """The sentence `key`, with `values` put in; `n` chooses the plural form. KeyError if there is none."""
        sentence = self.sentences[key]
        if not isinstance(sentence, str):
            sentence = sentence[self._plural(values["n"])]
        shown = {
            name: self.number(value) if isinstance(value, int) else value for name, value in values.items()
        }
        return sentence.format(**shown) if shown else str(sentence)

    def has(self, key: str) -> bool:
        """Whether there is a sentence `key`: for codes that come from elsewhere."""
        return key in self.sentences

    def _plural(self, count: object) -> str:
        one = count in (0, 1) if self.language == "fr" else count == 1
        return "one" if one else "other"

    def cause(self, text: str) -> str:
        """A message or hint of an error in this language, or as it is."""
        found: str | None = self.sentences["causes"].get(text)
        if found is None:
            matches = ((pattern.fullmatch(text), said) for pattern, said in self.patterns)
            found = next((said.format(**match.groupdict()) for match, said in matches if match), text)
        return f"{found[:1].upper()}{found[1:]}"

    def modality(self, code: str) -> str:
        """A modality in words, or its code."""
        return self(f"modality.{code}") if self.has(f"modality.{code}") else code

    def number(self, value: int) -> str:
        """A whole number with its thousands parted."""
        parted = f"{value:,}"
        return parted.replace(",", _THIN) if self.language == "fr" else parted

    def size(self, count: int) -> str:
        """A number of bytes in a unit that a person reads."""
        units = _UNITS[self.language]
        scaled, unit = float(count), 0
        while scaled >= 1000 and unit < len(units) - 1:
            scaled, unit = scaled / 1000, unit + 1
        text = f"{scaled:.0f}" if unit == 0 or scaled >= 100 else f"{scaled:.1f}"
        return f"{text.replace('.', ',') if self.language == 'fr' else text}{_HARD}{units[unit]}"

    def decimal(self, value: float) -> str:
        """A number with what decimals it needs, six significant digits at most."""
        text = f"{value:g}"
        return text.replace(".", ",") if self.language == "fr" else text

    def date(self, recorded: str) -> str:
        """A DICOM date (DA) as a date; what is no date stays as recorded."""
        match = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})", recorded)
        if not match or not 1 <= int(match[2]) <= 12:
            return recorded
        return self._day(int(match[1]), int(match[2]), int(match[3]))

    def time(self, recorded: str) -> str:
        """A DICOM time (TM) as hours and minutes; what is none stays as recorded."""
        match = re.match(r"(\d{2}):?(\d{2})", recorded)
        return self._clock(int(match[1]), int(match[2])) if match else recorded

    def moment(self, at: datetime | None) -> str:
        """A moment in the box's own time zone; nothing for None."""
        if at is None:
            return ""
        here = at.astimezone()
        return f"{self._day(here.year, here.month, here.day)}, {self._clock(here.hour, here.minute)}"

    def _day(self, year: int, month: int, day: int) -> str:
        name = _MONTHS[self.language][month - 1]
        if self.language == "fr":
            return f"{'1er' if day == 1 else day}{_HARD}{name}{_HARD}{year}"
        return f"{name}{_HARD}{day}, {year}"

    def _clock(self, hours: int, minutes: int) -> str:
        return (
            f"{hours}{_HARD}h{_HARD}{minutes:02d}" if self.language == "fr" else f"{hours:02d}:{minutes:02d}"
        )

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
            self._words = {code: Words.read(code, folder / f"{code}.json") for code in NAMES}
        except OSError as error:
            raise OperatorNeeded(
                "the texts of the console are missing", hint="install the appliance again, or run: make setup"
            ) from error

    def words(self, code: str) -> Words:
        """The language of that code, or the default."""
        return self._words.get(code) or self._words[DEFAULT]

    @staticmethod
    def choose(*wishes: str | None, accepted: str = "") -> str:
        """The first wish there is, else the best of an Accept-Language header, else the default."""
        for wish in wishes:
            if wish is not None and wish in NAMES:
                return wish
        ranked: list[tuple[float, int, str]] = []
        for place, item in enumerate(accepted.split(",")[:20]):
            tag, _, quality = item.strip().partition(";q=")
            code = tag.split("-")[0].lower()
            try:
                weight = float(quality) if quality else 1.0
            except ValueError:
                continue
            if code in NAMES and weight > 0:
                ranked.append((-weight, place, code))
        return min(ranked)[2] if ranked else DEFAULT


def _pattern(cause: str) -> re.Pattern[str]:
    """`cause` as a pattern whose places are groups."""
    pieces = re.split(r"\{(\w+)\}", cause)
    return re.compile(
        "".join(f"(?P<{piece}>.+?)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
    )


def explained(words: Words, error: ApplianceError) -> str:
    """What went wrong and what to do, as one text."""
    text = words.cause(error.message)
    return f"{text}. {words.cause(error.hint)}." if error.hint else f"{text}."
