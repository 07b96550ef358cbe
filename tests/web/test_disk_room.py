"""Room on the data disk, as the console tells of it: its water marks in words, and the remedy that a clinic has when it fills."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import unescape

import pytest
from flask import Flask

from appliance import health
from appliance.box import Box
from appliance.health.facts import Disk, Facts, Keys, Trouble
from appliance.health.forecast import Forecast, Outlook
from appliance.health.problem import Verb
from appliance.identity import Role
from appliance.web.console import web_ui
from appliance.web.help import Book
from appliance.web.language import Languages
from tests.web.conftest import browser_of

NOW = datetime(2026, 11, 25, 20, tzinfo=UTC)
GB = 10**9
LANGUAGES = Languages(web_ui() / "languages")
FULL = Trouble("the data disk is full up to its reserve", "make space")
FILLING = {
    "disk-full": (0, FULL, Outlook.STEADY),
    "disk-low": (2 * GB, None, Outlook.STEADY),
    "disk-filling": (60 * GB, None, Outlook.FILLING),
}
"""By code: bytes free of 100 GB, why nothing is taken in, and whether it fills."""


@pytest.mark.parametrize("language", ["en", "fr", "es", "zh"])
@pytest.mark.parametrize("code", FILLING)
def test_a_filling_disk_says_that_images_may_leave_it_and_where(code: str, language: str) -> None:
    """They stay until the clinic chooses otherwise: one whose images are refused must hear that it can."""
    free_bytes, refusal, outlook = FILLING[code]
    facts = Facts(
        NOW,
        NOW.date(),
        Keys(True, "credential"),
        disk=Disk(100 * GB, free_bytes, GB, refusal),
        forecast=Forecast(outlook, 5, GB),
    )
    (problem,) = (each for each in health.judge(facts) if each.code == code)
    words = LANGUAGES.words(language)
    said = words.cause(problem.fix)
    assert words("tiers.title") in said
    assert words("settings.section.tiers") in said
    assert [act.verb for act in problem.acts] == [Verb.SEE_TIERS]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_help_of_a_filling_disk_leads_to_where_room_is_made(language: str) -> None:
    words = LANGUAGES.words(language)
    topic = Book.read(web_ui() / "help" / language, language).topic("problems")
    assert topic is not None
    told = {each.id: each.body for each in topic.sections}
    for name in ("settings.section.tiers", "setting.tiers.eviction", "tiers.title", "tiers.evict"):
        assert f"<em>{words(name)}</em>" in told["disk-full"]
    assert 'href="/settings/tiers"' in told["disk-full"]
    assert 'href="/tiers"' in told["disk-full"]
    assert all('href="#disk-full"' in told[code] for code in ("disk-low", "disk-filling"))
    assert not re.search("replica|réplique", "".join(told[code] for code in FILLING))


@pytest.mark.parametrize("language", ["en", "fr", "es", "zh"])
@pytest.mark.parametrize("path", ["/health", "/tiers"])
def test_the_water_marks_of_the_disk_are_said_in_words(
    app: Flask, box: Box, path: str, language: str
) -> None:
    words = LANGUAGES.words(language)
    answer = browser_of(app, Role.OWNER, "owner-of-room").get(path, headers={"Accept-Language": language})
    html = unescape(answer.get_data(as_text=True))
    told = re.search(r"data-marks>([^<]+)<", html)
    assert told is not None
    assert words.size(box.guard.reserve_bytes) in told[1]
    assert words.size(4 * box.guard.reserve_bytes) in told[1]
