"""Browsers as a person would name them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.identity.browsers import BrowserName, named


@pytest.mark.parametrize(
    ("agent", "browser", "system"),
    [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0 Safari/537.36",
            "Chrome",
            "Windows",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/143.0 Safari/537.36 Edg/143.0", "Edge", "Windows"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox", "Linux"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1 Version/19.0 Mobile Safari/604.1",
            "Safari",
            "iPhone",
        ),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/143.0 Mobile Safari/537.36", "Chrome", "Android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1 Version/19 Safari/605.1", "Safari", "macOS"),
        ("curl/8.14.1", "curl", ""),
        ("", "", ""),
        ("a clock on the wall", "", ""),
    ],
)  # fmt: skip
def test_common_browsers_are_recognised(agent: str, browser: str, system: str) -> None:
    assert named(agent) == BrowserName(browser, system)


@given(st.text(max_size=200))
def test_nothing_that_a_browser_says_is_shown_itself(agent: str) -> None:
    found = named(agent)
    assert len(found.browser) <= 20
    assert len(found.system) <= 20
