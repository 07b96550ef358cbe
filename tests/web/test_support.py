"""The page of support offers what this system can do, and says what it cannot."""

import pytest
from flask import Flask

from appliance.fleet import line
from tests.web.conftest import browser_of


def test_remote_support_is_not_offered_where_it_cannot_work(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = browser_of(app, "owner")
    assert "must be entered once" in browser.get("/support").get_data(as_text=True)
    monkeypatch.setattr(line, "_PATH", "/nowhere")
    page = browser.get("/support").get_data(as_text=True)
    assert "cannot work on this system" in page
    assert "must be entered once" not in page
    assert 'name="reason"' not in page
