"""What a language still lacks of what English says. ``python -m tests.web.translations es`` lists it, to be filled in.

A sentence is lacking when it is not there, when it carries other values than the English one, or when a plural form
is missing that a number can fall into.
"""

import json
import string
import sys
from collections.abc import Iterable
from typing import Any

from appliance.web.console import web_ui
from appliance.web.language import Languages, Words
from appliance.web.manner import MANNERS

LANGUAGES = Languages(web_ui() / "languages")
COMMON_COUNTS = (*range(201), 1_000, 12_345, 999_999)
"""What can be counted on a box. CLDR's French and Spanish "many" is for whole millions: welcome, and not demanded."""


def full() -> list[str]:
    """The languages in which every page is offered."""
    return [code for code, manner in MANNERS.items() if manner.offered_at is None]


def forms_needed(code: str) -> set[str]:
    """The plural forms that a sentence with a number must have."""
    return {MANNERS[code].plural(count) for count in COMMON_COUNTS} | {"other"}


def texts_of(sentence: Any) -> list[str]:
    """A sentence in all its forms."""
    return [sentence] if isinstance(sentence, str) else list(sentence.values())


def values_in(sentence: Any) -> set[str]:
    """The names of the values that a sentence carries; a number may be said in words ("one try")."""
    found = {name for text in texts_of(sentence) for _, name, _, _ in string.Formatter().parse(text) if name}
    return found | {"n"} if isinstance(sentence, dict) else found


def faults(code: str, key: str, english: Any, said: Any) -> str:
    """What is wrong with a sentence of the language `code`, or nothing."""
    if said is None:
        return "missing"
    if isinstance(english, str) != isinstance(said, str):
        return "one form against several"
    if any(not text.strip() for text in texts_of(said)):
        return "empty"
    if values_in(said) != values_in(english):
        return f"values {sorted(values_in(said))}, not {sorted(values_in(english))}"
    if isinstance(said, dict):
        if lacking := forms_needed(code) - set(said):
            return f"plural forms {sorted(lacking)} missing"
        if odd := set(said) - MANNERS[code].plural_forms:
            return f"plural forms {sorted(odd)} are not of this language"
    return ""


def lacking(code: str, keys: Iterable[str] | None = None) -> dict[str, str]:
    """The keys that `code` lacks, with why; causes as ``causes: TEXT``."""
    english, words = LANGUAGES.words("en").sentences, LANGUAGES.words(code).sentences
    found = {
        key: fault
        for key in (english if keys is None else keys)
        if key != "causes" and (fault := faults(code, key, english[key], words.get(key)))
    }
    if code != "en" and keys is None:
        french: dict[str, str] = LANGUAGES.words("fr").sentences["causes"]
        found |= {f"causes: {cause}": "missing" for cause in french if cause not in words["causes"]}
    return found


def _to_translate(words: Words) -> dict[str, Any]:
    english, french = LANGUAGES.words("en").sentences, LANGUAGES.words("fr").sentences
    keys = lacking(words.language)
    return {key: [english[key], french[key]] for key in keys if not key.startswith("causes: ")} | {
        key: french["causes"][key.removeprefix("causes: ")] for key in keys if key.startswith("causes: ")
    }


if __name__ == "__main__":
    print(json.dumps(_to_translate(LANGUAGES.words(sys.argv[1])), ensure_ascii=False, indent=1))
