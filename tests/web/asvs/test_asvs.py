"""The list of OWASP ASVS 5.0.0 is whole, and what it calls met has a test that exists (R21)."""

import ast
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.security import source

ROOT = Path(__file__).parents[3]
LIST = Path(__file__).with_name("asvs-5.0.0.toml")
LEVEL_2 = 253
"""Requirements of levels 1 and 2 in version 5.0.0, of which 70 are of level 1."""
VERDICTS = {"met", "not applicable", "decided"}
"""Nothing is open: what is not met to the letter was decided, and the help says so to whoever runs the box."""
REQUIREMENTS: list[dict[str, Any]] = tomllib.loads(LIST.read_text("utf-8"))["requirement"]

SECTIONS = {  # how many of levels 1 and 2 each section has, by the published list
    "V1.1": 2, "V1.2": 9, "V1.3": 11, "V1.4": 3, "V1.5": 2, "V2.1": 3, "V2.2": 3, "V2.3": 4, "V2.4": 1,
    "V3.2": 2, "V3.3": 4, "V3.4": 6, "V3.5": 5, "V3.7": 2, "V4.1": 3, "V4.2": 1, "V4.3": 2, "V4.4": 4,
    "V5.1": 1, "V5.2": 3, "V5.3": 2, "V5.4": 3, "V6.1": 3, "V6.2": 12, "V6.3": 4, "V6.4": 4, "V6.5": 5,
    "V6.6": 3, "V6.8": 4, "V7.1": 3, "V7.2": 4, "V7.3": 2, "V7.4": 5, "V7.5": 2, "V7.6": 2, "V8.1": 2,
    "V8.2": 3, "V8.3": 1, "V8.4": 1, "V9.1": 3, "V9.2": 4, "V10.1": 2, "V10.2": 2, "V10.3": 4,
    "V10.4": 11, "V10.5": 5, "V10.6": 2, "V10.7": 3, "V11.1": 2, "V11.2": 3, "V11.3": 3, "V11.4": 4,
    "V11.5": 1, "V11.6": 1, "V12.1": 3, "V12.2": 2, "V12.3": 4, "V13.1": 1, "V13.2": 5, "V13.3": 2,
    "V13.4": 5, "V14.1": 2, "V14.2": 4, "V14.3": 3, "V15.1": 3, "V15.2": 3, "V15.3": 7, "V16.1": 1,
    "V16.2": 5, "V16.3": 4, "V16.4": 3, "V16.5": 3, "V17.1": 1, "V17.2": 4, "V17.3": 2,
}  # fmt: skip
LEVEL_3 = {"V6": 12, "V11": 10, "V16": 1}
"""How many of level 3 there are in the chapters that we hold to it."""


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return frozenset(each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef))


def test_no_requirement_is_missing_or_there_twice() -> None:
    ids = [each["id"] for each in REQUIREMENTS]
    assert len(ids) == len(set(ids))
    levels = Counter(each["level"] for each in REQUIREMENTS)
    assert levels[1] == 70
    assert levels[1] + levels[2] == LEVEL_2
    found = Counter(each["id"].rpartition(".")[0] for each in REQUIREMENTS if each["level"] < 3)
    assert found == SECTIONS
    deeper = Counter(each["id"].partition(".")[0] for each in REQUIREMENTS if each["level"] == 3)
    assert deeper == LEVEL_3


@pytest.mark.parametrize("each", REQUIREMENTS, ids=lambda each: each["id"])
def test_every_verdict_has_its_test_or_its_reason(each: dict[str, Any]) -> None:
    assert each["verdict"] in VERDICTS
    needed = {
        "met": {"test"},
        "not applicable": {"reason"},
        "decided": {"reason", "document"},
    }[each["verdict"]]
    may = {"met": {"note"}, "not applicable": set(), "decided": {"test"}}[each["verdict"]]
    assert (
        {"id", "level", "about", "verdict"} | needed
        <= set(each)
        <= {"id", "level", "about", "verdict"} | needed | may
    )
    assert each["about"].strip()
    if "test" in each:
        path, _, name = each["test"].partition("::")
        assert name.startswith("test_")
        assert name in names_in(path), f"{each['id']}: there is no {each['test']}"
    if "reason" in each:
        assert len(each["reason"]) > 4
    if "document" in each:
        topic, _, name = each["document"].partition("#")
        for language in source.LANGUAGES:
            assert source.section(topic, name, language)
