"""What the scripts of the pages never do: make markup of text, keep anything of a patient, merge foreign objects."""

import re

import pytest

from appliance.web.console import web_ui

SCRIPTS = {path.name: path.read_text("utf-8") for path in sorted((web_ui() / "src").glob("*.ts"))}
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|srcdoc|DOMParser|setHTMLUnsafe"
    r"|\beval\b|new Function|javascript:|setTimeout\(\s*[\"'`]|setInterval\(\s*[\"'`]"
)
MARKUP_OF_OURS = {"help.ts": ["DOMParser"]}
"""The panel of help: a page of this server, parsed where nothing runs or loads, of which one part is shown."""
STORAGE = re.compile(
    r"localStorage\.\w+\(([^),]*)|sessionStorage|indexedDB|document\.cookie|cookieStore|caches\.open\(([^)]*)"
)
KEPT = {
    "bell.ts": ["RUNG", "RUNG"],  # the number of the last notice that rang
    "service-worker.ts": ["CACHE"] * 4,  # the files of the build, and the language of the page without a line
}
MERGING = re.compile(
    r"Object\.(assign|setPrototypeOf|defineProperty)|__proto__|\.prototype\b|\[[A-Za-z_.]+\]\s*=[^=>]|JSON\.parse"
)
MERGED_OF_OURS = {
    "banner.ts": ["Object.assign"],  # what is merged is written beside it
    "messages.ts": ["JSON.parse"],  # of which the topics, which are ours, are read and nothing is kept
}


def found(pattern: re.Pattern[str]) -> dict[str, list[str]]:
    return {
        name: list(hits) for name, text in SCRIPTS.items() if (hits := [m[0] for m in pattern.finditer(text)])
    }


def test_no_script_makes_markup_or_code_of_text() -> None:
    assert len(SCRIPTS) > 20
    assert found(MARKUP) == MARKUP_OF_OURS


def test_browsers_keep_nothing_of_a_patient_or_a_session() -> None:
    kept = {
        name: [m[1] or m[2] or m[0] for m in STORAGE.finditer(text)]
        for name, text in SCRIPTS.items()
        if STORAGE.search(text)
    }
    assert kept == KEPT
    assert re.search(r'const RUNG = "[\w.-]+";', SCRIPTS["bell.ts"])
    assert "Number(" in SCRIPTS["bell.ts"]


def test_no_foreign_object_is_merged_into_one_of_ours() -> None:
    assert found(MERGING) == MERGED_OF_OURS
    assert re.search(r"show\(\{ \w+: (true|false)|change: \{", SCRIPTS["banner.ts"])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_asks_this_server_only(name: str) -> None:
    assert not re.search(r"https?://|[\"'`]//\w|importScripts|import\(", SCRIPTS[name])
