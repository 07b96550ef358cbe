"""Cutting out of a text whatever names a patient or opens a lock. Pure.

Two nets, one behind the other. The first knows what is in the catalog: every patient's name, ID and birth date, every
accession number, and the secrets of the box; it finds them in any case, without their accents, and however they are
parted (``TREMBLAY^Marie-Ève``, "Marie Eve Tremblay", ``1980-05-12``), a number also without the zeros that fill it up, and a
birth date as people write it (`appliance.fleet.birth_dates`). The second knows shapes: a person's name as DICOM
writes it, a health insurance number of Québec, an instance's UID, a mail address, keys and passwords.

Chose to cut too much rather than too little: a patient called *Page* takes the word "page" out of a support file, which
its reader survives. Rejected: one regular expression of all names (minutes, for a hundred thousand patients), and looking
for whole values only (a log line holds a piece of one). A text is taken apart into runs of letters and runs of digits, and
each sequence of runs is looked up in a set, so the time grows with the text and not with the clinic.

What is written with escapes (``L\\u00e9vesque``, ``L%C3%A9vesque``, ``&eacute;``) is looked at decoded too; a line that names
somebody only then is cut whole, because where in it is not known.

Too short to be looked for are two Latin letters, or three digits: they are in every second line and name nobody. How many
there are is counted, for whoever reads the file.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from appliance.catalog.folding import fold
from appliance.fleet.birth_dates import BirthDates

LEAST_LETTERS = 3
LEAST_DIGITS = 4
MOST_RUNS = 16
"""A value that is made of more runs than this is found by its pieces only, or not at all: longer than any ID is."""
LEAST_SECRET = 6
_HEAD = 3
_GAP = 3

_UNPARTED = r"\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Han and kana: nothing parts a name from the words around it, so each sign is a run of its own."""
_RUN = re.compile(rf"[{_UNPARTED}]|[^\W\d_{_UNPARTED}]+|\d+")
_FILLED_UP = re.compile(r"(?<!\d)0+(?=\d)")
_IS_YEAR = re.compile(r"(?:19|20)\d\d")

_SHAPES: Mapping[str, re.Pattern[str]] = {
    "secret": re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
        r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
        r"|\b[0-9A-HJKMNP-TV-Z]{5}(?:-[0-9A-HJKMNP-TV-Z]{5}){8}\b"  # a recovery key
        r"|\bAGE-SECRET-KEY-1[A-Z0-9]+"
        # Whatever stands before these words (access_token, 1980token): where that is cut, the word itself begins there.
        r"|(?i:(?:authorization|cookie)\"?\s*:\s*\"?)[^\n\"]+"
        r"|(?i:(?:password|passwd|passphrase|secret|token|api[_-]?key)\"?\s*[=:]\s*\"?)[^\s\",}]+",
        re.DOTALL,
    ),
    "shape": re.compile(r"[^\W\d_][\w.'’\-]*\^[^\s\",=<>]*"),
    "health_number": re.compile(r"\b[A-Z]{4}[ -]?\d{4}[ -]?\d{4}\b"),
    "uid": re.compile(r"(?<![\d.])(?!1\.2\.840\.10008\.)[012](?:\.(?:0|[1-9]\d*)){5,}\b"),
    "mail": re.compile(r"[^\s@<>\"',;:]+@[^\s@<>\"',;:]+\.[^\s@<>\"',;:]+"),
}
"""By kind, in the order in which they are looked for."""


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    start: int
    end: int


class Markers:
    """What is looked for: `known` are texts of the catalog with their kinds, `secrets` are cut exactly as they are."""

    def __init__(self, known: Iterable[tuple[str, str]], secrets: Iterable[str] = ()) -> None:
        self._kinds: dict[str, str] = {}
        self._numbers: dict[str, str] = {}  # without the zeros before them; found as one run of digits only
        self._born = BirthDates()
        self.too_short = 0
        for kind, text in known:
            for form in _forms(kind, text):
                if _is_long_enough(form):
                    self._kinds.setdefault(form, kind)
                elif form:
                    self.too_short += 1
            if kind == "birth_date":
                self._born.add(_squeezed(text))
            elif kind != "name" and (bare := _without_zeros(text)):
                (self._numbers if bare.isdecimal() else self._kinds).setdefault(bare, kind)
        self._heads = {form[:_HEAD] for form in self._kinds}
        self._longest = max(map(len, self._kinds), default=0)
        self._secrets = sorted({each for each in secrets if len(each) >= LEAST_SECRET}, key=len, reverse=True)

    def __len__(self) -> int:
        return len(self._kinds) + len(self._secrets)

    def cut(self, text: str) -> tuple[str, Counter[str]]:
        """`text` with what was found replaced by ``[cut: KIND]``, and how often each kind was."""
        text, counted = self._cut_as_written(text)
        if counted:
            text = self._looked_again(text, counted)
        if not _ESCAPE.search(text):
            return text, counted
        lines = text.split("\n")
        hidden = [(at, kind) for at, line in enumerate(lines) if (kind := self._hidden_in(line))]
        if not hidden:
            return text, counted
        for at, kind in hidden:
            lines[at] = _mark(kind)
            counted[kind] += 1
        text, more = self.cut("\n".join(lines))
        return text, counted + more

    def _looked_again(self, text: str, counted: Counter[str]) -> str:
        """`text` with the lines looked at again of which something was cut: it may have hidden where something else begins."""
        lines = text.split("\n")
        for at, line in enumerate(lines):
            if _OWN_MARK.search(line):
                lines[at], more = self._cut_as_written(line)
                counted += more
        return "\n".join(lines)

    def _hidden_in(self, line: str) -> str:
        """The kind of what is in `line` only when its escapes are read; empty if there is nothing."""
        for _ in range(_MOST_DECODINGS):
            plain = _decoded(line)
            if plain == line:
                break
            if found := self._cut_as_written(plain)[1]:
                return max(found, key=found.__getitem__)
            line = plain
        return ""

    def _cut_as_written(self, text: str) -> tuple[str, Counter[str]]:
        counted: Counter[str] = Counter()
        for secret in self._secrets:
            if secret in text:
                text, found = _without(secret, text)
                counted["secret"] += found
        for kind, shape in _SHAPES.items():
            text, found = shape.subn(_mark(kind), text)
            counted[kind] += found
        text, counted["birth_date"] = self._born.cut(text, _mark("birth_date"))
        text = self._cut_known(text, counted)
        return text, +counted

    def _cut_known(self, text: str, counted: Counter[str]) -> str:
        if not self._kinds:
            return text
        kept: list[str] = []
        done = 0
        for start, end, kind in self._found(text):
            kept += [text[done:start], _mark(kind)]
            counted[kind] += 1
            done = end
        return "".join([*kept, text[done:]])

    def _found(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where something known stands: the longest at each place, none within another, never in a mark of our own."""
        pieces = [
            _Piece(_squeezed(each[0]), each.start(), each.end())
            for each in _RUN.finditer(_OWN_MARK.sub(lambda mark: "\0" * len(mark[0]), text))
        ]
        at = 0
        while at < len(pieces):
            found = self._longest_at(text, pieces, at)
            if found is None:
                at += 1
                continue
            last, kind = found
            yield pieces[at].start, pieces[last].end, kind
            at = last + 1

    def _longest_at(self, text: str, pieces: list[_Piece], at: int) -> tuple[int, str] | None:
        joined, best = "", None
        if kind := self._numbers.get(pieces[at].text.lstrip("0")):
            best = (at, kind)
        for place in range(at, min(at + MOST_RUNS, len(pieces))):
            if place > at:
                between = text[pieces[place - 1].end : pieces[place].start]
                if len(between) > _GAP or "\n" in between:
                    break
            joined += pieces[place].text
            if len(joined) > self._longest or (len(joined) >= _HEAD and joined[:_HEAD] not in self._heads):
                break
            if kind := self._kinds.get(joined):
                best = (place, kind)
        return best


def _mark(kind: str) -> str:
    return f"[cut: {kind}]"


_MOST_DECODINGS = 3
"""An escape may be escaped once more, in a log of a log."""
_UNITS = re.compile(r"(?:\\+u[0-9A-Fa-f]{4})+")
_BYTES = re.compile(r"(?:\\+x[0-9A-Fa-f]{2})+|(?:%[0-9A-Fa-f]{2})+")
_SIGNS = re.compile(r"\\+[abfnrtv\"'/]")
_ESCAPE = re.compile(rf"{_UNITS.pattern}|{_BYTES.pattern}|{_SIGNS.pattern}|&#?\w+;")


def _decoded(text: str) -> str:
    """`text` with the escapes of JSON, Python, URLs and HTML read once; for looking at, not for showing."""

    def units(found: re.Match[str]) -> str:
        data = b"".join(int(each, 16).to_bytes(2) for each in re.findall(r"u(.{4})", found[0]))
        return data.decode("utf-16-be", "replace")

    def octets(found: re.Match[str]) -> str:
        data = bytes(int(each, 16) for each in re.findall(r"[x%](..)", found[0]))
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode("latin-1")

    text = html.unescape(_BYTES.sub(octets, _UNITS.sub(units, text)))
    return _SIGNS.sub(" ", text)


_OWN_MARK = re.compile(r"\[cut: [a-z_]+\]")


def _without(secret: str, text: str) -> tuple[str, int]:
    """`text` with a secret cut, and how often it was there: a mark of our own is left, though a password may be a word of it."""
    pieces = re.split(rf"({_OWN_MARK.pattern})", text)
    found = sum(each.count(secret) for each in pieces[::2])
    pieces[::2] = [each.replace(secret, _mark("secret")) for each in pieces[::2]]
    return "".join(pieces), found


def _squeezed(text: str) -> str:
    """`text` folded, without what parts its letters and digits."""
    return fold(text).replace(" ", "")


def _is_long_enough(form: str) -> bool:
    if form.isdecimal():
        return len(form) >= LEAST_DIGITS
    return len(form) >= (LEAST_LETTERS if form.isascii() else LEAST_LETTERS - 1)


def _forms(kind: str, text: str) -> set[str]:
    """How a value may be written, squeezed."""
    match kind:
        case "name":
            return {_squeezed(text)}.union(*map(_writings, text.split("=")))
        case "birth_date":
            digits = _squeezed(text)
            if len(digits) != 8 or not digits.isdecimal():
                return {digits}
            year, month, day = digits[:4], digits[4:6], digits[6:]
            return {digits, f"{day}{month}{year}", f"{month}{day}{year}"}
        case _:
            return {_squeezed(text)}


def _writings(group: str) -> set[str]:
    """One of the writings of a name (PS3.5 6.2.1: alphabetic, ideographic and phonetic): its words, its parts, and both ways round."""
    parts = [part for part in group.split("^") if part.strip()]
    words = {_squeezed(word) for part in parts for word in re.split(r"[\s.,'’\-]+", part)}
    turned = {_squeezed(f"{parts[1]} {parts[0]}")} if len(parts) > 1 else set()
    return words | {_squeezed(part) for part in parts} | {_squeezed(group)} | turned


def _without_zeros(text: str) -> str:
    """A number as people say it, without the zeros that fill it up (*QC-00412/7* as *QC-412/7*); empty if that names nobody.

    A chart 0002026 isn't looked for as 2026: that is in every second line, and no file could be read.
    """
    if text.isascii() and text.isdecimal():
        bare = text.lstrip("0")
    elif _FILLED_UP.search(text):
        bare = _squeezed(_FILLED_UP.sub("", text))
    else:
        return ""
    return "" if sum(map(str.isdecimal, bare)) < LEAST_DIGITS or _IS_YEAR.fullmatch(bare) else bare
