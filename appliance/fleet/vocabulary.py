"""What each field of a heartbeat can say, and what becomes of a word that one side does not know. Pure.

`FIELDS` is the whole of it. Beside what it may hold, each field has its words as lists that can be kept: they are what a person of
the clinic agrees to. A newer version knows more of them, and one that is gone back to fewer, so each field also says a value in the
words of another time (`within`), and understands one that another version has said (`understood`). A kind of problem that the other
side does not know is told as ``other``, any other word as ``unknown``, and what has no such word is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeAlias

from appliance.health.problem import Severity
from appliance.notify.kinds import OTHER, RULES

Words: TypeAlias = Sequence[Sequence[str]]
"""All that a field can say, by the parts of its value; of a shape its pattern, of what needs no words its name."""

UNKNOWN = "unknown"
NO_IMAGE = "none"

COUNTS = ("0", "1-9", "10-99", "100-999", "1000-9999", "10000-99999", "100000 or more")
FREE = ("under 5 %", "5-10 %", "10-20 %", "20-40 %", "40 % or more")
AGES = ("never", "under 1 day", "1-2 days", "2-7 days", "7-30 days", "over 30 days")
PROCESSES = ("dicom", "courier", "jobs", "web")
_KINDS, _SEVERITIES = tuple(sorted(RULES)), tuple(sorted(map(str, Severity)))
_RUNS = ("running", "stopped", UNKNOWN)
_CAME = ("nothing", "taken", "refused")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a field may hold: `holds` judges a value, `words` name all that it can say. `within` says a value in the words that are
    given, None if they can't say it. `unknown` stands for what was not said, or is not understood."""

    words: Words
    holds: Callable[[Any], bool]
    within: Callable[[Any, Words], Any]
    unknown: Any = UNKNOWN

    def __call__(self, value: Any) -> bool:
        """Whether the field may hold `value`."""
        return self.holds(value)

    def understood(self, value: Any) -> Any:
        """`value` of another version, as far as it is understood here."""
        if self.holds(value):
            return value
        try:
            said = self.within(value, self.words)
        except (TypeError, ValueError, KeyError, AttributeError):
            return self.unknown
        return said if said is not None and self.holds(said) else self.unknown


def more(agreed: Mapping[str, Words]) -> dict[str, tuple[str, ...]]:
    """What a heartbeat of this version could say beyond what was `agreed` to, by field; empty if nothing."""
    found = {
        name: tuple(word for part in allowed.words for word in part if word not in _all(agreed.get(name, ())))
        for name, allowed in FIELDS.items()
    }
    return {name: words for name, words in found.items() if words}


def as_kept() -> dict[str, list[list[str]]]:
    """All that a heartbeat can say, to be kept with the consent to it."""
    return {name: [list(part) for part in allowed.words] for name, allowed in FIELDS.items()}


def _all(words: Words) -> set[str]:
    return {word for part in words for word in part}


def _part(words: Words, number: int = 0) -> Sequence[str]:
    return words[number] if number < len(words) else ()


def _word(value: Any, words: Sequence[str], otherwise: str = UNKNOWN) -> str | None:
    """`value` if it is among `words`, else the word for what isn't, if that is."""
    if isinstance(value, str) and value in words:
        return value
    return otherwise if otherwise in words else None


def _same(words: Words) -> Callable[[Any, Words], Any]:
    """For what has no words of its own: it is said where the very same was agreed to."""

    def within(value: Any, agreed: Words) -> Any:
        return value if [list(each) for each in agreed] == [list(each) for each in words] else None

    return within


def _one_of(*words: str) -> Allowed:
    return Allowed(
        (words,),
        lambda value: isinstance(value, str) and value in words,
        lambda value, agreed: _word(value, _part(agreed)),
    )


def _shape(pattern: str, unknown: str = UNKNOWN) -> Allowed:
    return Allowed(((pattern,),), lambda value: _fits(value, (pattern,)), _in_shape, unknown)


def _fits(value: Any, patterns: Sequence[str]) -> bool:
    return isinstance(value, str) and any(re.fullmatch(each, value, re.ASCII) for each in patterns)


def _in_shape(value: Any, agreed: Words) -> Any:
    try:
        return value if _fits(value, _part(agreed)) else None
    except re.error:
        return None


def _is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() == timedelta(0)
    except ValueError:
        return False


def _is_found(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and set(each) == {"kind", "severity"}
        and each["kind"] in _KINDS
        and each["severity"] in _SEVERITIES
        for each in value
    )


def _problems(value: Any, agreed: Words) -> Any:
    """No problem is left unsaid that can be said at all: the same kind and severity twice is said once."""
    kinds, severities = _part(agreed), _part(agreed, 1)
    said = {
        (_word(each.get("kind"), kinds, OTHER), _word(each.get("severity"), severities, Severity.SOON))
        for each in value
    }
    if not (kinds and severities):
        return None
    return [{"kind": kind, "severity": how} for kind, how in sorted((k, s) for k, s in said if k and s)]


def _is_running(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= set(PROCESSES)
        and all(isinstance(each, str) and each in _RUNS for each in value.values())
    )


def _processes(value: Any, agreed: Words) -> Any:
    names, runs = _part(agreed), _part(agreed, 1)
    said = {name: _word(runs_as, runs) for name, runs_as in value.items() if name in names}
    return {name: word for name, word in said.items() if word} or None


def _is_wanted(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"number", "came"}
        and type(value["number"]) is int
        and 0 <= value["number"] < 100_000
        and isinstance(value["came"], str)
        and value["came"] in _CAME
    )


def _wanted(value: Any, agreed: Words) -> Any:
    """A word that isn't among those agreed to leaves the number: what was taken last is what an order is counted by."""
    came = _word(value.get("came"), _part(agreed, 1), _CAME[0])
    return {"number": value.get("number"), "came": came} if came and "number" in _part(agreed) else None


_VERSION = r"\d{1,4}(\.\d{1,4}){0,2}"


def _are_left(value: Any) -> bool:
    return isinstance(value, list) and all(_fits(each, (_VERSION,)) for each in value)


def _left(value: Any, agreed: Words) -> Any:
    return [each for each in value if _in_shape(each, agreed)] if _part(agreed) else None


_COUNT = _one_of(*COUNTS, UNKNOWN)

FIELDS: Mapping[str, Allowed] = MappingProxyType(
    {
        "heartbeat": Allowed((("number",),), lambda value: type(value) is int, _same((("number",),))),
        "box": _shape(r"[0-9a-f]{16}"),
        "sent_utc": Allowed((("moment",),), _is_moment, _same((("moment",),))),
        "software": _shape(r"\d{1,4}(\.\d{1,4}){1,2}([a-z]{1,4}\d{1,4})?", "0.0"),
        "system": _shape(r"(unknown|[a-z]{2,12} \d{1,3}(\.\d{1,3})?)"),
        "image": _shape(rf"(none|{_VERSION})", "0"),
        "kernel": _shape(r"(unknown|\d{1,2}(\.\d{1,4}){1,2}(-\d{1,4})?)"),
        "state": _one_of("ready", "not-ready"),
        "problems": Allowed((_KINDS, _SEVERITIES), _is_found, _problems, []),
        "processes": Allowed((PROCESSES, _RUNS), _is_running, _processes, {}),
        "studies": _COUNT,
        "images": _COUNT,
        "destinations": _COUNT,
        "deliveries_waiting": _COUNT,
        "deliveries_failed": _COUNT,
        "disk_free": _one_of(*FREE, UNKNOWN),
        "backup": _one_of(*AGES, UNKNOWN),
        "drill": _one_of(*AGES, UNKNOWN),
        "guard": _one_of("quiet", "holds"),
        "support": _one_of("closed", "open"),
        "left": Allowed(((_VERSION,),), _are_left, _left, []),
        "wanted": Allowed((("number",), _CAME), _is_wanted, _wanted, {"number": 0, "came": _CAME[0]}),
    }
)
"""Everything that a heartbeat says, in its order, and what each field may hold."""
