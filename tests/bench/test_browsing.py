"""The bench of browsing measures what it says: real pages of a real box, and no figure for a page that was wrong."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from . import browsing
from .browsing import FILMS, ROWS, fill, film, measure, started, table
from .browsing_goals import Round, missed, percentile
from .visitors import Fetched, refresh_in

USERS, STUDIES, SECONDS = 3, 6, 4.0


def test_a_percentile_is_a_value_that_was_seen() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 95) == 95.0
    assert percentile([1.0, 9.0], 99) == 9.0
    assert math.isnan(percentile([], 95))


def test_the_table_tells_pages_reception_and_processor() -> None:
    pages = tuple(Fetched("studies", milliseconds / 1000, 0.0) for milliseconds in range(1, 101))
    quiet = Round(False, True, 10.0, 0.0, pages, (), {"web": 2.0}, streams=3)
    alone = Round(True, False, 10.0, 500.0, (), (), {"dicom": 8.0})
    both = replace(quiet, sending=True, rate=450.0, fetched=(*pages, Fetched("image", 9.0, 0.0)))
    said = table([quiet, alone, both])
    assert "| **any page** | 50 / 95 / 99 | 50 / 95 / 99 | 100 |" in said  # a picture is no page
    assert "500 instances/s alone, 450 while people browse: 90%" in said
    assert "| reception alone | 80% |" in said
    assert "20.0 ms of processor" in said


def test_a_goal_that_is_missed_is_named_and_so_is_one_that_nothing_was_measured_for() -> None:
    quick = tuple(Fetched("studies", milliseconds / 1000, 0.0) for milliseconds in range(1, 101))
    alone = Round(True, False, 10.0, 500.0, (), ())
    both = Round(True, True, 10.0, 400.0, (*quick, Fetched("image", 9.0, 0.0)), ())
    assert missed([alone, both]) == []
    slow = tuple(replace(each, seconds=0.3) for each in quick)
    assert missed([alone, replace(both, fetched=slow)]) == [
        "goal missed: 95 % of pages within 300 ms while images come, not 300 ms"
    ]
    assert missed([alone, replace(both, rate=399.0)]) == [
        "goal missed: reception keeps 399 of 500 instances/s while people browse, not 80%"
    ]
    assert len(missed([])) == 2


def test_a_goal_that_is_missed_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = 450.0

    def measured(
        receiver: object, accounts: object, seconds: float, number: int, sent: object, wire: float
    ) -> Round:
        pages = (Fetched("studies", 0.1, 0.0),) if accounts else ()
        return Round(sent is not None, bool(accounts), seconds, rate if accounts else 500.0, pages, ())

    box = SimpleNamespace(stop=lambda: None)
    monkeypatch.setattr(browsing, "started", lambda *_: (box, [object()]))
    monkeypatch.setattr(browsing, "fill", lambda *_: None)
    monkeypatch.setattr(browsing, "measure", measured)
    asked = ["--folder", str(tmp_path), "--rounds", "1"]
    assert browsing.main(asked) == 0
    rate = 300.0
    assert browsing.main(asked) == 1
    assert "reception keeps 300 of 500 instances/s" in capsys.readouterr().err


def test_a_visitor_asks_for_a_list_as_the_page_does() -> None:
    assert [refresh_in(since) for since in (0.0, 1.0, 2.9, math.inf)] == [3.0, 2.0, 0.5, 0.5]


@pytest.mark.slow
@pytest.mark.long
def test_people_who_browse_while_images_come_see_no_wrong_page_and_lose_no_image(tmp_path: Path) -> None:
    receiver, accounts = started(tmp_path, USERS)
    try:
        fill(receiver, STUDIES)
        found = measure(
            receiver, accounts, SECONDS, 1, film(FILMS["tiny"])
        )  # raises unless the catalog has all
        assert found.wrong == ()
        assert found.rate > 0
        assert found.streams >= USERS
        seen = {each.what for each in found.fetched}
        assert {"studies", "thumbnail"} <= seen <= set(ROWS)
        forgotten = [replace(each, cookie="of nobody") for each in accounts[:1]]
        assert measure(receiver, forgotten, SECONDS, 1, None).wrong, "the door was taken for a page"
    finally:
        receiver.stop()
