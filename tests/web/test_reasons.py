"""Wherever a person types a reason in their own words that outlives a destruction, the page says that no name belongs there."""

from __future__ import annotations

import re

import pytest

from appliance.web.console import web_ui
from appliance.web.language import Languages

FIELD = re.compile(r'<(?:input|textarea)[^>]*? name="reason"[^\n]*|parts\.field\("reason"[^\n]*')
HINT = re.compile(r'<small id="hint-[^"]*">\{\{ t\("([^"]+)"\) \}\}|(?:hint=)?t\("([a-z.]+_hint)"\)')
GOES_WITH_THE_STUDY = "grant.reason_hint"
SAYS_SO = {"en": r"\bname|No names", "fr": r"\bnoms?\b", "es": r"\bnombres?\b", "zh": "姓名"}


def hints() -> dict[str, list[str]]:
    """The hints of all such fields, by template."""
    found: dict[str, list[str]] = {}
    for path in sorted((web_ui() / "templates").rglob("*.html")):
        text = path.read_text("utf-8")
        for field in FIELD.finditer(text):
            said = HINT.search(text, field.start(), text.find("</form>", field.start()))
            found.setdefault(path.name, []).append((said[1] or said[2]) if said else "")
    return found


@pytest.mark.parametrize("language", SAYS_SO)
def test_a_field_for_a_reason_says_that_no_name_belongs_there(language: str) -> None:
    words, found = Languages(web_ui() / "languages").words(language), hints()
    assert {"guard.html", "hold-lines.html", "keeping.html", "destruction-request.html"} <= set(found)
    for template, keys in found.items():
        for key in keys:
            assert key, f"{template}: a reason without a hint"
            assert key == GOES_WITH_THE_STUDY or re.search(SAYS_SO[language], words(key)), (template, key)
